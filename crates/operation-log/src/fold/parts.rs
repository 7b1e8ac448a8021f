//! The parts of a folded [`Operation`](super::Operation), and why an entry is refused.

use std::sync::Arc;
use std::time::Duration;

use redress_fsm::{EventKind, Refusal, State};
use redress_strategy::OnError;
use redress_types::{Alert, EffectKey, Epoch, OperationId, Timestamp};

use crate::entry::Unreadable;
use crate::event::{HoldReason, KnownBy};

/// An alert counted on an operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    /// The alert.
    pub alert: Arc<Alert>,
    /// When its source said that it is over.
    pub resolved_at: Option<Timestamp>,
}

/// What holds an operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// What.
    pub reason: HoldReason,
    /// Since when.
    pub since: Timestamp,
    /// When it is looked at again, at the latest.
    pub until: Timestamp,
}

/// An intent without a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// The effect's key.
    pub key: EffectKey,
    /// Under which epoch it may be called.
    pub epoch: Epoch,
    /// Tries that have an answer.
    pub tries: u32,
    /// How many of them a person's verdict has settled: from there they are counted anew.
    pub decided_at: u32,
    /// The last thing recorded about it says that it may be on its way.
    pub in_flight: bool,
    /// Nobody knows whether an earlier try happened.
    pub unknown: bool,
    /// When it goes on, while it waits between two tries.
    pub next_at: Option<Timestamp>,
    /// When it was first begun.
    pub since: Timestamp,
    /// What its last try answered.
    pub last_error: Option<String>,
}

/// A step that failed for good.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Its name.
    pub step: String,
    /// What went wrong.
    pub error: String,
    /// What that means.
    pub on_error: OnError,
}

/// How a step went, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// The effect's key.
    pub key: EffectKey,
    /// The step's name.
    pub step: String,
    /// When its intent was written.
    pub started_at: Timestamp,
    /// Tries that have an answer.
    pub tries: u32,
    /// How it ended.
    pub result: Option<StepResult>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What the last try said, or what it left behind.
    pub detail: String,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepResult {
    /// It happened.
    Succeeded(KnownBy),
    /// It did not.
    Failed(KnownBy),
    /// It was never sent.
    Withdrawn,
    /// A person gave up on it.
    Abandoned,
}

/// How an operation's deadline runs: from the first step, standing still while Suspended or paused.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Clock {
    /// When the first step began.
    pub started: Option<Timestamp>,
    /// Since when it stands still.
    pub standing_since: Option<Timestamp>,
    /// How long it has stood still before.
    pub stood: Duration,
    /// The log says that the deadline passed.
    pub passed: bool,
}

/// Why an entry cannot follow.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refused {
    /// The table has no such row.
    #[error(transparent)]
    Table(#[from] Refusal),
    /// The table has the row, but what the log says so far does not allow it.
    #[error("{event} in state {state}: {why}")]
    Guard {
        /// Where it stands.
        state: State,
        /// What was to be recorded.
        event: EventKind,
        /// What forbids it.
        why: &'static str,
    },
    /// The entry is not the next of this operation.
    #[error("entry {found} of operation {operation} cannot follow entry {after}: {why}")]
    Order {
        /// Whose.
        operation: OperationId,
        /// The last entry.
        after: u64,
        /// The entry that came.
        found: u64,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Why a history could not be folded.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// An entry cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// An entry cannot follow.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no entry at all.
    #[error("the operation has no entry")]
    Empty,
}
