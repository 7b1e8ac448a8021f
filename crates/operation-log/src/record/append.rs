//! One append and its answer: what is written together or not at all.

use std::sync::Arc;
use std::time::Duration;

use redress_fsm::State;
use redress_strategy::StoredPlan;
use redress_types::{AlertId, Epoch, Fingerprint, Hash, Level, OperationId, Target, Timestamp};
use serde::{Deserialize, Serialize};

use crate::entry::Versions;
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
    /// What a program must be able to read to fold this entry.
    pub versions: Versions,
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
    /// The operation still stands as this append left it to its writer: held by a session that is not over
    /// under the epoch of the append, or let go or ended by this very append and not taken since. Always so
    /// for a fresh append. `false`: somebody else may go on with it; stop acting.
    pub current: bool,
    /// The operation's last inbox row: above what was folded means there is more.
    pub inbox: u64,
    /// How often switches have been changed so far: when it grew, look at them before the effect.
    pub switches: u64,
}
