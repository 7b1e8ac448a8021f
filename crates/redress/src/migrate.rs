//! `redress migrate`: brings the database of the log to this program's format, and does nothing else.

use anyhow::Error;
use serde_json::json;

use crate::Exit;
use crate::cli::Global;
use crate::database::Place;
use crate::text::{json_line, print};

/// Opening a log migrates it; two that open it at once do so one after the other.
pub(crate) async fn migrate(global: &Global) -> Result<Exit, Error> {
    let place = Place::of(global)?;
    let log = place.open().await?;
    let status = log.status().await?;
    if global.json {
        print(&json_line(&json!({"type": "migrated", "log": place.shown(), "position": status.position,
            "durability": log.durability()}))?)?;
    } else {
        let durability = log.durability();
        print(&format!(
            "{} has this program's format; {durability}, position {}\n",
            place.shown(),
            status.position
        ))?;
    }
    Ok(Exit::DONE)
}
