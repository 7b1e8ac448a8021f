//! Rows of the outbox: effects that an entry owes whatever happens next.

use std::sync::Arc;

use redress_types::{OperationId, Timestamp};
use serde::{Deserialize, Serialize};

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
    /// Given to a person: it keeps its place and is not tried by itself any more.
    Handed,
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
