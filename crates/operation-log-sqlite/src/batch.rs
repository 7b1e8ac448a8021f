//! [`Batch`]: the requests that share one transaction, and what they share in it.
//!
//! What every append would change in the same row (the last position, the session's sum) is counted here and
//! written once, when the batch is done.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;

use redress_operation_log::{Claim, Error, SessionId};
use redress_types::{Hash, OperationId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};

use crate::fault::Fault;
use crate::prepared::{Mixed, Prepared};
use crate::values::{Count, Sha, Time, int};

/// The session that this process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    /// Which.
    pub id: SessionId,
    /// When its lease ends, by the log's own clock.
    pub expires_at: Timestamp,
    /// How long a lease lasts.
    pub lease: std::time::Duration,
    /// The last position that it gave out. Not written at every commit: the entries themselves say it.
    pub position: u64,
}

/// What the writer remembers between two transactions, so that it need not ask. Nothing is decided by it alone: a
/// statement that uses it names what must still be true. Forgotten when a transaction is rolled back.
#[derive(Default)]
pub(crate) struct Memo {
    /// Plans that are stored.
    pub plans: HashSet<Hash>,
    /// No operation waits for a claim. Only the session's holder makes one wait, and that is this process.
    pub nobody_waits: bool,
    /// The positions of operations that are held and not ended.
    pub positions: HashMap<OperationId, u64>,
    /// Claims that operations have, by their positions. Those of one operation are all of them only when they are as
    /// many as its head says.
    pub claims: HashMap<u64, Vec<Claim>, BuildHasherDefault<Mixed>>,
}

impl Memo {
    /// An operation has these claims too. One that is not known and not `new` stays unknown.
    pub(crate) fn claimed<'a>(&mut self, operation: u64, claims: impl Iterator<Item = &'a Claim>, new: bool) {
        match self.claims.entry(operation) {
            Entry::Occupied(mut known) => known.get_mut().extend(claims.cloned()),
            Entry::Vacant(place) if new => {
                place.insert(claims.cloned().collect());
            }
            Entry::Vacant(_) => {}
        }
    }

    /// The claims of an operation, as far as they are known.
    pub(crate) fn claims_of(&self, operation: u64) -> &[Claim] {
        self.claims.get(&operation).map(Vec::as_slice).unwrap_or_default()
    }
}

/// One transaction under way.
pub(crate) struct Batch<'a, 'c> {
    prepared: &'a Prepared<'c>,
    /// What is remembered from earlier ones.
    pub memo: &'a mut Memo,
    /// The log's own clock when the batch began.
    pub log_now: Timestamp,
    /// The session of this process, while it is current. What a request changes here holds once committed.
    pub live: Option<Live>,
    /// The last position given out.
    pub position: u64,
    /// How often switches have changed.
    pub switch_changes: u64,
    /// Something may have become due.
    pub woke: bool,
    /// A row was changed.
    wrote: bool,
    appended: Appended,
}

/// What the session of this process appended in this batch.
#[derive(Default)]
struct Appended {
    entries: u64,
    operations: u64,
    digest: Hash,
}

impl<'a, 'c> Batch<'a, 'c> {
    /// Begins a transaction that may write.
    pub(crate) fn begin(
        prepared: &'a Prepared<'c>,
        live: Option<Live>,
        log_now: Timestamp,
        memo: &'a mut Memo,
    ) -> rusqlite::Result<Self> {
        prepared.with("begin immediate", |begin| begin.execute([]))?;
        let mut batch = Self {
            prepared,
            memo,
            log_now,
            live: None,
            position: 0,
            switch_changes: 0,
            woke: false,
            wrote: false,
            appended: Appended::default(),
        };
        let (position, switches, session) =
            batch.one("select position, switch_changes, last_session from meta", [], |row| {
                Ok((row.get::<_, Count>(0)?.0, row.get::<_, Count>(1)?.0, row.get::<_, Count>(2)?.0))
            })?;
        batch.position = position.max(live.map_or(0, |live| live.position));
        batch.switch_changes = switches;
        // Somebody who removed the lock file could have opened another session: then ours is over.
        batch.live = live.filter(|live| live.id.0 == session);
        Ok(batch)
    }

    /// Ends the transaction. Answers whether there was anything to commit.
    pub(crate) fn commit(&mut self) -> rusqlite::Result<bool> {
        self.write_sums()?;
        // Without a change there is nothing to make durable.
        let end = if self.wrote { "commit" } else { "rollback" };
        self.prepared.with(end, |end| end.execute([]))?;
        Ok(self.wrote)
    }

    fn write_sums(&mut self) -> rusqlite::Result<()> {
        let appended = std::mem::take(&mut self.appended);
        let Some(live) = self.live.filter(|_| appended.entries > 0) else { return Ok(()) };
        if let Some(live) = &mut self.live {
            live.position = self.position;
        }
        let mut digest = self
            .one("select digest from sessions where id = ?1", [int(live.id.0)], |row| row.get::<_, Sha>(0))?;
        digest.0.combine(&appended.digest);
        self.run(
            "update sessions set entries = entries + ?2, operations = operations + ?3, digest = ?4
             where id = ?1",
            params![int(live.id.0), int(appended.entries), int(appended.operations), digest],
        )?;
        Ok(())
    }

    /// Counts an appended entry and answers its position.
    pub(crate) fn next_position(&mut self, hash: &Hash, begins: bool) -> u64 {
        self.position += 1;
        self.appended.entries += 1;
        self.appended.operations += u64::from(begins);
        self.appended.digest.combine(hash);
        self.position
    }

    /// Writes what was counted so far, for a request that is about to read it or to end the session.
    pub(crate) fn settle_sums(&mut self) -> Result<(), Fault> {
        Ok(self.write_sums()?)
    }

    /// The session of this process, when it is the one named and its lease lasts.
    pub(crate) fn session(&self, session: SessionId) -> Result<Live, Error> {
        match self.live {
            Some(live) if live.id == session && self.log_now < live.expires_at => Ok(live),
            Some(_) | None => Err(Error::Stale { what: format!("session {session}") }),
        }
    }

    /// Whether a row was changed so far.
    pub(crate) fn mark(&self) -> bool {
        self.wrote
    }

    /// What was changed since the mark was undone again.
    pub(crate) fn unmark(&mut self, mark: bool) {
        self.wrote = mark;
    }

    /// Runs a statement that writes; answers how many rows it changed.
    pub(crate) fn run(&mut self, sql: &'static str, params: impl Params) -> rusqlite::Result<usize> {
        let changed = self.prepared.with(sql, |statement| statement.execute(params))?;
        self.wrote |= changed > 0;
        Ok(changed)
    }

    /// Like [`Self::run`], for a statement that answers rows.
    pub(crate) fn run_all<T>(
        &mut self,
        sql: &'static str,
        params: impl Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let rows = self.all(sql, params, row)?;
        self.wrote |= !rows.is_empty();
        Ok(rows)
    }

    /// One row that must be there.
    pub(crate) fn one<T>(
        &self,
        sql: &'static str,
        params: impl Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.prepared.with(sql, |statement| statement.query_row(params, row))
    }

    /// One row or none.
    pub(crate) fn find<T>(
        &self,
        sql: &'static str,
        params: impl Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.one(sql, params, row).optional()
    }

    /// All rows.
    pub(crate) fn all<T>(
        &self,
        sql: &'static str,
        params: impl Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.prepared.with(sql, |statement| statement.query_map(params, row)?.collect())
    }

    /// The connection, for the readers' functions.
    pub(crate) fn conn(&self) -> &'c Connection {
        self.prepared.conn()
    }
}

/// Undoes what is under way, if anything is: some errors have done so already.
pub(crate) fn roll_back(conn: &Connection) {
    if !conn.is_autocommit()
        && let Err(error) = conn.execute_batch("rollback")
    {
        tracing::warn!(%error, "a transaction could not be rolled back");
    }
}

/// The time in a nullable column.
pub(crate) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<Time>>(column)?.map(|time| time.0))
}
