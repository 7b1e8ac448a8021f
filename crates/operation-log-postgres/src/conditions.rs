//! What must not be in the way of an append: claims of others, holds, budgets, switches; and taking what is free.
//! The row of `meta` is locked, so what is found stays so.

use std::time::Duration;

use redress_operation_log::event::HoldReason;
use redress_operation_log::{Append, Budget, Claim, Error};
use redress_types::Timestamp;
use sqlx::query;

use crate::fault::Fault;
use crate::shared::{first, only};
use crate::tx::{Meta, Tx};
use crate::values::{Columns, int, micros, text};

/// When to look again at a switch at the latest: it may be turned on again before its own end.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Refuses with the first thing in the way: fingerprint, sameness, holds, budgets, switches, slot. `mine` is the
/// position of the operation's head, when it has one.
pub(crate) async fn check(
    tx: &mut Tx<'_>,
    append: &Append,
    mine: Option<u64>,
    meta: &Meta,
) -> Result<(), Fault> {
    let is = |kind: &'static str| append.claims.iter().filter(move |claim| claim.kind() == kind);
    for claim in is("fingerprint").chain(is("sameness")) {
        is_free(tx, claim, mine).await?;
    }
    for key in &append.conditions.holds {
        no_hold(tx, key, append.now).await?;
    }
    for budget in &append.conditions.budgets {
        has_room(tx, budget, append.now).await?;
    }
    // Where none was ever changed, none is off.
    for key in append.conditions.switches.iter().filter(|_| meta.switch_changes > 0) {
        is_on(tx, key, append.now).await?;
    }
    for claim in is("slot") {
        is_free(tx, claim, mine).await?;
    }
    Ok(())
}

/// Refuses when another operation has the claim.
pub(crate) async fn is_free(tx: &mut Tx<'_>, claim: &Claim, mine: Option<u64>) -> Result<(), Fault> {
    let sql = "select c.operation, o.id from claims c join operations o on o.position = c.operation
         where c.kind = $1 and c.key = $2";
    let holder = first(tx.conn(), query(sql).bind(claim.kind()).bind(text(claim.key()))).await?;
    let Some(row) = holder else { return Ok(()) };
    let mut row = Columns::of(&row);
    if Some(row.count()?) == mine {
        return Ok(());
    }
    Err(Error::Lost { claim: claim.clone(), holder: row.id()? }.into())
}

async fn no_hold(tx: &mut Tx<'_>, key: &str, now: Timestamp) -> Result<(), Fault> {
    let hold = query("select next_allowed_at from holds where key = $1 and next_allowed_at > $2");
    let Some(row) = first(tx.conn(), hold.bind(text(key)).bind(now.as_micros())).await? else {
        return Ok(());
    };
    let until = Columns::of(&row).time()?;
    Err(Error::NotNow { reason: HoldReason::Cooldown { key: key.to_owned() }, until }.into())
}

async fn has_room(tx: &mut Tx<'_>, budget: &Budget, now: Timestamp) -> Result<(), Fault> {
    // Younger than the window: it leaves the window in the very microsecond in which it is as old as that.
    let young = query("select count(*), min(at) from reservations where key = $1 and at > $2");
    let after = now.minus(budget.window).as_micros();
    let row = only(tx.conn(), young.bind(text(&budget.key)).bind(after)).await?;
    let mut row = Columns::of(&row);
    if row.count()? < u64::from(budget.most) {
        return Ok(());
    }
    let reason = HoldReason::Budget { key: budget.key.clone(), most: budget.most };
    let until = row.maybe_time()?.unwrap_or(now).plus(budget.window);
    Err(Error::NotNow { reason, until }.into())
}

async fn is_on(tx: &mut Tx<'_>, key: &str, now: Timestamp) -> Result<(), Fault> {
    let off = query("select until from switches where key = $1").bind(text(key));
    let Some(row) = first(tx.conn(), off).await? else { return Ok(()) };
    let until = match Columns::of(&row).maybe_time()? {
        Some(until) if until <= now => return Ok(()),
        Some(until) => until.min(now.plus(LOOK_AGAIN)),
        None => now.plus(LOOK_AGAIN),
    };
    Err(Error::NotNow { reason: HoldReason::Paused { switch: key.to_owned() }, until }.into())
}

/// Takes the claims and reserves from the budgets.
pub(crate) async fn take(tx: &mut Tx<'_>, append: &Append, operation: u64) -> Result<(), Fault> {
    for claim in &append.claims {
        take_claim(tx, claim, operation).await?;
    }
    for budget in &append.conditions.budgets {
        // What no window that was ever asked of this budget can still see.
        let old = query("delete from reservations where key = $1 and at <= $2 and at <= $3 - window_us");
        let (key, now) = (text(&budget.key), append.now);
        let after = now.minus(budget.window).as_micros();
        tx.run(old.bind(&*key).bind(after).bind(now.as_micros())).await?;
        let sql = "insert into reservations (key, operation, at, window_us) values ($1, $2, $3, $4)";
        let insert = query(sql).bind(&*key).bind(int(operation)).bind(now.as_micros());
        tx.run(insert.bind(micros(budget.window))).await?;
    }
    Ok(())
}

/// Takes one claim that [`is_free`] for this operation.
pub(crate) async fn take_claim(tx: &mut Tx<'_>, claim: &Claim, operation: u64) -> Result<(), Fault> {
    macro_rules! sql {
        ($kind:literal) => {
            concat!("insert into rights (operation, ", $kind, ") values ($1, $2) on conflict do nothing")
        };
    }
    let sql = match claim {
        Claim::Fingerprint(_) => sql!("fingerprint"),
        Claim::Sameness(_) => sql!("sameness"),
        Claim::Slot(_) => sql!("slot"),
    };
    tx.run(query(sql).bind(int(operation)).bind(text(claim.key()))).await?;
    Ok(())
}
