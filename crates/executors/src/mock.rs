//! [`MockRollback`]: waits and answers, and touches nothing; [`MockCheck`]: its own word that all is well.
//!
//! They stand in for a deployment system where there is none (the first run, demonstrations, tests), and can be
//! told to go wrong in each way that a real one does: see [`Behaviour`] and [`Health`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redress_action::{ActionExecutor, Call, Check, Error, InDoubt, Observation, Output};
use redress_types::{EffectKey, show_duration};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a plan freezes for a [`MockRollback`]: `{"sleep_ms":30000,"behaviour":"succeed"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MockConfiguration {
    /// How long it waits before it answers, in milliseconds. 30,000 by default (contracts §3).
    pub sleep_ms: u64,
    /// What it answers.
    pub behaviour: Behaviour,
}

impl Default for MockConfiguration {
    fn default() -> Self {
        Self { sleep_ms: 30_000, behaviour: Behaviour::Succeed }
    }
}

/// What a [`MockRollback`] answers once it has waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// Success.
    #[default]
    Succeed,
    /// Failure for good.
    Fail,
    /// `{"fail_times": n}`: a failure that may be retried on the first `n` tries, then success.
    FailTimes(u32),
    /// No answer until the call is cancelled; then nobody knows.
    Hang,
    /// The effect happens and the answer is lost, on every try.
    LoseAnswer,
    /// `{"lose_answer_times": n}`: the effect happens and the answer is lost on the first `n` tries.
    LoseAnswerTimes(u32),
}

/// Counts the effects of mock rollbacks, per key: what "done twice" is measured against in tests.
///
/// Lives in this process and ends with it. Holds the last [`MockTarget::MAX_KEYS`] keys; clones share one count.
#[derive(Clone, Debug, Default)]
pub struct MockTarget {
    effects: Arc<Mutex<BTreeMap<EffectKey, u32>>>,
}

impl MockTarget {
    /// The most keys that are remembered. Past it the lowest goes first: of version 7 ids, the oldest.
    pub const MAX_KEYS: usize = 100_000;

    /// How often the effect of `key` happened.
    pub fn times(&self, key: &EffectKey) -> u32 {
        self.lock().get(key).copied().unwrap_or(0)
    }

    /// Every key and how often its effect happened, in key order.
    pub fn effects(&self) -> Vec<(EffectKey, u32)> {
        self.lock().iter().map(|(key, times)| (*key, *times)).collect()
    }

    fn record(&self, key: EffectKey) {
        let mut effects = self.lock();
        *effects.entry(key).or_default() += 1;
        if effects.len() > Self::MAX_KEYS {
            effects.pop_first();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<EffectKey, u32>> {
        // Each change is one call on the map, so a panic elsewhere cannot have left it half done.
        self.effects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A rollback that waits and then answers as told. Changes nothing in the world.
///
/// In doubt it is [`InDoubt::Rerun`]: waiting twice harms nobody. (A probe would have nothing to look at: what
/// [`MockTarget`] counts is gone after a crash.)
#[derive(Clone, Debug, Default)]
pub struct MockRollback {
    configuration: MockConfiguration,
    target: Option<MockTarget>,
}

impl MockRollback {
    /// The name plans freeze.
    pub const NAME: &'static str = "mock_rollback";

    /// A mock whose plans freeze `configuration`.
    pub fn new(configuration: MockConfiguration) -> Self {
        Self { configuration, target: None }
    }

    /// A mock that waits `sleep` and succeeds. A sleep is kept in whole milliseconds.
    pub fn sleeping(sleep: Duration) -> Self {
        let sleep_ms = u64::try_from(sleep.as_millis()).unwrap_or(u64::MAX);
        Self::new(MockConfiguration { sleep_ms, ..MockConfiguration::default() })
    }

    /// Counts the effects of this mock at `target`.
    #[must_use]
    pub fn with_target(mut self, target: MockTarget) -> Self {
        self.target = Some(target);
        self
    }

    fn applied(&self, call: &Call) {
        if let Some(target) = &self.target {
            target.record(call.key);
        }
    }
}

#[async_trait]
impl ActionExecutor for MockRollback {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Rerun
    }

    fn configuration(&self) -> Value {
        serde_json::to_value(&self.configuration).unwrap_or_default()
    }

    fn accepts(&self, configuration: &Value) -> Result<(), String> {
        crate::read::<MockConfiguration>(configuration).map(drop)
    }

    /// Waits `sleep_ms` and answers.
    ///
    /// Cancelled while it waits, it answers [`Error::Retryable`]: nothing had happened yet. Cancelled while it
    /// hangs, it answers [`Error::Unknown`], as a target that never answers would leave it.
    async fn execute(&self, call: &Call) -> Result<Output, Error> {
        let configuration: MockConfiguration = crate::read(&call.configuration).map_err(Error::permanent)?;
        let sleep = Duration::from_millis(configuration.sleep_ms);
        tokio::select! {
            biased;
            () = call.cancel.cancelled() => return Err(Error::retryable("the mock rollback was cancelled while it waited")),
            () = wait(sleep) => {}
        }
        let lost = || Err(Error::unknown("the mock rollback lost its answer, as configured"));
        match configuration.behaviour {
            Behaviour::Fail => Err(Error::permanent("the mock rollback failed, as configured")),
            Behaviour::FailTimes(times) if call.try_number <= times => Err(Error::retryable(format!(
                "the mock rollback failed on try {} of {times} failing ones, as configured",
                call.try_number
            ))),
            Behaviour::Hang => {
                call.cancel.cancelled().await;
                Err(Error::unknown("the mock rollback never answered, as configured"))
            }
            Behaviour::LoseAnswer => {
                self.applied(call);
                lost()
            }
            Behaviour::LoseAnswerTimes(times) if call.try_number <= times => {
                self.applied(call);
                lost()
            }
            Behaviour::Succeed | Behaviour::FailTimes(_) | Behaviour::LoseAnswerTimes(_) => {
                self.applied(call);
                Ok(Output::new(format!(
                    "mock rollback done after {}; nothing was changed",
                    show_duration(sleep)
                )))
            }
        }
    }
}

/// A timer rounds up to its next tick; no wait at all is what zero asks for.
async fn wait(sleep: Duration) {
    if !sleep.is_zero() {
        tokio::time::sleep(sleep).await;
    }
}

/// What a plan freezes for a [`MockCheck`]: `{"health":"healthy"}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MockCheckConfiguration {
    /// What it says.
    pub health: Health,
}

/// What a [`MockCheck`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Healthy.
    #[default]
    Healthy,
    /// Not healthy, always.
    Unhealthy,
    /// No data, always.
    Inconclusive,
    /// `{"unhealthy_times": n}`: not healthy on the first `n` looks ([`Call::try_number`]), then healthy.
    UnhealthyTimes(u32),
    /// `{"unhealthy_attempts": n}`: not healthy in the first `n` attempts (of the key), then healthy.
    UnhealthyAttempts(u32),
}

/// The mock's own word. Never independent: it asks what made the change (safety rule 17).
#[derive(Clone, Copy, Debug, Default)]
pub struct MockCheck {
    configuration: MockCheckConfiguration,
}

impl MockCheck {
    /// The name plans freeze.
    pub const NAME: &'static str = "mock_check";

    /// A check whose plans freeze `health`.
    pub fn new(health: Health) -> Self {
        Self { configuration: MockCheckConfiguration { health } }
    }
}

#[async_trait]
impl Check for MockCheck {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn configuration(&self) -> Value {
        serde_json::to_value(self.configuration).unwrap_or_default()
    }

    fn accepts(&self, configuration: &Value) -> Result<(), String> {
        crate::read::<MockCheckConfiguration>(configuration).map(drop)
    }

    fn independent(&self) -> bool {
        false
    }

    async fn check(&self, call: &Call) -> Observation {
        let health = match crate::read::<MockCheckConfiguration>(&call.configuration) {
            Ok(configuration) => configuration.health,
            Err(detail) => return Observation::Inconclusive { detail },
        };
        let unhealthy = match health {
            Health::Healthy => false,
            Health::Unhealthy => true,
            Health::Inconclusive => {
                return Observation::Inconclusive {
                    detail: "the mock check has no data, as configured".into(),
                };
            }
            Health::UnhealthyTimes(times) => call.try_number <= times,
            Health::UnhealthyAttempts(attempts) => call.key.attempt <= attempts,
        };
        if unhealthy {
            Observation::Unhealthy { detail: "the mock check says not healthy, as configured".into() }
        } else {
            Observation::Healthy { detail: "the mock rollback says it is done".into() }
        }
    }
}

#[cfg(test)]
#[path = "mock_tests.rs"]
mod tests;
