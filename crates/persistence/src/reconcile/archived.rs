//! Recreates keys that the tables still ask for, of operations that the log has no more: service states, and open
//! issues. That they were ours the log knows of their alerts, whose ids it keeps for ever. What is closed is left out:
//! its value would soon expire.

use std::collections::BTreeMap;

use redress_types::{Alert, AlertId, Issue, IssueState, Timestamp};

use super::compare;
use super::{Difference, Report, Work, waiting};
use crate::cache::entry::{IssueEntry, ServiceEntry};
use crate::cache::{Cache, Inspected, Seen};
use crate::error::Error;
use crate::issue::{AlertState, Change, IssueRow, NewService, ServiceKey};
use crate::read::Cursor;

/// Rows read at once.
const PAGE: i64 = 500;
/// How many alerts of a service state are looked up, the last ones first, to know whether it is ours.
const ALERTS_MAX: usize = 100;
/// The version of these keys: below every position of the log, so that whoever has something to say of them may.
const VERSION: u64 = 0;

pub(super) async fn run(work: &mut Work<'_>, cache: &Cache, report: &mut Report) -> Result<(), Error> {
    let mut after: Option<ServiceKey> = None;
    loop {
        let keys = work.parts.tables.service_keys(after.as_ref(), PAGE).await?;
        services(work, cache, &keys, report).await?;
        after = keys.into_iter().next_back();
        if after.is_none() {
            break;
        }
    }
    let mut after: Option<Cursor> = None;
    loop {
        let open = Some(<&str>::from(IssueState::Open));
        let rows = work.parts.tables.issues(open, after.as_ref(), PAGE).await?;
        for row in &rows {
            issue(work, cache, row, report).await?;
        }
        after = rows.last().map(Cursor::of);
        if after.is_none() {
            return Ok(());
        }
    }
}

async fn services(
    work: &mut Work<'_>,
    cache: &Cache,
    keys: &[ServiceKey],
    report: &mut Report,
) -> Result<(), Error> {
    let mut missing = Vec::new();
    for key in keys {
        if !is_there(work, cache, &ServiceEntry::keys_of(key)).await? {
            missing.push(key);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    // Read after the cache was asked: what is not there yet may be on its way.
    let waiting = waiting(&*work.parts.history).await?;
    for key in missing {
        if waiting.tables.contains(&key.service) || waiting.cache.contains(&key.service) {
            work.skipped += 1;
            continue;
        }
        // The cache, then the tables: whoever writes after that leaves a version, and nothing is written here.
        let keys = ServiceEntry::keys_of(key);
        let seen = cache.inspect(keys.clone(), &keys[0]).await?;
        let look = match work.parts.tables.look(&about(key)).await {
            // A row that no program of ours wrote.
            Err(Error::Refused { .. }) => continue,
            look => look?,
        };
        let Some(row) = look.services.into_iter().find_map(|service| service.row) else { continue };
        if row.health.is_none() || seen.value.is_some() || !is_ours(work, &row.issues).await? {
            continue;
        }
        let entry = ServiceEntry::of(&row);
        let mut found = compare::service(&entry, &seen);
        if !work.dry_run {
            cache.write_service(&entry, VERSION, Some(seen_as(&seen))).await?;
            let now = cache.inspect(keys.clone(), &keys[0]).await?;
            settle(&mut found, now.value.is_some());
        }
        tell(work, report, found);
    }
    Ok(())
}

async fn issue(work: &mut Work<'_>, cache: &Cache, row: &Issue, report: &mut Report) -> Result<(), Error> {
    let key = format!("alert:issue:{}", row.id);
    if work.foreseen.makes(&key) || cache.is_there(&key).await? {
        return Ok(());
    }
    let Some((alert, _)) = archived(work, row).await? else { return Ok(()) };
    let probe = IssueEntry::new(&alert, IssueState::Open, AlertState::Pending);
    let seen = cache.inspect(probe.keys(), &probe.id).await?;
    // As it is now: the page may be old.
    let Some((now, _)) = work.parts.tables.issue(&row.id).await? else { return Ok(()) };
    let Some((alert, now)) = archived(work, &now).await? else { return Ok(()) };
    if seen.value.is_some() || now.state == IssueState::Closed {
        return Ok(());
    }
    let entry = IssueEntry::of(&alert, &now);
    let mut found = compare::issue(&entry, &seen, false);
    if !work.dry_run {
        cache.repair_issue(&entry, VERSION, seen_as(&seen)).await?;
        settle(&mut found, cache.is_there(&key).await?);
    }
    tell(work, report, found);
    Ok(())
}

fn seen_as(seen: &Inspected) -> Seen<'_> {
    // A version without its value belongs to nothing.
    Seen { version: seen.version.as_deref(), foreign: seen.version.is_some() }
}

fn settle(found: &mut [Difference], repaired: bool) {
    found.iter_mut().for_each(|difference| difference.repaired = repaired);
}

fn tell(work: &mut Work<'_>, report: &mut Report, found: Vec<Difference>) {
    if work.dry_run {
        work.foreseen.make(&found);
    }
    report.add(found);
}

async fn is_there(work: &Work<'_>, cache: &Cache, keys: &[String]) -> Result<bool, Error> {
    let Some(key) = keys.first() else { return Ok(true) };
    Ok(work.foreseen.makes(key) || cache.is_there(key).await?)
}

/// A change of nothing, to look at one service state.
fn about(key: &ServiceKey) -> Change {
    let new = NewService { issues: Vec::new(), report_at: Timestamp::MAX };
    let services = BTreeMap::from([(key.clone(), new)]);
    Change { services, ..crate::facts::change_of(&[], AlertState::Pending, Timestamp::MIN) }
}

/// Whether one of these alerts was ever ours.
async fn is_ours(work: &Work<'_>, issues: &[String]) -> Result<bool, Error> {
    for id in issues.iter().rev().take(ALERTS_MAX) {
        if let Ok(id) = id.parse::<AlertId>()
            && work.parts.history.alert(&id).await?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// An alert of an archived operation, as its row and its record tell of it; `None`: it is none, or its words are not
/// ours.
async fn archived(work: &Work<'_>, row: &Issue) -> Result<Option<(Alert, IssueRow)>, Error> {
    let Ok(id) = row.id.parse::<AlertId>() else { return Ok(None) };
    let Some(record) = work.parts.history.alert(&id).await? else { return Ok(None) };
    let (Ok(state), Ok(alert_state), Ok(level)) =
        (row.state.parse(), row.alert_state.parse(), row.level.parse())
    else {
        return Ok(None);
    };
    if record.outcome.is_none() {
        return Ok(None);
    }
    let mut alert = Alert::new(id, &record.service, &row.title, row.alert_since);
    (alert.fingerprint, alert.level) = (record.fingerprint, level);
    for label in row.labels.as_array().into_iter().flatten() {
        let text = |of: &str| label.get(of).and_then(|text| text.as_str()).unwrap_or_default().to_owned();
        alert.labels.insert(text("key"), text("value"));
    }
    Ok(Some((alert, IssueRow { id: row.id.clone(), state, alert_state })))
}
