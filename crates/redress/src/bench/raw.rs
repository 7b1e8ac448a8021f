//! The raw half: a program without an engine that writes the rows of the run again, in transactions of the size
//! that the run had, over one connection with the log's settings.
//!
//! Per operation: its head inserted and then moved with each entry, its alert, its claims taken and freed, its
//! entries; per transaction: the position and the session's sum. What an engine does beside that (reading,
//! deciding, hashing, JSON) is left out: the difference is its price.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error, bail};
use redress_operation_log::summary::path;
use redress_operation_log::{Entry, Head, OperationHistory, StoredEntry};
use redress_types::OperationId;
use rusqlite::{Connection, params};
use tokio::time::Instant;

/// The schema of the log.
const SCHEMA: &str = include_str!("../../../../migrations/sqlite/0001_operation_log.sql");
/// As many entries are written again at most: enough for a figure, and they fit into memory.
const ENTRIES_MAX: usize = 200_000;

/// The rows of a run, in the order in which they were written.
pub(super) struct Rows {
    entries: Vec<Row>,
    plans: Vec<(Vec<u8>, Arc<[u8]>)>,
    operations: usize,
    /// Entries per transaction, on average.
    batch: usize,
}

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
    pub(super) async fn read(history: &dyn OperationHistory, commits: u64) -> Result<Self, Error> {
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
        let batch = usize::try_from(all.div_ceil(commits.max(1))).unwrap_or(1).max(1);
        Ok(Self { entries, plans, operations, batch })
    }

    /// Writes them to a new file; answers operations per second.
    pub(super) fn write(&self, file: &Path) -> Result<f64, Error> {
        let conn = open(file)?;
        for (hash, bytes) in &self.plans {
            conn.execute("insert into plans (hash, bytes) values (?1, ?2)", params![hash, &bytes[..]])?;
        }
        conn.execute_batch(
            "insert into meta (one, log_id, incarnation, last_session, position, switch_changes)
                 values (1, randomblob(16), 1, 1, 0, 0);
             insert into sessions (id, engine, incarnation, opened_at, expires_at, lease_us)
                 values (1, 'raw', 1, 0, 0, 0)",
        )?;
        let mut positions: HashMap<OperationId, i64> = HashMap::new();
        let began = Instant::now();
        for batch in self.entries.chunks(self.batch) {
            conn.prepare_cached("begin immediate")?.execute([])?;
            for row in batch {
                row.write(&conn, &mut positions)?;
            }
            sums(&conn, batch)?;
            conn.prepare_cached("commit")?.execute([])?;
        }
        let took = began.elapsed();
        if self.operations == 0 || took == Duration::ZERO {
            bail!("nothing was measured");
        }
        Ok(self.operations as f64 / took.as_secs_f64())
    }
}

/// The log's own settings; see its `open`.
fn open(file: &Path) -> Result<Connection, Error> {
    let conn = Connection::open(file)?;
    conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "wal_autocheckpoint", 8_000)?;
    conn.pragma_update(None, "journal_size_limit", 128 * 1024 * 1024)?;
    conn.pragma_update(None, "cache_size", -64 * 1024)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.execute_batch(SCHEMA)?;
    Ok(conn)
}

impl Row {
    fn write(&self, conn: &Connection, positions: &mut HashMap<OperationId, i64>) -> Result<(), Error> {
        let StoredEntry { position, operation, seq, body, hash } = &self.stored;
        let (at, seq, hash) = (i64::try_from(*position)?, i64::try_from(*seq)?, &hash.0[..]);
        let place = match &self.head {
            Some(head) => {
                begin(conn, head, at, hash, &self.state)?;
                positions.insert(*operation, at);
                at
            }
            None => {
                let place = *positions.get(operation).context("an entry before its first")?;
                self.advance(conn, place, seq, hash)?;
                place
            }
        };
        conn.prepare_cached(
            "insert into entries (position, operation, seq, hash, body) values (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![at, place, seq, hash, &body[..]])?;
        if self.last {
            conn.prepare_cached("delete from claims where operation = ?1")?.execute([place])?;
            positions.remove(operation);
        }
        Ok(())
    }

    fn advance(&self, conn: &Connection, place: i64, seq: i64, hash: &[u8]) -> Result<(), Error> {
        if !self.last {
            conn.prepare_cached(
                "update operations set seq = ?2, hash = ?3, state = ?4, wake_at = ?5, updated_at = ?5
                 where position = ?1",
            )?
            .execute(params![place, seq, hash, self.state, seq])?;
            return Ok(());
        }
        conn.prepare_cached(
            "update operations set seq = ?2, hash = ?3, state = ?4, wake_at = null, session = null,
                 updated_at = ?5, ended_at = ?5 where position = ?1",
        )?
        .execute(params![place, seq, hash, self.state, seq])?;
        Ok(())
    }
}

fn begin(conn: &Connection, head: &Head, at: i64, hash: &[u8], state: &str) -> Result<(), Error> {
    let id = &head.id.0.as_bytes()[..];
    let accepted = head.accepted_at.as_micros();
    conn.prepare_cached(
        "insert into operations (position, id, name, seq, hash, state, epoch, session, wake_at,
             folded_request, updated_at, accepted_at, environment, service, strategy, plan, fingerprint, level,
             title)
         values (?1, ?2, ?3, 1, ?4, ?5, 1, 1, ?6, 0, ?6, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        at,
        id,
        head.name,
        hash,
        state,
        accepted,
        head.target.environment,
        head.target.service,
        head.strategy,
        head.plan.map(|plan| plan.0.to_vec()),
        head.fingerprint.as_str(),
        head.level.to_string(),
        head.title,
    ])?;
    // As long as the real ones are: an alert's id, and two claims that are SHA-256 values.
    let alert = format!("bench-{at}");
    conn.prepare_cached(
        "insert into alerts (id, base, n, runs, fingerprint, service, alert_since, operation, joined, count,
             first_seen, last_seen)
         values (?1, ?1, 1, 1, ?2, ?3, ?4, ?5, 0, 1, ?4, ?4)",
    )?
    .execute(params![alert, head.fingerprint.as_str(), head.target.service, accepted, id])?;
    let sameness = redress_types::Hash::of(&[id]).to_string();
    let slot = head.target.to_string();
    let claims = [("fingerprint", head.fingerprint.as_str()), ("sameness", &sameness), ("slot", &slot)];
    for (kind, key) in claims {
        conn.prepare_cached("insert into claims (kind, key, operation) values (?1, ?2, ?3)")?
            .execute(params![kind, key, at])?;
    }
    Ok(())
}

/// What a transaction writes once: the last position, and the session's sum.
fn sums(conn: &Connection, batch: &[Row]) -> Result<(), Error> {
    let position = batch.last().map_or(0, |row| row.stored.position);
    let begun = batch.iter().filter(|row| row.head.is_some()).count();
    conn.prepare_cached("update meta set position = ?1")?.execute([i64::try_from(position)?])?;
    conn.prepare_cached(
        "update sessions set entries = entries + ?1, operations = operations + ?2, digest = ?3 where id = 1",
    )?
    .execute(params![i64::try_from(batch.len())?, i64::try_from(begun)?, &[0_u8; 32][..]])?;
    Ok(())
}
