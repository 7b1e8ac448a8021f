//! What the verifier compares, and what is archived.

use std::sync::Arc;

use redress_strategy::StoredPlan;
use redress_types::{AlertId, Hash, OperationId, Timestamp};
use serde::{Deserialize, Serialize};

use super::append::Claim;
use super::head::Head;
use crate::entry::StoredEntry;
use crate::session::SessionId;

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
