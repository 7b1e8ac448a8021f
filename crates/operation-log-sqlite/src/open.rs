//! Opening: what the file is called, how each connection is set up, and that SQLite does what it was told.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redress_operation_log::Error;
use redress_types::{Clock, SystemClock};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::fault::{Fault, is_busy, to_error};
use crate::schema;

/// How a log is opened.
#[derive(Clone)]
pub struct Options {
    /// How long a write waits for another process's write; 5 seconds by default.
    pub busy_timeout: Duration,
    /// The log's own clock, by which leases are judged; the machine's by default.
    pub clock: Arc<dyn Clock>,
    /// Make the file when there is none; yes by default. Its folder is never made.
    pub create: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { busy_timeout: Duration::from_secs(5), clock: Arc::new(SystemClock), create: true }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("busy_timeout", &self.busy_timeout)
            .field("create", &self.create)
            .finish_non_exhaustive()
    }
}

/// The file that a URL (`sqlite://redress.db`, `sqlite:///var/lib/redress.db`) or a path names.
///
/// # Errors
/// [`Error::Unstorable`] when it names none, or is another kind of URL.
pub fn path_of(url: &str) -> Result<PathBuf, Error> {
    let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).unwrap_or(url);
    let refused = |why: &str| {
        Err(Error::Unstorable {
            what: format!(
                "{url:?} {why}; write a path, or sqlite://redress.db, or sqlite:///var/lib/redress.db"
            ),
        })
    };
    if path.is_empty() || path.contains('\0') {
        return refused("names no file");
    }
    if path == ":memory:" || url == "memory:" {
        return refused("is a log in memory, not a file");
    }
    if path.contains("://") {
        return refused("is not a SQLite file");
    }
    Ok(PathBuf::from(path))
}

/// The one connection that writes, with the schema at this program's format.
pub(crate) fn writer(path: &Path, log: &str, options: &Options) -> Result<Connection, Error> {
    if path.is_dir() {
        let what = format!("{log} is a folder; name a file in it");
        return Err(Error::Unstorable { what });
    }
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if options.create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let open = || -> Result<Connection, Fault> {
        let mut conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(options.busy_timeout)?;
        schema::recognise(&conn, log)?;
        wal(&conn, options.busy_timeout)?;
        set_up(&conn, log)?;
        schema::migrate(&mut conn, log)?;
        schema::check(&conn, log)?;
        Ok(conn)
    };
    open().map_err(|fault| fault.into_error(log))
}

/// A second connection to a file that the writer has opened, for checkpoints.
pub(crate) fn beside(path: &Path, log: &str, options: &Options) -> Result<Connection, Error> {
    let open = || -> Result<Connection, Fault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(options.busy_timeout)?;
        set_up(&conn, log)?;
        Ok(conn)
    };
    open().map_err(|fault| fault.into_error(log))
}

/// A connection that only reads.
pub(crate) fn reader(path: &Path, log: &str, options: &Options) -> Result<Connection, Error> {
    let open = || -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(options.busy_timeout)?;
        conn.pragma_update(None, "query_only", true)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        conn.set_prepared_statement_cache_capacity(64);
        Ok(conn)
    };
    open().map_err(|error| to_error(log, error))
}

/// Turns on the write-ahead log. Two processes that make the same file collide here, and SQLite does not wait
/// by itself when the mode is changed.
fn wal(conn: &Connection, patience: Duration) -> rusqlite::Result<()> {
    let pause = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    loop {
        match conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0)) {
            Err(error) if error.sqlite_error_code().is_some_and(is_busy) && waited < patience => {
                std::thread::sleep(pause);
                waited += pause;
            }
            // What it answered is read back, with the rest, below.
            Ok(_) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn set_up(conn: &Connection, log: &str) -> Result<(), Fault> {
    // Without this SQLite looks at the bound values when it plans, and plans each statement anew at every use.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    // Checkpoints stop the writer, and have a thread of their own: see `wal`.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "journal_size_limit", 128 * 1024 * 1024)?;
    // What is written together is recent and small. A page of the cache costs memory of its own and, at every commit, a
    // look; what is not in it is read from the system's cache.
    conn.pragma_update(None, "cache_size", -16 * 1024)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    let mode: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let synchronous: i64 = conn.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    let foreign_keys: i64 = conn.pragma_query_value(None, "foreign_keys", |row| row.get(0))?;
    let refused = |what: &str| {
        let what = format!(
            "SQLite did not turn on {what} for {log}, and without it an acknowledged write could be lost; \
             put the file on a local file system"
        );
        Err(Error::Unavailable { what, source: None }.into())
    };
    match (mode.as_str(), synchronous, foreign_keys) {
        ("wal", 2, 1) => Ok(()),
        ("wal", 2, _) => refused("foreign keys"),
        ("wal", _, _) => refused("synchronous=full"),
        (_, _, _) => refused("the write-ahead log"),
    }
}

/// The durability of an acknowledged write, as SQLite reports it.
pub(crate) fn durability(conn: &Connection) -> rusqlite::Result<String> {
    let mode: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let synchronous: i64 = conn.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    let word = match synchronous {
        0 => "off",
        1 => "normal",
        2 => "full",
        _ => "extra",
    };
    Ok(format!("sqlite {mode}, synchronous={word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_paths_name_files() {
        let path = |url: &str| path_of(url).map(|p| p.display().to_string()).map_err(|e| e.to_string());
        assert_eq!(path("redress.db"), Ok("redress.db".into()));
        assert_eq!(path("sqlite://redress.db"), Ok("redress.db".into()));
        assert_eq!(path("sqlite:redress.db"), Ok("redress.db".into()));
        assert_eq!(path("sqlite:///var/lib/r.db"), Ok("/var/lib/r.db".into()));
        for refused in ["", "sqlite://", "memory:", "sqlite::memory:", "postgres://localhost/x", "a\0b"] {
            assert!(path(refused).is_err(), "{refused:?}");
        }
    }
}
