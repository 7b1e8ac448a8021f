//! What the answer to a step means: a result, another try, or doubt. In doubt goes before `on_error`.

use std::time::Duration;

use redress_action::Policy;
use redress_operation_log::Operation;
use redress_operation_log::event::{Event, KnownBy};
use redress_operation_log::fold::{Draft, Intent, Refused, StepResult};
use redress_strategy::{PlanStep, backoff};
use redress_types::EffectKey;

use super::stopping;

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The effect.
    pub key: EffectKey,
    /// What is known.
    pub said: Said,
    /// Since the (first) call of this engine, by its monotonic clock, in milliseconds.
    pub took_ms: u64,
}

/// What is known of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It happened.
    Succeeded {
        /// What it left behind.
        output: String,
        /// How that is known.
        known_by: KnownBy,
    },
    /// It did not, and never will.
    Failed {
        /// What went wrong.
        error: String,
        /// How that is known.
        known_by: KnownBy,
    },
    /// This try did not happen; another may.
    TryAgain {
        /// What went wrong.
        error: String,
        /// What the target asked for.
        retry_after: Option<Duration>,
    },
    /// Nobody knows whether this try happened, or the target could not be asked.
    Unknown {
        /// What went wrong.
        error: String,
        /// What the target asked for.
        retry_after: Option<Duration>,
    },
    /// The target was asked, and no try so far has happened.
    NotApplied,
    /// It was never called.
    NotSent {
        /// Why.
        reason: String,
    },
}

impl Said {
    /// It says what became of a call: nobody could find that out again. That it was not sent anybody can.
    pub(crate) fn is_a_result(&self) -> bool {
        match self {
            Self::Succeeded { .. }
            | Self::Failed { .. }
            | Self::TryAgain { .. }
            | Self::Unknown { .. }
            | Self::NotApplied => true,
            Self::NotSent { .. } => false,
        }
    }
}

/// Records an answer.
pub(super) fn record(draft: &mut Draft, answer: Answer) -> Result<(), Refused> {
    let Answer { key, said, took_ms } = answer;
    match said {
        Said::Succeeded { output, known_by } => {
            draft.push(Event::StepSucceeded { key, output, known_by, took_ms })
        }
        // It speaks of this try; an earlier one may have happened all the same.
        Said::Failed { error, known_by: KnownBy::Answer } if in_doubt(draft) => {
            unknown(draft, key, error, None)
        }
        Said::Failed { error, known_by } => draft.push(Event::StepFailed { key, error, known_by, took_ms }),
        Said::NotSent { reason } => draft.push(Event::StepWithdrawn { key, reason }),
        Said::TryAgain { error, retry_after } => again(draft, key, error, retry_after, took_ms),
        Said::Unknown { error, retry_after } => unknown(draft, key, error, retry_after),
        Said::NotApplied => not_applied(draft, key, took_ms),
    }
}

/// This try certainly did not happen. An earlier one may have: then the doubt stays.
fn again(
    draft: &mut Draft,
    key: EffectKey,
    error: String,
    retry_after: Option<Duration>,
    took_ms: u64,
) -> Result<(), Refused> {
    let Some((intent, step)) = under_way(draft) else { return Ok(()) };
    let last = tried(draft, &intent) + 1 >= step.tries.max || stopping(draft.operation(), draft.now());
    if !last {
        return try_failed(draft, &intent, &step, Tried { error, unknown: intent.unknown, retry_after });
    }
    if !intent.unknown {
        return draft.push(Event::StepFailed { key, error, known_by: KnownBy::Answer, took_ms });
    }
    unknown(draft, key, error, retry_after)
}

/// Nobody knows. What the executor declared decides.
fn unknown(
    draft: &mut Draft,
    _key: EffectKey,
    error: String,
    retry_after: Option<Duration>,
) -> Result<(), Refused> {
    let Some((intent, step)) = under_way(draft) else { return Ok(()) };
    let try_number = tried(draft, &intent) + 1;
    let stopping = stopping(draft.operation(), draft.now());
    let give_up = match step.in_doubt {
        Policy::Halt => true,
        Policy::Rerun => stopping || try_number >= step.tries.max,
        // A probe that cannot answer counts as a try too, so twice as many of both end it.
        Policy::Probe => try_number >= step.tries.max.saturating_mul(2) || (stopping && intent.unknown),
    };
    let reason = format!("nobody knows whether step {:?} happened: {error}", step.name);
    // To settle what is to be stopped, the target is asked at once.
    let retry_after = if stopping { Some(Duration::ZERO) } else { retry_after };
    try_failed(draft, &intent, &step, Tried { error, unknown: true, retry_after })?;
    if give_up { draft.push(Event::Suspended { reason }) } else { Ok(()) }
}

/// The target says that nothing happened so far: the doubt is gone.
fn not_applied(draft: &mut Draft, key: EffectKey, took_ms: u64) -> Result<(), Refused> {
    let Some((intent, step)) = under_way(draft) else { return Ok(()) };
    let last = tried(draft, &intent) >= step.tries.max || stopping(draft.operation(), draft.now());
    let error = match &intent.last_error {
        Some(error) => format!("the target says it did not happen; last try: {error}"),
        None => "the target says it did not happen".to_owned(),
    };
    if last {
        return draft.push(Event::StepFailed { key, error, known_by: KnownBy::Probe, took_ms });
    }
    if !intent.unknown {
        return Ok(());
    }
    let next_at = draft.now();
    draft.push(Event::TryFailed { key, try_number: intent.tries, error, unknown: false, next_at })
}

struct Tried {
    error: String,
    unknown: bool,
    retry_after: Option<Duration>,
}

fn try_failed(draft: &mut Draft, intent: &Intent, step: &PlanStep, tried: Tried) -> Result<(), Refused> {
    let try_number = intent.tries + 1;
    let wait = match tried.retry_after {
        Some(Duration::ZERO) => Duration::ZERO,
        asked => backoff::wait(&step.tries, &intent.key, self::tried(draft, intent) + 1, asked),
    };
    let next_at = draft.now().plus(wait);
    let Tried { error, unknown, .. } = tried;
    draft.push(Event::TryFailed { key: intent.key, try_number, error, unknown, next_at })
}

/// Tries under this key that have an answer: those of intents that were withdrawn later count too, else a step that is
/// paused often enough would be tried for ever.
fn tried(draft: &Draft, intent: &Intent) -> u32 {
    withdrawn_tries(draft.operation(), intent.key).saturating_add(intent.tries)
}

/// Tries of this effect that were answered under intents that were withdrawn afterwards.
pub(crate) fn withdrawn_tries(operation: &Operation, key: EffectKey) -> u32 {
    let withdrawn = operation
        .steps
        .iter()
        .filter(|record| record.key == key && record.result == Some(StepResult::Withdrawn));
    withdrawn.fold(0, |sum, record| sum.saturating_add(record.tries))
}

fn in_doubt(draft: &Draft) -> bool {
    draft.operation().open.as_ref().is_some_and(|intent| intent.unknown)
}

fn under_way(draft: &Draft) -> Option<(Intent, PlanStep)> {
    let operation = draft.operation();
    Some((operation.open.clone()?, operation.current_step()?.clone()))
}
