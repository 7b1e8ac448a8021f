//! The work that is measured: operations of no-op steps and one no-op check, so many at the same time, shared evenly
//! by the engines. Read [`run`], then [`in_turns`].

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Error, bail};
use async_trait::async_trait;
use redress_engine::action::{self, ActionExecutor, Call, Check, InDoubt, Observation, Output};
use redress_engine::{Config, Engine, Environment};
use redress_fsm::State;
use redress_operation_log::OperationLog;
use redress_strategy::{Step, Strategy};
use redress_types::{
    Alert, Clock as _, Delivery, Fingerprint, Labels, Level, Severity, Source, Status, SystemClock, Timestamp,
};
use tokio::time::Instant;

use crate::cli::Throughput;

/// Turns of all engines, and of one. Even, so that each goes first as often as the other.
const TURNS: u32 = 4;
/// A turn is so many times what is in flight, or there are only two: else its beginning and its end would count for
/// much.
const TURN: u32 = 16;

/// What the work took.
#[derive(Default)]
pub(super) struct Load {
    /// From the first submission to the last end.
    pub took: Duration,
    /// Transactions of the log meanwhile; opening and closing the session are not counted.
    pub commits: u64,
    /// One per operation, in order of length.
    latencies: Vec<Duration>,
}

impl Load {
    /// Operations in a second.
    pub(super) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    fn add(&mut self, other: Self) {
        self.took += other.took;
        self.commits += other.commits;
        self.latencies.extend(other.latencies);
        self.latencies.sort_unstable();
    }

    /// In milliseconds: so many per cent of the operations were at least so fast.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let place = (self.latencies.len() * percent).div_ceil(100).saturating_sub(1);
        self.latencies.get(place).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }
}

struct Nothing;

#[async_trait]
impl ActionExecutor for Nothing {
    fn name(&self) -> &str {
        "nothing"
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Rerun
    }

    async fn execute(&self, _call: &Call) -> Result<Output, action::Error> {
        Ok(Output::new("done"))
    }
}

struct Fine;

#[async_trait]
impl Check for Fine {
    fn name(&self) -> &str {
        "fine"
    }

    fn independent(&self) -> bool {
        true
    }

    async fn check(&self, _call: &Call) -> Observation {
        Observation::Healthy { detail: "fine".into() }
    }
}

/// Runs it with an engine on each of the logs, which are one log, opened so often, and as much again with one engine,
/// in turns: a machine is not as fast in every minute, and who goes first is not always the same one. Answers what
/// all of them did, and what one did.
pub(super) async fn in_turns(
    logs: &[Arc<dyn OperationLog>],
    asked: &Throughput,
) -> Result<(Load, Load), Error> {
    let turns = if asked.operations / asked.in_flight >= TURNS * TURN { TURNS } else { 2 };
    let (mut all, mut one) = (Load::default(), Load::default());
    let only = logs.get(..1).unwrap_or_default();
    let mut next = 0;
    for turn in 0..turns {
        let share = asked.operations / turns + u32::from(turn < asked.operations % turns);
        for is_all in [turn % 2 == 0, turn % 2 != 0] {
            let (logs, load) = if is_all { (logs, &mut all) } else { (only, &mut one) };
            load.add(run(logs, asked, next..next + share).await?);
            next += share;
        }
    }
    Ok((all, one))
}

/// Runs the operations of these numbers, with an engine on each of the logs.
pub(super) async fn run(
    logs: &[Arc<dyn OperationLog>],
    asked: &Throughput,
    numbers: Range<u32>,
) -> Result<Load, Error> {
    let in_flight = asked.in_flight.min(numbers.len() as u32);
    let mut engines = Vec::new();
    let begun = begin(logs, asked, in_flight, &mut engines).await;
    let commits = || engines.iter().map(|engine| engine.log().commits()).sum::<u64>();
    let (began, commits_before) = (Instant::now(), commits());
    let measured = match begun {
        Ok(()) => drive(&engines, numbers, in_flight).await,
        Err(error) => Err(error),
    };
    let took = began.elapsed();
    let commits = commits().saturating_sub(commits_before);
    for engine in engines {
        engine.shutdown().await;
    }
    let mut latencies = measured?;
    latencies.sort_unstable();
    Ok(Load { took, commits, latencies })
}

async fn begin(
    logs: &[Arc<dyn OperationLog>],
    asked: &Throughput,
    in_flight: u32,
    engines: &mut Vec<Engine>,
) -> Result<(), Error> {
    let share = (in_flight as usize).div_ceil(logs.len());
    for (n, log) in logs.iter().enumerate() {
        let config = Config {
            name: format!("redress bench {}", n + 1),
            // Twice, because a place is free only a moment after its operation ended, and those that the search for
            // work holds meanwhile: without a place an operation would wait to be claimed, which is not measured
            // here.
            operations_at_work_max: 2 * share + 128,
            channel_capacity: share.max(1024),
            ..Config::default()
        };
        let engine = Engine::builder(Environment::system(), Arc::clone(log))
            .config(config)
            .executor(Nothing)
            .check(Fine)
            .strategy(strategy(asked.steps)?)
            .start()
            .await?;
        engines.push(engine);
    }
    Ok(())
}

fn strategy(steps: u32) -> Result<Strategy, Error> {
    let builder = Strategy::builder("bench")
        .cooldown(Duration::ZERO)
        .unlimited_per_fingerprint()
        .verification(Duration::from_secs(30), Duration::ZERO, 1)
        .check(&Fine, Duration::from_secs(10));
    let steps = (1..=steps).map(|n| Step::new(format!("step-{n}"), &Nothing));
    Ok(steps.fold(builder, |builder, step| builder.step(step)).build()?)
}

/// So many workers, each with one operation at a time at the engine that is its.
async fn drive(engines: &[Engine], numbers: Range<u32>, in_flight: u32) -> Result<Vec<Duration>, Error> {
    let next = Arc::new(AtomicU32::new(numbers.start));
    let since = SystemClock.now();
    let mut workers = tokio::task::JoinSet::new();
    for engine in engines.iter().cycle().take(in_flight as usize) {
        let (sender, next) = (engine.sender(), Arc::clone(&next));
        workers.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= numbers.end {
                    return Ok::<_, Error>(latencies);
                }
                let submitted = Instant::now();
                let receipt = sender.send(delivery(n, since)?).await?;
                let state = match receipt.driven().await {
                    Some(state) => Some(state),
                    // It had ended before we looked.
                    None => receipt.settled().await?.map(|head| head.state),
                };
                latencies.push(submitted.elapsed());
                if state != Some(State::Restored) {
                    bail!("operation {n} of the measurement is {state:?}, not restored");
                }
            }
        });
    }
    let mut latencies = Vec::with_capacity(numbers.len());
    while let Some(worker) = workers.join_next().await {
        latencies.extend(worker??);
    }
    Ok(latencies)
}

fn delivery(n: u32, since: Timestamp) -> Result<Delivery, Error> {
    let service = format!("service-{n}");
    let alert = Alert {
        id: format!("bench-{n}").parse()?,
        fingerprint: Fingerprint::over(&["bench", &service]),
        component: service.clone(),
        service,
        version: "v1.4.2".into(),
        level: Level::P1,
        severity: Severity::Critical,
        title: "p95 latency is over 450 ms".into(),
        alert_since: since,
        labels: Labels::from([("alertname".to_owned(), "HighRequestLatency".to_owned())]),
        metric: None,
        current: None,
        threshold: None,
        suggested_action: None,
    };
    Ok(Delivery { alert, status: Status::Firing, source: Source::Native, original: None })
}
