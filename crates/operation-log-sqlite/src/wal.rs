//! The write-ahead log, brought into the database beside the writer: a checkpoint reads, writes and syncs, and all of
//! that while nobody's append could go on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;

use crate::open::{self, Options};

/// Pages of 4 KiB that are added before they are brought over: 16 MB. More often would write the same pages more
/// often; more rarely would have more to read after a crash.
const OFTEN: u32 = 4_000;
/// Pages that came while the others were brought over, at most so many: the writer brings them over itself, and the
/// write-ahead log begins anew. Only it can: while it goes on writing there is always something that was not brought
/// over yet. A file that is written over needs a third less time to sync than one that grows.
const REST: u32 = 256;
/// Pages after which the writer waits until all are brought over. 96 MB.
const MOST: u32 = 24_000;
/// Times that what came meanwhile is brought over as well, before it is left for later.
const PASSES: u32 = 4;

/// Where a checkpoint is carried out, and with what.
#[derive(Clone)]
pub(crate) struct Place {
    pub path: PathBuf,
    /// The file, as it is named in errors.
    pub log: String,
    pub options: Options,
}

/// When, in pages of the write-ahead log.
#[derive(Clone, Copy)]
struct When {
    often: u32,
    rest: u32,
    most: u32,
}

/// What the two threads tell each other, in pages.
#[derive(Default)]
struct Pages {
    /// How long the write-ahead log was after the last commit.
    written: AtomicU32,
    /// How much of it was brought over, when little is left to bring. 0 once that was looked at.
    brought: AtomicU32,
}

/// Brings the write-ahead log into the database. Belongs to whoever commits, and its own thread ends with it.
pub(crate) struct Checkpoints {
    place: Place,
    when: When,
    pages: Arc<Pages>,
    /// Pages of which it was said last that they are to be brought over.
    asked: u32,
    /// Whoever has it is at it. SQLite refuses the second one at once, however patient it is asked to be.
    turn: Arc<Mutex<()>>,
    /// Started when there is something to do for the first time: short commands never need it.
    thread: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Checkpoints {
    /// For the connection that writes, which from now on does none by itself.
    pub(crate) fn of(conn: &mut Connection, place: Place) -> rusqlite::Result<Self> {
        Self::at(conn, place, When { often: OFTEN, rest: REST, most: MOST })
    }

    fn at(conn: &mut Connection, place: Place, when: When) -> rusqlite::Result<Self> {
        let checkpoints =
            Self { place, when, pages: Arc::default(), asked: 0, turn: Arc::default(), thread: None };
        checkpoints.watch(conn)?;
        Ok(checkpoints)
    }

    /// For another connection that writes.
    pub(crate) fn watch(&self, conn: &mut Connection) -> rusqlite::Result<()> {
        let noted = Arc::clone(&self.pages);
        conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, now| {
            noted.written.store(u32::try_from(now).unwrap_or(u32::MAX), Ordering::Relaxed);
            Ok(())
        }))
    }

    /// After a commit of the writer's, when its answers were given.
    pub(crate) fn after_commit(&mut self, conn: &Connection) {
        if self.waits_for_the_writer() {
            self.pages.brought.store(0, Ordering::Relaxed);
            self.asked = self.written();
            let _turn = turn(&self.turn);
            bring_over(conn, PASSIVE);
        } else {
            self.after_other_commit();
        }
    }

    /// After a commit of somebody who must not be held up.
    pub(crate) fn after_other_commit(&mut self) {
        let written = self.written();
        if written < self.asked {
            // Begun anew.
            self.asked = 0;
        }
        if written >= self.asked + self.when.often {
            self.asked = written;
            self.ask();
        }
    }

    /// Whether the writer is to bring something over itself: the little that is left, or much too much.
    pub(crate) fn waits_for_the_writer(&self) -> bool {
        let (written, brought) = (self.written(), self.pages.brought.load(Ordering::Relaxed));
        let is_little =
            brought > 0 && written.checked_sub(brought).is_some_and(|rest| rest <= self.when.rest);
        // Where a reader is in the way, not at every commit again.
        is_little || (written >= self.when.most && written >= self.asked + self.when.often / 8)
    }

    /// As the other thread says it when it is through.
    #[cfg(test)]
    pub(crate) fn say_that_little_is_left(&self) {
        self.pages.brought.store(self.written(), Ordering::Relaxed);
    }

    fn written(&self) -> u32 {
        self.pages.written.load(Ordering::Relaxed)
    }

    /// Brings all of it over and empties it, so that a copy of the database alone is whole. A reader can be in the way;
    /// then it happens at the next close.
    pub(crate) fn empty(&self, conn: &Connection) {
        let _turn = turn(&self.turn);
        bring_over(conn, TRUNCATE);
        self.pages.written.store(0, Ordering::Relaxed);
    }

    fn ask(&mut self) {
        if self.thread.is_none() {
            let (turn, pages) = (Arc::clone(&self.turn), Arc::clone(&self.pages));
            match start(self.place.clone(), self.when, turn, pages) {
                Ok(thread) => self.thread = Some(thread),
                // The writer does it in the end.
                Err(error) => tracing::warn!(%error, "no thread for checkpoints"),
            }
        }
        if let Some((asks, _)) = &self.thread {
            match asks.try_send(()) {
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        }
    }
}

impl Drop for Checkpoints {
    /// Waits for the one under way: the file is free after that.
    fn drop(&mut self) {
        if let Some((asks, thread)) = self.thread.take() {
            drop(asks);
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn turn(turn: &Mutex<()>) -> MutexGuard<'_, ()> {
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(
    place: Place,
    when: When,
    turn: Arc<Mutex<()>>,
    pages: Arc<Pages>,
) -> std::io::Result<(SyncSender<()>, JoinHandle<()>)> {
    // One that waits is enough: it brings over all that is there when it begins.
    let (asks, asked) = sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("redress-checkpoints".into())
        .spawn(move || serve(&place, when, &turn, &pages, &asked))?;
    Ok((asks, thread))
}

fn serve(place: &Place, when: When, shared: &Mutex<()>, pages: &Pages, asked: &Receiver<()>) {
    let conn = match open::beside(&place.path, &place.log, &place.options) {
        Ok(conn) => conn,
        Err(error) => {
            tracing::warn!(%error, "the writer does its checkpoints itself");
            return;
        }
    };
    while asked.recv().is_ok() {
        let _turn = turn(shared);
        for _ in 0..PASSES {
            let Some(brought) = bring_over(&conn, PASSIVE) else { break };
            let rest = pages.written.load(Ordering::Relaxed).checked_sub(brought);
            if rest.is_none_or(|rest| rest <= when.rest) {
                pages.brought.store(brought, Ordering::Relaxed);
                break;
            }
        }
    }
}

/// What was added while it goes on stays for the next time.
const PASSIVE: &str = "pragma wal_checkpoint(passive)";
const TRUNCATE: &str = "pragma wal_checkpoint(truncate)";

/// Answers how many pages of the write-ahead log are in the database now, if it is known.
fn bring_over(conn: &Connection, sql: &str) -> Option<u32> {
    match conn.query_row(sql, [], |row| row.get::<_, i64>(2)) {
        // Where somebody else is at it, -1.
        Ok(brought) => u32::try_from(brought).ok(),
        Err(error) => {
            tracing::warn!(%error, "the write-ahead log could not be brought into the database");
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const LIMITS: When = When { often: 20, rest: 10, most: 200 };
    /// A page and its frame's head.
    const FRAME: u64 = 4096 + 24;

    struct Log {
        _folder: tempfile::TempDir,
        conn: Connection,
        checkpoints: Checkpoints,
        wal: PathBuf,
    }

    impl Log {
        fn open() -> Self {
            Self::with(LIMITS)
        }

        fn with(when: When) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log.db");
            let (log, options) = (path.display().to_string(), Options::default());
            let mut conn = open::writer(&path, &log, &options).unwrap();
            conn.execute_batch("create table more (number integer primary key, bytes blob)").unwrap();
            let wal = folder.path().join("log.db-wal");
            let checkpoints = Checkpoints::at(&mut conn, Place { path, log, options }, when).unwrap();
            Self { _folder: folder, conn, checkpoints, wal }
        }

        /// A commit of a few pages, as the writer does it.
        fn commit(&mut self) {
            self.conn.execute("insert into more (bytes) values (zeroblob(20000))", []).unwrap();
            self.checkpoints.after_commit(&self.conn);
        }

        fn wal_pages(&self) -> u64 {
            std::fs::metadata(&self.wal).unwrap().len() / FRAME
        }
    }

    #[test]
    fn the_write_ahead_log_does_not_outgrow_its_limit_while_it_is_written_to() {
        let mut log = Log::open();
        let mut highest = 0;
        for _ in 0..500 {
            log.commit();
            highest = highest.max(log.wal_pages());
        }
        let written = 500 * 5;
        assert!(highest < u64::from(LIMITS.most) + 20, "{highest} pages of {written}");
        assert!(log.checkpoints.thread.is_some(), "the other thread was asked");
    }

    #[test]
    fn what_was_asked_for_is_done_beside_the_writer() {
        let mut log = Log::open();
        while log.checkpoints.thread.is_none() {
            log.commit();
        }
        // Ends with the one under way, which nothing was added behind.
        let (asks, thread) = log.checkpoints.thread.take().unwrap();
        drop(asks);
        thread.join().unwrap();
        let (busy, pages, brought): (i64, i64, i64) = log
            .conn
            .query_row("pragma wal_checkpoint(noop)", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap();
        assert_eq!((busy, brought), (0, pages), "all of it is in the database");
        assert!(pages >= i64::from(LIMITS.often));
    }

    #[test]
    fn the_writer_brings_over_the_little_that_is_left_and_the_file_is_written_over() {
        // The other thread is not asked.
        let mut log = Log::with(When { often: 1_000, ..LIMITS });
        (0..3).for_each(|_| log.commit());
        let (written, length) = (log.checkpoints.written(), log.wal_pages());
        log.checkpoints.say_that_little_is_left();
        assert!(log.checkpoints.waits_for_the_writer());
        log.commit();
        assert!(!log.checkpoints.waits_for_the_writer());
        log.commit();
        let now = log.checkpoints.written();
        assert!(now < written, "{now} pages after {written}");
        assert!(log.wal_pages() <= length + u64::from(LIMITS.rest));
        assert!(log.checkpoints.thread.is_none());
    }

    #[test]
    fn emptied_it_leaves_all_in_the_database() {
        let mut log = Log::open();
        for _ in 0..50 {
            log.commit();
        }
        log.checkpoints.empty(&log.conn);
        assert_eq!(log.wal_pages(), 0);
    }
}
