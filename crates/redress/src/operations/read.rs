//! Reading one operation: by the names people have for it, and folded from its entries.

use std::sync::Arc;

use anyhow::{Context as _, Error, bail};
use redress_operation_log::summary::{Passage, Summary, path};
use redress_operation_log::{Entry, Head, Operation, OperationHistory};
use redress_types::{AlertId, OperationId};

use crate::text::{moment, short};

const PAGE: usize = 1_000;
/// As many candidates as an error names.
const CANDIDATES: usize = 5;

/// An operation with its history.
pub(crate) struct Folded {
    pub operation: Operation,
    pub head: Head,
    pub entries: Vec<Entry>,
}

/// The operation that a UUID, a name, a unique beginning or end of one, or an alert's id means.
pub(crate) async fn find(history: &dyn OperationHistory, text: &str) -> Result<Head, Error> {
    if text.is_empty() {
        bail!("the operation's id is empty; `redress operations list` shows what there is");
    }
    if let Ok(id) = text.parse::<OperationId>()
        && let Some(head) = history.operation(id).await?
    {
        return Ok(head);
    }
    if let Some(head) = of_alert(history, text).await? {
        return Ok(head);
    }
    let found = history.find(text, CANDIDATES + 1).await?;
    match found.as_slice() {
        [] => bail!("there is no operation {:?}; `redress operations list` shows what there is", text),
        [_] => {}
        several => {
            let names: Vec<&str> = several.iter().take(CANDIDATES).map(|head| head.name.as_str()).collect();
            let more = if several.len() > CANDIDATES { ", and more" } else { "" };
            bail!("{text:?} could be {}{more}; write more of it", names.join(", "));
        }
    }
    found.into_iter().next().context("the operation went away")
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
        bail!(
            "the operation {} of alert {:?} was archived; it ended as {} on {}",
            record.operation,
            record.id.as_str(),
            outcome.state,
            moment(outcome.ended_at)
        );
    }
    Ok(history.operation(record.operation).await?)
}

/// Folds an operation from its entries, all of which must follow from each other.
pub(crate) async fn fold(history: &dyn OperationHistory, id: OperationId) -> Result<Folded, Error> {
    // The head first: entries that come meanwhile are then more than it says, never less.
    let head = history.operation(id).await?.with_context(|| format!("there is no operation {id}"))?;
    let plan = match head.plan {
        Some(hash) => {
            let plan = history.plan(hash).await?;
            Some(plan.with_context(|| format!("plan {hash} is missing; run `redress verify`"))?)
        }
        None => None,
    };
    let stored = stored(history, id, 0).await?;
    let operation = Operation::replay(&stored, plan.map(|plan| Arc::clone(&plan)))
        .with_context(|| format!("operation {} cannot be folded; run `redress verify`", head.name))?;
    let entries = stored.iter().map(|stored| Ok(stored.read()?)).collect::<Result<_, Error>>()?;
    Ok(Folded { operation, head, entries })
}

/// All entries of an operation above `after`, oldest first.
pub(crate) async fn stored(
    history: &dyn OperationHistory,
    id: OperationId,
    after: u64,
) -> Result<Vec<redress_operation_log::StoredEntry>, Error> {
    let mut entries: Vec<redress_operation_log::StoredEntry> = Vec::new();
    loop {
        let after = entries.last().map_or(after, |last| last.seq);
        let page = history.entries(id, after, PAGE).await?;
        let whole = page.len() < PAGE;
        entries.extend(page);
        if whole {
            return Ok(entries);
        }
    }
}

impl Folded {
    /// What people read of it.
    pub(crate) async fn summary(&self, history: &dyn OperationHistory) -> Result<Summary, Error> {
        let records = history.alerts_of(self.operation.id).await?;
        Ok(Summary::new(&self.operation, &self.head, &records, self.path()))
    }

    fn path(&self) -> Vec<Passage> {
        path(&self.entries)
    }
}

/// The head's target and title as they stand in a line.
pub(crate) fn about(head: &Head) -> (String, String) {
    let target = if head.target.service.is_empty() {
        "(no service)".to_owned()
    } else {
        short(&head.target.to_string(), 40)
    };
    (target, short(&head.title, 60))
}
