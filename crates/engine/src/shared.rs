//! What all tasks of one engine share.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redress_action::CancellationToken;
use redress_fsm::State;
use redress_operation_log::fold::Writer;
use redress_operation_log::{Actor, Error, Obligations, OperationLog, Session, SessionId, Switch};
use redress_strategy::Strategy;
use redress_types::{Alert, Epoch, FencingToken, OperationId, Target, Timestamp};
use tokio::sync::{Notify, Semaphore, broadcast, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::environment::Environment;
use crate::observer::Observed;
use crate::registry::Registry;

/// How far the engine's clock may be from the log's before it accepts and claims nothing.
const CLOCK_OFF_MAX: Duration = Duration::from_secs(1);

/// What all tasks of one engine share.
pub(crate) struct Shared {
    pub environment: Environment,
    pub config: Config,
    pub log: Arc<dyn OperationLog>,
    pub registry: Registry,
    pub strategies: Vec<Strategy>,
    pub obligations: Vec<Arc<dyn Obligations>>,
    pub session: Session,
    pub actor: Actor,
    /// Cancelled when the engine is to stop: nothing new is begun, what runs is asked to stop.
    pub stopping: CancellationToken,
    /// Cancelled when the lease may be over: nothing more may be done to the world.
    pub lost: CancellationToken,
    /// One permit for each operation at work.
    pub permits: Arc<Semaphore>,
    pub running: Mutex<HashMap<OperationId, Running>>,
    pub observers: broadcast::Sender<Observed>,
    pub tasks: TaskTracker,
    /// Rung when there may be an operation to claim.
    pub work: Notify,
    /// Rung when there may be an outbox row to deliver.
    pub owed: Notify,
    pub lease_end: Mutex<Instant>,
    pub late: Mutex<HashMap<OperationId, AbortHandle>>,
    /// One permit for each alert that is being accepted, its append included.
    pub accepting: Arc<Semaphore>,
    /// Executors whose rows that cannot be delivered call nobody.
    pub quiet: HashSet<String>,
    /// When it was last known that the alert about an executor was raised.
    pub raised: tokio::sync::Mutex<HashMap<String, Timestamp>>,
    /// What the switches were when they were last looked at for the operations that wait for them.
    pub looked: tokio::sync::Mutex<Option<(Instant, Arc<[Switch]>)>>,
    /// Cancelled when nobody stops the engine in an orderly way any more: the lease is not renewed again.
    pub let_go: CancellationToken,
    /// How far the engine's clock was from the log's when they were last compared.
    pub clock_off_micros: AtomicU64,
    /// The highest position that this engine has appended at.
    pub appended: AtomicU64,
    /// The highest position that a checkpoint of this engine covers.
    pub covered: AtomicU64,
}

/// An operation that a task of this engine drives.
pub(crate) struct Running {
    pub epoch: Epoch,
    /// Rung when its inbox may have grown.
    pub doorbell: Arc<Notify>,
    /// Its state after its last entry; closed when the driver lets go of it.
    pub state: watch::Receiver<State>,
}

impl Shared {
    pub fn now(&self) -> Timestamp {
        self.environment.clock.now()
    }

    pub fn session_id(&self) -> SessionId {
        self.session.id
    }

    pub fn fencing(&self, epoch: Epoch) -> FencingToken {
        FencingToken { incarnation: self.session.incarnation, epoch }
    }

    pub fn writer(&self, epoch: Epoch) -> Writer {
        Writer { session: self.session.id, epoch, actor: self.actor.clone(), now: self.now() }
    }

    /// The first strategy that applies; the order of registration decides.
    pub fn strategy_for(&self, alert: &Alert) -> Option<&Strategy> {
        self.strategies.iter().find(|strategy| strategy.applies_to(alert))
    }

    pub fn running(&self) -> MutexGuard<'_, HashMap<OperationId, Running>> {
        // The map is never left half changed, so a panic elsewhere does not spoil it.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The switches as they were a moment ago, at most one poll: however many operations wait for them, one look.
    pub async fn switches_lately(&self) -> Result<Arc<[Switch]>, Error> {
        let mut looked = self.looked.lock().await;
        if let Some((at, switches)) = &*looked
            && at.elapsed() < self.config.poll
        {
            return Ok(Arc::clone(switches));
        }
        let at = Instant::now();
        let switches: Arc<[Switch]> = self.log.switches().await?.into();
        *looked = Some((at, Arc::clone(&switches)));
        Ok(switches)
    }

    /// Rings the operation's driver, if this engine has it.
    pub fn ring(&self, operation: OperationId) {
        if let Some(running) = self.running().get(&operation) {
            running.doorbell.notify_one();
        }
    }

    /// Compares the two clocks: the log's was read at some moment since `asked_at`, by our own.
    pub fn note_clock(&self, asked_at: Timestamp, log_now: Timestamp) {
        let off = asked_at.since(log_now).max(log_now.since(self.now()));
        let micros = u64::try_from(off.as_micros()).unwrap_or(u64::MAX);
        self.clock_off_micros.store(micros, Ordering::Relaxed);
    }

    /// How far apart the two clocks surely were at the last comparison.
    pub fn clock_off(&self) -> Duration {
        Duration::from_micros(self.clock_off_micros.load(Ordering::Relaxed))
    }

    /// Why nothing may be accepted or claimed: the times that this engine writes would mislead the others.
    pub fn clock_is_off(&self) -> Option<String> {
        let off = self.clock_off();
        (off > CLOCK_OFF_MAX)
            .then(|| format!("this machine's clock is {} off the log's", redress_types::show_duration(off)))
    }

    /// An entry stands, with rows of the outbox or without.
    pub fn note_append(&self, position: u64, owes: bool) {
        self.appended.fetch_max(position, Ordering::Relaxed);
        if owes {
            self.owed.notify_one();
        }
    }

    /// The engine may still act: the lease surely lasts, by the monotonic clock and from before it was asked for.
    pub fn may_act(&self) -> bool {
        !self.lost.is_cancelled() && Instant::now() < *self.lease_end()
    }

    /// When the lease may be over.
    pub fn lease_end(&self) -> MutexGuard<'_, Instant> {
        self.lease_end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that were given up on and may still answer, by operation.
    pub fn late(&self) -> MutexGuard<'_, HashMap<OperationId, AbortHandle>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lease is over, and what was to be kept of late answers has had its time.
pub(crate) async fn long_after_the_lease(shared: &Shared) {
    shared.lost.cancelled().await;
    tokio::time::sleep(shared.config.grace * 2).await;
}

/// The switches that can pause an operation.
pub(crate) fn switch_keys(strategy: Option<&str>, target: &Target) -> Vec<String> {
    let mut keys = vec!["engine".to_owned()];
    keys.extend(strategy.map(|strategy| format!("strategy:{strategy}")));
    keys.push(format!("target:{target}"));
    keys
}

/// The first of these switches that is off now.
pub(crate) fn paused_by<'a>(switches: &'a [Switch], keys: &[String], now: Timestamp) -> Option<&'a Switch> {
    switches.iter().find(|switch| keys.contains(&switch.key) && switch.until.is_none_or(|until| until > now))
}
