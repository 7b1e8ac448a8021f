//! What readers see.

use redress_types::OperationId;

use super::state::Tables;
use crate::entry::StoredEntry;
use crate::record::{AlertRecord, Cursor, Filter, Head, InboxRow, Page};

impl Tables {
    pub(super) fn find(&self, text: &str, limit: usize) -> Vec<Head> {
        let text = text.to_lowercase();
        let matches = |whole: &str| whole.starts_with(&text) || whole.ends_with(&text);
        let newest = self.begun.values().rev().filter_map(|id| self.operations.get(id));
        newest
            .map(|row| &row.head)
            .filter(|head| matches(&head.id.to_string()) || matches(&head.name.to_lowercase()))
            .take(limit)
            .cloned()
            .collect()
    }

    pub(super) fn list(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Page {
        let end = after.map_or(u64::MAX, |cursor| cursor.0);
        let shown = |head: &Head| {
            (filter.states.is_empty() || filter.states.contains(&head.state))
                && filter.service.as_ref().is_none_or(|service| head.target.service == *service)
                && filter.since.is_none_or(|since| head.accepted_at >= since)
        };
        let newest = self.begun.range(..end).rev().filter_map(|(_, id)| self.operations.get(id));
        let mut found = newest.map(|row| &row.head).filter(|head| shown(head));
        let operations: Vec<Head> = found.by_ref().take(limit).cloned().collect();
        let more = found.next().is_some();
        let next = operations.last().filter(|_| more).map(|head| Cursor(head.position));
        Page { operations, next }
    }

    pub(super) fn entries(&self, id: OperationId, after: u64, limit: usize) -> Vec<StoredEntry> {
        let Some(row) = self.operations.get(&id) else { return Vec::new() };
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        row.entries.iter().skip(after).take(limit).cloned().collect()
    }

    pub(super) fn follow(&self, after: u64, limit: usize) -> Vec<StoredEntry> {
        let Some(first) = after.checked_add(1) else { return Vec::new() };
        let places = self.positions.range(first..).take(limit);
        places
            .filter_map(|(_, (id, seq))| {
                let row = self.operations.get(id)?;
                row.entries.get(usize::try_from(seq - 1).ok()?).cloned()
            })
            .collect()
    }

    pub(super) fn alerts_of(&self, id: OperationId) -> Vec<AlertRecord> {
        let ids = self.alerts_of.get(&id).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| self.alerts.get(id)).cloned().collect()
    }

    pub(super) fn inbox_after(&self, id: OperationId, after: u64) -> Vec<InboxRow> {
        let rows = self.operations.get(&id).map(|row| row.inbox.as_slice()).unwrap_or_default();
        rows.iter().filter(|row| row.seq > after).cloned().collect()
    }
}
