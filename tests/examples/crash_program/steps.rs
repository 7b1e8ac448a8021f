//! The strategies of this program and their executors, which speak to the recording server. Each call, probe and check
//! has a point before and after it.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use redress_engine::action::{
    self, ActionExecutor, Call, Check, InDoubt, Observation, Output, Probe, Probed,
};
use redress_engine::strategy::{Invalid, Step, Strategy};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::points::Points;

/// From the first step to the end.
const DEADLINE: Duration = Duration::from_secs(10 * 60);
/// Longer than a test moves the clock on.
const COMPENSATION: Duration = Duration::from_secs(60 * 60);

/// The recording server, as a client sees it.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    pub points: Points,
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
pub struct Rerun(pub Server);
/// Asks whether it happened: its path does not dedupe.
pub struct Ask(pub Server);
/// Never repeated: its path does not dedupe, and this executor cannot ask.
pub struct Halt(pub Server);

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
pub struct Healthy(pub Server);

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
pub fn strategy(name: &str, server: &Server) -> Result<Strategy, Invalid> {
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
    let mut strategy = Strategy::builder(name)
        .check(&Healthy(server.clone()), Duration::from_secs(20))
        .deadline(DEADLINE)
        .compensation_limit(COMPENSATION);
    for name in ["first", "second", "third"] {
        strategy = strategy.step(step(name));
    }
    for name in ["undo-second", "undo-first"] {
        strategy = strategy.compensate(step(name));
    }
    strategy.build()
}
