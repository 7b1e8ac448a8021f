//! A commit: what is asked for in one transaction, and what whoever commits has to itself and shares with the others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redress_types::Clock;
use rusqlite::Connection;
use tokio::sync::watch;

use crate::batch::{Batch, Live, Memo, roll_back};
use crate::lock::Lock;
use crate::prepared::Prepared;
use crate::wal::Checkpoints;

/// What whoever commits shares with the callers.
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

/// What only one has at a time: whoever commits.
pub(crate) struct Desk {
    /// What is remembered from commit to commit.
    pub memo: Memo,
    /// The write-ahead log's.
    pub checkpoints: Checkpoints,
    /// The connection of those who commit on their own thread, while none of them does.
    pub spare: Option<Connection>,
}

/// Has `work` done in one transaction. On an error nothing of it was done, or, when the commit itself was cut short,
/// nobody knows.
pub(crate) fn commit(
    prepared: &Prepared<'_>,
    shared: &Shared,
    desk: &mut Desk,
    work: impl FnMut(&mut Batch<'_, '_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let held = shared.held().is_some();
    // Where it panics or fails, nothing is remembered.
    let mut memo = std::mem::take(&mut desk.memo);
    let done = run(prepared, shared, &mut memo, work);
    if done.is_ok() && held && shared.held().is_none() {
        // The session was closed.
        desk.checkpoints.empty(prepared.conn());
    }
    match done {
        Ok(()) => desk.memo = memo,
        Err(_) => roll_back(prepared.conn()),
    }
    done
}

fn run(
    prepared: &Prepared<'_>,
    shared: &Shared,
    memo: &mut Memo,
    mut work: impl FnMut(&mut Batch<'_, '_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let live = shared.held().as_ref().map(|(live, _)| *live);
    let mut batch = Batch::begin(prepared, live, shared.clock.now(), memo)?;
    work(&mut batch)?;
    let wrote = batch.commit()?;
    shared.committed(&batch, wrote, live);
    Ok(())
}

/// How long it takes.
#[expect(clippy::disallowed_methods, reason = "what the disk takes is no timer that a test could pause")]
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed())
}
