//! [`Shared`]: what every part of an open log has in common.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redress_operation_log::{Error, SessionId};
use redress_types::{Clock, Timestamp};
use sqlx::PgPool;
use sqlx::postgres::PgRow;

use crate::fault::{Fault, to_error};
use crate::marks::Seen;
use crate::open::Options;
use crate::wakeups::Bell;

/// The database's own clock in microseconds; `$1` stands in for it in tests.
macro_rules! log_now {
    () => {
        "coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint)"
    };
}
pub(crate) use log_now;

/// Microseconds between two looks for forgotten waiters.
const LOOK: u64 = 1_000_000;

/// What every part of an open log has in common.
pub(crate) struct Shared {
    /// The server and the database, for messages.
    pub log: String,
    /// Connections for everything but the batches of appends.
    pub pool: PgPool,
    /// In the place of the database's clock; for tests.
    pub clock: Option<Arc<dyn Clock>>,
    /// Who is told that something may have become due.
    pub bell: Bell,
    /// How long the server is waited for. Longer than a statement may take: then it does not answer at all.
    pub patience: Duration,
    /// The highest that this process has seen of the log.
    pub seen: Mutex<Seen>,
    /// The sessions that were opened here and may still be open.
    pub opened: Mutex<Vec<SessionId>>,
    commits: AtomicU64,
    /// When forgotten waiters were last looked for, in microseconds.
    looked: AtomicI64,
}

impl Shared {
    pub(crate) fn new(log: String, pool: PgPool, options: &Options, bell: Bell) -> Self {
        let clock = options.clock.clone();
        let patience = options.statement_timeout.saturating_add(Duration::from_secs(5));
        let (seen, opened) = (Mutex::default(), Mutex::default());
        Self {
            log,
            pool,
            clock,
            bell,
            patience,
            seen,
            opened,
            commits: AtomicU64::new(0),
            looked: AtomicI64::new(i64::MIN),
        }
    }

    /// Waits no longer than a server that is there can take. One whose machine went away says nothing.
    pub(crate) async fn in_time<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E>
    where
        E: From<sqlx::Error>,
    {
        match tokio::time::timeout(self.patience, work).await {
            Ok(done) => done,
            Err(late) => Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, late)).into()),
        }
    }

    /// What stands in for the database's clock, when something does.
    pub(crate) fn clock(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| clock.now().as_micros())
    }

    /// What this process has seen of the log.
    pub(crate) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An append was given this position.
    pub(crate) fn saw(&self, position: u64) {
        let mut seen = self.seen();
        seen.position = seen.position.max(position);
    }

    /// Whether forgotten waiters are looked for now: at most once in [`LOOK`], so that a claim costs no more by it.
    pub(crate) fn is_time_to_look(&self, now: Timestamp) -> bool {
        let last = self.looked.load(Ordering::Relaxed);
        let is_time = now.as_micros().abs_diff(last) >= LOOK;
        if is_time {
            self.looked.store(now.as_micros(), Ordering::Relaxed);
        }
        is_time
    }

    /// The sessions that were opened here.
    pub(crate) fn opened(&self) -> std::sync::MutexGuard<'_, Vec<SessionId>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn committed(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(crate) fn error(&self, fault: Fault) -> Error {
        fault.into_error(&self.log)
    }

    pub(crate) fn failed(&self, error: sqlx::Error) -> Error {
        to_error(&self.log, error)
    }
}

/// A statement with its parameters.
pub(crate) type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// The first row that a statement answers. Reads the answer to its end: a statement that is a transaction of its
/// own is committed only then.
pub(crate) async fn first(
    conn: &mut sqlx::PgConnection,
    query: Query<'_>,
) -> Result<Option<PgRow>, sqlx::Error> {
    Ok(query.fetch_all(conn).await?.into_iter().next())
}

/// The one row that a statement answers.
pub(crate) async fn only(conn: &mut sqlx::PgConnection, query: Query<'_>) -> Result<PgRow, sqlx::Error> {
    first(conn, query).await?.ok_or(sqlx::Error::RowNotFound)
}
