//! The guards: what the log so far must say for an event that the table allows.
//!
//! One function, used live, in replay and by the verifier. A refusal is the sentence that people read.

use std::time::Duration;

use redress_action::Policy;
use redress_fsm::State;
use redress_strategy::OnError;
use redress_types::EffectKey;

use super::{Intent, Operation};
use crate::entry::Entry;
use crate::event::{Decision, Event, KnownBy, Owed, Verdict};

type Allowed = Result<(), &'static str>;

/// Whether `event` may follow what was folded so far.
pub(super) fn allows(operation: &Operation, entry: &Entry, event: &Event) -> Allowed {
    if let Some(request) = event.answers() {
        must(request == operation.folded_request + 1, "inbox rows are answered in order, each once")?;
    }
    match event {
        Event::Accepted { .. } => Err("accepted comes only first"),
        Event::AlertJoined { alert, .. } => {
            must(!operation.counts(&alert.id), "the alert is counted already")
        }
        Event::AlertResolved { alert, .. } => must(operation.counts(alert), "the alert is not counted here"),
        Event::RequestRefused { .. } | Event::Held { .. } | Event::Released => Ok(()),
        Event::DiagnosisStarted | Event::Diagnosed { .. } => Ok(()),
        Event::ApprovalRequested { .. } | Event::ApprovalGiven { .. } => Ok(()),
        Event::Rejected { .. } | Event::ApprovalExpired => Ok(()),
        Event::Skipped { .. } | Event::CancelRequested { .. } => Ok(()),
        Event::WaitingLimitReached => waited(operation, entry),
        Event::Admitted { attempt } => admitted(operation, *attempt),
        Event::Cancelled { .. } => cancelled(operation),
        Event::Paused { .. } => must(operation.paused.is_none(), "it is paused already"),
        Event::Unpaused => must(operation.paused.is_some(), "it is not paused"),
        Event::DeadlinePassed => deadline_passed(operation, entry),
        Event::StepStarted { key, .. } => step_started(operation, key),
        Event::StepResumed { key, request } => step_resumed(operation, entry, key, *request),
        Event::TryFailed { key, try_number, .. } => {
            try_failed(operation, current(operation, entry, key)?, *try_number)
        }
        Event::StepSucceeded { key, known_by, .. } => {
            known(operation, entry, key, *known_by, Decision::Happened)
        }
        Event::StepFailed { key, known_by, .. } => {
            known(operation, entry, key, *known_by, Decision::DidNotHappen)
        }
        Event::StepWithdrawn { key, .. } => {
            let intent = current(operation, entry, key)?;
            must(!intent.unknown, "an earlier try may have happened")
        }
        Event::StepAbandoned { key } => open(operation, key).map(drop),
        Event::StepNotRun { step } => {
            settled(operation)?;
            must(*step == operation.next_step && operation.next_key().is_some(), "it is not the next step")?;
            let limit = operation.compensation_until();
            must(limit.is_some_and(|limit| limit <= entry.recorded_at), "the limit leaves time for it")
        }
        Event::VerificationStarted => verification_started(operation),
        Event::ChecksObserved { .. } => Ok(()),
        Event::VerificationPassed { passes, held_ms, .. } => passed(operation, *passes, *held_ms),
        Event::NextAttemptStarted { attempt } => next_attempt(operation, *attempt),
        Event::CompensationStarted { owes, .. } => compensation_started(operation, *owes),
        Event::CompensatedToFailed => compensated(operation, Owed::Failed),
        Event::CompensatedToTimedOut => compensated(operation, Owed::TimedOut),
        Event::CompensatedToCancelled => compensated(operation, Owed::Cancelled),
        Event::Failed { .. } => failed(operation),
        Event::TimedOut => {
            settled(operation)?;
            must(operation.clock.passed, "the deadline has not passed")?;
            must(!operation.has_compensation(), "a compensation plan is to be run first")
        }
        Event::Suspended { .. } => Ok(()),
        Event::ResumedRollingBack { verdict } => resumed(operation, State::RollingBack, verdict),
        Event::ResumedVerifying { verdict } => resumed(operation, State::Verifying, verdict),
        Event::ResumedCompensating { verdict } => resumed(operation, State::Compensating, verdict),
        Event::GivenUp { verdict } => {
            settled(operation)?;
            must(verdict.decision == Decision::GiveUp, "the verdict is another")
        }
    }
}

fn must(holds: bool, why: &'static str) -> Allowed {
    if holds { Ok(()) } else { Err(why) }
}

/// The verdict on the step in doubt that stands in this entry.
fn verdict_in(entry: &Entry) -> Option<&Verdict> {
    entry.events.iter().find_map(|event| {
        if let Event::ResumedRollingBack { verdict } | Event::ResumedCompensating { verdict } = event {
            return Some(verdict);
        }
        None
    })
}

fn waited(operation: &Operation, entry: &Entry) -> Allowed {
    let limit = operation.plan.as_ref().map_or(0, |plan| plan.plan.limits.waiting_ms);
    let until = operation.accepted_at.plus(Duration::from_millis(limit));
    must(until <= entry.recorded_at, "it may wait longer")
}

fn deadline_passed(operation: &Operation, entry: &Entry) -> Allowed {
    must(operation.clock.started.is_some(), "no step has begun")?;
    // While compensating it changes nothing.
    let over = operation.deadline_at().is_some_and(|deadline| deadline <= entry.recorded_at);
    must(over || operation.state == State::Compensating, "the deadline has not come, or time stands still")
}

fn try_failed(operation: &Operation, intent: &Intent, try_number: u32) -> Allowed {
    must(try_number >= intent.tries, "tries are counted upwards")?;
    // A probe that could not answer counts as a try too; a verdict begins anew.
    let most = operation.current_step().map_or(0, |step| step.tries.max.saturating_mul(2));
    must(try_number <= intent.decided_at.saturating_add(most), "it was tried as often as it may be")
}

/// A result of the engine's own knowledge, or one that a person decided in this very entry.
fn known(
    operation: &Operation,
    entry: &Entry,
    key: &EffectKey,
    known_by: KnownBy,
    decision: Decision,
) -> Allowed {
    if known_by != KnownBy::Verdict {
        return current(operation, entry, key).map(drop);
    }
    let decided = verdict_in(entry).ok_or("no verdict stands in this entry")?.decision;
    must(decided == decision, "the verdict in this entry says otherwise")?;
    open(operation, key).map(drop)
}

/// Nothing goes on, and nothing ends, with an open intent.
fn settled(operation: &Operation) -> Allowed {
    must(operation.open.is_none(), "a step has no result yet")
}

fn open<'a>(operation: &'a Operation, key: &EffectKey) -> Result<&'a Intent, &'static str> {
    operation.open.as_ref().filter(|intent| intent.key == *key).ok_or("there is no open intent of this key")
}

/// The open intent, when it belongs to the epoch that writes.
fn current<'a>(operation: &'a Operation, entry: &Entry, key: &EffectKey) -> Result<&'a Intent, &'static str> {
    let intent = open(operation, key)?;
    must(intent.epoch == entry.epoch, "the intent belongs to another epoch; resume it first")?;
    Ok(intent)
}

fn admitted(operation: &Operation, attempt: u32) -> Allowed {
    must(operation.plan.is_some(), "there is no plan")?;
    must(operation.cancel.is_none(), "it is to be cancelled")?;
    must(attempt == 1, "the first attempt is number 1")
}

fn cancelled(operation: &Operation) -> Allowed {
    settled(operation)?;
    must(operation.cancel.is_some(), "nobody asked for it")?;
    must(
        !operation.state.is_acting() || !operation.has_compensation(),
        "a compensation plan is to be run first",
    )
}

fn step_started(operation: &Operation, key: &EffectKey) -> Allowed {
    settled(operation)?;
    must(operation.next_key() == Some(*key), "it is not the next step")?;
    must(operation.paused.is_none(), "it is paused")?;
    if operation.state == State::Compensating {
        return Ok(());
    }
    must(operation.failure.is_none(), "a step failed for good")?;
    must(operation.cancel.is_none(), "it is to be cancelled")?;
    must(!operation.clock.passed, "the deadline passed")
}

fn step_resumed(operation: &Operation, entry: &Entry, key: &EffectKey, request: Option<u64>) -> Allowed {
    let intent = open(operation, key)?;
    must(entry.epoch >= intent.epoch, "its epoch is older")?;
    let Some(request) = request else {
        let halts = operation.current_step().is_some_and(|step| step.in_doubt == Policy::Halt);
        return must(
            !halts || !(intent.in_flight || intent.unknown),
            "it may have happened, and only a verdict lets it be called again",
        );
    };
    let verdict = verdict_in(entry).filter(|verdict| verdict.request == request);
    let decided = verdict.ok_or("its verdict does not stand in this entry")?.decision;
    must(decided == Decision::DidNotHappen, "the verdict in this entry says otherwise")
}

fn verification_started(operation: &Operation) -> Allowed {
    settled(operation)?;
    must(operation.next_key().is_none(), "a step has not run")?;
    must(operation.failure.is_none(), "a step failed for good")?;
    must(operation.cancel.is_none(), "it is to be cancelled")?;
    must(!operation.clock.passed, "the deadline passed")
}

fn passed(operation: &Operation, passes: u32, held_ms: u64) -> Allowed {
    let limits = operation.plan.as_ref().map(|plan| plan.plan.limits).ok_or("there is no plan")?;
    must(passes >= limits.passes, "too few healthy looks in a row")?;
    must(held_ms >= limits.settle_ms, "the settle time is not over")?;
    must(!operation.clock.passed, "the deadline passed")?;
    must(operation.cancel.is_none(), "it is to be cancelled")
}

fn attempts_remain(operation: &Operation) -> bool {
    operation.plan.as_ref().is_some_and(|plan| operation.attempt < plan.plan.limits.attempts)
}

fn next_attempt(operation: &Operation, attempt: u32) -> Allowed {
    must(attempt == operation.attempt + 1, "attempts are counted one by one")?;
    must(attempts_remain(operation), "no attempt remains")?;
    must(operation.cancel.is_none(), "it is to be cancelled")?;
    must(!operation.clock.passed, "the deadline passed")
}

fn compensation_started(operation: &Operation, owes: Owed) -> Allowed {
    settled(operation)?;
    must(operation.has_compensation(), "there is no compensation plan")?;
    match owes {
        Owed::Cancelled => must(operation.cancel.is_some(), "nobody asked to cancel it"),
        Owed::TimedOut => must(operation.clock.passed, "the deadline has not passed"),
        Owed::Failed if operation.state == State::Verifying => {
            must(!attempts_remain(operation), "an attempt remains")
        }
        Owed::Failed => must(
            operation.failure.as_ref().is_some_and(|failure| failure.on_error == OnError::Rollback),
            "no step failed with on_error: rollback",
        ),
    }
}

fn compensated(operation: &Operation, owed: Owed) -> Allowed {
    settled(operation)?;
    must(operation.owes == Some(owed), "it owes another outcome")?;
    must(operation.next_key().is_none(), "a compensation step has not run")
}

fn failed(operation: &Operation) -> Allowed {
    settled(operation)?;
    if operation.state == State::Verifying {
        must(!attempts_remain(operation), "an attempt remains")?;
        return must(!operation.has_compensation(), "a compensation plan is to be run first");
    }
    match operation.failure.as_ref().map(|failure| failure.on_error) {
        Some(OnError::Abort) => Ok(()),
        Some(OnError::Rollback) => {
            must(!operation.has_compensation(), "a compensation plan is to be run first")
        }
        Some(OnError::Suspend) => Err("a person is to decide"),
        Some(OnError::Continue) | None => Err("no step failed for good"),
    }
}

fn resumed(operation: &Operation, to: State, verdict: &Verdict) -> Allowed {
    must(operation.came_from == Some(to), "it came from another state")?;
    match verdict.decision {
        Decision::Happened | Decision::DidNotHappen => {
            must(operation.open.is_some(), "no step is in doubt; decide go_on or give_up")
        }
        Decision::GoOn => {
            must(operation.open.is_none(), "a step is in doubt; decide happened, did_not_happen or give_up")
        }
        Decision::GiveUp => Err("given up ends it"),
    }
}
