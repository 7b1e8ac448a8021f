//! `redress operations list`: a page of heads, newest first.

use anyhow::Error;
use redress_api::shape;
use redress_operation_log::{Cursor, Filter, Head, OperationHistory};
use redress_types::{Clock as _, SystemClock, Timestamp};
use serde_json::json;

use super::read::about;
use crate::Exit;
use crate::cli::{Global, List, Since};
use crate::database::{Place, program, quoted};
use crate::text::{json_line, moment, print, short, table};

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
            print(&json_line(&shape::head(head))?)?;
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

fn row(head: &Head) -> Vec<String> {
    let (target, title) = about(head);
    let reason = head.reason.as_deref().map(|reason| short(reason, 60)).unwrap_or_default();
    let (state, level) = (head.state.to_string(), head.level.to_string());
    vec![moment(head.accepted_at), head.name.clone(), state, target, level, title, reason]
}
