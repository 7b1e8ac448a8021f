//! `redress outbox`: what the log still owes the world, and a person's word on it.

use anyhow::{Context as _, Error};
use redress_api::shape::{self, row_number};
use redress_operation_log::{Error as LogError, OperationLog, OutboxDecision, OutboxState, OutboxVerdict};
use redress_types::{Clock as _, SystemClock};

use crate::Exit;
use crate::cli::{Global, Outbox};
use crate::database::Place;
use crate::operations::me;
use crate::text::{json_line, moment, print, short, table};

/// Rows on one page: an outbox that is longer has one cause, and the first rows show it.
const PAGE: usize = 1_000;

/// One of its commands.
pub(crate) async fn outbox(global: &Global, asked: Outbox) -> Result<Exit, Error> {
    let log = Place::of(global)?.open_existing().await?;
    match asked {
        Outbox::List => list(global, &*log).await,
        Outbox::Retry { row, reason } => decide(global, &*log, row, reason, OutboxVerdict::Retry).await,
        Outbox::Close { row, reason } => decide(global, &*log, row, reason, OutboxVerdict::Close).await,
    }
}

async fn list(global: &Global, log: &dyn OperationLog) -> Result<Exit, Error> {
    let rows = log.outbox_owed(PAGE).await?;
    if global.json {
        for row in &rows {
            print(&json_line(&shape::outbox_row(row))?)?;
        }
        return Ok(Exit::DONE);
    }
    if rows.is_empty() {
        print("nothing is owed\n")?;
        return Ok(Exit::DONE);
    }
    let header = ["ROW", "EXECUTOR", "STATE", "TRIES", "DUE", "OPERATION", "LAST ERROR"];
    let mut lines = vec![header.iter().map(|cell| (*cell).to_owned()).collect()];
    for row in &rows {
        let error = row.last_error.as_deref().map(|error| short(error, 80)).unwrap_or_default();
        lines.push(vec![
            row_number(row),
            short(&row.executor, 20),
            word(row.state).to_owned(),
            row.tries.to_string(),
            moment(row.due_at),
            row.operation.to_string(),
            error,
        ]);
    }
    print(&table(&lines))?;
    if rows.len() == PAGE {
        print(&format!("there may be more than these {PAGE}\n"))?;
    }
    Ok(Exit::DONE)
}

async fn decide(
    global: &Global,
    log: &dyn OperationLog,
    (position, index): (u64, u32),
    reason: String,
    what: OutboxVerdict,
) -> Result<Exit, Error> {
    let decision = OutboxDecision { position, index, at: SystemClock.now(), by: me()?, reason, what };
    let row = match log.outbox_decide(decision).await {
        Err(LogError::DifferentContent { what }) => anyhow::bail!(
            "{what}, is owed no more: what was delivered or closed stays so, and nothing is left to do"
        ),
        decided => decided.context("deciding on an outbox row")?,
    };
    if global.json {
        print(&json_line(&shape::outbox_row(&row))?)?;
    } else {
        print(&format!("row {} for {} is {} now\n", row_number(&row), row.executor, word(row.state)))?;
    }
    Ok(Exit::DONE)
}

/// What a state means to the person who looks.
pub(crate) const fn word(state: OutboxState) -> &'static str {
    match state {
        OutboxState::Owed => "owed",
        OutboxState::Done => "done",
        OutboxState::Handed => "waits for a person",
        OutboxState::Closed => "closed by a person",
    }
}
