//! Compares what one operation says with its rows and keys, and repairs them.

use std::collections::BTreeMap;
use std::sync::Arc;

use redress_operation_log::OperationHistory;
use redress_types::{IssueState, OperationId, Timestamp};

use super::{Difference, Report, Waiting, Work, compare, is_settled, unavailable, waiting};
use crate::cache::entry::{IssueEntry, ServiceEntry, TTL, version};
use crate::cache::{Cache, Inspected, Seen, Written};
use crate::error::Error;
use crate::facts::{self, Fact, Facts};
use crate::issue::{Change, IssueRow, ServiceKey, ServiceState};
use crate::obligations::{CACHE_EXECUTOR, TABLES_EXECUTOR};
use crate::tables::Look;

/// How what differs of comments begins.
const COMMENTS: &str = "alert_issue_comments";

/// Compares the rows of one operation, and repairs what differs. Answers whether something was repaired; in a dry run,
/// whether it would be.
pub(super) async fn in_tables(
    work: &mut Work<'_>,
    report: &mut Report,
    id: OperationId,
) -> Result<bool, Error> {
    let Some(subject) = Subject::read(work, id, Round::Look).await? else { return Ok(false) };
    report.issues += subject.change.issues.len() as u64;
    if subject.in_tables(work).await?.is_empty() {
        return Ok(false);
    }
    // The engine may have been between two rows: what still differs does.
    let Some(mut subject) = Subject::read(work, id, Round::Tell).await? else { return Ok(false) };
    let mut found = subject.in_tables(work).await?;
    let mut moved = false;
    if !found.is_empty() && work.dry_run {
        let look = subject.look(work).await?;
        work.foreseen.apply(&subject.change, look);
        // Comments are not foreseen, and nothing follows from them.
        moved = !found.iter().all(|difference| difference.what.starts_with(COMMENTS));
    } else if !found.is_empty() {
        // A comment that somebody rewrote is there, and is not written beside itself.
        if !found.iter().any(|difference| difference.what.starts_with(COMMENTS)) {
            subject.change.comment = None;
        }
        work.parts.tables.apply(&subject.change).await?;
        let left = subject.in_tables(work).await?;
        for difference in &mut found {
            difference.repaired = !left.iter().any(|left| left.what == difference.what);
            moved |= difference.repaired;
        }
    }
    report.add(found);
    Ok(moved)
}

/// Notes for each service of this operation when its end closed their issues, where the tables know of that end.
pub(super) async fn closing(
    work: &Work<'_>,
    id: OperationId,
    closed: &mut BTreeMap<ServiceKey, Timestamp>,
) -> Result<(), Error> {
    let Some(subject) = Subject::read(work, id, Round::Look).await? else { return Ok(()) };
    if subject.change.closes() {
        for key in subject.change.services.keys() {
            let last = closed.entry(key.clone()).or_insert(subject.change.at);
            *last = subject.change.at.max(*last);
        }
    }
    Ok(())
}

/// Compares the keys of one operation with the tables, and repairs what differs.
pub(super) async fn in_cache(work: &mut Work<'_>, report: &mut Report, id: OperationId) -> Result<(), Error> {
    let Some(cache) = work.cache else { return Ok(()) };
    match keys(work, cache, id).await {
        Ok(Found::Differences(found)) => {
            if work.dry_run {
                work.foreseen.make(&found);
            }
            report.add(found);
        }
        Ok(Found::Waits) => work.skipped += 1,
        // A key of a wrong type is one thing that differs; other operations are compared all the same.
        Err(Error::WrongType { what }) => {
            let place = super::Place::Cache;
            report.add(vec![compare::differs(place, format!("of operation {id}"), what, "our own type")]);
        }
        Err(error) => {
            unavailable(report, error)?;
            work.cache = None;
        }
    }
    Ok(())
}

/// What differs is looked at twice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    Look,
    Tell,
    /// After a repair.
    Again,
}

impl Round {
    /// A repair that came to nothing, because somebody else wrote, is tried again.
    const ALL: [Self; 5] = [Self::Look, Self::Tell, Self::Again, Self::Again, Self::Again];
}

/// An operation up to the last entry whose rows were delivered.
struct Subject {
    facts: Facts,
    change: Change,
    waiting: Arc<Waiting>,
    /// The cache has had its turn for every entry too.
    cache_settled: bool,
}

impl Subject {
    /// `None`: it has no issue, or nothing of it was delivered yet. For a first look it is good enough to know who
    /// waited when the reconciliation began.
    async fn read(work: &Work<'_>, id: OperationId, round: Round) -> Result<Option<Self>, Error> {
        let history: &dyn OperationHistory = &*work.parts.history;
        // The entries are read first: what is appended meanwhile is owed, and its rows say so.
        let Some(whole) = facts::read(history, id, u64::MAX).await? else { return Ok(None) };
        let rows = history.outbox_of(id).await?;
        let unsettled = |executor: &str| {
            let rows = rows.iter().filter(|row| row.executor == executor && !is_settled(row.state));
            rows.map(|row| row.seq).min()
        };
        let cache_settled = unsettled(CACHE_EXECUTOR).is_none();
        let facts = match unsettled(TABLES_EXECUTOR) {
            None => Some(whole),
            Some(seq) if seq > whole.operation.seq => Some(whole),
            Some(1) => None,
            Some(seq) => facts::read(history, id, seq - 1).await?,
        };
        let Some(facts) = facts.filter(|facts| !facts.issues.is_empty()) else { return Ok(None) };
        let change = facts.change(work.parts.language, facts.earlier(history).await?);
        let change = Change { closed: Arc::clone(&work.closed), ..change };
        let waiting = match round {
            Round::Look => Arc::clone(&work.waiting),
            Round::Tell | Round::Again => Arc::new(waiting(history).await?),
        };
        Ok(Some(Self { facts, change, waiting, cache_settled }))
    }

    async fn in_tables(&self, work: &Work<'_>) -> Result<Vec<Difference>, Error> {
        let look = self.look(work).await?;
        Ok(compare::tables(&self.change, &look, |service| !self.waiting.tables.contains(service)))
    }

    /// How its rows stand; in a dry run, as they would after the repairs before.
    async fn look(&self, work: &Work<'_>) -> Result<Look, Error> {
        let look = work.parts.tables.look(&self.change).await?;
        Ok(work.foreseen.see(&self.change, look))
    }

    /// Whether rows of its services are on their way to the cache.
    fn cache_waits(&self) -> bool {
        let waits =
            |service: &String| self.waiting.tables.contains(service) || self.waiting.cache.contains(service);
        !self.cache_settled || self.facts.services().iter().any(waits)
    }
}

/// What an operation's keys must hold.
enum Key {
    Issue(IssueEntry, bool),
    Service(ServiceEntry),
}

/// What came of comparing keys.
enum Found {
    Differences(Vec<Difference>),
    /// Something differs, and rows that would change it are owed.
    Waits,
}

/// What a repair needs to know of a key that differs.
struct Differing {
    key: Key,
    /// How it stood when it was looked at, before the tables were read.
    seen: Inspected,
    differences: Vec<Difference>,
}

async fn keys(work: &Work<'_>, cache: &Cache, id: OperationId) -> Result<Found, Error> {
    let mut told: Vec<Difference> = Vec::new();
    for round in Round::ALL {
        // Entries, then owed rows, then the cache, then the tables: whoever writes after that has a later version.
        let Some(subject) = Subject::read(work, id, round).await? else {
            return Ok(if told.is_empty() { Found::Differences(told) } else { Found::Waits });
        };
        let differing = subject.differing(work, cache).await?;
        let left: Vec<Difference> =
            differing.iter().flat_map(|found| found.differences.iter().cloned()).collect();
        if round == Round::Again {
            for difference in &mut told {
                difference.repaired = !left.iter().any(|left| left.what == difference.what);
            }
        } else if round == Round::Tell {
            told = left.clone();
        }
        if left.is_empty() {
            return Ok(Found::Differences(told));
        }
        // The first look knows only who waited when it all began.
        if round == Round::Tell && subject.cache_waits() {
            return Ok(Found::Waits);
        }
        if round != Round::Look && !work.dry_run {
            for found in &differing {
                found.repair(work, cache, subject.facts.position).await?;
            }
        }
        if round == Round::Tell && work.dry_run {
            break;
        }
    }
    Ok(Found::Differences(told))
}

impl Subject {
    /// The keys that differ from the tables.
    async fn differing(&self, work: &Work<'_>, cache: &Cache) -> Result<Vec<Differing>, Error> {
        let mut inspected = BTreeMap::new();
        for fact in &self.facts.issues {
            let entry = IssueEntry::new(&fact.alert, IssueState::Open, fact.born);
            inspected.insert(entry.key(), cache.inspect(entry.keys(), &entry.id).await?);
        }
        for service in self.change.services.keys() {
            let keys = ServiceEntry::keys_of(service);
            let key = keys.first().cloned().unwrap_or_default();
            inspected.insert(key.clone(), cache.inspect(keys, &key).await?);
        }
        let look = self.look(work).await?;
        let (issues, services) = compare::rows(look);
        let mut differing = Vec::new();
        for key in self.keys(work, &issues, &services) {
            let Some(found) = inspected.remove(key.name().as_str()) else { continue };
            let differences = key.compare(&found);
            if !differences.is_empty() {
                differing.push(Differing { key, seen: found, differences });
            }
        }
        Ok(differing)
    }

    fn keys(&self, work: &Work<'_>, issues: &[IssueRow], services: &[ServiceState]) -> Vec<Key> {
        let facts: BTreeMap<&str, &Fact> =
            self.facts.issues.iter().map(|fact| (fact.alert.id.as_str(), fact)).collect();
        let issue = |row: &IssueRow| -> Option<Key> {
            let fact = facts.get(row.id.as_str())?;
            let expired = work.now.since(fact.came_at) >= TTL;
            Some(Key::Issue(IssueEntry::of(&fact.alert, row), expired))
        };
        let services = services.iter().map(|row| Key::Service(ServiceEntry::of(row)));
        issues.iter().filter_map(issue).chain(services).collect()
    }
}

impl Key {
    fn name(&self) -> String {
        match self {
            Self::Issue(entry, _) => entry.key(),
            Self::Service(entry) => entry.key().to_owned(),
        }
    }

    fn compare(&self, found: &Inspected) -> Vec<Difference> {
        match self {
            Self::Issue(entry, expired) => compare::issue(entry, found, *expired),
            Self::Service(entry) => compare::service(entry, found),
        }
    }
}

impl Differing {
    /// Writes what the tables held, unless somebody wrote the key since it was looked at: then the next round looks
    /// again.
    async fn repair(&self, work: &Work<'_>, cache: &Cache, position: u64) -> Result<Written, Error> {
        let there = self.seen.version.as_deref().unwrap_or_default();
        // A later version of this log is the service's other operations' or a later run's: the tables were read
        // after it, and it is kept. One that this log never gave out is of another life of it.
        let foreign = there > version(position).as_str()
            && there > version(work.parts.history.status().await?.position).as_str();
        let seen = Seen { version: self.seen.version.as_deref(), foreign };
        let position =
            if foreign { position } else { there.parse().map_or(position, |there: u64| there.max(position)) };
        match &self.key {
            Key::Issue(entry, true) if self.seen.value.is_none() && !entry.is_open() => {
                for set in entry.keys().iter().skip(2) {
                    cache.remove(set, &entry.id).await?;
                }
                Ok(Written::Yes)
            }
            Key::Issue(entry, _) => cache.repair_issue(entry, position, seen).await,
            Key::Service(entry) => cache.write_service(entry, position, Some(seen)).await,
        }
    }
}
