//! Walks through the index sets and takes out what belongs to nothing: ids that are no issue, keys without a value,
//! issues in another service's set. What is somebody else's issue is left to him.

use redress_types::AlertId;
use strum::IntoEnumIterator;

use super::compare::differs;
use super::{Place, Report, Work};
use crate::cache::Cache;
use crate::cache::entry::{OPEN, TTL, alert_state_set, health_set, open_of_service};
use crate::error::Error;
use crate::issue::{AlertState, Health};
use crate::text::storable;

pub(super) async fn run(work: &Work<'_>, cache: &Cache, report: &mut Report) -> Result<(), Error> {
    let mut sets: Vec<String> = vec![OPEN.to_owned()];
    sets.extend(AlertState::iter().map(alert_state_set));
    for set in &sets {
        issues(work, cache, set, None, report).await?;
    }
    let mut from = "0".to_owned();
    loop {
        let (next, found) = cache.keys_like("alert:index:svc:*:open", &from).await?;
        for set in &found {
            let service = set.strip_prefix("alert:index:svc:").and_then(|rest| rest.strip_suffix(":open"));
            issues(work, cache, set, service, report).await?;
        }
        if next == "0" {
            break;
        }
        from = next;
    }
    for health in Health::iter() {
        services(work, cache, &health_set(health), report).await?;
    }
    Ok(())
}

/// Trims a set of issue ids; `service`: whose open issues it holds.
async fn issues(
    work: &Work<'_>,
    cache: &Cache,
    set: &str,
    service: Option<&str>,
    report: &mut Report,
) -> Result<(), Error> {
    let mut from = "0".to_owned();
    loop {
        let (next, ids) = cache.members(set, &from).await?;
        let mut known = work.parts.tables.known(&ids).await?;
        work.foreseen.know(&ids, &mut known);
        for id in &ids {
            let Some(closed) = known.get(id) else {
                take_out(work, cache, set, id, "no issue of this id", report).await?;
                continue;
            };
            if *closed
                && is_over(work, id).await?
                && !is_there(work, cache, &format!("alert:issue:{id}")).await?
            {
                take_out(work, cache, set, id, "a closed issue whose value has expired", report).await?;
            } else if let Some(service) = service
                && is_elsewhere(work, id, service).await?
            {
                take_out(work, cache, set, id, "an issue of another service", report).await?;
            }
        }
        if next == "0" {
            return Ok(());
        }
        from = next;
    }
}

/// Whether the cache has this key, or a dry run told before that it would be made.
async fn is_there(work: &Work<'_>, cache: &Cache, key: &str) -> Result<bool, Error> {
    Ok(work.foreseen.makes(key) || cache.is_there(key).await?)
}

/// Whether its value may have expired: what came lately is compared, and recreated, with its operation.
async fn is_over(work: &Work<'_>, id: &str) -> Result<bool, Error> {
    let Ok(id) = id.parse::<AlertId>() else { return Ok(true) };
    let record = work.parts.history.alert(&id).await?;
    Ok(record.is_none_or(|record| work.now.since(record.first_seen) >= TTL))
}

/// Whether our log says that this alert is about another service.
async fn is_elsewhere(work: &Work<'_>, id: &str, service: &str) -> Result<bool, Error> {
    let Ok(id) = id.parse::<AlertId>() else { return Ok(false) };
    let record = work.parts.history.alert(&id).await?;
    Ok(record.is_some_and(|record| open_of_service(&storable(&record.service)) != open_of_service(service)))
}

/// Trims a set of service state keys.
async fn services(work: &Work<'_>, cache: &Cache, set: &str, report: &mut Report) -> Result<(), Error> {
    let mut from = "0".to_owned();
    loop {
        let (next, keys) = cache.members(set, &from).await?;
        for key in &keys {
            if !is_there(work, cache, key).await? {
                take_out(work, cache, set, key, "no value under this key", report).await?;
            }
        }
        if next == "0" {
            return Ok(());
        }
        from = next;
    }
}

async fn take_out(
    work: &Work<'_>,
    cache: &Cache,
    set: &str,
    member: &str,
    why: &str,
    report: &mut Report,
) -> Result<(), Error> {
    let mut difference = differs(Place::Cache, format!("{set} {member}"), why, "no member");
    if !work.dry_run {
        cache.remove(set, member).await?;
        difference.repaired = true;
    }
    report.add(vec![difference]);
    Ok(())
}
