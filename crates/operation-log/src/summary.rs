//! [`Summary`]: what people read of one operation, on one screen or as one JSON object.
//!
//! Made from the fold, the head and the alert records; it decides nothing. Times in JSON are RFC 3339 text.

use redress_fsm::{EventKind, State};
use redress_types::{AlertId, Level, OperationId, Phase, Timestamp};
use serde::{Serialize, Serializer};

use crate::entry::Entry;
use crate::event::{HoldReason, KnownBy};
use crate::fold::{Operation, StepRecord, StepResult};
use crate::record::{AlertRecord, Head};
use crate::session::SessionId;

/// One operation for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Which.
    pub id: OperationId,
    /// The readable name.
    pub name: String,
    /// Where it stands.
    pub state: State,
    /// How it ended, in one of three words; `None` while it goes on.
    pub outcome: Option<Outcome>,
    /// Why it stands where it stands, or why it ended so.
    pub reason: Option<String>,
    /// What it acts on.
    pub target: String,
    /// Its strategy; `None`: none matched.
    pub strategy: Option<String>,
    /// The urgency of the alert that started it.
    pub level: Level,
    /// Every alert counted on it, the first included.
    pub alerts: Vec<AlertLine>,
    /// The attempt that runs or ran last, from 1; 0 before it acts.
    pub attempt: u32,
    /// The states it went through, in order.
    pub path: Vec<Passage>,
    /// Every step that was begun, in order.
    pub steps: Vec<StepLine>,
    /// What it waits for; `None` once ended.
    pub waits: Option<Waits>,
    /// That a person wants it stopped, and why.
    pub cancel: Option<String>,
    /// What "restored" rests on; `None` unless verified.
    pub verified: Option<&'static str>,
    /// Outbox rows not delivered yet.
    pub owed: u64,
    /// The session that holds it.
    pub held_by: Option<SessionId>,
    /// When it was accepted.
    #[serde(serialize_with = "time")]
    pub accepted_at: Timestamp,
    /// When its last entry was written.
    #[serde(serialize_with = "time")]
    pub updated_at: Timestamp,
    /// When it ended.
    #[serde(serialize_with = "maybe_time")]
    pub ended_at: Option<Timestamp>,
    /// When its deadline passes; `None` before the first step, while it stands still, and once ended.
    #[serde(serialize_with = "maybe_time")]
    pub deadline_at: Option<Timestamp>,
}

/// How an operation ended, in one of three words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// Restored.
    Success,
    /// Failed, timed out, or cancelled.
    Failed,
    /// There was nothing to do.
    Skipped,
}

/// An alert counted on an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlertLine {
    /// Its id.
    pub id: AlertId,
    /// Its title.
    pub title: String,
    /// How often it was delivered; 1 when its record is not at hand.
    pub count: u64,
    /// When its source said that it is over.
    #[serde(serialize_with = "maybe_time")]
    pub resolved_at: Option<Timestamp>,
}

/// A state that an operation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Passage {
    /// The state.
    pub state: State,
    /// When, by the writer's clock.
    #[serde(serialize_with = "time")]
    pub at: Timestamp,
    /// By which event.
    pub by: EventKind,
}

/// How a step went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepLine {
    /// The effect's idempotency key, as it went over the wire.
    pub key: String,
    /// The step's name.
    pub step: String,
    /// A step of the strategy, or of the compensation.
    pub phase: Phase,
    /// In which attempt.
    pub attempt: u32,
    /// Tries that have an answer.
    pub tries: u32,
    /// `succeeded`, `failed`, `withdrawn`, `abandoned`; `None` while it has no result.
    pub result: Option<&'static str>,
    /// How the result is known.
    pub known_by: Option<KnownBy>,
    /// When its intent was written.
    #[serde(serialize_with = "time")]
    pub started_at: Timestamp,
    /// How long it took, in milliseconds; 0 without a result.
    pub took_ms: u64,
    /// What the last try said, or what it left behind.
    pub detail: String,
}

/// What an operation waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waits {
    /// What, in words.
    pub on: String,
    /// Since when.
    #[serde(serialize_with = "time")]
    pub since: Timestamp,
    /// Until when, at the latest; `None`: until somebody does something.
    #[serde(serialize_with = "maybe_time")]
    pub until: Option<Timestamp>,
    /// The operation that is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<OperationId>,
}

impl Summary {
    /// Puts together what people read. `records` are the alert records of the operation, in any order; `path`
    /// is what [`path`] made of its entries.
    pub fn new(operation: &Operation, head: &Head, records: &[AlertRecord], path: Vec<Passage>) -> Self {
        let count = |id: &AlertId| records.iter().find(|r| r.id == *id).map_or(1, |record| record.count);
        let alerts = operation.alerts.iter().map(|counted| AlertLine {
            id: counted.alert.id.clone(),
            title: counted.alert.title.clone(),
            count: count(&counted.alert.id),
            resolved_at: counted.resolved_at,
        });
        let ended = operation.state.is_ended();
        Self {
            id: operation.id,
            name: head.name.clone(),
            state: operation.state,
            outcome: outcome(operation.state),
            reason: operation.reason.clone(),
            target: operation.target.to_string(),
            strategy: operation.strategy.clone(),
            level: operation.alert.level,
            alerts: alerts.collect(),
            attempt: operation.attempt,
            steps: operation.steps.iter().map(step_line).collect(),
            waits: (!ended).then(|| waits(operation, head, &path)),
            path,
            cancel: operation.cancel.clone(),
            verified: operation.verified_independently.map(verified),
            owed: head.owed,
            held_by: head.session,
            accepted_at: operation.accepted_at,
            updated_at: operation.updated_at,
            ended_at: operation.ended_at,
            deadline_at: if ended { None } else { operation.deadline_at() },
        }
    }
}

/// How an ended state reads in one of three words; `None` for a state that has not ended.
pub const fn outcome(state: State) -> Option<Outcome> {
    match state {
        State::Restored => Some(Outcome::Success),
        State::Failed | State::TimedOut | State::Cancelled => Some(Outcome::Failed),
        State::Skipped => Some(Outcome::Skipped),
        State::Received
        | State::Blocked
        | State::Diagnosing
        | State::AwaitingApproval
        | State::RollingBack
        | State::Verifying
        | State::Compensating
        | State::Suspended => None,
    }
}

/// What "restored" rests on (safety rule 17): a look at the service itself, or only the word of the API that
/// made the change.
pub const fn verified(independently: bool) -> &'static str {
    if independently {
        "verified by a check of the service itself"
    } else {
        "verified by the executor's API only"
    }
}

/// The states that an operation's entries lead through, oldest first. An event that the table refuses, which
/// no log accepts, leads nowhere.
pub fn path<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<Passage> {
    let mut path: Vec<Passage> = Vec::new();
    for entry in entries {
        for event in &entry.events {
            let (by, at) = (event.kind(), entry.recorded_at);
            let state = match path.last() {
                None => redress_fsm::INITIAL,
                Some(last) => match redress_fsm::next(last.state, by) {
                    Ok(state) if state != last.state => state,
                    Ok(_) | Err(_) => continue,
                },
            };
            path.push(Passage { state, at, by });
        }
    }
    path
}

fn step_line(record: &StepRecord) -> StepLine {
    let (result, known_by) = match record.result {
        None => (None, None),
        Some(StepResult::Succeeded(known_by)) => (Some("succeeded"), Some(known_by)),
        Some(StepResult::Failed(known_by)) => (Some("failed"), Some(known_by)),
        Some(StepResult::Withdrawn) => (Some("withdrawn"), None),
        Some(StepResult::Abandoned) => (Some("abandoned"), None),
    };
    StepLine {
        key: record.key.to_string(),
        step: record.step.clone(),
        phase: record.key.phase,
        attempt: record.key.attempt,
        tries: record.tries,
        result,
        known_by,
        started_at: record.started_at,
        took_ms: record.took_ms,
        detail: record.detail.clone(),
    }
}

/// What an operation that has not ended waits for, nearest cause first.
fn waits(operation: &Operation, head: &Head, path: &[Passage]) -> Waits {
    let here = path.last().map_or(operation.updated_at, |last| last.at);
    let waits = |on: String, since, until| Waits { on, since, until, holder: None };
    let because = || operation.reason.clone().unwrap_or_else(|| "no reason was given".into());
    match operation.state {
        State::Blocked => match &operation.hold {
            Some(hold) => Waits {
                holder: holder(&hold.reason),
                ..waits(hold.reason.to_string(), hold.since, Some(hold.until))
            },
            None => waits("what held it to be looked at again".into(), here, head.wake_at),
        },
        State::Suspended => waits(format!("a person's verdict: {}", because()), here, None),
        State::AwaitingApproval => waits("approval".into(), here, head.wake_at),
        State::Diagnosing => waits("the diagnosis".into(), here, head.wake_at),
        State::RollingBack | State::Verifying | State::Compensating => working(operation, head, here),
        State::Received
        | State::Restored
        | State::Failed
        | State::TimedOut
        | State::Skipped
        | State::Cancelled => waits("an engine".into(), here, head.wake_at),
    }
}

fn working(operation: &Operation, head: &Head, here: Timestamp) -> Waits {
    let waits = |on: String, since, until| Waits { on, since, until, holder: None };
    if let Some(intent) = &operation.open {
        let step = operation.current_step().map_or("?", |step| step.name.as_str());
        return match (intent.next_at, &intent.last_error) {
            (Some(at), Some(error)) => {
                waits(format!("step {step} to go on after: {error}"), operation.updated_at, Some(at))
            }
            (_, _) => waits(format!("the answer of step {step}"), intent.since, head.wake_at),
        };
    }
    if let Some(switch) = &operation.paused {
        let since = operation.clock.standing_since.unwrap_or(here);
        return waits(format!("{switch}, which is paused"), since, head.wake_at);
    }
    match (operation.state, operation.verifying_since) {
        (State::Verifying, Some(since)) => {
            let saw = operation.saw.as_ref().map_or("nothing yet", |(_, detail)| detail.as_str());
            let limit = operation.plan.as_ref().map(|plan| plan.plan.limits.verification_ms);
            let until = limit.map(|limit| since.plus(std::time::Duration::from_millis(limit)));
            waits(format!("the checks, which saw: {saw}"), since, until)
        }
        (_, _) => waits("an engine".into(), operation.updated_at, head.wake_at),
    }
}

fn holder(reason: &HoldReason) -> Option<OperationId> {
    match reason {
        HoldReason::TargetBusy { holder, .. } => Some(*holder),
        HoldReason::Cooldown { .. }
        | HoldReason::Budget { .. }
        | HoldReason::Paused { .. }
        | HoldReason::Missing { .. } => None,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn time<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

#[expect(clippy::ref_option, reason = "serde passes fields by reference")]
fn maybe_time<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}
