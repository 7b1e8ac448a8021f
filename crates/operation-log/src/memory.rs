//! [`MemoryLog`]: a real log with every promise but durability.
//!
//! Each call locks the whole state, does its work and unlocks; nothing is awaited in between. What a call does
//! is in `append`, `inbox`, `claims`, `outbox`, `archive` and `history`; `state` holds the tables.

mod append;
mod archive;
mod claims;
mod history;
mod inbox;
mod outbox;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redress_strategy::{PlanHash, StoredPlan};
use redress_types::{AlertId, Clock, Epoch, Hash, OperationId, Timestamp};
use tokio::sync::watch;

use self::state::Tables;
use crate::entry::StoredEntry;
use crate::error::Error;
use crate::log::{OperationHistory, OperationLog};
use crate::record::{
    AlertRecord, Append, Archived, Audit, Checkpoint, ClaimRequest, Claimed, Cursor, Delivered, Filter, Head,
    InboxRow, Join, LateResult, LogStatus, OutboxDecision, OutboxRequest, OutboxRow, OutboxSettled, Page,
    Payload, Post, Posted, Recorded, Repeat, Switch,
};
use crate::session::{Session, SessionId};

/// A log in memory: the semantics of every log, several sessions at a time, gone with the process.
///
/// Cloning is cheap and gives the same log. Leases are judged by the clock it was made with: a session whose
/// lease has run out is over, and only a new one may write. Never blocks for longer than one call's work.
#[derive(Clone)]
pub struct MemoryLog(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    tables: Mutex<Tables>,
    wakeups: watch::Sender<u64>,
}

impl MemoryLog {
    /// An empty log whose own clock is `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let (wakeups, _) = watch::channel(0);
        Self(Arc::new(Shared { clock, tables: Mutex::new(Tables::default()), wakeups }))
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change is checked before it is begun, so what a panicking caller left behind is whole.
        self.0.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// A write: counted when it committed something, and announced when something may have become due.
    fn write<T>(&self, work: impl FnOnce(&mut Tables, Timestamp) -> Result<T, Error>) -> Result<T, Error> {
        let now = self.now();
        let mut tables = self.tables();
        let result = work(&mut tables, now);
        let woke = std::mem::take(&mut tables.woke);
        drop(tables);
        if woke {
            self.0.wakeups.send_modify(|count| *count += 1);
        }
        result
    }
}

impl std::fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryLog").field("commits", &self.commits()).finish_non_exhaustive()
    }
}

#[async_trait]
impl OperationHistory for MemoryLog {
    async fn operation(&self, id: OperationId) -> Result<Option<Head>, Error> {
        Ok(self.tables().operations.get(&id).map(|row| row.head.clone()))
    }

    async fn find(&self, text: &str, limit: usize) -> Result<Vec<Head>, Error> {
        Ok(self.tables().find(text, limit))
    }

    async fn operations(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page, Error> {
        Ok(self.tables().list(filter, after, limit))
    }

    async fn entries(&self, id: OperationId, after: u64, limit: usize) -> Result<Vec<StoredEntry>, Error> {
        Ok(self.tables().entries(id, after, limit))
    }

    async fn plan(&self, hash: PlanHash) -> Result<Option<Arc<StoredPlan>>, Error> {
        Ok(self.tables().plans.get(&hash).cloned())
    }

    async fn alert(&self, id: &AlertId) -> Result<Option<AlertRecord>, Error> {
        Ok(self.tables().alerts.get(id).cloned())
    }

    async fn alerts_of(&self, id: OperationId) -> Result<Vec<AlertRecord>, Error> {
        Ok(self.tables().alerts_of(id))
    }

    async fn by_fingerprint(&self, fingerprint: &str) -> Result<Option<OperationId>, Error> {
        let claim = crate::record::Claim::Fingerprint(fingerprint.to_owned());
        Ok(self.tables().claims.get(&claim).copied())
    }

    async fn inbox(&self, id: OperationId, after: u64) -> Result<Vec<InboxRow>, Error> {
        Ok(self.tables().inbox_after(id, after))
    }

    async fn outbox_of(&self, id: OperationId) -> Result<Vec<OutboxRow>, Error> {
        Ok(self.tables().outbox_of(id))
    }

    async fn outbox_owed(&self, limit: usize) -> Result<Vec<OutboxRow>, Error> {
        Ok(self.tables().outbox_owed(limit))
    }

    async fn status(&self) -> Result<LogStatus, Error> {
        let now = self.now();
        Ok(self.tables().status(now))
    }

    async fn late_results(&self, id: OperationId) -> Result<Vec<LateResult>, Error> {
        Ok(self.tables().operations.get(&id).map(|row| row.late.clone()).unwrap_or_default())
    }

    async fn payloads(&self, id: OperationId) -> Result<Vec<(u64, Payload)>, Error> {
        Ok(self.tables().operations.get(&id).map(|row| row.payloads.clone()).unwrap_or_default())
    }

    async fn switches(&self) -> Result<Vec<Switch>, Error> {
        Ok(self.tables().switches.values().cloned().collect())
    }

    async fn follow(&self, after: u64, limit: usize) -> Result<Vec<StoredEntry>, Error> {
        Ok(self.tables().follow(after, limit))
    }

    async fn audit(&self) -> Result<Audit, Error> {
        Ok(self.tables().audit())
    }

    async fn stuck(&self) -> Result<Vec<OperationId>, Error> {
        Ok(self.tables().stuck())
    }
}

#[async_trait]
impl OperationLog for MemoryLog {
    async fn open_session(&self, engine: &str, lease: Duration) -> Result<Session, Error> {
        self.write(|tables, now| Ok(tables.open_session(engine, lease, now)))
    }

    async fn renew_session(&self, session: SessionId) -> Result<Timestamp, Error> {
        self.write(|tables, now| tables.renew_session(session, now))
    }

    async fn close_session(&self, session: SessionId) -> Result<(), Error> {
        self.write(|tables, now| {
            tables.close_session(session, now);
            Ok(())
        })
    }

    async fn append(&self, append: Arc<Append>) -> Result<Recorded, Error> {
        let append = Arc::unwrap_or_clone(append);
        self.write(|tables, now| tables.append(append, now))
    }

    async fn repeat(&self, repeat: Repeat) -> Result<AlertRecord, Error> {
        self.write(|tables, _| tables.repeat(&repeat))
    }

    async fn join(&self, join: Join) -> Result<Delivered, Error> {
        self.write(|tables, _| tables.join(join))
    }

    async fn post(&self, post: Post) -> Result<Posted, Error> {
        self.write(|tables, now| tables.post(post, now))
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>, Error> {
        self.write(|tables, now| tables.claim(&request, now))
    }

    async fn hold_until(
        &self,
        session: SessionId,
        operation: OperationId,
        epoch: Epoch,
        due: Timestamp,
    ) -> Result<(), Error> {
        self.write(|tables, now| tables.hold_until(session, operation, epoch, due, now))
    }

    async fn give_up(&self, session: SessionId, operation: OperationId, epoch: Epoch) -> Result<(), Error> {
        self.write(|tables, now| {
            tables.give_up(session, operation, epoch, now);
            Ok(())
        })
    }

    async fn inbox_waiting(&self, session: SessionId) -> Result<Vec<OperationId>, Error> {
        Ok(self.tables().inbox_waiting(session))
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, Error> {
        let now = self.now();
        Ok(self.tables().next_due(now))
    }

    async fn keep_late(&self, late: LateResult) -> Result<(), Error> {
        self.write(|tables, _| tables.keep_late(late))
    }

    async fn outbox_due(&self, request: OutboxRequest) -> Result<Vec<OutboxRow>, Error> {
        self.write(|tables, log_now| {
            tables.current(request.session, log_now)?;
            Ok(tables.outbox_due(&request, log_now))
        })
    }

    async fn outbox_settle(&self, session: SessionId, settled: OutboxSettled) -> Result<(), Error> {
        self.write(|tables, log_now| {
            tables.current(session, log_now)?;
            tables.outbox_settle(session, settled)
        })
    }

    async fn outbox_decide(&self, decision: OutboxDecision) -> Result<OutboxRow, Error> {
        self.write(|tables, _| tables.outbox_decide(&decision))
    }

    async fn set_switch(&self, key: &str, switch: Option<Switch>) -> Result<(), Error> {
        self.write(|tables, _| {
            tables.set_switch(key, switch);
            Ok(())
        })
    }

    async fn checkpoint(&self, now: Timestamp, key: Option<&[u8]>) -> Result<Checkpoint, Error> {
        self.write(|tables, _| Ok(tables.checkpoint(now, key)))
    }

    async fn archivable(&self, before: Timestamp, limit: usize) -> Result<Vec<Archived>, Error> {
        Ok(self.tables().archivable(before, limit))
    }

    async fn remove_archived(&self, archived: &[(OperationId, Hash)]) -> Result<u64, Error> {
        self.write(|tables, _| Ok(tables.remove_archived(archived)))
    }

    async fn erase_payloads(&self, id: OperationId) -> Result<u64, Error> {
        self.write(|tables, _| tables.erase_payloads(id))
    }

    fn wakeups(&self) -> watch::Receiver<u64> {
        self.0.wakeups.subscribe()
    }

    fn durability(&self) -> String {
        "memory: nothing survives the process".to_owned()
    }

    fn commits(&self) -> u64 {
        self.tables().commits
    }
}
