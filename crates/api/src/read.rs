//! Finds one operation by the names people have for it, and folds it from its entries.

use redress_operation_log::summary::{Summary, path};
use redress_operation_log::{Entry, Head, Operation, OperationHistory, StoredEntry};
use redress_types::{AlertId, OperationId};
use serde_json::{Value, json};

use crate::error::Error;
use crate::shape;

/// Entries read at a time.
const PAGE: usize = 1_000;
/// As many candidates as an answer names.
const CANDIDATES: usize = 5;

/// The operation that a UUID, a name, a unique beginning or end of one, or an alert's id means.
pub(crate) async fn find(history: &dyn OperationHistory, text: &str) -> Result<Head, Error> {
    if let Ok(id) = text.parse::<OperationId>()
        && let Some(head) = history.operation(id).await?
    {
        return Ok(head);
    }
    if let Some(head) = of_alert(history, text).await? {
        return Ok(head);
    }
    // Names and UUIDs are made of these; what has others in it is none, and need not be looked for.
    let could_be = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let mut found = if could_be { history.find(text, CANDIDATES + 1).await? } else { Vec::new() };
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(Error::not_found(format!("there is no operation {text:?}"))),
        (Some(head), true) => Ok(head),
        (Some(last), false) => {
            found.push(last);
            Err(ambiguous(text, &found))
        }
    }
}

fn ambiguous(text: &str, found: &[Head]) -> Error {
    let candidates = found.iter().take(CANDIDATES).map(|head| json!({"id": head.id, "name": head.name}));
    let details = json!({"candidates": candidates.collect::<Vec<_>>(), "more": found.len() > CANDIDATES});
    Error::Conflict { message: format!("{text:?} could be several operations; write more of it"), details }
}

/// The last operation of an alert.
async fn of_alert(history: &dyn OperationHistory, text: &str) -> Result<Option<Head>, Error> {
    let Ok(id) = text.parse::<AlertId>() else { return Ok(None) };
    let Some(mut record) = history.alert(&id).await? else { return Ok(None) };
    if record.runs > 1
        && record.id == record.base
        && let Some(last) = record.base.nth(record.runs)
        && let Some(later) = history.alert(&last).await?
    {
        record = later;
    }
    if let Some(outcome) = &record.outcome {
        let details = json!({"operation": record.operation, "alert": record.id, "state": outcome.state,
                             "ended_at": outcome.ended_at.to_string()});
        let message = format!("the operation {} of alert {:?} was archived", record.operation, text);
        return Err(Error::NotFound { message, details });
    }
    Ok(history.operation(record.operation).await?)
}

/// Everything that is shown of one operation.
pub(crate) async fn operation(history: &dyn OperationHistory, id: OperationId) -> Result<Value, Error> {
    // The head first: entries that come meanwhile are then more than it says, never less.
    let head = history.operation(id).await?;
    let head = head.ok_or_else(|| Error::not_found(format!("there is no operation {id}")))?;
    let plan = match head.plan {
        Some(hash) => Some(history.plan(hash).await?.ok_or(redress_operation_log::Error::Corrupt {
            what: format!("plan {hash} is missing; run `redress verify`"),
        })?),
        None => None,
    };
    let stored = entries(history, id).await?;
    let folded = Operation::replay(&stored, plan).map_err(|error| Error::internal(&error))?;
    let read = stored.iter().map(StoredEntry::read).collect::<Result<Vec<Entry>, _>>();
    let read = read.map_err(|error| Error::internal(&error))?;
    let records = history.alerts_of(id).await?;
    let summary = Summary::new(&folded, &head, &records, path(&read));
    let late = history.late_results(id).await?;
    let owes = history.outbox_of(id).await?;
    let asked = history.inbox(id, head.folded_request).await?;
    shape::operation(&summary, &late, &owes, &asked).map_err(|error| Error::internal(&error))
}

async fn entries(history: &dyn OperationHistory, id: OperationId) -> Result<Vec<StoredEntry>, Error> {
    let mut entries: Vec<StoredEntry> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |last| last.seq);
        let page = history.entries(id, after, PAGE).await?;
        let whole = page.len() < PAGE;
        entries.extend(page);
        if whole {
            return Ok(entries);
        }
    }
}
