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
fn check(batch: &Batch<'_, '_>, append: &Append, mine: Option<u64>) -> Result<(), Fault> {
    let is = |kind: fn(&Claim) -> bool| append.claims.iter().filter(move |claim| kind(claim));
    for claim in is(|claim| matches!(claim, Claim::Fingerprint(_))) {
        is_free(batch, claim, mine)?;
    }
    for claim in is(|claim| matches!(claim, Claim::Sameness(_))) {
        is_free(batch, claim, mine)?;
    }
    not_claims(batch, append)?;
    for claim in is(|claim| matches!(claim, Claim::Slot(_))) {
        is_free(batch, claim, mine)?;
    }
    Ok(())
}

/// Refuses with the first thing in the way that is no claim.
pub(crate) fn not_claims(batch: &Batch<'_, '_>, append: &Append) -> Result<(), Fault> {
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
    Ok(())
}

/// Refuses when another operation has the claim.
pub(crate) fn is_free(batch: &Batch<'_, '_>, claim: &Claim, mine: Option<u64>) -> Result<(), Fault> {
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

fn no_hold(batch: &Batch<'_, '_>, key: &str, now: Timestamp) -> Result<(), Fault> {
    let until = batch.find("select next_allowed_at from holds where key = ?1", [key], |row| time(row, 0))?;
    match until.flatten() {
        Some(until) if until > now => {
            Err(Error::NotNow { reason: HoldReason::Cooldown { key: key.to_owned() }, until }.into())
        }
        Some(_) | None => Ok(()),
    }
}

fn has_room(batch: &Batch<'_, '_>, budget: &Budget, now: Timestamp) -> Result<(), Fault> {
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

fn is_on(batch: &Batch<'_, '_>, key: &str, now: Timestamp) -> Result<(), Fault> {
    let off = batch.find("select until from switches where key = ?1", [key], |row| time(row, 0))?;
    let until = match off {
        None => return Ok(()),
        Some(Some(until)) if until <= now => return Ok(()),
        Some(Some(until)) => until.min(now.plus(LOOK_AGAIN)),
        Some(None) => now.plus(LOOK_AGAIN),
    };
    Err(Error::NotNow { reason: HoldReason::Paused { switch: key.to_owned() }, until }.into())
}

/// Takes the claims of an append that nothing refuses any more, and answers how many of them are new; or refuses with
/// the first thing in the way, and then nothing was written.
///
/// Nearly always they are free. So each is taken without a look, and only when one of them is not, they are given
/// back and everything is looked at in its order.
pub(crate) fn take_claims(
    batch: &mut Batch<'_, '_>,
    append: &Append,
    mine: Option<u64>,
    operation: u64,
) -> Result<u64, Fault> {
    if let Err(refused) = not_claims(batch, append) {
        // A lost claim would have been said first.
        check(batch, append, mine)?;
        return Err(refused);
    }
    let wrote = batch.mark();
    if !take_all(batch, append, operation)? {
        batch.unmark(wrote);
        check(batch, append, mine)?;
        return take_others(batch, append, operation);
    }
    batch.memo.claimed(operation, append.claims.iter(), mine.is_none());
    Ok(append.claims.len() as u64)
}

/// Takes all claims of an append, or none; answers which.
pub(crate) fn take_all(batch: &mut Batch<'_, '_>, append: &Append, operation: u64) -> rusqlite::Result<bool> {
    for (taken, claim) in append.claims.iter().enumerate() {
        if !take_claim(batch, claim, operation)? {
            free_these(batch, &append.claims[..taken], operation)?;
            return Ok(false);
        }
    }
    Ok(true)
}

/// Gives back what was just taken.
pub(crate) fn free_these(
    batch: &mut Batch<'_, '_>,
    claims: &[Claim],
    operation: u64,
) -> rusqlite::Result<()> {
    claims.iter().try_for_each(|claim| free(batch, claim, operation).map(|_| ()))
}

/// Some of them it has already.
fn take_others(batch: &mut Batch<'_, '_>, append: &Append, operation: u64) -> Result<u64, Fault> {
    let mut new = Vec::new();
    for claim in &append.claims {
        if take_claim(batch, claim, operation)? {
            new.push(claim);
        }
    }
    let count = new.len() as u64;
    batch.memo.claimed(operation, new.into_iter(), false);
    Ok(count)
}

/// Frees a claim; answers whether the operation had it.
pub(crate) fn free(batch: &mut Batch<'_, '_>, claim: &Claim, operation: u64) -> rusqlite::Result<bool> {
    let sql = "delete from claims where kind = ?1 and key = ?2 and operation = ?3";
    Ok(batch.run(sql, params![claim.kind(), claim.key(), int(operation)])? > 0)
}

/// Reserves from the budgets.
pub(crate) fn reserve(batch: &mut Batch<'_, '_>, append: &Append, operation: u64) -> Result<(), Fault> {
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

/// Takes one claim when nobody has it; answers whether that was so.
pub(crate) fn take_claim(batch: &mut Batch<'_, '_>, claim: &Claim, operation: u64) -> rusqlite::Result<bool> {
    let taken = batch.run(
        "insert into claims (kind, key, operation) values (?1, ?2, ?3) on conflict (kind, key) do nothing",
        params![claim.kind(), claim.key(), int(operation)],
    )?;
    Ok(taken > 0)
}
