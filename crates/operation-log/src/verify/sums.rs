//! What the sessions, the archive and the checkpoints say was appended, against what is there.

use std::collections::{BTreeMap, BTreeSet};

use redress_types::Hash;

use super::report::{Check, Checkpoints, Finding, Findings, Noted};
use super::{Options, checkpoint};
use crate::entry::StoredEntry;
use crate::record::{Audit, Checkpoint, Sum};
use crate::session::SessionId;

/// What was counted while the entries came by.
pub(super) struct Sums {
    all: Sum,
    by_session: BTreeMap<SessionId, Sum>,
    /// Positions of checkpoints, highest first: the next one to come by is the last.
    marks: Vec<u64>,
    /// What stood at and below each of those positions.
    at: BTreeMap<u64, Sum>,
    recomputed: u64,
    signatures_right: u64,
}

impl Sums {
    pub(super) fn over(audit: &Audit) -> Self {
        let mut marks: Vec<u64> = audit.checkpoints.iter().map(|checkpoint| checkpoint.position).collect();
        marks.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            all: Sum::default(),
            by_session: BTreeMap::new(),
            marks,
            at: BTreeMap::new(),
            recomputed: 0,
            signatures_right: 0,
        }
    }

    /// Counts an entry; `session` is the one its bytes name, when they can be read.
    pub(super) fn take(&mut self, stored: &StoredEntry, session: Option<SessionId>) {
        while let Some(mark) = self.marks.pop_if(|mark| *mark < stored.position) {
            self.at.insert(mark, self.all.clone());
        }
        add(&mut self.all, stored);
        if let Some(session) = session {
            add(self.by_session.entry(session).or_default(), stored);
        }
    }

    /// Compares with what sessions and checkpoints say.
    pub(super) fn compare(&mut self, audit: &Audit, options: &Options, findings: &mut Findings) {
        for mark in std::mem::take(&mut self.marks) {
            self.at.insert(mark, self.all.clone());
        }
        self.compare_sessions(audit, findings);
        let mut before = None;
        for given in &audit.checkpoints {
            self.compare_checkpoint(given, before, audit, options, findings);
            before = Some(given);
        }
        if let Some((number, hash)) = options.expect {
            let what = match audit.checkpoints.iter().find(|given| given.number == number) {
                Some(given) if given.hash == hash => return,
                Some(given) => {
                    format!("checkpoint {number} has the hash {}, {hash} was expected", given.hash)
                }
                None => format!("checkpoint {number}, noted with the hash {hash}, is not there"),
            };
            findings.add(Finding::new(Check::Checkpoints, what));
        }
    }

    fn compare_sessions(&self, audit: &Audit, findings: &mut Findings) {
        let before = findings.count();
        let nothing = Sum::default();
        // What was archived is summed over all sessions: with it, one session may only have too much.
        let whole = audit.archived.entries == 0 && audit.archived.operations == 0;
        for says in &audit.sums {
            let found = self.by_session.get(&says.session).unwrap_or(&nothing);
            let more = found.entries > says.entries || found.operations > says.operations;
            if (whole && !same(found, says)) || more {
                findings.add(Finding::new(
                    Check::Sums,
                    format!("session {}: {}", says.session, told_apart(found, says)),
                ));
            }
        }
        let known: BTreeSet<SessionId> = audit.sums.iter().map(|says| says.session).collect();
        for session in self.by_session.keys() {
            if !known.contains(session) {
                let what = format!("session {session} has entries but no sum");
                findings.add(Finding::new(Check::Sums, what));
            }
        }
        let mut found = self.all.clone();
        merge(&mut found, &audit.archived);
        let mut says = Sum::default();
        audit.sums.iter().for_each(|sum| merge(&mut says, sum));
        if !same(&found, &says) && findings.count() == before {
            let what = format!("log and archive together: {}", told_apart(&found, &says));
            findings.add(Finding::new(Check::Sums, what));
        }
    }

    fn compare_checkpoint(
        &mut self,
        given: &Checkpoint,
        before: Option<&Checkpoint>,
        audit: &Audit,
        options: &Options,
        findings: &mut Findings,
    ) {
        let number = given.number;
        let mut found = |what: String| {
            findings.add(Finding::new(Check::Checkpoints, format!("checkpoint {number}: {what}")));
        };
        let (last, previous) = before.map_or((0, Hash::ZERO), |before| (before.number, before.hash));
        if number != last + 1 {
            found(format!("it follows checkpoint {last}"));
        }
        if given.previous != previous {
            found(format!("it names {} as the one before, which has {previous}", given.previous));
        }
        if let Some(before) = before
            && (given.position < before.position
                || given.entries < before.entries
                || given.operations < before.operations)
        {
            found("it covers less than the one before".into());
        }
        let hash = checkpoint::hash(given);
        if hash != given.hash {
            found(format!("it was changed: its hash is {hash}, it says {}", given.hash));
        }
        match (&options.key, &given.signature) {
            (None, _) => {}
            (Some(_), None) => found("it is not signed".into()),
            (Some(key), Some(signature)) if checkpoint::is_signed(key, &given.hash, signature) => {
                self.signatures_right += 1;
            }
            (Some(_), Some(_)) => found("its signature is not of this key".into()),
        }
        match self.recompute(given, audit) {
            Ok(in_full) => self.recomputed += u64::from(in_full),
            Err(what) => found(what),
        }
    }

    /// Whether the entries that are still there (and what was archived) can have stood as the checkpoint says.
    /// Answers whether that could be told in full: archived entries are not told apart by position.
    fn recompute(&self, given: &Checkpoint, audit: &Audit) -> Result<bool, String> {
        if given.position > audit.position {
            let (covers, last) = (given.position, audit.position);
            return Err(format!("it covers position {covers}; the log has given out {last}"));
        }
        let nothing = Sum::default();
        let here = self.at.get(&given.position).unwrap_or(&nothing);
        let mut most = here.clone();
        merge(&mut most, &audit.archived);
        let says = Sum {
            session: SessionId::default(),
            entries: given.entries,
            operations: given.operations,
            digest: given.digest,
        };
        // With as many entries as are here, or as many as can have been, the digest has one possible value.
        for possible in [here, &most] {
            if says.entries == possible.entries {
                return if same(possible, &says) { Ok(true) } else { Err(told_apart(possible, &says)) };
            }
        }
        if says.entries < here.entries {
            return Err(told_apart(here, &says));
        }
        if says.entries > most.entries || says.operations > most.operations {
            return Err(told_apart(&most, &says));
        }
        Ok(false)
    }

    /// What the report says of the checkpoints.
    pub(super) fn noted(&self, audit: &Audit) -> Checkpoints {
        let last = audit.checkpoints.last();
        let covered = last.and_then(|last| self.at.get(&last.position)).map_or(0, |sum| sum.entries);
        Checkpoints {
            count: audit.checkpoints.len() as u64,
            recomputed: self.recomputed,
            signed: audit.checkpoints.iter().filter(|given| given.signature.is_some()).count() as u64,
            signatures_right: self.signatures_right,
            last: last.map(|last| Noted { number: last.number, hash: last.hash }),
            entries_after: self.all.entries - covered,
        }
    }
}

fn add(sum: &mut Sum, stored: &StoredEntry) {
    sum.entries += 1;
    sum.operations += u64::from(stored.seq == 1);
    sum.digest.combine(&stored.hash);
}

fn merge(sum: &mut Sum, other: &Sum) {
    sum.entries = sum.entries.saturating_add(other.entries);
    sum.operations = sum.operations.saturating_add(other.operations);
    sum.digest.combine(&other.digest);
}

fn same(a: &Sum, b: &Sum) -> bool {
    (a.entries, a.operations, a.digest) == (b.entries, b.operations, b.digest)
}

/// How what is there differs from what was said: misses, has too many, or has others.
fn told_apart(found: &Sum, says: &Sum) -> String {
    let mut parts = Vec::new();
    for (what, found, says) in
        [("entries", found.entries, says.entries), ("operations", found.operations, says.operations)]
    {
        if found < says {
            parts.push(format!("{} of {says} {what} are missing", says - found));
        }
        if found > says {
            parts.push(format!("{found} {what} are there, {} too many", found - says));
        }
    }
    if parts.is_empty() {
        let entries = found.entries;
        return format!("{entries} entries are there, as many as were appended, but not the same");
    }
    parts.join(", ")
}
