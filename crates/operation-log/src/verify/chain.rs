//! One operation's entries as they come by: the links, the fold, and what invariants 1 to 4 say of them.

use std::collections::HashMap;
use std::sync::Arc;

use redress_strategy::{PlanHash, StoredPlan};
use redress_types::{EffectKey, Epoch, Hash, OperationId, WithCauses};

use super::heads;
use super::report::{Check, Finding, Findings};
use crate::entry::{Entry, StoredEntry, Unreadable, Versions, link};
use crate::error::Error;
use crate::event::{Event, KnownBy};
use crate::fold::{Operation, Refused};
use crate::log::OperationHistory;
use crate::record::{Audit, Head};

/// Every operation seen so far.
#[derive(Default)]
pub(super) struct Chains<'a> {
    heads: HashMap<OperationId, &'a Head>,
    chains: HashMap<OperationId, Chain>,
    plans: HashMap<PlanHash, Result<Arc<StoredPlan>, String>>,
    pub(super) entries: u64,
    results: u64,
    effects: u64,
    transitions: u64,
    ended: u64,
}

/// What is remembered of one operation.
pub(super) enum Chain {
    /// It goes on.
    Live(Box<Live>),
    /// It ended there. How its head differs is kept, the fold is not.
    Ended { seq: u64, hash: Hash, differs: Option<Box<str>> },
    /// Its first broken link was named; nothing after it is judged by itself.
    Broken,
}

/// An operation that goes on.
pub(super) struct Live {
    pub(super) operation: Operation,
    /// The position of its first entry.
    pub(super) position: u64,
    /// The highest of its entries.
    pub(super) versions: Versions,
    /// The last intent written: its key, under which epoch, and in which entry.
    intent: Option<(EffectKey, Epoch, u64)>,
    /// The effects that have their result.
    settled: Vec<EffectKey>,
}

/// What stops an operation from being followed further.
enum Stop {
    Link(String),
    Plan(String),
    Refused(Refused),
}

impl<'a> Chains<'a> {
    /// None yet; each is compared with its head when it ends.
    pub(super) fn under(audit: &'a Audit) -> Self {
        Self { heads: audit.heads.iter().map(|head| (head.id, head)).collect(), ..Self::default() }
    }

    /// Takes the next entry in position order. Answers what its bytes say, when they can be read.
    pub(super) async fn take(
        &mut self,
        history: &dyn OperationHistory,
        stored: &StoredEntry,
        findings: &mut Findings,
    ) -> Result<Option<Entry>, Error> {
        self.entries += 1;
        let read = stored.read();
        if let Ok(entry) = &read
            && let Some(plan) = names_plan(entry)
        {
            self.load(history, plan).await?;
        }
        let chain = self.chains.remove(&stored.operation);
        let next = self.next(chain, stored, &read, findings);
        self.chains.insert(stored.operation, next);
        Ok(read.ok())
    }

    fn next(
        &mut self,
        chain: Option<Chain>,
        stored: &StoredEntry,
        read: &Result<Entry, Unreadable>,
        findings: &mut Findings,
    ) -> Chain {
        let live = match chain {
            Some(Chain::Broken) => return Chain::Broken,
            Some(Chain::Ended { differs, .. }) => {
                let what = "it comes after the operation ended";
                findings.violation(4, Finding::new(Check::Invariant, what).at(stored));
                return Chain::Ended { seq: stored.seq, hash: stored.hash, differs };
            }
            Some(Chain::Live(live)) => Some(*live),
            None => None,
        };
        match self.follow(live, stored, read, findings) {
            Ok(live) if live.operation.state.is_ended() => {
                self.ended += 1;
                let head = self.heads.get(&stored.operation);
                let differs = head.and_then(|head| heads::difference(head, &live)).map(Into::into);
                Chain::Ended { seq: stored.seq, hash: stored.hash, differs }
            }
            Ok(live) => Chain::Live(Box::new(live)),
            Err(stop) => {
                match stop {
                    Stop::Link(what) => findings.add(Finding::new(Check::Chain, what).at(stored)),
                    Stop::Plan(what) => findings.add(Finding::new(Check::Plan, what).at(stored)),
                    Stop::Refused(refused) => {
                        findings.violation(3, Finding::new(Check::Invariant, refused.to_string()).at(stored));
                    }
                }
                Chain::Broken
            }
        }
    }

    fn follow(
        &mut self,
        live: Option<Live>,
        stored: &StoredEntry,
        read: &Result<Entry, Unreadable>,
        findings: &mut Findings,
    ) -> Result<Live, Stop> {
        check_link(live.as_ref(), stored)?;
        let entry = read.as_ref().map_err(|unreadable| Stop::Link(WithCauses(unreadable).to_string()))?;
        if entry.operation != stored.operation || entry.seq != stored.seq {
            let (seq, operation) = (entry.seq, entry.operation);
            return Err(Stop::Link(format!("its bytes are those of entry {seq} of operation {operation}")));
        }
        self.check_effects(live.as_ref(), stored, entry, findings);
        let next = match live {
            None => self.begin(stored, entry)?,
            Some(live) => {
                let operation = live.operation.with(entry, stored.hash).map_err(Stop::Refused)?;
                Live { operation, versions: live.versions.highest(entry.versions()), ..live }
            }
        };
        self.transitions += entry.events.len() as u64;
        let mut settled = next.settled;
        settled.extend(entry.events.iter().filter_map(result_of));
        Ok(Live { intent: last_intent(entry).or(next.intent), settled, ..next })
    }

    fn begin(&mut self, stored: &StoredEntry, entry: &Entry) -> Result<Live, Stop> {
        let plan = match names_plan(entry).map(|hash| (hash, self.plans.get(&hash))) {
            None => None,
            Some((_, Some(Ok(plan)))) => Some(Arc::clone(plan)),
            Some((_, Some(Err(what)))) => return Err(Stop::Plan(what.clone())),
            Some((hash, None)) => return Err(Stop::Plan(format!("plan {hash} was not read"))),
        };
        if !matches!(entry.events.first(), Some(Event::Accepted { .. })) {
            return Err(Stop::Link("the first entry does not begin with accepted".into()));
        }
        let operation = Operation::begin(entry, stored.hash, plan).map_err(Stop::Refused)?;
        let (position, versions) = (stored.position, entry.versions());
        Ok(Live { operation, position, versions, intent: None, settled: Vec::new() })
    }

    /// Invariants 1 and 2, from the events alone: the fold is not asked.
    fn check_effects(
        &mut self,
        live: Option<&Live>,
        stored: &StoredEntry,
        entry: &Entry,
        findings: &mut Findings,
    ) {
        let mut settled = live.map(|live| live.settled.clone()).unwrap_or_default();
        let intent = live.and_then(|live| live.intent);
        for event in &entry.events {
            if let Some(key) = result_of(event) {
                self.results += 1;
                if settled.contains(&key) {
                    let what = format!("effect {key} has a result already");
                    findings.violation(1, Finding::new(Check::Invariant, what).at(stored));
                }
                settled.push(key);
            }
            if let Some((key, by_verdict)) = effect_of(event) {
                self.effects += 1;
                // A verdict speaks of an intent of whatever epoch; an engine only of its own.
                let durable = intent.is_some_and(|(intent, epoch, seq)| {
                    intent == key && seq < entry.seq && (by_verdict || epoch == entry.epoch)
                });
                if !durable {
                    let what = format!(
                        "{} of {key} has no intent in an earlier entry under epoch {}",
                        event.kind(),
                        entry.epoch.0
                    );
                    findings.violation(2, Finding::new(Check::Invariant, what).at(stored));
                }
            }
        }
    }

    /// Reads a plan once, and proves that its bytes are the ones named.
    async fn load(&mut self, history: &dyn OperationHistory, hash: PlanHash) -> Result<(), Error> {
        if self.plans.contains_key(&hash) {
            return Ok(());
        }
        let plan = match history.plan(hash).await {
            Ok(Some(plan)) => reread(hash, &plan),
            Ok(None) => Err(format!("plan {hash} is not stored")),
            Err(Error::Corrupt { what }) => Err(what),
            Err(error) => return Err(error),
        };
        self.plans.insert(hash, plan);
        Ok(())
    }

    /// The operation, as far as it could be followed.
    pub(super) fn get(&self, id: OperationId) -> Option<&Chain> {
        self.chains.get(&id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = OperationId> + '_ {
        self.chains.keys().copied()
    }

    pub(super) fn operations(&self) -> u64 {
        self.chains.len() as u64
    }

    pub(super) fn plans(&self) -> u64 {
        self.plans.len() as u64
    }

    /// How many facts each invariant was checked on.
    pub(super) const fn checked(&self, waiting: u64) -> [u64; 5] {
        [self.results, self.effects, self.transitions, self.ended, waiting]
    }
}

/// Whether an entry is the next of its chain: its place, then its hash.
fn check_link(live: Option<&Live>, stored: &StoredEntry) -> Result<(), Stop> {
    let (seq, hash) = live.map_or((0, Hash::ZERO), |live| (live.operation.seq, live.operation.hash));
    if stored.seq != seq + 1 {
        return Err(Stop::Link(match stored.seq > seq {
            true => format!("entry {} is missing before it", seq + 1),
            false => format!("it stands after entry {seq}"),
        }));
    }
    let found = link(&hash, &stored.body);
    if found != stored.hash {
        let says = stored.hash;
        return Err(Stop::Link(format!(
            "the link is broken: over entry {seq} and its own bytes its hash is {found}, not {says}"
        )));
    }
    Ok(())
}

fn reread(hash: PlanHash, plan: &StoredPlan) -> Result<Arc<StoredPlan>, String> {
    let read = StoredPlan::read(Arc::clone(&plan.bytes)).map_err(|error| WithCauses(&error).to_string())?;
    if read.hash != hash {
        return Err(format!("plan {hash} was changed: its bytes have the hash {}", read.hash));
    }
    Ok(Arc::new(read))
}

fn names_plan(entry: &Entry) -> Option<PlanHash> {
    match entry.events.first() {
        Some(Event::Accepted { plan, .. }) => *plan,
        Some(_) | None => None,
    }
}

fn last_intent(entry: &Entry) -> Option<(EffectKey, Epoch, u64)> {
    entry.events.iter().rev().find_map(|event| {
        if let Event::StepStarted { key, .. } | Event::StepResumed { key, .. } = event {
            return Some((*key, entry.epoch, entry.seq));
        }
        None
    })
}

/// The effect whose one result an event is.
const fn result_of(event: &Event) -> Option<EffectKey> {
    if let Event::StepSucceeded { key, .. } | Event::StepFailed { key, .. } = event {
        return Some(*key);
    }
    None
}

/// The effect that an event says was called, and whether a person said so.
fn effect_of(event: &Event) -> Option<(EffectKey, bool)> {
    if let Event::TryFailed { key, .. } = event {
        return Some((*key, false));
    }
    if let Event::StepSucceeded { key, known_by, .. } | Event::StepFailed { key, known_by, .. } = event {
        return Some((*key, *known_by == KnownBy::Verdict));
    }
    None
}
