//! Checkpoints, the verifier's view, and the way out for what has ended.

use redress_types::{Hash, OperationId, Timestamp};

use super::state::Tables;
use crate::error::Error;
use crate::record::{Archived, Audit, Checkpoint, Head, Outcome};

impl Tables {
    pub(super) fn checkpoint(&mut self, now: Timestamp, key: Option<&[u8]>) -> Checkpoint {
        let sums = self.sessions.values().map(|session| &session.sum);
        let next = Checkpoint::seal(self.checkpoints.last(), self.position, sums, now, key);
        self.checkpoints.push(next.clone());
        self.commits += 1;
        next
    }

    pub(super) fn audit(&self) -> Audit {
        let heads = self.begun.values().filter_map(|id| self.operations.get(id)).map(|row| row.head.clone());
        let mut claims: Vec<_> = self.claims.iter().map(|(claim, id)| (claim.clone(), *id)).collect();
        claims.sort_unstable();
        let lost = self.alerts.values().filter(|record| record.outcome.is_none());
        let lost = lost.filter(|record| !self.operations.contains_key(&record.operation));
        let mut orphans: Vec<_> = lost.map(|record| record.id.clone()).collect();
        orphans.sort_unstable();
        Audit {
            heads: heads.collect(),
            sums: self.sessions.values().map(|session| session.sum.clone()).collect(),
            archived: self.archived.clone(),
            checkpoints: self.checkpoints.clone(),
            claims,
            orphans,
            position: self.position,
        }
    }

    pub(super) fn archivable(&self, before: Timestamp, limit: usize) -> Vec<Archived> {
        let mut ended: Vec<_> = self
            .operations
            .values()
            .filter_map(|row| row.head.ended_at.map(|at| (at, row)))
            // What still owes the world something stays, whatever its age.
            .filter(|(at, row)| *at < before && row.head.owed == 0)
            .collect();
        ended.sort_unstable_by_key(|(at, row)| (*at, row.head.position));
        let rows = ended.into_iter().take(limit).map(|(_, row)| row);
        rows.map(|row| Archived {
            head: row.head.clone(),
            entries: row.entries.clone(),
            plan: row.head.plan.and_then(|hash| self.plans.get(&hash).cloned()),
        })
        .collect()
    }

    pub(super) fn remove_archived(&mut self, archived: &[(OperationId, Hash)]) -> u64 {
        let mut removed = 0;
        for (id, hash) in archived {
            let is_same = |head: &Head| head.ended_at.is_some() && head.hash == *hash && head.owed == 0;
            if self.operations.get(id).is_some_and(|row| is_same(&row.head)) {
                self.remove(*id);
                removed += 1;
            }
        }
        self.commits += u64::from(removed > 0);
        removed
    }

    pub(super) fn erase_payloads(&mut self, id: OperationId) -> Result<u64, Error> {
        let row = self.operations.get_mut(&id).ok_or(Error::NotFound(id))?;
        if row.head.ended_at.is_none() {
            let what = format!("operation {id} has not ended: its payloads are erased only after that");
            return Err(Error::Unstorable { what });
        }
        let erased = std::mem::take(&mut row.payloads).len() as u64;
        self.commits += u64::from(erased > 0);
        Ok(erased)
    }

    fn remove(&mut self, id: OperationId) {
        let Some(row) = self.operations.remove(&id) else { return };
        let head = row.head;
        self.begun.remove(&head.position);
        self.archived.operations += 1;
        for entry in &row.entries {
            self.positions.remove(&entry.position);
            self.outbox.retain(|(position, _), _| *position != entry.position);
            self.archived.entries += 1;
            self.archived.digest.combine(&entry.hash);
        }
        let outcome = head.ended_at.map(|ended_at| Outcome { state: head.state, ended_at, hash: head.hash });
        for alert in self.alerts_of.get(&id).into_iter().flatten() {
            if let Some(record) = self.alerts.get_mut(alert) {
                record.outcome.clone_from(&outcome);
            }
        }
    }
}
