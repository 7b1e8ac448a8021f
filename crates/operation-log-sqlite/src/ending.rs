//! What an ending append leaves behind: freed claims, a woken waiter, a hold, budgets given back.

use redress_operation_log::{Append, Claim, Ending};
use rusqlite::params;
use rusqlite::types::FromSqlError;

use crate::batch::Batch;
use crate::conditions::free;
use crate::fault::Fault;
use crate::values::{Count, Time, int, invalid};

pub(crate) fn end(
    batch: &mut Batch<'_, '_>,
    append: &Append,
    ending: &Ending,
    operation: u64,
    freed: &[Claim],
) -> Result<(), Fault> {
    for claim in freed {
        // Nearly always nobody waits.
        if matches!(claim, Claim::Slot(_)) && anybody_waits(batch)? {
            wake_first(batch, append, claim)?;
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

fn anybody_waits(batch: &mut Batch<'_, '_>) -> rusqlite::Result<bool> {
    if batch.memo.nobody_waits {
        return Ok(false);
    }
    let first = batch.find("select 1 from operations where waits_key is not null limit 1", [], |_| Ok(()))?;
    batch.memo.nobody_waits = first.is_none();
    Ok(first.is_some())
}

/// Frees every claim of an operation and answers which they were. `count`: how many its head says that it has.
pub(crate) fn free_all(batch: &mut Batch<'_, '_>, operation: u64, count: u64) -> Result<Vec<Claim>, Fault> {
    if batch.memo.claims_of(operation).len() as u64 != count {
        // Taken before this session, or by an alert that another process let join.
        let every = batch.all("select operation, kind, key from claims", [], |row| {
            let (kind, key): (String, String) = (row.get(1)?, row.get(2)?);
            let claim = Claim::parse(&kind, &key).ok_or_else(|| invalid(1, FromSqlError::InvalidType))?;
            Ok((row.get::<_, Count>(0)?.0, claim))
        })?;
        batch.memo.claims.clear();
        for (operation, claim) in every {
            batch.memo.claims.entry(operation).or_default().push(claim);
        }
    }
    let claims = batch.memo.claims.remove(&operation).unwrap_or_default();
    for claim in &claims {
        free(batch, claim, operation)?;
    }
    Ok(claims)
}

/// The first waiter that is not due yet is due at once: by level (whose words sort as they rank), then acceptance,
/// then position. One that is due already may be one that nobody at work can run.
pub(crate) fn wake_first(batch: &mut Batch<'_, '_>, append: &Append, slot: &Claim) -> Result<(), Fault> {
    let woken = batch.run(
        "update operations set wake_at = min(coalesce(wake_at, ?3), ?3) where position = (
             select position from operations
             where waits_kind = ?1 and waits_key = ?2 and waits_key is not null
                 and session is null and ended_at is null and (wake_at is null or wake_at > ?3)
             order by level, accepted_at, position limit 1)",
        params![slot.kind(), slot.key(), Time(append.now)],
    )?;
    batch.woke |= woken > 0;
    Ok(())
}
