//! [`FaultyLog`]: any log, with failures and stops where a test wants them.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redress_operation_log::{
    AlertRecord, Append, Archived, Audit, Checkpoint, ClaimRequest, Claimed, Cursor, Delivered, Error,
    Filter, Head, InboxRow, Join, LateResult, LogStatus, OperationHistory, OperationLog, OutboxDecision,
    OutboxRequest, OutboxRow, OutboxSettled, Page, Payload, Post, Posted, Recorded, Repeat, Session,
    SessionId, StoredEntry, Switch,
};
use redress_strategy::{PlanHash, StoredPlan};
use redress_types::{AlertId, Epoch, Hash, OperationId, Timestamp};

use crate::crash::Crash;
use crate::gate::Gate;

/// A moment in the life of a call to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The method, by its name in the trait.
    pub method: &'static str,
    /// Which call of this method, from 1.
    pub call: u64,
    /// Before or after it did its work.
    pub when: When,
}

/// Before or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before: a failure here means that nothing happened.
    Before,
    /// After: a failure here means that it happened and its answer was lost.
    After,
}

/// What happens at a moment.
#[derive(Clone, Debug)]
pub enum Act {
    /// Nothing special.
    GoOn,
    /// The call fails with [`Error::Unavailable`]: nobody knows whether it happened.
    Fail,
    /// The engine ends here, see [`Crash`].
    Crash,
    /// The call waits here until the gate is open.
    Wait(Gate),
}

type Hook = Arc<dyn Fn(Moment) -> Act + Send + Sync>;

/// Wraps a log for one engine. What it does at each moment is decided by a hook; without one it changes nothing.
///
/// Give each engine a wrapper of its own, over the same log, so that each can crash by itself.
#[derive(Clone)]
pub struct FaultyLog {
    log: Arc<dyn OperationLog>,
    crash: Crash,
    calls: Arc<Mutex<HashMap<&'static str, u64>>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl FaultyLog {
    /// A wrapper that changes nothing yet.
    pub fn new(log: Arc<dyn OperationLog>) -> Self {
        Self::in_process(log, &Crash::never())
    }

    /// A wrapper whose calls end with this crash. Every append and join has crash points before and after it.
    pub fn in_process(log: Arc<dyn OperationLog>, crash: &Crash) -> Self {
        Self { log, crash: crash.clone(), calls: Arc::default(), hook: Arc::default() }
    }

    /// From now on this decides. It is called for every call of every method, before and after.
    pub fn hook(&self, hook: impl Fn(Moment) -> Act + Send + Sync + 'static) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// Does `act` once: at the `call`th call of `method` from now on, counted from 1.
    pub fn once(&self, method: &'static str, call: u64, when: When, act: Act) {
        let call = self.count(method) + call;
        let moment = Moment { method, call, when };
        self.hook(move |now| if now == moment { act.clone() } else { Act::GoOn });
    }

    /// How often a method was called.
    pub fn count(&self, method: &'static str) -> u64 {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).get(method).copied().unwrap_or(0)
    }

    async fn at(&self, method: &'static str, call: u64, when: When) -> Result<(), Error> {
        if matches!(method, "append" | "join") {
            self.crash.point(&format!("{when:?} {method} {call}").to_lowercase()).await;
        }
        self.crash.stand_still().await;
        let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match hook.map_or(Act::GoOn, |hook| hook(Moment { method, call, when })) {
            Act::GoOn => Ok(()),
            Act::Wait(gate) => {
                gate.pass().await;
                self.crash.stand_still().await;
                Ok(())
            }
            Act::Crash => {
                self.crash.now();
                self.crash.stand_still().await;
                Ok(())
            }
            Act::Fail => {
                let what = format!("{method} {call} failed {when:?}, as the test wants").to_lowercase();
                Err(Error::Unavailable { what, source: None })
            }
        }
    }

    async fn through<T>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let call = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let count = calls.entry(method).or_default();
            *count += 1;
            *count
        };
        self.at(method, call, When::Before).await?;
        let done = work.await;
        self.at(method, call, When::After).await?;
        done
    }
}

impl std::fmt::Debug for FaultyLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyLog").field("crash", &self.crash).finish_non_exhaustive()
    }
}

/// The methods that only pass on: name, arguments, answer.
macro_rules! pass_on {
    ($($name:ident($($argument:ident: $of:ty),*) -> $answer:ty;)*) => {
        $(
            fn $name<'life, 'out>(
                &'life self,
                $($argument: $of,)*
            ) -> std::pin::Pin<Box<dyn Future<Output = Result<$answer, Error>> + Send + 'out>>
            where
                'life: 'out,
                Self: 'out,
            {
                Box::pin(self.through(stringify!($name), self.log.$name($($argument),*)))
            }
        )*
    };
}

#[async_trait]
impl OperationHistory for FaultyLog {
    pass_on! {
        operation(id: OperationId) -> Option<Head>;
        entries(id: OperationId, after: u64, limit: usize) -> Vec<StoredEntry>;
        plan(hash: PlanHash) -> Option<Arc<StoredPlan>>;
        alerts_of(id: OperationId) -> Vec<AlertRecord>;
        inbox(id: OperationId, after: u64) -> Vec<InboxRow>;
        outbox_of(id: OperationId) -> Vec<OutboxRow>;
        outbox_owed(limit: usize) -> Vec<OutboxRow>;
        status() -> LogStatus;
        late_results(id: OperationId) -> Vec<LateResult>;
        payloads(id: OperationId) -> Vec<(u64, Payload)>;
        switches() -> Vec<Switch>;
        follow(after: u64, limit: usize) -> Vec<StoredEntry>;
        audit() -> Audit;
        stuck() -> Vec<OperationId>;
    }

    async fn find(&self, text: &str, limit: usize) -> Result<Vec<Head>, Error> {
        self.through("find", self.log.find(text, limit)).await
    }

    async fn operations(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page, Error> {
        self.through("operations", self.log.operations(filter, after, limit)).await
    }

    async fn alert(&self, id: &AlertId) -> Result<Option<AlertRecord>, Error> {
        self.through("alert", self.log.alert(id)).await
    }

    async fn by_fingerprint(&self, fingerprint: &str) -> Result<Option<OperationId>, Error> {
        self.through("by_fingerprint", self.log.by_fingerprint(fingerprint)).await
    }
}

#[async_trait]
impl OperationLog for FaultyLog {
    pass_on! {
        renew_session(session: SessionId) -> Timestamp;
        close_session(session: SessionId) -> ();
        append(append: Arc<Append>) -> Recorded;
        repeat(repeat: Repeat) -> AlertRecord;
        join(join: Join) -> Delivered;
        post(post: Post) -> Posted;
        claim(request: ClaimRequest) -> Vec<Claimed>;
        hold_until(session: SessionId, operation: OperationId, epoch: Epoch, due: Timestamp) -> ();
        give_up(session: SessionId, operation: OperationId, epoch: Epoch) -> ();
        inbox_waiting(session: SessionId) -> Vec<OperationId>;
        next_due() -> Option<Timestamp>;
        keep_late(late: LateResult) -> ();
        outbox_due(request: OutboxRequest) -> Vec<OutboxRow>;
        outbox_decide(decision: OutboxDecision) -> OutboxRow;
        outbox_settle(session: SessionId, settled: OutboxSettled) -> ();
        erase_payloads(id: OperationId) -> u64;
        archivable(before: Timestamp, limit: usize) -> Vec<Archived>;
    }

    async fn open_session(&self, engine: &str, lease: Duration) -> Result<Session, Error> {
        self.through("open_session", self.log.open_session(engine, lease)).await
    }

    async fn set_switch(&self, key: &str, switch: Option<Switch>) -> Result<(), Error> {
        self.through("set_switch", self.log.set_switch(key, switch)).await
    }

    async fn checkpoint(&self, now: Timestamp, key: Option<&[u8]>) -> Result<Checkpoint, Error> {
        self.through("checkpoint", self.log.checkpoint(now, key)).await
    }

    async fn remove_archived(&self, archived: &[(OperationId, Hash)]) -> Result<u64, Error> {
        self.through("remove_archived", self.log.remove_archived(archived)).await
    }

    fn wakeups(&self) -> tokio::sync::watch::Receiver<u64> {
        self.log.wakeups()
    }

    fn durability(&self) -> String {
        self.log.durability()
    }

    fn commits(&self) -> u64 {
        self.log.commits()
    }
}
