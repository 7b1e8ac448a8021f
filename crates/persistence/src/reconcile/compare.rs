//! What differs between what must stand and what stands. Pure: rows in, differences out.

use std::collections::BTreeMap;

use redress_types::{IssueState, Timestamp};

use crate::cache::Inspected;
use crate::cache::entry::{IssueEntry, ServiceEntry};
use crate::issue::{Change, IssueRow, ServiceState, settled};
use crate::tables::Look;
use crate::text::column_of;

use super::{Difference, Place};

pub(super) const NOTHING: &str = "nothing";
const SECOND_MICROS: u64 = 1_000_000;

pub(super) fn differs(
    place: Place,
    what: String,
    is: impl std::fmt::Display,
    should_be: impl std::fmt::Display,
) -> Difference {
    Difference { place, what, is: is.to_string(), should_be: should_be.to_string(), repaired: false }
}

/// The rows of an operation. Further along than the log says is no difference: others close issues too, and
/// nothing moves back.
pub(crate) fn tables(change: &Change, look: &Look, services: impl Fn(&str) -> bool) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut add = |what, is: &str, should_be: &str| found.push(differs(Place::Tables, what, is, should_be));
    let rows: BTreeMap<&str, &IssueRow> = look.issues.iter().map(|row| (row.id.as_str(), row)).collect();
    for issue in &change.issues {
        let what = |of: &str| format!("alert_issues {}{of}", issue.id);
        let Some(row) = rows.get(issue.id.as_str()) else {
            add(what(""), NOTHING, change.stage.into());
            continue;
        };
        let alert_state = row.alert_state.forward(change.stage);
        if alert_state != row.alert_state {
            add(what(" alert_state"), row.alert_state.into(), alert_state.into());
        }
        if change.closes() && row.state != IssueState::Closed {
            add(what(" state"), row.state.into(), IssueState::Closed.into());
        }
        if let Some(comment) = &change.comment
            && !look.comments.get(&issue.id).is_some_and(|there| there.has(comment))
        {
            add(format!("alert_issue_comments of {}", issue.id), NOTHING, "the comment on its end");
        }
    }
    for id in &change.earlier {
        if rows.get(id.as_str()).is_some_and(|row| row.state == IssueState::Open) {
            add(format!("alert_issues {id} state"), "Open", "Closed, with the later run of its alert");
        }
    }
    for service in look.services.iter().filter(|service| services(&service.key.service)) {
        let what = |of: &str| format!("service_states {}{of}", service.key);
        let Some(row) = &service.row else {
            add(what(""), NOTHING, "a row");
            continue;
        };
        let after =
            settled(Some(row), &service.key, change.services.get(&service.key), &service.open, change);
        if row.health != after.health {
            let word = |state: &ServiceState| state.health.map_or("no word of ours", <&str>::from);
            add(what(" health_state"), word(row), word(&after));
        }
        if !is_same_time(row.resolved_at, after.resolved_at) {
            let word = |state: &ServiceState| state.resolved_at.map_or("null".to_owned(), column_of);
            add(what(" resolved_at"), &word(row), &word(&after));
        }
        // What it lacks was added at the end.
        let lacks: Vec<&str> = after.issues.iter().skip(row.issues.len()).map(String::as_str).collect();
        if !lacks.is_empty() {
            add(what(" alert_issue_ids"), "without them", &lacks.join(", "));
        }
    }
    found
}

/// Whether it is the same time, as far as a column tells: one of somebody else's may hold whole seconds.
fn is_same_time(one: Option<Timestamp>, other: Option<Timestamp>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.as_micros().abs_diff(other.as_micros()) < SECOND_MICROS,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// An issue in the cache. `expired`: its value may be gone, and where it is closed its places with it.
pub(super) fn issue(entry: &IssueEntry, found: &Inspected, expired: bool) -> Vec<Difference> {
    let mut differences = Vec::new();
    let key = entry.key();
    match &found.value {
        None if expired && !entry.is_open() => {
            let none = vec![false; found.places.len()];
            places(&entry.keys(), &entry.id, &found.places, &none, &mut differences);
            return differences;
        }
        None => differences.push(differs(Place::Cache, key, NOTHING, &entry.json)),
        Some(value) if *value != entry.json => {
            differences.push(differs(Place::Cache, key, value, &entry.json));
        }
        Some(_) => {}
    }
    places(&entry.keys(), &entry.id, &found.places, &entry.places(), &mut differences);
    differences
}

/// A service state in the cache.
pub(super) fn service(entry: &ServiceEntry, found: &Inspected) -> Vec<Difference> {
    let mut differences = Vec::new();
    let key = entry.key();
    let value = found.value.as_deref().unwrap_or(NOTHING);
    if value != entry.json {
        differences.push(differs(Place::Cache, key.to_owned(), value, &entry.json));
    }
    places(&entry.keys(), key, &found.places, &entry.places(), &mut differences);
    differences
}

fn places(keys: &[String], member: &str, is: &[bool], should_be: &[bool], differences: &mut Vec<Difference>) {
    let word = |there: bool| if there { "a member" } else { "no member" };
    for (set, (is, should_be)) in keys.iter().skip(2).zip(is.iter().zip(should_be)) {
        if is != should_be {
            let what = format!("{set} {member}");
            differences.push(differs(Place::Cache, what, word(*is), word(*should_be)));
        }
    }
}

/// The rows that a look shows, as a standing.
pub(crate) fn rows(look: Look) -> (Vec<IssueRow>, Vec<ServiceState>) {
    (look.issues, look.services.into_iter().filter_map(|service| service.row).collect())
}
