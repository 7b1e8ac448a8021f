//! The archive: an ended operation as one line of JSON, which proves itself without the log that it came from.
//!
//! A line holds the exact bytes that were hashed, entry by entry, and the plan's. Read [`crate::log`] for how
//! operations are taken out, and `docs/operating.md` for how an archive is made and kept.

use std::sync::Arc;

use redress_fsm::State;
use redress_strategy::StoredPlan;
use redress_types::{AlertId, Hash, OperationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::entry::{StoredEntry, link};
use crate::fold::Operation;
use crate::record::Archived;

/// The version of a line's form.
pub const FORMAT: u16 = 1;

/// A line as it is written.
#[derive(Serialize, Deserialize)]
struct Line {
    format: u16,
    operation: OperationId,
    name: String,
    state: State,
    accepted_at: String,
    ended_at: String,
    hash: Hash,
    plan: Option<String>,
    entries: Vec<LineEntry>,
}

#[derive(Serialize, Deserialize)]
struct LineEntry {
    position: u64,
    hash: Hash,
    /// The hashed bytes, which are JSON text themselves: kept as a string, so that not one of them changes.
    body: String,
}

/// What a line that was read and proven says.
#[derive(Clone, Debug, PartialEq)]
pub struct Proven {
    /// Which.
    pub operation: OperationId,
    /// The readable name.
    pub name: String,
    /// How it ended.
    pub state: State,
    /// When.
    pub ended_at: Timestamp,
    /// The hash of its last entry: what the log keeps of it for ever, at each of its alerts.
    pub hash: Hash,
    /// The alerts that led to it.
    pub alerts: Vec<AlertId>,
    /// How many entries it has.
    pub entries: u64,
}

/// Why a line does not prove itself.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It is not such a line.
    #[error("it is no archived operation")]
    Json(#[from] serde_json::Error),
    /// It is newer than this program.
    #[error("it has format {found}; this program reads up to {FORMAT}")]
    Newer {
        /// Its format.
        found: u16,
    },
    /// Something in it does not agree with the rest.
    #[error("operation {operation}: {what}")]
    Content {
        /// Which operation it says it is.
        operation: OperationId,
        /// What is wrong.
        what: String,
    },
}

/// The line of an operation, without a line end.
///
/// # Errors
/// When its bytes are no text: the log is damaged; `redress verify` says where.
pub fn line(archived: &Archived) -> Result<String, Broken> {
    let operation = archived.head.id;
    let text = |bytes: &[u8], what: &str| {
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Broken::Content { operation, what: format!("the bytes of {what} are no text") })
    };
    let entry = |stored: &StoredEntry| {
        let body = text(&stored.body, &format!("entry {}", stored.seq))?;
        Ok::<_, Broken>(LineEntry { position: stored.position, hash: stored.hash, body })
    };
    let head = &archived.head;
    let line = Line {
        format: FORMAT,
        operation,
        name: head.name.clone(),
        state: head.state,
        accepted_at: head.accepted_at.to_string(),
        ended_at: head.ended_at.unwrap_or(head.updated_at).to_string(),
        hash: head.hash,
        plan: archived.plan.as_ref().map(|plan| text(&plan.bytes, "the plan")).transpose()?,
        entries: archived.entries.iter().map(entry).collect::<Result<_, _>>()?,
    };
    Ok(serde_json::to_string(&line)?)
}

/// Reads a line and proves it: every link, the plan's hash, every transition with its guards, and the end.
///
/// # Errors
/// [`Broken`], naming the first thing that is wrong.
pub fn prove(text: &str) -> Result<Proven, Broken> {
    let line: Line = serde_json::from_str(text)?;
    if line.format > FORMAT {
        return Err(Broken::Newer { found: line.format });
    }
    let operation = line.operation;
    let broken = |what: String| Broken::Content { operation, what };
    let mut previous = Hash::default();
    let mut entries = Vec::with_capacity(line.entries.len());
    for (seq, entry) in (1..).zip(line.entries) {
        let body: Arc<[u8]> = entry.body.into_bytes().into();
        if link(&previous, &body) != entry.hash {
            return Err(broken(format!("entry {seq} does not follow from the one before")));
        }
        previous = entry.hash;
        entries.push(StoredEntry { position: entry.position, operation, seq, body, hash: entry.hash });
    }
    if previous != line.hash {
        return Err(broken("its last entry has another hash than the line says".into()));
    }
    for stored in &entries {
        let entry = stored.read().map_err(|error| broken(error.to_string()))?;
        if entry.operation != operation || entry.seq != stored.seq {
            return Err(broken(format!("entry {} is that of another place", stored.seq)));
        }
    }
    let plan = line.plan.map(|text| StoredPlan::read(text.into_bytes().into())).transpose();
    let plan = plan.map_err(|error| broken(error.to_string()))?.map(Arc::new);
    // A plan of another hash than the first entry names is refused by the fold.
    let folded = Operation::replay(&entries, plan).map_err(|error| broken(error.to_string()))?;
    if !folded.state.is_ended() || folded.state != line.state {
        return Err(broken(format!("its entries end in {}, and the line says {}", folded.state, line.state)));
    }
    // What stands outside the entries must agree with them too: people read it first.
    let ended_at = folded.updated_at;
    let outside = [
        ("name", line.name == operation.name(&folded.alert.fingerprint)),
        ("accepted_at", line.accepted_at == folded.accepted_at.to_string()),
        ("ended_at", line.ended_at == ended_at.to_string()),
    ];
    if let Some((what, _)) = outside.iter().find(|(_, agrees)| !agrees) {
        return Err(broken(format!("its {what} is not that of its entries")));
    }
    Ok(Proven {
        operation,
        name: line.name,
        state: line.state,
        ended_at,
        hash: line.hash,
        alerts: folded.alerts.iter().map(|counted| counted.alert.id.clone()).collect(),
        entries: entries.len() as u64,
    })
}
