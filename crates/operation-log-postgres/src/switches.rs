//! Switches: what pauses the engine, a strategy or a target.

use redress_operation_log::{Actor, Switch};
use sqlx::{PgConnection, query};

use crate::fault::Fault;
use crate::tx::Tx;
use crate::values::{Columns, text};

/// Turns a switch off or on again. What changes nothing is not counted as a change.
pub(crate) async fn set(tx: &mut Tx<'_>, key: &str, off: Option<&Switch>) -> Result<(), Fault> {
    // Locked first: an append that comes after sees the change, or that there was one.
    tx.lock_meta().await?;
    let change = match off {
        Some(off) => query(
            "insert into switches (key, turned_by, reason, since, until) values ($1, $2, $3, $4, $5)
             on conflict (key) do update set turned_by = excluded.turned_by, reason = excluded.reason,
                 since = excluded.since, until = excluded.until
             where (switches.turned_by, switches.reason, switches.since, switches.until) is distinct from
                 (excluded.turned_by, excluded.reason, excluded.since, excluded.until)",
        )
        .bind(text(key))
        .bind(text(&off.by.0))
        .bind(text(&off.reason))
        .bind(off.since.as_micros())
        .bind(off.until.map(|until| until.as_micros())),
        None => query("delete from switches where key = $1").bind(text(key)),
    };
    if tx.run(change).await? > 0 {
        tx.run(query("update meta set switch_changes = switch_changes + 1")).await?;
        tx.woke = true;
    }
    Ok(())
}

/// Every switch that is off.
pub(crate) async fn all(conn: &mut PgConnection) -> Result<Vec<Switch>, sqlx::Error> {
    let rows = query("select key, turned_by, reason, since, until from switches order by key");
    let switch = |row| {
        let mut row = Columns::of(row);
        Ok(Switch {
            key: row.text()?,
            by: Actor(row.text()?),
            reason: row.text()?,
            since: row.time()?,
            until: row.maybe_time()?,
        })
    };
    rows.fetch_all(conn).await?.iter().map(switch).collect()
}
