//! The bounded channel: how code in the same process submits alerts.
//!
//! `send` waits while the channel is full; `try_send` refuses. Both give the alert back when it was not taken.
//! Dropping every sender, or [`Engine::shutdown`](crate::Engine::shutdown), ends it; what was taken is answered.

use std::sync::Arc;

use redress_types::Delivery;
use tokio::sync::{mpsc, oneshot};

use crate::admission;
use crate::receipt::{Receipt, SubmitError};
use crate::shared::Shared;

/// Submits alerts to an engine in this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AlertSender {
    queue: mpsc::Sender<Submitted>,
}

/// Why [`AlertSender::send`] gave no receipt.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The engine has stopped; here is the alert.
    #[error("the engine has stopped; the alert was not taken")]
    Closed(Box<Delivery>),
    /// It was taken and then refused.
    #[error(transparent)]
    Refused(#[from] SubmitError),
}

/// Why [`AlertSender::try_send`] did not take the alert.
#[derive(Debug, thiserror::Error)]
pub enum TrySendError {
    /// The channel is full; here is the alert.
    #[error("the channel is full; send the alert again")]
    Full(Box<Delivery>),
    /// The engine has stopped; here is the alert.
    #[error("the engine has stopped; the alert was not taken")]
    Closed(Box<Delivery>),
}

#[derive(Debug)]
struct Submitted {
    delivery: Delivery,
    tell: oneshot::Sender<Result<Receipt, SubmitError>>,
}

impl AlertSender {
    /// Submits an alert; resolves once it is durable, with the operation it led to.
    ///
    /// Cancellation safety: dropped while the channel is full, the alert was not taken; dropped later, it was
    /// taken and its receipt is lost.
    ///
    /// # Errors
    /// [`SendError::Closed`] gives the alert back; [`SendError::Refused`] says why it was not accepted.
    pub async fn send(&self, delivery: Delivery) -> Result<Receipt, SendError> {
        let (tell, told) = oneshot::channel();
        let submitted = Submitted { delivery, tell };
        if let Err(mpsc::error::SendError(Submitted { delivery, .. })) = self.queue.send(submitted).await {
            return Err(SendError::Closed(Box::new(delivery)));
        }
        told.await.unwrap_or(Err(SubmitError::Stopping)).map_err(SendError::Refused)
    }

    /// Submits an alert without waiting for a place; the future it gives resolves once the alert is durable.
    ///
    /// # Errors
    /// [`TrySendError`] gives the alert back.
    pub fn try_send(
        &self,
        delivery: Delivery,
    ) -> Result<impl Future<Output = Result<Receipt, SubmitError>> + Send + 'static, TrySendError> {
        let (tell, told) = oneshot::channel();
        match self.queue.try_send(Submitted { delivery, tell }) {
            Ok(()) => Ok(async move { told.await.unwrap_or(Err(SubmitError::Stopping)) }),
            Err(mpsc::error::TrySendError::Full(Submitted { delivery, .. })) => {
                Err(TrySendError::Full(Box::new(delivery)))
            }
            Err(mpsc::error::TrySendError::Closed(Submitted { delivery, .. })) => {
                Err(TrySendError::Closed(Box::new(delivery)))
            }
        }
    }
}

/// Opens the channel of an engine.
pub(crate) fn open(shared: &Arc<Shared>) -> AlertSender {
    let (queue, submitted) = mpsc::channel(shared.config.channel_capacity);
    shared.tasks.spawn(take(Arc::clone(shared), submitted));
    AlertSender { queue }
}

/// Takes alerts off the queue. So many are admitted at the same time as fit into one commit of the log; the
/// queue is the backpressure.
async fn take(shared: Arc<Shared>, mut submitted: mpsc::Receiver<Submitted>) {
    let admissions = Arc::new(tokio::sync::Semaphore::new(shared.config.channel_capacity));
    loop {
        let Ok(admission) = Arc::clone(&admissions).acquire_owned().await else { return };
        let next = tokio::select! {
            next = submitted.recv() => next,
            () = shared.stopping.cancelled() => {
                submitted.close();
                submitted.recv().await
            }
        };
        let Some(Submitted { delivery, tell }) = next else { return };
        let admitting = Arc::clone(&shared);
        shared.tasks.spawn(async move {
            // A sender that went away does not need its receipt.
            let _ = tell.send(admission::submit(&admitting, delivery).await);
            drop(admission);
        });
    }
}
