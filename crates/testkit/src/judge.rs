//! What must hold of any log when the dust has settled, whatever happened before.

use redress_action::Policy;
use redress_fsm::State;
use redress_operation_log::event::{Event, KnownBy};
use redress_operation_log::verify::{Options, verify};
use redress_operation_log::{Cursor, Entry, Error, Filter, Head, Operation, OperationHistory};
use redress_types::{OperationId, Phase};

use crate::target::Target;

/// Every operation of a log, oldest first.
///
/// # Errors
/// When the log cannot be read.
pub async fn operations(history: &dyn OperationHistory) -> Result<Vec<Head>, Error> {
    let mut heads = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = history.operations(&Filter::default(), after, 500).await?;
        heads.extend(page.operations);
        after = page.next;
        if after.is_none() {
            heads.reverse();
            return Ok(heads);
        }
    }
}

/// The entries of one operation, oldest first.
///
/// # Errors
/// When the log cannot be read, or holds what is no entry.
pub async fn entries(history: &dyn OperationHistory, id: OperationId) -> Result<Vec<Entry>, Error> {
    let stored = history.entries(id, 0, usize::MAX).await?;
    let corrupt =
        |error: redress_operation_log::entry::Unreadable| Error::Corrupt { what: error.to_string() };
    stored.iter().map(|stored| stored.read().map_err(corrupt)).collect()
}

/// One operation, folded from its entries.
///
/// # Errors
/// When the log cannot be read, or its entries cannot be folded.
pub async fn fold(history: &dyn OperationHistory, head: &Head) -> Result<Operation, Error> {
    let plan = match head.plan {
        Some(hash) => history.plan(hash).await?,
        None => None,
    };
    let entries = history.entries(head.id, 0, usize::MAX).await?;
    Operation::replay(&entries, plan).map_err(|error| Error::Corrupt { what: error.to_string() })
}

/// Everything wrong with a log and with what was done to the world under it; empty: nothing.
///
/// The log must verify (chains, folds, heads and the five invariants), nothing may end with an open intent,
/// nothing may be stuck, and no effect may have been done more often than its executor allows: under `Halt` at
/// most once for every time a person said that it did not happen, under `Probe` at most once, and never twice
/// at the same time. What the log says succeeded must have been done, unless a person said so.
///
/// # Errors
/// When the log cannot be read.
pub async fn complaints(history: &dyn OperationHistory, target: &Target) -> Result<Vec<String>, Error> {
    let report = verify(history, &Options::default()).await?;
    let mut wrong: Vec<String> = report.findings.iter().map(|finding| format!("verify: {finding}")).collect();
    if !report.is_clean() && wrong.is_empty() {
        wrong.push(format!("verify found {} things", report.found));
    }
    for head in operations(history).await? {
        let operation = fold(history, &head).await?;
        let entries = entries(history, head.id).await?;
        if head.state.is_ended() && operation.open.is_some() {
            wrong.push(format!("{}: ended with an open intent", head.name));
        }
        wrong.extend(
            effects(&operation, &entries, target).into_iter().map(|what| format!("{}: {what}", head.name)),
        );
    }
    Ok(wrong)
}

/// Whether an operation needs somebody or something from outside the engine to go on.
pub fn waits_outside(state: State) -> bool {
    state.is_ended() || matches!(state, State::Suspended | State::Blocked)
}

fn effects(operation: &Operation, entries: &[Entry], target: &Target) -> Vec<String> {
    let mut wrong = Vec::new();
    let events = || entries.iter().flat_map(|entry| &entry.events);
    for (key, seen) in target.of(operation.id) {
        let Some(plan) = &operation.plan else {
            wrong.push(format!("{key} was called without a plan"));
            continue;
        };
        let steps = if key.phase == Phase::Compensation { &plan.plan.compensation } else { &plan.plan.steps };
        let step = usize::try_from(key.step).ok().and_then(|index| steps.get(index));
        let Some(policy) = step.map(|step| step.in_doubt) else {
            wrong.push(format!("{key} is no step of its plan"));
            continue;
        };
        let starts =
            events().filter(|event| matches!(event, Event::StepStarted { key: of, .. } if *of == key));
        if starts.count() == 0 && seen.calls + seen.effects > 0 {
            wrong.push(format!("{key} was called without an intent"));
        }
        // A person who says "it did not happen" takes the blame for what follows.
        let again =
            |event: &&Event| matches!(event, Event::StepResumed { key: of, request: Some(_) } if *of == key);
        let blamed = u32::try_from(events().filter(again).count()).unwrap_or(u32::MAX);
        let most = match policy {
            Policy::Rerun => u32::MAX,
            Policy::Probe | Policy::Halt => 1 + blamed,
        };
        if seen.effects > most {
            wrong.push(format!("{key} ({policy}) was done {} times, at most {most} allowed", seen.effects));
        }
        if seen.at_once_max > 1 && policy != Policy::Rerun {
            wrong.push(format!("{key} ({policy}) was under way {} times at once", seen.at_once_max));
        }
        if seen.stale > 0 {
            wrong.push(format!("{key} was called {} times under an older epoch", seen.stale));
        }
    }
    for event in events() {
        if let Event::StepSucceeded { key, known_by: KnownBy::Answer | KnownBy::Probe, .. } = event
            && target.seen(*key).effects == 0
        {
            wrong.push(format!("{key} is said to have succeeded and was never done"));
        }
    }
    wrong
}
