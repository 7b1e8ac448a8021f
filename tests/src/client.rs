//! The [`recorder`](crate::recorder) as the programs under test see it: executors and a check that speak to it, one for
//! each way of being in doubt. What differs from program to program is its [`Manner`].

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use redress_engine::action::{
    self, ActionExecutor, Call, Check, InDoubt, Observation, Output, Probe, Probed,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What an executor or a check asks the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// That it does a step.
    Call,
    /// Whether it has done it.
    Probe,
    /// Whether it is well.
    Check,
}

/// How a program speaks to the server.
#[async_trait]
pub trait Manner: Send + Sync {
    /// Where a step is asked for.
    fn path(&self, call: &Call) -> String;

    /// Called before each request.
    async fn before(&self, ask: Ask, call: &Call);

    /// Called after each answer, or when it was lost. `how`: of a call, its outcome in a word; else empty.
    async fn after(&self, ask: Ask, call: &Call, how: &str);
}

/// The server.
#[derive(Clone)]
pub struct Server {
    address: SocketAddr,
    manner: Arc<dyn Manner>,
}

impl Server {
    /// The one at this address.
    pub fn new(address: SocketAddr, manner: impl Manner + 'static) -> Self {
        Self { address, manner: Arc::new(manner) }
    }

    /// A status and a body; `Err`: the reply was lost.
    async fn request(&self, method: &str, path: &str, call: &Call) -> std::io::Result<(u16, Value)> {
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

    async fn execute(&self, call: &Call) -> Result<Output, action::Error> {
        self.manner.before(Ask::Call, call).await;
        let (answer, how) = match self.request("POST", &self.manner.path(call), call).await {
            Ok((200, _)) => (Ok(Output::new("done")), "done"),
            Ok((503, _)) => (Err(action::Error::retryable("busy")), "not_done"),
            Ok((status, _)) => (Err(action::Error::permanent(format!("HTTP {status}"))), "refused"),
            Err(error) => (Err(action::Error::unknown(error.to_string())), "lost"),
        };
        self.manner.after(Ask::Call, call, how).await;
        answer
    }
}

/// Safe to repeat: the server knows its keys.
pub struct Rerun(pub Server);
/// Asks whether it happened.
pub struct Probing(pub Server);
/// Never repeated: it cannot ask.
pub struct Halt(pub Server);
/// The server answers.
pub struct Healthy(pub Server);

#[async_trait]
impl ActionExecutor for Rerun {
    fn name(&self) -> &str {
        "rerun"
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Rerun
    }

    async fn execute(&self, call: &Call) -> Result<Output, action::Error> {
        self.0.execute(call).await
    }
}

#[async_trait]
impl ActionExecutor for Probing {
    fn name(&self) -> &str {
        "probe"
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Probe(self)
    }

    async fn execute(&self, call: &Call) -> Result<Output, action::Error> {
        self.0.execute(call).await
    }
}

#[async_trait]
impl Probe for Probing {
    async fn probe(&self, call: &Call) -> Probed {
        self.0.manner.before(Ask::Probe, call).await;
        let probed = match self.0.request("GET", &format!("/state?key={}", call.key), call).await {
            Ok((200, body)) if body["applied"] == true => Probed::Applied(Output::new("it was done")),
            Ok((200, body)) if body["applied"] == false => Probed::NotApplied,
            Ok((status, _)) => Probed::Unknown(format!("HTTP {status}").into()),
            Err(error) => Probed::Unknown(error.to_string().into()),
        };
        self.0.manner.after(Ask::Probe, call, "").await;
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
        self.0.execute(call).await
    }
}

#[async_trait]
impl Check for Healthy {
    fn name(&self) -> &str {
        "healthy"
    }

    fn independent(&self) -> bool {
        true
    }

    async fn check(&self, call: &Call) -> Observation {
        self.0.manner.before(Ask::Check, call).await;
        let seen = match self.0.request("GET", "/health", call).await {
            Ok((200, _)) => Observation::Healthy { detail: "it answers".into() },
            Ok((status, _)) => Observation::Unhealthy { detail: format!("HTTP {status}") },
            Err(error) => Observation::Inconclusive { detail: error.to_string() },
        };
        self.0.manner.after(Ask::Check, call, "").await;
        seen
    }
}
