//! [`Error`]: one variant for each thing a caller can do about it.

use redress_fsm::State;
use redress_types::{Hash, OperationId, Timestamp};

use crate::event::HoldReason;
use crate::record::{AlertRecord, Claim};

/// Why a log refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such operation.
    #[error("there is no operation {0}")]
    NotFound(OperationId),
    /// The head stands elsewhere: reload and decide again.
    #[error("operation {operation} stands at entry {found}, not {expected}")]
    Conflict {
        /// Which.
        operation: OperationId,
        /// The seq that the writer had seen.
        expected: u64,
        /// The seq that it has.
        found: u64,
    },
    /// Something else was recorded under this name: a defect in the writer, or two writers.
    #[error("{what} stands already with other content")]
    DifferentContent {
        /// What has the name.
        what: String,
    },
    /// The session or the epoch is not current any more: stop acting, somebody else goes on.
    #[error("{what} is not current any more")]
    Stale {
        /// Which.
        what: String,
    },
    /// The ending append has not seen the whole inbox: read it and decide again.
    #[error("operation {operation} has inbox rows up to {inbox} that the ending entry does not name")]
    NotFolded {
        /// Which.
        operation: OperationId,
        /// The last row.
        inbox: u64,
    },
    /// A claim belongs to another operation: join it, or wait for it.
    #[error("{claim} belongs to operation {holder}")]
    Lost {
        /// What was claimed.
        claim: Claim,
        /// Who has it.
        holder: OperationId,
    },
    /// Something is in the way until a time: be Blocked, and look again then.
    #[error("not now: {reason}")]
    NotNow {
        /// What.
        reason: HoldReason,
        /// When to look again, at the latest.
        until: Timestamp,
    },
    /// The alert id is known: count the repeat.
    #[error("alert {} is known", .0.id)]
    KnownAlert(Box<AlertRecord>),
    /// The operation has ended: decide again.
    #[error("operation {operation} ended as {state}")]
    Ended {
        /// Which.
        operation: OperationId,
        /// How.
        state: State,
    },
    /// Another engine has the log, which allows one.
    #[error("{log} is held by {by}")]
    Held {
        /// The log.
        log: String,
        /// Who has it.
        by: String,
    },
    /// What is stored cannot be read: of a newer format, or damaged.
    #[error("{what}")]
    Corrupt {
        /// What, where, and what to do.
        what: String,
    },
    /// It may or may not have happened: repeat it, or read back.
    #[error("the log is unavailable: {what}")]
    Unavailable {
        /// What was being done.
        what: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The content cannot be stored: it is at fault, not the log.
    #[error("{what}")]
    Unstorable {
        /// What, and what is expected.
        what: String,
    },
}

impl Error {
    /// [`Error::Unavailable`] with its cause.
    pub fn unavailable(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable { what: what.into(), source: Some(source.into()) }
    }

    /// Stored bytes whose hash is not the one expected.
    pub fn wrong_hash(what: impl std::fmt::Display, expected: Hash, found: Hash) -> Self {
        Self::Corrupt {
            what: format!("{what}: its hash is {found}, expected {expected}; run `redress verify`"),
        }
    }
}
