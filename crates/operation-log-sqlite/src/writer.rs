//! The writer: one thread with the one connection that writes, and group commit.
//!
//! It takes whatever is waiting, up to [`MOST`], into one transaction, and answers after the commit. It never
//! waits for more: a lone request is committed at once, and requests that come meanwhile form the next batch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use redress_operation_log::Error;
use redress_types::Clock;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot, watch};

use crate::batch::{Batch, Live, Memo, roll_back};
use crate::fault::{Fault, to_error};
use crate::lock::Lock;
use crate::prepared::Prepared;
use crate::wal::Checkpoints;

/// Requests that may wait; more wait in their callers.
const WAITING: usize = 1024;
/// Requests that share a transaction at most.
const MOST: usize = 512;

/// What the writer's thread shares with the callers.
pub(crate) struct Shared {
    /// The file, as it is named in errors.
    pub log: String,
    /// The log's own clock.
    pub clock: Arc<dyn Clock>,
    /// The session that this process holds, with the lock that makes it the only one.
    held: Mutex<Option<(Live, Lock)>>,
    commits: AtomicU64,
    wakeups: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(log: String, clock: Arc<dyn Clock>) -> Self {
        let (wakeups, _) = watch::channel(0);
        Self { log, clock, held: Mutex::new(None), commits: AtomicU64::new(0), wakeups }
    }

    /// The session that this process holds. Nothing that could panic happens under this lock.
    pub(crate) fn held(&self) -> MutexGuard<'_, Option<(Live, Lock)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(crate) fn wakeups(&self) -> watch::Receiver<u64> {
        self.wakeups.subscribe()
    }

    /// After a commit: counts it, takes over what it changed about the session, wakes who waits.
    fn committed(&self, batch: &Batch<'_, '_>, wrote: bool, before: Option<Live>) {
        self.commits.fetch_add(u64::from(wrote), Ordering::Relaxed);
        if let Some(before) = before {
            let mut held = self.held();
            match (&mut *held, batch.live) {
                (Some((live, lock)), Some(after)) if live.id == after.id => {
                    if live.expires_at != after.expires_at {
                        lock.note_position(batch.position);
                    }
                    *live = after;
                }
                // Closed, or found to be over: the lock goes with it.
                (Some((live, lock)), None) if live.id == before.id => {
                    lock.note_position(batch.position);
                    *held = None;
                }
                (Some(_), Some(_) | None) | (None, _) => {}
            }
        }
        if batch.woke {
            self.wakeups.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

/// A request as the writer's thread sees it. `run` may be called again after a rollback.
trait Request: Send {
    fn run(&mut self, batch: &mut Batch<'_, '_>) -> Result<(), rusqlite::Error>;
    /// Answers with what `run` found, or with this error instead.
    fn answer(self: Box<Self>, instead: Option<Error>);
}

struct Task<T, F> {
    work: F,
    found: Option<Result<T, Error>>,
    /// The work goes back with the answer: what it holds is freed by the thread that made it, not by this one, which all
    /// wait for.
    reply: oneshot::Sender<(Result<T, Error>, F)>,
}

impl<T, F> Request for Task<T, F>
where
    T: Send,
    F: FnMut(&mut Batch<'_, '_>) -> Result<T, Fault> + Send,
{
    fn run(&mut self, batch: &mut Batch<'_, '_>) -> Result<(), rusqlite::Error> {
        self.found = Some(match (self.work)(batch) {
            Ok(value) => Ok(value),
            Err(Fault::Refused(error)) => Err(error),
            Err(Fault::Sqlite(error)) => return Err(error),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, instead: Option<Error>) {
        let Self { work, found, reply } = *self;
        let answer = match (instead, found) {
            (Some(error), _) => Err(error),
            (None, Some(found)) => found,
            (None, None) => Err(gone()),
        };
        // Who asked may have stopped waiting; the write stands all the same.
        let _ = reply.send((answer, work));
    }
}

/// The callers' end of the writer's thread.
pub(crate) struct Writer {
    requests: Option<mpsc::Sender<Box<dyn Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(
        conn: Connection,
        checkpoints: Checkpoints,
        shared: Arc<Shared>,
    ) -> Result<Self, Error> {
        let (requests, queue) = mpsc::channel(WAITING);
        let failed = format!("{}: its writer could not be started", shared.log);
        let thread = std::thread::Builder::new()
            .name("redress-log".into())
            .spawn(move || serve(&conn, checkpoints, &shared, queue))
            .map_err(|error| Error::unavailable(failed, error))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Has `work` done in a transaction, and answers after its commit. `work` refuses before it writes anything;
    /// it is called again when the batch was rolled back because of another request.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut Batch<'_, '_>) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let task = Box::new(Task { work, found: None, reply });
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(task).await.map_err(|_| gone())?;
        let (answer, _work) = answer.await.map_err(|_| gone())?;
        answer
    }
}

impl Drop for Writer {
    /// Waits for what is under way, so that the file and its lock are free once the log is dropped.
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn gone() -> Error {
    Error::Unavailable { what: "the log's writer has stopped".into(), source: None }
}

fn serve(
    conn: &Connection,
    mut checkpoints: Checkpoints,
    shared: &Shared,
    mut queue: mpsc::Receiver<Box<dyn Request>>,
) {
    let mut waiting = Vec::with_capacity(MOST);
    let mut memo = Memo::default();
    let prepared = Prepared::on(conn);
    while queue.blocking_recv_many(&mut waiting, MOST) > 0 {
        let mut batch = std::mem::take(&mut waiting);
        match commit(&prepared, &checkpoints, shared, &mut memo, &mut batch) {
            Ok(()) => batch.drain(..).for_each(|request| request.answer(None)),
            // Another process is writing: each alone would only wait as long once more.
            Err(rusqlite::Error::SqliteFailure(code, text)) if is_busy(code.code) => {
                for request in batch.drain(..) {
                    let error = rusqlite::Error::SqliteFailure(code, text.clone());
                    request.answer(Some(to_error(&shared.log, error)));
                }
            }
            Err(error) if batch.len() == 1 => {
                if let Some(request) = batch.pop() {
                    request.answer(Some(to_error(&shared.log, error)));
                }
            }
            Err(_) => {
                let alone = |request| alone(&prepared, &checkpoints, shared, &mut memo, request);
                batch.drain(..).for_each(alone);
            }
        }
        waiting = batch;
        checkpoints.after_commit(conn);
    }
}

fn is_busy(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
}

/// One request in a transaction of its own: so one that cannot be stored fails only itself.
fn alone(
    prepared: &Prepared<'_>,
    checkpoints: &Checkpoints,
    shared: &Shared,
    memo: &mut Memo,
    request: Box<dyn Request>,
) {
    let mut one = [request];
    let failed =
        commit(prepared, checkpoints, shared, memo, &mut one).err().map(|error| to_error(&shared.log, error));
    let [request] = one;
    request.answer(failed);
}

/// Runs these requests in one transaction. On an error none of them was done, or, when the commit itself was
/// cut short, nobody knows.
fn commit(
    prepared: &Prepared<'_>,
    checkpoints: &Checkpoints,
    shared: &Shared,
    memo: &mut Memo,
    requests: &mut [Box<dyn Request>],
) -> rusqlite::Result<()> {
    let held = shared.held().is_some();
    let done = run(prepared, shared, memo, requests);
    if done.is_ok() && held && shared.held().is_none() {
        // The session was closed.
        checkpoints.empty(prepared.conn());
    }
    if done.is_err() {
        roll_back(prepared.conn());
        *memo = Memo::default();
    }
    done
}

fn run(
    prepared: &Prepared<'_>,
    shared: &Shared,
    memo: &mut Memo,
    requests: &mut [Box<dyn Request>],
) -> rusqlite::Result<()> {
    let live = shared.held().as_ref().map(|(live, _)| *live);
    let mut batch = Batch::begin(prepared, live, shared.clock.now(), memo)?;
    for request in requests.iter_mut() {
        request.run(&mut batch)?;
    }
    let wrote = batch.commit()?;
    shared.committed(&batch, wrote, live);
    Ok(())
}
