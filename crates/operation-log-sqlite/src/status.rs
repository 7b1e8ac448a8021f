//! How the log stands: who is at work, what is owed.

use redress_operation_log::{LogStatus, SessionId, SessionStatus};
use redress_types::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use crate::archive;
use crate::batch::time;
use crate::values::{Count, Time};

/// How the log stands. To be called within one read transaction.
pub(crate) fn of(conn: &Connection, log_now: Timestamp) -> rusqlite::Result<LogStatus> {
    let sessions = conn
        .prepare_cached(
            "select id, engine, expires_at,
                 (select count(*) from operations where session is not null and session = s.id)
             from sessions s where closed_at is null and expires_at > ?1 order by id",
        )?
        .query_map([Time(log_now)], |row| {
            Ok(SessionStatus {
                id: SessionId(row.get::<_, Count>(0)?.0),
                engine: row.get(1)?,
                expires_at: row.get::<_, Time>(2)?.0,
                holds: row.get::<_, Count>(3)?.0,
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let (owed, handed) = conn
        .prepare_cached(
            "select count(*), coalesce(sum(state = 'handed'), 0) from outbox
             where state = 'owed' or state = 'handed'",
        )?
        .query_row([], |row| Ok((row.get::<_, Count>(0)?.0, row.get::<_, Count>(1)?.0)))?;
    let owed_since = conn
        .prepare_cached(
            "select written_at from outbox where state = 'owed' or state = 'handed'
             order by position, place limit 1",
        )?
        .query_row([], |row| time(row, 0))
        .optional()?
        .flatten();
    let position = archive::last_position(conn)?;
    Ok(LogStatus { log_now, position, sessions, owed, handed, owed_since })
}
