//! [`SqliteLog`]: the traits, each method handed to the writer's thread or to a reader.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redress_operation_log::{
    AlertRecord, Append, Archived, Audit, Checkpoint, ClaimRequest, Claimed, Cursor, Delivered, Error,
    Filter, Head, InboxRow, Join, LateResult, LogStatus, OperationHistory, OperationLog, OutboxDecision,
    OutboxRequest, OutboxRow, OutboxSettled, Page, Payload, Post, Posted, Recorded, Repeat, Session,
    SessionId, StoredEntry, Switch,
};
use redress_strategy::{PlanHash, StoredPlan};
use redress_types::{AlertId, Epoch, Hash, OperationId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _};
use tokio::sync::watch;

use crate::at_once::AtOnce;
use crate::batch::Batch;
use crate::commit::Shared;
use crate::fault::{Fault, to_error};
use crate::lock::{self, Lock};
use crate::open::{self, Options, path_of};
use crate::readers::Readers;
use crate::values::Id;
use crate::wal::{self, Checkpoints};
use crate::writer::Writer;
use crate::{alerts, append, archive, heads, holding, inbox, outbox, payloads, session, status, switches};

/// A log in one SQLite file. Every acknowledged write has reached the disk.
///
/// Any number of processes may open a file, read it and leave requests; one at a time has a session, kept by the
/// operating system's lock on `{path}.lock` and free again when that process ends, however it ends.
///
/// Cloning is cheap and gives the same log. The methods must be called within a tokio runtime. Dropping the last
/// clone waits for the write under way, closes the file and frees the lock; what was not acknowledged by then
/// may or may not have happened.
#[derive(Clone)]
pub struct SqliteLog(Arc<Inner>);

struct Inner {
    // Dropped in this order: the writer's thread ends before the lock is free.
    writer: Writer,
    readers: Readers,
    shared: Arc<Shared>,
    path: PathBuf,
    durability: String,
}

impl SqliteLog {
    /// Opens the file that a URL (`sqlite://redress.db`) or a path names; makes it when there is none. Blocks
    /// for a few file operations.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it cannot be opened or written, or SQLite cannot promise durability there.
    /// [`Error::Corrupt`]: it is no database, another application's, of a newer format, or incomplete.
    /// [`Error::Unstorable`]: the text names no file. Each says which file, and what to do.
    pub fn open(url: &str, options: &Options) -> Result<Self, Error> {
        let path = path_of(url)?;
        let log = path.display().to_string();
        let mut conn = open::writer(&path, &log, options)?;
        let durability = open::durability(&conn).map_err(|error| to_error(&log, error))?;
        let shared = Arc::new(Shared::new(log.clone(), Arc::clone(&options.clock)));
        // Connections are opened later too, wherever the process stands then.
        let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        let place = wal::Place { path: absolute, log: log.clone(), options: options.clone() };
        let checkpoints = Checkpoints::of(&mut conn, place.clone()).map_err(|error| to_error(&log, error))?;
        let writer = Writer::start(conn, AtOnce::new(place, checkpoints), Arc::clone(&shared))?;
        let readers = Readers::new(path.clone(), log, options.clone());
        Ok(Self(Arc::new(Inner { writer, readers, shared, path, durability })))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Lets the file grow to so many pages of 4 KiB and no further, as a full disk would. For tests.
    #[doc(hidden)]
    pub async fn limit_pages(&self, pages: u32) -> Result<(), Error> {
        // It counts for the connection of the writer's thread, and takes effect outside and inside of transactions alike.
        let work = move |batch: &mut Batch<'_, '_>| {
            Ok(batch.conn().pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?)
        };
        self.0.writer.write(work).await
    }

    async fn read<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.0.readers.read(work).await
    }

    /// Ends our own session when its lease has run out: its lock must not stand in the way of the next one.
    async fn let_go_of_expired(&self) -> Result<(), Error> {
        let held = self.0.shared.held().as_ref().map(|(live, _)| *live);
        match held {
            Some(live) if live.expires_at <= self.0.shared.clock.now() => self.close_session(live.id).await,
            Some(_) | None => Ok(()),
        }
    }
}

impl std::fmt::Debug for SqliteLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteLog").field("path", &self.0.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl OperationHistory for SqliteLog {
    async fn operation(&self, id: OperationId) -> Result<Option<Head>, Error> {
        self.read(move |conn| Ok(heads::one(conn, id)?)).await
    }

    async fn find(&self, text: &str, limit: usize) -> Result<Vec<Head>, Error> {
        let text = text.to_owned();
        self.read(move |conn| Ok(heads::find(conn, &text, limit)?)).await
    }

    async fn operations(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page, Error> {
        let filter = filter.clone();
        self.read(move |conn| Ok(heads::page(conn, &filter, after, limit)?)).await
    }

    async fn entries(&self, id: OperationId, after: u64, limit: usize) -> Result<Vec<StoredEntry>, Error> {
        self.read(move |conn| Ok(heads::entries(conn, id, after, limit)?)).await
    }

    async fn plan(&self, hash: PlanHash) -> Result<Option<Arc<StoredPlan>>, Error> {
        self.read(move |conn| archive::plan(conn, hash)).await
    }

    async fn alert(&self, id: &AlertId) -> Result<Option<AlertRecord>, Error> {
        let id = id.clone();
        self.read(move |conn| Ok(alerts::find(conn, &id)?)).await
    }

    async fn alerts_of(&self, id: OperationId) -> Result<Vec<AlertRecord>, Error> {
        self.read(move |conn| Ok(alerts::of(conn, id)?)).await
    }

    async fn by_fingerprint(&self, fingerprint: &str) -> Result<Option<OperationId>, Error> {
        let key = fingerprint.to_owned();
        self.read(move |conn| {
            let sql = "select o.id from claims c join operations o on o.position = c.operation
                 where c.kind = 'fingerprint' and c.key = ?1";
            let found = conn.prepare_cached(sql)?.query_row([key], |row| Ok(row.get::<_, Id>(0)?.0));
            Ok(found.optional()?)
        })
        .await
    }

    async fn inbox(&self, id: OperationId, after: u64) -> Result<Vec<InboxRow>, Error> {
        self.read(move |conn| Ok(inbox::rows(conn, id, after)?)).await
    }

    async fn outbox_of(&self, id: OperationId) -> Result<Vec<OutboxRow>, Error> {
        self.read(move |conn| Ok(outbox::of(conn, id)?)).await
    }

    async fn outbox_owed(&self, limit: usize) -> Result<Vec<OutboxRow>, Error> {
        self.read(move |conn| Ok(outbox::owed(conn, limit)?)).await
    }

    async fn status(&self) -> Result<LogStatus, Error> {
        let now = self.0.shared.clock.now();
        let path = self.0.path.clone();
        self.read(move |conn| {
            let mut status = status::of(conn, now)?;
            // A lease outlives a process that was killed; its lock on the file does not.
            if !lock::is_held(&path) {
                status.sessions.clear();
            }
            Ok(status)
        })
        .await
    }

    async fn late_results(&self, id: OperationId) -> Result<Vec<LateResult>, Error> {
        self.read(move |conn| Ok(archive::late_of(conn, id)?)).await
    }

    async fn payloads(&self, id: OperationId) -> Result<Vec<(u64, Payload)>, Error> {
        self.read(move |conn| Ok(payloads::of(conn, id)?)).await
    }

    async fn switches(&self) -> Result<Vec<Switch>, Error> {
        self.read(|conn| Ok(switches::all(conn)?)).await
    }

    async fn follow(&self, after: u64, limit: usize) -> Result<Vec<StoredEntry>, Error> {
        self.read(move |conn| Ok(heads::follow(conn, after, limit)?)).await
    }

    async fn audit(&self) -> Result<Audit, Error> {
        self.read(|conn| Ok(archive::audit(conn)?)).await
    }

    async fn stuck(&self) -> Result<Vec<OperationId>, Error> {
        self.read(|conn| Ok(holding::stuck(conn)?)).await
    }
}

#[async_trait]
impl OperationLog for SqliteLog {
    async fn open_session(&self, engine: &str, lease: Duration) -> Result<Session, Error> {
        self.let_go_of_expired().await?;
        let shared = Arc::clone(&self.0.shared);
        let path = self.0.path.clone();
        let mut lock = blocking(move || Lock::take(&path, &shared.log)).await?;
        let (engine, noted) = (engine.to_owned(), lock.note.clone());
        let work = move |batch: &mut Batch<'_, '_>| session::open(batch, &engine, lease, noted.as_ref());
        let opened = self.0.writer.write(work).await?;
        // Durable before the session is used: what is written under it must not outlive the memory of it.
        let note = opened.note;
        let lock = blocking(move || lock.write(note, true).map(|()| lock)).await?;
        *self.0.shared.held() = Some((opened.live, lock));
        Ok(opened.session)
    }

    async fn renew_session(&self, session: SessionId) -> Result<Timestamp, Error> {
        self.0.writer.write(move |batch| session::renew(batch, session)).await
    }

    async fn close_session(&self, session: SessionId) -> Result<(), Error> {
        self.0.writer.write(move |batch| session::close(batch, session)).await
    }

    async fn append(&self, append: Arc<Append>) -> Result<Recorded, Error> {
        self.0.writer.write_at_once(move |batch| append::append(batch, &append)).await
    }

    async fn repeat(&self, repeat: Repeat) -> Result<AlertRecord, Error> {
        self.0.writer.write(move |batch| alerts::repeat(batch, &repeat)).await
    }

    async fn join(&self, join: Join) -> Result<Delivered, Error> {
        self.0.writer.write(move |batch| alerts::join(batch, &join)).await
    }

    async fn post(&self, post: Post) -> Result<Posted, Error> {
        self.0.writer.write(move |batch| inbox::post(batch, &post)).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>, Error> {
        self.0.writer.write(move |batch| holding::claim(batch, &request)).await
    }

    async fn hold_until(
        &self,
        session: SessionId,
        operation: OperationId,
        epoch: Epoch,
        due: Timestamp,
    ) -> Result<(), Error> {
        self.0.writer.write(move |batch| holding::hold_until(batch, session, operation, epoch, due)).await
    }

    async fn give_up(&self, session: SessionId, operation: OperationId, epoch: Epoch) -> Result<(), Error> {
        self.0.writer.write(move |batch| holding::give_up(batch, session, operation, epoch)).await
    }

    async fn inbox_waiting(&self, session: SessionId) -> Result<Vec<OperationId>, Error> {
        self.read(move |conn| Ok(holding::inbox_waiting(conn, session)?)).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, Error> {
        let now = self.0.shared.clock.now();
        self.read(move |conn| Ok(holding::next_due(conn, now)?)).await
    }

    async fn keep_late(&self, late: LateResult) -> Result<(), Error> {
        self.0.writer.write(move |batch| archive::keep_late(batch, &late)).await
    }

    async fn outbox_due(&self, request: OutboxRequest) -> Result<Vec<OutboxRow>, Error> {
        self.0.writer.write(move |batch| outbox::due(batch, &request)).await
    }

    async fn outbox_settle(&self, session: SessionId, settled: OutboxSettled) -> Result<(), Error> {
        self.0.writer.write(move |batch| outbox::settle(batch, session, &settled)).await
    }

    async fn outbox_decide(&self, decision: OutboxDecision) -> Result<OutboxRow, Error> {
        self.0.writer.write(move |batch| outbox::decide(batch, &decision)).await
    }

    async fn set_switch(&self, key: &str, switch: Option<Switch>) -> Result<(), Error> {
        let key = key.to_owned();
        self.0.writer.write(move |batch| switches::set(batch, &key, switch.as_ref())).await
    }

    async fn checkpoint(&self, now: Timestamp, key: Option<&[u8]>) -> Result<Checkpoint, Error> {
        let key = key.map(<[u8]>::to_vec);
        self.0.writer.write(move |batch| archive::checkpoint(batch, now, key.as_deref())).await
    }

    async fn archivable(&self, before: Timestamp, limit: usize) -> Result<Vec<Archived>, Error> {
        self.read(move |conn| archive::archivable(conn, before, limit)).await
    }

    async fn remove_archived(&self, archived: &[(OperationId, Hash)]) -> Result<u64, Error> {
        let archived = archived.to_vec();
        self.0.writer.write(move |batch| archive::remove(batch, &archived)).await
    }

    async fn erase_payloads(&self, id: OperationId) -> Result<u64, Error> {
        self.0.writer.write(move |batch| payloads::erase(batch, id)).await
    }

    fn wakeups(&self) -> watch::Receiver<u64> {
        self.0.shared.wakeups()
    }

    fn durability(&self) -> String {
        self.0.durability.clone()
    }

    fn commits(&self) -> u64 {
        self.0.shared.commits()
    }
}

/// Runs what touches files off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::unavailable("a file operation was cut short", error))?
}
