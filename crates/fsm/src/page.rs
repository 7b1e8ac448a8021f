//! Draws the machine: the mermaid diagram, the transitions as a text table, and the page in `docs/`.

use std::fmt::Write as _;

use strum::IntoEnumIterator as _;

use crate::event_kind::EventKind;
use crate::state::State;
use crate::table::{INITIAL, next, transitions};

/// The state diagram in mermaid: the ways between states, without the events that stay.
pub fn diagram() -> String {
    let mut out = String::from("stateDiagram-v2\n");
    let _ = writeln!(out, "    [*] --> {INITIAL}: accepted");
    for from in State::iter() {
        for to in State::iter() {
            let events: Vec<String> = EventKind::iter()
                .filter(|event| from != to && next(from, *event) == Ok(to))
                .map(|event| event.to_string())
                .collect();
            if !events.is_empty() {
                let _ = writeln!(out, "    {from} --> {to}: {}", events.join(", "));
            }
        }
    }
    for state in State::iter().filter(|state| state.is_ended()) {
        let _ = writeln!(out, "    {state} --> [*]");
    }
    out
}

/// Every allowed transition as a line `from  event  to  why`, in the table's order.
pub fn table() -> String {
    let mut out = String::new();
    for (from, event, to, why) in transitions() {
        let to = if to == from { "(stays)".to_owned() } else { to.to_string() };
        let _ = writeln!(out, "{:<18} {:<24} {:<18} {why}", from.to_string(), event.to_string(), to);
    }
    out
}

/// The whole page `docs/state-machine.md`.
pub fn page() -> String {
    let mut out = String::from(
        "# The state machine\n\n\
         Generated from `crates/fsm/src/table.rs`; a test compares it. Refresh it with\n\
         `UPDATE_EXPECT=1 cargo test -p redress-fsm`.\n\n## Diagram\n\n\
         Events that stay in a state are left out here; they stand in the table.\n\n```mermaid\n",
    );
    out.push_str(&diagram());
    out.push_str("```\n\n## Transitions\n\n| from | event | to | why |\n|---|---|---|---|\n");
    let _ = writeln!(out, "| (nothing) | accepted | {INITIAL} | an alert became an operation |");
    for (from, event, to, why) in transitions() {
        let to = if to == from { "(stays)".to_owned() } else { to.to_string() };
        let _ = writeln!(out, "| {from} | {event} | {to} | {why} |");
    }
    out.push_str("\n## The whole grid\n\nRow: event. Column: state. A dot: refused. An equals sign: stays.\n\n| event |");
    for state in State::iter() {
        let _ = write!(out, " {state} |");
    }
    out.push_str("\n|---|");
    out.push_str(&"---|".repeat(State::iter().count()));
    for event in EventKind::iter() {
        let _ = write!(out, "\n| {event} |");
        for state in State::iter() {
            let cell = match next(state, event) {
                Ok(to) if to == state => "=".to_owned(),
                Ok(to) => to.to_string(),
                Err(_) => "·".to_owned(),
            };
            let _ = write!(out, " {cell} |");
        }
    }
    out.push('\n');
    out
}
