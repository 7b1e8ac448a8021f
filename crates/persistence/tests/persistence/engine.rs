//! The whole way: a real engine on a log in memory, real tables, a real cache.

use std::sync::Arc;
use std::time::Duration;

use redress_action::{ActionExecutor, Call, Check, Error, InDoubt, Observation, Output};
use redress_engine::{Engine, Environment};
use redress_operation_log::{MemoryLog, OperationHistory, OperationLog};
use redress_persistence::{Persistence, Scope, Settings};
use redress_strategy::{Step, Strategy};
use redress_testkit::{Act, FaultyLog, When};
use redress_types::{Alert, Clock, Delivery, SystemClock};
use tokio::sync::watch;

use crate::servers::{Db, Redis};

struct RollBack;

#[async_trait::async_trait]
impl ActionExecutor for RollBack {
    fn name(&self) -> &str {
        "roll_back"
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Rerun
    }

    async fn execute(&self, call: &Call) -> Result<Output, Error> {
        if call.target.service == "stubborn" {
            return Err(Error::permanent("it does not roll back"));
        }
        Ok(Output::new("rolled back"))
    }
}

struct Answers;

#[async_trait::async_trait]
impl Check for Answers {
    fn name(&self) -> &str {
        "answers"
    }

    fn independent(&self) -> bool {
        true
    }

    async fn check(&self, _call: &Call) -> Observation {
        Observation::Healthy { detail: "it answers".into() }
    }
}

#[tokio::test]
#[ignore = "needs Postgres and Redis: ./test runs it"]
async fn what_an_engine_does_stands_in_tables_and_cache() {
    let (db, redis) = (Db::postgres().await, Redis::start());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let log: Arc<dyn OperationLog> = Arc::new(MemoryLog::new(Arc::clone(&clock)));
    let history: Arc<dyn OperationHistory> = Arc::clone(&log) as _;
    let settings = Settings { cache: Some(redis.settings()), ..Settings::new(db.settings()) };
    let persistence = Persistence::open(settings, Arc::clone(&history), clock).await.unwrap();
    let strategy = Strategy::builder("roll back")
        .step(Step::new("roll back", &RollBack).timeout(Duration::from_secs(10)))
        .check(&Answers, Duration::from_secs(2))
        .build()
        .unwrap();
    // What the engine settles in the outbox.
    let (tell, mut settled) = watch::channel(());
    let told = FaultyLog::new(log);
    told.hook(move |moment| {
        if (moment.method, moment.when) == ("outbox_settle", When::After) {
            tell.send_replace(());
        }
        Act::GoOn
    });
    let mut builder = Engine::builder(Environment::system(), Arc::new(told))
        .executor(RollBack)
        .check(Answers)
        .strategy(strategy)
        .obligations(persistence.obligations());
    for executor in persistence.executors() {
        builder = builder.shared_executor(executor);
    }
    let engine = builder.start().await.unwrap();
    let sender = engine.sender();
    for (id, service) in [("a", "shop"), ("b", "stubborn"), ("c", "cart")] {
        let alert = Alert::new(id.parse().unwrap(), service, "it is down", SystemClock.now());
        let receipt = sender.send(Delivery::firing(alert)).await.unwrap();
        receipt.settled().await.unwrap();
    }
    let all_delivered = async {
        loop {
            settled.borrow_and_update();
            if history.outbox_owed(1).await.unwrap().is_empty() {
                return;
            }
            settled.changed().await.unwrap();
        }
    };
    let delivered = tokio::time::timeout(Duration::from_secs(30), all_delivered).await;
    assert!(delivered.is_ok(), "{:?}", history.outbox_owed(10).await);
    engine.shutdown().await;
    assert_eq!(db.issues().await, ["a Closed Restored", "b Open InProcessing", "c Closed Restored"]);
    let see = redis.client().await;
    assert_eq!(see.members("alert:index:open").await, ["b"]);
    assert_eq!(see.members("alert:index:alert_state:Restored").await, ["a", "c"]);
    for id in ["a", "b", "c"] {
        assert_eq!(db.comments(id).await.len(), 1, "{id}");
    }
    let report = persistence.reconcile(Scope { dry_run: true, ..Scope::default() }).await.unwrap();
    assert!(report.is_clean() && report.issues == 3, "{report:?}");
    persistence.close().await;
}
