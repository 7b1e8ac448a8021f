//! Sessions: one engine at a time has the file, and a file that was put back is noticed.

use std::time::Duration;

use redress_operation_log::{Session, SessionId};
use redress_types::{Incarnation, Timestamp};
use rusqlite::params;

use crate::archive;
use crate::batch::{Batch, Live, Memo};
use crate::fault::Fault;
use crate::lock::Note;
use crate::outbox;
use crate::values::{Count, Time, int};

/// A session that was opened, and what to note beside the log before it is used.
pub(crate) struct Opened {
    pub session: Session,
    pub live: Live,
    pub note: Note,
}

/// Opens a session for whoever has the lock. Earlier ones are over: their holder is dead, or the lock would be
/// taken.
pub(crate) fn open(
    batch: &mut Batch<'_, '_>,
    engine: &str,
    lease: Duration,
    noted: Option<&Note>,
) -> Result<Opened, Fault> {
    let (log, last, incarnation) =
        batch.one("select lower(hex(log_id)), last_session, incarnation from meta", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Count>(1)?.0, row.get::<_, Count>(2)?.0))
        })?;
    // Another process may have had the session in between.
    *batch.memo = Memo::default();
    batch.position = archive::last_position(batch.conn())?;
    // A note about another log says nothing: this file was put in the place of that one on purpose.
    let noted = noted.filter(|note| note.log == log);
    let was = |of: fn(&Note) -> u64, here: u64| noted.map_or(here, |note| of(note).max(here));
    let restored = noted.is_some_and(|note| {
        let behind = last < note.session || batch.position < note.position || incarnation < note.incarnation;
        // A crash after this commit and before its note: whoever came first never learned of it.
        behind || incarnation > note.incarnation
    });
    let incarnation = was(|note| note.incarnation, incarnation) + u64::from(restored);
    let id = was(|note| note.session, last) + 1;
    // Positions that others have seen are not given out again.
    batch.position = was(|note| note.position, batch.position);

    let now = batch.log_now;
    let expires_at = now.plus(lease);
    batch.run("update sessions set closed_at = ?1 where closed_at is null", [Time(now)])?;
    outbox::forget_taken(batch)?;
    batch.run(
        "insert into sessions (id, engine, incarnation, opened_at, expires_at, lease_us)
         values (?1, ?2, ?3, ?4, ?5, ?6)",
        params![int(id), engine, int(incarnation), Time(now), Time(expires_at), micros(lease)],
    )?;
    batch.run(
        "update meta set last_session = ?1, incarnation = ?2, position = ?3",
        [int(id), int(incarnation), int(batch.position)],
    )?;
    batch.woke = true;
    let note = Note {
        number: 0,
        log,
        session: id,
        incarnation,
        position: batch.position,
        pid: std::process::id(),
        engine: engine.to_owned(),
        since: now,
    };
    let since =
        batch.one("select min(id) from sessions where incarnation = ?1", [int(incarnation)], |row| {
            row.get::<_, Count>(0)
        })?;
    let (id, since) = (SessionId(id), SessionId(since.0));
    let incarnation = Incarnation(incarnation);
    let session = Session { id, incarnation, restored, since, lease, log_now: now };
    Ok(Opened { session, live: Live { id, expires_at, lease, position: batch.position }, note })
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Renews the lease; answers the log's own clock.
pub(crate) fn renew(batch: &mut Batch<'_, '_>, session: SessionId) -> Result<Timestamp, Fault> {
    let live = batch.session(session)?;
    let live = Live { expires_at: batch.log_now.plus(live.lease), ..live };
    batch.run(
        "update sessions set expires_at = ?2 where id = ?1",
        params![int(session.0), Time(live.expires_at)],
    )?;
    batch.live = Some(live);
    Ok(batch.log_now)
}

/// Ends the session of this process. Another one is not ours to end, or is over.
pub(crate) fn close(batch: &mut Batch<'_, '_>, session: SessionId) -> Result<(), Fault> {
    if batch.live.is_none_or(|live| live.id != session) {
        return Ok(());
    }
    batch.settle_sums()?;
    batch.run("update meta set position = max(position, ?1)", [int(batch.position)])?;
    batch.run(
        "update sessions set closed_at = ?2 where id = ?1 and closed_at is null",
        params![int(session.0), Time(batch.log_now)],
    )?;
    batch.live = None;
    batch.woke = true;
    Ok(())
}
