//! [`World`]: a log in memory whose outbox is delivered through the executors under test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redress_action::{ActionExecutor, Call, CancellationToken, Error};
use redress_operation_log::conformance::fixture::{TestClock, Writer, new_alert};
use redress_operation_log::event::Saw;
use redress_operation_log::{
    Actor, Append, Entry, Event, Join, MemoryLog, Obligations, OperationHistory, OperationLog, OutboxOutcome,
    OutboxRequest, OutboxRow, OutboxSettled, Post, Request, SessionId,
};
use redress_persistence::{Persistence, PersistenceObligations, Settings};
use redress_types::{Alert, Clock as _, EffectKey, FencingToken, Level, Phase, Timestamp};

use crate::servers::{Db, Redis};

pub struct World {
    pub log: MemoryLog,
    pub clock: TestClock,
    session: SessionId,
    owes: PersistenceObligations,
    numbers: AtomicU64,
    /// Tables that last as long as the log, whoever else holds them.
    keeps: Option<Arc<Db>>,
}

/// An alert of service `shop`, version `1`.
pub fn alert(id: &str) -> Alert {
    let since = Timestamp::from_micros(1_767_225_540_123_456);
    let mut alert = Alert::new(id.parse().unwrap(), "shop", "shop does not answer", since);
    alert.fingerprint = redress_types::Fingerprint::over(&[id]);
    alert.version = "1".into();
    alert.level = Level::P1;
    alert
}

impl World {
    pub async fn new(cache: bool) -> Self {
        let clock = TestClock::default();
        let log = MemoryLog::new(Arc::new(clock.clone()));
        let session = log.open_session("test", Duration::from_secs(1_000_000)).await.unwrap().id;
        let owes = PersistenceObligations { cache };
        Self { log, clock, session, owes, numbers: AtomicU64::new(0), keeps: None }
    }

    /// With the step under test over these tables, and no cache.
    pub async fn over(db: &Db) -> (Self, Persistence) {
        let world = Self::new(false).await;
        let persistence = world.persistence(db, None).await;
        (world, persistence)
    }

    pub async fn persistence(&self, db: &Db, redis: Option<&Redis>) -> Persistence {
        let cache = redis.map(Redis::settings);
        self.open(Settings { cache, ..Settings::new(db.settings()) }).await.unwrap()
    }

    pub async fn open(&self, settings: Settings) -> Result<Persistence, redress_persistence::Error> {
        let history: Arc<dyn OperationHistory> = Arc::new(self.log.clone());
        Persistence::open(settings, history, Arc::new(self.clock.clone())).await
    }

    /// An operation that this alert is about to start.
    pub fn story(&self, alert: Alert) -> Writer {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let mut writer = Writer::new(self.session, number, alert.id.as_str());
        writer.target = alert.target();
        writer.alert = alert;
        writer
    }

    /// One that was accepted for an alert of this id, and waits.
    pub async fn accepted(&self, id: &str) -> Writer {
        let mut writer = self.story(alert(id));
        self.begin(&mut writer, vec![]).await;
        writer
    }

    /// One whose first step is under way, accepted in the same entry.
    pub async fn acting(&self, id: &str) -> Writer {
        let mut writer = self.story(alert(id));
        self.begin_acting(&mut writer).await;
        writer
    }

    /// Accepts, and begins the first step in the same entry.
    pub async fn begin_acting(&self, writer: &mut Writer) {
        self.begin(writer, writer.admitted()).await;
    }

    /// Begins the first step of what was accepted before.
    pub async fn admit(&self, writer: &mut Writer) {
        self.then(writer, writer.admitted()).await;
    }

    /// Accepts, and these events in the same entry.
    pub async fn begin(&self, writer: &mut Writer, more: Vec<Event>) {
        let append = writer.begin(self.clock.now(), more);
        self.append(writer, append).await;
    }

    /// As [`Self::begin`], as run `n` of the alert `base`.
    pub async fn begin_run(&self, writer: &mut Writer, base: &str, n: u32, more: Vec<Event>) {
        let mut append = writer.begin(self.clock.now(), more);
        if let Some(begin) = &mut append.begin {
            (begin.alert.base, begin.alert.n) = (base.parse().unwrap(), n);
        }
        self.append(writer, append).await;
    }

    /// One more entry, a second later.
    pub async fn then(&self, writer: &mut Writer, events: Vec<Event>) {
        self.clock.advance(Duration::from_secs(1));
        let append = writer.next(self.clock.now(), events);
        self.append(writer, append).await;
    }

    async fn append(&self, writer: &mut Writer, mut append: Append) {
        let entry: Entry = serde_json::from_slice(&append.body).unwrap();
        let mut after = writer.clone();
        after.took(&append);
        append.outbox = self.owes.owed(after.operation.as_ref().unwrap(), &entry.events);
        writer.append(&self.log, append).await.unwrap();
    }

    /// Counts another alert on an operation.
    pub async fn join(&self, writer: &mut Writer, alert: Alert) {
        let record = new_alert(&alert, self.clock.now());
        let alert = Arc::new(alert);
        let actor = Actor("test".into());
        let join = Join { operation: writer.id, alert: record, content: Arc::clone(&alert), actor };
        let request = self.log.join(join).await.unwrap().request;
        self.then(writer, vec![Event::AlertJoined { request, alert }]).await;
    }

    /// The source says that the alert is over, and the operation is skipped for it.
    pub async fn resolve(&self, writer: &mut Writer) {
        let (alert, ends_at, at) = (writer.alert.id.clone(), self.clock.now(), self.clock.now());
        let request = Request::Resolved { alert: alert.clone(), ends_at };
        let post =
            Post { operation: writer.id, key: "resolved".into(), request, actor: Actor("test".into()), at };
        let request = self.log.post(post).await.unwrap().request;
        let skipped = Event::Skipped { reason: "resolved at its source before anything was done".into() };
        self.then(writer, vec![Event::AlertResolved { request, alert, ends_at }, skipped]).await;
    }

    /// Through both steps and the checks to Restored.
    pub async fn restore(&self, writer: &mut Writer) {
        let second = writer.key(1);
        let intent = Event::StepStarted { key: second, step: "warm up".into() };
        self.then(writer, vec![writer.succeeded(0), intent]).await;
        self.then(writer, vec![writer.succeeded(1), Event::VerificationStarted]).await;
        let detail = "healthy: 200 in 12 ms".to_owned();
        let seen = Event::ChecksObserved { saw: Saw::Healthy, detail: detail.clone() };
        let passed = Event::VerificationPassed { passes: 2, held_ms: 5_000, independent: true, detail };
        self.then(writer, vec![seen, passed]).await;
    }

    /// From the first step to a failure for good, without its compensation.
    pub async fn fail(&self, writer: &mut Writer, reason: &str) {
        let (key, known_by) = (writer.key(0), redress_operation_log::event::KnownBy::Answer);
        let failed = Event::StepFailed { key, error: reason.into(), known_by, took_ms: 1_500 };
        let owes = redress_operation_log::event::Owed::Failed;
        let compensating = Event::CompensationStarted { owes, reason: reason.into() };
        let not_run = Event::StepNotRun { step: 0 };
        self.then(writer, vec![failed, compensating]).await;
        self.clock.advance(Duration::from_secs(60));
        self.then(writer, vec![not_run, Event::CompensatedToFailed]).await;
    }

    /// The rows that are due for these executors, taken.
    async fn due(&self, executors: &[Arc<dyn ActionExecutor>]) -> Vec<OutboxRow> {
        let now = self.clock.now();
        let executors = executors.iter().map(|executor| executor.name().to_owned()).collect();
        let until = now.plus(Duration::from_secs(60));
        let request = OutboxRequest { session: self.session, now, until, limit: 100, executors };
        self.log.outbox_due(request).await.unwrap()
    }

    /// Delivers what is due until nothing is; answers what went wrong.
    pub async fn deliver(&self, persistence: &Persistence) -> Vec<Error> {
        let executors = persistence.executors();
        let mut errors = Vec::new();
        loop {
            let rows = self.due(&executors).await;
            if rows.is_empty() {
                return errors;
            }
            for row in rows {
                let executor = executors.iter().find(|executor| executor.name() == row.executor).unwrap();
                let how = match executor.execute(&call(&row)).await {
                    Ok(_) => OutboxOutcome::Done,
                    Err(error) => {
                        let at = self.clock.now().plus(Duration::from_secs(5));
                        errors.push(error.clone());
                        match error {
                            Error::Permanent { reason } => OutboxOutcome::Handed { error: reason.into() },
                            other @ (Error::Retryable { .. } | Error::Unknown { .. }) => {
                                OutboxOutcome::Again { at, error: other.to_string() }
                            }
                        }
                    }
                };
                let (position, index, at) = (row.position, row.index, self.clock.now());
                let settled = OutboxSettled { position, index, at, how };
                self.log.outbox_settle(self.session, settled).await.unwrap();
            }
        }
    }

    /// Delivers everything, which must go well.
    pub async fn deliver_all(&self, persistence: &Persistence) {
        assert_eq!(self.deliver(persistence).await, []);
        assert_eq!(self.log.outbox_owed(10).await.unwrap(), []);
    }

    /// Calls the executor for every row of an operation again, as after a lost answer.
    pub async fn repeat(&self, persistence: &Persistence, writer: &Writer) {
        for row in self.log.outbox_of(writer.id).await.unwrap() {
            for executor in persistence.executors() {
                if executor.name() == row.executor {
                    executor.execute(&call(&row)).await.unwrap();
                }
            }
        }
    }
}

/// The call that the engine makes for a row.
pub fn call(row: &OutboxRow) -> Call {
    let attempt = u32::try_from(row.seq).unwrap();
    Call {
        key: EffectKey { operation: row.operation, phase: Phase::Outbox, attempt, step: row.index },
        fencing: FencingToken::default(),
        try_number: row.tries + 1,
        alert: Arc::new(alert("unused")),
        target: alert("unused").target(),
        configuration: Arc::new(serde_json::Value::Null),
        parameters: Arc::new(serde_json::from_slice(&row.content).unwrap()),
        timeout: Duration::from_secs(30),
        cancel: CancellationToken::new(),
    }
}

/// All of it: tables in SQLite, and a Redis of the test's own.
pub struct Cached {
    pub db: Arc<Db>,
    pub redis: Redis,
    pub world: World,
    pub persistence: Persistence,
}

pub async fn cached() -> Cached {
    let (db, redis, mut world) = (Arc::new(Db::sqlite()), Redis::start(), World::new(true).await);
    world.keeps = Some(Arc::clone(&db));
    let persistence = world.persistence(&db, Some(&redis)).await;
    Cached { db, redis, world, persistence }
}
