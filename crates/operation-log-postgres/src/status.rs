//! How the log stands: its clock, who is at work, what is owed.

use redress_operation_log::{LogStatus, SessionId, SessionStatus};
use sqlx::{PgConnection, query};

use crate::shared::{log_now, only};
use crate::values::Columns;

/// How the log stands.
pub(crate) async fn of(conn: &mut PgConnection, clock: Option<i64>) -> Result<LogStatus, sqlx::Error> {
    let sql = concat!(
        "select ",
        log_now!(),
        ", position,
             (select count(*) from outbox where state in ('owed', 'handed')),
             (select count(*) from outbox where state in ('owed', 'handed') and state = 'handed'),
             (select written_at from outbox where state in ('owed', 'handed') order by position, place limit 1)
         from meta"
    );
    let row = only(conn, query(sql).bind(clock)).await?;
    let mut row = Columns::of(&row);
    let mut status = LogStatus {
        log_now: row.time()?,
        position: row.count()?,
        owed: row.count()?,
        handed: row.count()?,
        owed_since: row.maybe_time()?,
        sessions: Vec::new(),
    };
    let sql = "select s.id, s.engine, s.expires_at,
             (select count(*) from operations o where o.session = s.id and o.session is not null)
         from sessions s where s.closed_at is null and s.expires_at > $1 order by s.id";
    for row in query(sql).bind(status.log_now.as_micros()).fetch_all(conn).await? {
        let mut row = Columns::of(&row);
        status.sessions.push(SessionStatus {
            id: SessionId(row.count()?),
            engine: row.text()?,
            expires_at: row.time()?,
            holds: row.count()?,
        });
    }
    Ok(status)
}
