//! `redress operations list`: a page of heads, newest first.

use anyhow::Error;
use redress_operation_log::{Cursor, Filter, Head, OperationHistory};
use redress_types::{Clock as _, SystemClock, Timestamp};
use serde_json::{Value, json};

use super::read::about;
use crate::Exit;
use crate::cli::{Global, List, Since};
use crate::database::{Place, program};
use crate::text::{escape, json_line, moment, print, short, table};

/// Prints a page.
pub(crate) async fn list(
    global: &Global,
    history: &dyn OperationHistory,
    place: &Place,
    asked: &List,
) -> Result<Exit, Error> {
    let since = asked.since.map(|since| match since {
        Since::At(at) => at,
        Since::Ago(ago) => SystemClock.now().minus(ago),
    });
    let filter = Filter { states: asked.state.clone(), service: asked.service.clone(), since };
    let page = history.operations(&filter, asked.cursor.map(Cursor), usize::from(asked.limit)).await?;
    let next = page.next.map(|Cursor(next)| next);
    if global.json {
        for head in &page.operations {
            print(&json_line(&object(head))?)?;
        }
        print(&json_line(&json!({"type": "page", "next": next}))?)?;
        return Ok(Exit::DONE);
    }
    if page.operations.is_empty() {
        print("no operations\n")?;
        return Ok(Exit::DONE);
    }
    let header = ["ACCEPTED", "OPERATION", "STATE", "TARGET", "LEVEL", "TITLE", "REASON"];
    let mut rows = vec![header.iter().map(|cell| (*cell).to_owned()).collect()];
    rows.extend(page.operations.iter().map(row));
    print(&table(&rows))?;
    if let Some(next) = next {
        let more = format!("{} operations list{}{}", program(), place.as_option(), options(asked, since));
        print(&format!("more: {more} --cursor {next}\n"))?;
    }
    Ok(Exit::DONE)
}

/// The options that ask for the same list again. A duration is turned into the time that it meant.
fn options(asked: &List, since: Option<Timestamp>) -> String {
    let mut text = String::new();
    for state in &asked.state {
        text.push_str(&format!(" --state {state}"));
    }
    if let Some(service) = &asked.service {
        text.push_str(&format!(" --service {}", quoted(service)));
    }
    if let Some(since) = since {
        text.push_str(&format!(" --since {since}"));
    }
    text.push_str(&format!(" --limit {}", asked.limit));
    text
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", escape(word).replace('\'', "'\\''"))
}

fn row(head: &Head) -> Vec<String> {
    let (target, title) = about(head);
    let reason = head.reason.as_deref().map(|reason| short(reason, 60)).unwrap_or_default();
    let (state, level) = (head.state.to_string(), head.level.to_string());
    vec![moment(head.accepted_at), head.name.clone(), state, target, level, title, reason]
}

/// A head as programs read it. Times are RFC 3339.
pub(crate) fn object(head: &Head) -> Value {
    json!({
        "type": "operation",
        "id": head.id,
        "name": head.name,
        "state": head.state,
        "reason": head.reason,
        "target": head.target.to_string(),
        "environment": head.target.environment,
        "service": head.target.service,
        "strategy": head.strategy,
        "level": head.level,
        "title": head.title,
        "fingerprint": head.fingerprint,
        "seq": head.seq,
        "epoch": head.epoch,
        "held_by": head.session,
        "owed": head.owed,
        "accepted_at": head.accepted_at.to_string(),
        "updated_at": head.updated_at.to_string(),
        "ended_at": head.ended_at.map(|at| at.to_string()),
        "wake_at": head.wake_at.map(|at| at.to_string()),
    })
}
