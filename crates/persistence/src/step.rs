//! The two executors that the outbox runs: [`TablesStep`] brings the tables to where an entry left them,
//! [`CacheStep`] then the cache.
//!
//! Both may be called any number of times for one row, also after later rows: what is done is left as it is. A
//! table row is written first, whoever comes first: the cache shows nothing that the tables do not hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use redress_action::{ActionExecutor, Call, Error as ActionError, InDoubt, Output};
use redress_operation_log::OperationHistory;
use redress_types::IssueState;

use crate::cache::entry::{IssueEntry, ServiceEntry};
use crate::cache::{Cache, Mode, Written};
use crate::comment::Language;
use crate::error::Error;
use crate::facts::{self, Brought, Fact, Facts};
use crate::issue::{AlertState, Change, IssueRow, Standing};
use crate::obligations::{CACHE_EXECUTOR, Content, TABLES_EXECUTOR};
use crate::reconcile::compare;
use crate::tables::Tables;
use crate::text::storable;

/// What both steps work with.
#[derive(Clone)]
pub(crate) struct Parts {
    pub tables: Tables,
    pub history: Arc<dyn OperationHistory>,
    pub language: Language,
    /// Missing tables may be made.
    pub create_tables: bool,
    /// The tables were found as they must be.
    pub usable: Arc<AtomicBool>,
}

/// What a row asks for.
pub(crate) struct Turn {
    /// The entry that owes it.
    seq: u64,
    position: u64,
    /// The operation acted by then.
    acts: bool,
    issues: Vec<Fact>,
    change: Change,
}

impl Parts {
    /// What the row of this call asks for.
    async fn turn(&self, call: &Call) -> Result<(Turn, Content), Error> {
        let content: Content = serde_json::from_value((*call.parameters).clone())
            .map_err(|error| Error::Refused { what: format!("the row's content cannot be read: {error}") })?;
        let (operation, seq) = (call.key.operation, u64::from(call.key.attempt));
        let history = &*self.history;
        let gone = || Error::Refused { what: format!("operation {operation} has no entry {seq} in the log") };
        if let Some(acts) = content.only_brings() {
            let brought = facts::brought(history, operation, seq, acts).await?.ok_or_else(gone)?;
            let Brought { issues, position, at, born } = brought;
            let change = facts::change_of(&issues, born, at);
            return Ok((Turn { seq, position, acts, issues, change }, content));
        }
        let facts = facts::read(history, operation, seq).await?.ok_or_else(gone)?;
        if facts.operation.seq != seq {
            return Err(gone());
        }
        Ok((self.turn_of(facts).await?, content))
    }

    async fn turn_of(&self, mut facts: Facts) -> Result<Turn, Error> {
        let (seq, position) = (facts.operation.seq, facts.position);
        if !facts.whole {
            facts.issues.retain(|fact| fact.seq == seq);
        }
        let change = facts.change(self.language, facts.earlier(&*self.history).await?);
        Ok(Turn { seq, position, acts: facts.operation.attempt > 0, issues: facts.issues, change })
    }

    /// Sees to it that the tables can be used, where that was not known when they were opened.
    pub(crate) async fn ready(&self) -> Result<(), Error> {
        if !self.usable.load(Ordering::Acquire) {
            self.tables.ensure(self.create_tables).await?;
            self.usable.store(true, Ordering::Release);
        }
        Ok(())
    }
}

/// The executor named [`TABLES_EXECUTOR`].
///
/// In doubt it is repeated: everything it does is one transaction that changes nothing the second time.
pub struct TablesStep(pub(crate) Parts);

#[async_trait]
impl ActionExecutor for TablesStep {
    fn name(&self) -> &str {
        TABLES_EXECUTOR
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Rerun
    }

    async fn execute(&self, call: &Call) -> Result<Output, ActionError> {
        self.0.ready().await?;
        let (turn, _) = self.0.turn(call).await?;
        let standing = self.0.tables.apply(&turn.change).await?;
        Ok(Output::new(format!("{} issues and {} services", standing.issues.len(), standing.services.len())))
    }
}

/// The executor named [`CACHE_EXECUTOR`].
///
/// In doubt it is repeated: every write is a script that compares versions.
pub struct CacheStep {
    pub(crate) parts: Parts,
    pub(crate) cache: Arc<Cache>,
}

#[async_trait]
impl ActionExecutor for CacheStep {
    fn name(&self) -> &str {
        CACHE_EXECUTOR
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Rerun
    }

    async fn execute(&self, call: &Call) -> Result<Output, ActionError> {
        self.parts.ready().await?;
        let (turn, content) = self.parts.turn(call).await?;
        let standing = self.standing(&turn).await?;
        let written = self.write(&turn, &standing, &content.service).await;
        match written {
            Ok(()) => self.cache.worked(),
            Err(error) => {
                self.cache.failed(&error);
                return Err(error.into());
            }
        }
        Ok(Output::new(format!("the cache of {}", content.service)))
    }
}

impl CacheStep {
    /// How the tables stand after their own row. Where that has not come yet it is done here: the cache shows nothing
    /// that they do not hold.
    async fn standing(&self, turn: &Turn) -> Result<Standing, Error> {
        // A comment is the tables' own business.
        let change = Change { comment: None, ..turn.change.clone() };
        let look = self.parts.tables.look(&change).await?;
        if compare::tables(&change, &look, |_| true).is_empty() {
            let (issues, services) = compare::rows(look);
            return Ok(Standing { issues, services });
        }
        self.parts.tables.apply(&turn.change).await
    }

    /// Writes what belongs to one service: rows of other services have their own turn, so each key is written in
    /// the order of the log.
    async fn write(&self, turn: &Turn, standing: &Standing, service: &str) -> Result<(), Error> {
        self.cache.ready().await?;
        let facts = facts_of(&*self.parts.history, turn, standing).await?;
        for row in &standing.issues {
            let Some(fact) = facts.get(&row.id).filter(|fact| storable(&fact.alert.service) == service)
            else {
                continue;
            };
            for (passing, mode) in passages(turn, fact, row) {
                let entry = IssueEntry::of(&fact.alert, &passing);
                match self.cache.write_issue(&entry, turn.position, mode).await? {
                    Written::Yes => {}
                    Written::Missing if !entry.is_open() && self.cache.is_over(fact.came_at) => {}
                    Written::Missing => self.cache.missed(),
                    // Somebody else has delivered this row or a later one: it stands there already.
                    Written::Stale => break,
                }
            }
        }
        for row in standing.services.iter().filter(|row| row.key.service == service) {
            self.cache.write_service(&ServiceEntry::of(row), turn.position, None).await?;
        }
        Ok(())
    }
}

/// What the cache shows of an issue, one after the other: the states that this entry leads through, then what the
/// tables hold.
fn passages(turn: &Turn, fact: &Fact, row: &IssueRow) -> Vec<(IssueRow, Mode)> {
    let mut passages = Vec::new();
    if fact.seq == turn.seq {
        let open = |alert_state| IssueRow { id: row.id.clone(), state: IssueState::Open, alert_state };
        passages.push((open(fact.born), Mode::Create));
        // What was over before its first turn came never acted; what acts is shown acting.
        let acts = turn.acts && row.alert_state == AlertState::Restored;
        if acts && fact.born == AlertState::Pending {
            passages.push((open(AlertState::InProcessing), Mode::Update));
        }
    }
    if passages.last().is_none_or(|(last, _)| last != row) {
        passages.push((row.clone(), Mode::Update));
    }
    passages
}

/// The alerts of these rows, by id. An earlier run whose operation was archived is missing.
async fn facts_of(
    history: &dyn OperationHistory,
    turn: &Turn,
    standing: &Standing,
) -> Result<BTreeMap<String, Fact>, Error> {
    let own = turn.issues.iter().map(|fact| (fact.alert.id.as_str().to_owned(), fact.clone()));
    let mut facts: BTreeMap<String, Fact> = own.collect();
    for row in &standing.issues {
        if !facts.contains_key(&row.id)
            && let Some(fact) = facts::alert_of(history, &row.id).await?
        {
            // Of another operation: its entries have other numbers.
            facts.insert(row.id.clone(), Fact { seq: 0, ..fact });
        }
    }
    Ok(facts)
}
