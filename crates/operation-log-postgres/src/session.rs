//! Sessions: several engines at a time, each with a lease that the database's clock alone judges.

use std::time::Duration;

use redress_operation_log::{Error, Session, SessionId};
use redress_types::{Incarnation, Timestamp};
use sqlx::query;

use crate::fault::Fault;
use crate::marks::{Marks, Seen};
use crate::shared::{first, log_now, only};
use crate::tx::Tx;
use crate::values::{Columns, int, micros, text};

/// What a restored log leaves out: sessions and positions that were given out after the backup and that somebody
/// may still remember. More than any log gives out between two backups.
const SESSIONS_LEFT_OUT: u64 = 1 << 20;
const POSITIONS_LEFT_OUT: u64 = 1 << 40;

/// Opens a session. Of a log that was restored or failed over, it raises the incarnation and ends every earlier one.
/// Answers beside it what has been seen of the log once this is committed, and not before.
pub(crate) async fn open(tx: &mut Tx<'_>, engine: &str, lease: Duration) -> Result<(Session, Seen), Fault> {
    let marks = Marks::read(tx.conn()).await?;
    let meta = tx.lock_meta().await?;
    let row = only(tx.conn(), query("select last_session, incarnation from meta")).await?;
    let mut row = Columns::of(&row);
    let (last, incarnation) = (row.count()?, row.count()?);
    let seen = *tx.shared.seen();
    let how = match marks.differ(tx.conn()).await? {
        None if last < seen.session || meta.position < seen.position => {
            Some("it is older than what was seen")
        }
        how => how,
    };
    let restored = how.is_some();
    let (mut id, mut position) = (last + 1, meta.position);
    if let Some(how) = how {
        tracing::warn!(log = tx.shared.log, how, "the log was restored or failed over");
        id = last.max(seen.session) + SESSIONS_LEFT_OUT;
        position = position.max(seen.position) + POSITIONS_LEFT_OUT;
        let over = query("update sessions set closed_at = $1 where closed_at is null");
        tx.run(over.bind(meta.log_now.as_micros())).await?;
    }
    let incarnation = incarnation + u64::from(restored);
    let insert = query(
        "insert into sessions (id, engine, incarnation, opened_at, expires_at, lease_us)
         values ($1, $2, $3, $4, $5, $6)",
    );
    let insert = insert
        .bind(int(id))
        .bind(text(engine))
        .bind(int(incarnation))
        .bind(meta.log_now.as_micros())
        .bind(meta.log_now.plus(lease).as_micros())
        .bind(micros(lease));
    tx.run(insert).await?;
    let update = query("update meta set last_session = $1, incarnation = $2, position = $3");
    tx.run(update.bind(int(id)).bind(int(incarnation)).bind(int(position))).await?;
    marks.note(tx.conn()).await?;
    let since = query("select min(id) from sessions where incarnation = $1").bind(int(incarnation));
    let since = SessionId(Columns::of(&only(tx.conn(), since).await?).count()?);
    let incarnation = Incarnation(incarnation);
    tx.woke |= restored;
    let session = Session { id: SessionId(id), incarnation, restored, since, lease, log_now: meta.log_now };
    Ok((session, Seen { session: id, position }))
}

/// Renews the lease; answers the log's own clock. In a log that was restored or failed over no session goes on: the
/// next one says so.
pub(crate) async fn renew(tx: &mut Tx<'_>, session: SessionId) -> Result<Timestamp, Fault> {
    let stale = |why: &str| Error::Stale { what: format!("session {session}{why}") };
    let marks = Marks::read(tx.conn()).await?;
    // Before its own row, as everywhere.
    tx.lock_meta().await?;
    if let Some(how) = marks.differ(tx.conn()).await? {
        let how = format!(", of a log that was restored or failed over ({how}),");
        return Err(stale(&how).into());
    }
    let sql = concat!(
        "update sessions s set expires_at = n.now + s.lease_us from (select ",
        log_now!(),
        " as now) n where s.id = $2 and s.closed_at is null and s.expires_at > n.now returning n.now"
    );
    let update = query(sql).bind(tx.shared.clock()).bind(int(session.0));
    let renewed = first(tx.conn(), update).await?.ok_or_else(|| stale(""))?;
    marks.note(tx.conn()).await?;
    tx.wrote = true;
    Ok(Columns::of(&renewed).time()?)
}

/// Ends a session. One that is over, or was never opened, is left as it is.
pub(crate) async fn close(tx: &mut Tx<'_>, session: SessionId) -> Result<(), Fault> {
    let sql = concat!("update sessions set closed_at = ", log_now!(), " where id = $2 and closed_at is null");
    let update = query(sql).bind(tx.shared.clock()).bind(int(session.0));
    tx.woke = tx.run(update).await? > 0;
    Ok(())
}
