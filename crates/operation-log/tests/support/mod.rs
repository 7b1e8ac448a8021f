//! What the tests of the fold and of the verifier share: a plan, alerts, and a [`Story`] that writes entries.

use std::sync::Arc;
use std::time::Duration;

use redress_action::Policy;
use redress_fsm::TABLE_VERSION;
use redress_operation_log::entry::FORMAT;
use redress_operation_log::event::{KnownBy, Owed, Verdict};
use redress_operation_log::fold::Refused;
use redress_operation_log::{Actor, Decision, Entry, Event, Operation, SessionId, StoredEntry};
use redress_strategy::{Limits, OnError, OnFailure, Plan, PlanCheck, PlanStep, StoredPlan, Tries};
use redress_types::{
    Alert, EffectKey, Epoch, Fingerprint, Hash, Labels, Level, OperationId, Phase, Severity, Timestamp,
};
use serde_json::Value;

pub fn step(name: &str, on_error: OnError) -> PlanStep {
    PlanStep {
        name: name.into(),
        executor: "mock".into(),
        configuration: Arc::new(Value::Null),
        parameters: Arc::new(Value::Null),
        in_doubt: Policy::Probe,
        timeout_ms: 1_000,
        on_error,
        tries: Tries { max: 3, backoff_ms: 10, backoff_max_ms: 100 },
    }
}

/// Steps of these kinds, so many compensation steps, so many attempts; 10 s deadline, 2 looks over 50 ms.
pub fn plan(steps: &[OnError], compensation: usize, attempts: u32) -> Arc<StoredPlan> {
    let limits = Limits {
        deadline_ms: 10_000,
        waiting_ms: 60_000,
        verification_ms: 1_000,
        settle_ms: 50,
        passes: 2,
        check_interval_ms: 10,
        attempts,
        compensation_ms: 5_000,
        cooldown_ms: 1_000,
        idle_cooldown_ms: 1_000,
        target_rate: None,
        strategy_rate: None,
        fingerprint_rate: None,
    };
    let check = PlanCheck {
        check: "http".into(),
        configuration: Arc::new(Value::Null),
        independent: true,
        timeout_ms: 100,
    };
    let named = |(i, on_error): (usize, &OnError)| step(&format!("step-{i}"), *on_error);
    let undo = |i| step(&format!("undo-{i}"), OnError::Rollback);
    let plan = Plan {
        format: redress_strategy::plan::FORMAT,
        strategy: "roll-back".into(),
        steps: steps.iter().enumerate().map(named).collect(),
        checks: vec![check],
        compensation: (0..compensation).map(undo).collect(),
        on_failure: OnFailure::Escalate,
        limits,
        slot_labels: Vec::new(),
    };
    Arc::new(StoredPlan::freeze(plan).unwrap())
}

pub fn alert(id: &str, service: &str) -> Arc<Alert> {
    Arc::new(Alert {
        id: id.parse().unwrap(),
        fingerprint: Fingerprint::over(&[service, id]),
        service: service.into(),
        component: service.into(),
        version: "v1".into(),
        level: Level::P1,
        severity: Severity::Warning,
        title: format!("{service} is down"),
        alert_since: Timestamp::EPOCH,
        labels: Labels::new(),
        metric: None,
        current: None,
        threshold: None,
        suggested_action: None,
    })
}

/// An operation being written, entry by entry, a second apart.
#[derive(Clone)]
pub struct Story {
    pub id: OperationId,
    pub plan: Option<Arc<StoredPlan>>,
    pub entries: Vec<StoredEntry>,
    pub operation: Operation,
    pub now: Timestamp,
    pub session: SessionId,
    pub epoch: Epoch,
}

impl Story {
    /// Operation number `n`, accepted with these events in its first entry.
    pub fn begin(n: u64, service: &str, plan: Option<Arc<StoredPlan>>, more: Vec<Event>) -> Self {
        let id: OperationId = format!("00000000-0000-7000-8000-{n:012}").parse().unwrap();
        let alert = alert(&format!("alert-{n}"), service);
        let mut events = vec![Event::Accepted {
            target: alert.target(),
            strategy: plan.as_ref().map(|plan| plan.plan.strategy.clone()),
            plan: plan.as_ref().map(|plan| plan.hash),
            sameness: plan.as_ref().map(|_| format!("same-{n}")),
            alert,
        }];
        events.extend(more);
        let (now, session, epoch) = (Timestamp::from_micros(1_000_000), SessionId(1), Epoch(1));
        let entry = entry_of(id, 1, now, session, epoch, events);
        let (body, hash) = entry.seal(&Hash::ZERO).unwrap();
        let operation = Operation::begin(&entry, hash, plan.clone()).unwrap();
        let entries = vec![StoredEntry { position: 0, operation: id, seq: 1, body, hash }];
        Self { id, plan, entries, operation, now, session, epoch }
    }

    /// The entry that these events would make, a second later.
    pub fn entry(&self, events: Vec<Event>) -> Entry {
        let now = self.now.plus(Duration::from_secs(1));
        entry_of(self.id, self.operation.seq + 1, now, self.session, self.epoch, events)
    }

    /// Writes an entry, unless it is refused.
    pub fn try_write(&mut self, events: Vec<Event>) -> Result<(), Refused> {
        let entry = self.entry(events);
        let (body, hash) = entry.seal(&self.operation.hash).unwrap();
        self.operation = self.operation.with(&entry, hash)?;
        self.now = entry.recorded_at;
        self.entries.push(StoredEntry { position: 0, operation: self.id, seq: entry.seq, body, hash });
        Ok(())
    }

    /// Writes an entry that must be possible.
    pub fn write(&mut self, events: Vec<Event>) -> &mut Self {
        if let Err(refused) = self.try_write(events) {
            panic!("{refused}");
        }
        self
    }

    /// Another engine takes it.
    pub fn taken_over(&mut self) -> &mut Self {
        self.session = SessionId(self.session.0 + 1);
        self.epoch = Epoch(self.epoch.0 + 1);
        self
    }

    pub fn key(&self, phase: Phase, attempt: u32, step: u32) -> EffectKey {
        EffectKey { operation: self.id, phase, attempt, step }
    }

    /// The key of the next step, which there must be.
    pub fn next(&self) -> EffectKey {
        self.operation.next_key().unwrap()
    }
}

fn entry_of(
    operation: OperationId,
    seq: u64,
    recorded_at: Timestamp,
    session: SessionId,
    epoch: Epoch,
    events: Vec<Event>,
) -> Entry {
    let actor = Actor::engine("test");
    let (format, table, payloads) = (FORMAT, TABLE_VERSION, Vec::new());
    Entry { format, table, operation, seq, recorded_at, actor, session, epoch, events, payloads }
}

pub const ADMITTED: Event = Event::Admitted { attempt: 1 };

pub fn started(key: EffectKey) -> Event {
    Event::StepStarted { key, step: format!("step-{}", key.step) }
}

pub fn resumed(key: EffectKey) -> Event {
    Event::StepResumed { key, request: None }
}

pub fn tried(key: EffectKey, try_number: u32) -> Event {
    let next_at = Timestamp::from_micros(9_000_000);
    Event::TryFailed { key, try_number, error: "503".into(), unknown: false, next_at }
}

pub fn succeeded(key: EffectKey, known_by: KnownBy) -> Event {
    Event::StepSucceeded { key, output: "done".into(), known_by, took_ms: 7 }
}

pub fn failed(key: EffectKey, known_by: KnownBy) -> Event {
    Event::StepFailed { key, error: "404".into(), known_by, took_ms: 7 }
}

pub fn passed(passes: u32, held_ms: u64) -> Event {
    Event::VerificationPassed { passes, held_ms, independent: true, detail: "http: 200".into() }
}

#[allow(dead_code, reason = "the verifier's tests need none")]
pub fn cancel(request: u64) -> Event {
    Event::CancelRequested { request, by: Actor("anna".into()), reason: "enough".into() }
}

pub fn compensate(owes: Owed) -> Event {
    Event::CompensationStarted { owes, reason: "it did not work".into() }
}

pub fn suspended() -> Event {
    Event::Suspended { reason: "nobody knows".into() }
}

pub fn verdict(request: u64, decision: Decision) -> Verdict {
    Verdict { request, decision, by: Actor("anna".into()), reason: "looked".into() }
}

pub fn end_failed() -> Event {
    Event::Failed { reason: "it failed".into() }
}
