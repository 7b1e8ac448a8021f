//! Who holds which operation: claiming what is due, giving up, and what is due next.
//!
//! One engine has the file, so a holder other than the present session is over.

use redress_operation_log::{ClaimRequest, Claimed, Error, SessionId};
use redress_types::{Epoch, OperationId, Timestamp};
use rusqlite::{Connection, params};

use crate::batch::{Batch, time};
use crate::fault::Fault;
use crate::values::{Count, Id, Sha, Time, int};

/// Takes what is due, oldest due first; what has no time of its own comes before.
pub(crate) fn claim(batch: &mut Batch<'_, '_>, request: &ClaimRequest) -> Result<Vec<Claimed>, Fault> {
    let live = batch.session(request.session)?;
    // Each part is answered from an index of its own; together they would be a scan.
    let due = batch.all(
        "select o.position, o.id, o.epoch, b.plan, o.wake_at from (
             select position from operations
                 where session is null and ended_at is null and wake_at <= ?1
             union select position from operations
                 where inbox > folded_request and session is null and ended_at is null
             union select position from operations
                 where session is not null and session < ?2
             union select position from operations
                 where session is not null and session = ?2 and wake_at <= ?1
         ) due cross join operations o on o.position = due.position
             cross join beginnings b on b.operation = o.position
         where o.format <= ?3 and o.table_version <= ?4
         order by 5, 1",
        params![Time(request.now), int(live.id.0), request.reads.format, request.reads.table],
        |row| {
            let plan = row.get::<_, Option<Sha>>(3)?.map(|plan| plan.0);
            let (operation, epoch) = (row.get::<_, Id>(1)?.0, Epoch(row.get::<_, Count>(2)?.0 + 1));
            Ok((row.get::<_, Count>(0)?.0, Claimed { operation, epoch, plan }))
        },
    )?;
    let able = due.into_iter().filter(|(_, claimed)| match &claimed.plan {
        Some(plan) => !request.unable.contains(plan),
        None => true,
    });
    let able = able.filter(|(_, claimed)| !request.driven.contains(&claimed.operation));
    let mut taken = Vec::new();
    for (position, claimed) in able.take(request.limit) {
        batch.run(
            "update operations set epoch = ?2, session = ?3, wake_at = ?4 where position = ?1",
            params![int(position), int(claimed.epoch.0), int(live.id.0), Time(request.due)],
        )?;
        taken.push(claimed);
    }
    Ok(taken)
}

/// The holder shows a sign of life: the time from which others may take it is later.
pub(crate) fn hold_until(
    batch: &mut Batch<'_, '_>,
    session: SessionId,
    operation: OperationId,
    epoch: Epoch,
    due: Timestamp,
) -> Result<(), Fault> {
    batch.session(session)?;
    let changed = batch.run(
        "update operations set wake_at = ?4 where id = ?1 and session = ?2 and epoch = ?3",
        params![Id(operation), int(session.0), int(epoch.0), Time(due)],
    )?;
    if changed == 0 {
        let what = format!("epoch {} of operation {operation}", epoch.0);
        return Err(Error::Stale { what }.into());
    }
    Ok(())
}

/// Nobody holds it, and it is due at once. When it waited for a slot that is free, the next waiter is due too.
pub(crate) fn give_up(
    batch: &mut Batch<'_, '_>,
    session: SessionId,
    operation: OperationId,
    epoch: Epoch,
) -> Result<(), Fault> {
    let changed = batch.run(
        "update operations set session = null, wake_at = min(coalesce(wake_at, ?4), ?4)
         where id = ?1 and session = ?2 and epoch = ?3 and session is not null",
        params![Id(operation), int(session.0), int(epoch.0), Time(batch.log_now)],
    )?;
    if changed > 0 {
        batch.woke = true;
        // The first of the same free slot that is not due yet: this one is, since just now.
        batch.run(
            "update operations set wake_at = ?2 where position = (
                 select o.position from operations g join operations o
                     on o.waits_kind = g.waits_kind and o.waits_key = g.waits_key
                 where g.id = ?1 and o.waits_key is not null and o.session is null and o.ended_at is null
                     and o.position <> g.position and (o.wake_at is null or o.wake_at > ?2)
                     and not exists (
                         select 1 from claims c where c.kind = g.waits_kind and c.key = g.waits_key)
                 order by o.level, o.accepted_at, o.position limit 1)",
            params![Id(operation), Time(batch.log_now)],
        )?;
    }
    Ok(())
}

/// The operations of this session with inbox rows that are not folded yet.
pub(crate) fn inbox_waiting(conn: &Connection, session: SessionId) -> rusqlite::Result<Vec<OperationId>> {
    conn.prepare_cached(
        "select id from operations where inbox > folded_request and session = ?1 order by position",
    )?
    .query_map([int(session.0)], |row| Ok(row.get::<_, Id>(0)?.0))?
    .collect()
}

/// When the next operation that nobody alive holds becomes due.
pub(crate) fn next_due(conn: &Connection, log_now: Timestamp) -> rusqlite::Result<Option<Timestamp>> {
    conn.prepare_cached(
        "select min(at) from (
             select min(wake_at) as at from operations where session is null and ended_at is null
             union all
             select min(i.at) from operations o join inbox i
                 on i.operation = o.position and i.seq = o.folded_request + 1
                 where o.inbox > o.folded_request and o.session is null
             union all
             select min(coalesce(s.closed_at, s.expires_at)) from operations o join sessions s on s.id = o.session
                 where o.session is not null and (s.closed_at is not null or s.expires_at <= ?1))",
    )?
    .query_row([Time(log_now)], |row| time(row, 0))
}

/// What is not ended and that nothing will wake. An outbox row always has a time, so none of those can be stuck.
pub(crate) fn stuck(conn: &Connection) -> rusqlite::Result<Vec<OperationId>> {
    conn.prepare_cached(
        "select id from operations
         where session is null and ended_at is null and wake_at is null and state <> 'suspended'
             and inbox = folded_request
         order by position",
    )?
    .query_map([], |row| Ok(row.get::<_, Id>(0)?.0))?
    .collect()
}
