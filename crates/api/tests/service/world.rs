//! [`World`]: an engine on the log in memory, and the service in front of it on a free port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redress_api::{Door, EngineHealth, Limits, LogHealth, Service};
use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::{Filter, Head, MemoryLog, OperationHistory, OperationLog as _};
use redress_engine::strategy::{Step, Strategy};
use redress_engine::{Config, Engine, Observed};
use redress_testkit::{FaultyLog, Script, ScriptedCheck, ScriptedExecutor, SequentialIds, Target, TestClock};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::client::{Answer, Ask, Connection};

pub const WEBHOOK: &str = "/v1/integrations/alertmanager/webhook";

/// How long a submitted alert waits for the log in these tests.
pub const PATIENCE: Duration = Duration::from_millis(200);

pub struct World {
    pub address: SocketAddr,
    pub log: FaultyLog,
    pub engine: Arc<Engine>,
    pub door: Door,
    pub clock: TestClock,
    pub target: Target,
    pub stop: CancellationToken,
    pub serving: tokio::task::JoinHandle<()>,
    observed: broadcast::Receiver<Observed>,
}

impl World {
    /// A service whose operations succeed at once.
    pub async fn new() -> Self {
        Self::with(|service| service).await
    }

    pub async fn with(change: impl FnOnce(Service) -> Service) -> Self {
        Self::running(Script::default(), change).await
    }

    pub async fn limited(limit: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        limit(&mut limits);
        Self::with(|service| service.limits(limits)).await
    }

    /// A service whose operations do what the script says.
    pub async fn running(script: Script, change: impl FnOnce(Service) -> Service) -> Self {
        let clock = TestClock::new();
        let memory = MemoryLog::new(Arc::new(clock.clone()));
        Self::on(&memory, &clock, &SequentialIds::default(), script, change).await
    }

    /// A service with an engine of its own on this log.
    pub async fn on(
        memory: &MemoryLog,
        clock: &TestClock,
        ids: &SequentialIds,
        script: Script,
        change: impl FnOnce(Service) -> Service,
    ) -> Self {
        let log = FaultyLog::new(Arc::new(memory.clone()));
        let target = Target::new();
        let executor = ScriptedExecutor::new("do", Policy::Rerun, &target, script);
        let check = ScriptedCheck::healthy("check");
        let strategy = Strategy::builder("fix")
            .step(Step::new("roll back", &executor))
            .check(&check, Duration::from_secs(5))
            .build()
            .unwrap();
        let environment = redress_testkit::environment(clock, ids);
        let engine = Engine::builder(environment, Arc::new(log.clone()))
            .config(Config { submit_timeout: PATIENCE, ..Config::default() })
            .executor(executor)
            .check(check)
            .strategy(strategy)
            .start()
            .await
            .unwrap();
        let engine = Arc::new(engine);
        let observed = engine.observe();
        let door = Door::closed();
        door.open(Arc::clone(&engine));
        let history: Arc<dyn OperationHistory> = Arc::new(log.clone());
        let service = Service::new(door.clone(), Arc::clone(&history), Arc::new(clock.clone()))
            .dependency(Arc::new(LogHealth::new(Arc::clone(&history), log.durability())))
            .dependency(Arc::new(EngineHealth::new(door.clone(), history)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(change(service).serve(listener, stop.clone()));
        Self { address, log, engine, door, clock: clock.clone(), target, stop, serving, observed }
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, ask: Ask) -> Answer {
        Connection::open(self.address).await.ask(&ask).await
    }

    pub async fn get(&self, path: impl Into<String>) -> Answer {
        self.ask(Ask::get(path)).await
    }

    pub async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.ask(Ask::post(path, body)).await
    }

    /// Every operation there is, newest first.
    pub async fn operations(&self) -> Vec<Head> {
        self.log.operations(&Filter::default(), None, 1000).await.unwrap().operations
    }

    /// Waits until an operation has come to this state since the last call.
    pub async fn until(&mut self, state: State) {
        while self.observed.recv().await.unwrap().state() != state {}
    }
}
