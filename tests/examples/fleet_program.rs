//! One engine of several: `tests/fleet.rs` runs, kills and stops it.
//!
//! `fleet_program DB REDIS ADDRESS NAME` opens the Postgres log DB and starts an engine with two strategies whose steps
//! speak to the targets at ADDRESS, and with the persistence step: tables in DB, the cache at REDIS. It reads lines from
//! standard input: `alert N` submits alert N and is answered by `ack N` once that is durable; the end of input stops it.
//! When its session is over (it was stopped for longer than its lease, or Postgres was gone for too long) it says `lost`
//! and begins again with a new one.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redress_engine::action::{ActionExecutor, Call};
use redress_engine::operation_log::{OperationHistory, OperationLog};
use redress_engine::strategy::{Invalid, Step, Strategy, Trigger};
use redress_engine::types::{Alert, Delivery, SystemClock, Timestamp};
use redress_engine::{Config, Engine, Environment};
use redress_operation_log_postgres::{Options, PostgresLog};
use redress_persistence::{CacheSettings, Persistence, Settings, TablesSettings};
use redress_testkit::until_async;
use redress_tests::client::{Ask, Healthy, Manner, Probing, Rerun, Server};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Short, so that a takeover fits into a test many times.
const LEASE: Duration = Duration::from_secs(3);
/// The targets that the alerts speak of.
const TARGETS: u64 = 100;
/// The work that a step pretends to do before its effect.
const WORK_BEFORE: Duration = Duration::from_millis(40);
/// And after it.
const WORK_AFTER: Duration = Duration::from_millis(20);
/// After how long an alert that was not taken is sent again: the pace of a sender, who hears no signal from the engine.
const SEND_AGAIN: Duration = Duration::from_millis(50);
/// How long there may be no engine, because Postgres is down.
const LIMIT: Duration = Duration::from_secs(120);

fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    // A test that has gone away reads no more lines; that is no reason to stop.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// Steps that take a while before and after the effect, so that a kill finds them under way.
struct Slow;

#[async_trait]
impl Manner for Slow {
    fn path(&self, call: &Call) -> String {
        let step = call.parameters["step"].as_str().unwrap_or("?");
        format!("/apply/{}/{step}", call.target.service)
    }

    async fn before(&self, ask: Ask, _call: &Call) {
        if ask == Ask::Call {
            tokio::time::sleep(WORK_BEFORE).await;
        }
    }

    async fn after(&self, ask: Ask, _call: &Call, _how: &str) {
        if ask == Ask::Call {
            tokio::time::sleep(WORK_AFTER).await;
        }
    }
}

/// One strategy for each way of being in doubt.
fn strategy(executor: &dyn ActionExecutor, server: &Server) -> Result<Strategy, Invalid> {
    let step = |name: &str| {
        Step::new(name, executor).parameters(json!({ "step": name })).timeout(Duration::from_secs(10)).tries(
            50,
            Duration::from_millis(20),
            Duration::from_millis(200),
        )
    };
    let label = Trigger::Label { name: "strategy".into(), value: executor.name().into() };
    Strategy::builder(executor.name())
        .trigger(label)
        .step(step("drain"))
        .step(step("switch"))
        .step(step("fill"))
        .check(&Healthy(server.clone()), Duration::from_secs(5))
        .verification(Duration::from_secs(30), Duration::from_millis(50), 2)
        .check_interval(Duration::from_millis(25))
        .cooldown(Duration::from_millis(300))
        .unlimited_per_fingerprint()
        .build()
}

/// Alert N: always the same. Some share a fingerprint, some a strategy and target, some only the target.
fn alert(n: u64) -> Result<Alert, Box<dyn Error + Send + Sync>> {
    let since = Timestamp::from_micros(1_700_000_000_000_000 + i64::try_from(n)?);
    let service = format!("service-{}", n % TARGETS);
    let mut alert = Alert::new(format!("fleet-{n}").parse()?, &service, &format!("alert {n}"), since);
    let strategy = if (n / TARGETS).is_multiple_of(2) { "rerun" } else { "probe" };
    alert.labels.insert("strategy".into(), strategy.into());
    alert.fingerprint = format!("{:064x}", n % (TARGETS * 3)).parse()?;
    Ok(alert)
}

async fn start(
    log: Arc<dyn OperationLog>,
    persistence: &Persistence,
    server: &Server,
    name: &str,
) -> Result<Engine, Box<dyn Error + Send + Sync>> {
    let (rerun, probing) = (Rerun(server.clone()), Probing(server.clone()));
    let config = Config {
        name: name.to_owned(),
        lease: LEASE,
        poll: Duration::from_millis(100),
        operations_at_work_max: 64,
        ..Config::default()
    };
    let strategies = [strategy(&rerun, server)?, strategy(&probing, server)?];
    let mut builder = Engine::builder(Environment::system(), log)
        .config(config)
        .executor(rerun)
        .executor(probing)
        .check(Healthy(server.clone()))
        .obligations(persistence.obligations());
    for executor in persistence.executors() {
        builder = builder.shared_executor(executor);
    }
    for strategy in strategies {
        builder = builder.strategy(strategy);
    }
    Ok(builder.start().await?)
}

/// The engine of this process, whichever session it has: `None` while there is none.
type Current = watch::Receiver<Option<redress_engine::AlertSender>>;

/// Submits until it is durable.
async fn submit(n: u64, mut current: Current) -> Result<(), Box<dyn Error + Send + Sync>> {
    let alert = alert(n)?;
    loop {
        let sender = current.wait_for(Option::is_some).await?.clone();
        let Some(sender) = sender else { continue };
        match sender.send(Delivery::firing(alert.clone())).await {
            Ok(receipt) if receipt.operation.is_some() => {
                say(&format!("ack {n}"));
                return Ok(());
            }
            Ok(_) => return Err("an alert led to no operation".into()),
            Err(error) => {
                eprintln!("alert {n}: {error}");
                tokio::time::sleep(SEND_AGAIN).await;
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [db, redis, address, name] = arguments.as_slice() else {
        return Err("usage: fleet_program DB REDIS ADDRESS NAME".into());
    };
    let server = Server::new(address.parse()?, Slow);
    let (lines, mut asked) = mpsc::channel::<String>(1024);
    tokio::spawn(async move {
        let mut input = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = input.next_line().await {
            if lines.send(line).await.is_err() {
                return;
            }
        }
    });
    let (tell, current) = watch::channel(None);
    let mut submitting = JoinSet::new();
    loop {
        // Postgres may be on its way up again.
        let opening = async || engine(db, redis, &server, name).await.map(Some);
        let engine = until_async(LIMIT, "an engine", opening).await?;
        say("engine");
        let _ = tell.send(Some(engine.sender()));
        let ended = loop {
            tokio::select! {
                () = engine.lost() => break false,
                line = asked.recv() => match line {
                    None => break true,
                    Some(line) => {
                        let n = line.strip_prefix("alert ").ok_or("write: alert N")?.parse()?;
                        submitting.spawn(submit(n, current.clone()));
                    }
                },
                Some(submitted) = submitting.join_next() => submitted??,
            }
        };
        let _ = tell.send(None);
        engine.shutdown().await;
        if ended {
            say("stopped");
            return Ok(());
        }
        say("lost");
    }
}

async fn engine(
    db: &str,
    redis: &str,
    server: &Server,
    name: &str,
) -> Result<Engine, Box<dyn Error + Send + Sync>> {
    let log = Arc::new(PostgresLog::open(db, &Options::default()).await?);
    let cache = CacheSettings::from_url("REDIS", redis)?;
    let settings = Settings { cache: Some(cache), ..Settings::new(TablesSettings::from_url("DB", db)?) };
    let history = Arc::clone(&log) as Arc<dyn OperationHistory>;
    let persistence = Persistence::open(settings, history, Arc::new(SystemClock)).await?;
    start(log, &persistence, server, name).await
}
