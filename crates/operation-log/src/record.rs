//! The records that go into a log and come out of it.

use std::sync::Arc;
use std::time::Duration;

use redress_fsm::State;
use redress_strategy::{PlanHash, StoredPlan};
use redress_types::{
    Alert, AlertId, EffectKey, Epoch, Fingerprint, Hash, Level, OperationId, Target, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::entry::StoredEntry;
use crate::event::{Actor, Decision};
use crate::session::SessionId;

/// One append. Everything in it is written together or not at all.
#[derive(Clone, Debug)]
pub struct Append {
    /// The writer's session.
    pub session: SessionId,
    /// The epoch under which the writer holds the operation.
    pub epoch: Epoch,
    /// Whose.
    pub operation: OperationId,
    /// The seq of the last entry that the writer has seen; 0 begins the operation.
    pub expected_seq: u64,
    /// The hashed bytes of the entry `expected_seq + 1`.
    pub body: Arc<[u8]>,
    /// Their hash, chained to the entry before.
    pub hash: Hash,
    /// When, by the writer's clock.
    pub now: Timestamp,
    /// The head as it must stand afterwards.
    pub standing: Standing,
    /// With the first entry: what does not change.
    pub begin: Option<Box<Begin>>,
    /// Claims to take; one that another operation has fails the append.
    pub claims: Vec<Claim>,
    /// Holds, budgets and switches that must not be in the way.
    pub conditions: Conditions,
    /// An ending append: frees every claim and wakes the first waiter of the slot.
    pub ends: Option<Ending>,
    /// Outbox rows that this entry owes.
    pub outbox: Vec<Owe>,
    /// Erasable payloads that lie beside the entry: their salt and bytes.
    pub payloads: Vec<Payload>,
}

/// How a head stands after an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The state.
    pub state: State,
    /// The writer keeps the operation; otherwise nobody holds it.
    pub held: bool,
    /// When it must be looked at again: its timer, or, while held, the time from which any engine may take it.
    /// `None` only when a person or an ended state has it.
    pub wake_at: Option<Timestamp>,
    /// The claim it waits for, while Blocked on one.
    pub waits_on: Option<Claim>,
    /// The last inbox row folded.
    pub folded_request: u64,
    /// What it waits for or why it ended, for people.
    pub reason: Option<String>,
}

/// What does not change about an operation.
#[derive(Clone, Debug)]
pub struct Begin {
    /// The readable name.
    pub name: String,
    /// The alert record of the alert that starts it.
    pub alert: NewAlert,
    /// What it acts on.
    pub target: Target,
    /// Its strategy.
    pub strategy: Option<String>,
    /// Its plan; stored when it is not stored yet.
    pub plan: Option<Arc<StoredPlan>>,
    /// For lists.
    pub level: Level,
    /// For lists.
    pub title: String,
}

/// An alert id seen for the first time.
#[derive(Clone, Debug)]
pub struct NewAlert {
    /// The id.
    pub id: AlertId,
    /// The id without `#n`.
    pub base: AlertId,
    /// Which run of it, from 1.
    pub n: u32,
    /// Its problem.
    pub fingerprint: Fingerprint,
    /// What makes a redelivery the same alert, with the id.
    pub service: String,
    /// What makes a redelivery the same alert, with the id.
    pub alert_since: Timestamp,
    /// When it came.
    pub seen_at: Timestamp,
}

/// A right that at most one operation has, while it has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "claim", content = "key", rename_all = "snake_case")]
pub enum Claim {
    /// To be the operation of a fingerprint.
    Fingerprint(String),
    /// To be the operation of a strategy, target and parameters.
    Sameness(String),
    /// To act on a target.
    Slot(String),
}

impl Claim {
    /// The word that stands in the database.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Fingerprint(_) => "fingerprint",
            Self::Sameness(_) => "sameness",
            Self::Slot(_) => "slot",
        }
    }

    /// What is claimed.
    pub fn key(&self) -> &str {
        match self {
            Self::Fingerprint(key) | Self::Sameness(key) | Self::Slot(key) => key,
        }
    }

    /// The claim of this kind and key; `None` for an unknown kind.
    pub fn parse(kind: &str, key: &str) -> Option<Self> {
        match kind {
            "fingerprint" => Some(Self::Fingerprint(key.to_owned())),
            "sameness" => Some(Self::Sameness(key.to_owned())),
            "slot" => Some(Self::Slot(key.to_owned())),
            _ => None,
        }
    }
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind(), self.key())
    }
}

/// What must not be in the way of an append.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// Hold keys: none may have a `next_allowed_at` after the append's `now`.
    pub holds: Vec<String>,
    /// Budgets to reserve from, each for this operation.
    pub budgets: Vec<Budget>,
    /// Switch keys: none may be off.
    pub switches: Vec<String>,
}

/// A share of a rate budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Whose budget.
    pub key: String,
    /// At most so many,
    pub most: u32,
    /// in this window ending now.
    pub window: Duration,
}

/// What an ending append leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The hold's key, and until when the strategy leaves it alone.
    pub hold: Option<(String, Timestamp)>,
    /// Nothing was attempted: the budgets reserved for it are given back.
    pub refund: bool,
}

/// An effect that an entry owes the world whatever happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owe {
    /// The executor's name.
    pub executor: String,
    /// Rows of one order key are delivered one at a time, in position order.
    pub order_key: String,
    /// What the executor is to be told, JSON.
    pub content: Arc<[u8]>,
}

/// An erasable payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Sixteen random bytes, so that a short payload cannot be guessed from its hash.
    pub salt: [u8; 16],
    /// The bytes.
    pub bytes: Arc<[u8]>,
}

impl Payload {
    /// What the entry says of it.
    pub fn hash(&self) -> Hash {
        Hash::of(&[&self.salt, &self.bytes])
    }
}

/// The answer to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The entry's global position.
    pub position: u64,
    /// It stood there already, with the same content.
    pub before: bool,
    /// The operation's last inbox row: above what was folded means there is more.
    pub inbox: u64,
    /// How often switches have been changed so far: when it grew, look at them before the effect.
    pub switches: u64,
}

/// A head row: where an operation stands, for lists and for claims. A projection of its entries, but for the
/// holder, the inbox counter and the outbox count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which.
    pub id: OperationId,
    /// The readable name.
    pub name: String,
    /// The seq of its last entry.
    pub seq: u64,
    /// The hash of its last entry.
    pub hash: Hash,
    /// Where it stands.
    pub state: State,
    /// Its epoch.
    pub epoch: Epoch,
    /// Who holds it.
    pub session: Option<SessionId>,
    /// When it is looked at again.
    pub wake_at: Option<Timestamp>,
    /// The claim it waits for.
    pub waits_on: Option<Claim>,
    /// Its last inbox row.
    pub inbox: u64,
    /// The last inbox row folded.
    pub folded_request: u64,
    /// What it acts on.
    pub target: Target,
    /// Its strategy.
    pub strategy: Option<String>,
    /// Its plan.
    pub plan: Option<PlanHash>,
    /// Its first alert's fingerprint.
    pub fingerprint: Fingerprint,
    /// Its first alert's level.
    pub level: Level,
    /// Its first alert's title.
    pub title: String,
    /// What it waits for or why it ended.
    pub reason: Option<String>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When its last entry was written.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The position of its first entry; lists are in this order.
    pub position: u64,
    /// Outbox rows not delivered yet.
    pub owed: u64,
}

/// What is known of an alert id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRecord {
    /// The id.
    pub id: AlertId,
    /// The id without `#n`.
    pub base: AlertId,
    /// Which run of it.
    pub n: u32,
    /// The runs that the base id has had; kept on the base id's record.
    pub runs: u32,
    /// Its problem.
    pub fingerprint: Fingerprint,
    /// Its service.
    pub service: String,
    /// Its start.
    pub alert_since: Timestamp,
    /// The operation it led to.
    pub operation: OperationId,
    /// It joined an operation that another alert had started.
    pub joined: bool,
    /// How often it was delivered.
    pub count: u64,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// Deliveries of this id that named another service or start.
    pub conflicts: u64,
    /// The digest of its operation's outcome, once that was archived.
    pub outcome: Option<Outcome>,
}

/// What stays of an archived operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub state: State,
    /// When.
    pub ended_at: Timestamp,
    /// The hash of its last entry.
    pub hash: Hash,
}

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
    /// Plans that it cannot run; operations of these are left alone.
    pub unable: Vec<PlanHash>,
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

/// A result that came when it could not count any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateResult {
    /// The effect.
    pub key: EffectKey,
    /// Under which epoch it was called.
    pub epoch: Epoch,
    /// When it came.
    pub at: Timestamp,
    /// What it said.
    pub said: String,
    /// Why it does not count.
    pub reason: String,
}

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

/// Which operations a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// In one of these states; empty: in any.
    pub states: Vec<State>,
    /// Of this service.
    pub service: Option<String>,
    /// Accepted at or after.
    pub since: Option<Timestamp>,
}

/// Where a page of a list ends. Stable: later operations never move it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub u64);

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The heads, newest first.
    pub operations: Vec<Head>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<Cursor>,
}

/// A statement over everything that was appended, chained to the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its number, from 1.
    pub number: u64,
    /// The highest position it covers.
    pub position: u64,
    /// Entries up to there, the archived ones included.
    pub entries: u64,
    /// Operations up to there, the archived ones included.
    pub operations: u64,
    /// XOR over the hashes of all those entries.
    pub digest: Hash,
    /// The hash of the checkpoint before; zeros before the first.
    pub previous: Hash,
    /// When, by the writer's clock.
    pub at: Timestamp,
    /// SHA-256 over all of the above.
    pub hash: Hash,
    /// HMAC-SHA256 over the hash, when a key was configured.
    pub signature: Option<Hash>,
}

/// What a session has appended, kept beside the log so that a missing or an added row shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// The session; 0: what was archived.
    pub session: SessionId,
    /// Entries.
    pub entries: u64,
    /// Operations begun.
    pub operations: u64,
    /// XOR over the entries' hashes.
    pub digest: Hash,
}

/// Everything the verifier compares, in one consistent view, without the entries themselves.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Every head, in position order.
    pub heads: Vec<Head>,
    /// What each session says that it appended.
    pub sums: Vec<Sum>,
    /// What was archived and removed.
    pub archived: Sum,
    /// Every checkpoint, in order.
    pub checkpoints: Vec<Checkpoint>,
    /// Every claim and who has it.
    pub claims: Vec<(Claim, OperationId)>,
    /// Alert ids whose operation is neither in the log nor archived.
    pub orphans: Vec<AlertId>,
    /// The highest position given out.
    pub position: u64,
}

/// An ended operation as it is archived: one JSON line, verifiable by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Archived {
    /// Its head.
    pub head: Head,
    /// Its entries.
    pub entries: Vec<StoredEntry>,
    /// Its plan.
    pub plan: Option<Arc<StoredPlan>>,
}
