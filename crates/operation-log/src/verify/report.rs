//! [`Report`]: what the verifier answers, for programs as JSON and for people as lines.

use std::fmt;

use redress_types::{Hash, OperationId};
use serde::Serialize;

use crate::entry::StoredEntry;

/// The most findings that a report lists; the rest are only counted.
pub const LISTED: usize = 100;

/// What somebody who can rewrite everything could still hide.
pub const CANNOT_DETECT: &str = "Whoever can write to the log's file can rewrite all of it, sums and unsigned \
     checkpoints included, so that it agrees with itself. Only what cannot be rewritten there tells: a \
     checkpoint signed with a key that is kept elsewhere, or one whose number and hash were noted elsewhere \
     (give it with --checkpoint). What was added or changed after the last such checkpoint, or never reached \
     the log, cannot be detected; nor can the log being put back, whole, to an older state. \
     What archiving removed is counted in a sum that nobody signs: a removal dressed up as archiving shows only to \
     who kept the archive file, or a checkpoint noted elsewhere before it. The sums are XORs of hashes: they show \
     accidents and casual edits, not the work of somebody who can compute collisions.";

/// The names of the five invariants of the design.
const INVARIANTS: [&str; 5] = [
    "at most one accepted result per effect key",
    "no effect without its intent durable under its epoch",
    "every transition is one that the table and the guards allow",
    "an ended operation never changes",
    "whatever is not ended or not delivered has a next wake-up",
];

/// What was checked, how much of it, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Entries read.
    pub entries: u64,
    /// Operations that they belong to.
    pub operations: u64,
    /// Plans that they name, each read and hashed once.
    pub plans: u64,
    /// Payloads that lie beside their entries as these name them.
    pub payloads: u64,
    /// Payloads that entries name and that were erased.
    pub payloads_erased: u64,
    /// Entries that were archived and removed, by the log's own count.
    pub archived_entries: u64,
    /// Operations that were archived and removed, by the log's own count.
    pub archived_operations: u64,
    /// Head rows compared.
    pub heads: u64,
    /// Sessions whose sums were compared.
    pub sessions: u64,
    /// Claims compared.
    pub claims: u64,
    /// The chain of checkpoints.
    pub checkpoints: Checkpoints,
    /// The five invariants, in their order.
    pub invariants: [InvariantReport; 5],
    /// How much was found in all.
    pub found: u64,
    /// The first [`LISTED`] findings.
    pub findings: Vec<Finding>,
    /// What somebody who can rewrite everything could still hide.
    pub cannot_detect: &'static str,
}

impl Report {
    /// Nothing was found.
    pub const fn is_clean(&self) -> bool {
        self.found == 0
    }
}

/// What was checked of the checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checkpoints {
    /// How many there are.
    pub count: u64,
    /// How many were recomputed from the entries in full; the others only within what archiving leaves open.
    pub recomputed: u64,
    /// How many carry a signature.
    pub signed: u64,
    /// How many signatures were found right under the key given; 0 without a key.
    pub signatures_right: u64,
    /// The last one: note it elsewhere to find out later whether the log was rewritten.
    pub last: Option<Noted>,
    /// Entries that no checkpoint covers yet.
    pub entries_after: u64,
}

/// A checkpoint to be noted elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Noted {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
}

/// One of the five invariants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvariantReport {
    /// 1 to 5.
    pub number: u8,
    /// What must hold.
    pub name: &'static str,
    /// How many facts it was checked on.
    pub checked: u64,
    /// How many of them break it.
    pub violations: u64,
}

/// What was looked at when something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Check {
    /// An operation's entries: order, bytes, hashes.
    Chain,
    /// A stored plan.
    Plan,
    /// What lies beside an entry against the hashes that it names.
    Payloads,
    /// A head row against the fold.
    Head,
    /// What the sessions and the archive say that was appended.
    Sums,
    /// The checkpoints.
    Checkpoints,
    /// The claims.
    Claims,
    /// The alert records.
    Alerts,
    /// One of the five invariants.
    Invariant,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// The invariant that it breaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invariant: Option<u8>,
    /// Whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// Which entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Where that entry stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl Finding {
    pub(super) fn new(check: Check, what: impl Into<String>) -> Self {
        Self { check, invariant: None, operation: None, seq: None, position: None, what: what.into() }
    }

    pub(super) fn of(self, operation: OperationId) -> Self {
        Self { operation: Some(operation), ..self }
    }

    pub(super) fn at(self, stored: &StoredEntry) -> Self {
        let (operation, seq, position) = (Some(stored.operation), Some(stored.seq), Some(stored.position));
        Self { operation, seq, position, ..self }
    }
}

/// Collects findings: the first ones whole, the rest as a number.
#[derive(Debug, Default)]
pub(super) struct Findings {
    listed: Vec<Finding>,
    count: u64,
    violations: [u64; 5],
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        self.count += 1;
        if self.listed.len() < LISTED {
            self.listed.push(finding);
        }
    }

    /// A finding that breaks an invariant, by its number.
    pub(super) fn violation(&mut self, number: u8, finding: Finding) {
        if let Some(violations) = self.violations.get_mut(usize::from(number) - 1) {
            *violations += 1;
        }
        self.add(Finding { invariant: Some(number), ..finding });
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn invariants(&self, checked: [u64; 5]) -> [InvariantReport; 5] {
        std::array::from_fn(|i| InvariantReport {
            number: i as u8 + 1,
            name: INVARIANTS[i],
            checked: checked[i],
            violations: self.violations[i],
        })
    }

    pub(super) fn listed(self) -> Vec<Finding> {
        self.listed
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.invariant {
            Some(number) => write!(f, "{} {number}: ", self.check)?,
            None => write!(f, "{}: ", self.check)?,
        }
        if let Some(operation) = self.operation {
            write!(f, "operation {operation}")?;
            if let Some(seq) = self.seq {
                write!(f, ", entry {seq}")?;
            }
            if let Some(position) = self.position {
                write!(f, " (position {position})")?;
            }
            write!(f, ": ")?;
        }
        f.write_str(&self.what)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "entries       {} of {} operations, each chain from its first",
            self.entries, self.operations
        )?;
        writeln!(f, "plans         {}", self.plans)?;
        if self.payloads + self.payloads_erased > 0 {
            writeln!(f, "payloads      {} as named, {} erased", self.payloads, self.payloads_erased)?;
        }
        writeln!(f, "heads         {} compared with the fold", self.heads)?;
        writeln!(f, "sessions      {} sums compared", self.sessions)?;
        writeln!(
            f,
            "archived      {} entries of {} operations",
            self.archived_entries, self.archived_operations
        )?;
        writeln!(f, "claims        {}", self.claims)?;
        writeln!(f, "checkpoints   {}", self.checkpoints)?;
        for invariant in &self.invariants {
            let InvariantReport { number, name, checked, violations } = invariant;
            let verdict = match violations {
                0 => "holds".to_owned(),
                n => format!("broken {n}x"),
            };
            writeln!(f, "invariant {number}   {verdict}, checked on {checked}: {name}")?;
        }
        match self.found {
            0 => writeln!(f, "\nnothing is wrong")?,
            n => writeln!(f, "\n{n} found:")?,
        }
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        let more = self.found.saturating_sub(self.findings.len() as u64);
        if more > 0 {
            writeln!(f, "  and {more} more")?;
        }
        write!(f, "\nwhat this cannot tell: {}", self.cannot_detect)
    }
}

impl fmt::Display for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, recomputed, signed, signatures_right, .. } = self;
        write!(
            f,
            "{count}, {recomputed} recomputed in full, {signed} signed, {signatures_right} signatures right; "
        )?;
        match self.last {
            Some(Noted { number, hash }) => write!(f, "the last is {number}:{hash}; ")?,
            None => f.write_str("there is none; ")?,
        }
        write!(f, "{} entries after it", self.entries_after)
    }
}
