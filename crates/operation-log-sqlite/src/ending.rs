//! What an ending append leaves behind: freed claims, a woken waiter, a hold, budgets given back.

use redress_operation_log::{Append, Claim, Ending};
use rusqlite::params;

use crate::batch::Batch;
use crate::fault::Fault;
use crate::values::{Time, int};

pub(crate) fn end(
    batch: &mut Batch<'_>,
    append: &Append,
    ending: &Ending,
    operation: u64,
) -> Result<(), Fault> {
    // Nearly always nobody waits, and then nobody needs to know which slot it was.
    let slots = if anybody_waits(batch)? { slots_of(batch, operation)? } else { Vec::new() };
    batch.run("delete from claims where operation = ?1", [int(operation)])?;
    for slot in slots {
        wake_first(batch, append, &slot)?;
    }
    if let Some((key, next_allowed_at)) = &ending.hold {
        // The later time wins.
        batch.run(
            "insert into holds (key, next_allowed_at) values (?1, ?2)
             on conflict (key) do update set next_allowed_at = excluded.next_allowed_at
             where excluded.next_allowed_at > next_allowed_at",
            params![key, Time(*next_allowed_at)],
        )?;
    }
    if ending.refund {
        batch.run("delete from reservations where operation = ?1", [int(operation)])?;
    }
    Ok(())
}

fn anybody_waits(batch: &mut Batch<'_>) -> rusqlite::Result<bool> {
    if batch.memo.nobody_waits {
        return Ok(false);
    }
    let first = batch.find("select 1 from operations where waits_key is not null limit 1", [], |_| Ok(()))?;
    batch.memo.nobody_waits = first.is_none();
    Ok(first.is_some())
}

fn slots_of(batch: &Batch<'_>, operation: u64) -> rusqlite::Result<Vec<Claim>> {
    batch.all("select key from claims where operation = ?1 and kind = 'slot'", [int(operation)], |row| {
        Ok(Claim::Slot(row.get(0)?))
    })
}

/// The first waiter is due at once: by level (whose words sort as they rank), then acceptance, then position.
pub(crate) fn wake_first(batch: &mut Batch<'_>, append: &Append, slot: &Claim) -> Result<(), Fault> {
    let woken = batch.run(
        "update operations set wake_at = min(coalesce(wake_at, ?3), ?3) where position = (
             select position from operations
             where waits_kind = ?1 and waits_key = ?2 and waits_key is not null
                 and session is null and ended_at is null
             order by level, accepted_at, position limit 1)",
        params![slot.kind(), slot.key(), Time(append.now)],
    )?;
    batch.woke |= woken > 0;
    Ok(())
}
