//! Lives a [`Plan`]: engines over one log in memory, and everything that happens to them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redress_action::{Call, Check, Observation};
use redress_engine::{Engine, Ids as _};
use redress_fsm::State;
use redress_operation_log::{
    Actor, Decision, MemoryLog, OperationLog as _, Post, Request, SessionId, Switch,
};
use redress_strategy::{Step, Strategy, Trigger};
use redress_types::{Clock as _, Delivery, OperationId};

use super::chance::Chance;
use super::generator::{ENGINES, Happening, Plan, StrategyPlan, TROUBLE};
use crate::{
    Act, Crash, Do, FaultyLog, Pager, Script, ScriptedExecutor, SequentialIds, Target, TestClock, alert,
    judge,
};

/// How long things may take to end once nothing goes wrong any more.
const AFTERWARDS: Duration = Duration::from_secs(6 * 3600);

/// What is there when a life is over.
pub struct Lived {
    /// The seed.
    pub seed: u64,
    /// The log.
    pub log: MemoryLog,
    /// The world.
    pub target: Target,
    /// Operations that an answered submit named.
    pub promised: Vec<OperationId>,
    /// Everything ended in time.
    pub ended: bool,
    /// Crashes that happened.
    pub crashes: u64,
    /// Who was called.
    pub pager: Pager,
}

/// Sees health as often as it is told to.
#[derive(Clone)]
struct Health {
    percent: Arc<AtomicU64>,
    chance: Arc<Mutex<Chance>>,
    crash: Crash,
}

#[async_trait::async_trait]
impl Check for Health {
    fn name(&self) -> &str {
        "health"
    }

    fn independent(&self) -> bool {
        true
    }

    async fn check(&self, _call: &Call) -> Observation {
        self.crash.stand_still().await;
        let detail = "as it happens".to_owned();
        let number = self.chance.lock().unwrap_or_else(PoisonError::into_inner).between(0, 99);
        match number < self.percent.load(Ordering::SeqCst) {
            true => Observation::Healthy { detail },
            false if number.is_multiple_of(4) => Observation::Inconclusive { detail },
            false => Observation::Unhealthy { detail },
        }
    }
}

struct Running {
    engine: Engine,
    crash: Crash,
    log: FaultyLog,
    session: SessionId,
}

struct World<'a> {
    plan: &'a Plan,
    clock: TestClock,
    log: MemoryLog,
    ids: SequentialIds,
    target: Target,
    health: Health,
    trouble: Arc<AtomicU64>,
    sessions: u64,
    crashes: u64,
    promised: Arc<Mutex<Vec<OperationId>>>,
    pager: Pager,
}

/// Lives a plan to its end.
pub async fn live(plan: &Plan) -> Lived {
    // The log's clock is right; the engines' may be stepped.
    let log = MemoryLog::new(Arc::new(TestClock::new()));
    let mut world = World {
        plan,
        clock: TestClock::new(),
        ids: SequentialIds::default(),
        target: Target::new(),
        health: Health {
            percent: Arc::new(AtomicU64::new(100)),
            chance: Arc::new(Mutex::new(Chance::of(plan.seed ^ 0xc0ff_ee00))),
            crash: Crash::never(),
        },
        trouble: Arc::new(AtomicU64::new(plan.trouble_percent)),
        log: log.clone(),
        sessions: 0,
        crashes: 0,
        promised: Arc::default(),
        pager: Pager::new(),
    };
    let mut engines = Vec::new();
    for _ in 0..ENGINES {
        engines.push(world.start().await);
    }
    let start = tokio::time::Instant::now();
    for (at, happening) in &plan.happenings {
        tokio::time::sleep_until(start + *at).await;
        world.happens(happening, &mut engines).await;
    }
    tokio::time::sleep_until(start + TROUBLE).await;
    // The longest fault that may still be under way.
    tokio::time::sleep(Duration::from_secs(130)).await;
    world.trouble.store(0, Ordering::SeqCst);
    world.health.percent.store(100, Ordering::SeqCst);
    let ended = world.comes_to_an_end().await;
    // What is owed at the end is delivered soon after it.
    tokio::time::sleep(Duration::from_secs(120)).await;
    for running in engines {
        running.engine.shutdown().await;
    }
    let promised = world.promised.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Lived {
        seed: plan.seed,
        log,
        target: world.target.clone(),
        promised,
        ended,
        crashes: world.crashes,
        pager: world.pager,
    }
}

impl World<'_> {
    #[expect(clippy::expect_used, reason = "a test helper: what the generator made must be valid")]
    async fn start(&mut self) -> Running {
        let crash = Crash::never();
        let log = FaultyLog::in_process(Arc::new(self.log.clone()), &crash);
        let health = Health { crash: crash.clone(), ..self.health.clone() };
        let environment = crate::environment(&self.clock, &self.ids);
        let mut builder = Engine::builder(environment, Arc::new(log.clone()))
            .check(health.clone())
            .escalation(self.pager.clone());
        for (number, strategy) in self.plan.strategies.iter().enumerate() {
            let executor = self.executor(number, strategy).in_process(&crash);
            let strategy = build(number, strategy, &executor, &health);
            builder = builder.executor(executor).strategy(strategy);
        }
        let engine = builder.start().await.expect("the plan can be run");
        self.sessions += 1;
        Running { engine, crash, log, session: SessionId(self.sessions) }
    }

    fn executor(&self, number: usize, strategy: &StrategyPlan) -> ScriptedExecutor {
        let (seed, trouble) = (self.plan.seed, Arc::clone(&self.trouble));
        let script = Script::by(move |key, call| {
            let mut mixed = seed ^ u64::from(call);
            for part in key.to_string().bytes() {
                mixed = mixed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(part);
            }
            act(&mut Chance::of(mixed), trouble.load(Ordering::SeqCst))
        });
        ScriptedExecutor::new(&format!("do{number}"), strategy.policy, &self.target, script)
    }

    async fn happens(&mut self, happening: &Happening, engines: &mut [Running]) {
        match happening {
            Happening::Alert { engine, id, problem, service, strategy, webhook } => {
                let described = alert::alert(&format!("a{id}"))
                    .problem(&problem.to_string())
                    .service(&format!("s{service}"))
                    .label("strategy", &strategy.to_string())
                    .label("deploy_id", &(problem % 3).to_string());
                let delivery = match webhook {
                    true => described.webhook(Duration::from_secs(300)),
                    false => described.native(),
                };
                self.submit(&engines[*engine], delivery);
            }
            Happening::Resolved { engine, id } => {
                let delivery = alert::alert(&format!("a{id}")).resolved(self.clock.now());
                self.submit(&engines[*engine], delivery);
            }
            Happening::Cancel { operation } => {
                let request = Request::Cancel { reason: "not wanted".into() };
                self.post(SequentialIds::nth(*operation), "cancel", request).await;
            }
            Happening::Crash { engine, closed } => {
                self.crashes += 1;
                engines[*engine].crash.now();
                if *closed {
                    let _ = self.log.close_session(engines[*engine].session).await;
                }
                engines[*engine] = self.start().await;
            }
            Happening::Restart { engine } => {
                let next = self.start().await;
                std::mem::replace(&mut engines[*engine], next).engine.shutdown().await;
            }
            Happening::LogFails { engine, percent, lasts } => {
                let (log, until) = (&engines[*engine].log, tokio::time::Instant::now() + *lasts);
                let chance = Mutex::new(Chance::of(self.plan.seed ^ self.ids.operation().0.as_u64_pair().1));
                let percent = *percent;
                log.hook(move |_| {
                    let fails = tokio::time::Instant::now() < until
                        && chance.lock().unwrap_or_else(PoisonError::into_inner).percent(percent);
                    if fails { Act::Fail } else { Act::GoOn }
                });
            }
            Happening::ClockStep { by, forward, lasts } => {
                let (clock, by, forward, lasts) = (self.clock.clone(), *by, *forward, *lasts);
                step(&clock, by, forward);
                tokio::spawn(async move {
                    tokio::time::sleep(lasts).await;
                    step(&clock, by, !forward);
                });
            }
            Happening::Pause { service, lasts } => self.pause(*service, *lasts).await,
            Happening::Health { percent } => self.health.percent.store(*percent, Ordering::SeqCst),
        }
    }

    /// Whoever sends an alert may have to send it again; here only what was answered is counted.
    fn submit(&self, running: &Running, delivery: Delivery) {
        let (sender, promised) = (running.engine.sender(), Arc::clone(&self.promised));
        let crash = running.crash.clone();
        tokio::spawn(async move {
            let answer = tokio::select! {
                answer = sender.send(delivery) => answer,
                () = crash.happened() => return,
            };
            if let Ok(Some(id)) = answer.map(|receipt| receipt.operation) {
                promised.lock().unwrap_or_else(PoisonError::into_inner).push(id);
            }
        });
    }

    async fn pause(&self, service: Option<u64>, lasts: Duration) {
        let key = service.map_or("engine".to_owned(), |service| format!("target:default/s{service}"));
        let switch = Switch {
            key: key.clone(),
            by: Actor::local(1000),
            reason: "maintenance".into(),
            since: self.clock.now(),
            until: None,
        };
        let _ = self.log.set_switch(&key, Some(switch)).await;
        let log = self.log.clone();
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            let _ = log.set_switch(&key, None).await;
        });
    }

    async fn post(&self, operation: OperationId, key: &str, request: Request) {
        let post =
            Post { operation, key: key.into(), request, actor: Actor::local(1000), at: self.clock.now() };
        // It may have ended, or never have begun.
        let _ = self.log.post(post).await;
    }

    /// A person answers whatever asks; true: everything has ended.
    async fn comes_to_an_end(&self) -> bool {
        let start = tokio::time::Instant::now();
        while start.elapsed() < AFTERWARDS {
            let heads = judge::operations(&self.log).await.unwrap_or_default();
            if heads.iter().all(|head| head.state.is_ended()) {
                return true;
            }
            for head in heads.iter().filter(|head| head.state == State::Suspended) {
                let Ok(operation) = judge::fold(&self.log, head).await else { continue };
                let decision = match &operation.open {
                    Some(intent) if self.target.seen(intent.key).effects > 0 => Decision::Happened,
                    Some(_) => Decision::DidNotHappen,
                    None if operation.attempt < 5 => Decision::GoOn,
                    None => Decision::GiveUp,
                };
                let request = Request::Verdict { decision, reason: "I looked".into() };
                self.post(head.id, &format!("verdict at {}", head.seq), request).await;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        false
    }
}

fn step(clock: &TestClock, by: Duration, forward: bool) {
    if forward { clock.advance(by) } else { clock.back(by) }
}

#[expect(clippy::expect_used, reason = "a test helper: what the generator made must be valid")]
fn build(number: usize, plan: &StrategyPlan, executor: &ScriptedExecutor, health: &Health) -> Strategy {
    let second = Duration::from_secs(1);
    let step = |name: String| Step::new(name, executor).timeout(10 * second).tries(3, second, 8 * second);
    let mut builder = Strategy::builder(format!("strategy{number}"))
        .trigger(Trigger::Label { name: "strategy".into(), value: number.to_string() })
        .check(health, 5 * second)
        .attempts(plan.attempts)
        .verification(20 * second, plan.settle, plan.passes)
        .cooldown(plan.cooldown)
        .deadline(plan.deadline)
        .compensation_limit(60 * second)
        .fingerprint_rate(4, 600 * second)
        .waiting_limit(3600 * second);
    for (index, on_error) in plan.steps.iter().enumerate() {
        builder = builder.step(step(format!("s{index}")).on_error(*on_error));
    }
    for index in 0..plan.compensation {
        builder = builder.compensate(step(format!("c{index}")));
    }
    builder.build().expect("a valid strategy")
}

fn act(chance: &mut Chance, trouble: u64) -> Do {
    if !chance.percent(trouble) {
        return match chance.percent(30) {
            true => Do::slowly(chance.millis(1, 5_000), Do::Succeed),
            false => Do::Succeed,
        };
    }
    chance.one_of(&[
        Do::Fail,
        Do::Retry(None),
        Do::Retry(Some(Duration::from_secs(5))),
        Do::LoseReply,
        Do::LoseRequest,
        Do::Hang,
        Do::Panic,
        Do::when_stopped(Do::Succeed),
        Do::when_stopped(Do::Retry(None)),
        Do::when_stopped(Do::LoseReply),
    ])
}
