//! [`Session`]: an engine's right to write, held under a lease.

use std::time::Duration;

use redress_types::{Incarnation, Timestamp};
use serde::{Deserialize, Serialize};

/// One engine's stay at a log, from open to close or loss. Grows with every session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u64);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What an engine got when it opened a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its name in every write.
    pub id: SessionId,
    /// The log's incarnation: raised when the log was restored from a backup or lost a tail.
    pub incarnation: Incarnation,
    /// This session found the log to be older than what was written before.
    pub restored: bool,
    /// The first session of this incarnation: what acted under an earlier one is in doubt.
    pub since: SessionId,
    /// How long the lease lasts, counted by the holder from *before* it asked.
    pub lease: Duration,
    /// The log's own clock when it answered.
    pub log_now: Timestamp,
}
