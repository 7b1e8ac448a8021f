//! Reconciliation: what the log says tables and cache must hold, what they hold, and the difference.
//!
//! Every operation is read up to the last entry whose rows were delivered; what is still owed is counted, not
//! called a difference. A difference is looked at twice before it is told, because the engine goes on meanwhile.
//! `operation` compares the rows of one operation, `foreseen` has what a dry run would have written, `archived` brings
//! back keys of operations that the log has no more, `trim` walks through the index sets.

mod archived;
pub(crate) mod compare;
mod foreseen;
mod operation;
mod trim;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use redress_fsm::State;
use redress_operation_log::{Filter, OperationHistory, OutboxState};
use redress_types::{Clock, OperationId, Timestamp};
use serde::Serialize;

use self::foreseen::Foreseen;
use crate::cache::Cache;
use crate::error::Error;
use crate::issue::ServiceKey;
use crate::obligations::{CACHE_EXECUTOR, TABLES_EXECUTOR};
use crate::step::Parts;

/// How often the tables are gone through at most.
const PASSES: u32 = 3;
/// Operations read at once.
const PAGE: usize = 100;
/// Owed rows read at once, to know which services are waiting.
const OWED_MAX: usize = 10_000;

/// What is compared, and whether it is repaired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only say what differs.
    pub dry_run: bool,
    /// Only operations accepted at or after; `None`: all that the log still has. Who removes old issues from the
    /// tables sets it, or they are written again.
    pub since: Option<Timestamp>,
    /// The tables are left as they are: only the cache is compared with them, and repaired from them.
    pub cache_only: bool,
}

/// What a reconciliation found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing was repaired on purpose.
    pub dry_run: bool,
    /// Operations compared.
    pub operations: u64,
    /// Issues compared.
    pub issues: u64,
    /// Outbox rows that are still owed: not compared.
    pub owed: u64,
    /// How the cache was compared.
    pub cache: CacheChecked,
    /// The differences, at most [`Report::DIFFERENCES_MAX`].
    pub differences: Vec<Difference>,
    /// All differences.
    pub found: u64,
    /// Those that were repaired.
    pub repaired: u64,
}

/// How the cache was compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheChecked {
    /// There is none.
    None,
    /// It was.
    Compared,
    /// It was not, or not to the end, and why.
    Unavailable(String),
}

/// One thing that is not as the log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where.
    pub place: Place,
    /// Which row or key, and what of it.
    pub what: String,
    /// What is there.
    pub is: String,
    /// What must be there.
    pub should_be: String,
    /// It was put right.
    pub repaired: bool,
}

/// Where something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Place {
    /// In the tables.
    Tables,
    /// In Redis.
    Cache,
}

impl Report {
    /// The most differences that are listed one by one.
    pub const DIFFERENCES_MAX: usize = 1_000;

    /// Differences that are still there.
    pub fn unrepaired(&self) -> u64 {
        self.found - self.repaired
    }

    /// Everything that was compared is as the log says.
    pub fn is_clean(&self) -> bool {
        self.found == 0 && !matches!(self.cache, CacheChecked::Unavailable(_))
    }

    fn add(&mut self, differences: Vec<Difference>) {
        for difference in differences {
            // Another look at what could not be repaired, or what a later operation says of the same, is no other
            // difference.
            let same = |told: &Difference| told.place == difference.place && told.what == difference.what;
            if let Some(at) = self.differences.iter().position(same) {
                self.tell_again(at, difference);
                continue;
            }
            self.found += 1;
            self.repaired += u64::from(difference.repaired);
            if self.differences.len() < Self::DIFFERENCES_MAX {
                self.differences.push(difference);
            }
        }
    }

    fn tell_again(&mut self, at: usize, difference: Difference) {
        let told = &mut self.differences[at];
        self.repaired -= u64::from(told.repaired);
        (told.should_be, told.repaired) = (difference.should_be, difference.repaired);
        // A later operation brought it back to where it was.
        if told.is == told.should_be {
            self.found -= 1;
            self.differences.remove(at);
        } else {
            self.repaired += u64::from(told.repaired);
        }
    }
}

/// What a comparison works with.
struct Work<'a> {
    parts: &'a Parts,
    /// `None`: there is none, or it does not answer.
    cache: Option<&'a Cache>,
    now: Timestamp,
    /// Who waited when it began.
    waiting: Arc<Waiting>,
    /// When issues of each service were closed last, as the log tells it.
    closed: Arc<BTreeMap<ServiceKey, Timestamp>>,
    dry_run: bool,
    /// What a dry run would have written.
    foreseen: Foreseen,
    /// Keys that differ were left alone, because rows for them are owed.
    skipped: u64,
}

/// Which services wait for rows that are owed.
struct Waiting {
    tables: BTreeSet<String>,
    cache: BTreeSet<String>,
    rows: u64,
}

pub(crate) async fn run(
    parts: &Parts,
    cache: Option<&Cache>,
    clock: &dyn Clock,
    scope: Scope,
) -> Result<Report, Error> {
    let history = &*parts.history;
    let mut report = Report {
        dry_run: scope.dry_run,
        operations: 0,
        issues: 0,
        owed: 0,
        cache: if cache.is_some() { CacheChecked::Compared } else { CacheChecked::None },
        differences: Vec::new(),
        found: 0,
        repaired: 0,
    };
    parts.ready().await?;
    let waiting = Arc::new(waiting(history).await?);
    report.owed = waiting.rows;
    let mut work = Work {
        parts,
        cache: None,
        now: clock.now(),
        waiting,
        closed: Arc::default(),
        dry_run: scope.dry_run,
        foreseen: Foreseen::default(),
        skipped: 0,
    };
    if let Some(cache) = cache {
        match cache.ready().await {
            Ok(()) => work.cache = Some(cache),
            Err(error) => report.cache = CacheChecked::Unavailable(error.chain()),
        }
    }
    // Before anything is read: what is missed from here on is noted anew.
    let note = work.cache.filter(|_| !scope.dry_run).map(Cache::take_incomplete);
    if let Some(cache) = work.cache.filter(|_| !scope.dry_run)
        && let Err(error) = cache.looking().await
    {
        report.cache = CacheChecked::Unavailable(error.chain());
        work.cache = None;
    }
    let ids = oldest_first(history, scope.since).await?;
    report.operations = ids.len() as u64;
    if !scope.cache_only {
        work.closed = Arc::new(closed(&work, scope.since).await?);
        in_tables(&mut work, &mut report, &ids).await?;
    }
    let left_in_tables = report.unrepaired();
    // Not before all tables are right: a later run closes issues of an earlier one.
    for id in &ids {
        if work.cache.is_none() {
            break;
        }
        operation::in_cache(&mut work, &mut report, *id).await?;
    }
    if let Some(cache) = work.cache.filter(|_| scope.since.is_none())
        && let Err(error) = archived::run(&mut work, cache, &mut report).await
    {
        if let Error::WrongType { what } = error {
            let of = "of archived operations".to_owned();
            report.add(vec![compare::differs(Place::Cache, of, what, "our own type")]);
        } else {
            unavailable(&mut report, error)?;
            work.cache = None;
        }
    }
    if let Some(cache) = work.cache {
        let trimmed = trim::run(&work, cache, &mut report).await;
        if let Err(error) = trimmed {
            unavailable(&mut report, error)?;
            work.cache = None;
        }
    }
    let all = scope.since.is_none() && work.skipped == 0 && report.unrepaired() == left_in_tables;
    if let (Some(cache), Some(note), true) = (work.cache, note, all) {
        match cache.mark_complete().await {
            Ok(true) => note.settle(),
            // It was emptied meanwhile.
            Ok(false) => cache.missed(),
            Err(error) => unavailable(&mut report, error)?,
        }
    }
    Ok(report)
}

/// A cache that does not answer is told in the report; a log or tables that do not end the comparison.
fn unavailable(report: &mut Report, error: Error) -> Result<(), Error> {
    match error {
        Error::Log(_) | Error::NotReady { .. } => Err(error),
        Error::Setting { .. }
        | Error::Unavailable { .. }
        | Error::Refused { .. }
        | Error::Cluster { .. }
        | Error::WrongType { .. } => {
            report.cache = CacheChecked::Unavailable(error.chain());
            Ok(())
        }
    }
}

/// Passes over the tables until one repairs nothing (a dry run: would repair nothing): an operation that was accepted early may end late, and its repair
/// then asks for another one.
async fn in_tables(work: &mut Work<'_>, report: &mut Report, ids: &[OperationId]) -> Result<(), Error> {
    for pass in 0..PASSES {
        let issues = report.issues;
        let mut moved = false;
        for id in ids {
            moved |= operation::in_tables(work, report, *id).await?;
        }
        if pass > 0 {
            report.issues = issues;
        }
        if !moved {
            break;
        }
    }
    Ok(())
}

/// The operations, the oldest first: what a later run of an alert closed is compared after the run that left it open.
async fn oldest_first(
    history: &dyn OperationHistory,
    since: Option<Timestamp>,
) -> Result<Vec<OperationId>, Error> {
    let filter = Filter { since, ..Filter::default() };
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = history.operations(&filter, after, PAGE).await?;
        ids.extend(page.operations.iter().map(|head| head.id));
        after = page.next;
        if after.is_none() {
            ids.reverse();
            return Ok(ids);
        }
    }
}

/// When issues of each service were closed last. The operation that tells it need not be the first to find its service
/// state damaged.
async fn closed(work: &Work<'_>, since: Option<Timestamp>) -> Result<BTreeMap<ServiceKey, Timestamp>, Error> {
    let filter = Filter { states: vec![State::Restored, State::Skipped], ..Filter::default() };
    let (mut closed, mut after) = (BTreeMap::new(), None);
    loop {
        let page = work.parts.history.operations(&filter, after, PAGE).await?;
        // What was accepted long ago may have ended lately.
        let lately = page.operations.iter().filter(|head| head.ended_at >= since);
        for head in lately {
            operation::closing(work, head.id, &mut closed).await?;
        }
        after = page.next;
        if after.is_none() {
            return Ok(closed);
        }
    }
}

/// Which services have rows that are owed or that a person has.
async fn waiting(history: &dyn OperationHistory) -> Result<Waiting, Error> {
    let mut waiting = Waiting { tables: BTreeSet::new(), cache: BTreeSet::new(), rows: 0 };
    for row in history.outbox_owed(OWED_MAX).await? {
        let of = |kind: &str| row.order_key.strip_prefix(kind).map(str::to_owned);
        match row.executor.as_str() {
            TABLES_EXECUTOR => waiting.tables.extend(of("service:")),
            CACHE_EXECUTOR => waiting.cache.extend(of("cache:")),
            _ => continue,
        }
        waiting.rows += 1;
    }
    Ok(waiting)
}

/// Whether nobody needs to deliver a row any more.
const fn is_settled(state: OutboxState) -> bool {
    match state {
        OutboxState::Done | OutboxState::Closed => true,
        OutboxState::Owed | OutboxState::Handed => false,
    }
}
