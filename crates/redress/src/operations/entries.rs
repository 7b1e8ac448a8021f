//! `redress operations log`: the entries of one operation, as the log has them.

use anyhow::Error;
use redress_operation_log::{OperationHistory, StoredEntry};
use serde_json::{Value, json};

use super::read;
use super::words::say;
use crate::Exit;
use crate::cli::Global;
use crate::text::{escape, json_line, moment, print};

/// Prints them, oldest first.
pub(crate) async fn entries(
    global: &Global,
    history: &dyn OperationHistory,
    text: &str,
) -> Result<Exit, Error> {
    let head = read::find(history, text).await?;
    for stored in read::stored(history, head.id, 0).await? {
        if global.json {
            print(&json_line(&object(&stored)?)?)?;
            continue;
        }
        let entry = stored.read()?;
        let actor = escape(&entry.actor.0).into_owned();
        let at = moment(entry.recorded_at);
        print(&format!("{:<4}  {at}  {actor}  epoch {}\n", entry.seq, entry.epoch.0))?;
        for event in &entry.events {
            print(&format!("      {:<22} {}\n", event.kind().to_string(), escape(&say(event))))?;
        }
    }
    Ok(Exit::DONE)
}

/// The entry as stored, with its place and hash. Times in it are microseconds since 1970.
fn object(stored: &StoredEntry) -> Result<Value, Error> {
    let entry: Value = serde_json::from_slice(&stored.body)?;
    let recorded_at = stored.read()?.recorded_at.to_string();
    Ok(json!({"type": "entry", "operation": stored.operation, "seq": stored.seq, "position": stored.position,
              "recorded_at": recorded_at, "hash": stored.hash, "entry": entry}))
}
