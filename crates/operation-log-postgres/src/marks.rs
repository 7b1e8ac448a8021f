//! [`Marks`]: by what a database is told that was restored from a backup, copied, or failed over.
//!
//! What can be noticed: another cluster (`pg_dump` and restore, `pg_upgrade`), another timeline (recovery to a point
//! in time, a promoted standby, also where nothing was lost), tables that were made anew (a dump read back into the
//! same cluster), a write-ahead log that stands lower than it stood, and, while a process lives, anything that is
//! older than what it has seen. What cannot: a copy of the data folder put back in its place while every engine was
//! stopped, because all that the database knows of itself went back with it.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, query, raw_sql};

use crate::shared::{Query, first, only};
use crate::values::Columns;

/// By what a database is told, but for what only the row of `meta` can be compared with while it is locked. What an
/// ordinary user may not see is left out and not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// The cluster's own number.
    system: Option<String>,
    /// Raised by every recovery that ends and every promotion.
    timeline: Option<String>,
    /// Whether the server says how far its write-ahead log has come.
    tells_lsn: bool,
}

/// The highest that this process has seen of the log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub session: u64,
    pub position: u64,
}

impl Seen {
    /// This was seen too.
    pub(crate) fn raise(&mut self, other: Self) {
        self.session = self.session.max(other.session);
        self.position = self.position.max(other.position);
    }
}

macro_rules! system {
    () => {
        "(select system_identifier::text from pg_control_system())"
    };
}

macro_rules! timeline {
    () => {
        "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
    };
}

macro_rules! differ {
    ($lsn:literal) => {
        concat!(
            "select system_identifier <> $1, timeline <> $2, meta_oid <> 'meta'::regclass::oid, ",
            $lsn,
            " from meta"
        )
    };
}

macro_rules! note {
    ($lsn:literal) => {
        concat!(
            "update meta set system_identifier = coalesce($1, system_identifier), timeline = coalesce($2, timeline),
                 meta_oid = 'meta'::regclass::oid, lsn = ",
            $lsn
        )
    };
}

impl Marks {
    /// Reads them, within a transaction. The server that a connection leads to does not change while it lasts, so
    /// this may be done before the row of `meta` is locked.
    pub(crate) async fn read(conn: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let all = query(concat!("select ", system!(), ", ", timeline!(), ", pg_current_wal_lsn()::text"));
        if let Some(row) = may(conn, all).await? {
            let mut row = Columns::of(&row);
            let (system, timeline) = (row.get()?, row.get()?);
            return Ok(Self { system, timeline, tells_lsn: row.get::<Option<&str>>()?.is_some() });
        }
        let system = text(may(conn, query(concat!("select ", system!()))).await?)?;
        let timeline = text(may(conn, query(concat!("select ", timeline!()))).await?)?;
        let lsn = text(may(conn, query("select pg_current_wal_lsn()::text")).await?)?;
        Ok(Self { system, timeline, tells_lsn: lsn.is_some() })
    }

    /// How the database differs from the one whose marks stand in `meta`, if it does. The row of `meta` is locked:
    /// how far the write-ahead log has come is read after it was noted, however many sessions are opened at once.
    pub(crate) async fn differ(&self, conn: &mut PgConnection) -> Result<Option<&'static str>, sqlx::Error> {
        let sql =
            if self.tells_lsn { differ!("lsn > pg_current_wal_lsn()") } else { differ!("null::boolean") };
        let row = only(conn, self.bound(query(sql))).await?;
        let mut row = Columns::of(&row);
        let mut says = || Ok::<bool, sqlx::Error>(row.get::<Option<bool>>()?.unwrap_or(false));
        let (system, timeline, meta, lsn) = (says()?, says()?, says()?, says()?);
        Ok(match (system, timeline, meta, lsn) {
            (true, _, _, _) => Some("it is in another cluster"),
            (_, true, _, _) => Some("it is on another timeline"),
            (_, _, true, _) => Some("its tables were made anew"),
            (_, _, _, true) => Some("its write-ahead log stands lower than before"),
            (false, false, false, false) => None,
        })
    }

    /// Notes them in `meta`, whose row is locked. What could not be read stays as it was noted. What is noted of the
    /// write-ahead log is flushed with the commit that notes it: no crash leaves the log lower.
    pub(crate) async fn note(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let sql = if self.tells_lsn { note!("pg_current_wal_lsn()") } else { note!("lsn") };
        self.bound(query(sql)).execute(conn).await?;
        Ok(())
    }

    fn bound<'q>(&'q self, query: Query<'q>) -> Query<'q> {
        query.bind(&self.system).bind(&self.timeline)
    }
}

/// The row that a statement answers, or nothing where the server refuses it; the transaction goes on.
async fn may(conn: &mut PgConnection, query: Query<'_>) -> Result<Option<PgRow>, sqlx::Error> {
    raw_sql("savepoint may").execute(&mut *conn).await?;
    match first(conn, query).await {
        Ok(row) => {
            raw_sql("release savepoint may").execute(conn).await?;
            Ok(row)
        }
        Err(error) if error.as_database_error().is_some() => {
            raw_sql("rollback to savepoint may").execute(conn).await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The one text of a row.
fn text(row: Option<PgRow>) -> Result<Option<String>, sqlx::Error> {
    row.map_or(Ok(None), |row| Columns::of(&row).get())
}
