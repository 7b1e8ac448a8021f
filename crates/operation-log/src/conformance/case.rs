//! [`Case`]: one promise under test on one fresh log, and [`Whole`]: everything that can be read of a log.

use std::fmt::Debug;
use std::sync::Arc;

use redress_types::{AlertId, Clock as _, OperationId, Timestamp};

use super::Harness;
use super::fixture::{TestClock, Writer, seconds};
use crate::entry::{StoredEntry, Versions};
use crate::error::Error;
use crate::log::OperationLog;
use crate::record::{
    AlertRecord, Append, Claim, ClaimRequest, Claimed, Head, InboxRow, LateResult, OutboxRow, Recorded, Sum,
    Switch,
};
use crate::session::SessionId;

/// The lease of every session that a case opens.
pub(super) const LEASE: std::time::Duration = seconds(30);

/// One promise under test.
pub struct Case<'a> {
    promise: &'static str,
    harness: &'a mut dyn Harness,
    /// The log under test.
    pub log: Arc<dyn OperationLog>,
    /// The log's own clock.
    pub clock: TestClock,
    skipped: Option<&'static str>,
    writers: u64,
}

impl<'a> Case<'a> {
    /// A case on a fresh log.
    pub fn new(promise: &'static str, harness: &'a mut dyn Harness) -> Self {
        let (log, clock) = (harness.log(), harness.clock());
        Self { promise, harness, log, clock, skipped: None, writers: 0 }
    }

    /// Why it was skipped, if it was.
    pub fn skipped(&self) -> Option<&'static str> {
        self.skipped
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn later(&self, by: u64) -> Timestamp {
        self.now().plus(seconds(by))
    }

    pub(super) fn pass(&self, by: u64) {
        self.clock.advance(seconds(by));
    }

    /// Whether two engines can be at the log; notes that the case is skipped otherwise.
    pub(super) fn has_several_engines(&mut self) -> bool {
        if !self.harness.several_engines() {
            self.skipped = Some("the log allows one engine");
        }
        self.harness.several_engines()
    }

    /// Closes the log and opens it again; notes that the case is skipped when nothing survives that.
    pub(super) async fn reopen(&mut self) -> bool {
        // The suite lets go of its own handle first: a file may allow one.
        self.log = Arc::new(crate::memory::MemoryLog::new(Arc::new(self.clock.clone())));
        let reopened = self.harness.reopen().await;
        self.log = self.harness.log();
        if !reopened {
            self.skipped = Some("nothing of this log survives it");
        }
        reopened
    }

    pub(super) async fn session(&self) -> SessionId {
        self.ok(self.log.open_session("conformance", LEASE).await, "a session opens").id
    }

    /// The session that comes after `first`, which it closes where the log allows one engine.
    pub(super) async fn next_session(&self, first: SessionId) -> SessionId {
        if !self.harness.several_engines() {
            self.ok(self.log.close_session(first).await, "a session is closed");
        }
        self.session().await
    }

    /// A writer for a new operation and alert.
    pub(super) fn writer(&mut self, session: SessionId) -> Writer {
        self.writers += 1;
        Writer::new(session, self.writers, &format!("alert-{}", self.writers))
    }

    /// A writer whose operation has begun and stands Received, held.
    pub(super) async fn begun(&mut self, session: SessionId) -> Writer {
        let mut writer = self.writer(session);
        let append = writer.begin(self.now(), vec![]);
        self.record(&mut writer, append).await;
        writer
    }

    /// A writer whose operation has begun and waits until then, held by nobody.
    pub(super) async fn waiting(&mut self, session: SessionId, wake_at: Option<Timestamp>) -> Writer {
        let mut writer = self.writer(session);
        let mut append = writer.begin(self.now(), vec![]);
        (append.standing.held, append.standing.wake_at) = (false, wake_at);
        self.record(&mut writer, append).await;
        writer
    }

    pub(super) async fn record(&self, writer: &mut Writer, append: Append) -> Recorded {
        self.ok(writer.append(&*self.log, append).await, "the append is recorded")
    }

    pub(super) async fn head(&self, id: OperationId) -> Head {
        let head = self.ok(self.log.operation(id).await, "a head is read");
        head.unwrap_or_else(|| self.broken(&format!("operation {id} is not there")))
    }

    pub(super) async fn claim(&self, session: SessionId, limit: usize) -> Vec<Claimed> {
        let (now, due) = (self.now(), self.later(600));
        let request = ClaimRequest {
            session,
            now,
            limit,
            reads: Versions::CURRENT,
            unable: vec![],
            driven: vec![],
            due,
        };
        self.ok(self.log.claim(request).await, "claiming works")
    }

    pub(super) async fn claimed(&self, session: SessionId) -> Vec<OperationId> {
        self.claim(session, 100).await.iter().map(|claimed| claimed.operation).collect()
    }

    pub(super) fn ok<T>(&self, result: Result<T, Error>, what: &str) -> T {
        result.unwrap_or_else(|error| self.broken(&format!("{what}, but the answer is: {error} ({error:?})")))
    }

    #[track_caller]
    pub(super) fn that(&self, holds: bool, what: &str) {
        if !holds {
            self.broken(&format!("not so: {what}"));
        }
    }

    #[track_caller]
    pub(super) fn same<T: PartialEq + Debug>(&self, found: T, expected: T, what: &str) {
        if found != expected {
            self.broken(&format!("{what}\n  found    {found:?}\n  expected {expected:?}"));
        }
    }

    #[track_caller]
    pub(super) fn broken(&self, what: &str) -> ! {
        panic!("the log does not keep a promise: {}\n  {what}", self.promise)
    }

    pub(super) async fn whole(&self) -> Whole {
        self.ok(Whole::of(&*self.log).await, "everything is read")
    }
}

/// Everything that can be read of a log, but for what a refused call may change (positions given out).
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// Every head, in position order.
    pub heads: Vec<Head>,
    /// What each session appended.
    pub sums: Vec<Sum>,
    /// What was archived.
    pub archived: Sum,
    /// Every claim.
    pub claims: Vec<(Claim, OperationId)>,
    /// Alert ids that lead nowhere.
    pub orphans: Vec<AlertId>,
    /// Every entry, in position order.
    pub entries: Vec<StoredEntry>,
    /// What lies beside each operation.
    pub beside: Vec<Beside>,
    /// Every switch.
    pub switches: Vec<Switch>,
    /// What nothing will wake.
    pub stuck: Vec<OperationId>,
}

/// What lies beside an operation's entries.
#[derive(Clone, Debug, PartialEq)]
pub struct Beside {
    /// Its alerts.
    pub alerts: Vec<AlertRecord>,
    /// Its inbox.
    pub inbox: Vec<InboxRow>,
    /// Its outbox.
    pub outbox: Vec<OutboxRow>,
    /// Its late results.
    pub late: Vec<LateResult>,
}

impl Whole {
    /// Reads it.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn of(log: &dyn OperationLog) -> Result<Self, Error> {
        let mut audit = log.audit().await?;
        audit.claims.sort();
        audit.sums.sort_by_key(|sum| sum.session);
        audit.orphans.sort();
        let mut beside = Vec::with_capacity(audit.heads.len());
        for head in &audit.heads {
            beside.push(Beside {
                alerts: log.alerts_of(head.id).await?,
                inbox: log.inbox(head.id, 0).await?,
                outbox: log.outbox_of(head.id).await?,
                late: log.late_results(head.id).await?,
            });
        }
        let mut switches = log.switches().await?;
        switches.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self {
            heads: audit.heads,
            // A session that has appended nothing may or may not have a sum.
            sums: audit.sums.into_iter().filter(|sum| sum.entries > 0).collect(),
            archived: audit.archived,
            claims: audit.claims,
            orphans: audit.orphans,
            entries: log.follow(0, 1_000_000).await?,
            beside,
            switches,
            stuck: log.stuck().await?,
        })
    }
}

/// The append is refused with this error, and nothing was written.
macro_rules! refused {
    ($case:expr, $append:expr, $($error:tt)+) => {{
        let before = $case.whole().await;
        let answer = $case.log.append($append.into()).await;
        if !matches!(&answer, Err($($error)+)) {
            $case.broken(&format!("expected {}, the answer is {answer:?}", stringify!($($error)+)));
        }
        $case.same(&$case.whole().await, &before, "a refused append writes nothing");
    }};
}
pub(super) use refused;

/// The call fails with this error.
macro_rules! fails {
    ($case:expr, $call:expr, $($error:tt)+) => {{
        let answer = $call.await;
        if !matches!(&answer, Err($($error)+)) {
            $case.broken(&format!("expected {}, the answer is {answer:?}", stringify!($($error)+)));
        }
    }};
}
pub(super) use fails;
