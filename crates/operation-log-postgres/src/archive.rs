//! Checkpoints, the verifier's view, and the way out for what has ended.

use std::sync::Arc;

use redress_operation_log::{Archived, Audit, Checkpoint, Error, LateResult, SessionId, Sum};
use redress_strategy::{PlanHash, StoredPlan};
use redress_types::{Epoch, Hash, OperationId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, query};

use crate::alerts;
use crate::fault::Fault;
use crate::heads;
use crate::shared::{first, only};
use crate::tx::Tx;
use crate::values::{Columns, Uid, int, most, text, unwords};

type Read<T> = Result<T, sqlx::Error>;

async fn sums(conn: &mut PgConnection) -> Read<Vec<Sum>> {
    let sql =
        "select id, entries, operations, digest_1, digest_2, digest_3, digest_4 from sessions order by id";
    let sum = |row| {
        let mut row = Columns::of(row);
        let (session, entries, operations) = (SessionId(row.count()?), row.count()?, row.count()?);
        let digest = unwords([row.get()?, row.get()?, row.get()?, row.get()?]);
        Ok(Sum { session, entries, operations, digest })
    };
    query(sql).fetch_all(conn).await?.iter().map(sum).collect()
}

async fn archived_sum(conn: &mut PgConnection) -> Read<Sum> {
    let sql = "select archived_entries, archived_operations, archived_digest from meta";
    let row = only(conn, query(sql)).await?;
    let mut row = Columns::of(&row);
    let session = SessionId(0);
    Ok(Sum { session, entries: row.count()?, operations: row.count()?, digest: row.hash()? })
}

macro_rules! checkpoint {
    () => {
        "select number, position, entries, operations, digest, previous, at, hash, signature
         from checkpoints order by number"
    };
}

fn checkpoint_of(row: &PgRow) -> Read<Checkpoint> {
    let mut row = Columns::of(row);
    Ok(Checkpoint {
        number: row.count()?,
        position: row.count()?,
        entries: row.count()?,
        operations: row.count()?,
        digest: row.hash()?,
        previous: row.hash()?,
        at: row.time()?,
        hash: row.hash()?,
        signature: row.maybe_hash()?,
    })
}

/// Writes a checkpoint over everything appended so far. With the row of `meta` locked, nobody appends meanwhile.
pub(crate) async fn checkpoint(
    tx: &mut Tx<'_>,
    now: Timestamp,
    key: Option<&[u8]>,
) -> Result<Checkpoint, Fault> {
    let meta = tx.lock_meta().await?;
    let sums = sums(tx.conn()).await?;
    let last = first(tx.conn(), query(concat!(checkpoint!(), " desc limit 1"))).await?;
    let last = last.as_ref().map(checkpoint_of).transpose()?;
    let next = Checkpoint::seal(last.as_ref(), meta.position, &sums, now, key);
    let sql = "insert into checkpoints
             (number, position, entries, operations, digest, previous, at, hash, signature)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let insert = query(sql)
        .bind(int(next.number))
        .bind(int(next.position))
        .bind(int(next.entries))
        .bind(int(next.operations))
        .bind(&next.digest.0[..])
        .bind(&next.previous.0[..])
        .bind(next.at.as_micros())
        .bind(&next.hash.0[..])
        .bind(next.signature.as_ref().map(|signature| &signature.0[..]));
    tx.run(insert).await?;
    Ok(next)
}

/// Everything the verifier compares. To be called within one transaction that sees one moment.
pub(crate) async fn audit(conn: &mut PgConnection) -> Read<Audit> {
    let sql = "select c.kind, c.key, o.id from claims c join operations o on o.position = c.operation
         order by c.kind, c.key";
    let mut claims = Vec::new();
    for row in query(sql).fetch_all(&mut *conn).await? {
        let mut row = Columns::of(&row);
        if let Some(claim) = heads::claim(&mut row)? {
            claims.push((claim, row.id()?));
        }
    }
    let position = only(conn, query("select position from meta")).await?;
    let checkpoints = query(checkpoint!()).fetch_all(&mut *conn).await?;
    Ok(Audit {
        heads: heads::all(conn).await?,
        sums: sums(conn).await?,
        archived: archived_sum(conn).await?,
        checkpoints: checkpoints.iter().map(checkpoint_of).collect::<Read<_>>()?,
        claims,
        orphans: alerts::orphans(conn).await?,
        position: Columns::of(&position).count()?,
    })
}

/// A stored plan.
pub(crate) async fn plan(conn: &mut PgConnection, hash: PlanHash) -> Result<Option<Arc<StoredPlan>>, Fault> {
    let stored = query("select bytes from plans where hash = $1").bind(&hash.0[..]);
    let Some(row) = first(conn, stored).await? else { return Ok(None) };
    let plan = StoredPlan::read(Columns::of(&row).bytes()?)
        .map_err(|unreadable| Error::Corrupt { what: unreadable.to_string() })?;
    if plan.hash != hash {
        return Err(Error::wrong_hash("a stored plan", hash, plan.hash).into());
    }
    Ok(Some(Arc::new(plan)))
}

/// The whole of what ended before, oldest first. What still owes the world something stays, whatever its age.
pub(crate) async fn archivable(
    conn: &mut PgConnection,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<Archived>, Fault> {
    let sql = "select id from operations where ended_at is not null and ended_at < $1 and owed = 0
         order by ended_at, position limit $2";
    let ids = query(sql).bind(before.as_micros()).bind(most(limit)).fetch_all(&mut *conn).await?;
    let mut found = Vec::with_capacity(ids.len());
    for row in &ids {
        let id = Columns::of(row).id()?;
        let Some(head) = heads::one(conn, id).await? else { continue };
        let entries = heads::entries(conn, id, 0, usize::MAX).await?;
        let plan = match head.plan {
            Some(hash) => plan(conn, hash).await?,
            None => None,
        };
        found.push(Archived { head, entries, plan });
    }
    Ok(found)
}

/// Removes what was archived and has not changed since. With every head locked nobody else writes what belongs to
/// them, so most of it goes before the row of `meta` is locked, for which every append waits.
pub(crate) async fn remove(tx: &mut Tx<'_>, archived: &[(OperationId, Hash)]) -> Result<u64, Fault> {
    let (ids, hashes): (Vec<Uid>, Vec<&[u8]>) =
        archived.iter().map(|(id, hash)| (Uid(*id), &hash.0[..])).unzip();
    // In one order, as everywhere.
    let sql = "select o.position from unnest($1::uuid[], $2::bytea[]) given (id, hash)
             join operations o on o.id = given.id
         where o.hash = given.hash and o.ended_at is not null and o.owed = 0
         order by o.id for update of o";
    let found = query(sql).bind(ids).bind(hashes).fetch_all(tx.conn()).await?;
    let found = found.iter().map(|row| Columns::of(row).get()).collect::<Read<Vec<i64>>>()?;
    if found.is_empty() {
        return Ok(0);
    }
    let gone = query("delete from entries where operation = any($1) returning hash").bind(&found);
    let gone = gone.fetch_all(tx.conn()).await?;
    for sql in [
        "delete from payloads where operation = any($1)",
        "delete from inbox where operation = any($1)",
        "delete from outbox where operation = any($1)",
        "delete from late_results where operation in (select id from operations where position = any($1))",
    ] {
        tx.run(query(sql).bind(&found)).await?;
    }
    tx.lock_meta().await?;
    let mut sum = archived_sum(tx.conn()).await?;
    for row in &gone {
        sum.digest.combine(&Columns::of(row).hash()?);
    }
    let sql = "update meta set archived_entries = $1, archived_operations = $2, archived_digest = $3";
    let update = query(sql)
        .bind(int(sum.entries + gone.len() as u64))
        .bind(int(sum.operations + found.len() as u64))
        .bind(&sum.digest.0[..]);
    tx.run(update).await?;
    alerts::keep_outcomes(tx, &found).await?;
    Ok(tx.run(query("delete from operations where position = any($1)").bind(&found)).await?)
}

/// Keeps a result that came too late. The same again is kept once.
pub(crate) async fn keep_late(tx: &mut Tx<'_>, late: &LateResult) -> Result<(), Fault> {
    let operation = late.key.operation;
    // Locked, so that the same twice at once is kept once.
    let there = query("select 1 from operations where id = $1 for update").bind(Uid(operation));
    first(tx.conn(), there).await?.ok_or(Error::NotFound(operation))?;
    let sql = "insert into late_results (operation, key, epoch, at, said, reason)
         select $1, $2, $3, $4, $5, $6 where not exists (
             select 1 from late_results where operation = $1 and key = $2 and epoch = $3 and at = $4
                 and said = $5 and reason = $6)";
    let insert = query(sql)
        .bind(Uid(operation))
        .bind(late.key.to_string())
        .bind(int(late.epoch.0))
        .bind(late.at.as_micros())
        .bind(text(&late.said))
        .bind(text(&late.reason));
    tx.run(insert).await?;
    Ok(())
}

/// Results of an operation that came too late, in the order they came.
pub(crate) async fn late_of(conn: &mut PgConnection, id: OperationId) -> Read<Vec<LateResult>> {
    let sql = "select key, epoch, at, said, reason from late_results where operation = $1 order by number";
    let late = |row| {
        let mut row = Columns::of(row);
        Ok(LateResult {
            key: row.word()?,
            epoch: Epoch(row.count()?),
            at: row.time()?,
            said: row.text()?,
            reason: row.text()?,
        })
    };
    query(sql).bind(Uid(id)).fetch_all(conn).await?.iter().map(late).collect()
}
