//! How a log stands, for health answers and for people: its clock, who is at work, what is owed.

use redress_types::Timestamp;

use crate::session::SessionId;

/// How a log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStatus {
    /// The log's own clock.
    pub log_now: Timestamp,
    /// The highest position given out.
    pub position: u64,
    /// The sessions that are not over, oldest first.
    pub sessions: Vec<SessionStatus>,
    /// Outbox rows not delivered yet, those that a person has included.
    pub owed: u64,
    /// Outbox rows that a person has.
    pub handed: u64,
    /// When the oldest outbox row not delivered yet was written.
    pub owed_since: Option<Timestamp>,
}

/// An engine at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Its session.
    pub id: SessionId,
    /// Its name.
    pub engine: String,
    /// When its lease ends unless it is renewed, by the log's own clock.
    pub expires_at: Timestamp,
    /// Operations that it holds.
    pub holds: u64,
}
