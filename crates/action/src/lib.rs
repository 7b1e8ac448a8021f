//! What can be done to the world: the traits an executor or a check implements.
//!
//! * [`ActionExecutor`]: one kind of thing that changes the world. It must say what happens when nobody knows
//!   whether it happened: [`InDoubt`] has no default, so the compiler makes its author choose.
//! * [`Check`]: one kind of thing that looks at the world and changes nothing.
//!
//! Both get a [`Call`]: everything they may depend on. An executor that keeps to it can be replayed.
//!
//! How a person is called when the engine cannot go on by itself is in [`escalation`].

pub mod escalation;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redress_types::{Alert, EffectKey, FencingToken, Target};
use serde::{Deserialize, Serialize};
use serde_json::Value;
pub use tokio_util::sync::CancellationToken;

pub use escalation::{Escalate, Escalation, OWN_ALERT_LABEL, OnFailure};

/// Everything an executor or a check may depend on.
#[derive(Clone, Debug)]
pub struct Call {
    /// The idempotency key, the same for every try of this effect. Send it with every request.
    pub key: EffectKey,
    /// What a target compares to refuse a stale engine. Send it with every request.
    pub fencing: FencingToken,
    /// Which try this is, from 1.
    pub try_number: u32,
    /// The alert that started the operation.
    pub alert: Arc<Alert>,
    /// What is being acted on.
    pub target: Target,
    /// The executor's configuration as it was when the operation was accepted.
    pub configuration: Arc<Value>,
    /// The step's own parameters, frozen with it.
    pub parameters: Arc<Value>,
    /// How long the engine will wait. After that the effect is *unknown*, not failed.
    pub timeout: Duration,
    /// Cancelled when the engine stops waiting (timeout, cancel, shutdown). Stop if that is safe.
    pub cancel: CancellationToken,
}

/// What an effect left behind, for people and for the record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// One line that says what happened. Cut to 1,024 bytes by the engine, on a character boundary.
    pub summary: String,
}

impl Output {
    /// An output of one line.
    pub fn new(summary: impl Into<String>) -> Self {
        Self { summary: summary.into() }
    }
}

/// How a call went wrong, by what the engine must do next. The texts must hold no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It certainly did not happen, and may be tried again under the same key.
    #[error("{reason}")]
    Retryable {
        /// What went wrong.
        reason: Cow<'static, str>,
        /// How long the target asked us to wait (HTTP `Retry-After`); longer than the backoff wins.
        retry_after: Option<Duration>,
    },
    /// It certainly did not happen, and never will. The step's `on_error` decides.
    #[error("{reason}")]
    Permanent {
        /// What went wrong.
        reason: Cow<'static, str>,
    },
    /// Nobody knows whether it happened (a lost reply, a 5xx). The executor's [`InDoubt`] decides.
    #[error("{reason}")]
    Unknown {
        /// What went wrong.
        reason: Cow<'static, str>,
        /// How long the target asked us to wait before we look or try again.
        retry_after: Option<Duration>,
    },
}

impl Error {
    /// [`Error::Retryable`] without a time to wait.
    pub fn retryable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Retryable { reason: reason.into(), retry_after: None }
    }

    /// [`Error::Permanent`].
    pub fn permanent(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Permanent { reason: reason.into() }
    }

    /// [`Error::Unknown`] without a time to wait.
    pub fn unknown(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Unknown { reason: reason.into(), retry_after: None }
    }
}

/// What the engine does with an intent that has no result (a crash, a timeout, a lost reply).
#[derive(Clone, Copy)]
pub enum InDoubt<'a> {
    /// Safe to call again under the same key: the target dedupes, or the action is idempotent by nature.
    Rerun,
    /// Ask the target first. The probe is also asked before every retry.
    Probe(&'a dyn Probe),
    /// Never repeat: the operation is Suspended and a person is called.
    Halt,
}

impl InDoubt<'_> {
    /// The word for it, as the log and the docs use it.
    pub fn policy(&self) -> Policy {
        match self {
            InDoubt::Rerun => Policy::Rerun,
            InDoubt::Probe(_) => Policy::Probe,
            InDoubt::Halt => Policy::Halt,
        }
    }
}

/// [`InDoubt`] as data: what is frozen into a plan.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Policy {
    /// See [`InDoubt::Rerun`].
    Rerun,
    /// See [`InDoubt::Probe`].
    Probe,
    /// See [`InDoubt::Halt`].
    Halt,
}

/// What the target says when asked whether an effect happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probed {
    /// It did: the step succeeded, nothing is called.
    Applied(Output),
    /// It did not, and it will not: the step may be called under its key. "Not yet" is no such answer while the target
    /// may still be at work on an earlier call; that one was given up, which takes nothing back.
    NotApplied,
    /// It did not, and calling would be refused for ever: the step fails for good.
    Refused(Cow<'static, str>),
    /// The target could not be asked, or does not know. Asked again later, at last Suspended.
    Unknown(Cow<'static, str>),
}

/// Asks a target whether an effect happened. Reads only.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Looks for the effect of `call.key`. Must change nothing.
    ///
    /// Cancellation safety: may be dropped at any await.
    async fn probe(&self, call: &Call) -> Probed;
}

/// One kind of thing that can be done to the world.
///
/// The engine has made the intent durable before it calls [`execute`](Self::execute), and calls it at least
/// once under one [`EffectKey`]. It is never called twice under one key at the same time by one log.
#[async_trait]
pub trait ActionExecutor: Send + Sync + 'static {
    /// The name a plan freezes. Two executors of one name are the same executor.
    fn name(&self) -> &str;

    /// What the engine does when nobody knows whether it happened. There is no default on purpose.
    fn in_doubt(&self) -> InDoubt<'_>;

    /// What is frozen into the plan beside the name. Must hold no secret: refer to it by name.
    fn configuration(&self) -> Value {
        Value::Null
    }

    /// Whether this instance may run a step that was frozen with `configuration`; if not, why.
    ///
    /// The engine leaves an operation alone when it is not, and the operation says what it waits for.
    fn accepts(&self, configuration: &Value) -> Result<(), String> {
        let _ = configuration;
        Ok(())
    }

    /// Does it.
    ///
    /// Cancellation safety: dropped only after `call.cancel` was cancelled and a grace period went by, or when
    /// the process ends; the effect is then in doubt.
    async fn execute(&self, call: &Call) -> Result<Output, Error>;
}

/// What a check saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "saw", rename_all = "snake_case")]
pub enum Observation {
    /// Healthy, and how that was seen.
    Healthy {
        /// What was seen, for the record.
        detail: String,
    },
    /// Not healthy, and what was seen instead.
    Unhealthy {
        /// What was seen instead.
        detail: String,
    },
    /// Nothing could be seen: no data is not healthy (safety rule 8).
    Inconclusive {
        /// Why.
        detail: String,
    },
}

/// One way of telling whether the target is healthy. Reads only.
#[async_trait]
pub trait Check: Send + Sync + 'static {
    /// The name a plan freezes.
    fn name(&self) -> &str;

    /// What is frozen into the plan beside the name. Must hold no secret.
    fn configuration(&self) -> Value {
        Value::Null
    }

    /// Whether this instance may run a check that was frozen with `configuration`; if not, why.
    fn accepts(&self, configuration: &Value) -> Result<(), String> {
        let _ = configuration;
        Ok(())
    }

    /// Whether it looks at the service itself rather than asking the API that made the change (safety rule 17).
    fn independent(&self) -> bool;

    /// Looks once. A timeout counts as inconclusive.
    ///
    /// Cancellation safety: may be dropped at any await.
    async fn check(&self, call: &Call) -> Observation;
}
