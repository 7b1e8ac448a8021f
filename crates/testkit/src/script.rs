//! [`Script`]: what a [`ScriptedExecutor`](crate::ScriptedExecutor) does at each try of each step.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redress_types::{EffectKey, Phase};

use crate::gate::Gate;

/// What one call does.
#[derive(Clone, Debug)]
pub enum Do {
    /// Does it and says so.
    Succeed,
    /// Does nothing, for good.
    Fail,
    /// Does nothing; may be tried again, after this time if one is given.
    Retry(Option<Duration>),
    /// Does it, and the reply is lost: nobody knows.
    LoseReply,
    /// The request is lost: nothing was done, and nobody knows.
    LoseRequest,
    /// Never answers, whether it is asked to stop or not. Does nothing.
    Hang,
    /// Panics before anything was done.
    Panic,
    /// Waits for the gate, whether it is asked to stop or not, then does this.
    Behind(Gate, Box<Do>),
    /// Waits until it is asked to stop, then does this.
    WhenStopped(Box<Do>),
    /// Takes this long, whether it is asked to stop or not, then does this.
    Slowly(Duration, Box<Do>),
}

impl Do {
    /// [`Do::Behind`].
    pub fn behind(gate: &Gate, then: Self) -> Self {
        Self::Behind(gate.clone(), Box::new(then))
    }

    /// [`Do::WhenStopped`].
    pub fn when_stopped(then: Self) -> Self {
        Self::WhenStopped(Box::new(then))
    }

    /// [`Do::Slowly`].
    pub fn slowly(took: Duration, then: Self) -> Self {
        Self::Slowly(took, Box::new(then))
    }
}

/// What is done at each try of each step. What it does not name succeeds.
///
/// Tries are counted by the [`Target`](crate::Target) under their key, over restarts of engines. After the last
/// one named for a step, the last one is repeated.
#[derive(Clone, Default)]
pub struct Script {
    always: Option<Do>,
    steps: HashMap<(Phase, u32), Vec<Do>>,
    by: Option<Arc<dyn Fn(EffectKey, u32) -> Do + Send + Sync>>,
}

impl Script {
    /// Everything succeeds.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is not named otherwise does this.
    pub fn always(act: Do) -> Self {
        Self { always: Some(act), ..Self::default() }
    }

    /// This decides, given the key and the number of the call under it, from 1.
    pub fn by(decide: impl Fn(EffectKey, u32) -> Do + Send + Sync + 'static) -> Self {
        Self { by: Some(Arc::new(decide)), ..Self::default() }
    }

    /// The tries of step `step` (from 0) of the strategy, in every attempt.
    #[must_use]
    pub fn step(self, step: u32, tries: impl IntoIterator<Item = Do>) -> Self {
        self.phase(Phase::Rollback, step, tries)
    }

    /// The tries of step `step` (from 0) of the compensation.
    #[must_use]
    pub fn compensation(self, step: u32, tries: impl IntoIterator<Item = Do>) -> Self {
        self.phase(Phase::Compensation, step, tries)
    }

    fn phase(mut self, phase: Phase, step: u32, tries: impl IntoIterator<Item = Do>) -> Self {
        self.steps.insert((phase, step), tries.into_iter().collect());
        self
    }

    /// What the `call`th call (from 1) of an effect does.
    pub(crate) fn act(&self, key: EffectKey, call: u32) -> Do {
        if let Some(decide) = &self.by {
            return decide(key, call);
        }
        let named = self.steps.get(&(key.phase, key.step));
        let nth = usize::try_from(call.saturating_sub(1)).unwrap_or(usize::MAX);
        let act = named.and_then(|tries| tries.get(nth).or(tries.last()));
        act.or(self.always.as_ref()).cloned().unwrap_or(Do::Succeed)
    }
}
