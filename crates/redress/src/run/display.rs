//! How a run shows itself: lines, JSON lines, or live lines on a terminal. The same facts in each.
//!
//! A reader that went away does not stop a remediation: what cannot be printed is not printed.

use std::io::IsTerminal as _;

use redress_fsm::State;
use redress_operation_log::Operation;
use redress_types::Timestamp;
use serde_json::{Value, json};

use super::board::{Board, Change, Line};
use super::live::Live;
use crate::database::{Place, program};
use crate::operations::words::say;
use crate::text::{clock, escape, json_line, print};

/// Where a run shows itself.
pub(crate) enum Display {
    /// One line per committed entry.
    Plain,
    /// One object per line.
    Json,
    /// One live line per operation.
    Live(Box<Live>),
}

impl Display {
    /// JSON when it is asked for, live lines on a terminal that can do them, else plain lines.
    pub(crate) fn new(json: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        match (json, std::io::stdout().is_terminal() && !dumb) {
            (true, _) => Self::Json,
            (false, true) => Self::Live(Box::new(Live::new())),
            (false, false) => Self::Plain,
        }
    }

    /// A line for people, harmless already; in JSON its object takes its place.
    pub(crate) fn tell(&self, line: &str, object: impl FnOnce() -> Value) {
        match self {
            Self::Plain => put(&format!("{line}\n")),
            Self::Json => put(&json_line(&object()).unwrap_or_default()),
            Self::Live(live) => live.print(line),
        }
    }

    /// A committed entry.
    pub(crate) fn change(&self, line: &Line, change: &Change) {
        let entry = &change.entry;
        let said = || {
            let said: Vec<String> = entry.events.iter().map(say).collect();
            let at = clock(entry.recorded_at);
            format!("{at} {} {:<12} {}\n", line.name, change.state.to_string(), escape(&said.join("; ")))
        };
        match self {
            Self::Plain => put(&said()),
            Self::Json => put(&json_line(&entry_object(line, change)).unwrap_or_default()),
            Self::Live(_) => {}
        }
    }

    /// What only a person can move, and the command that does.
    pub(crate) fn needs_person(&self, line: &Line, place: &Place) {
        let command = resolve_command(&line.operation, &line.name, place);
        let reason = line.operation.reason.clone().unwrap_or_default();
        let text = format!(
            "{} is suspended, a person must decide: {}\n  decide: {command}",
            line.name,
            escape(&reason)
        );
        self.tell(&text, || {
            json!({"type": "needs_person", "operation": line.operation.id, "name": line.name,
                   "reason": reason, "command": command})
        });
    }

    /// Draws what moves: elapsed times and bars.
    pub(crate) fn tick(&mut self, board: &Board, now: Timestamp) {
        match self {
            Self::Live(live) => live.draw(board, now),
            Self::Plain | Self::Json => {}
        }
    }

    /// Takes the live lines away; what comes after them are plain lines.
    pub(crate) fn finish(self) -> Self {
        match self {
            Self::Live(live) => {
                live.clear();
                Self::Plain
            }
            Self::Plain => Self::Plain,
            Self::Json => Self::Json,
        }
    }
}

fn put(text: &str) {
    if let Err(error) = print(text) {
        tracing::debug!(%error, "nobody reads the output any more");
    }
}

/// `events` is what the log holds; the times in it are microseconds since 1970.
fn entry_object(line: &Line, change: &Change) -> Value {
    let entry = &change.entry;
    json!({
        "type": "entry",
        "operation": change.id,
        "name": line.name,
        "seq": entry.seq,
        "recorded_at": entry.recorded_at.to_string(),
        "state": change.state,
        "actor": entry.actor,
        "epoch": entry.epoch,
        "events": entry.events,
    })
}

/// The command that decides on a suspended operation: which verdicts fit depends on whether a step is in doubt.
pub(crate) fn resolve_command(operation: &Operation, name: &str, place: &Place) -> String {
    let flags = match (operation.state, &operation.open) {
        (State::Suspended, Some(_)) => "--happened|--did-not-happen|--give-up",
        (_, _) => "--go-on|--give-up",
    };
    format!("{} operations resolve {name}{} {flags} --reason '…'", program(), place.as_option())
}
