//! Brings the alerts of FILE in: targets side by side, the alerts of one target in order.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use redress_engine::{AlertSender, Disposition, Receipt, SendError, SubmitError};
use redress_fsm::State;
use redress_operation_log::Outcome as Archived;
use redress_types::{AlertId, Delivery, OperationId, WithCauses};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::board::Board;
use super::display::Display;
use super::report::Outcome;
use crate::text::{escape, moment};

/// Targets at the same time: enough for alerts to share commits.
const SIDE_BY_SIDE: usize = 64;
/// How long to wait before an alert that could not be made durable is sent again.
const AGAIN: Duration = Duration::from_secs(1);

/// Alerts on their way in.
pub(crate) struct Submitting {
    answers: mpsc::Receiver<Answer>,
    done: bool,
}

/// What became of one alert.
pub(crate) struct Answer {
    alert: AlertId,
    what: Result<Receipt, SendError>,
    /// It is tried again; this is only to say why it takes so long.
    again: bool,
}

impl Submitting {
    /// Starts bringing them in.
    pub(crate) fn start(sender: &AlertSender, groups: Vec<Vec<Delivery>>, deadline: Instant) -> Self {
        let (tell, answers) = mpsc::channel(SIDE_BY_SIDE);
        let sender = sender.clone();
        tokio::spawn(async move {
            let work = groups.into_iter().map(|group| submit(&sender, group, &tell, deadline));
            stream::iter(work).buffer_unordered(SIDE_BY_SIDE).collect::<()>().await;
        });
        Self { answers, done: false }
    }

    /// Every alert has its answer.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// The next answer; `None` once, after the last one, and then never again.
    ///
    /// Cancellation safety: may be dropped at any await.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        if self.done {
            return std::future::pending().await;
        }
        let answer = self.answers.recv().await;
        self.done = answer.is_none();
        answer
    }
}

async fn submit(sender: &AlertSender, group: Vec<Delivery>, tell: &mpsc::Sender<Answer>, deadline: Instant) {
    for delivery in group {
        let alert = delivery.alert.id.clone();
        let mut told = false;
        let what = loop {
            match sender.send(delivery.clone()).await {
                Err(error @ SendError::Refused(SubmitError::Unavailable(_))) if Instant::now() < deadline => {
                    // A full disk, say: what was taken is safe, and this one is sent until there is room.
                    if !told {
                        let again = Answer { alert: alert.clone(), what: Err(error), again: true };
                        told = tell.send(again).await.is_ok();
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                what => break what,
            }
        };
        if tell.send(Answer { alert, what, again: false }).await.is_err() {
            return;
        }
    }
}

impl Answer {
    /// The operation that it led to, when the exit status speaks of it.
    pub(crate) fn operation(&self) -> Option<OperationId> {
        match &self.what {
            Ok(receipt) if receipt.disposition != Disposition::Ignored => receipt.operation,
            Ok(_) | Err(_) => None,
        }
    }

    /// The alert was known before.
    pub(crate) fn is_repeat(&self) -> bool {
        matches!(&self.what, Ok(receipt) if receipt.disposition == Disposition::Repeated)
    }

    /// Shows what became of it, and counts it.
    pub(crate) fn tell(&self, display: &Display, board: &Board, outcome: &mut Outcome) {
        outcome.answered += usize::from(!self.again);
        let text = match &self.what {
            Ok(receipt) => self.taken(receipt, board, outcome),
            Err(error) => {
                let error = WithCauses(error);
                if self.again {
                    format!("alert {}: {error}; it is sent again", self.alert)
                } else {
                    outcome.refused += 1;
                    format!("alert {} was not taken: {error}", self.alert)
                }
            }
        };
        let text = escape(&text);
        let object = || {
            let (disposition, operation) = match &self.what {
                Ok(receipt) => (word(&receipt.disposition), receipt.operation),
                Err(_) if self.again => ("unavailable", None),
                Err(_) => ("refused", None),
            };
            let known = operation.and_then(|id| board.line(id));
            json!({"type": "alert", "alert": self.alert, "disposition": disposition, "operation": operation,
                   "name": known.map(|line| &line.name), "state": known.map(|line| line.state()),
                   "said": text})
        };
        display.tell(&text, object);
    }

    fn taken(&self, receipt: &Receipt, board: &Board, outcome: &mut Outcome) -> String {
        let line = receipt.operation.and_then(|id| board.line(id));
        let name = line.map_or_else(
            || receipt.operation.map_or_else(|| "no operation".to_owned(), |id| id.to_string()),
            |line| line.name.clone(),
        );
        let alert = &self.alert;
        match &receipt.disposition {
            Disposition::Accepted(_) => format!("alert {alert} accepted as {name}"),
            Disposition::Joined => format!("alert {alert} counted on {name}"),
            Disposition::Conflicting => format!("alert {alert} names another service or start than {name}"),
            Disposition::Resolved => format!("alert {alert} is over, says its source: told {name}"),
            Disposition::Ignored => format!("alert {alert} is not firing: nothing to do"),
            Disposition::Repeated => {
                outcome.repeated += 1;
                let archived = receipt.alert.as_ref().and_then(|record| record.outcome.as_ref());
                let end = match (line, archived) {
                    (Some(line), _) => line.operation.ended_at.map(|at| (line.state(), at)),
                    (None, Some(Archived { state, ended_at, .. })) => Some((*state, *ended_at)),
                    (None, None) => None,
                };
                let Some((state, at)) = end else {
                    return format!("alert {alert} is known: {name} goes on");
                };
                // Where there is a line, the exit status reads it there.
                if line.is_none() && !matches!(state, State::Restored | State::Skipped) {
                    outcome.ended_otherwise_before += 1;
                }
                if matches!(state, State::Restored | State::Skipped) {
                    return format!(
                        "alert {alert}: already {state} by {name} on {}, nothing to do",
                        moment(at)
                    );
                }
                format!("alert {alert}: ended as {state} by {name} on {}, and is not run again", moment(at))
            }
        }
    }
}

fn word(disposition: &Disposition) -> &'static str {
    match disposition {
        Disposition::Accepted(_) => "accepted",
        Disposition::Joined => "joined",
        Disposition::Repeated => "repeated",
        Disposition::Conflicting => "conflicting",
        Disposition::Resolved => "resolved",
        Disposition::Ignored => "ignored",
    }
}
