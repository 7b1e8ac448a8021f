//! From a decided draft to an append: the head as it will stand, claims, conditions, holds, what is owed.

use std::sync::Arc;
use std::time::Duration;

use redress_action::Policy;
use redress_fsm::State;
use redress_operation_log::event::{Event, HoldReason};
use redress_operation_log::fold::Sealed;
use redress_operation_log::{
    Append, Begin, Budget, Claim, Conditions, Ending, Error, Operation, Owe, Payload, Recorded, Standing,
};
use redress_strategy::Rate;
use redress_types::{Epoch, Timestamp};

use crate::decide;
use crate::observer::Observed;
use crate::shared::{Shared, switch_keys};

/// Everything about an append that the sealed entry does not say.
#[derive(Default)]
pub(crate) struct Extras {
    /// With the first entry.
    pub begin: Option<Box<Begin>>,
    /// Claims beside the slot.
    pub claims: Vec<Claim>,
    /// Payloads beside the entry.
    pub payloads: Vec<Payload>,
}

/// Builds the append for a sealed entry.
pub(crate) fn append(shared: &Shared, sealed: &Sealed, epoch: Epoch, extras: Extras) -> Arc<Append> {
    let operation = &sealed.operation;
    let events = &sealed.entry.events;
    let now = sealed.entry.recorded_at;
    let mut claims = extras.claims;
    let admitted = events.iter().any(|event| matches!(event, Event::Admitted { .. }));
    if admitted {
        claims.push(slot(operation));
    }
    // An entry that records the pause begins nothing that the pause forbids.
    let begins_step =
        events.iter().any(|event| matches!(event, Event::StepStarted { .. } | Event::StepResumed { .. }))
            && operation.paused.is_none()
            && !decide::stopping(operation, now);
    let mut conditions = Conditions::default();
    if admitted {
        conditions.holds.push(hold_key(operation));
        conditions.budgets = budgets(shared, operation);
    }
    if admitted || begins_step {
        conditions.switches = switch_keys(operation.strategy.as_deref(), &operation.target);
    }
    Arc::new(Append {
        session: shared.session_id(),
        epoch,
        operation: operation.id,
        expected_seq: sealed.entry.seq - 1,
        body: Arc::clone(&sealed.body),
        hash: sealed.hash,
        versions: sealed.versions(),
        now,
        standing: standing(shared, operation, now),
        begin: extras.begin,
        claims,
        conditions,
        ends: operation.state.is_ended().then(|| ending(operation, now)),
        outbox: owed(shared, operation, events),
        payloads: extras.payloads,
    })
}

/// Whether an append may be left when the engine stops, so that the next engine decides it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnStop {
    /// Nothing is lost with it.
    Leave,
    /// It says what became of a call, which nobody can find out again.
    Repeat,
}

/// Appends; repeats while nobody knows whether it happened, until the engine may not act any more. What a log that
/// does not answer at all made of it is then for the next holder to find.
pub(crate) async fn append_for_certain(
    shared: &Shared,
    append: Arc<Append>,
    on_stop: OnStop,
) -> Result<Recorded, Error> {
    let (owes, operation) = (!append.outbox.is_empty(), append.operation);
    let mut wait = Duration::from_millis(20);
    loop {
        let answer = tokio::select! {
            biased;
            answer = shared.log.append(Arc::clone(&append)) => answer,
            () = shared.lost.cancelled() => {
                let what = format!("the lease ended while operation {operation} was appended to");
                return Err(Error::Unavailable { what, source: None });
            }
        };
        match answer {
            Ok(recorded) => {
                shared.note_append(recorded.position, owes);
                return Ok(recorded);
            }
            Err(error @ Error::Unavailable { .. }) => {
                tracing::warn!(%operation, %error, "append repeated");
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = shared.lost.cancelled() => return Err(error),
                    () = shared.stopping.cancelled(), if on_stop == OnStop::Leave => return Err(error),
                }
                wait = (wait * 2).min(Duration::from_secs(2));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Tells watchers, after the commit.
pub(crate) fn observe(shared: &Shared, operation: &Arc<Operation>, entry: redress_operation_log::Entry) {
    if shared.observers.receiver_count() > 0 {
        let observed = Observed { operation: Arc::clone(operation), entry: Arc::new(entry) };
        // No receiver any more is no matter of ours.
        let _ = shared.observers.send(observed);
    }
}

/// The claim to act on the operation's target, as its plan narrows it.
pub(crate) fn slot(operation: &Operation) -> Claim {
    Claim::Slot(slot_key(operation))
}

fn slot_key(operation: &Operation) -> String {
    match &operation.plan {
        Some(plan) => plan.plan.slot(&operation.target, &operation.alert),
        None => operation.target.to_string(),
    }
}

/// What keeps later operations away for a while: strategy and target, or the problem itself.
pub(crate) fn hold_key(operation: &Operation) -> String {
    match &operation.strategy {
        Some(strategy) if !operation.target.service.is_empty() => {
            format!("{strategy}@{}", slot_key(operation))
        }
        Some(_) | None => fingerprint_key(operation),
    }
}

fn fingerprint_key(operation: &Operation) -> String {
    format!("{FINGERPRINT_BUDGET}{}", operation.alert.fingerprint)
}

/// How the key of a fingerprint's budget begins.
pub(crate) const FINGERPRINT_BUDGET: &str = "fingerprint:";

/// The budgets that its admission needs (safety rules 5 and 6). That of the fingerprint comes first: when it is in
/// the way, a person is called, whatever else is.
fn budgets(shared: &Shared, operation: &Operation) -> Vec<Budget> {
    let Some(plan) = &operation.plan else { return Vec::new() };
    let limits = &plan.plan.limits;
    let mut budgets = Vec::new();
    let mut reserve = |rate: Option<Rate>, key: &dyn Fn() -> String| {
        budgets.extend(rate.map(|rate| Budget {
            key: key(),
            most: rate.most,
            window: Duration::from_millis(rate.window_ms),
        }));
    };
    reserve(limits.fingerprint_rate, &|| fingerprint_key(operation));
    reserve(limits.target_rate, &|| format!("target:{}@{}", plan.plan.strategy, slot_key(operation)));
    reserve(limits.strategy_rate, &|| format!("strategy:{}", plan.plan.strategy));
    reserve(shared.config.rate, &|| "engine".to_owned());
    budgets
}

/// Every ended operation says when its target may be acted on again (safety rule 4).
fn ending(operation: &Operation, now: Timestamp) -> Ending {
    let attempted = operation.attempted();
    let limits = operation.plan.as_ref().map(|plan| plan.plan.limits);
    let rest = match (operation.state, limits) {
        (State::Skipped, _) | (_, None) => Duration::ZERO,
        (_, Some(limits)) if attempted => limits.cooldown(),
        (_, Some(limits)) => Duration::from_millis(limits.idle_cooldown_ms),
    };
    // A strategy that rests for no time leaves nothing to look up.
    let hold = (!attempted || !rest.is_zero()).then(|| (hold_key(operation), now.plus(rest)));
    Ending { hold, refund: !attempted }
}

fn owed(shared: &Shared, operation: &Operation, events: &[Event]) -> Vec<Owe> {
    shared.obligations.iter().flat_map(|obligations| obligations.owed(operation, events)).collect()
}

/// How the head stands after the entry. While held, `wake_at` is when any engine may take the operation: the
/// limit of what runs, plus one lease.
fn standing(shared: &Shared, operation: &Operation, now: Timestamp) -> Standing {
    let held = operation.state.is_acting() && operation.state != State::Suspended;
    let wake_at = match operation.state {
        State::Received | State::Diagnosing => Some(now),
        State::Blocked => {
            let until = operation.hold.as_ref().map_or(now, |hold| hold.until);
            Some(until.min(decide::waiting_limit(operation)))
        }
        State::AwaitingApproval => Some(decide::waiting_limit(operation)),
        State::RollingBack | State::Verifying | State::Compensating => Some(due(shared, operation, now)),
        State::Suspended
        | State::Restored
        | State::Failed
        | State::TimedOut
        | State::Skipped
        | State::Cancelled => None,
    };
    let hold = operation.hold.as_ref().filter(|_| operation.state == State::Blocked);
    let waits_on = hold.and_then(|hold| match &hold.reason {
        HoldReason::TargetBusy { slot, .. } => Some(Claim::Slot(slot.clone())),
        HoldReason::Cooldown { .. }
        | HoldReason::Budget { .. }
        | HoldReason::Paused { .. }
        | HoldReason::Missing { .. } => None,
    });
    Standing {
        state: operation.state,
        held,
        wake_at,
        waits_on,
        folded_request: operation.folded_request,
        reason: operation.reason.clone(),
    }
}

/// When whatever runs now must have shown a sign of life.
pub(crate) fn due(shared: &Shared, operation: &Operation, now: Timestamp) -> Timestamp {
    let slack = shared.config.lease + shared.config.grace;
    let Some(plan) = &operation.plan else { return now.plus(slack) };
    let limits = &plan.plan.limits;
    if operation.paused.is_some() {
        // While it waits it shows a sign of life, by `hold_until`.
        return now.plus(slack);
    }
    if operation.state == State::Verifying {
        let look = plan.plan.checks.iter().map(|check| check.timeout_ms).max().unwrap_or(0);
        let looks = u64::from(limits.passes).saturating_add(1);
        let millis = limits
            .verification_ms
            .saturating_add(limits.settle_ms)
            .saturating_add(look.saturating_add(limits.check_interval_ms).saturating_mul(looks));
        return now.plus(Duration::from_millis(millis)).plus(slack);
    }
    let step = operation.current_step();
    // One that is probed may be asked, and then called.
    let turns = step.map_or(0, |step| if step.in_doubt == Policy::Probe { 2 } else { 1 });
    let timeout = step.map_or(0, |step| step.timeout_ms.saturating_mul(turns));
    let from = operation.open.as_ref().and_then(|intent| intent.next_at).map_or(now, |at| at.max(now));
    from.plus(Duration::from_millis(timeout)).plus(slack)
}
