//! [`Calling`]: one call of an executor, attended by a task of its own. Its driver may meanwhile wait for the log: the
//! call goes on, its timeout is noticed, and the end of the lease stops it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redress_action::{CancellationToken, Error, Output};
use redress_operation_log::LateResult;
use redress_types::{EffectKey, Epoch};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::config::cut;
use crate::shared::Shared;

/// A call that is under way.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Output, Error>> + Send>>;

/// What became of a call.
pub(crate) enum Told {
    /// The executor answered.
    Answered(Result<Output, Error>),
    /// It was asked to stop and did not answer within the grace time. This is why it was asked.
    GaveUp(String),
    /// The lease is over.
    Lost,
}

/// What is called, under which terms.
#[derive(Clone)]
pub(crate) struct Terms {
    pub key: EffectKey,
    pub epoch: Epoch,
    pub timeout: Duration,
    /// The executor's own token.
    pub cancel: CancellationToken,
}

/// A call in a task of its own. Dropped, the call is dropped too, unless it was [`kept`](Self::keep).
pub(crate) struct Calling {
    pub told: oneshot::Receiver<Told>,
    cancel: CancellationToken,
    why: Arc<OnceLock<String>>,
    task: Option<AbortHandle>,
}

impl Calling {
    pub fn begin(shared: &Arc<Shared>, answering: Answering, terms: Terms) -> Self {
        let (tell, told) = oneshot::channel();
        let (cancel, why) = (terms.cancel.clone(), Arc::new(OnceLock::new()));
        let attended = Attended { shared: Arc::clone(shared), terms, why: Arc::clone(&why) };
        let task = shared.tasks.spawn(attended.attend(answering, tell));
        Self { told, cancel, why, task: Some(task.abort_handle()) }
    }

    /// Whether the executor was asked to stop.
    pub fn asked(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Asks the executor to stop. The first reason counts.
    pub fn ask_to_stop(&self, why: &str) {
        self.why.get_or_init(|| why.to_owned());
        self.cancel.cancel();
    }

    /// Leaves the task alone: what the call still answers is kept, with the reason, until the next call or probe of
    /// this operation.
    pub fn keep(mut self, shared: &Shared, key: EffectKey) {
        let Some(task) = self.task.take() else { return };
        let mut late = shared.late();
        late.retain(|_, waiting| !waiting.is_finished());
        late.insert(key.operation, task);
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Attended {
    shared: Arc<Shared>,
    terms: Terms,
    why: Arc<OnceLock<String>>,
}

impl Attended {
    async fn attend(self, mut answering: Answering, tell: oneshot::Sender<Told>) {
        let Self { shared, terms, why } = self;
        let give_up = Instant::now() + terms.timeout;
        let asked = tokio::select! {
            biased;
            answer = answering.as_mut() => return say(tell, Told::Answered(answer)),
            () = shared.lost.cancelled() => None,
            () = tokio::time::sleep_until(give_up) => {
                why.get_or_init(|| {
                    format!("no answer within {}", redress_types::show_duration(terms.timeout))
                });
                Some(Instant::now() + shared.config.grace)
            }
            () = shared.stopping.cancelled() => {
                why.get_or_init(|| "the engine stopped before it answered".to_owned());
                Some(give_up.min(Instant::now() + shared.config.grace))
            }
            () = terms.cancel.cancelled() => Some(give_up.min(Instant::now() + shared.config.grace)),
        };
        terms.cancel.cancel();
        if let Some(give_up) = asked {
            tokio::select! {
                biased;
                answer = answering.as_mut() => return say(tell, Told::Answered(answer)),
                () = shared.lost.cancelled() => {}
                () = tokio::time::sleep_until(give_up) => {
                    let why = why.get().cloned().unwrap_or_default();
                    say(tell, Told::GaveUp(why.clone()));
                    return wait_for_late(&shared, answering, &terms, why, shared.config.lease).await;
                }
            }
        }
        // It was asked to stop. What is left of the lease is all the time it has.
        let left = shared.lease_end().saturating_duration_since(Instant::now());
        say(tell, Told::Lost);
        let patience = left.min(shared.config.grace);
        wait_for_late(&shared, answering, &terms, "the lease was over".to_owned(), patience).await;
    }
}

fn say(tell: oneshot::Sender<Told>, told: Told) {
    // A driver that is gone wants to know nothing.
    let _ = tell.send(told);
}

/// An answer that comes after the engine gave up on it does not count; it is kept, with the reason.
async fn wait_for_late(
    shared: &Shared,
    answering: Answering,
    terms: &Terms,
    why: String,
    patience: Duration,
) {
    let answer = tokio::select! {
        answer = tokio::time::timeout(patience, answering) => answer,
        () = shared.stopping.cancelled() => return,
    };
    let said = match answer {
        Ok(Ok(output)) => format!("succeeded: {}", output.summary),
        Ok(Err(error)) => format!("failed: {error}"),
        Err(_) => return,
    };
    keep_late(shared, terms.key, terms.epoch, said, why).await;
}

/// Keeps a result that does not count beside the log.
pub(crate) async fn keep_late(shared: &Shared, key: EffectKey, epoch: Epoch, said: String, reason: String) {
    let said = cut(&said, shared.config.output_bytes_max);
    let late = LateResult { key, epoch, at: shared.now(), said, reason };
    if let Err(error) = shared.log.keep_late(late).await {
        tracing::warn!(%key, %error, "a late result could not be kept");
    }
}
