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
    let freed = batch.run_all(
        "delete from claims where operation = ?1 returning kind, key",
        [int(operation)],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
    )?;
    for (kind, key) in freed {
        if let Some(slot @ Claim::Slot(_)) = Claim::parse(&kind, &key) {
            wake_first(batch, append, &slot)?;
        }
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
