//! [`Effect`]: what the engine must do next, derived from the folded operation; never stored.

use redress_action::Policy;
use redress_fsm::State;
use redress_operation_log::Operation;
use redress_types::{EffectKey, Epoch, Timestamp};

/// What the engine must do next with an operation that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Look whether it may act now.
    Admit,
    /// Call the executor: the intent is durable under this epoch.
    Call(EffectKey),
    /// The intent is of an earlier epoch: resume it, then probe or call.
    Recover(EffectKey, Policy),
    /// Wait for the next try until then.
    WaitForTry(EffectKey, Timestamp),
    /// Run the checks.
    Verify,
    /// Nothing is under way: begin what follows.
    Begin,
    /// A switch pauses it.
    WaitForSwitch,
    /// A person decides.
    WaitForPerson,
    /// It has ended.
    Nothing,
}

/// Derives the next effect.
pub fn effect(operation: &Operation, epoch: Epoch) -> Effect {
    match operation.state {
        State::Received | State::Blocked => Effect::Admit,
        State::Diagnosing | State::AwaitingApproval | State::Suspended => Effect::WaitForPerson,
        State::RollingBack | State::Compensating => stepping(operation, epoch),
        State::Verifying => Effect::Verify,
        State::Restored | State::Failed | State::TimedOut | State::Skipped | State::Cancelled => {
            Effect::Nothing
        }
    }
}

fn stepping(operation: &Operation, epoch: Epoch) -> Effect {
    // What is to stop is settled even while it is paused: that looks at the target and changes nothing.
    let to_stop = operation.cancel.is_some() || operation.clock.passed;
    if operation.paused.is_some() && !(to_stop && operation.open.is_some()) {
        return Effect::WaitForSwitch;
    }
    let Some(intent) = &operation.open else { return Effect::Begin };
    // A plan that lost its step is treated with the greatest care.
    let policy = operation.current_step().map_or(Policy::Halt, |step| step.in_doubt);
    match intent.next_at {
        // Every further try is announced before it is called: here nothing is on its way, whoever holds it now.
        Some(next_at) if !intent.unknown => Effect::WaitForTry(intent.key, next_at),
        Some(next_at) if intent.epoch == epoch => Effect::WaitForTry(intent.key, next_at),
        _ if intent.epoch == epoch => Effect::Call(intent.key),
        _ => Effect::Recover(intent.key, policy),
    }
}
