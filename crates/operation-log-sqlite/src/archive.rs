//! Checkpoints, the verifier's view, and the way out for what has ended.

use std::sync::Arc;

use redress_operation_log::{Archived, Audit, Checkpoint, Claim, Error, LateResult, Outcome, SessionId, Sum};
use redress_strategy::{PlanHash, StoredPlan};
use redress_types::{Epoch, Hash, OperationId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::alerts;
use crate::batch::Batch;
use crate::fault::Fault;
use crate::heads;
use crate::values::{Count, Id, Sha, Time, int, word};

fn sums(conn: &Connection) -> rusqlite::Result<Vec<Sum>> {
    conn.prepare("select id, entries, operations, digest from sessions order by id")?
        .query_map([], |row| {
            Ok(Sum {
                session: SessionId(row.get::<_, Count>(0)?.0),
                entries: row.get::<_, Count>(1)?.0,
                operations: row.get::<_, Count>(2)?.0,
                digest: row.get::<_, Sha>(3)?.0,
            })
        })?
        .collect()
}

fn archived(conn: &Connection) -> rusqlite::Result<Sum> {
    conn.query_row("select archived_entries, archived_operations, archived_digest from meta", [], |row| {
        Ok(Sum {
            session: SessionId(0),
            entries: row.get::<_, Count>(0)?.0,
            operations: row.get::<_, Count>(1)?.0,
            digest: row.get::<_, Sha>(2)?.0,
        })
    })
}

const CHECKPOINT: &str = "select number, position, entries, operations, digest, previous, at, hash, signature \
    from checkpoints order by number";

fn checkpoint_of(row: &Row<'_>) -> rusqlite::Result<Checkpoint> {
    Ok(Checkpoint {
        number: row.get::<_, Count>(0)?.0,
        position: row.get::<_, Count>(1)?.0,
        entries: row.get::<_, Count>(2)?.0,
        operations: row.get::<_, Count>(3)?.0,
        digest: row.get::<_, Sha>(4)?.0,
        previous: row.get::<_, Sha>(5)?.0,
        at: row.get::<_, Time>(6)?.0,
        hash: row.get::<_, Sha>(7)?.0,
        signature: row.get::<_, Option<Sha>>(8)?.map(|signature| signature.0),
    })
}

/// Writes a checkpoint over everything appended so far.
pub(crate) fn checkpoint(
    batch: &mut Batch<'_, '_>,
    now: Timestamp,
    key: Option<&[u8]>,
) -> Result<Checkpoint, Fault> {
    batch.settle_sums()?;
    let sums = sums(batch.conn())?;
    let mut last = batch.conn().prepare_cached(&format!("{CHECKPOINT} desc limit 1"))?;
    let last = last.query_row([], checkpoint_of).optional()?;
    let next = Checkpoint::seal(last.as_ref(), last_position(batch.conn())?, &sums, now, key);
    batch.run(
        "insert into checkpoints (number, position, entries, operations, digest, previous, at, hash, signature)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            int(next.number),
            int(next.position),
            int(next.entries),
            int(next.operations),
            Sha(next.digest),
            Sha(next.previous),
            Time(next.at),
            Sha(next.hash),
            next.signature.map(Sha),
        ],
    )?;
    Ok(next)
}

/// Everything the verifier compares. To be called within one read transaction.
pub(crate) fn audit(conn: &Connection) -> rusqlite::Result<Audit> {
    let claims = conn
        .prepare(
            "select c.kind, c.key, o.id from claims c join operations o on o.position = c.operation
             order by c.kind, c.key",
        )?
        .query_map([], |row| {
            let (kind, key): (String, String) = (row.get(0)?, row.get(1)?);
            let claim = Claim::parse(&kind, &key)
                .ok_or_else(|| crate::values::invalid(0, rusqlite::types::FromSqlError::InvalidType))?;
            Ok((claim, row.get::<_, Id>(2)?.0))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(Audit {
        heads: heads::all(conn)?,
        sums: sums(conn)?,
        archived: archived(conn)?,
        checkpoints: conn
            .prepare(CHECKPOINT)?
            .query_map([], checkpoint_of)?
            .collect::<rusqlite::Result<Vec<_>>>()?,
        claims,
        orphans: alerts::orphans(conn)?,
        position: last_position(conn)?,
    })
}

/// The last position given out: of the entries that are there, or of those that were archived.
pub(crate) fn last_position(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row(
        "select max(m.position, coalesce((select max(position) from entries), 0)) from meta m",
        [],
        |row| Ok(row.get::<_, Count>(0)?.0),
    )
}

/// A stored plan.
pub(crate) fn plan(conn: &Connection, hash: PlanHash) -> Result<Option<Arc<StoredPlan>>, Fault> {
    let bytes: Option<Arc<[u8]>> = conn
        .prepare_cached("select bytes from plans where hash = ?1")?
        .query_row([Sha(hash)], |row| Ok(Arc::from(row.get_ref(0)?.as_blob()?)))
        .optional()?;
    let Some(bytes) = bytes else { return Ok(None) };
    let plan =
        StoredPlan::read(bytes).map_err(|unreadable| Error::Corrupt { what: unreadable.to_string() })?;
    if plan.hash != hash {
        return Err(Error::wrong_hash("a stored plan", hash, plan.hash).into());
    }
    Ok(Some(Arc::new(plan)))
}

/// The whole of what ended before, oldest first. What still owes the world something stays, whatever its age.
pub(crate) fn archivable(conn: &Connection, before: Timestamp, limit: usize) -> Result<Vec<Archived>, Fault> {
    let ids = conn
        .prepare_cached(
            "select id from operations where ended_at is not null and ended_at < ?1 and owed = 0
             order by ended_at, position limit ?2",
        )?
        .query_map(params![Time(before), int(limit as u64)], |row| Ok(row.get::<_, Id>(0)?.0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(head) = heads::one(conn, id)? else { continue };
        let entries = heads::entries(conn, id, 0, usize::MAX)?;
        let plan = match head.plan {
            Some(hash) => plan(conn, hash)?,
            None => None,
        };
        found.push(Archived { head, entries, plan });
    }
    Ok(found)
}

/// Removes what was archived and has not changed since.
pub(crate) fn remove(batch: &mut Batch<'_, '_>, archived: &[(OperationId, Hash)]) -> Result<u64, Fault> {
    let mut removed = 0;
    // What is removed below must not make its positions free again.
    let last = last_position(batch.conn())?;
    batch.run("update meta set position = ?1 where position < ?1", [int(last)])?;
    for (id, hash) in archived {
        let found = batch.find(
            "select position, state, ended_at from operations
             where id = ?1 and hash = ?2 and ended_at is not null and owed = 0",
            params![Id(*id), Sha(*hash)],
            |row| {
                let outcome =
                    Outcome { state: word(row, 1)?, ended_at: row.get::<_, Time>(2)?.0, hash: *hash };
                Ok((row.get::<_, Count>(0)?.0, outcome))
            },
        )?;
        if let Some((position, outcome)) = found {
            remove_one(batch, *id, position, &outcome)?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn remove_one(
    batch: &mut Batch<'_, '_>,
    id: OperationId,
    position: u64,
    outcome: &Outcome,
) -> Result<(), Fault> {
    batch.run(
        "delete from outbox where position in (select position from entries where operation = ?1)",
        [int(position)],
    )?;
    let hashes =
        batch.run_all("delete from entries where operation = ?1 returning hash", [int(position)], |row| {
            row.get::<_, Sha>(0)
        })?;
    let mut sum = archived(batch.conn())?;
    for hash in &hashes {
        sum.digest.combine(&hash.0);
    }
    batch.run(
        "update meta set archived_entries = ?1, archived_operations = ?2, archived_digest = ?3",
        params![int(sum.entries + hashes.len() as u64), int(sum.operations + 1), Sha(sum.digest)],
    )?;
    alerts::keep_outcome(batch, id, outcome)?;
    batch.run("delete from late_results where operation = ?1", [Id(id)])?;
    batch.run("delete from payloads where operation = ?1", [int(position)])?;
    batch.run("delete from inbox where operation = ?1", [int(position)])?;
    batch.run("delete from beginnings where operation = ?1", [int(position)])?;
    batch.run("delete from operations where position = ?1", [int(position)])?;
    Ok(())
}

/// Keeps a result that came too late. The same again is kept once.
pub(crate) fn keep_late(batch: &mut Batch<'_, '_>, late: &LateResult) -> Result<(), Fault> {
    let operation = late.key.operation;
    let there = batch.find("select 1 from operations where id = ?1", [Id(operation)], |_| Ok(()))?;
    there.ok_or(Error::NotFound(operation))?;
    batch.run(
        "insert into late_results (operation, key, epoch, at, said, reason)
         select ?1, ?2, ?3, ?4, ?5, ?6 where not exists (
             select 1 from late_results where operation = ?1 and key = ?2 and epoch = ?3 and at = ?4
                 and said = ?5 and reason = ?6)",
        params![
            Id(operation),
            late.key.to_string(),
            int(late.epoch.0),
            Time(late.at),
            late.said,
            late.reason
        ],
    )?;
    Ok(())
}

/// Results of an operation that came too late, in the order they came.
pub(crate) fn late_of(conn: &Connection, id: OperationId) -> rusqlite::Result<Vec<LateResult>> {
    conn.prepare_cached(
        "select key, epoch, at, said, reason from late_results where operation = ?1 order by number",
    )?
    .query_map([Id(id)], |row| {
        Ok(LateResult {
            key: word(row, 0)?,
            epoch: Epoch(row.get::<_, Count>(1)?.0),
            at: row.get::<_, Time>(2)?.0,
            said: row.get(3)?,
            reason: row.get(4)?,
        })
    })?
    .collect()
}
