//! Who holds which operation: claiming what is due, giving up, and what is due next.

use redress_operation_log::{ClaimRequest, Claimed, Error, SessionId};
use redress_types::{Epoch, OperationId, Timestamp};
use sqlx::{PgConnection, query};

use crate::fault::Fault;
use crate::shared::{first, log_now, only};
use crate::tx::Tx;
use crate::values::{Columns, Uid, int, most};

/// Takes what is due, oldest due first; what has no time of its own comes before. Operations that another engine
/// takes at this moment are passed over, and the next ones taken in their place.
pub(crate) async fn claim(tx: &mut Tx<'_>, request: &ClaimRequest) -> Result<Vec<Claimed>, Fault> {
    tx.is_current(request.session).await?;
    if tx.shared.is_time_to_look(request.now) {
        crate::ending::wake_forgotten(tx, request.now).await?;
    }
    // Each part of `due` is answered from an index of its own; together they would be a scan. What a row was when it
    // was found is compared again once it is locked.
    let sql = concat!(
        "with over as materialized (
             select s.id from sessions s where s.closed_at is not null or s.expires_at <= ",
        log_now!(),
        "), due as materialized (
             select position, seq, epoch, session, wake_at from operations
                 where session is null and ended_at is null and wake_at <= $2
             union select position, seq, epoch, session, wake_at from operations
                 where inbox > folded_request and session is null and ended_at is null
             union select o.position, o.seq, o.epoch, o.session, o.held_until from operations o
                 where o.session is not null and o.session = any(array(select id from over))
             union select position, seq, epoch, session, held_until from operations
                 where session is not null and held_until <= $2
         ), free as (
             select o.position, d.wake_at as due_at from due d join operations o on o.position = d.position
             where o.seq = d.seq and o.epoch = d.epoch and o.session is not distinct from d.session
                 and o.wake_at is not distinct from (case when d.session is null then d.wake_at end)
                 and o.held_until is not distinct from (case when d.session is not null then d.wake_at end)
                 and o.format <= $3 and o.machine <= $4
                 and (o.plan is null or o.plan <> all($5)) and o.id <> all($6)
             order by d.wake_at nulls first, o.position limit $7 for update of o skip locked
         ), taken as (
             update operations o set epoch = o.epoch + 1, session = $8, wake_at = null, held_until = $9
             from free f where o.position = f.position
             returning o.position, o.id, o.epoch, o.plan, f.due_at
         )
         select id, epoch, plan from taken order by due_at nulls first, position"
    );
    let unable: Vec<&[u8]> = request.unable.iter().map(|plan| &plan.0[..]).collect();
    let driven: Vec<Uid> = request.driven.iter().map(|id| Uid(*id)).collect();
    let rows = query(sql)
        .bind(tx.shared.clock())
        .bind(request.now.as_micros())
        .bind(version(request.reads.format))
        .bind(version(request.reads.table))
        .bind(unable)
        .bind(driven)
        .bind(most(request.limit))
        .bind(int(request.session.0))
        .bind(request.due.as_micros())
        .fetch_all(tx.conn())
        .await?;
    tx.wrote |= !rows.is_empty();
    let claimed = |row| {
        let mut row = Columns::of(row);
        Ok(Claimed { operation: row.id()?, epoch: Epoch(row.count()?), plan: row.maybe_hash()? })
    };
    rows.iter().map(claimed).collect()
}

/// A version as its column holds it. None of ours comes near the end of its range.
pub(crate) fn version(version: u16) -> i16 {
    i16::try_from(version).unwrap_or(i16::MAX)
}

/// The holder shows a sign of life: the time from which others may take it is later.
pub(crate) async fn hold_until(
    tx: &mut Tx<'_>,
    session: SessionId,
    operation: OperationId,
    epoch: Epoch,
    due: Timestamp,
) -> Result<(), Fault> {
    tx.is_current(session).await?;
    let sql = "update operations set held_until = $4 where id = $1 and session is not distinct from $2 and epoch = $3";
    let update =
        query(sql).bind(Uid(operation)).bind(int(session.0)).bind(int(epoch.0)).bind(due.as_micros());
    if tx.run(update).await? == 0 {
        let what = format!("epoch {} of operation {operation}", epoch.0);
        return Err(Error::Stale { what }.into());
    }
    Ok(())
}

/// Nobody holds it, and it is due at once. When it waited for a claim that is free, the next waiter is due too.
pub(crate) async fn give_up(
    tx: &mut Tx<'_>,
    session: SessionId,
    operation: OperationId,
    epoch: Epoch,
) -> Result<(), Fault> {
    let now = tx.log_now().await?.as_micros();
    let sql = "update operations set session = null, held_until = null, wake_at = least(held_until, $4)
         where id = $1 and session is not distinct from $2 and epoch = $3
         returning position, waits_kind, waits_key";
    let update = query(sql).bind(Uid(operation)).bind(int(session.0)).bind(int(epoch.0)).bind(now);
    let Some(given_up) = first(tx.conn(), update).await? else { return Ok(()) };
    (tx.wrote, tx.woke) = (true, true);
    let mut row = Columns::of(&given_up);
    let position = row.count()?;
    let Some(claim) = crate::heads::claim(&mut row)? else { return Ok(()) };
    // The first other waiter for the same free claim that is not due yet.
    let sql = "update operations set wake_at = $4 where position = (
             select o.position from operations o
             where o.waits_kind = $1 and o.waits_key = $2 and o.session is null and o.position <> $3 and (o.wake_at is null or o.wake_at > $4)
                 and not exists (select 1 from claims c where c.kind = $1 and c.key = $2)
             order by o.level, o.accepted_at, o.position limit 1 for update skip locked)";
    let key = crate::values::text(claim.key());
    tx.run(query(sql).bind(claim.kind()).bind(key).bind(int(position)).bind(now)).await?;
    Ok(())
}

/// The operations of this session with inbox rows that are not folded yet.
pub(crate) async fn inbox_waiting(
    conn: &mut PgConnection,
    session: SessionId,
) -> Result<Vec<OperationId>, sqlx::Error> {
    let sql = "select id from operations where inbox > folded_request and session = $1 order by position";
    query(sql).bind(int(session.0)).fetch_all(conn).await?.iter().map(|row| Columns::of(row).id()).collect()
}

/// When the next operation that nobody alive holds becomes due.
pub(crate) async fn next_due(
    conn: &mut PgConnection,
    clock: Option<i64>,
) -> Result<Option<Timestamp>, sqlx::Error> {
    let sql = concat!(
        "select min(at)::bigint from (
             select min(wake_at) as at from operations where session is null and ended_at is null
             union all
             select min(i.at) from operations o join inbox i
                 on i.operation = o.position and i.seq = o.folded_request + 1
                 where o.inbox > o.folded_request and o.session is null
             union all
             select min(coalesce(s.closed_at, s.expires_at)) from sessions s
                 where (s.closed_at is not null or s.expires_at <= ",
        log_now!(),
        ") and exists (select 1 from operations o where o.session = s.id and o.session is not null)) x"
    );
    let row = only(conn, query(sql).bind(clock)).await?;
    Columns::of(&row).maybe_time()
}

/// What is not ended and that nothing will wake. An outbox row always has a time, so none of those can be stuck.
pub(crate) async fn stuck(conn: &mut PgConnection) -> Result<Vec<OperationId>, sqlx::Error> {
    let sql = "select id from operations
         where session is null and ended_at is null and wake_at is null and state <> 'suspended'
             and inbox = folded_request
         order by position";
    query(sql).fetch_all(conn).await?.iter().map(|row| Columns::of(row).id()).collect()
}
