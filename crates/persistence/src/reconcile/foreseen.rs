//! [`Foreseen`]: what tables and cache would hold after the repairs that a dry run only tells of. What comes after a
//! repair is compared with that, so a dry run finds what the repair would find.

use std::collections::{BTreeMap, BTreeSet};

use redress_types::IssueState;

use super::{Difference, compare};
use crate::issue::{Change, IssueRow, OpenIssues, ServiceKey, ServiceState, settled};
use crate::tables::{Look, ServiceLook};

/// What repairs would have written. Empty unless it is a dry run.
#[derive(Debug, Default)]
pub(super) struct Foreseen {
    issues: BTreeMap<String, IssueRow>,
    services: BTreeMap<ServiceKey, (ServiceState, OpenIssues)>,
    /// Keys of the cache that would be there again.
    keys: BTreeSet<String>,
}

impl Foreseen {
    /// What a look at the tables would show.
    pub(super) fn see(&self, change: &Change, mut look: Look) -> Look {
        if self.issues.is_empty() && self.services.is_empty() {
            return look;
        }
        for id in change.all_ids() {
            let Some(row) = self.issues.get(&id) else { continue };
            match look.issues.iter_mut().find(|there| there.id == id) {
                Some(there) => there.clone_from(row),
                None => look.issues.push(row.clone()),
            }
        }
        let names = |row: &ServiceState| change.earlier.iter().any(|id| row.issues.contains(id));
        for (key, (row, _)) in &self.services {
            if names(row) && !look.services.iter().any(|there| there.key == *key) {
                look.services.push(ServiceLook { key: key.clone(), row: None, open: OpenIssues::new() });
            }
        }
        for there in &mut look.services {
            if let Some((row, open)) = self.services.get(&there.key) {
                there.row = Some(row.clone());
                there.open.extend(open.clone());
            }
            there.open.retain(|id, _| !self.is_closed(id));
        }
        look
    }

    /// Does here what [`crate::Tables`] does with a change. `look`: as [`Self::see`] shows it.
    pub(super) fn apply(&mut self, change: &Change, look: Look) {
        let mut rows: BTreeMap<String, IssueRow> =
            look.issues.into_iter().map(|row| (row.id.clone(), row)).collect();
        for issue in &change.issues {
            let new = IssueRow { id: issue.id.clone(), state: IssueState::Open, alert_state: issue.born };
            rows.entry(issue.id.clone()).or_insert(new);
        }
        for row in rows.values_mut() {
            // An earlier run that was closed stays as it is.
            if row.state == IssueState::Closed && change.earlier.contains(&row.id) {
                continue;
            }
            row.alert_state = row.alert_state.forward(change.stage);
            if change.closes() {
                row.state = IssueState::Closed;
            }
        }
        let level = |id: &String| change.issues.iter().find(|issue| issue.id == *id);
        let is_open = |id: &String| rows.get(id).is_some_and(|row| row.state == IssueState::Open);
        let mut services = BTreeMap::new();
        for ServiceLook { key, row, mut open } in look.services {
            let new = change.services.get(&key);
            if row.is_none() && new.is_none() {
                continue;
            }
            let brought = new.into_iter().flat_map(|new| &new.issues).filter(|id| is_open(id));
            for issue in brought.filter_map(level) {
                // An issue that is there keeps its level.
                open.entry(issue.id.clone()).or_insert_with(|| issue.level.to_string());
            }
            open.retain(|id, _| !rows.get(id).is_some_and(|row| row.state == IssueState::Closed));
            let after = settled(row.as_ref(), &key, new, &open, change);
            services.insert(key, (after, open));
        }
        self.services.extend(services);
        self.issues.extend(rows);
    }

    /// As [`crate::Tables`] knows these ids, and whether each is closed.
    pub(super) fn know(&self, ids: &[String], known: &mut BTreeMap<String, bool>) {
        for row in ids.iter().filter_map(|id| self.issues.get(id)) {
            known.insert(row.id.clone(), row.state == IssueState::Closed);
        }
    }

    /// Notes the keys that a repair of these differences would make.
    pub(super) fn make(&mut self, found: &[Difference]) {
        let missing = found.iter().filter(|difference| difference.is == compare::NOTHING);
        self.keys.extend(missing.map(|difference| difference.what.clone()));
    }

    /// Whether a repair would have made this key.
    pub(super) fn makes(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    fn is_closed(&self, id: &str) -> bool {
        self.issues.get(id).is_some_and(|row| row.state == IssueState::Closed)
    }
}
