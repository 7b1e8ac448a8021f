//! The persistence step: what an operation means for the alert tables that other systems read, and for their Redis
//! cache (contracts §4 and §5).
//!
//! The log is the truth. Entries that matter to the tables owe rows of the outbox ([`PersistenceObligations`]); the
//! engine delivers them through two executors ([`TablesStep`], [`CacheStep`]); [`Persistence::reconcile`] compares
//! all three and repairs. Begin with [`Persistence::open`]; read `facts` for what is derived from the log, `tables`
//! for how it is written.

mod cache;
mod comment;
mod error;
mod facts;
mod issue;
mod obligations;
mod read;
mod reconcile;
pub mod settings;
mod step;
mod tables;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redress_action::{ActionExecutor, CancellationToken};
use redress_operation_log::OperationHistory;
use redress_types::Clock;
use serde::Serialize;

pub use cache::{Behind, Cache, CacheStatus};
pub use comment::Language;
pub use error::Error;
pub use issue::{AlertState, Health};
pub use obligations::{CACHE_EXECUTOR, PersistenceObligations, TABLES_EXECUTOR};
pub use read::{InvalidCursor, IssuePage, Issues, ReadError};
pub use reconcile::{CacheChecked, Difference, Place, Report, Scope};
pub use settings::{CacheSettings, Settings, TablesSettings};
pub use step::{CacheStep, TablesStep};
pub use tables::Tables;

/// What [`Issues`] answers.
pub use redress_types::{Comment, Issue, IssueDetail, IssueState};

/// How long [`Persistence::open`] waits for Redis before it goes on without.
const REDIS_PATIENCE: Duration = Duration::from_secs(5);

/// How long readiness waits for tables and cache: probes give up soon.
const READINESS_PATIENCE: Duration = Duration::from_millis(900);
/// A cache is looked at no sooner than this after the last time, however often its connection breaks.
const LOOKS_APART: Duration = Duration::from_secs(1);
/// How many times rarer a cache that cannot be completed is looked at, at most.
const BACK_OFF_MAX: u32 = 64;

/// The persistence step as a whole: what the binary wires.
pub struct Persistence {
    parts: step::Parts,
    cache: Option<Arc<Cache>>,
    clock: Arc<dyn Clock>,
    drift: AtomicU64,
}

/// How the parts stand, for readiness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Why the tables cannot be used; `None`: they can.
    pub tables: Option<String>,
    /// How the cache stands; `None`: there is none. A cache that is behind makes nothing unready.
    pub cache: Option<CacheStatus>,
    /// Why the cache cannot be used now; `None`: it can, or there is none.
    pub cache_error: Option<String>,
    /// Differences that the last reconciliation found and did not repair.
    pub drift: u64,
}

impl std::fmt::Debug for Persistence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Persistence").field("tables", &self.parts.tables).field("cache", &self.cache).finish()
    }
}

impl Persistence {
    /// Opens tables and cache. The tables must be there, or be makeable where `create_tables` says so; without that
    /// nothing is made, not even a file. A database or a Redis that does not answer is waited for for a few seconds and
    /// then left to the outbox: its rows are repeated until they can be delivered.
    ///
    /// # Errors
    /// [`Error::NotReady`] with the statement to run, [`Error::Cluster`] for a Redis Cluster, [`Error::Unavailable`]
    /// for a SQLite file that cannot be opened.
    pub async fn open(
        settings: Settings,
        history: Arc<dyn OperationHistory>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let create_tables = settings.create_tables;
        let tables = match create_tables {
            true => Tables::open(&settings.tables)?,
            false => Tables::open_existing(&settings.tables)?,
        };
        let usable = Arc::new(AtomicBool::new(false));
        let parts = step::Parts { tables, history, language: settings.language, create_tables, usable };
        match parts.ready().await {
            Err(error @ Error::Unavailable { .. }) => {
                tracing::warn!(error = %error.chain(), "the tables cannot be used; the outbox repeats until they can");
            }
            other => other?,
        }
        let cache = match &settings.cache {
            Some(cache) => Some(Arc::new(Cache::connect(cache, Arc::clone(&clock), REDIS_PATIENCE).await?)),
            None => None,
        };
        Ok(Self { parts, cache, clock, drift: AtomicU64::new(0) })
    }

    /// The executor of the tables' rows, to register with the engine.
    pub fn tables_step(&self) -> TablesStep {
        TablesStep(self.parts.clone())
    }

    /// The executor of the cache's rows, to register with the engine; `None`: there is no cache.
    pub fn cache_step(&self) -> Option<CacheStep> {
        let cache = Arc::clone(self.cache.as_ref()?);
        Some(CacheStep { parts: self.parts.clone(), cache })
    }

    /// Both executors, as far as there are.
    pub fn executors(&self) -> Vec<Arc<dyn ActionExecutor>> {
        let mut executors: Vec<Arc<dyn ActionExecutor>> = vec![Arc::new(self.tables_step())];
        if let Some(step) = self.cache_step() {
            executors.push(Arc::new(step));
        }
        executors
    }

    /// What the engine asks at each append.
    pub fn obligations(&self) -> PersistenceObligations {
        PersistenceObligations { cache: self.cache.is_some() }
    }

    /// The issues, for the API.
    pub fn issues(&self) -> Issues {
        Issues::new(self.parts.tables.clone())
    }

    /// Asks tables and cache for an answer, both at once. Takes less than a second; what has not answered by then does
    /// not answer.
    pub async fn readiness(&self) -> Readiness {
        let ping = async {
            match &self.cache {
                Some(cache) => cache.ping().await,
                None => Ok(()),
            }
        };
        let (tables, cache_error) =
            tokio::join!(answer("the tables do", self.ask_tables()), answer("the cache does", ping));
        let cache = self.cache.as_ref().map(|cache| cache.status());
        Readiness { tables, cache, cache_error, drift: self.drift() }
    }

    async fn ask_tables(&self) -> Result<(), Error> {
        if self.parts.usable.load(Ordering::Acquire) {
            self.parts.tables.ensure(false).await
        } else {
            self.parts.ready().await
        }
    }

    /// How the cache stands, without asking it; `None`: there is none.
    pub fn cache_status(&self) -> Option<CacheStatus> {
        self.cache.as_ref().map(|cache| cache.status())
    }

    /// Differences that the last reconciliation found and did not repair.
    pub fn drift(&self) -> u64 {
        self.drift.load(Ordering::Relaxed)
    }

    /// Compares log, tables and cache, and repairs tables and cache unless the scope says not to.
    ///
    /// Safe beside a running engine: every repair is what the outbox would write. What is still owed there is
    /// counted and left alone.
    ///
    /// Cancellation safety: may be dropped at any await; what was repaired stays so.
    ///
    /// # Errors
    /// When the log or the tables cannot be read. A cache that does not answer is told in the report.
    pub async fn reconcile(&self, scope: Scope) -> Result<Report, Error> {
        let report = reconcile::run(&self.parts, self.cache.as_deref(), &*self.clock, scope).await?;
        if !scope.cache_only {
            self.drift.store(report.unrepaired(), Ordering::Relaxed);
        }
        Ok(report)
    }

    /// Looks every `every`, and as soon as there is a new connection, whether the cache lost keys (emptied, restarted,
    /// another server) and then completes it from the tables, which stay as they are. What cannot be completed is looked
    /// at ever more rarely. Returns when `stop` is cancelled.
    ///
    /// Cancellation safety: may be dropped at any await.
    pub async fn look_after_cache(&self, every: Duration, stop: CancellationToken) {
        let Some(cache) = &self.cache else { return };
        let look = async {
            let mut wait = every;
            loop {
                let apart = wait.min(LOOKS_APART);
                tokio::time::sleep(apart).await;
                let _ = tokio::time::timeout(wait - apart, cache.connected_anew()).await;
                let asked = cache.ping().await;
                if asked.is_err() || !cache.status().incomplete {
                    wait = every;
                    continue;
                }
                self.complete_cache().await;
                wait = match cache.status().incomplete {
                    true => wait.saturating_mul(2).min(every.saturating_mul(BACK_OFF_MAX)),
                    false => every,
                };
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = look => {}
        }
    }

    async fn complete_cache(&self) {
        match self.reconcile(Scope { cache_only: true, ..Scope::default() }).await {
            Ok(report) => {
                tracing::info!(found = report.found, repaired = report.repaired, "the cache was compared");
            }
            Err(error) => tracing::warn!(error = %error.chain(), "the cache could not be completed"),
        }
    }

    /// Ends the connections.
    pub async fn close(&self) {
        if let Some(cache) = &self.cache {
            cache.close().await;
        }
        self.parts.tables.close().await;
    }
}

/// Why there is no good answer in time; `None`: there is one.
async fn answer(who_does: &str, asked: impl Future<Output = Result<(), Error>>) -> Option<String> {
    match tokio::time::timeout(READINESS_PATIENCE, asked).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.chain()),
        Err(_) => Some(format!("{who_does} not answer")),
    }
}
