//! One engine of several: `tests/fleet.rs` runs, kills and stops it.
//!
//! `fleet_program DB REDIS ADDRESS NAME` opens the Postgres log DB and starts an engine with two strategies whose steps
//! speak to the targets at ADDRESS, and with the persistence step: tables in DB, the cache at REDIS. It reads lines from standard input: `alert N` submits alert N and is answered by `ack N`
//! once that is durable; the end of input stops it. When its session is over (it was stopped for longer than its
//! lease, or Postgres was gone for too long) it says `lost` and begins again with a new one.

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redress_engine::action::{
    self, ActionExecutor, Call, Check, InDoubt, Observation, Output, Probe, Probed,
};
use redress_engine::operation_log::{OperationHistory, OperationLog};
use redress_engine::strategy::{Invalid, Step, Strategy, Trigger};
use redress_engine::types::{Alert, Delivery, SystemClock, Timestamp};
use redress_engine::{Config, Engine, Environment};
use redress_operation_log_postgres::{Options, PostgresLog};
use redress_persistence::{CacheSettings, Persistence, Settings, TablesSettings};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Short, so that a takeover fits into a test many times.
const LEASE: Duration = Duration::from_secs(3);
/// The targets that the alerts speak of.
const TARGETS: u64 = 100;

fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    // A test that has gone away reads no more lines; that is no reason to stop.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// The targets, as a client sees them.
#[derive(Clone)]
struct Server(SocketAddr);

impl Server {
    /// A status and a body; `Err`: the reply was lost.
    async fn ask(&self, method: &str, path: &str, call: &Call) -> std::io::Result<(u16, Value)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nidempotency-key: {}\r\nredress-fencing-token: {}\r\n\r\n",
            self.0, call.key, call.fencing
        );
        let mut stream = TcpStream::connect(self.0).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        let lost = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let (head, body) = reply.split_once("\r\n\r\n").ok_or_else(lost)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(lost)?;
        Ok((status, serde_json::from_str(body)?))
    }

    /// The work takes a while before and after the effect, so that a kill finds it under way.
    async fn apply(&self, call: &Call) -> Result<Output, action::Error> {
        let step = call.parameters["step"].as_str().unwrap_or("?");
        let path = format!("/apply/{}/{step}", call.target.service);
        tokio::time::sleep(Duration::from_millis(40)).await;
        let answer = self.ask("POST", &path, call).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        match answer {
            Ok((200, _)) => Ok(Output::new("done")),
            Ok((503, _)) => Err(action::Error::retryable("busy")),
            Ok((status, _)) => Err(action::Error::permanent(format!("HTTP {status}"))),
            Err(error) => Err(action::Error::unknown(error.to_string())),
        }
    }
}

/// Safe to repeat: the targets know their keys.
struct Rerun(Server);
/// Asks whether it happened.
struct Ask(Server);

#[async_trait]
impl ActionExecutor for Rerun {
    fn name(&self) -> &str {
        "rerun"
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Rerun
    }

    async fn execute(&self, call: &Call) -> Result<Output, action::Error> {
        self.0.apply(call).await
    }
}

#[async_trait]
impl ActionExecutor for Ask {
    fn name(&self) -> &str {
        "probe"
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Probe(self)
    }

    async fn execute(&self, call: &Call) -> Result<Output, action::Error> {
        self.0.apply(call).await
    }
}

#[async_trait]
impl Probe for Ask {
    async fn probe(&self, call: &Call) -> Probed {
        match self.0.ask("GET", &format!("/state?key={}", call.key), call).await {
            Ok((200, body)) if body["applied"] == true => Probed::Applied(Output::new("it was done")),
            Ok((200, body)) if body["applied"] == false => Probed::NotApplied,
            Ok((status, _)) => Probed::Unknown(format!("HTTP {status}").into()),
            Err(error) => Probed::Unknown(error.to_string().into()),
        }
    }
}

/// The target answers.
struct Healthy(Server);

#[async_trait]
impl Check for Healthy {
    fn name(&self) -> &str {
        "healthy"
    }

    fn independent(&self) -> bool {
        true
    }

    async fn check(&self, call: &Call) -> Observation {
        match self.0.ask("GET", "/health", call).await {
            Ok((200, _)) => Observation::Healthy { detail: "it answers".into() },
            Ok((status, _)) => Observation::Unhealthy { detail: format!("HTTP {status}") },
            Err(error) => Observation::Inconclusive { detail: error.to_string() },
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
    let (rerun, ask) = (Rerun(server.clone()), Ask(server.clone()));
    let config = Config {
        name: name.to_owned(),
        lease: LEASE,
        poll: Duration::from_millis(100),
        operations_at_work_max: 64,
        ..Config::default()
    };
    let strategies = [strategy(&rerun, server)?, strategy(&ask, server)?];
    let mut builder = Engine::builder(Environment::system(), log)
        .config(config)
        .executor(rerun)
        .executor(ask)
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
                tokio::time::sleep(Duration::from_millis(50)).await;
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
    let server = Server(address.parse()?);
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
        let engine = match engine(db, redis, &server, name).await {
            Ok(engine) => engine,
            Err(error) => {
                // Postgres is being started again.
                eprintln!("no engine yet: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
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
