//! The traits: [`OperationHistory`] reads, [`OperationLog`] writes. What only reads cannot write, by type.
//!
//! Every promise that an adapter author must keep stands here and is held by `crate::conformance`.
//! The records are in [`crate::record`].

use async_trait::async_trait;
use redress_strategy::{PlanHash, StoredPlan};
use redress_types::{AlertId, Epoch, OperationId, Timestamp};
use std::sync::Arc;

use crate::entry::StoredEntry;
use crate::error::Error;
use crate::record::{
    AlertRecord, Append, Archived, Audit, Checkpoint, ClaimRequest, Claimed, Cursor, Delivered, Filter, Head,
    InboxRow, Join, LateResult, LogStatus, OutboxDecision, OutboxRequest, OutboxRow, OutboxSettled, Page,
    Payload, Post, Posted, Recorded, Repeat, Switch,
};
use crate::session::{Session, SessionId};

/// Reads. Never blocks a writer, and needs no session.
///
/// Cancellation safety: every method may be dropped at any await.
#[async_trait]
pub trait OperationHistory: Send + Sync + 'static {
    /// The head of one operation.
    async fn operation(&self, id: OperationId) -> Result<Option<Head>, Error>;

    /// The operations whose UUID or readable name starts or ends with `text`; at most `limit`, newest first.
    async fn find(&self, text: &str, limit: usize) -> Result<Vec<Head>, Error>;

    /// A page of operations, newest first.
    async fn operations(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page, Error>;

    /// The entries of one operation with a seq above `after`, oldest first, at most `limit`.
    async fn entries(&self, id: OperationId, after: u64, limit: usize) -> Result<Vec<StoredEntry>, Error>;

    /// A stored plan.
    async fn plan(&self, hash: PlanHash) -> Result<Option<Arc<StoredPlan>>, Error>;

    /// What is known of an alert id, for ever.
    async fn alert(&self, id: &AlertId) -> Result<Option<AlertRecord>, Error>;

    /// The alerts that led to an operation, in the order they came.
    async fn alerts_of(&self, id: OperationId) -> Result<Vec<AlertRecord>, Error>;

    /// The not ended operation that counts this fingerprint.
    async fn by_fingerprint(&self, fingerprint: &str) -> Result<Option<OperationId>, Error>;

    /// The inbox rows of an operation with a seq above `after`, in order.
    async fn inbox(&self, id: OperationId, after: u64) -> Result<Vec<InboxRow>, Error>;

    /// The outbox rows of an operation, in order.
    async fn outbox_of(&self, id: OperationId) -> Result<Vec<OutboxRow>, Error>;

    /// Outbox rows that are owed or that a person has, in position order; at most `limit`.
    async fn outbox_owed(&self, limit: usize) -> Result<Vec<OutboxRow>, Error>;

    /// How the log stands. Answered by the log itself, so that an answer says that it can be reached.
    async fn status(&self) -> Result<LogStatus, Error>;

    /// Results that came too late to count, in the order they came.
    async fn late_results(&self, id: OperationId) -> Result<Vec<LateResult>, Error>;

    /// The payloads that lie beside the entries of an operation and were not erased, each with the seq of its
    /// entry: by seq, and in the order in which the append brought them.
    async fn payloads(&self, id: OperationId) -> Result<Vec<(u64, Payload)>, Error>;

    /// Every switch that is off.
    async fn switches(&self) -> Result<Vec<Switch>, Error>;

    /// Entries with a position above `after`, in order, at most `limit`, up to a horizon that no open
    /// transaction can still fill: a reader that continues from the last position it got misses nothing.
    async fn follow(&self, after: u64, limit: usize) -> Result<Vec<StoredEntry>, Error>;

    /// What the verifier compares with the entries: heads, sums, checkpoints, claims. One consistent view.
    async fn audit(&self) -> Result<Audit, Error>;

    /// The operations that are not ended and have no next wake-up, and the outbox rows that nobody will
    /// deliver (invariant 5). Must be empty at all times.
    async fn stuck(&self) -> Result<Vec<OperationId>, Error>;
}

/// Writes.
///
/// * An answer is given only after what it reports is durable.
/// * A call that failed with [`Error::Unavailable`] may or may not have happened. Each write can be repeated:
///   the same content again is answered as already recorded.
/// * Concurrent writes may share one commit; each learns its own outcome, and the failure of one is not the
///   failure of another.
///
/// Cancellation safety: a dropped call may or may not have happened, as after `Unavailable`.
#[async_trait]
pub trait OperationLog: OperationHistory {
    /// Opens a session for the engine of this name.
    ///
    /// # Errors
    /// [`Error::Held`] when the log allows one engine and another one has it.
    async fn open_session(&self, engine: &str, lease: std::time::Duration) -> Result<Session, Error>;

    /// Renews the lease; answers the log's own clock.
    ///
    /// # Errors
    /// [`Error::Stale`] when the session is over.
    async fn renew_session(&self, session: SessionId) -> Result<Timestamp, Error>;

    /// Ends a session: its operations are held by nobody and may be claimed at once. Repeatable.
    async fn close_session(&self, session: SessionId) -> Result<(), Error>;

    /// Adds one entry to an operation, or begins it (`expected_seq` 0), atomically with its head row, its
    /// claims, holds, outbox rows and alert record. The append is shared: who gets no answer sends the same one again.
    ///
    /// # Errors
    /// [`Error::Conflict`]: the head is elsewhere; reload. [`Error::DifferentContent`]: this seq stands with
    /// other content. [`Error::Stale`]: the session or the epoch is not current any more. [`Error::NotFolded`]:
    /// an ending append has not folded the whole inbox. [`Error::Lost`]: a claim belongs to another operation.
    /// [`Error::NotNow`]: a hold, a budget or a switch is in the way. [`Error::KnownAlert`]: the id is known.
    /// In all of these nothing was written.
    async fn append(&self, append: Arc<Append>) -> Result<Recorded, Error>;

    /// Counts another delivery of a known alert id, on the alert's record only.
    async fn repeat(&self, repeat: Repeat) -> Result<AlertRecord, Error>;

    /// Counts a new alert on an operation that has not ended: its alert record, its fingerprint's claim and an
    /// inbox row, together.
    ///
    /// # Errors
    /// [`Error::Lost`] when the fingerprint belongs to another operation, [`Error::Ended`] when this one ended,
    /// [`Error::KnownAlert`] when the id is known.
    async fn join(&self, join: Join) -> Result<Delivered, Error>;

    /// Leaves a request for the holder of an operation. The same key again answers the first row.
    ///
    /// # Errors
    /// [`Error::Ended`] when the operation ended, [`Error::NotFound`] when there is none,
    /// [`Error::DifferentContent`] when the key stands with another request.
    async fn post(&self, post: Post) -> Result<Posted, Error>;

    /// Takes operations that are due, held by nobody alive and such as the engine reads, under a higher epoch;
    /// oldest due first.
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>, Error>;

    /// Says that the holder of an operation shows a sign of life until then: its due time, without an entry.
    ///
    /// # Errors
    /// [`Error::Stale`] when the session is over or the operation is held under another epoch.
    async fn hold_until(
        &self,
        session: SessionId,
        operation: OperationId,
        epoch: Epoch,
        due: Timestamp,
    ) -> Result<(), Error>;

    /// Gives one operation up: nobody holds it, and it is due at once. When it waits for a claim that is free, the
    /// first other waiter that is not due yet is due too. Does nothing under another epoch.
    async fn give_up(&self, session: SessionId, operation: OperationId, epoch: Epoch) -> Result<(), Error>;

    /// The operations of this session with inbox rows that are not folded yet.
    async fn inbox_waiting(&self, session: SessionId) -> Result<Vec<OperationId>, Error>;

    /// When the next operation that nobody holds becomes due; `None`: none waits.
    async fn next_due(&self) -> Result<Option<Timestamp>, Error>;

    /// Keeps a result that came too late, with the reason, beside the log.
    async fn keep_late(&self, late: LateResult) -> Result<(), Error>;

    /// Outbox rows that are due, are the first of their order key and are for an executor that the engine has; at
    /// most `limit`, about in the order in which they became due. Each is taken by the session, until then or until
    /// the session is over. No row of an order key is given while another one of it is taken.
    async fn outbox_due(&self, request: OutboxRequest) -> Result<Vec<OutboxRow>, Error>;

    /// Records how the delivery of an outbox row went.
    async fn outbox_settle(&self, session: SessionId, settled: OutboxSettled) -> Result<(), Error>;

    /// Carries out what a person decided on an outbox row that is not delivered yet, as
    /// [`OutboxDecision::carry_out`] says; needs no session. Answers the row as it stands afterwards. A row that is
    /// being delivered at the moment is tried again only after that; once closed, its delivery does not count.
    ///
    /// # Errors
    /// [`Error::Unstorable`] when there is no such row, [`Error::DifferentContent`] when it was delivered or, for a
    /// retry, closed.
    async fn outbox_decide(&self, decision: OutboxDecision) -> Result<OutboxRow, Error>;

    /// Turns a switch off (`Some`) or on again (`None`). A change is announced by [`Self::wakeups`]; who was refused
    /// by the switch looks again within a minute, whatever end it had.
    async fn set_switch(&self, key: &str, switch: Option<Switch>) -> Result<(), Error>;

    /// Writes a checkpoint over everything appended so far, signed when `sign` is given.
    async fn checkpoint(&self, now: Timestamp, key: Option<&[u8]>) -> Result<Checkpoint, Error>;

    /// The whole of up to `limit` operations that ended before `before`, oldest first, ready to be written to
    /// an archive.
    async fn archivable(&self, before: Timestamp, limit: usize) -> Result<Vec<Archived>, Error>;

    /// Removes archived operations whose last hash is still the one given. Their alert ids stay for ever, with
    /// a digest of the outcome. Answers how many were removed.
    async fn remove_archived(&self, archived: &[(OperationId, redress_types::Hash)]) -> Result<u64, Error>;

    /// Removes the payloads of an operation that has ended, salts and all; its entries keep only their salted
    /// hashes. Answers how many were removed: erasing again answers 0. A copy made before (a backup, and what a
    /// file keeps of removed rows until it is rewritten) is not reached.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such operation, [`Error::Unstorable`] while it has not ended.
    async fn erase_payloads(&self, id: OperationId) -> Result<u64, Error>;

    /// Bumped whenever something may have become due that this process can know of: an inbox row, a freed
    /// slot, a changed switch, a closed session. A hint: it may come too often, and polling must find what it misses.
    fn wakeups(&self) -> tokio::sync::watch::Receiver<u64>;

    /// The durability of an acknowledged write, in the words of the backend, e.g. `wal, synchronous=full`.
    fn durability(&self) -> String;

    /// Transactions committed by this process so far.
    fn commits(&self) -> u64;
}
