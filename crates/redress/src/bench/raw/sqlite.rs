//! The rows again in a SQLite file beside the one measured: the same disk, over one connection as the log has one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Error, bail};
use redress_operation_log::{Head, StoredEntry};
use redress_types::OperationId;
use rusqlite::{Connection, params};
use tokio::time::Instant;

use super::{Row, Rows, batches, claims};
use crate::database;

/// The schema of the log.
const SCHEMA: &str = include_str!("../../../../../migrations/sqlite/0001_operation_log.sql");

/// The file of the log, and the one beside it.
pub(in crate::bench) struct Beside {
    log: PathBuf,
    raw: PathBuf,
}

impl Beside {
    pub(super) fn of(log: PathBuf) -> Result<Self, Error> {
        let raw = with(&log, ".raw");
        if raw.exists() {
            bail!("{} is in the way; remove it", raw.display());
        }
        Ok(Self { log, raw })
    }

    pub(super) fn bytes(&self) -> u64 {
        database::bytes(&self.log)
    }

    pub(super) async fn measure(&self, rows: Rows) -> Result<f64, Error> {
        let raw = self.raw.clone();
        let written = tokio::task::spawn_blocking(move || write(rows, &raw)).await?;
        for end in ["", "-wal", "-shm"] {
            // What is not there need not be removed.
            let _ = std::fs::remove_file(with(&self.raw, end));
        }
        written
    }
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// An operation that is under way.
struct Begun {
    place: i64,
    claims: [(&'static str, String); 3],
}

/// Writes them to a new file; answers operations per second.
fn write(rows: Rows, file: &Path) -> Result<f64, Error> {
    let conn = open(file)?;
    for (hash, bytes) in &rows.plans {
        conn.execute("insert into plans (hash, bytes) values (?1, ?2)", params![hash, &bytes[..]])?;
    }
    conn.execute_batch(
        "insert into meta (one, log_id, incarnation, last_session, position, switch_changes)
             values (1, randomblob(16), 1, 1, 0, 0);
         insert into sessions (id, engine, incarnation, opened_at, expires_at, lease_us)
             values (1, 'raw', 1, 0, 0, 0)",
    )?;
    let operations = rows.operations;
    let batches = batches(rows.entries, rows.batch);
    let mut begun: HashMap<OperationId, Begun> = HashMap::new();
    let began = Instant::now();
    for batch in &batches {
        conn.prepare_cached("begin immediate")?.execute([])?;
        for row in batch {
            row.write(&conn, &mut begun)?;
        }
        sums(&conn, batch)?;
        conn.prepare_cached("commit")?.execute([])?;
    }
    let took = began.elapsed();
    if operations == 0 || took == Duration::ZERO {
        bail!("nothing was measured");
    }
    Ok(operations as f64 / took.as_secs_f64())
}

/// The log's own settings, see its `open`; but checkpoints as SQLite does them by itself, with this connection.
fn open(file: &Path) -> Result<Connection, Error> {
    let conn = Connection::open(file)?;
    conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    conn.pragma_update(None, "journal_size_limit", 128 * 1024 * 1024)?;
    conn.pragma_update(None, "cache_size", -16 * 1024)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.execute_batch(SCHEMA)?;
    Ok(conn)
}

impl Row {
    fn write(&self, conn: &Connection, begun: &mut HashMap<OperationId, Begun>) -> Result<(), Error> {
        let StoredEntry { position, operation, seq, body, hash } = &self.stored;
        let (at, seq, hash) = (i64::try_from(*position)?, i64::try_from(*seq)?, &hash.0[..]);
        let place = match &self.head {
            Some(head) => {
                let claims = begin(conn, head, at, hash, &self.state)?;
                begun.insert(*operation, Begun { place: at, claims });
                at
            }
            None => {
                let place = begun.get(operation).context("an entry before its first")?.place;
                self.advance(conn, place, seq, hash)?;
                place
            }
        };
        conn.prepare_cached(
            "insert into entries (position, operation, seq, hash, body) values (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![at, place, seq, hash, &body[..]])?;
        if self.last {
            for (kind, key) in begun.remove(operation).into_iter().flat_map(|begun| begun.claims) {
                conn.prepare_cached("delete from claims where kind = ?1 and key = ?2")?
                    .execute([kind, &key])?;
            }
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
                 updated_at = ?5, ended_at = ?5, claims = 0 where position = ?1",
        )?
        .execute(params![place, seq, hash, self.state, seq])?;
        Ok(())
    }
}

fn begin(
    conn: &Connection,
    head: &Head,
    at: i64,
    hash: &[u8],
    state: &str,
) -> Result<[(&'static str, String); 3], Error> {
    let id = &head.id.0.as_bytes()[..];
    let accepted = head.accepted_at.as_micros();
    conn.prepare_cached(
        "insert into operations (position, id, seq, hash, state, epoch, session, wake_at, folded_request,
             updated_at, accepted_at, level, format, table_version, claims)
         values (?1, ?2, 1, ?3, ?4, 1, 1, ?5, 0, ?5, ?5, ?6, 1, 1, 3)",
    )?
    .execute(params![at, id, hash, state, accepted, head.level.to_string()])?;
    conn.prepare_cached(
        "insert into beginnings (operation, name, environment, service, strategy, plan, fingerprint, title)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        at,
        head.name,
        head.target.environment,
        head.target.service,
        head.strategy,
        head.plan.map(|plan| plan.0.to_vec()),
        head.fingerprint.as_str(),
        head.title,
    ])?;
    // As long as the real one is.
    let alert = format!("bench-{at}");
    conn.prepare_cached(
        "insert into alerts (id, base, n, runs, fingerprint, service, alert_since, operation, joined, count,
             first_seen, last_seen)
         values (?1, ?1, 1, 1, ?2, ?3, ?4, ?5, 0, 1, ?4, ?4)",
    )?
    .execute(params![alert, head.fingerprint.as_str(), head.target.service, accepted, id])?;
    let claims = claims(head);
    for (kind, key) in &claims {
        conn.prepare_cached("insert into claims (kind, key, operation) values (?1, ?2, ?3)")?
            .execute(params![kind, key, at])?;
    }
    Ok(claims)
}

/// What a transaction writes once: the session's sum.
fn sums(conn: &Connection, batch: &[Row]) -> Result<(), Error> {
    let begun = batch.iter().filter(|row| row.head.is_some()).count();
    conn.prepare_cached(
        "update sessions set entries = entries + ?1, operations = operations + ?2, digest = ?3 where id = 1",
    )?
    .execute(params![i64::try_from(batch.len())?, i64::try_from(begun)?, &[0_u8; 32][..]])?;
    Ok(())
}
