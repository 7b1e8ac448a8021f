//! [`Service`]: everything the addresses share, put together before anything listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redress_ingest::{Identity, Options};
use redress_operation_log::OperationHistory;
use redress_types::{Clock, Source, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::body;
use crate::door::Door;
use crate::health::Dependency;
use crate::issues::IssueReader;
use crate::limits::Limits;
use crate::pull::Pull;
use crate::{routes, serve};

/// Alertmanager's own default for `repeat_interval`.
const REPEAT_INTERVAL: Duration = Duration::from_secs(4 * 3600);

/// The HTTP service, before it listens.
pub struct Service {
    state: State,
}

/// What every request handler shares.
pub(crate) struct State {
    pub door: Door,
    pub history: Arc<dyn OperationHistory>,
    pub clock: Arc<dyn Clock>,
    pub issues: Option<Arc<dyn IssueReader>>,
    pub pull: Option<Arc<dyn Pull>>,
    pub dependencies: Vec<Arc<dyn Dependency>>,
    pub webhook_access: Access,
    pub alerts_access: Access,
    pub reading_access: Access,
    pub repeat_interval: Duration,
    pub identity: Identity,
    pub limits: Limits,
    /// One permit for each request that may be at work.
    pub requests: Arc<Semaphore>,
    /// One permit for each [`body::UNIT`] of bodies that may be at work.
    pub bodies: Arc<Semaphore>,
    pub counted: Arc<Counts>,
    pub started: Timestamp,
}

/// What was counted since the service was made.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    requests: AtomicU64,
    truncated: AtomicU64,
    pulled: AtomicU64,
    pulls_failed: AtomicU64,
    conflicts: AtomicU64,
    overloads: AtomicU64,
    unavailable: AtomicU64,
    panics: AtomicU64,
}

/// What a service counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests.
    pub requests: u64,
    /// Alerts that Alertmanager left out of its webhooks (`truncatedAlerts`).
    pub truncated_alerts: u64,
    /// Of those, alerts fetched from Alertmanager.
    pub pulled_alerts: u64,
    /// Times that they could not be fetched.
    pub pulls_failed: u64,
    /// Deliveries whose id stands for another alert.
    pub conflicts: u64,
    /// Requests refused because there were too many.
    pub overloads: u64,
    /// Intake requests refused because an alert could not be made durable.
    pub unavailable: u64,
    /// Requests that ended in a panic: defects.
    pub panics: u64,
}

impl Counts {
    fn add(counter: &AtomicU64, n: u64) -> u64 {
        counter.fetch_add(n, Ordering::Relaxed)
    }

    /// Counts a request; answers how many there were before it.
    pub(crate) fn request(&self) -> u64 {
        Self::add(&self.requests, 1)
    }

    pub(crate) fn truncated(&self, n: u64) {
        Self::add(&self.truncated, n);
    }

    pub(crate) fn pulled(&self, n: usize) {
        Self::add(&self.pulled, n as u64);
    }

    pub(crate) fn pull_failed(&self) {
        Self::add(&self.pulls_failed, 1);
    }

    pub(crate) fn conflicts(&self, n: usize) {
        Self::add(&self.conflicts, n as u64);
    }

    pub(crate) fn overload(&self) {
        Self::add(&self.overloads, 1);
    }

    pub(crate) fn unavailable(&self) {
        Self::add(&self.unavailable, 1);
    }

    pub(crate) fn panic(&self) {
        Self::add(&self.panics, 1);
    }

    pub(crate) fn read(&self) -> Counted {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            requests: read(&self.requests),
            truncated_alerts: read(&self.truncated),
            pulled_alerts: read(&self.pulled),
            pulls_failed: read(&self.pulls_failed),
            conflicts: read(&self.conflicts),
            overloads: read(&self.overloads),
            unavailable: read(&self.unavailable),
            panics: read(&self.panics),
        }
    }
}

impl State {
    /// How the webhook's payloads are read.
    pub(crate) fn webhook_options(&self) -> Options {
        Options { source: Source::Webhook { repeat_interval: self.repeat_interval }, ..self.options() }
    }

    /// How native alert messages are read. The bytes of each alert are kept, erasable.
    pub(crate) fn options(&self) -> Options {
        Options {
            source: Source::Native,
            keep_original: true,
            identity: self.identity.clone(),
            payload_bytes_max: self.limits.body_bytes_max,
            alerts_max: self.limits.alerts_max,
        }
    }
}

impl Service {
    /// A service that anybody may call, without alert tables, without dependencies.
    pub fn new(door: Door, history: Arc<dyn OperationHistory>, clock: Arc<dyn Clock>) -> Self {
        let limits = Limits::default();
        let started = clock.now();
        Self {
            state: State {
                door,
                history,
                clock,
                issues: None,
                pull: None,
                dependencies: Vec::new(),
                webhook_access: Access::open(),
                alerts_access: Access::open(),
                reading_access: Access::open(),
                repeat_interval: REPEAT_INTERVAL,
                identity: Identity::default(),
                requests: Arc::new(Semaphore::new(limits.requests_max)),
                bodies: bodies(&limits),
                limits,
                counted: Arc::default(),
                started,
            },
        }
    }

    /// Answers issues from here.
    #[must_use]
    pub fn issues(mut self, issues: Arc<dyn IssueReader>) -> Self {
        self.state.issues = Some(issues);
        self
    }

    /// Fetches from here what a truncated webhook left out.
    #[must_use]
    pub fn pull(mut self, pull: Arc<dyn Pull>) -> Self {
        self.state.pull = Some(pull);
        self
    }

    /// Asks this one too before it says that it is ready.
    #[must_use]
    pub fn dependency(mut self, dependency: Arc<dyn Dependency>) -> Self {
        self.state.dependencies.push(dependency);
        self
    }

    /// Who may call the Alertmanager webhook.
    #[must_use]
    pub fn webhook_access(mut self, access: Access) -> Self {
        self.state.webhook_access = access;
        self
    }

    /// Who may call the native intake.
    #[must_use]
    pub fn alerts_access(mut self, access: Access) -> Self {
        self.state.alerts_access = access;
        self
    }

    /// Who may read operations and issues.
    #[must_use]
    pub fn reading_access(mut self, access: Access) -> Self {
        self.state.reading_access = access;
        self
    }

    /// How often Alertmanager repeats what still fires. A delivery within twice this of the last one is live.
    #[must_use]
    pub fn repeat_interval(mut self, interval: Duration) -> Self {
        self.state.repeat_interval = interval;
        self
    }

    /// What makes two alerts the same problem.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.state.identity = identity;
        self
    }

    /// The service's own bounds.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.state.requests = Arc::new(Semaphore::new(limits.requests_max));
        self.state.bodies = bodies(&limits);
        self.state.limits = limits;
        self
    }

    /// What it counts, to be read while it serves.
    pub fn counted(&self) -> impl Fn() -> Counted + Send + Sync + 'static {
        let counts = Arc::clone(&self.state.counted);
        move || counts.read()
    }

    /// Serves until `stop` is cancelled; then accepts nothing more, lets requests at work finish within the
    /// configured grace, closes what is left, and returns.
    ///
    /// Stop it before the engine, so that what it took is answered.
    ///
    /// Cancellation safety: dropped, it closes every connection at once; what was taken is carried out.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let limits = self.state.limits.clone();
        serve::serve(routes::router(Arc::new(self.state)), listener, &limits, stop).await;
    }
}

fn bodies(limits: &Limits) -> Arc<Semaphore> {
    let bytes = limits.bodies_bytes_max.max(limits.body_bytes_max);
    Arc::new(Semaphore::new(bytes.div_ceil(body::UNIT)))
}
