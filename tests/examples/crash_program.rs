//! A program on the public library that kills itself where it is told: `tests/crash.rs` runs it.
//!
//! `crash_program DB ADDRESS STRATEGY` opens the SQLite log DB, remediates one alert by a strategy of this program
//! (`ok`, `rerun`, `probe` or `halt`; its steps speak to the recording server at ADDRESS), and ends when the
//! operation has ended or waits for a person. Before and after every write to the log and every call of an executor,
//! probe or check lies a *point*; each is printed as it is passed. With `CRASH_AT` (a point's name, or its number) the
//! process kills itself there, as `kill -9` does. The last line is a JSON object: how many points there were, and the
//! state.

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redress_engine::action::{
    self, ActionExecutor, Call, Check, InDoubt, Observation, Output, Probe, Probed,
};
use redress_engine::operation_log::{Head, OperationHistory};
use redress_engine::strategy::{Invalid, Step, Strategy};
use redress_engine::types::{Alert, Delivery, OperationId, Timestamp};
use redress_engine::{Engine, Environment, Observed};
use redress_operation_log_sqlite::{Options, SqliteLog};
use redress_testkit::{Act, FaultyLog, Moment, When};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::broadcast;

/// The log's methods that write nothing; every other one has a point before and after it.
const READS: [&str; 17] = [
    "operation",
    "find",
    "operations",
    "entries",
    "plan",
    "alert",
    "alerts_of",
    "by_fingerprint",
    "inbox",
    "outbox_of",
    "late_results",
    "switches",
    "follow",
    "audit",
    "stuck",
    "inbox_waiting",
    "next_due",
];

/// Counts the points, and ends the process at one of them.
#[derive(Clone, Default)]
struct Points(Arc<Inner>);

#[derive(Default)]
struct Inner {
    at: Option<String>,
    passed: AtomicU64,
}

impl Points {
    fn pass(&self, name: &str) {
        let number = self.0.passed.fetch_add(1, Ordering::SeqCst) + 1;
        say(&format!("point {number} {name}"));
        if self.0.at.as_deref().is_some_and(|at| at == name || at == number.to_string()) {
            die();
        }
    }

    /// The operation's id differs from run to run, so it is no part of a name.
    fn pass_call(&self, when: &str, call: &Call, how: &str) {
        let (key, try_number) = (call.key, call.try_number);
        self.pass(format!("{when} {}:{}:{} {try_number} {how}", key.phase, key.attempt, key.step).trim_end());
    }
}

/// A test that has gone away reads no more lines; that is no reason to stop.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// Ends this process as `kill -9` does. The runtime has one thread, so nothing goes on meanwhile.
fn die() {
    let own = std::process::id().to_string();
    let _ = Command::new("sh").args(["-c", "kill -9 \"$0\"", &own]).status();
    loop {
        std::thread::park();
    }
}

/// The recording server, as a client sees it.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    points: Points,
}

impl Server {
    /// A status and a body; `Err`: the reply was lost.
    async fn ask(&self, method: &str, path: &str, call: &Call) -> std::io::Result<(u16, Value)> {
        let (key, fencing) = (call.key, call.fencing);
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nidempotency-key: {key}\r\nredress-fencing-token: {fencing}\r\n\r\n",
            self.address
        );
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        let lost = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let (head, body) = reply.split_once("\r\n\r\n").ok_or_else(lost)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(lost)?;
        Ok((status, serde_json::from_str(body)?))
    }

    async fn post(&self, call: &Call) -> Result<Output, action::Error> {
        let path = call.parameters["path"].as_str().unwrap_or("/");
        self.points.pass_call("before call", call, "");
        let (answer, kind) = match self.ask("POST", path, call).await {
            Ok((200, _)) => (Ok(Output::new("done")), "done"),
            Ok((503, _)) => (Err(action::Error::retryable("busy")), "not_done"),
            Ok((status, _)) => (Err(action::Error::permanent(format!("HTTP {status}"))), "refused"),
            Err(error) => (Err(action::Error::unknown(error.to_string())), "lost"),
        };
        self.points.pass_call("after call", call, kind);
        answer
    }
}

/// Safe to repeat: its path dedupes.
struct Rerun(Server);
/// Asks whether it happened: its path does not dedupe.
struct Ask(Server);
/// Never repeated: its path does not dedupe, and this executor cannot ask.
struct Halt(Server);

#[async_trait]
impl ActionExecutor for Rerun {
    fn name(&self) -> &str {
        "rerun"
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Rerun
    }

    async fn execute(&self, call: &Call) -> Result<Output, action::Error> {
        self.0.post(call).await
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
        self.0.post(call).await
    }
}

#[async_trait]
impl Probe for Ask {
    async fn probe(&self, call: &Call) -> Probed {
        self.0.points.pass_call("before probe", call, "");
        let probed = match self.0.ask("GET", &format!("/state?key={}", call.key), call).await {
            Ok((200, body)) if body["applied"] == true => Probed::Applied(Output::new("it was done")),
            Ok((200, body)) if body["applied"] == false => Probed::NotApplied,
            Ok((status, _)) => Probed::Unknown(format!("HTTP {status}").into()),
            Err(error) => Probed::Unknown(error.to_string().into()),
        };
        self.0.points.pass_call("after probe", call, "");
        probed
    }
}

#[async_trait]
impl ActionExecutor for Halt {
    fn name(&self) -> &str {
        "halt"
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Halt
    }

    async fn execute(&self, call: &Call) -> Result<Output, action::Error> {
        self.0.post(call).await
    }
}

/// The server answers.
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
        self.0.points.pass_call("before check", call, "");
        let seen = match self.0.ask("GET", "/health", call).await {
            Ok((200, _)) => Observation::Healthy { detail: "it answers".into() },
            Ok((status, _)) => Observation::Unhealthy { detail: format!("HTTP {status}") },
            Err(error) => Observation::Inconclusive { detail: error.to_string() },
        };
        self.0.points.pass_call("after check", call, "");
        seen
    }
}

/// The strategies of this program. What each step is answered stands in the test.
fn strategy(name: &str, server: &Server) -> Result<Strategy, Invalid> {
    let (executor, path): (Box<dyn ActionExecutor>, _) = match name {
        "probe" => (Box::new(Ask(server.clone())), "plain"),
        "halt" => (Box::new(Halt(server.clone())), "plain"),
        _ => (Box::new(Rerun(server.clone())), "dedupe"),
    };
    let step = |name: &str| {
        Step::new(name, executor.as_ref())
            .parameters(json!({ "path": format!("/{path}/{name}") }))
            .timeout(Duration::from_secs(20))
            .tries(5, Duration::from_millis(1), Duration::from_millis(5))
    };
    let mut strategy = Strategy::builder(name).check(&Healthy(server.clone()), Duration::from_secs(20));
    for name in ["first", "second", "third"] {
        strategy = strategy.step(step(name));
    }
    for name in ["undo-second", "undo-first"] {
        strategy = strategy.compensate(step(name));
    }
    strategy.build()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [db, address, name] = arguments.as_slice() else {
        return Err("usage: crash_program DB ADDRESS STRATEGY".into());
    };
    let at = std::env::var("CRASH_AT").ok();
    let points = Points(Arc::new(Inner { at, passed: AtomicU64::new(0) }));
    let server = Server { address: address.parse()?, points: points.clone() };
    let log = FaultyLog::new(Arc::new(SqliteLog::open(db, &Options::default())?));
    log.hook({
        let points = points.clone();
        move |moment| pass_write(&points, moment)
    });
    let engine = Engine::builder(Environment::system(), Arc::new(log))
        .executor(Rerun(server.clone()))
        .executor(Ask(server.clone()))
        .executor(Halt(server.clone()))
        .check(Healthy(server.clone()))
        .strategy(strategy(name, &server)?)
        .start()
        .await?;
    let seen = engine.observe();
    // Always the same alert: a program that is started again submits it again.
    let since = Timestamp::from_micros(1_700_000_000_000_000);
    let alert = Alert::new("crash-1".parse()?, "shop", "shop is broken", since);
    let receipt = engine.submit(Delivery::firing(alert)).await?;
    let operation = receipt.operation.ok_or("the alert led to no operation")?;
    let settling = settled(engine.history(), operation, seen);
    let head = tokio::time::timeout(Duration::from_secs(60), settling).await.map_err(|_| "it hangs")??;
    engine.shutdown().await;
    let passed = points.0.passed.load(Ordering::SeqCst);
    say(&json!({"points": passed, "operation": head.id, "state": head.state}).to_string());
    Ok(())
}

fn pass_write(points: &Points, moment: Moment) -> Act {
    if !READS.contains(&moment.method) {
        let when = match moment.when {
            When::Before => "before",
            When::After => "after",
        };
        points.pass(&format!("{when} {} {}", moment.method, moment.call));
    }
    Act::GoOn
}

/// Waits until the operation has ended, or waits for a person with nothing in its inbox.
async fn settled(
    history: Arc<dyn OperationHistory>,
    operation: OperationId,
    mut seen: broadcast::Receiver<Observed>,
) -> Result<Head, Box<dyn Error>> {
    loop {
        let head = history.operation(operation).await?.ok_or("the operation is gone")?;
        let waits = head.state == redress_engine::fsm::State::Suspended && head.inbox == head.folded_request;
        if head.state.is_ended() || waits {
            return Ok(head);
        }
        seen.recv().await?;
    }
}
