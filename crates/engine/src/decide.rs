//! What to record next. Pure: an operation, something new, a time; out come events.
//!
//! [`decide`] records what is new, then what follows from it ([`follows`]), until an effect, a person or a
//! timer is needed. What that is, [`crate::effect`] derives from the folded operation. No async, no clock, no
//! log.

mod answer;
mod request;
#[cfg(test)]
mod tests;

use redress_fsm::State;
use redress_operation_log::event::{Event, HoldReason, Owed, Saw};
use redress_operation_log::fold::{Draft, Refused};
use redress_operation_log::{InboxRow, Operation};
use redress_strategy::OnError;
use redress_types::{EffectKey, Timestamp};
use std::time::Duration;

pub(crate) use answer::withdrawn_tries;
pub use answer::{Answer, Said};

/// Something new about an operation.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Only the time.
    Look,
    /// The engine stops: nothing new is to be begun.
    Rest,
    /// Rows of its inbox that are not folded yet, in order.
    Requests(&'a [InboxRow]),
    /// What came of the step under way.
    Answer(Answer),
    /// What the checks say.
    Checks(Checks),
    /// The slot is taken and nothing is in the way: it may act.
    Admitted,
    /// Something is in the way, until then at the latest.
    Held(HoldReason, Timestamp),
    /// A switch is off.
    Paused(&'a str),
    /// No switch is off any more.
    Unpaused,
    /// The step under way goes on: it is called or probed under this epoch.
    Resume(EffectKey),
    /// The step under way may not be called again, and nobody knows whether it happened.
    Doubt(&'a str),
}

/// What the checks say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checks {
    /// They see something else than before, and it goes on.
    Changed {
        /// What they see together.
        saw: Saw,
        /// What each sees.
        detail: String,
    },
    /// Every check held.
    Held {
        /// Healthy looks in a row.
        passes: u32,
        /// For how long, in milliseconds.
        held_ms: u64,
        /// At least one check is independent of the executor.
        independent: bool,
        /// What each sees.
        detail: String,
    },
    /// They did not hold within the limit; the last look decides.
    Limit {
        /// What they see together.
        saw: Saw,
        /// What each sees.
        detail: String,
    },
}

/// Records the inputs, in order, and everything that follows from them. What an earlier input made pointless (checks
/// that held on an operation that is to be cancelled) is left out.
///
/// # Errors
/// When an event cannot follow: a defect in this module, never a matter of input. The draft is lost.
pub fn decide(mut draft: Draft, inputs: &[Input<'_>]) -> Result<Draft, Refused> {
    for input in inputs {
        record(&mut draft, input)?;
    }
    let rests = inputs.iter().any(|input| matches!(input, Input::Rest));
    while let Some(event) = follows(draft.operation(), draft.now()) {
        if rests && matches!(event, Event::StepStarted { .. }) {
            break;
        }
        draft.push(event)?;
    }
    Ok(draft)
}

fn record(draft: &mut Draft, input: &Input<'_>) -> Result<(), Refused> {
    match input {
        Input::Look | Input::Rest => Ok(()),
        Input::Requests(rows) => rows.iter().try_for_each(|row| request::record(draft, row)),
        Input::Answer(said) => answer::record(draft, said.clone()),
        Input::Checks(checks) => record_checks(draft, checks.clone()),
        Input::Admitted => admitted(draft),
        Input::Held(reason, until) => {
            if before_acting(draft.operation(), draft.now()).is_some() {
                return Ok(());
            }
            draft.push(Event::Held { reason: reason.clone(), until: *until })
        }
        Input::Paused(switch) => {
            if draft.operation().paused.is_some() {
                return Ok(());
            }
            draft.push(Event::Paused { switch: (*switch).to_owned() })
        }
        Input::Unpaused => draft.push(Event::Unpaused),
        Input::Resume(key) => draft.push(Event::StepResumed { key: *key, request: None }),
        Input::Doubt(why) => draft.push(Event::Suspended { reason: (*why).to_owned() }),
    }
}

fn admitted(draft: &mut Draft) -> Result<(), Refused> {
    if before_acting(draft.operation(), draft.now()).is_some() {
        return Ok(());
    }
    if draft.operation().state == State::Blocked {
        draft.push(Event::Released)?;
    }
    draft.push(Event::Admitted { attempt: 1 })
}

/// The next event that follows from the operation and the time alone; `None`: an effect, a person or a timer
/// is next.
pub fn follows(operation: &Operation, now: Timestamp) -> Option<Event> {
    match operation.state {
        State::Received | State::Blocked | State::Diagnosing | State::AwaitingApproval => {
            before_acting(operation, now)
        }
        State::RollingBack | State::Verifying => working(operation, now),
        State::Compensating => compensating(operation, now),
        State::Suspended
        | State::Restored
        | State::Failed
        | State::TimedOut
        | State::Skipped
        | State::Cancelled => None,
    }
}

/// When the waiting limit is reached; counted from acceptance and never restarted.
pub fn waiting_limit(operation: &Operation) -> Timestamp {
    let limit = operation.plan.as_ref().map_or(0, |plan| plan.plan.limits.waiting_ms);
    operation.accepted_at.plus(Duration::from_millis(limit))
}

/// Whether the step under way is only to be settled: cancel, deadline, or the compensation's limit.
pub fn stopping(operation: &Operation, now: Timestamp) -> bool {
    if operation.state == State::Compensating {
        return operation.compensation_until().is_some_and(|limit| now >= limit);
    }
    operation.cancel.is_some() || operation.clock.passed
}

fn before_acting(operation: &Operation, now: Timestamp) -> Option<Event> {
    if let Some(reason) = &operation.cancel {
        return Some(Event::Cancelled { reason: reason.clone() });
    }
    if operation.all_resolved() {
        let reason = "resolved at its source before anything was done".to_owned();
        return Some(Event::Skipped { reason });
    }
    (now >= waiting_limit(operation)).then_some(Event::WaitingLimitReached)
}

fn working(operation: &Operation, now: Timestamp) -> Option<Event> {
    if !operation.clock.passed && operation.deadline_at().is_some_and(|deadline| now >= deadline) {
        return Some(Event::DeadlinePassed);
    }
    if operation.open.is_some() {
        return None;
    }
    if let Some(reason) = &operation.cancel {
        return Some(stop(operation, Owed::Cancelled, reason));
    }
    if operation.clock.passed {
        return Some(stop(operation, Owed::TimedOut, "the deadline passed"));
    }
    if operation.state == State::Verifying {
        return None;
    }
    if let Some(failure) = &operation.failure {
        let reason = format!("step {:?} failed: {}", failure.step, failure.error);
        return Some(match failure.on_error {
            OnError::Rollback => stop(operation, Owed::Failed, &reason),
            OnError::Suspend => Event::Suspended { reason: format!("{reason}; a person is to decide") },
            OnError::Abort | OnError::Continue => Event::Failed { reason },
        });
    }
    match (operation.next_key(), &operation.paused) {
        (Some(_), Some(_)) => None,
        (Some(key), None) => Some(start(operation, key)),
        (None, _) => Some(Event::VerificationStarted),
    }
}

fn compensating(operation: &Operation, now: Timestamp) -> Option<Event> {
    if operation.open.is_some() {
        return None;
    }
    match operation.next_key() {
        Some(key) if operation.compensation_until().is_some_and(|limit| now >= limit) => {
            Some(Event::StepNotRun { step: key.step })
        }
        Some(_) if operation.paused.is_some() => None,
        Some(key) => Some(start(operation, key)),
        None => operation.owes.map(Owed::settled),
    }
}

fn start(operation: &Operation, key: EffectKey) -> Event {
    let step = operation.current_step().map(|step| step.name.clone()).unwrap_or_default();
    Event::StepStarted { key, step }
}

/// Towards an outcome that is not Restored: through the compensation plan when there is one.
fn stop(operation: &Operation, owes: Owed, reason: &str) -> Event {
    let reason = reason.to_owned();
    if operation.has_compensation() {
        return Event::CompensationStarted { owes, reason };
    }
    match owes {
        Owed::Failed => Event::Failed { reason },
        Owed::TimedOut => Event::TimedOut,
        Owed::Cancelled => Event::Cancelled { reason },
    }
}

fn record_checks(draft: &mut Draft, checks: Checks) -> Result<(), Refused> {
    let operation = draft.operation();
    // Also when nobody has noted the deadline yet: an engine that takes over late may look before its timer rings.
    let late = operation.deadline_at().is_some_and(|deadline| draft.now() >= deadline);
    if operation.state != State::Verifying || late || stopping(operation, draft.now()) {
        return Ok(());
    }
    match checks {
        Checks::Changed { saw, detail } => draft.push(Event::ChecksObserved { saw, detail }),
        Checks::Held { passes, held_ms, independent, detail } => {
            draft.push(Event::VerificationPassed { passes, held_ms, independent, detail })
        }
        Checks::Limit { saw, detail } => {
            draft.push(Event::ChecksObserved { saw, detail: detail.clone() })?;
            let next = after_failed_checks(draft.operation(), saw, &detail);
            draft.push(next)
        }
    }
}

fn after_failed_checks(operation: &Operation, saw: Saw, detail: &str) -> Event {
    match saw {
        // No data is not healthy, and not broken either: a person looks (safety rule 8).
        Saw::Inconclusive | Saw::Healthy => {
            Event::Suspended { reason: format!("verification is undecided at its limit: {detail}") }
        }
        Saw::Unhealthy => {
            let attempts = operation.plan.as_ref().map_or(0, |plan| plan.plan.limits.attempts);
            if operation.attempt < attempts {
                return Event::NextAttemptStarted { attempt: operation.attempt + 1 };
            }
            stop(operation, Owed::Failed, &format!("not healthy after the last attempt: {detail}"))
        }
    }
}
