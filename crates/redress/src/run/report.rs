//! What a run says at its end: what was restored, what was not, what waits and for what, and where to read on.

use std::time::Duration;

use anyhow::Error;
use redress_api::read;
use redress_fsm::State;
use redress_operation_log::OperationHistory;
use redress_operation_log::summary::verified;
use redress_types::{Timestamp, show_duration};
use serde_json::{Value, json};

use super::board::{Board, Line};
use super::display::{Display, resolve_command};
use crate::Exit;
use crate::database::{Place, program};
use crate::text::{count, escape, moment, short};

/// What became of a run, beyond its operations.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Alerts of FILE.
    pub alerts: usize,
    /// Alerts of FILE that have their answer.
    pub answered: usize,
    /// Alerts that were not taken.
    pub refused: usize,
    /// Alerts of FILE whose operation had ended before this run.
    pub repeated: usize,
    /// How an operation of before, now archived or not, had ended otherwise than restored or skipped.
    pub ended_otherwise_before: usize,
    /// How long the run took.
    pub took: Duration,
}

impl Outcome {
    /// Alerts of FILE that may or may not have been taken when the run ended; sent again, they are counted once.
    pub(crate) fn unanswered(&self) -> usize {
        self.alerts.saturating_sub(self.answered)
    }
}

/// One line when an operation ends, where its entries are not shown: live lines go away and leave this. Answers
/// whether it was shown.
pub(crate) fn ended(display: &Display, line: &Line) -> bool {
    let live = matches!(display, Display::Live(_));
    if live {
        display.tell(&end_line(line), || Value::Null);
    }
    live
}

fn end_line(line: &Line) -> String {
    let operation = &line.operation;
    let took = show_duration(operation.ended_at.unwrap_or(operation.updated_at).since(operation.accepted_at));
    let because = match (operation.state, operation.verified_independently) {
        (State::Restored, Some(independently)) => format!(", {}", verified(independently)),
        (_, _) => operation.reason.as_ref().map(|why| format!(": {}", escape(why))).unwrap_or_default(),
    };
    let alerts = count(operation.alerts.len(), "alert");
    let target = short(&operation.target.to_string(), 60);
    format!("{:<9} {}  {target}  after {took} ({alerts}){because}", operation.state.to_string(), line.name)
}

/// The last words. Answers the exit status.
pub(crate) async fn conclude(
    display: &Display,
    board: &Board,
    history: &dyn OperationHistory,
    place: &Place,
    outcome: Outcome,
    now: Timestamp,
) -> Result<Exit, Error> {
    if !matches!(display, Display::Json) {
        for line in board.mine().filter(|line| line.ended() && !line.before && !line.told) {
            display.tell(&end_line(line), || Value::Null);
        }
    }
    for line in board.lines().filter(|line| !line.ended()) {
        waiting(display, line, history, place, now).await?;
    }
    let exit = exit_of(board, outcome);
    summary(display, board, place, outcome, exit);
    Ok(exit)
}

/// One ended otherwise before one waits: somebody must look at it, and waiting does not help.
fn exit_of(board: &Board, outcome: Outcome) -> Exit {
    let otherwise = |line: &Line| line.ended() && !matches!(line.state(), State::Restored | State::Skipped);
    if outcome.refused > 0 || outcome.ended_otherwise_before > 0 || board.mine().any(otherwise) {
        Exit::OTHERWISE
    } else if outcome.unanswered() > 0 || board.mine().any(|line| !line.ended()) {
        Exit::WAITS
    } else {
        Exit::DONE
    }
}

/// What an operation waits for, since when, and until when.
async fn waiting(
    display: &Display,
    line: &Line,
    history: &dyn OperationHistory,
    place: &Place,
    now: Timestamp,
) -> Result<(), Error> {
    let folded = read::fold(history, line.operation.id).await?;
    let Some(waits) = folded.summary(history).await?.waits else { return Ok(()) };
    let (on, help) = match &line.missing {
        Some(missing) => {
            let flag = if missing.starts_with("check http") { "--check" } else { "--rollback-url" };
            let missing = escape(missing).into_owned();
            (missing, Some(format!("give the {flag} that it was accepted with")))
        }
        None => (escape(&waits.on).into_owned(), None),
    };
    let help = match line.state() {
        State::Suspended => Some(resolve_command(&line.operation, &line.name, place)),
        State::Received
        | State::Blocked
        | State::Diagnosing
        | State::AwaitingApproval
        | State::RollingBack
        | State::Verifying
        | State::Compensating
        | State::Restored
        | State::Failed
        | State::TimedOut
        | State::Skipped
        | State::Cancelled => help,
    };
    let until = waits.until.map_or("somebody does something".to_owned(), moment);
    let mut text = format!(
        "waits     {}  {} for {on}, since {} ({}), until {until}",
        line.name,
        line.state(),
        moment(waits.since),
        show_duration(now.since(waits.since)),
    );
    if let Some(help) = &help {
        text.push_str(&format!("\n          {help}"));
    }
    display.tell(&text, || {
        json!({"type": "waits", "operation": line.operation.id, "name": line.name, "state": line.state(),
               "mine": line.mine, "on": line.missing.clone().unwrap_or_else(|| waits.on.clone()),
               "since": waits.since.to_string(), "until": waits.until.map(|until| until.to_string()),
               "help": help})
    });
    Ok(())
}

fn summary(display: &Display, board: &Board, place: &Place, outcome: Outcome, exit: Exit) {
    let state = |wanted: State| board.mine().filter(|line| line.state() == wanted).count();
    let mine: Vec<&Line> = board.mine().collect();
    let before = mine.iter().filter(|line| line.before).count();
    let ended = mine.iter().filter(|line| line.ended()).count();
    let (restored, skipped) = (state(State::Restored), state(State::Skipped));
    let counted: usize = mine.iter().map(|line| line.operation.alerts.len()).sum();
    let history = match mine.as_slice() {
        [one] => format!("{} operations show {}{}", program(), one.name, place.as_option()),
        _ => format!("{} operations list{}", program(), place.as_option()),
    };
    let mut parts = vec![format!("restored {restored} of {}", count(mine.len(), "operation"))];
    let mut part = |n: usize, what: &str| {
        if n > 0 {
            parts.push(format!("{n} {what}"));
        }
    };
    part(skipped, "skipped");
    part(ended - restored - skipped, "ended otherwise");
    part(mine.len() - ended, "still waiting");
    part(outcome.refused, "not taken");
    let unanswered = outcome.unanswered();
    if unanswered > 0 {
        parts.push(format!(
            "{} without an answer yet: the same command sends them",
            count(unanswered, "alert")
        ));
    }
    let said = if mine.len() == before && outcome.refused == 0 && unanswered == 0 {
        let bad = ended - restored - skipped + outcome.ended_otherwise_before;
        if bad == 0 {
            "nothing to do".to_owned()
        } else {
            format!("nothing was run; {} ended otherwise before", count(bad, "operation"))
        }
    } else {
        format!("{} ({}) in {}", parts.join(", "), count(counted, "alert"), show_duration(outcome.took))
    };
    let history_line = match place {
        Place::Memory => "the log was in memory and is gone".to_owned(),
        Place::File(_) | Place::Postgres(_) => format!("history: {history}"),
    };
    display.tell(&format!("{said}\n{history_line}"), || {
        json!({"type": "summary", "exit": exit.0, "alerts": outcome.alerts, "alerts_not_taken": outcome.refused, "alerts_unanswered": unanswered,
               "alerts_known_before": outcome.repeated, "operations": mine.len(), "restored": restored,
               "skipped": skipped, "ended_otherwise": ended - restored - skipped,
               "waiting": mine.len() - ended, "took_ms": u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
               "history": history,
               "results": mine.iter().map(|line| result(line)).collect::<Vec<_>>()})
    });
}

fn result(line: &Line) -> Value {
    let operation = &line.operation;
    json!({"operation": operation.id, "name": line.name, "target": operation.target.to_string(),
           "state": operation.state, "reason": operation.reason,
           "alerts": operation.alerts.iter().map(|counted| &counted.alert.id).collect::<Vec<_>>(),
           "verified": operation.verified_independently.map(verified),
           "accepted_at": operation.accepted_at.to_string(),
           "ended_at": operation.ended_at.map(|at| at.to_string())})
}
