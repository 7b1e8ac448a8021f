//! [`Tx`]: one transaction that writes, and the rows that all of them look at first.

use redress_operation_log::{Error, SessionId};
use redress_types::Timestamp;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres, query, raw_sql};

use crate::fault::Fault;
use crate::shared::{Query, Shared, first, log_now, only};
use crate::values::{Columns, int};

/// How often a transaction that collided with another is begun again.
pub(crate) const TRIES: u32 = 8;

/// One transaction that writes. Dropped without [`Tx::commit`] or [`Tx::rollback`], its connection is closed: then the
/// server takes it back.
pub(crate) struct Tx<'a> {
    inner: Open,
    pub shared: &'a Shared,
    /// Something may have become due.
    pub woke: bool,
    /// There is something to commit.
    pub wrote: bool,
}

/// What stands in the row of `meta`, which is locked until the transaction ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub position: u64,
    pub switch_changes: u64,
    /// The log's own clock.
    pub log_now: Timestamp,
}

/// A connection with a transaction under way. It goes back to the pool only once that has ended.
struct Open {
    conn: PoolConnection<Postgres>,
    ended: bool,
}

impl Open {
    async fn end(mut self, shared: &Shared, how: &'static str) -> Result<(), sqlx::Error> {
        shared.in_time(raw_sql(how).execute(&mut *self.conn)).await?;
        self.ended = true;
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.ended {
            self.conn.close_on_drop();
        }
    }
}

impl<'a> Tx<'a> {
    pub(crate) async fn begin(shared: &'a Shared) -> Result<Self, Fault> {
        let mut inner = Open { conn: shared.pool.acquire().await?, ended: false };
        shared.in_time(raw_sql("begin").execute(&mut *inner.conn)).await?;
        Ok(Self { inner, shared, woke: false, wrote: false })
    }

    pub(crate) fn conn(&mut self) -> &mut PgConnection {
        &mut self.inner.conn
    }

    /// Makes it durable, counts it, and announces what may have become due.
    pub(crate) async fn commit(self) -> Result<(), Fault> {
        if !self.wrote {
            self.inner.end(self.shared, "rollback").await?;
            return Ok(());
        }
        self.inner.end(self.shared, "commit").await?;
        self.shared.committed();
        if self.woke {
            self.shared.bell.ring();
        }
        Ok(())
    }

    /// Takes it back, and only then says why: what it locked is free when the caller hears of it. Who is to be told
    /// that the server does not answer is not kept waiting for another answer: the connection is closed instead.
    pub(crate) async fn rollback<T>(self, fault: Fault) -> Result<T, Fault> {
        if !fault.is_lost() {
            // Where that fails the connection is gone, and the server does it by itself.
            let _ = self.inner.end(self.shared, "rollback").await;
        }
        Err(fault)
    }

    /// Runs a statement that writes; answers how many rows it changed.
    pub(crate) async fn run(&mut self, query: Query<'_>) -> Result<u64, sqlx::Error> {
        let changed = query.execute(&mut *self.inner.conn).await?.rows_affected();
        self.wrote |= changed > 0;
        Ok(changed)
    }

    /// The log's own clock.
    pub(crate) async fn log_now(&mut self) -> Result<Timestamp, sqlx::Error> {
        let clock = self.shared.clock();
        let row = only(self.conn(), query(concat!("select ", log_now!())).bind(clock)).await?;
        Columns::of(&row).time()
    }

    /// Locks the one row of `meta`: from here on nobody else writes claims, alerts, waiters or positions. Operations
    /// that are to be locked are locked before.
    pub(crate) async fn lock_meta(&mut self) -> Result<Meta, sqlx::Error> {
        let sql = concat!("select position, switch_changes, ", log_now!(), " from meta for update");
        let clock = self.shared.clock();
        let row = only(self.conn(), query(sql).bind(clock)).await?;
        let mut row = Columns::of(&row);
        Ok(Meta { position: row.count()?, switch_changes: row.count()?, log_now: row.time()? })
    }

    /// The same without the lock: what it says may have changed when it is read.
    pub(crate) async fn look_at_meta(&mut self) -> Result<Meta, sqlx::Error> {
        let sql = concat!("select position, switch_changes, ", log_now!(), " from meta");
        let clock = self.shared.clock();
        let row = only(self.conn(), query(sql).bind(clock)).await?;
        let mut row = Columns::of(&row);
        Ok(Meta { position: row.count()?, switch_changes: row.count()?, log_now: row.time()? })
    }

    /// Refuses a session that is over.
    pub(crate) async fn is_current(&mut self, session: SessionId) -> Result<(), Fault> {
        let clock = self.shared.clock();
        if is_alive(self.conn(), session, clock).await? {
            return Ok(());
        }
        Err(Error::Stale { what: format!("session {session}") }.into())
    }
}

/// Whether a session is open and its lease lasts.
pub(crate) async fn is_alive(
    conn: &mut PgConnection,
    session: SessionId,
    clock: Option<i64>,
) -> Result<bool, sqlx::Error> {
    let sql =
        concat!("select 1 from sessions where id = $2 and closed_at is null and expires_at > ", log_now!());
    Ok(first(conn, query(sql).bind(clock).bind(int(session.0))).await?.is_some())
}

/// Runs the body in a transaction, again when it collided with another one, and answers what it answers. Beginning,
/// the body and ending each wait for a silent server no longer than `Shared::in_time` does.
macro_rules! write {
    ($shared:expr, $tx:ident => $body:expr) => {{
        let shared: &$crate::shared::Shared = $shared;
        let mut tries = 0;
        loop {
            tries += 1;
            let attempt: Result<_, $crate::fault::Fault> = async {
                let mut transaction = $crate::tx::Tx::begin(shared).await?;
                let answer = async {
                    let $tx = &mut transaction;
                    $body.await
                };
                match shared.in_time(answer).await {
                    Ok(answer) => transaction.commit().await.map(|()| answer),
                    Err(fault) => transaction.rollback(fault).await,
                }
            }
            .await;
            match attempt {
                Err(fault) if fault.is_worth_another_try() && tries < $crate::tx::TRIES => {}
                answer => break answer.map_err(|fault| shared.error(fault)),
            }
        }
    }};
}
pub(crate) use write;
