//! [`Builder`]: puts an engine together, refuses what could not be carried out, and starts it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use redress_action::{ActionExecutor, CancellationToken, Check, Escalate};
use redress_operation_log::{Actor, Error, Obligations, OperationLog};
use redress_strategy::builder::DEFAULT_CHECK_TIMEOUT;
use redress_strategy::{Invalid, Strategy};
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::environment::Environment;
use crate::holder::Engine;
use crate::registry::Registry;
use crate::shared::Shared;
use crate::{channel, checkpoints, escalation, finder, lease, outbox};

/// Puts an engine together.
pub struct Builder {
    environment: Environment,
    log: Arc<dyn OperationLog>,
    config: Config,
    registry: Registry,
    strategies: Vec<Strategy>,
    obligations: Vec<Arc<dyn Obligations>>,
    default_check: Option<Arc<dyn Check>>,
    quiet: HashSet<String>,
    calls: bool,
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another engine has the log, or it cannot be opened.
    #[error("no session at the log")]
    Session(#[source] Error),
    /// A strategy needs what the engine does not have.
    #[error(
        "strategy {strategy:?} needs {missing}, which this engine does not have; register it before the strategy is used"
    )]
    Missing {
        /// The strategy.
        strategy: String,
        /// What it needs.
        missing: String,
    },
    /// A strategy names no check, and the engine has none of its own: then nothing could be called restored.
    #[error(
        "strategy {strategy:?} has no check, and \"restored\" means verified: add one to the strategy with .check(…), or give the engine one for all strategies that name none with .default_check(…)"
    )]
    NoCheck {
        /// The strategy.
        strategy: String,
    },
    /// A strategy cannot take the engine's default check.
    #[error("the default check cannot be used")]
    DefaultCheck(#[source] Invalid),
}

impl Builder {
    pub(crate) fn new(environment: Environment, log: Arc<dyn OperationLog>) -> Self {
        Self {
            environment,
            log,
            config: Config::default(),
            registry: Registry::default(),
            strategies: Vec::new(),
            obligations: Vec::new(),
            default_check: None,
            quiet: HashSet::new(),
            calls: false,
        }
    }

    /// Adds an executor.
    #[must_use]
    pub fn executor(mut self, executor: impl ActionExecutor) -> Self {
        self.registry.add_executor(Arc::new(executor));
        self
    }

    /// Adds an executor that others have too.
    #[must_use]
    pub fn shared_executor(mut self, executor: Arc<dyn ActionExecutor>) -> Self {
        self.registry.add_executor(executor);
        self
    }

    /// Adds a check.
    #[must_use]
    pub fn check(mut self, check: impl Check) -> Self {
        self.registry.add_check(Arc::new(check));
        self
    }

    /// Adds a strategy; the first that applies to an alert is taken.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategies.push(strategy);
        self
    }

    /// Adds what entries owe; the executors it names must be registered too.
    #[must_use]
    pub fn obligations(mut self, obligations: impl Obligations) -> Self {
        self.obligations.push(Arc::new(obligations));
        self
    }

    /// Calls a person when an operation is Failed, TimedOut or Suspended, when a problem has used up its attempts, and
    /// when something that is owed cannot be delivered. Owed in the commit that asks for it, delivered at least once
    /// under one key, by the executor [`crate::escalation::EXECUTOR`], which replaces any of that name.
    #[must_use]
    pub fn escalation(mut self, escalate: impl Escalate) -> Self {
        if !std::mem::replace(&mut self.calls, true) {
            self.obligations.push(Arc::new(escalation::Calls));
        }
        self.registry.add_executor(Arc::new(escalation::Caller(escalate)));
        self
    }

    /// Calls nobody when rows of the outbox for this executor cannot be delivered: for what is repaired by other means,
    /// such as a cache that may be behind. That it is behind stays visible in the log and in what is owed.
    #[must_use]
    pub fn calls_nobody(mut self, executor: impl Into<String>) -> Self {
        self.quiet.insert(executor.into());
        self
    }

    /// The check that verifies strategies which name none, registered too. One look may take 30 s
    /// ([`DEFAULT_CHECK_TIMEOUT`]). It is frozen into their plans when the engine starts.
    #[must_use]
    pub fn default_check(mut self, check: impl Check) -> Self {
        let check: Arc<dyn Check> = Arc::new(check);
        self.registry.add_check(Arc::clone(&check));
        self.default_check = Some(check);
        self
    }

    /// The engine's own bounds.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config.at_least_one();
        self
    }

    /// Opens a session and starts. What the log says is unfinished goes on at once.
    ///
    /// # Errors
    /// [`StartError`]. Nothing was started.
    pub async fn start(self) -> Result<Engine, StartError> {
        let strategies = self.strategies.into_iter();
        let strategies = strategies.map(|strategy| verified(strategy, self.default_check.as_deref()));
        let strategies: Vec<Strategy> = strategies.collect::<Result<_, _>>()?;
        for strategy in &strategies {
            if let Some(missing) = self.registry.missing(&strategy.plan().plan) {
                return Err(StartError::Missing { strategy: strategy.name().to_owned(), missing });
            }
        }
        warn_of_slots(&strategies);
        // The lease is counted from before it was asked for (it may have been granted any time since).
        let (asked, asked_at) = (Instant::now(), self.environment.clock.now());
        let session =
            self.log.open_session(&self.config.name, self.config.lease).await.map_err(StartError::Session)?;
        let (observers, _) = broadcast::channel(1024);
        let shared = Arc::new(Shared {
            actor: Actor::engine(&self.config.name),
            permits: Arc::new(Semaphore::new(self.config.operations_at_work_max)),
            accepting: Arc::new(Semaphore::new(self.config.channel_capacity)),
            environment: self.environment,
            config: self.config,
            log: self.log,
            registry: self.registry,
            strategies,
            obligations: self.obligations,
            session: session.clone(),
            stopping: CancellationToken::new(),
            lost: CancellationToken::new(),
            running: Mutex::new(HashMap::new()),
            observers,
            tasks: TaskTracker::new(),
            work: Notify::new(),
            owed: Notify::new(),
            lease_end: Mutex::new(asked + session.lease),
            late: Mutex::new(HashMap::new()),
            quiet: self.quiet,
            raised: tokio::sync::Mutex::default(),
            looked: tokio::sync::Mutex::default(),
            let_go: CancellationToken::new(),
            clock_off_micros: AtomicU64::new(0),
            appended: AtomicU64::new(0),
            covered: AtomicU64::new(0),
        });
        shared.note_clock(asked_at, shared.session.log_now);
        let sender = channel::open(&shared);
        let keeper = tokio::spawn(lease::keep(Arc::clone(&shared), asked));
        shared.tasks.spawn(finder::find_work(Arc::clone(&shared)));
        shared.tasks.spawn(outbox::run(Arc::clone(&shared)));
        shared.tasks.spawn(checkpoints::run(Arc::clone(&shared)));
        Ok(Engine::new(shared, sender, keeper))
    }
}

/// The strategy with a check: its own, or the engine's.
fn verified(strategy: Strategy, default: Option<&dyn Check>) -> Result<Strategy, StartError> {
    match default {
        _ if strategy.has_check() => Ok(strategy),
        Some(check) => strategy.with_check(check, DEFAULT_CHECK_TIMEOUT).map_err(StartError::DefaultCheck),
        None => Err(StartError::NoCheck { strategy: strategy.name().to_owned() }),
    }
}

/// Strategies that narrow targets differently have different slots for one target.
fn warn_of_slots(strategies: &[Strategy]) {
    let Some((first, rest)) = strategies.split_first() else { return };
    let labels = |strategy: &Strategy| strategy.plan().plan.slot_labels.clone();
    for other in rest.iter().filter(|other| labels(other) != labels(first)) {
        tracing::warn!(
            one = first.name(),
            other = other.name(),
            "these strategies narrow their targets differently: where both apply to a service, both may act on it at once"
        );
    }
}
