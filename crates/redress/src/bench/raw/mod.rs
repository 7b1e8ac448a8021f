//! The raw half: a program without an engine that writes the rows of the run again, in transactions of the size
//! that the run had, over as many connections as the log used, with the log's settings.
//!
//! Per operation: its head inserted and then moved with each entry, its alert, its claims taken and freed, its
//! entries; per transaction: what the log writes once in each. What an engine does beside that (reading, deciding,
//! hashing, JSON) is left out: the difference is its price. [`sqlite`] and [`postgres`] do the writing.

mod postgres;
mod sqlite;
mod statement;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use anyhow::{Context as _, Error};
use redress_operation_log::summary::path;
use redress_operation_log::{Entry, Head, OperationHistory, StoredEntry};
use redress_types::{Hash, OperationId};

use crate::database::Place;

/// As many entries are written again at most: enough for a figure, and they fit into memory.
const ENTRIES_MAX: usize = 200_000;

/// What stands beside the log that is measured: where its size is read, and where its rows are written again.
pub(super) enum Beside {
    /// The log is in memory: it has neither.
    Nothing,
    /// A file beside the log's: the same disk.
    File(sqlite::Beside),
    /// A schema beside the log's: the same server.
    Schema(Box<postgres::Beside>),
}

impl Beside {
    /// For the log at this place, which must be open. Fails now rather than after the run when the rows could not be
    /// written again.
    pub(super) async fn of(place: &Place) -> Result<Self, Error> {
        Ok(match (place, place.path()) {
            (Place::Postgres(url), _) => Self::Schema(Box::new(postgres::Beside::of(url).await?)),
            (Place::File(_), Some(path)) => Self::File(sqlite::Beside::of(path)?),
            (Place::File(_) | Place::Memory, _) => Self::Nothing,
        })
    }

    /// How large the database is, in bytes.
    pub(super) async fn bytes(&self) -> Result<u64, Error> {
        match self {
            Self::Nothing => Ok(0),
            Self::File(file) => Ok(file.bytes()),
            Self::Schema(schema) => schema.bytes().await,
        }
    }

    /// Writes the rows of a run again; answers operations per second. `commits_per_op` is how many transactions the run
    /// had for each operation, `connections` over how many connections.
    pub(super) async fn measure(
        &self,
        history: &dyn OperationHistory,
        commits_per_op: f64,
        connections: usize,
    ) -> Result<Option<f64>, Error> {
        match self {
            Self::Nothing => Ok(None),
            Self::File(file) => file.measure(Rows::read(history, commits_per_op).await?).await.map(Some),
            Self::Schema(schema) => {
                schema.measure(Rows::read(history, commits_per_op).await?, connections).await.map(Some)
            }
        }
    }
}

/// The rows of a run, in the order in which they were written.
struct Rows {
    entries: Vec<Row>,
    plans: Vec<(Vec<u8>, Arc<[u8]>)>,
    /// Operations whose last entry is among them.
    operations: usize,
    /// Entries per transaction, on average.
    batch: usize,
}

/// One entry, and what is written with it.
struct Row {
    stored: StoredEntry,
    /// The state after it.
    state: String,
    /// With the first entry of an operation.
    head: Option<Box<Head>>,
    last: bool,
}

impl Rows {
    /// Reads them back from the log, and how many shared a transaction.
    async fn read(history: &dyn OperationHistory, commits_per_op: f64) -> Result<Self, Error> {
        let audit = history.audit().await?;
        let heads: HashMap<OperationId, Head> = audit.heads.into_iter().map(|head| (head.id, head)).collect();
        let mut entries: Vec<Row> = Vec::new();
        let mut read: HashMap<OperationId, Vec<Entry>> = HashMap::new();
        let mut all = 0_u64;
        let mut after = 0;
        loop {
            let page = history.follow(after, 1000).await?;
            let Some(last) = page.last() else { break };
            after = last.position;
            all += page.len() as u64;
            if entries.len() >= ENTRIES_MAX {
                continue;
            }
            for stored in page {
                let head = heads.get(&stored.operation).context("an entry without a head")?;
                let so_far = read.entry(stored.operation).or_default();
                so_far.push(stored.read()?);
                let state = path(so_far.iter()).last().map(|passage| passage.state.to_string());
                let last = stored.seq == head.seq;
                if last {
                    read.remove(&stored.operation);
                }
                let first = (stored.seq == 1).then(|| Box::new(head.clone()));
                entries.push(Row { stored, state: state.unwrap_or_default(), head: first, last });
            }
        }
        let mut plans = Vec::new();
        let mut hashes: Vec<_> = heads.values().filter_map(|head| head.plan).collect();
        hashes.sort_unstable();
        hashes.dedup();
        for hash in hashes {
            let plan = history.plan(hash).await?.context("a plan is missing")?;
            plans.push((hash.0.to_vec(), Arc::clone(&plan.bytes)));
        }
        let operations = entries.iter().filter(|row| row.last).count();
        let commits = (commits_per_op * heads.len() as f64).round() as u64;
        let batch = usize::try_from(all.div_ceil(commits.max(1))).unwrap_or(1).max(1);
        Ok(Self { entries, plans, operations, batch })
    }
}

/// The entries of one connection in transactions: so many in each, and no two of one operation, as in the log's.
fn batches(entries: Vec<Row>, size: usize) -> Vec<Vec<Row>> {
    let mut waiting: VecDeque<Row> = entries.into();
    let mut batches = Vec::new();
    while !waiting.is_empty() {
        let (mut batch, mut passed_over, mut operations) = (Vec::new(), Vec::new(), HashSet::new());
        while batch.len() < size {
            let Some(row) = waiting.pop_front() else { break };
            // An entry that is passed over keeps those behind it waiting too: their order is the order of the log.
            if operations.insert(row.stored.operation) { batch.push(row) } else { passed_over.push(row) }
        }
        for row in passed_over.into_iter().rev() {
            waiting.push_front(row);
        }
        batches.push(batch);
    }
    batches
}

/// The claims of an operation, each as long as the real one: two of them are SHA-256 values.
fn claims(head: &Head) -> [(&'static str, String); 3] {
    let sameness = Hash::of(&[&head.id.0.as_bytes()[..]]).to_string();
    [
        ("fingerprint", head.fingerprint.as_str().to_owned()),
        ("sameness", sameness),
        ("slot", head.target.to_string()),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn row(operation: u8, seq: u64) -> Row {
        let operation = format!("00000000-0000-7000-8000-0000000000{operation:02}").parse().unwrap();
        let stored = StoredEntry { position: 0, operation, seq, body: Arc::from([]), hash: Hash([0; 32]) };
        Row { stored, state: String::new(), head: None, last: false }
    }

    #[test]
    fn no_transaction_has_two_entries_of_one_operation_and_none_is_overtaken() {
        let rows =
            [(1, 1), (2, 1), (1, 2), (1, 3), (3, 1), (2, 2)].map(|(operation, seq)| row(operation, seq));
        let shown = |row: &Row| (row.stored.operation.0.as_bytes()[15], row.stored.seq);
        let shown: Vec<Vec<_>> =
            batches(rows.into(), 3).iter().map(|batch| batch.iter().map(shown).collect()).collect();
        assert_eq!(shown, [vec![(1, 1), (2, 1), (3, 1)], vec![(1, 2), (2, 2)], vec![(1, 3)]]);
    }
}
