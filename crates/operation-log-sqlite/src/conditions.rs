//! What must not be in the way of an append: claims of others, holds, budgets, switches; and taking what is free.

use std::time::Duration;

use redress_operation_log::event::HoldReason;
use redress_operation_log::{Append, Budget, Claim, Error};
use redress_types::Timestamp;
use rusqlite::params;

use crate::batch::{Batch, time};
use crate::fault::Fault;
use crate::values::{Count, Id, Time, int};

/// When to look again at a switch at the latest: it may be turned on again before its own end.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Refuses with the first thing in the way: fingerprint, sameness, holds, budgets, switches, slot. `mine` is the
/// position of the operation's head, when it has one.
pub(crate) fn check(batch: &Batch<'_>, append: &Append, mine: Option<u64>) -> Result<(), Fault> {
    let is = |kind: fn(&Claim) -> bool| append.claims.iter().filter(move |claim| kind(claim));
    for claim in is(|claim| matches!(claim, Claim::Fingerprint(_))) {
        is_free(batch, claim, mine)?;
    }
    for claim in is(|claim| matches!(claim, Claim::Sameness(_))) {
        is_free(batch, claim, mine)?;
    }
    for key in &append.conditions.holds {
        no_hold(batch, key, append.now)?;
    }
    for budget in &append.conditions.budgets {
        has_room(batch, budget, append.now)?;
    }
    // Where none was ever changed, none is off.
    for key in append.conditions.switches.iter().filter(|_| batch.switch_changes > 0) {
        is_on(batch, key, append.now)?;
    }
    for claim in is(|claim| matches!(claim, Claim::Slot(_))) {
        is_free(batch, claim, mine)?;
    }
    Ok(())
}

/// Refuses when another operation has the claim.
pub(crate) fn is_free(batch: &Batch<'_>, claim: &Claim, mine: Option<u64>) -> Result<(), Fault> {
    let holder = batch.find(
        "select c.operation, o.id from claims c join operations o on o.position = c.operation
         where c.kind = ?1 and c.key = ?2",
        [claim.kind(), claim.key()],
        |row| Ok((row.get::<_, Count>(0)?.0, row.get::<_, Id>(1)?.0)),
    )?;
    match holder {
        Some((position, holder)) if Some(position) != mine => {
            Err(Error::Lost { claim: claim.clone(), holder }.into())
        }
        Some(_) | None => Ok(()),
    }
}

fn no_hold(batch: &Batch<'_>, key: &str, now: Timestamp) -> Result<(), Fault> {
    let until = batch.find("select next_allowed_at from holds where key = ?1", [key], |row| time(row, 0))?;
    match until.flatten() {
        Some(until) if until > now => {
            Err(Error::NotNow { reason: HoldReason::Cooldown { key: key.to_owned() }, until }.into())
        }
        Some(_) | None => Ok(()),
    }
}

fn has_room(batch: &Batch<'_>, budget: &Budget, now: Timestamp) -> Result<(), Fault> {
    // Younger than the window: it leaves the window in the very microsecond in which it is as old as that.
    let (count, oldest) = batch.one(
        "select count(*), min(at) from reservations where key = ?1 and at > ?2",
        params![budget.key, Time(now.minus(budget.window))],
        |row| Ok((row.get::<_, Count>(0)?.0, time(row, 1)?)),
    )?;
    if count < u64::from(budget.most) {
        return Ok(());
    }
    let reason = HoldReason::Budget { key: budget.key.clone(), most: budget.most };
    let until = oldest.unwrap_or(now).plus(budget.window);
    Err(Error::NotNow { reason, until }.into())
}

fn is_on(batch: &Batch<'_>, key: &str, now: Timestamp) -> Result<(), Fault> {
    let off = batch.find("select until from switches where key = ?1", [key], |row| time(row, 0))?;
    let until = match off {
        None => return Ok(()),
        Some(Some(until)) if until <= now => return Ok(()),
        Some(Some(until)) => until.min(now.plus(LOOK_AGAIN)),
        Some(None) => now.plus(LOOK_AGAIN),
    };
    Err(Error::NotNow { reason: HoldReason::Paused { switch: key.to_owned() }, until }.into())
}

/// Takes the claims and reserves from the budgets.
pub(crate) fn take(batch: &mut Batch<'_>, append: &Append, operation: u64) -> Result<(), Fault> {
    for claim in &append.claims {
        take_claim(batch, claim, operation)?;
    }
    for budget in &append.conditions.budgets {
        let window = i64::try_from(budget.window.as_micros()).unwrap_or(i64::MAX);
        // What no window that was ever asked of this budget can still see.
        batch.run(
            "delete from reservations where key = ?1 and at <= ?2 and at <= ?3 - window_us",
            params![budget.key, Time(append.now.minus(budget.window)), Time(append.now)],
        )?;
        batch.run(
            "insert into reservations (key, operation, at, window_us) values (?1, ?2, ?3, ?4)",
            params![budget.key, int(operation), Time(append.now), window],
        )?;
    }
    Ok(())
}

/// Takes one claim that [`is_free`] for this operation.
pub(crate) fn take_claim(batch: &mut Batch<'_>, claim: &Claim, operation: u64) -> Result<(), Fault> {
    batch.run(
        "insert into claims (kind, key, operation) values (?1, ?2, ?3)
         on conflict (kind, key) do update set operation = excluded.operation
         where operation <> excluded.operation",
        params![claim.kind(), claim.key(), int(operation)],
    )?;
    Ok(())
}
