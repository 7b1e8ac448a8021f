//! [`World`]: one log, one clock, one target, and engines that come and go.

use std::sync::Arc;
use std::time::Duration;

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::event::Decision;
use redress_engine::operation_log::{
    Actor, Head, MemoryLog, Operation, OperationHistory as _, OperationLog, Post, Posted, Request, Switch,
};
use redress_engine::strategy::Builder as StrategyBuilder;
use redress_engine::strategy::{Step, Strategy};
use redress_engine::types::{Clock as _, Delivery, EffectKey, OperationId, Phase, Timestamp};
use redress_engine::{Builder, Engine, Receipt};
use redress_testkit::{
    Crash, FaultyLog, Script, ScriptedCheck, ScriptedExecutor, SequentialIds, Target, TestClock, judge,
};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);

/// What outlives an engine.
pub struct World {
    pub clock: TestClock,
    pub ids: SequentialIds,
    pub log: MemoryLog,
    pub target: Target,
    pub check: ScriptedCheck,
}

impl World {
    pub fn new() -> Self {
        let clock = TestClock::new();
        let log = MemoryLog::new(Arc::new(clock.clone()));
        let check = ScriptedCheck::healthy("check");
        Self { log, ids: SequentialIds::default(), target: Target::new(), check, clock }
    }

    pub fn seeing(check: ScriptedCheck) -> Self {
        Self { check, ..Self::new() }
    }

    /// An executor at this world's target.
    pub fn executor(&self, policy: Policy, script: Script) -> ScriptedExecutor {
        ScriptedExecutor::new("do", policy, &self.target, script)
    }

    /// A strategy of so many steps of the executor, with this world's check; 3 tries 1 to 8 s apart, 10 s each.
    pub fn strategy(&self, executor: &ScriptedExecutor, steps: usize) -> StrategyBuilder {
        let builder = Strategy::builder("fix").check(&self.check, 5 * SECOND).cooldown(Duration::ZERO);
        (0..steps).fold(builder, |builder, n| builder.step(step(executor, n)))
    }

    /// An engine over the log as it is.
    pub fn builder(&self) -> Builder {
        self.builder_on(Arc::new(self.log.clone()))
    }

    pub fn builder_on(&self, log: Arc<dyn OperationLog>) -> Builder {
        Engine::builder(redress_testkit::environment(&self.clock, &self.ids), log).check(self.check.clone())
    }

    /// A running engine with this executor and strategy.
    pub async fn engine(&self, executor: &ScriptedExecutor, strategy: StrategyBuilder) -> Engine {
        self.start(self.builder(), executor, strategy).await
    }

    pub async fn start(
        &self,
        builder: Builder,
        executor: &ScriptedExecutor,
        strategy: StrategyBuilder,
    ) -> Engine {
        builder.executor(executor.clone()).strategy(strategy.build().unwrap()).start().await.unwrap()
    }

    /// A running engine whose log can be made to fail, and the handle for that.
    pub async fn faulty(
        &self,
        executor: &ScriptedExecutor,
        strategy: StrategyBuilder,
    ) -> (Engine, FaultyLog) {
        let log = FaultyLog::new(Arc::new(self.log.clone()));
        let builder = self.builder_on(Arc::new(log.clone()));
        (self.start(builder, executor, strategy).await, log)
    }

    /// A running engine that can crash; what it runs ends with it.
    pub async fn mortal(
        &self,
        crash: &Crash,
        executor: &ScriptedExecutor,
        strategy: StrategyBuilder,
    ) -> Engine {
        let log = FaultyLog::in_process(Arc::new(self.log.clone()), crash);
        let check = self.check.clone().in_process(crash);
        let builder = self.builder_on(Arc::new(log)).check(check);
        self.start(builder, &executor.clone().in_process(crash), strategy).await
    }

    pub fn log_now(&self) -> Timestamp {
        self.clock.now()
    }

    pub async fn head(&self, id: OperationId) -> Head {
        self.log.operation(id).await.unwrap().unwrap()
    }

    pub async fn log_operation(&self, id: OperationId) -> Option<Head> {
        self.log.operation(id).await.unwrap()
    }

    pub async fn state(&self, id: OperationId) -> State {
        self.head(id).await.state
    }

    pub async fn fold(&self, id: OperationId) -> Operation {
        judge::fold(&self.log, &self.head(id).await).await.unwrap()
    }

    /// Waits, in virtual time, until the operation stands so; says where it stands instead after two hours.
    pub async fn until(&self, id: OperationId, what: &str, stands: impl Fn(&Head) -> bool) -> Head {
        let start = tokio::time::Instant::now();
        let mut pause = Duration::from_millis(5);
        loop {
            if let Some(head) = self.log.operation(id).await.unwrap()
                && stands(&head)
            {
                return head;
            }
            if start.elapsed() > 2 * HOUR {
                panic!("it never {what}: {}\n{:#?}", self.story(id).await, self.head(id).await);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(5 * SECOND);
        }
    }

    pub async fn until_state(&self, id: OperationId, state: State) -> Head {
        self.until(id, &format!("came to {state}"), |head| head.state == state).await
    }

    pub async fn until_ended(&self, id: OperationId) -> State {
        self.until(id, "ended", |head| head.state.is_ended()).await.state
    }

    /// The kinds of all events, a bar between two entries.
    pub async fn story(&self, id: OperationId) -> String {
        let entries = judge::entries(&self.log, id).await.unwrap();
        let kinds = |entry: &redress_engine::operation_log::Entry| {
            entry.events.iter().map(|event| event.kind().to_string()).collect::<Vec<_>>().join(" ")
        };
        entries.iter().map(kinds).collect::<Vec<_>>().join(" | ")
    }

    pub async fn post(&self, id: OperationId, key: &str, request: Request) -> Posted {
        let actor = Actor::local(1000);
        let post = Post { operation: id, key: key.into(), request, actor, at: self.clock.now() };
        self.log.post(post).await.unwrap()
    }

    pub async fn cancel(&self, id: OperationId) {
        self.post(id, "cancel", Request::Cancel { reason: "not wanted".into() }).await;
    }

    pub async fn decide(&self, id: OperationId, decision: Decision) {
        let request = Request::Verdict { decision, reason: "I looked".into() };
        self.post(id, &format!("{decision} {}", self.clock.now()), request).await;
    }

    pub async fn pause(&self, key: &str) {
        self.switch_off(key, None).await;
    }

    pub async fn pause_until(&self, key: &str, until: Timestamp) {
        self.switch_off(key, Some(until)).await;
    }

    async fn switch_off(&self, key: &str, until: Option<Timestamp>) {
        let switch = Switch {
            key: key.into(),
            by: Actor::local(1000),
            reason: "maintenance".into(),
            since: self.clock.now(),
            until,
        };
        self.log.set_switch(key, Some(switch)).await.unwrap();
    }

    pub async fn resume(&self, key: &str) {
        self.log.set_switch(key, None).await.unwrap();
    }

    /// How often step `step` of attempt `attempt` was done.
    pub fn effects(&self, operation: OperationId, attempt: u32, step: u32) -> u32 {
        self.target.seen(EffectKey { operation, phase: Phase::Rollback, attempt, step }).effects
    }

    pub fn calls(&self, operation: OperationId, attempt: u32, step: u32) -> u32 {
        self.target.seen(EffectKey { operation, phase: Phase::Rollback, attempt, step }).calls
    }

    pub fn compensations(&self, operation: OperationId, step: u32) -> u32 {
        let all = self.target.of(operation);
        let of = |key: &&EffectKey| key.phase == Phase::Compensation && key.step == step;
        all.keys().filter(of).map(|key| all[key].effects).sum()
    }

    /// The log and the world must be as they may be.
    pub async fn judge(&self) {
        let complaints = judge::complaints(&self.log, &self.target).await.unwrap();
        if complaints.is_empty() {
            return;
        }
        let mut stories = Vec::new();
        for head in judge::operations(&self.log).await.unwrap() {
            stories.push(format!("{}: {}", head.name, self.story(head.id).await));
        }
        panic!("{}\n{}", complaints.join("\n"), stories.join("\n"));
    }
}

/// Step number `n`: 3 tries, 1 to 8 s apart, 10 s each.
pub fn step(executor: &ScriptedExecutor, n: usize) -> Step {
    Step::new(format!("s{n}"), executor).timeout(10 * SECOND).tries(3, SECOND, 8 * SECOND)
}

/// Submits and gives the operation's id.
pub async fn accept(engine: &Engine, delivery: Delivery) -> OperationId {
    submit(engine, delivery).await.operation.unwrap()
}

pub async fn submit(engine: &Engine, delivery: Delivery) -> Receipt {
    engine.submit(delivery).await.unwrap()
}

/// How long something takes in virtual time.
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = tokio::time::Instant::now();
    let done = work.await;
    (done, start.elapsed())
}
