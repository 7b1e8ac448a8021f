//! What a run knows of its operations: folded from what it observes, and read back where it missed something.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Error;
use redress_api::read;
use redress_engine::{Observed, Registry};
use redress_fsm::State;
use redress_operation_log::{Entry, Filter, Operation, OperationHistory};
use redress_types::{OperationId, Timestamp};

/// The states that are not the end.
const UNFINISHED: [State; 8] = [
    State::Received,
    State::Blocked,
    State::Diagnosing,
    State::AwaitingApproval,
    State::RollingBack,
    State::Verifying,
    State::Compensating,
    State::Suspended,
];

/// One operation as this run knows it.
pub(crate) struct Line {
    /// The operation after its last known entry.
    pub operation: Arc<Operation>,
    /// Its readable name.
    pub name: String,
    /// The exit status speaks of it.
    pub mine: bool,
    /// What it needs and this run does not have.
    pub missing: Option<String>,
    /// It had ended before this run looked at it.
    pub before: bool,
    /// Its end was shown.
    pub told: bool,
}

impl Line {
    fn new(operation: Arc<Operation>, registry: &Registry, mine: bool) -> Self {
        let name = operation.id.name(&operation.alert.fingerprint);
        let missing = operation.plan.as_ref().and_then(|plan| registry.missing(&plan.plan));
        Self { operation, name, mine, missing, before: false, told: false }
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> State {
        self.operation.state
    }

    /// It has ended.
    pub(crate) fn ended(&self) -> bool {
        self.state().is_ended()
    }

    /// Nothing that this run could wait for will move it soon.
    fn rests(&self, now: Timestamp) -> bool {
        let held = self.operation.hold.as_ref().is_some_and(|hold| hold.until > now);
        match self.state() {
            State::Suspended | State::AwaitingApproval => true,
            State::Blocked => held || self.missing.is_some(),
            State::Received
            | State::Diagnosing
            | State::RollingBack
            | State::Verifying
            | State::Compensating => self.missing.is_some(),
            State::Restored | State::Failed | State::TimedOut | State::Skipped | State::Cancelled => true,
        }
    }
}

/// A change to be shown: an entry, and the operation after it where it is the last one.
pub(crate) struct Change {
    pub id: OperationId,
    pub entry: Arc<Entry>,
    pub state: State,
}

/// Every operation of a run.
pub(crate) struct Board {
    history: Arc<dyn OperationHistory>,
    registry: Registry,
    lines: HashMap<OperationId, Line>,
    /// In the order in which they came.
    order: Vec<OperationId>,
}

impl Board {
    /// Without operations.
    pub(crate) fn new(history: Arc<dyn OperationHistory>, registry: Registry) -> Self {
        Self { history, registry, lines: HashMap::new(), order: Vec::new() }
    }

    /// Takes up what an earlier run left. One that cannot be folded is left alone, and said so.
    pub(crate) async fn take_up(&mut self, mine: bool) -> Result<(), Error> {
        let filter = Filter { states: UNFINISHED.to_vec(), ..Filter::default() };
        let mut after = None;
        let mut found = Vec::new();
        loop {
            let page = self.history.operations(&filter, after, 500).await?;
            found.extend(page.operations.into_iter().map(|head| head.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        // Lists are newest first; what is older began earlier.
        for id in found.into_iter().rev() {
            match read::fold(&*self.history, id).await {
                Ok(folded) => self.insert(Arc::new(folded.operation), mine),
                Err(error) => crate::complain(&error.into()),
            }
        }
        Ok(())
    }

    fn insert(&mut self, operation: Arc<Operation>, mine: bool) {
        let id = operation.id;
        self.lines.insert(id, Line::new(operation, &self.registry, mine));
        self.order.push(id);
    }

    /// The exit status speaks of this operation from now on. `repeat`: of an alert that was known.
    pub(crate) async fn claim(&mut self, id: OperationId, repeat: bool) -> Result<Vec<Change>, Error> {
        let new = !self.lines.contains_key(&id);
        let changes = if new { self.catch_up(id).await? } else { Vec::new() };
        if let Some(line) = self.lines.get_mut(&id) {
            line.mine = true;
            line.before |= new && repeat && line.ended();
        }
        Ok(changes)
    }

    /// Takes an observed entry. Answers what is to be shown: nothing when it is known, more when some were missed.
    pub(crate) async fn observe(&mut self, observed: Observed) -> Result<Vec<Change>, Error> {
        let id = observed.operation.id;
        let known = self.lines.get(&id).map_or(0, |line| line.operation.seq);
        if observed.entry.seq <= known {
            return Ok(Vec::new());
        }
        if observed.entry.seq > known + 1 {
            return self.catch_up(id).await;
        }
        let change = Change { id, state: observed.state(), entry: observed.entry };
        match self.lines.get_mut(&id) {
            Some(line) => line.operation = observed.operation,
            None => self.insert(observed.operation, false),
        }
        Ok(vec![change])
    }

    /// Reads what is not known yet of every operation that has not ended: an observer may miss entries, and
    /// must not miss the end.
    pub(crate) async fn catch_up_all(&mut self) -> Result<Vec<Change>, Error> {
        let open: Vec<_> = self.lines.values().filter(|line| !line.ended()).map(|l| l.operation.id).collect();
        let mut changes = Vec::new();
        for id in open {
            let known = self.lines.get(&id).map_or(0, |line| line.operation.seq);
            let head = self.history.operation(id).await?;
            if head.is_some_and(|head| head.seq > known) {
                changes.extend(self.catch_up(id).await?);
            }
        }
        Ok(changes)
    }

    async fn catch_up(&mut self, id: OperationId) -> Result<Vec<Change>, Error> {
        let known = self.lines.get(&id).map_or(0, |line| line.operation.seq);
        let folded = read::fold(&*self.history, id).await?;
        let path = redress_operation_log::summary::path;
        let new = folded.entries.iter().enumerate().filter(|(_, entry)| entry.seq > known);
        let changes = new.map(|(i, entry)| {
            let so_far = path(folded.entries.iter().take(i + 1));
            let state = so_far.last().map_or(folded.operation.state, |passage| passage.state);
            Change { id, entry: Arc::new(entry.clone()), state }
        });
        let changes = changes.collect();
        let operation = Arc::new(folded.operation);
        match self.lines.get_mut(&id) {
            Some(line) => line.operation = operation,
            None => self.insert(operation, false),
        }
        Ok(changes)
    }

    /// One operation.
    pub(crate) fn line(&self, id: OperationId) -> Option<&Line> {
        self.lines.get(&id)
    }

    /// One operation.
    pub(crate) fn line_mut(&mut self, id: OperationId) -> Option<&mut Line> {
        self.lines.get_mut(&id)
    }

    /// All operations in the order in which they came.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &Line> {
        self.order.iter().filter_map(|id| self.lines.get(id))
    }

    /// The operations that the exit status speaks of.
    pub(crate) fn mine(&self) -> impl Iterator<Item = &Line> {
        self.lines().filter(|line| line.mine)
    }

    /// Nothing is left to wait for: ours have ended, and the others have ended or rest. What this run lacks the
    /// parts for is no reason to wait either.
    pub(crate) fn is_done(&self, now: Timestamp) -> bool {
        self.lines
            .values()
            .all(|line| line.ended() || line.missing.is_some() || (!line.mine && line.rests(now)))
    }
}
