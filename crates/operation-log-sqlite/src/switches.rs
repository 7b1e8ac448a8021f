//! Switches: what pauses the engine, a strategy or a target.

use redress_operation_log::{Actor, Switch};
use rusqlite::{Connection, Row, params};

use crate::batch::{Batch, time};
use crate::fault::Fault;
use crate::values::{Time, int};

fn switch(row: &Row<'_>) -> rusqlite::Result<Switch> {
    Ok(Switch {
        key: row.get(0)?,
        by: Actor(row.get(1)?),
        reason: row.get(2)?,
        since: row.get::<_, Time>(3)?.0,
        until: time(row, 4)?,
    })
}

/// Turns a switch off or on again. What changes nothing is not counted as a change.
pub(crate) fn set(batch: &mut Batch<'_, '_>, key: &str, off: Option<&Switch>) -> Result<(), Fault> {
    let changed = match off {
        Some(off) => batch.run(
            "insert into switches (key, by, reason, since, until) values (?1, ?2, ?3, ?4, ?5)
             on conflict (key) do update set by = excluded.by, reason = excluded.reason,
                 since = excluded.since, until = excluded.until
             where (by, reason, since, until) is not
                 (excluded.by, excluded.reason, excluded.since, excluded.until)",
            params![key, off.by.0, off.reason, Time(off.since), off.until.map(Time)],
        )?,
        None => batch.run("delete from switches where key = ?1", [key])?,
    };
    if changed > 0 {
        batch.switch_changes += 1;
        batch.run("update meta set switch_changes = ?1", [int(batch.switch_changes)])?;
        batch.woke = true;
    }
    Ok(())
}

/// Every switch that is off.
pub(crate) fn all(conn: &Connection) -> rusqlite::Result<Vec<Switch>> {
    conn.prepare_cached("select key, by, reason, since, until from switches order by key")?
        .query_map([], switch)?
        .collect()
}
