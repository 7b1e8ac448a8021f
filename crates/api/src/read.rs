//! Finds one operation by the names people have for it, and folds it from its entries: for whoever shows operations,
//! over HTTP or on a terminal.

use redress_operation_log::entry::Unreadable;
use redress_operation_log::fold::ReplayError;
use redress_operation_log::summary::{Summary, path};
use redress_operation_log::{
    AlertRecord, Entry, Error as LogError, Head, InboxRow, LateResult, Operation, OperationHistory,
    OutboxRow, Outcome, StoredEntry,
};
use redress_types::{AlertId, OperationId};

/// Entries read at a time.
const PAGE: usize = 1_000;
/// As many candidates as an error names.
const CANDIDATES: usize = 5;

/// Why an operation could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing has this name.
    #[error("there is no operation {0:?}")]
    Unknown(String),
    /// Several have it.
    #[error("{text:?} could be {}{}; write more of it", names(candidates), if *more { ", and more" } else { "" })]
    Ambiguous {
        /// What was looked for.
        text: String,
        /// The first of those that it could be.
        candidates: Vec<Head>,
        /// There are more of them.
        more: bool,
    },
    /// It was the operation of this alert, and has left the log.
    #[error(
        "the operation {} of alert {:?} was archived; it ended as {} on {}",
        record.operation, record.id.as_str(), outcome.state, outcome.ended_at
    )]
    Archived {
        /// What stayed.
        record: Box<AlertRecord>,
        /// How it ended.
        outcome: Outcome,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An entry is none that this program knows.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Its entries do not follow from each other.
    #[error("operation {name} cannot be folded; run `redress verify`")]
    Broken {
        /// Which.
        name: String,
        /// Where.
        #[source]
        source: ReplayError,
    },
}

fn names(heads: &[Head]) -> String {
    heads.iter().map(|head| head.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The operation that a UUID, a name, a unique beginning or end of one, or an alert's id means.
///
/// # Errors
/// [`Error::Unknown`], [`Error::Ambiguous`], [`Error::Archived`], [`Error::Log`]. Cancellation safe.
pub async fn find(history: &dyn OperationHistory, text: &str) -> Result<Head, Error> {
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
    if found.len() > 1 {
        let more = found.len() > CANDIDATES;
        found.truncate(CANDIDATES);
        return Err(Error::Ambiguous { text: text.to_owned(), candidates: found, more });
    }
    found.pop().ok_or_else(|| Error::Unknown(text.to_owned()))
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
    match record.outcome.clone() {
        Some(outcome) => Err(Error::Archived { record: Box::new(record), outcome }),
        None => Ok(history.operation(record.operation).await?),
    }
}

/// An operation with its history.
#[derive(Clone, Debug)]
pub struct Folded {
    /// As its entries leave it.
    pub operation: Operation,
    /// Its head, read before the entries: they may be more than it says, never less.
    pub head: Head,
    /// All of them, oldest first.
    pub entries: Vec<Entry>,
}

/// Folds an operation from its entries, all of which must follow from each other.
///
/// # Errors
/// [`Error::Log`], [`Error::Unreadable`], [`Error::Broken`]. Cancellation safe.
pub async fn fold(history: &dyn OperationHistory, id: OperationId) -> Result<Folded, Error> {
    let head = history.operation(id).await?.ok_or(LogError::NotFound(id))?;
    let plan = match head.plan {
        Some(hash) => Some(history.plan(hash).await?.ok_or_else(|| LogError::Corrupt {
            what: format!("plan {hash} is missing; run `redress verify`"),
        })?),
        None => None,
    };
    let stored = entries(history, id).await?;
    let operation = Operation::replay(&stored, plan)
        .map_err(|source| Error::Broken { name: head.name.clone(), source })?;
    let entries = stored.iter().map(StoredEntry::read).collect::<Result<_, _>>()?;
    Ok(Folded { operation, head, entries })
}

/// All entries of an operation, oldest first, as they are stored.
///
/// # Errors
/// When the log cannot be read. Cancellation safe.
pub async fn entries(history: &dyn OperationHistory, id: OperationId) -> Result<Vec<StoredEntry>, LogError> {
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

impl Folded {
    /// What people read of it.
    ///
    /// # Errors
    /// When the log cannot be read. Cancellation safe.
    pub async fn summary(&self, history: &dyn OperationHistory) -> Result<Summary, LogError> {
        let records = history.alerts_of(self.operation.id).await?;
        Ok(Summary::new(&self.operation, &self.head, &records, path(&self.entries)))
    }
}

/// Everything that is shown of one operation. [`shape::operation`](crate::shape::operation) is its JSON.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its history.
    pub folded: Folded,
    /// What people read of it.
    pub summary: Summary,
    /// Results that came too late, and do not count.
    pub late: Vec<LateResult>,
    /// What it owes the world, or owed.
    pub owes: Vec<OutboxRow>,
    /// Requests that nobody has folded in yet.
    pub asked: Vec<InboxRow>,
    /// Whether the engine that holds it, or else any engine, is at work; `None`: it has ended.
    pub attended: Option<bool>,
}

impl Shown {
    /// Reads it.
    ///
    /// # Errors
    /// As [`fold`]. Cancellation safe.
    pub async fn read(history: &dyn OperationHistory, id: OperationId) -> Result<Self, Error> {
        let folded = fold(history, id).await?;
        let head = &folded.head;
        let summary = folded.summary(history).await?;
        let late = history.late_results(id).await?;
        let owes = history.outbox_of(id).await?;
        let asked = history.inbox(id, head.folded_request).await?;
        let attended = if head.state.is_ended() { None } else { Some(attended(history, head).await?) };
        Ok(Self { summary, late, owes, asked, attended, folded })
    }
}

async fn attended(history: &dyn OperationHistory, head: &Head) -> Result<bool, LogError> {
    let sessions = history.status().await?.sessions;
    Ok(match head.session {
        Some(holder) => sessions.iter().any(|session| session.id == holder),
        None => !sessions.is_empty(),
    })
}
