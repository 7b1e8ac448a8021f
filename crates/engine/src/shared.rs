//! What all tasks of one engine share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redress_action::CancellationToken;
use redress_operation_log::fold::Writer;
use redress_operation_log::{Actor, Operation, OperationLog, Session, SessionId, Switch};
use redress_strategy::Strategy;
use redress_types::{Alert, Epoch, FencingToken, OperationId, Target, Timestamp};
use tokio::sync::{Notify, Semaphore, broadcast, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::environment::Environment;
use crate::observer::Observed;
use crate::outbox::Obligations;
use crate::registry::Registry;

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
    /// The engine's clock less the log's, when they were last compared.
    pub clock_off_micros: AtomicI64,
}

/// An operation that a task of this engine drives.
pub(crate) struct Running {
    pub epoch: Epoch,
    /// Rung when its inbox may have grown.
    pub doorbell: Arc<Notify>,
    /// The operation after its last entry.
    pub progress: watch::Receiver<Arc<Operation>>,
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

    /// Rings the operation's driver, if this engine has it.
    pub fn ring(&self, operation: OperationId) {
        if let Some(running) = self.running().get(&operation) {
            running.doorbell.notify_one();
        }
    }

    /// Compares the two clocks.
    pub fn note_clock(&self, log_now: Timestamp) {
        let off = self.now().as_micros().saturating_sub(log_now.as_micros());
        self.clock_off_micros.store(off, Ordering::Relaxed);
    }

    /// How far apart the two clocks were at the last comparison.
    pub fn clock_off(&self) -> Duration {
        Duration::from_micros(self.clock_off_micros.load(Ordering::Relaxed).unsigned_abs())
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
