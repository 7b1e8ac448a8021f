//! What lists and look-ups answer: heads, alert records, late results, pages.

use redress_fsm::State;
use redress_strategy::PlanHash;
use redress_types::{AlertId, EffectKey, Epoch, Fingerprint, Hash, Level, OperationId, Target, Timestamp};
use serde::{Deserialize, Serialize};

use super::append::Claim;
use crate::entry::Versions;
use crate::session::SessionId;

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
    /// What a program must be able to read to fold it: the highest of its entries.
    pub versions: Versions,
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
