//! [`Engine`]: holds the session, renews its lease, finds work, and stops cleanly.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use redress_action::{ActionExecutor, CancellationToken, Check};
use redress_operation_log::{Actor, ClaimRequest, Claimed, Error, Operation, OperationHistory, OperationLog};
use redress_strategy::{PlanHash, Strategy};
use redress_types::{Delivery, OperationId, Timestamp};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::admission::{self, Receipt, SubmitError};
use crate::channel::{self, AlertSender};
use crate::config::Config;
use crate::decide::Input;
use crate::driver::Driver;
use crate::environment::Environment;
use crate::observer::Observed;
use crate::outbox::{self, Obligations};
use crate::registry::Registry;
use crate::shared::Shared;

/// How far the engine's clock may be from the log's before it claims nothing.
const CLOCK_OFF_MAX: Duration = Duration::from_secs(1);

/// Puts an engine together.
pub struct Builder {
    environment: Environment,
    log: Arc<dyn OperationLog>,
    config: Config,
    registry: Registry,
    strategies: Vec<Strategy>,
    obligations: Vec<Arc<dyn Obligations>>,
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
}

impl Builder {
    /// Adds an executor.
    #[must_use]
    pub fn executor(mut self, executor: impl ActionExecutor) -> Self {
        self.registry.add_executor(Arc::new(executor));
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

    /// The engine's own bounds.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Opens a session and starts. What the log says is unfinished goes on at once.
    ///
    /// # Errors
    /// [`StartError`]. Nothing was started.
    pub async fn start(self) -> Result<Engine, StartError> {
        for strategy in &self.strategies {
            if let Some(missing) = self.registry.missing(&strategy.plan().plan) {
                return Err(StartError::Missing { strategy: strategy.name().to_owned(), missing });
            }
        }
        // The lease is counted from before it was asked for (it may have been granted any time since).
        let asked = Instant::now();
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
            strategies: self.strategies,
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
            clock_off_micros: AtomicI64::new(0),
        });
        shared.note_clock(shared.session.log_now);
        let sender = channel::open(&shared);
        let keeper = tokio::spawn(keep_lease(Arc::clone(&shared), asked));
        shared.tasks.spawn(find_work(Arc::clone(&shared)));
        if !shared.obligations.is_empty() {
            shared.tasks.spawn(outbox::run(Arc::clone(&shared)));
        }
        Ok(Engine { shared, sender, keeper })
    }
}

/// A running engine.
///
/// Dropping it without [`shutdown`](Self::shutdown) leaves its tasks running until the runtime ends; what they
/// were doing is then in doubt, as after a crash.
pub struct Engine {
    shared: Arc<Shared>,
    sender: AlertSender,
    keeper: tokio::task::JoinHandle<()>,
}

impl Engine {
    /// Starts putting an engine together over a log.
    pub fn builder(environment: Environment, log: Arc<dyn OperationLog>) -> Builder {
        Builder {
            environment,
            log,
            config: Config::default(),
            registry: Registry::default(),
            strategies: Vec::new(),
            obligations: Vec::new(),
        }
    }

    /// The bounded channel into this engine.
    pub fn sender(&self) -> AlertSender {
        self.sender.clone()
    }

    /// Takes one delivery directly; the answer is given only after it is durable.
    ///
    /// Cancellation safety: dropped, the alert may or may not have been taken; what was taken is carried out.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit(&self, delivery: Delivery) -> Result<Receipt, SubmitError> {
        admission::submit(&self.shared, delivery).await
    }

    /// Everything that is recorded from now on, after its commit. A watcher that falls behind by more than 1,024
    /// entries misses some, and is told how many.
    pub fn observe(&self) -> broadcast::Receiver<Observed> {
        self.shared.observers.subscribe()
    }

    /// The history.
    pub fn history(&self) -> Arc<dyn OperationHistory> {
        Arc::clone(&self.shared.log) as Arc<dyn OperationHistory>
    }

    /// The log.
    pub fn log(&self) -> Arc<dyn OperationLog> {
        Arc::clone(&self.shared.log)
    }

    /// The strategies, in the order in which they are tried.
    pub fn strategies(&self) -> &[Strategy] {
        &self.shared.strategies
    }

    /// Operations that this engine drives now.
    pub fn at_work(&self) -> Vec<OperationId> {
        self.shared.running().keys().copied().collect()
    }

    /// Resolves when the session was lost: this engine does nothing any more. Build another one.
    ///
    /// Cancellation safety: may be dropped at any await.
    pub async fn lost(&self) {
        self.shared.lost.cancelled().await;
    }

    /// Stops: takes nothing more, asks what runs to stop and gives it the grace period, settles what it can,
    /// gives up what it holds and closes the session. What is unfinished goes on with the next engine.
    ///
    /// Cancellation safety: dropped, the engine stops all the same, and the session ends with its lease.
    pub async fn shutdown(self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.keeper.abort();
        if let Err(error) = self.shared.log.close_session(self.shared.session_id()).await {
            tracing::warn!(%error, "the session could not be closed; it ends with its lease");
        }
    }
}

/// Renews the lease at a third of its length. Stops the engine from acting before it may have ended.
async fn keep_lease(shared: Arc<Shared>, mut counted_from: Instant) {
    let lease = shared.session.lease;
    let mut next = counted_from + lease / 3;
    loop {
        tokio::time::sleep_until(next).await;
        let asked = Instant::now();
        // The answer must come while the lease surely lasts.
        let end = counted_from + lease - lease / 6;
        match tokio::time::timeout_at(end, shared.log.renew_session(shared.session_id())).await {
            Ok(Ok(log_now)) => {
                shared.note_clock(log_now);
                *shared.lease_end() = asked + lease;
                counted_from = asked;
                next = asked + lease / 3;
            }
            Ok(Err(error)) if matches!(error, Error::Stale { .. }) => {
                tracing::error!(%error, "the session is over: another engine goes on");
                shared.lost.cancel();
                return;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease could not be renewed");
                next = Instant::now() + lease / 30;
                if next >= end {
                    shared.lost.cancel();
                    return;
                }
            }
            Err(_) => {
                tracing::error!("the lease could not be renewed in time: nothing more is done");
                shared.lost.cancel();
                return;
            }
        }
    }
}

/// Wake-ups come in bursts; those of so short a time are answered by one look.
const COALESCE: Duration = Duration::from_millis(2);

/// What is remembered between two looks.
struct Finder {
    /// Plans that this engine cannot run.
    unable: HashSet<PlanHash>,
    /// When everything is swept again.
    sweep_at: Instant,
}

/// Finds operations that nobody drives, and inboxes that grew.
async fn find_work(shared: Arc<Shared>) {
    let mut wakeups = shared.log.wakeups();
    let mut finder = Finder { unable: HashSet::new(), sweep_at: Instant::now() };
    loop {
        let looked = AssertUnwindSafe(look_for_work(&shared, &mut finder)).catch_unwind().await;
        let next = match looked {
            Ok(Ok(next)) => next,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot look for work");
                None
            }
            // An executor's `accepts` is not ours; the look is what must go on.
            Err(_) => {
                tracing::error!("looking for work panicked");
                None
            }
        };
        let wait = until_next_look(&shared, next);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = wakeups.changed() => {
                if changed.is_err() {
                    // The log has no wake-ups to give any more: polling finds what there is.
                    tokio::time::sleep(shared.config.poll).await;
                }
            }
            () = shared.work.notified() => {}
            () = shared.stopping.cancelled() => return,
            () = shared.lost.cancelled() => return,
        }
        tokio::time::sleep(COALESCE.min(shared.config.poll)).await;
    }
}

/// The poll interval, or less when an operation becomes due before that.
fn until_next_look(shared: &Shared, next_due: Option<Timestamp>) -> Duration {
    let poll = shared.config.poll;
    match next_due {
        // At least a little, so that an operation that this engine cannot run does not keep it busy.
        Some(due) if shared.permits.available_permits() > 0 => due.since(shared.now()).clamp(poll / 10, poll),
        Some(_) | None => poll,
    }
}

/// Rings the drivers whose inbox grew, and takes what is due. Answers when the next operation is due.
async fn look_for_work(shared: &Arc<Shared>, finder: &mut Finder) -> Result<Option<Timestamp>, Error> {
    for operation in shared.log.inbox_waiting(shared.session_id()).await? {
        shared.ring(operation);
    }
    let next = shared.log.next_due().await?;
    let off = shared.clock_off();
    if off > CLOCK_OFF_MAX {
        tracing::error!(
            off_ms = off.as_millis(),
            "this machine's clock is off the log's: nothing is claimed"
        );
        return Ok(next);
    }
    // `next_due` speaks of what nobody holds. Now and then everything is swept, for what a living engine holds
    // and has shown no sign of life for.
    let sweeps = Instant::now() >= finder.sweep_at;
    if !sweeps && next.is_none_or(|due| due > shared.now()) {
        return Ok(next);
    }
    let mut permits = Vec::new();
    // Small rounds: what is claimed is driven before more is claimed.
    while permits.len() < 64 {
        match Arc::clone(&shared.permits).try_acquire_owned() {
            Ok(permit) => permits.push(permit),
            Err(_) => break,
        }
    }
    if permits.is_empty() {
        return Ok(next);
    }
    finder.sweep_at = Instant::now() + shared.session.lease / 3;
    let now = shared.now();
    let driven = shared.running().keys().copied().collect();
    let claimed = shared
        .log
        .claim(ClaimRequest {
            session: shared.session_id(),
            now,
            limit: permits.len(),
            driven,
            unable: finder.unable.iter().copied().collect(),
            due: now.plus(shared.config.lease),
        })
        .await?;
    if claimed.is_empty() {
        // What is due is not for this engine, or not to be had: no reason to look again before the next poll.
        return Ok(None);
    }
    if claimed.len() == permits.len() {
        shared.work.notify_one();
    }
    for (claimed, permit) in claimed.into_iter().zip(permits) {
        take_over(shared, claimed, permit, &mut finder.unable).await;
    }
    Ok(next)
}

/// Folds a claimed operation and drives it, unless this engine cannot run its plan.
async fn take_over(
    shared: &Arc<Shared>,
    claimed: Claimed,
    permit: OwnedSemaphorePermit,
    unable: &mut HashSet<PlanHash>,
) {
    let id = claimed.operation;
    match fold(shared, claimed).await {
        Ok(operation) => {
            if let Some(missing) =
                operation.plan.as_ref().and_then(|plan| shared.registry.missing(&plan.plan))
            {
                tracing::warn!(operation = %id, waits_for = %missing, "left for an engine that can run it");
                unable.extend(operation.plan.as_ref().map(|plan| plan.hash));
                give_up(shared, claimed).await;
                return;
            }
            if operation.state.is_acting() {
                // What goes on from here may take longer than the lease, before it writes its next entry.
                let now = shared.now();
                let due = crate::commit::due(shared, &operation, now);
                let held = shared.log.hold_until(shared.session_id(), id, claimed.epoch, due).await;
                if matches!(held, Err(Error::Stale { .. })) {
                    return;
                }
            }
            // Also when an earlier session noticed it and stopped before it came to this operation.
            let restored = operation.session < shared.session.since && operation.state.is_acting();
            let driver = Driver::new(Arc::clone(shared), Arc::new(operation), claimed.epoch, u64::MAX, 1);
            shared.tasks.spawn(async move {
                let driver = if restored { driver.doubt_everything().await } else { Some(driver) };
                if let Some(driver) = driver {
                    driver.run().await;
                }
                drop(permit);
            });
        }
        Err(error) => {
            tracing::error!(operation = %id, error = format!("{error:#}"), "cannot be folded; run `redress verify`");
            // It keeps its due time, so that it is not looked at in a circle.
        }
    }
}

async fn give_up(shared: &Shared, claimed: Claimed) {
    let gone = shared.log.give_up(shared.session_id(), claimed.operation, claimed.epoch).await;
    if let Err(error) = gone {
        tracing::warn!(operation = %claimed.operation, %error, "could not be given up");
    }
}

async fn fold(shared: &Shared, claimed: Claimed) -> Result<Operation, Error> {
    let corrupt = |what: String| Error::Corrupt { what };
    let plan = match claimed.plan {
        None => None,
        Some(hash) => match shared.log.plan(hash).await? {
            Some(plan) => Some(plan),
            None => return Err(corrupt(format!("plan {hash} is missing"))),
        },
    };
    let mut entries = Vec::new();
    loop {
        let after = entries.len() as u64;
        let page = shared.log.entries(claimed.operation, after, 1000).await?;
        if page.is_empty() {
            break;
        }
        entries.extend(page);
    }
    Operation::replay(&entries, plan)
        .map_err(|error| corrupt(format!("operation {}: {error}", claimed.operation)))
}

impl Driver {
    /// The log was restored from a backup: what was done since is unknown, so a person decides.
    async fn doubt_everything(mut self) -> Option<Self> {
        let why = "the log was restored from a backup; what was done after it is not known";
        let doubted = self.operation.state == redress_fsm::State::Suspended
            || self.record_all(vec![Input::Doubt(why)]).await.is_ok();
        doubted.then_some(self)
    }
}
