//! A lone append, committed on the thread of the task that asks for it.
//!
//! To hand it to the writer's thread and be woken again costs as much as the commit itself, or more: two threads change
//! places twice. So while nobody else is at it, the caller commits itself, and its thread of the runtime stands still
//! for as long as the disk takes. That is right only where another thread of the runtime goes on meanwhile, and where
//! the disk is quick; else, and as soon as there is more than one, the writer's thread does it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use redress_operation_log::Error;
use rusqlite::Connection;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::batch::{Batch, Memo};
use crate::commit::{Desk, Shared, commit, timed};
use crate::fault::{Fault, is_busy, refused, to_error};
use crate::open;
use crate::prepared::Prepared;
use crate::wal::{Checkpoints, Place};

/// What a disk with a cache of its own takes several times over. Timers and other tasks notice no such wait.
const QUICK: Duration = Duration::from_millis(2);

/// So many commits of one request each, one after the other, and it is calm. Under load there are such too, in between.
const CALM: u32 = 8;

/// Who commits: one at a time, and on which thread.
pub(crate) struct AtOnce {
    place: Place,
    /// A commit that takes so long is not waited for on a thread of the runtime.
    quick: Duration,
    desk: Mutex<Desk>,
    /// Commits since one was of several requests, or slow. Under load the first to come would commit alone, and all
    /// others wait for it.
    lone: AtomicU32,
    /// The writer's thread waits for the desk. It comes first: who waits for it must not wait for ever.
    is_wanted: AtomicBool,
}

impl AtOnce {
    pub(crate) fn new(place: Place, checkpoints: Checkpoints) -> Self {
        let desk = Desk { memo: Memo::default(), checkpoints, spare: None };
        Self {
            place,
            quick: QUICK,
            desk: Mutex::new(desk),
            lone: AtomicU32::new(0),
            is_wanted: AtomicBool::new(false),
        }
    }

    /// Waits until nobody else commits. For the writer's thread.
    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.is_wanted.store(true, Ordering::Relaxed);
        let desk = self.desk.lock().unwrap_or_else(|poisoned| {
            // Whoever panicked there left no transaction behind, and nothing remembered.
            self.desk.clear_poison();
            poisoned.into_inner()
        });
        self.is_wanted.store(false, Ordering::Relaxed);
        desk
    }

    /// So many requests were committed together, and it took so long.
    pub(crate) fn took(&self, requests: usize, time: Duration) {
        // Only who has the desk writes it.
        let lone = if requests == 1 && time < self.quick { self.lone.load(Ordering::Relaxed) + 1 } else { 0 };
        self.lone.store(lone.min(CALM), Ordering::Relaxed);
    }

    /// Has `work` done in a transaction, here and now. None when the writer's thread is to do it; then nothing was done.
    pub(crate) fn write<T>(
        &self,
        shared: &Shared,
        work: &mut impl FnMut(&mut Batch<'_, '_>) -> Result<T, Fault>,
    ) -> Option<Result<T, Error>> {
        let is_calm = self.lone.load(Ordering::Relaxed) >= CALM && !self.is_wanted.load(Ordering::Relaxed);
        if !is_calm || !may_stand_still() {
            return None;
        }
        let mut desk = self.desk.try_lock().ok()?;
        if desk.checkpoints.waits_for_the_writer() {
            return None;
        }
        let conn = match desk.spare.take() {
            Some(conn) => conn,
            None => self.open(&mut desk.checkpoints)?,
        };
        let mut found = None;
        let (done, time) = timed(|| {
            commit(&Prepared::cached(&conn), shared, &mut desk, |batch| {
                found = Some(refused(work(batch))?);
                Ok(())
            })
        });
        self.took(1, time);
        let answer = match done {
            Ok(()) => found,
            // Another process is writing: that is waited for elsewhere.
            Err(error) if error.sqlite_error_code().is_some_and(is_busy) => None,
            Err(error) => Some(Err(to_error(&shared.log, error))),
        };
        desk.checkpoints.after_other_commit();
        // One that could not be rolled back would keep everybody else from writing.
        desk.spare = conn.is_autocommit().then_some(conn);
        answer
    }

    /// A connection of its own: the writer's thread has borrowed the first one for good.
    fn open(&self, checkpoints: &mut Checkpoints) -> Option<Connection> {
        let Place { path, log, options } = &self.place;
        let options = open::Options { busy_timeout: Duration::ZERO, ..options.clone() };
        let opened = open::beside(path, log, &options).and_then(|mut conn| {
            conn.set_prepared_statement_cache_capacity(128);
            checkpoints.watch(&mut conn).map_err(|error| to_error(log, error))?;
            Ok(conn)
        });
        opened
            .inspect_err(|error| {
                self.lone.store(0, Ordering::Relaxed);
                tracing::warn!(%error, "lone appends go by the writer's thread");
            })
            .ok()
    }
}

/// Whether another thread goes on with the other tasks while this one waits for the disk.
fn may_stand_still() -> bool {
    Handle::try_current().is_ok_and(|runtime| {
        runtime.runtime_flavor() == RuntimeFlavor::MultiThread && runtime.metrics().num_workers() > 1
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::sync::Arc;
    use std::thread::ThreadId;

    use redress_types::SystemClock;

    use super::*;
    use crate::writer::Writer;

    struct Log {
        _folder: tempfile::TempDir,
        place: Place,
        writer: Arc<Writer>,
    }

    impl Log {
        fn open() -> Self {
            Self::with(Duration::MAX)
        }

        fn with(quick: Duration) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log.db");
            let (log, options) = (path.display().to_string(), open::Options::default());
            let mut conn = open::writer(&path, &log, &options).unwrap();
            conn.execute_batch("create table seen (number integer primary key)").unwrap();
            let place = Place { path, log: log.clone(), options };
            let checkpoints = Checkpoints::of(&mut conn, place.clone()).unwrap();
            let at_once = AtOnce { quick, ..AtOnce::new(place.clone(), checkpoints) };
            let shared = Arc::new(Shared::new(log, Arc::new(SystemClock)));
            Self { _folder: folder, place, writer: Arc::new(Writer::start(conn, at_once, shared).unwrap()) }
        }

        /// Writes a number, and answers on which thread.
        async fn write(&self, number: u32) -> Result<ThreadId, Error> {
            let write = move |batch: &mut Batch<'_, '_>| {
                batch.run("insert into seen (number) values (?1)", [number])?;
                Ok(std::thread::current().id())
            };
            self.writer.write_at_once(write).await
        }

        /// Until it is calm. The last was on the writer's thread, which is answered.
        async fn calm(&self) -> ThreadId {
            let mut threads = Vec::new();
            for number in 1000..1000 + CALM {
                threads.push(self.write(number).await.unwrap());
            }
            let one = threads.pop().unwrap();
            assert!(threads.iter().all(|thread| *thread == one), "none before it is calm");
            // It answers before it is through.
            drop(self.writer.at_once.desk());
            one
        }

        /// One write is that thread's, and the next is done here again.
        async fn leaves_one_to(&self, theirs: ThreadId) {
            assert_eq!(self.write(1).await.unwrap(), theirs);
            // It answers before it is through.
            drop(self.writer.at_once.desk());
            assert_eq!(self.write(2).await.unwrap(), std::thread::current().id());
        }

        fn numbers(&self) -> u32 {
            let conn = open::reader(&self.place.path, &self.place.log, &self.place.options).unwrap();
            conn.query_row("select count(*) from seen", [], |row| row.get(0)).unwrap()
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lone_one_is_committed_where_it_is_asked_for() {
        let log = Log::open();
        let theirs = log.calm().await;
        let here = log.write(1).await.unwrap();
        assert_eq!(here, std::thread::current().id());
        assert_ne!(here, theirs);
        assert_eq!(log.numbers(), CALM + 1);
    }

    #[tokio::test]
    async fn where_nobody_else_would_go_on_the_writers_thread_does_it() {
        let log = Log::open();
        let theirs = log.calm().await;
        assert_eq!(log.write(1).await.unwrap(), theirs);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn after_several_at_once_it_must_be_calm_again() {
        let log = Log::open();
        let theirs = log.calm().await;
        let desk = log.writer.at_once.desk();
        let several: Vec<_> = (1..=3).map(|number| log.write(number)).collect();
        // Somebody is at it until all three wait: they are one batch.
        let (answers, ()) = tokio::join!(futures(several), async move { drop(desk) });
        assert!(answers.into_iter().all(|answer| answer.unwrap() == theirs));
        for number in 4..4 + CALM {
            assert_eq!(log.write(number).await.unwrap(), theirs);
        }
        drop(log.writer.at_once.desk());
        assert_eq!(log.write(100).await.unwrap(), std::thread::current().id());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_busy_file_is_left_to_the_writers_thread() {
        let log = Log::open();
        let theirs = log.calm().await;
        let busy = Connection::open(&log.place.path).unwrap();
        busy.execute_batch("begin immediate").unwrap();
        let free = async { busy.execute_batch("rollback").unwrap() };
        let (thread, ()) = tokio::join!(log.write(1), free);
        assert_eq!(thread.unwrap(), theirs);
        assert_eq!(log.numbers(), CALM + 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_checkpoint_that_is_due_is_left_to_the_writers_thread() {
        let log = Log::open();
        let theirs = log.calm().await;
        log.writer.at_once.desk().checkpoints.say_that_little_is_left();
        log.leaves_one_to(theirs).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_cannot_be_stored_is_answered_and_leaves_nothing() {
        let log = Log::open();
        log.calm().await;
        let half = |batch: &mut Batch<'_, '_>| -> Result<(), Fault> {
            batch.run("insert into seen (number) values (?1)", [1])?;
            batch.run("insert into seen (number) values (?1)", [1000])?;
            Ok(())
        };
        let error = log.writer.write_at_once(half).await.unwrap_err();
        assert!(matches!(error, Error::Unstorable { .. }), "{error}");
        assert_eq!(log.write(1).await.unwrap(), std::thread::current().id());
        assert_eq!(log.numbers(), CALM + 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_panics_leaves_nothing_and_the_log_goes_on() {
        let log = Log::open();
        let theirs = log.calm().await;
        let writer = Arc::clone(&log.writer);
        let panics = tokio::spawn(async move {
            let half = |batch: &mut Batch<'_, '_>| -> Result<(), Fault> {
                batch.run("insert into seen (number) values (?1)", [1])?;
                panic!("on purpose")
            };
            writer.write_at_once(half).await
        });
        assert!(panics.await.unwrap_err().is_panic());
        // Whoever finds the desk left like that goes by the writer's thread, which sets it right.
        log.leaves_one_to(theirs).await;
        assert_eq!(log.numbers(), CALM + 2);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_writers_thread_comes_first() {
        let log = Log::open();
        let theirs = log.calm().await;
        log.writer.at_once.is_wanted.store(true, Ordering::Relaxed);
        log.leaves_one_to(theirs).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_full_disk_is_told_and_work_goes_on_when_there_is_room() {
        let log = Log::open();
        log.calm().await;
        log.write(1).await.unwrap();
        let limit = |pages: i64| {
            let desk = log.writer.at_once.desk();
            let conn = desk.spare.as_ref().unwrap();
            conn.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0)).unwrap()
        };
        limit(1);
        let much = |batch: &mut Batch<'_, '_>| -> Result<(), Fault> {
            batch.run("create table much as select zeroblob(1000000)", [])?;
            Ok(())
        };
        let error = log.writer.write_at_once(much).await.unwrap_err();
        assert!(error.to_string().contains("the disk is full"), "{error}");
        limit(1_000_000);
        log.writer.write_at_once(much).await.unwrap();
        assert_eq!(log.numbers(), CALM + 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_slow_disk_is_not_waited_for_here() {
        let log = Log::with(Duration::ZERO);
        let theirs = log.calm().await;
        assert_eq!(log.write(1).await.unwrap(), theirs);
    }

    async fn futures<T>(all: Vec<impl Future<Output = T>>) -> Vec<T> {
        let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
        let mut done = Vec::new();
        // Each is begun before one is waited for.
        std::future::poll_fn(|context| {
            all.retain_mut(|one| match one.as_mut().poll(context) {
                std::task::Poll::Ready(answer) => {
                    done.push(answer);
                    false
                }
                std::task::Poll::Pending => true,
            });
            if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        done
    }
}
