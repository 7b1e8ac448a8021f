//! What a row of the inbox means where the operation stands. Every row is answered by exactly one event.

use redress_fsm::State;
use redress_operation_log::event::{Decision, Event, KnownBy, Verdict};
use redress_operation_log::fold::{Draft, Refused};
use redress_operation_log::{InboxRow, Operation, Request};

/// Records one row.
pub(super) fn record(draft: &mut Draft, row: &InboxRow) -> Result<(), Refused> {
    if row.seq <= draft.operation().folded_request {
        return Ok(());
    }
    match &row.request {
        Request::Join { alert } => {
            if draft.operation().counts(&alert.id) {
                return refuse(draft, row, "the alert is counted already");
            }
            draft.push(Event::AlertJoined { request: row.seq, alert: alert.clone() })
        }
        Request::Resolved { alert, ends_at } => {
            if !draft.operation().counts(alert) {
                return refuse(draft, row, "the alert is not counted here");
            }
            draft.push(Event::AlertResolved { request: row.seq, alert: alert.clone(), ends_at: *ends_at })
        }
        Request::Cancel { reason } => draft.push(Event::CancelRequested {
            request: row.seq,
            by: row.actor.clone(),
            reason: reason.clone(),
        }),
        Request::Verdict { decision, reason } => {
            let verdict = Verdict {
                request: row.seq,
                decision: *decision,
                by: row.actor.clone(),
                reason: reason.clone(),
            };
            self::verdict(draft, row, verdict)
        }
    }
}

fn refuse(draft: &mut Draft, row: &InboxRow, why: impl Into<String>) -> Result<(), Refused> {
    draft.push(Event::RequestRefused { request: row.seq, reason: why.into() })
}

fn verdict(draft: &mut Draft, row: &InboxRow, verdict: Verdict) -> Result<(), Refused> {
    let operation = draft.operation();
    let Some(came_from) = operation.came_from.filter(|_| operation.state == State::Suspended) else {
        let why = format!("a verdict is for a suspended operation; this one is {}", operation.state);
        return refuse(draft, row, why);
    };
    let open = operation.open.as_ref().map(|intent| (intent.key, intent.since));
    match (verdict.decision, open) {
        (Decision::GiveUp, open) => {
            if let Some((key, _)) = open {
                draft.push(Event::StepAbandoned { key })?;
            }
            draft.push(Event::GivenUp { verdict })
        }
        (Decision::GoOn, Some(_)) => {
            refuse(draft, row, "a step is in doubt; decide happened, did_not_happen or give_up")
        }
        (Decision::Happened | Decision::DidNotHappen, None) => {
            refuse(draft, row, "no step is in doubt; decide go_on or give_up")
        }
        (Decision::GoOn, None) => draft.push(resumed(came_from, verdict)),
        (Decision::Happened, Some((key, since))) => {
            let output = format!("{} says it happened: {}", verdict.by, verdict.reason);
            draft.push(resumed(came_from, verdict))?;
            let took_ms = millis_since(draft, since);
            draft.push(Event::StepSucceeded { key, output, known_by: KnownBy::Verdict, took_ms })
        }
        (Decision::DidNotHappen, Some((key, since))) => {
            let error = format!("{} says it did not happen: {}", verdict.by, verdict.reason);
            let request = verdict.request;
            draft.push(resumed(came_from, verdict))?;
            if to_be_stopped(draft.operation()) {
                // The cancel waited for this verdict: the step is settled, and not called again.
                let took_ms = millis_since(draft, since);
                return draft.push(Event::StepFailed { key, error, known_by: KnownBy::Verdict, took_ms });
            }
            draft.push(Event::StepResumed { key, request: Some(request) })
        }
    }
}

fn to_be_stopped(operation: &Operation) -> bool {
    operation.state != State::Compensating && (operation.cancel.is_some() || operation.clock.passed)
}

fn millis_since(draft: &Draft, since: redress_types::Timestamp) -> u64 {
    u64::try_from(draft.now().since(since).as_millis()).unwrap_or(u64::MAX)
}

fn resumed(came_from: State, verdict: Verdict) -> Event {
    match came_from {
        State::Compensating => Event::ResumedCompensating { verdict },
        State::Verifying => Event::ResumedVerifying { verdict },
        State::RollingBack
        | State::Received
        | State::Blocked
        | State::Diagnosing
        | State::AwaitingApproval
        | State::Suspended
        | State::Restored
        | State::Failed
        | State::TimedOut
        | State::Skipped
        | State::Cancelled => Event::ResumedRollingBack { verdict },
    }
}
