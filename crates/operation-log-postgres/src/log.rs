//! [`PostgresLog`]: the traits, each method handed to the batches, to a transaction or to a reader.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redress_operation_log::{
    AlertRecord, Append, Archived, Audit, Checkpoint, Claim, ClaimRequest, Claimed, Cursor, Delivered, Error,
    Filter, Head, InboxRow, Join, LateResult, LogStatus, OperationHistory, OperationLog, OutboxDecision,
    OutboxRequest, OutboxRow, OutboxSettled, Page, Payload, Post, Posted, Recorded, Repeat, Session,
    SessionId, StoredEntry, Switch,
};
use redress_strategy::{PlanHash, StoredPlan};
use redress_types::{AlertId, Epoch, Hash, OperationId, Timestamp};
use sqlx::query;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fault::Fault;
use crate::open::{self, Database, Found, Options};
use crate::shared::{Shared, first};
use crate::tx::write;
use crate::values::{Columns, text};
use crate::wakeups::{self, Bell};
use crate::writer::Writer;
use crate::{alerts, archive, heads, holding, inbox, outbox, payloads, session, status, switches};

/// A log in a Postgres database. Every acknowledged write was committed with `synchronous_commit` on.
///
/// Any number of engines, in any number of processes, may have sessions at a time. Cloning is cheap and gives the
/// same log. The methods must be called within a tokio runtime. When the server goes away, calls answer
/// [`Error::Unavailable`] within the timeouts of [`Options`], and go on by themselves when it is back.
#[derive(Clone)]
pub struct PostgresLog(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    writer: Writer,
    durability: String,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Has a connection read, once more when the one it got turned out to be gone.
macro_rules! read {
    ($log:expr, $conn:ident => $body:expr) => {{
        let shared: &Shared = &$log.0.shared;
        let mut again = true;
        loop {
            let attempt = async {
                let mut connection = shared.pool.acquire().await?;
                let found = async {
                    let $conn = &mut *connection;
                    $body.await.map_err(Fault::from)
                };
                let found = shared.in_time(found).await;
                if found.as_ref().is_err_and(Fault::is_lost) {
                    connection.close_on_drop();
                }
                found
            };
            match attempt.await {
                Err(fault) if again && fault.is_lost() => again = false,
                answer => break answer.map_err(|fault| shared.error(fault)),
            }
        }
    }};
}

impl PostgresLog {
    /// Opens the log in the database that a URL names: `postgres://user@host:5432/database`, with `sslmode` and
    /// `sslrootcert` as libpq has them. Its tables are in the first schema of the search path, which
    /// `?options=-c%20search_path%3Dredress` names.
    ///
    /// # Errors
    /// [`Error::Unstorable`]: the text is no such URL. [`Error::Unavailable`]: the server cannot be reached or
    /// refuses, or could lose what it acknowledges. [`Error::Corrupt`]: the schema is of another format. Each says
    /// which database, and what to do.
    pub async fn open(url: &str, options: &Options) -> Result<Self, Error> {
        let database = Database::of(url, options)?;
        let log = database.log.clone();
        let mut conn =
            database.connect(options).await.map_err(|error| crate::fault::to_error(&log, error))?;
        let Found { durability, log_id, me } = open::check(&mut conn, &log, options).await?;
        // The listener's and the batches' are made when they are needed.
        let (pool, bell) = (database.pool(options), Bell::new());
        let channel = format!("redress_{}", log_id.replace('-', "_"));
        let shared = Arc::new(Shared::new(log, pool.clone(), options, bell.clone()));
        let (writer, batches) = Writer::new(Arc::clone(&shared), database, options.clone());
        let tasks = vec![
            tokio::spawn(batches),
            tokio::spawn(wakeups::tell(pool.clone(), bell.clone(), channel.clone(), me.clone())),
            tokio::spawn(wakeups::hear(pool.clone(), bell.clone(), channel, me)),
        ];
        Ok(Self(Arc::new(Inner { shared, writer, durability, tasks })))
    }

    /// Brings the schema that a URL names to this program's format, whatever [`Options::migrate`] says. Answers the
    /// numbers of the migrations that it applied: none when there was nothing to do. Safe to run by several at once.
    ///
    /// # Errors
    /// Those of [`PostgresLog::open`].
    pub async fn migrate(url: &str, options: &Options) -> Result<Vec<i32>, Error> {
        open::migrate(url, options).await
    }

    /// Ends the sessions that were opened here and closes the connections. Every clone answers
    /// [`Error::Unavailable`] afterwards. Dropping the log instead lets the sessions last until their leases end.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the server was not told; what was held is free when the leases end.
    pub async fn close(self) -> Result<(), Error> {
        let opened = std::mem::take(&mut *self.shared().opened());
        let mut closed = Ok(());
        for session in opened {
            closed = closed.and(self.close_session(session).await);
        }
        for task in &self.0.tasks {
            task.abort();
        }
        self.shared().pool.close().await;
        closed
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }
}

impl std::fmt::Debug for PostgresLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresLog").field("log", &self.0.shared.log).finish_non_exhaustive()
    }
}

#[async_trait]
impl OperationHistory for PostgresLog {
    async fn operation(&self, id: OperationId) -> Result<Option<Head>, Error> {
        read!(self, conn => heads::one(conn, id))
    }

    async fn find(&self, text: &str, limit: usize) -> Result<Vec<Head>, Error> {
        read!(self, conn => heads::find(conn, text, limit))
    }

    async fn operations(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page, Error> {
        read!(self, conn => heads::page(conn, filter, after, limit))
    }

    async fn entries(&self, id: OperationId, after: u64, limit: usize) -> Result<Vec<StoredEntry>, Error> {
        read!(self, conn => heads::entries(conn, id, after, limit))
    }

    async fn plan(&self, hash: PlanHash) -> Result<Option<Arc<StoredPlan>>, Error> {
        read!(self, conn => archive::plan(conn, hash))
    }

    async fn alert(&self, id: &AlertId) -> Result<Option<AlertRecord>, Error> {
        read!(self, conn => alerts::find(conn, id))
    }

    async fn alerts_of(&self, id: OperationId) -> Result<Vec<AlertRecord>, Error> {
        read!(self, conn => alerts::of(conn, id))
    }

    async fn by_fingerprint(&self, fingerprint: &str) -> Result<Option<OperationId>, Error> {
        let claim = Claim::Fingerprint(fingerprint.to_owned());
        let sql = "select o.id from claims c join operations o on o.position = c.operation
             where c.kind = $1 and c.key = $2";
        read!(self, conn => async {
            let found = first(conn, query(sql).bind(claim.kind()).bind(text(claim.key()))).await?;
            found.as_ref().map(|row| Columns::of(row).id()).transpose()
        })
    }

    async fn inbox(&self, id: OperationId, after: u64) -> Result<Vec<InboxRow>, Error> {
        read!(self, conn => inbox::rows(conn, id, after))
    }

    async fn outbox_of(&self, id: OperationId) -> Result<Vec<OutboxRow>, Error> {
        read!(self, conn => outbox::of(conn, id))
    }

    async fn outbox_owed(&self, limit: usize) -> Result<Vec<OutboxRow>, Error> {
        read!(self, conn => outbox::owed(conn, limit))
    }

    async fn status(&self) -> Result<LogStatus, Error> {
        let clock = self.shared().clock();
        read!(self, conn => status::of(conn, clock))
    }

    async fn late_results(&self, id: OperationId) -> Result<Vec<LateResult>, Error> {
        read!(self, conn => archive::late_of(conn, id))
    }

    async fn payloads(&self, id: OperationId) -> Result<Vec<(u64, Payload)>, Error> {
        read!(self, conn => payloads::of(conn, id))
    }

    async fn switches(&self) -> Result<Vec<Switch>, Error> {
        read!(self, conn => switches::all(conn))
    }

    async fn follow(&self, after: u64, limit: usize) -> Result<Vec<StoredEntry>, Error> {
        read!(self, conn => heads::follow(conn, after, limit))
    }

    async fn audit(&self) -> Result<Audit, Error> {
        // All of it is of one moment, however long it takes to read.
        let one_moment = "set transaction isolation level repeatable read, read only;
             set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0";
        let read = async {
            let mut tx = self.shared().pool.begin().await?;
            sqlx::raw_sql(one_moment).execute(&mut *tx).await?;
            let audit = archive::audit(&mut tx).await?;
            tx.rollback().await?;
            Ok(audit)
        };
        read.await.map_err(|error| self.shared().failed(error))
    }

    async fn stuck(&self) -> Result<Vec<OperationId>, Error> {
        read!(self, conn => holding::stuck(conn))
    }
}

#[async_trait]
impl OperationLog for PostgresLog {
    async fn open_session(&self, engine: &str, lease: Duration) -> Result<Session, Error> {
        let (opened, seen) = write!(self.shared(), tx => session::open(tx, engine, lease))?;
        self.shared().seen().raise(seen);
        self.shared().opened().push(opened.id);
        Ok(opened)
    }

    async fn renew_session(&self, session: SessionId) -> Result<Timestamp, Error> {
        write!(self.shared(), tx => session::renew(tx, session))
    }

    async fn close_session(&self, session: SessionId) -> Result<(), Error> {
        write!(self.shared(), tx => session::close(tx, session))?;
        self.shared().opened().retain(|opened| *opened != session);
        Ok(())
    }

    async fn append(&self, append: Arc<Append>) -> Result<Recorded, Error> {
        self.0.writer.append(append).await
    }

    async fn repeat(&self, repeat: Repeat) -> Result<AlertRecord, Error> {
        write!(self.shared(), tx => alerts::repeat(tx, &repeat))
    }

    async fn join(&self, join: Join) -> Result<Delivered, Error> {
        write!(self.shared(), tx => alerts::join(tx, &join))
    }

    async fn post(&self, post: Post) -> Result<Posted, Error> {
        write!(self.shared(), tx => inbox::post(tx, &post))
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>, Error> {
        write!(self.shared(), tx => holding::claim(tx, &request))
    }

    async fn hold_until(
        &self,
        session: SessionId,
        operation: OperationId,
        epoch: Epoch,
        due: Timestamp,
    ) -> Result<(), Error> {
        write!(self.shared(), tx => holding::hold_until(tx, session, operation, epoch, due))
    }

    async fn give_up(&self, session: SessionId, operation: OperationId, epoch: Epoch) -> Result<(), Error> {
        write!(self.shared(), tx => holding::give_up(tx, session, operation, epoch))
    }

    async fn inbox_waiting(&self, session: SessionId) -> Result<Vec<OperationId>, Error> {
        read!(self, conn => holding::inbox_waiting(conn, session))
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, Error> {
        let clock = self.shared().clock();
        read!(self, conn => holding::next_due(conn, clock))
    }

    async fn keep_late(&self, late: LateResult) -> Result<(), Error> {
        write!(self.shared(), tx => archive::keep_late(tx, &late))
    }

    async fn outbox_due(&self, request: OutboxRequest) -> Result<Vec<OutboxRow>, Error> {
        write!(self.shared(), tx => outbox::due(tx, &request))
    }

    async fn outbox_settle(&self, session: SessionId, settled: OutboxSettled) -> Result<(), Error> {
        write!(self.shared(), tx => outbox::settle(tx, session, &settled))
    }

    async fn outbox_decide(&self, decision: OutboxDecision) -> Result<OutboxRow, Error> {
        write!(self.shared(), tx => outbox::decide(tx, &decision))
    }

    async fn set_switch(&self, key: &str, switch: Option<Switch>) -> Result<(), Error> {
        write!(self.shared(), tx => switches::set(tx, key, switch.as_ref()))
    }

    async fn checkpoint(&self, now: Timestamp, key: Option<&[u8]>) -> Result<Checkpoint, Error> {
        write!(self.shared(), tx => archive::checkpoint(tx, now, key))
    }

    async fn archivable(&self, before: Timestamp, limit: usize) -> Result<Vec<Archived>, Error> {
        read!(self, conn => archive::archivable(conn, before, limit))
    }

    async fn remove_archived(&self, archived: &[(OperationId, Hash)]) -> Result<u64, Error> {
        write!(self.shared(), tx => archive::remove(tx, archived))
    }

    async fn erase_payloads(&self, id: OperationId) -> Result<u64, Error> {
        write!(self.shared(), tx => payloads::erase(tx, id))
    }

    fn wakeups(&self) -> watch::Receiver<u64> {
        self.shared().bell.subscribe()
    }

    fn durability(&self) -> String {
        self.0.durability.clone()
    }

    fn commits(&self) -> u64 {
        self.shared().commits()
    }
}
