//! `redress fsm`: the machine as it is compiled into this binary.

use anyhow::Error;
use redress_fsm::table::transitions;
use serde_json::json;

use crate::Exit;
use crate::cli::{Fsm, FsmWhat, Global};
use crate::text::{json_line, print};

/// Prints the machine.
pub(crate) fn fsm(global: &Global, asked: Fsm) -> Result<Exit, Error> {
    match (asked.what, global.json) {
        (FsmWhat::Table, false) => print(&redress_fsm::page::table())?,
        (FsmWhat::Diagram, false) => print(&redress_fsm::page::diagram())?,
        (FsmWhat::Table, true) => {
            for (from, event, to, why) in transitions() {
                print(&json_line(&json!({"from": from, "event": event, "to": to, "why": why}))?)?;
            }
        }
        (FsmWhat::Diagram, true) => {
            print(&json_line(&json!({"mermaid": redress_fsm::page::diagram()}))?)?;
        }
    }
    Ok(Exit::DONE)
}
