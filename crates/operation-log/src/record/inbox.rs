//! What comes from outside and who takes it: repeats, joins, requests, claims, switches.

use std::sync::Arc;

use redress_strategy::PlanHash;
use redress_types::{Alert, AlertId, Epoch, OperationId, Timestamp};
use serde::{Deserialize, Serialize};

use super::append::NewAlert;
use super::head::AlertRecord;
use crate::entry::Versions;
use crate::event::{Actor, Decision};
use crate::session::SessionId;

/// Another delivery of a known id.
#[derive(Clone, Debug)]
pub struct Repeat {
    /// The id.
    pub id: AlertId,
    /// When it came.
    pub at: Timestamp,
    /// It named another service or start: counted apart, and never a delivery.
    pub conflict: bool,
}

/// A new alert for an operation that runs.
#[derive(Clone, Debug)]
pub struct Join {
    /// The operation.
    pub operation: OperationId,
    /// Its record.
    pub alert: NewAlert,
    /// What the holder is told.
    pub content: Arc<Alert>,
    /// Who brought it.
    pub actor: Actor,
}

/// The answer to a join.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The alert's record.
    pub record: AlertRecord,
    /// The inbox row.
    pub request: u64,
}

/// A request for the holder of an operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Post {
    /// The operation.
    pub operation: OperationId,
    /// The sender's idempotency key, unique per operation.
    pub key: String,
    /// What is asked.
    pub request: Request,
    /// Who asks.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
}

/// What can be asked of an operation from outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Count another alert.
    Join {
        /// The alert.
        alert: Arc<Alert>,
    },
    /// A counted alert is over, says its source.
    Resolved {
        /// Which.
        alert: AlertId,
        /// Since when.
        ends_at: Timestamp,
    },
    /// Stop it.
    Cancel {
        /// Why.
        reason: String,
    },
    /// Decide on a suspended one.
    Verdict {
        /// What.
        decision: Decision,
        /// Why.
        reason: String,
    },
}

/// The answer to a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// The row's number in the operation's inbox.
    pub request: u64,
    /// It stood there already.
    pub before: bool,
    /// Who holds the operation and will fold it; `None`: the next engine that claims it.
    pub held_by: Option<SessionId>,
}

/// A row of an operation's inbox.
#[derive(Clone, Debug, PartialEq)]
pub struct InboxRow {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// The sender's key.
    pub key: String,
    /// What is asked.
    pub request: Request,
    /// Who asks.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
}

/// What an engine asks for when it looks for work.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// The engine's session.
    pub session: SessionId,
    /// Its clock.
    pub now: Timestamp,
    /// At most so many.
    pub limit: usize,
    /// The highest versions that it reads; operations that need more are left alone (rolling upgrades).
    pub reads: Versions,
    /// Plans that it cannot run; operations of these are left alone.
    pub unable: Vec<PlanHash>,
    /// Operations that a task of this engine drives: never taken, however long they are due.
    pub driven: Vec<OperationId>,
    /// Until when the operations count as held.
    pub due: Timestamp,
}

/// An operation that an engine now holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Which.
    pub operation: OperationId,
    /// Its new epoch.
    pub epoch: Epoch,
    /// Its plan.
    pub plan: Option<PlanHash>,
}

/// A switch that is off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// What it pauses: `engine`, `strategy:{name}` or `target:{target}`.
    pub key: String,
    /// Who turned it off.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None`: until somebody turns it on.
    pub until: Option<Timestamp>,
}
