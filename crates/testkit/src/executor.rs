//! [`ScriptedExecutor`]: an executor that does what a test told it to, and lets a [`Target`] count it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redress_action::{ActionExecutor, Call, Error, InDoubt, Output, Policy, Probe, Probed};

use crate::crash::Crash;
use crate::script::{Do, Script};
use crate::target::Target;

/// What a probe answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeSays {
    /// What the target knows.
    Truth,
    /// The target could not be asked.
    Unknown,
    /// It was not done, and would be refused for ever.
    Refused,
    /// Never answers.
    Hang,
    /// Panics.
    Panic,
}

/// An executor that follows a [`Script`]. Clones follow the same one, at the same [`Target`].
#[derive(Clone)]
pub struct ScriptedExecutor {
    name: String,
    policy: Policy,
    script: Script,
    target: Target,
    crash: Crash,
    prober: Arc<Prober>,
}

struct Prober {
    target: Target,
    crash: Crash,
    says: Mutex<VecDeque<ProbeSays>>,
    takes: Duration,
}

impl ScriptedExecutor {
    /// An executor of this name that declares this policy and follows this script. Its probe tells the truth.
    pub fn new(name: &str, policy: Policy, target: &Target, script: Script) -> Self {
        let crash = Crash::never();
        let prober = Prober {
            target: target.clone(),
            crash: crash.clone(),
            says: Mutex::new(VecDeque::new()),
            takes: Duration::ZERO,
        };
        let target = target.clone();
        Self { name: name.to_owned(), policy, script, target, crash, prober: Arc::new(prober) }
    }

    /// What the next probes answer, in order; after them, the truth.
    #[must_use]
    pub fn probe_says(self, says: impl IntoIterator<Item = ProbeSays>) -> Self {
        self.prober.says().extend(says);
        self
    }

    /// Every probe takes this long.
    #[must_use]
    pub fn probe_takes(mut self, takes: Duration) -> Self {
        self.prober = Arc::new(self.prober.like(&self.crash, takes));
        self
    }

    /// The engine that runs it ends with this crash: what it had not done by then, it never does.
    #[must_use]
    pub fn in_process(mut self, crash: &Crash) -> Self {
        self.crash = crash.clone();
        self.prober = Arc::new(self.prober.like(crash, self.prober.takes));
        self
    }

    async fn act(&self, call: &Call, mut act: Do) -> Result<Output, Error> {
        loop {
            // The steps before the answer are peeled off one by one.
            act = match act {
                Do::Behind(gate, then) => {
                    gate.pass().await;
                    *then
                }
                Do::WhenStopped(then) => {
                    call.cancel.cancelled().await;
                    *then
                }
                Do::Slowly(took, then) => {
                    tokio::time::sleep(took).await;
                    *then
                }
                Do::Succeed => {
                    self.apply(call).await;
                    return Ok(Output::new("done"));
                }
                Do::LoseReply => {
                    self.apply(call).await;
                    return Err(Error::unknown("the reply was lost"));
                }
                Do::LoseRequest => return Err(Error::unknown("the request was lost")),
                Do::Fail => return Err(Error::permanent("refused for good")),
                Do::Retry(retry_after) => {
                    return Err(Error::Retryable { reason: "not now".into(), retry_after });
                }
                Do::Hang => std::future::pending().await,
                #[expect(clippy::panic, reason = "the script asks for it")]
                Do::Panic => panic!("as the script says"),
            };
        }
    }

    async fn apply(&self, call: &Call) {
        self.crash.point(&format!("before the effect {}", short(call))).await;
        self.target.apply(call.key, call.fencing);
        self.crash.point(&format!("after the effect {}", short(call))).await;
    }
}

fn short(call: &Call) -> String {
    format!("{}:{}:{}", call.key.phase, call.key.attempt, call.key.step)
}

impl Prober {
    fn like(&self, crash: &Crash, takes: Duration) -> Self {
        let says = Mutex::new(self.says().clone());
        Self { target: self.target.clone(), crash: crash.clone(), says, takes }
    }

    fn says(&self) -> std::sync::MutexGuard<'_, VecDeque<ProbeSays>> {
        self.says.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Probe for Prober {
    async fn probe(&self, call: &Call) -> Probed {
        tokio::time::sleep(self.takes).await;
        self.crash.point(&format!("before the probe {}", short(call))).await;
        let says = self.says().pop_front().unwrap_or(ProbeSays::Truth);
        let done = self.target.probe(call.key);
        match says {
            ProbeSays::Truth if done => Probed::Applied(Output::new("the target has it")),
            ProbeSays::Truth => Probed::NotApplied,
            ProbeSays::Unknown => Probed::Unknown("the target cannot be asked".into()),
            ProbeSays::Refused => Probed::Refused("it would be refused".into()),
            ProbeSays::Hang => std::future::pending().await,
            #[expect(clippy::panic, reason = "the script asks for it")]
            ProbeSays::Panic => panic!("as the script says"),
        }
    }
}

#[async_trait]
impl ActionExecutor for ScriptedExecutor {
    fn name(&self) -> &str {
        &self.name
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        match self.policy {
            Policy::Rerun => InDoubt::Rerun,
            Policy::Probe => InDoubt::Probe(self.prober.as_ref()),
            Policy::Halt => InDoubt::Halt,
        }
    }

    async fn execute(&self, call: &Call) -> Result<Output, Error> {
        self.crash.stand_still().await;
        let (number, _under_way) = self.target.call(call, &self.crash);
        let answer = self.act(call, self.script.act(call.key, number)).await;
        self.crash.stand_still().await;
        answer
    }
}
