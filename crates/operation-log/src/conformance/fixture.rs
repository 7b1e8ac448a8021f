//! What tests of logs are made of: a clock that they hold, alerts, a plan, and a [`Writer`] that makes sealed
//! appends through the real fold.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use redress_action::Policy;
use redress_fsm::TABLE_VERSION;
use redress_strategy::plan::FORMAT as PLAN_FORMAT;
use redress_strategy::{Limits, OnError, OnFailure, Plan, PlanCheck, PlanStep, StoredPlan, Tries};
use redress_types::{
    Alert, AlertId, Clock, Epoch, Fingerprint, Hash, Level, OperationId, Severity, Target, Timestamp,
};

use crate::entry::{Entry, FORMAT};
use crate::error::Error;
use crate::event::{Actor, Event, KnownBy};
use crate::fold::Operation;
use crate::log::OperationLog;
use crate::record::{Append, Begin, Conditions, Ending, NewAlert, OutboxRequest, Recorded, Standing};
use crate::session::SessionId;

/// A clock that moves only when it is told to.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicI64>);

impl Default for TestClock {
    /// Starts at 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(1_767_225_600_000_000)))
    }
}

impl TestClock {
    /// Moves it on.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }

    /// Sets it.
    pub fn set(&self, to: Timestamp) {
        self.0.store(to.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// So many seconds.
pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The operation of this number: always the same id.
pub fn operation_id(number: u64) -> OperationId {
    let id = format!("00000000-0000-7000-8000-{:012x}", number & 0xffff_ffff_ffff);
    id.parse().expect("is a UUID")
}

/// An alert of this id, with a fingerprint and a service of its own.
pub fn alert(id: &str) -> Alert {
    Alert {
        id: alert_id(id),
        fingerprint: Fingerprint::over(&[id]),
        service: format!("service-{id}"),
        component: "api".into(),
        version: "1.2.3".into(),
        level: Level::P1,
        severity: Severity::Critical,
        title: format!("{id} is down"),
        alert_since: Timestamp::from_micros(1_767_225_000_000_000),
        labels: [("environment".to_owned(), "production".to_owned())].into(),
        metric: None,
        current: None,
        threshold: None,
        suggested_action: None,
    }
}

/// The alert id of this text.
pub fn alert_id(id: &str) -> AlertId {
    id.parse().expect("is an alert id")
}

/// The record of an alert that is seen for the first time.
pub fn new_alert(alert: &Alert, seen_at: Timestamp) -> NewAlert {
    NewAlert {
        id: alert.id.clone(),
        base: alert.id.clone(),
        n: 1,
        fingerprint: alert.fingerprint.clone(),
        service: alert.service.clone(),
        alert_since: alert.alert_since,
        seen_at,
    }
}

/// A plan of two steps, one check and one step of compensation, of this strategy.
pub fn plan(strategy: &str) -> Arc<StoredPlan> {
    let nothing = Arc::new(serde_json::Value::Null);
    let step = |name: &str, on_error| PlanStep {
        name: name.into(),
        executor: "test".into(),
        configuration: Arc::new(serde_json::json!({"endpoint": "https://deploy.test"})),
        parameters: Arc::clone(&nothing),
        in_doubt: Policy::Probe,
        timeout_ms: 60_000,
        on_error,
        tries: Tries { max: 3, backoff_ms: 1_000, backoff_max_ms: 10_000 },
    };
    let limits = Limits {
        deadline_ms: 600_000,
        waiting_ms: 3_600_000,
        verification_ms: 30_000,
        settle_ms: 0,
        passes: 1,
        check_interval_ms: 1_000,
        attempts: 1,
        compensation_ms: 60_000,
        cooldown_ms: 300_000,
        idle_cooldown_ms: 3_600_000,
        target_rate: None,
        strategy_rate: None,
        fingerprint_rate: None,
    };
    let plan = Plan {
        format: PLAN_FORMAT,
        strategy: strategy.into(),
        steps: vec![step("roll back", OnError::Rollback), step("warm up", OnError::Continue)],
        checks: vec![PlanCheck {
            check: "test".into(),
            configuration: nothing.clone(),
            independent: true,
            timeout_ms: 1_000,
        }],
        compensation: vec![step("put back", OnError::Abort)],
        on_failure: OnFailure::Escalate,
        limits,
        slot_labels: Vec::new(),
    };
    Arc::new(StoredPlan::freeze(plan).expect("a plan is JSON"))
}

/// Holds one operation as an engine would, and makes its appends. What it makes is what the fold allows.
#[derive(Clone, Debug)]
pub struct Writer {
    /// The operation.
    pub id: OperationId,
    /// The alert that starts it.
    pub alert: Alert,
    /// What it acts on.
    pub target: Target,
    /// Its plan.
    pub plan: Option<Arc<StoredPlan>>,
    /// Under which session it writes.
    pub session: SessionId,
    /// Under which epoch it writes.
    pub epoch: Epoch,
    /// The operation as last recorded; `None` before it has begun.
    pub operation: Option<Operation>,
}

impl Writer {
    /// A writer for the operation of this number, started by the alert of this id.
    pub fn new(session: SessionId, number: u64, id: &str) -> Self {
        let alert = alert(id);
        Self {
            id: operation_id(number),
            target: alert.target(),
            alert,
            plan: Some(plan("restore")),
            session,
            epoch: Epoch(1),
            operation: None,
        }
    }

    /// The append that begins it: accepted, and these events.
    pub fn begin(&self, now: Timestamp, more: Vec<Event>) -> Append {
        let mut events = vec![Event::Accepted {
            alert: Arc::new(self.alert.clone()),
            target: self.target.clone(),
            strategy: self.plan.as_ref().map(|plan| plan.plan.strategy.clone()),
            plan: self.plan.as_ref().map(|plan| plan.hash),
            sameness: None,
        }];
        events.extend(more);
        let mut append = self.next(now, events);
        append.begin = Some(Box::new(Begin {
            name: self.id.name(&self.alert.fingerprint),
            alert: new_alert(&self.alert, now),
            target: self.target.clone(),
            strategy: self.plan.as_ref().map(|plan| plan.plan.strategy.clone()),
            plan: self.plan.clone(),
            level: self.alert.level,
            title: self.alert.title.clone(),
        }));
        append
    }

    /// The next append: held for ten minutes when it has not ended, without claims, holds or outbox rows.
    pub fn next(&self, now: Timestamp, events: Vec<Event>) -> Append {
        let entry = self.entry(now, events);
        let previous = self.operation.as_ref().map_or(Hash::ZERO, |operation| operation.hash);
        let (body, hash) = entry.seal(&previous).expect("an entry is JSON");
        let after = self.fold(&entry, hash);
        let ended = after.state.is_ended();
        Append {
            session: self.session,
            epoch: self.epoch,
            operation: self.id,
            expected_seq: entry.seq - 1,
            body,
            hash,
            versions: entry.versions(),
            now,
            standing: Standing {
                state: after.state,
                held: !ended,
                wake_at: (!ended).then(|| now.plus(seconds(600))),
                waits_on: None,
                folded_request: after.folded_request,
                reason: after.reason,
            },
            begin: None,
            claims: Vec::new(),
            conditions: Conditions::default(),
            ends: ended.then_some(Ending { hold: None, refund: false }),
            outbox: Vec::new(),
            payloads: Vec::new(),
        }
    }

    /// The append that ends it before it acted.
    pub fn skip(&self, now: Timestamp) -> Append {
        self.next(now, vec![skipped()])
    }

    /// Appends, and goes on from there when it was recorded.
    ///
    /// # Errors
    /// Those of [`OperationLog::append`]; then the writer is as it was.
    pub async fn append(&mut self, log: &dyn OperationLog, append: Append) -> Result<Recorded, Error> {
        // Kept as the engine keeps it, which may have to send it again.
        let append = Arc::new(append);
        let recorded = log.append(Arc::clone(&append)).await?;
        self.took(&append);
        Ok(recorded)
    }

    /// Goes on from an append that was recorded.
    pub fn took(&mut self, append: &Append) {
        let entry: Entry = serde_json::from_slice(&append.body).expect("the writer's own bytes");
        if entry.seq > self.operation.as_ref().map_or(0, |operation| operation.seq) {
            self.operation = Some(self.fold(&entry, append.hash));
        }
    }

    /// Events that start acting: admitted, and the intent of the first step.
    pub fn admitted(&self) -> Vec<Event> {
        let key = self.key(0);
        vec![Event::Admitted { attempt: 1 }, Event::StepStarted { key, step: "roll back".into() }]
    }

    /// The result of a step of the first attempt.
    pub fn succeeded(&self, step: u32) -> Event {
        let (key, known_by) = (self.key(step), KnownBy::Answer);
        Event::StepSucceeded { key, output: "done".into(), known_by, took_ms: 5 }
    }

    /// The key of a step of the first attempt.
    pub fn key(&self, step: u32) -> redress_types::EffectKey {
        let phase = redress_types::Phase::Rollback;
        redress_types::EffectKey { operation: self.id, phase, attempt: 1, step }
    }

    fn entry(&self, now: Timestamp, events: Vec<Event>) -> Entry {
        Entry {
            format: FORMAT,
            table: TABLE_VERSION,
            operation: self.id,
            seq: self.operation.as_ref().map_or(0, |operation| operation.seq) + 1,
            recorded_at: now,
            actor: Actor::engine("conformance"),
            session: self.session,
            epoch: self.epoch,
            events,
            payloads: Vec::new(),
        }
    }

    fn fold(&self, entry: &Entry, hash: Hash) -> Operation {
        let folded = match &self.operation {
            None => Operation::begin(entry, hash, self.plan.clone()),
            Some(operation) => operation.with(entry, hash),
        };
        folded.unwrap_or_else(|refused| panic!("the writer was asked for what the fold refuses: {refused}"))
    }
}

/// Nothing to do: ends an operation that has not acted.
pub fn skipped() -> Event {
    Event::Skipped { reason: "not true any more".into() }
}

/// What an engine asks for that has only the executor of the fixture's outbox rows.
pub fn outbox_request(session: SessionId, now: Timestamp, until: Timestamp, limit: usize) -> OutboxRequest {
    OutboxRequest { session, now, until, limit, executors: vec!["persist".into()] }
}

/// A fact that changes nothing but the inbox row it answers.
pub fn refused(request: u64) -> Event {
    Event::RequestRefused { request, reason: "it does not fit".into() }
}
