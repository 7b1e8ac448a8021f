//! Calls a person (safety rules 6 and 16): which entries owe a call, and the executor that carries it out.
//!
//! The trait itself, [`Escalate`], is in the action crate. A call is a row of the outbox, written in the commit of the
//! entry that owes it and delivered at least once under one key.

use async_trait::async_trait;
use redress_action::{ActionExecutor, Call, Error, Escalate, Escalation, InDoubt, OnFailure, Output};
use redress_fsm::State;
use redress_operation_log::event::{Event, HoldReason};
use redress_operation_log::fold::StepResult;
use redress_operation_log::{Obligations, Operation, Owe};
use redress_types::{EffectKey, Phase};

use crate::commit::FINGERPRINT_BUDGET;
use crate::own_alert;

/// The name of the executor that calls people.
pub const EXECUTOR: &str = "escalation";

/// Says which entries owe a call: those that end Failed or TimedOut, that suspend, that hold an operation back because
/// its problem has used up its attempts, that cancel one whose compensation failed, and alerts of the engine's own.
pub(crate) struct Calls;

impl Obligations for Calls {
    fn owed(&self, operation: &Operation, events: &[Event]) -> Vec<Owe> {
        let Some(reason) = reason_to_call(operation, events) else { return Vec::new() };
        let escalation = Escalation {
            // Its place in the outbox is not known yet: the executor puts in the key that it is called with.
            key: EffectKey { operation: operation.id, phase: Phase::Outbox, attempt: 0, step: 0 },
            operation: operation.id,
            name: operation.id.name(&operation.alert.fingerprint),
            alert: operation.alert.id.clone(),
            level: operation.alert.level,
            title: operation.alert.title.clone(),
            target: operation.target.clone(),
            strategy: operation.strategy.clone(),
            state: operation.state,
            reason,
            safe_state: operation.plan.as_ref().map_or(OnFailure::Escalate, |plan| plan.plan.on_failure),
            at: operation.updated_at,
        };
        // A struct of texts and numbers can always be written.
        let content = serde_json::to_vec(&escalation).unwrap_or_default().into();
        vec![Owe { executor: EXECUTOR.to_owned(), order_key: format!("operation:{}", operation.id), content }]
    }
}

/// Whether what holds an operation back is a matter for a person: its problem keeps coming back.
pub(crate) fn calls_a_person(reason: &HoldReason) -> bool {
    match reason {
        HoldReason::Budget { key, .. } => key.starts_with(FINGERPRINT_BUDGET),
        HoldReason::Cooldown { .. }
        | HoldReason::TargetBusy { .. }
        | HoldReason::Paused { .. }
        | HoldReason::Missing { .. } => false,
    }
}

fn reason_to_call(operation: &Operation, events: &[Event]) -> Option<String> {
    let reason = || operation.reason.clone().unwrap_or_else(|| format!("it is {}", operation.state));
    match operation.state {
        State::Failed | State::TimedOut => Some(reason()),
        State::Suspended => {
            let suspends = events.iter().any(|event| matches!(event, Event::Suspended { .. }));
            suspends.then(reason)
        }
        State::Blocked => {
            // Held back again for the same reason is no news.
            let hold = operation.hold.as_ref().filter(|hold| hold.since == operation.updated_at)?;
            calls_a_person(&hold.reason)
                .then(|| format!("{}: the problem keeps coming back; a person is to look at it", hold.reason))
        }
        State::Cancelled => compensation_failed(operation, events).then(reason),
        State::Skipped => own_alert::reason(&operation.alert),
        State::Received
        | State::Diagnosing
        | State::AwaitingApproval
        | State::RollingBack
        | State::Verifying
        | State::Compensating
        | State::Restored => None,
    }
}

/// A compensation that did not do all it should is never silent, whatever outcome was owed.
fn compensation_failed(operation: &Operation, events: &[Event]) -> bool {
    let failed = |result| matches!(result, Some(StepResult::Failed(_) | StepResult::Abandoned));
    let not_run = events.iter().any(|event| matches!(event, Event::StepNotRun { .. }));
    not_run
        || operation
            .steps
            .iter()
            .any(|record| record.key.phase == Phase::Compensation && failed(record.result))
}

/// Carries a call out.
pub(crate) struct Caller<E>(pub E);

#[async_trait]
impl<E: Escalate> ActionExecutor for Caller<E> {
    fn name(&self) -> &str {
        EXECUTOR
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Rerun
    }

    async fn execute(&self, call: &Call) -> Result<Output, Error> {
        let told: Escalation = serde_json::from_value(call.parameters.as_ref().clone())
            .map_err(|error| Error::permanent(format!("it is no escalation: {error}")))?;
        self.0.escalate(&Escalation { key: call.key, ..told }).await?;
        Ok(Output::new("a person was called"))
    }
}
