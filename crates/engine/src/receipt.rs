//! [`Receipt`]: what became of a delivery, and how to wait for what it led to.

use std::sync::Arc;
use std::time::Duration;

use redress_fsm::State;
use redress_operation_log::{AlertRecord, Error, Head};
use redress_types::{OperationId, Timestamp};
use tokio::sync::watch;

use crate::shared::Shared;

/// The longest time between two looks at an operation that another engine drives, unless the poll is longer.
const SETTLED_POLL: Duration = Duration::from_secs(1);

/// What became of a delivery. Given only after that is durable.
#[derive(Clone)]
pub struct Receipt {
    /// The operation that the alert led to; `None` when a resolved notice matched nothing.
    pub operation: Option<OperationId>,
    /// Which way it went.
    pub disposition: Disposition,
    /// What is known of the alert id; `None` for notices that matched nothing.
    pub alert: Option<AlertRecord>,
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt")
            .field("operation", &self.operation)
            .field("disposition", &self.disposition)
            .finish_non_exhaustive()
    }
}

/// Which way a delivery went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// A new operation, in this state when it was accepted.
    Accepted(State),
    /// Counted on an operation that runs.
    Joined,
    /// A repeat of a known alert: counted, nothing runs again.
    Repeated,
    /// A known id with another service or start, from a source that may not be refused: recorded.
    Conflicting,
    /// A source's word that the alert is over: handed to its operation.
    Resolved,
    /// There was nothing to do.
    Ignored,
}

/// Why a delivery was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The id is known with another service or start.
    #[error(
        "alert id {} is known: service {:?} since {}; this delivery names service {service:?} since {alert_since}. An id stands for one alert, for ever; send another id",
        known.id, known.service, known.alert_since
    )]
    Conflict {
        /// What is known.
        known: Box<AlertRecord>,
        /// What came.
        service: String,
        /// What came.
        alert_since: Timestamp,
    },
    /// It could not be made durable now. Send it again.
    #[error("the alert could not be made durable; send it again")]
    Unavailable(#[source] Error),
    /// It cannot be stored as it is.
    #[error("the alert cannot be stored")]
    Unstorable(#[source] Error),
    /// The engine stops.
    #[error("the engine is stopping; send it again")]
    Stopping,
}

impl Receipt {
    /// Waits until the operation has ended or waits for something outside (Blocked, Suspended, AwaitingApproval),
    /// whichever engine drives it; then how it stands. `None` when there is no operation.
    ///
    /// Answers how it stands when this engine stops before that.
    ///
    /// Cancellation safety: may be dropped at any await.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn settled(&self) -> Result<Option<Head>, Error> {
        let Some(id) = self.operation else { return Ok(None) };
        let mut pause = self.shared.config.poll / 10;
        loop {
            let state = self.shared.running().get(&id).map(|running| running.state.clone());
            if let Some(state) = state {
                until_let_go(state).await;
            }
            let Some(head) = self.shared.log.operation(id).await? else { return Ok(None) };
            if stands_still(&head) {
                return Ok(Some(head));
            }
            // Another engine has it, or nobody has it yet: only the log can tell.
            pause = (pause * 2).clamp(Duration::from_millis(1), self.shared.config.poll.max(SETTLED_POLL));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shared.stopping.cancelled() => return Ok(Some(head)),
            }
        }
    }

    /// Waits until this engine no longer drives the operation, without reading the log.
    ///
    /// Answers the state it then had; `None` when it was not driven here at all (any more).
    pub async fn driven(&self) -> Option<State> {
        let id = self.operation?;
        let state = self.shared.running().get(&id).map(|running| running.state.clone())?;
        Some(until_let_go(state).await)
    }
}

/// The sender goes away with its driver, which is what is waited for.
async fn until_let_go(mut state: watch::Receiver<State>) -> State {
    while state.changed().await.is_ok() {}
    *state.borrow()
}

/// Ended, or held by nobody until something comes from outside that has not come yet.
fn stands_still(head: &Head) -> bool {
    let waits = matches!(head.state, State::Blocked | State::Suspended | State::AwaitingApproval);
    head.state.is_ended() || (waits && head.session.is_none() && head.inbox == head.folded_request)
}
