//! The outbox: what is due, and how its delivery went.

use std::collections::HashSet;

use redress_types::{OperationId, Timestamp};

use super::state::{Owed, Tables};
use crate::error::Error;
use crate::record::{OutboxDecision, OutboxOutcome, OutboxRequest, OutboxRow, OutboxSettled, OutboxState};
use crate::session::SessionId;

impl Tables {
    pub(super) fn outbox_due(&mut self, request: &OutboxRequest, log_now: Timestamp) -> Vec<OutboxRow> {
        let rows = || self.owed.iter().filter_map(|place| self.outbox.get(place));
        let is_taken = |owed: &&Owed| {
            owed.taken.is_some_and(|(by, until)| until > request.now && !self.is_over(by, log_now))
        };
        let mut seen: HashSet<&str> =
            rows().filter(is_taken).map(|owed| owed.row.order_key.as_str()).collect();
        let mut due = Vec::new();
        for Owed { row, .. } in rows().filter(|owed| owed.row.state == OutboxState::Owed) {
            // Also one that is not due yet, or for another engine, holds up those behind it.
            let first = seen.insert(row.order_key.as_str());
            if first && row.due_at <= request.now && request.executors.contains(&row.executor) {
                due.push((row.due_at, row.position, row.index));
            }
        }
        due.sort_unstable();
        let mut rows = Vec::with_capacity(due.len().min(request.limit));
        for (_, position, index) in due.into_iter().take(request.limit) {
            if let Some(owed) = self.outbox.get_mut(&(position, index)) {
                owed.taken = Some((request.session, request.until));
                rows.push(owed.row.clone());
            }
        }
        self.commits += u64::from(!rows.is_empty());
        rows
    }

    pub(super) fn outbox_settle(&mut self, session: SessionId, settled: OutboxSettled) -> Result<(), Error> {
        let place = (settled.position, settled.index);
        let what = || format!("outbox row {}.{}", place.0, place.1);
        let Some(owed) = self.outbox.get_mut(&place) else {
            return Err(Error::Unstorable { what: format!("there is no {}", what()) });
        };
        if is_settled_so(&owed.row, &settled.how) && owed.taken.is_none() {
            return Ok(());
        }
        if owed.row.state == OutboxState::Done {
            return Err(Error::DifferentContent { what: what() });
        }
        let has = owed.taken.is_some_and(|(by, _)| by == session);
        if !has && owed.row.state != OutboxState::Handed {
            return Err(Error::Stale { what: format!("the right to deliver {}", what()) });
        }
        owed.taken = None;
        owed.row.tries += 1;
        match settled.how {
            OutboxOutcome::Done => owed.row.state = OutboxState::Done,
            OutboxOutcome::Again { at, error } => {
                (owed.row.state, owed.row.due_at) = (OutboxState::Owed, at);
                owed.row.last_error = Some(error);
            }
            OutboxOutcome::Handed { error } => {
                owed.row.state = OutboxState::Handed;
                owed.row.last_error = Some(error);
            }
        }
        if owed.row.state == OutboxState::Done {
            self.owes_no_more(place);
        }
        self.commits += 1;
        self.woke = true;
        Ok(())
    }

    fn owes_no_more(&mut self, place: (u64, u32)) {
        self.owed.remove(&place);
        let id = self.outbox.get(&place).map(|owed| owed.row.operation);
        if let Some(row) = id.and_then(|id| self.operations.get_mut(&id)) {
            row.head.owed = row.head.owed.saturating_sub(1);
        }
    }

    pub(super) fn outbox_decide(&mut self, decision: &OutboxDecision) -> Result<OutboxRow, Error> {
        let place = (decision.position, decision.index);
        let Some(owed) = self.outbox.get_mut(&place) else {
            return Err(Error::Unstorable {
                what: format!("there is no outbox row {}.{}", place.0, place.1),
            });
        };
        let Some(after) = decision.carry_out(&owed.row)? else { return Ok(owed.row.clone()) };
        owed.row = after.clone();
        if after.state == OutboxState::Closed {
            owed.taken = None;
            self.owes_no_more(place);
        }
        self.commits += 1;
        self.woke = true;
        Ok(after)
    }

    pub(super) fn outbox_owed(&self, limit: usize) -> Vec<OutboxRow> {
        let rows = self.owed.iter().take(limit).filter_map(|place| self.outbox.get(place));
        rows.map(|owed| owed.row.clone()).collect()
    }

    pub(super) fn outbox_of(&self, id: OperationId) -> Vec<OutboxRow> {
        let Some(row) = self.operations.get(&id) else { return Vec::new() };
        let places = row.entries.iter().map(|entry| entry.position);
        let rows = places.flat_map(|position| self.outbox.range((position, 0)..=(position, u32::MAX)));
        rows.map(|(_, owed)| owed.row.clone()).collect()
    }
}

/// Whether a row stands as this outcome left it: then the answer was lost, and it is said again.
fn is_settled_so(row: &OutboxRow, how: &OutboxOutcome) -> bool {
    match how {
        OutboxOutcome::Done => row.state == OutboxState::Done,
        OutboxOutcome::Again { at, error } => {
            row.state == OutboxState::Owed && row.due_at == *at && row.last_error.as_ref() == Some(error)
        }
        OutboxOutcome::Handed { error } => {
            row.state == OutboxState::Handed && row.last_error.as_ref() == Some(error)
        }
    }
}
