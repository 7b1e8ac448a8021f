//! [`Engine`]: a running engine as its owner sees it. [`Builder`] makes one.

use std::sync::Arc;
use std::time::Duration;

use redress_operation_log::{OperationHistory, OperationLog, SessionId};
use redress_strategy::Strategy;
use redress_types::{Delivery, OperationId};
use tokio::sync::broadcast;

use crate::admission;
use crate::builder::Builder;
use crate::channel::AlertSender;
use crate::checkpoints;
use crate::environment::Environment;
use crate::observer::Observed;
use crate::receipt::{Receipt, SubmitError};
use crate::shared::{Shared, long_after_the_lease};

/// How an engine stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its session at the log.
    pub session: SessionId,
    /// Its lease surely lasts, and it is not stopping.
    pub acts: bool,
    /// How far its clock surely was from the log's when they were last compared.
    pub clock_off: Duration,
    /// Why it accepts and claims nothing; `None`: it does.
    pub refuses: Option<String>,
    /// Operations that it drives now.
    pub at_work: usize,
    /// The most that it drives at the same time.
    pub at_work_max: usize,
}

/// A running engine.
///
/// Dropping it without [`shutdown`](Self::shutdown) leaves its tasks running until the runtime ends; what they
/// were doing is then in doubt, as after a crash.
pub struct Engine {
    shared: Arc<Shared>,
    sender: AlertSender,
    keeper: tokio::task::JoinHandle<()>,
}

impl Engine {
    /// Starts putting an engine together over a log.
    pub fn builder(environment: Environment, log: Arc<dyn OperationLog>) -> Builder {
        Builder::new(environment, log)
    }

    pub(crate) fn new(shared: Arc<Shared>, sender: AlertSender, keeper: tokio::task::JoinHandle<()>) -> Self {
        Self { shared, sender, keeper }
    }

    /// The bounded channel into this engine.
    pub fn sender(&self) -> AlertSender {
        self.sender.clone()
    }

    /// Takes one delivery directly; the answer is given only after it is durable.
    ///
    /// Cancellation safety: dropped, the alert may or may not have been taken; what was taken is carried out.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit(&self, delivery: Delivery) -> Result<Receipt, SubmitError> {
        admission::submit(&self.shared, delivery).await
    }

    /// Everything that is recorded from now on, after its commit. A watcher that falls behind by more than 1,024
    /// entries misses some, and is told how many.
    pub fn observe(&self) -> broadcast::Receiver<Observed> {
        self.shared.observers.subscribe()
    }

    /// The history.
    pub fn history(&self) -> Arc<dyn OperationHistory> {
        Arc::clone(&self.shared.log) as Arc<dyn OperationHistory>
    }

    /// The log.
    pub fn log(&self) -> Arc<dyn OperationLog> {
        Arc::clone(&self.shared.log)
    }

    /// The strategies, in the order in which they are tried.
    pub fn strategies(&self) -> &[Strategy] {
        &self.shared.strategies
    }

    /// Operations that this engine drives now.
    pub fn at_work(&self) -> Vec<OperationId> {
        self.shared.running().keys().copied().collect()
    }

    /// Resolves when the session was lost: this engine does nothing any more. Build another one.
    ///
    /// Cancellation safety: may be dropped at any await.
    pub async fn lost(&self) {
        self.shared.lost.cancelled().await;
    }

    /// How this engine stands, for health answers. Asks nobody.
    pub fn health(&self) -> Health {
        let shared = &self.shared;
        Health {
            session: shared.session_id(),
            acts: shared.may_act() && !shared.stopping.is_cancelled(),
            clock_off: shared.clock_off(),
            refuses: shared.clock_is_off(),
            at_work: shared.running().len(),
            at_work_max: shared.config.operations_at_work_max,
        }
    }

    /// Stops: takes nothing more, asks what runs to stop and gives it the grace period, settles what it can,
    /// writes a last checkpoint, gives up what it holds and closes the session. What is unfinished goes on with the
    /// next engine. A log that does not answer is waited for until the lease ends.
    ///
    /// Cancellation safety: dropped once it was polled, the engine stops all the same; the lease is not renewed any
    /// more, and the session ends with it.
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + use<> {
        let (shared, keeper) = (Arc::clone(&self.shared), self.keeper.abort_handle());
        async move {
            let _let_go = shared.let_go.clone().drop_guard();
            shared.stopping.cancel();
            shared.tasks.close();
            tokio::select! {
                () = shared.tasks.wait() => {}
                // Only a log that does not answer keeps a task for so long; it may do nothing any more.
                () = long_after_the_lease(&shared) => {}
            }
            tokio::select! {
                () = close(&shared) => {}
                () = shared.lost.cancelled() => tracing::warn!("the session ends with its lease"),
            }
            keeper.abort();
            // Whoever still asks is told that nothing is done here any more.
            shared.lost.cancel();
        }
    }
}

async fn close(shared: &Shared) {
    if shared.may_act() {
        checkpoints::write(shared).await;
    }
    if let Err(error) = shared.log.close_session(shared.session_id()).await {
        tracing::warn!(%error, "the session could not be closed; it ends with its lease");
    }
}
