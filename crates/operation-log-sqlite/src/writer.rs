//! The writer: one thread with a connection that writes, and group commit.
//!
//! It takes whatever is waiting, up to [`MOST`], into one transaction, and answers after the commit. It never
//! waits for more: a lone request is committed at once, and requests that come meanwhile form the next batch. A lone
//! append does not even come here: see [`crate::at_once`].

use std::sync::Arc;
use std::thread::JoinHandle;

use redress_operation_log::Error;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::at_once::AtOnce;
use crate::batch::Batch;
use crate::commit::{Desk, Shared, commit, timed};
use crate::fault::{Fault, is_busy, refused, to_error};
use crate::prepared::Prepared;

/// Requests that may wait; more wait in their callers.
const WAITING: usize = 1024;
/// Requests that share a transaction at most.
const MOST: usize = 512;

/// A request as the writer's thread sees it. `run` may be called again after a rollback.
trait Request: Send {
    fn run(&mut self, batch: &mut Batch<'_, '_>) -> Result<(), rusqlite::Error>;
    /// Answers with what `run` found, or with this error instead.
    fn answer(self: Box<Self>, instead: Option<Error>);
}

struct Task<T, F> {
    work: F,
    found: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Request for Task<T, F>
where
    T: Send,
    F: FnMut(&mut Batch<'_, '_>) -> Result<T, Fault> + Send,
{
    fn run(&mut self, batch: &mut Batch<'_, '_>) -> Result<(), rusqlite::Error> {
        self.found = Some(refused((self.work)(batch))?);
        Ok(())
    }

    fn answer(self: Box<Self>, instead: Option<Error>) {
        let Self { work, found, reply } = *self;
        // Before the answer: an append's sender has it still, so all that it holds is freed there, and not by the one
        // thread that all wait for.
        drop(work);
        let answer = match (instead, found) {
            (Some(error), _) => Err(error),
            (None, Some(found)) => found,
            (None, None) => Err(gone()),
        };
        // Who asked may have stopped waiting; the write stands all the same.
        let _ = reply.send(answer);
    }
}

/// The callers' end.
pub(crate) struct Writer {
    requests: Option<mpsc::Sender<Box<dyn Request>>>,
    thread: Option<JoinHandle<()>>,
    /// Who commits.
    pub at_once: Arc<AtOnce>,
    shared: Arc<Shared>,
}

impl Writer {
    pub(crate) fn start(conn: Connection, at_once: AtOnce, shared: Arc<Shared>) -> Result<Self, Error> {
        let (requests, queue) = mpsc::channel(WAITING);
        let failed = format!("{}: its writer could not be started", shared.log);
        let at_once = Arc::new(at_once);
        let (here, theirs) = (Arc::clone(&at_once), Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("redress-log".into())
            .spawn(move || serve(&conn, &here, &theirs, queue))
            .map_err(|error| Error::unavailable(failed, error))?;
        Ok(Self { requests: Some(requests), thread: Some(thread), at_once, shared })
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
        self.requests()?.send(task).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// The same, on the caller's own thread where nobody else writes. For what is short.
    pub(crate) async fn write_at_once<T, F>(&self, mut work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut Batch<'_, '_>) -> Result<T, Fault> + Send + 'static,
    {
        // Where each is ready at once, the others get their turn all the same.
        tokio::task::coop::consume_budget().await;
        let requests = self.requests()?;
        if requests.capacity() == requests.max_capacity()
            && let Some(answer) = self.at_once.write(&self.shared, &mut work)
        {
            return answer;
        }
        self.write(work).await
    }

    fn requests(&self) -> Result<&mpsc::Sender<Box<dyn Request>>, Error> {
        self.requests.as_ref().ok_or_else(gone)
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

fn serve(conn: &Connection, at_once: &AtOnce, shared: &Shared, mut queue: mpsc::Receiver<Box<dyn Request>>) {
    let mut batch = Vec::with_capacity(MOST);
    let prepared = Prepared::here(conn);
    while queue.blocking_recv_many(&mut batch, MOST) > 0 {
        let mut desk = at_once.desk();
        // Somebody may have been at it, and more have come.
        while batch.len() < MOST
            && let Ok(request) = queue.try_recv()
        {
            batch.push(request);
        }
        let requests = batch.len();
        let ((), time) = timed(|| serve_batch(&prepared, shared, &mut desk, &mut batch));
        at_once.took(requests, time);
        desk.checkpoints.after_commit(conn);
    }
}

/// Commits them and answers each.
fn serve_batch(prepared: &Prepared<'_>, shared: &Shared, desk: &mut Desk, batch: &mut Vec<Box<dyn Request>>) {
    match commit(prepared, shared, desk, |one| batch.iter_mut().try_for_each(|request| request.run(one))) {
        Ok(()) => batch.drain(..).for_each(|request| request.answer(None)),
        // Each alone would only wait as long once more.
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
        // Each in a transaction of its own: so one that cannot be stored fails only itself.
        Err(_) => {
            for mut request in batch.drain(..) {
                let done = commit(prepared, shared, desk, |one| request.run(one));
                request.answer(done.err().map(|error| to_error(&shared.log, error)));
            }
        }
    }
}
