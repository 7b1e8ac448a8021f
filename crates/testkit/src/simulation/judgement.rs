//! Judges a life that was lived. It knows nothing of how the life came about.

use std::collections::{BTreeMap, BTreeSet};

use redress_action::Escalation;
use redress_fsm::State;
use redress_operation_log::{Head, OperationHistory as _};

use super::life::Lived;
use crate::judge;

/// What became of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many operations ended in each state.
    pub states: BTreeMap<String, usize>,
    /// Effects done.
    pub effects: u64,
    /// Crashes survived.
    pub crashes: u64,
}

/// Judges: the five invariants, effects per key, promises kept, and that everything ended.
///
/// # Errors
/// Everything that is wrong, each with the operation's story.
pub async fn judge(lived: &Lived) -> Result<Summary, Vec<String>> {
    let unreadable = |error: redress_operation_log::Error| vec![format!("the log cannot be read: {error}")];
    let mut wrong = judge::complaints(&lived.log, &lived.target).await.map_err(unreadable)?;
    let heads = judge::operations(&lived.log).await.map_err(unreadable)?;
    if !lived.ended {
        for head in heads.iter().filter(|head| !head.state.is_ended()) {
            wrong.push(format!("{}: never ended; it is {}", head.name, head.state));
        }
    }
    for id in &lived.promised {
        if !heads.iter().any(|head| head.id == *id) {
            wrong.push(format!("operation {id} was promised and is not there"));
        }
    }
    if !lived.log.stuck().await.map_err(unreadable)?.is_empty() {
        wrong.push("something is stuck".into());
    }
    wrong.extend(calls(lived, &heads));
    let mut summary = Summary { crashes: lived.crashes, ..Summary::default() };
    for head in &heads {
        *summary.states.entry(head.state.to_string()).or_default() += 1;
        let named = wrong
            .iter()
            .any(|complaint| complaint.contains(&head.name) || complaint.contains(&head.id.to_string()));
        if named || (!lived.ended && head.state == State::Suspended) {
            let entries = judge::entries(&lived.log, head.id).await.map_err(unreadable)?;
            wrong.push(format!("{} story: {}", head.name, story(&entries)));
        }
    }
    summary.effects = lived.target.all().values().map(|seen| u64::from(seen.effects)).sum();
    if wrong.is_empty() { Ok(summary) } else { Err(wrong) }
}

/// Everything owed was delivered, and somebody was called for what could not be restored.
fn calls(lived: &Lived, heads: &[Head]) -> Vec<String> {
    let called = lived.pager.calls();
    let mut wrong = Vec::new();
    for head in heads {
        if head.owed > 0 {
            wrong.push(format!("{}: {} rows of the outbox are still owed", head.name, head.owed));
        }
        let for_it = |call: &&Escalation| call.operation == head.id && call.state == head.state;
        let keys: BTreeSet<String> = called.iter().filter(for_it).map(|call| call.key.to_string()).collect();
        let due = matches!(head.state, State::Failed | State::TimedOut);
        if keys.len() != usize::from(due) && (due || head.state.is_ended() && head.state != State::Cancelled)
        {
            wrong.push(format!("{}: it is {}, and calls went out under {keys:?}", head.name, head.state));
        }
    }
    wrong
}

fn story(entries: &[redress_operation_log::Entry]) -> String {
    let kinds = |entry: &redress_operation_log::Entry| {
        let kinds: Vec<_> = entry.events.iter().map(|event| event.kind().to_string()).collect();
        format!("[{} e{}] {}", entry.recorded_at, entry.epoch.0, kinds.join(" "))
    };
    entries.iter().map(kinds).collect::<Vec<_>>().join("\n    ")
}
