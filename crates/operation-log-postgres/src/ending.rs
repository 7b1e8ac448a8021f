//! What an ending append leaves behind: freed claims, a woken waiter, a hold, budgets given back.

use redress_operation_log::{Append, Claim, Ending};
use redress_types::Timestamp;
use sqlx::query;

use crate::fault::Fault;
use crate::tx::Tx;
use crate::values::{Columns, int, text};

pub(crate) async fn end(
    tx: &mut Tx<'_>,
    append: &Append,
    ending: &Ending,
    operation: u64,
) -> Result<(), Fault> {
    let freed = query("delete from rights where operation = $1 returning slot").bind(int(operation));
    for row in freed.fetch_all(tx.conn()).await? {
        if let Some(slot) = Columns::of(&row).maybe_text()? {
            wake_first(tx, append, &Claim::Slot(slot)).await?;
        }
    }
    if let Some((key, next_allowed_at)) = &ending.hold {
        // The later time wins.
        let sql = "insert into holds (key, next_allowed_at) values ($1, $2)
             on conflict (key) do update set next_allowed_at = excluded.next_allowed_at
             where excluded.next_allowed_at > holds.next_allowed_at";
        tx.run(query(sql).bind(text(key)).bind(next_allowed_at.as_micros())).await?;
    }
    if ending.refund {
        tx.run(query("delete from reservations where operation = $1").bind(int(operation))).await?;
    }
    Ok(())
}

/// The first waiter that is not due yet is due at once: by level (whose words sort as they rank), then acceptance,
/// then position. One that is due already may be one that nobody at work can run.
pub(crate) async fn wake_first(tx: &mut Tx<'_>, append: &Append, claim: &Claim) -> Result<(), Fault> {
    // One that somebody has locked is passed over, since waiting for it here could be waiting in a circle. When nobody
    // is due in the end, `wake_forgotten` finds it.
    let sql = "update operations set wake_at = least(wake_at, $3) where position = (
             select position from operations
             where waits_kind = $1 and waits_key = $2 and session is null
                 and (wake_at is null or wake_at > $3)
             order by level, accepted_at, position limit 1 for update skip locked)";
    let wake = query(sql).bind(claim.kind()).bind(text(claim.key())).bind(append.now.as_micros());
    tx.woke |= tx.run(wake).await? > 0;
    Ok(())
}

/// Where a slot is free, and something waits for it, somebody is due or looked after: this makes it so again. Not so
/// only when the slot was freed while every waiter was locked by somebody who woke none.
pub(crate) async fn wake_forgotten(tx: &mut Tx<'_>, now: Timestamp) -> Result<(), Fault> {
    // From one slot to the next by the index, past all that wait for the same.
    let sql = "with recursive slots(key) as (
             select min(waits_key) from operations where waits_kind = 'slot' and waits_key is not null
             union all
             select (select min(o.waits_key) from operations o
                 where o.waits_kind = 'slot' and o.waits_key is not null and o.waits_key > s.key)
             from slots s where s.key is not null
         ), forgotten as materialized (
             select (
                 select o.position from operations o
                 where o.waits_kind = 'slot' and o.waits_key = s.key and o.session is null
                     and (o.wake_at is null or o.wake_at > $1)
                 order by o.level, o.accepted_at, o.position limit 1 for update skip locked) as position
             from slots s
             where s.key is not null
                 and not exists (select 1 from rights c where c.slot = s.key)
                 and not exists (
                     select 1 from operations d where d.waits_kind = 'slot' and d.waits_key = s.key
                         and (d.session is not null or d.wake_at <= $1 or d.inbox > d.folded_request))
         )
         update operations w set wake_at = $1 from forgotten f where w.position = f.position";
    tx.woke |= tx.run(query(sql).bind(now.as_micros())).await? > 0;
    Ok(())
}
