//! Rows of the outbox: effects that an entry owes whatever happens next.

use std::sync::Arc;

use redress_types::{OperationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::Actor;
use crate::session::SessionId;

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The entry's position and the row's place in it: its number and its order.
    pub position: u64,
    /// Its place among the rows of its entry, from 0.
    pub index: u32,
    /// Whose.
    pub operation: OperationId,
    /// The entry that owes it.
    pub seq: u64,
    /// The executor.
    pub executor: String,
    /// Rows of one order key are delivered one at a time, in position order.
    pub order_key: String,
    /// What the executor is told.
    pub content: Arc<[u8]>,
    /// Deliveries tried.
    pub tries: u32,
    /// When it is due.
    pub due_at: Timestamp,
    /// Where it stands.
    pub state: OutboxState,
    /// What the last try said.
    pub last_error: Option<String>,
}

/// What an engine asks for when it looks for outbox rows to deliver.
#[derive(Clone, Debug)]
pub struct OutboxRequest {
    /// The engine's session.
    pub session: SessionId,
    /// Its clock.
    pub now: Timestamp,
    /// Until when the rows that it gets are taken by it.
    pub until: Timestamp,
    /// At most so many.
    pub limit: usize,
    /// The executors that it has: rows for others are left alone. They still hold up those behind them.
    pub executors: Vec<String>,
}

/// Where an outbox row stands.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OutboxState {
    /// To be delivered.
    Owed,
    /// Delivered.
    Done,
    /// Given to a person: it keeps its place and is not tried by itself any more. Still owed.
    Handed,
    /// A person decided that it need not be delivered.
    Closed,
}

/// How the delivery of an outbox row went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSettled {
    /// The row.
    pub position: u64,
    /// The row.
    pub index: u32,
    /// When.
    pub at: Timestamp,
    /// How.
    pub how: OutboxOutcome,
}

/// How the delivery of an outbox row went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxOutcome {
    /// It is done.
    Done,
    /// It is tried again.
    Again {
        /// When.
        at: Timestamp,
        /// What went wrong.
        error: String,
    },
    /// A person has it.
    Handed {
        /// What went wrong.
        error: String,
    },
}

/// What a person decides on an outbox row that is not delivered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxDecision {
    /// The row.
    pub position: u64,
    /// The row.
    pub index: u32,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Actor,
    /// Why; kept as the row's last error, after who.
    pub reason: String,
    /// What.
    pub what: OutboxVerdict,
}

impl OutboxDecision {
    /// The row as it stands afterwards; `None`: the decision changes nothing, as when it is carried out again.
    /// A row that is closed by it is owed no more and taken by nobody; one that is to be tried again is due at
    /// [`Self::at`] at the latest.
    ///
    /// # Errors
    /// [`Error::DifferentContent`] when it was delivered or, for a retry, closed.
    pub fn carry_out(&self, row: &OutboxRow) -> Result<Option<OutboxRow>, Error> {
        let last_error = Some(format!("{}: {}", self.by.0, self.reason));
        let after = match (row.state, self.what) {
            (OutboxState::Done, OutboxVerdict::Retry | OutboxVerdict::Close)
            | (OutboxState::Closed, OutboxVerdict::Retry) => {
                let what = format!("outbox row {}.{}, which is {}", row.position, row.index, row.state);
                return Err(Error::DifferentContent { what });
            }
            (OutboxState::Closed, OutboxVerdict::Close) => return Ok(None),
            (OutboxState::Owed | OutboxState::Handed, OutboxVerdict::Close) => {
                OutboxRow { state: OutboxState::Closed, last_error, ..row.clone() }
            }
            (OutboxState::Owed, OutboxVerdict::Retry) => {
                OutboxRow { due_at: row.due_at.min(self.at), last_error, ..row.clone() }
            }
            (OutboxState::Handed, OutboxVerdict::Retry) => {
                OutboxRow { state: OutboxState::Owed, due_at: self.at, last_error, ..row.clone() }
            }
        };
        Ok((after != *row).then_some(after))
    }
}

/// What a person decides on an outbox row that is not delivered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxVerdict {
    /// Try it again now, by itself.
    Retry,
    /// It need not be delivered any more.
    Close,
}
