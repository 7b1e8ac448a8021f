//! The outbox: what is due, and how its delivery went.

use std::collections::HashSet;

use redress_types::{OperationId, Timestamp};

use super::state::Tables;
use crate::error::Error;
use crate::record::{OutboxOutcome, OutboxRow, OutboxSettled, OutboxState};
use crate::session::SessionId;

impl Tables {
    pub(super) fn outbox_due(
        &mut self,
        session: SessionId,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
        log_now: Timestamp,
    ) -> Vec<OutboxRow> {
        let mut seen = HashSet::new();
        let mut due = Vec::new();
        for (place, owed) in &self.outbox {
            if due.len() == limit {
                break;
            }
            // Also one that is not due yet, or that somebody has, holds up those behind it.
            if owed.row.state != OutboxState::Owed || !seen.insert(owed.row.order_key.as_str()) {
                continue;
            }
            let free = owed.taken.is_none_or(|(by, until)| until <= now || self.is_over(by, log_now));
            if owed.row.due_at <= now && free {
                due.push(*place);
            }
        }
        let mut rows = Vec::with_capacity(due.len());
        for place in due {
            if let Some(owed) = self.outbox.get_mut(&place) {
                owed.taken = Some((session, until));
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
        if owed.row.state == OutboxState::Owed && owed.taken.is_none_or(|(by, _)| by != session) {
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
        let (id, done) = (owed.row.operation, owed.row.state == OutboxState::Done);
        if let (Some(row), true) = (self.operations.get_mut(&id), done) {
            row.head.owed = row.head.owed.saturating_sub(1);
        }
        self.commits += 1;
        self.woke = true;
        Ok(())
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
