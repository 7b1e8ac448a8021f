//! `redress operations log`: the entries of one operation, as the log has them.

use anyhow::Error;
use redress_api::{read, shape};
use redress_operation_log::OperationHistory;

use super::read::find;
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
    let head = find(history, text).await?;
    for stored in read::entries(history, head.id).await? {
        if global.json {
            print(&json_line(&shape::entry(&stored)?)?)?;
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
