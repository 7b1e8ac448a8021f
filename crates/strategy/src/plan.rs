//! [`Plan`]: what an operation will do, frozen when it is accepted.

use std::sync::Arc;
use std::time::Duration;

use redress_action::Policy;
use redress_types::Hash;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The hash of a plan's stored bytes: its identity.
pub type PlanHash = Hash;

/// The version of the plan's JSON form. An engine claims only operations whose plan it can read.
pub const FORMAT: u16 = 1;

/// What an operation will do. Every duration is in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`FORMAT`] when it was made.
    pub format: u16,
    /// The strategy it was made from.
    pub strategy: String,
    /// What to do, in order. At least one.
    pub steps: Vec<PlanStep>,
    /// How to tell it worked. At least one.
    pub checks: Vec<PlanCheck>,
    /// What to do if it did not; may be empty.
    pub compensation: Vec<PlanStep>,
    /// How the service is left when the compensation fails too.
    pub on_failure: OnFailure,
    /// The bounds.
    pub limits: Limits,
}

/// One step: which executor, how it was configured, and what to do when it fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanStep {
    /// What people call it.
    pub name: String,
    /// The executor's name.
    pub executor: String,
    /// The executor's configuration when the plan was made.
    pub configuration: Arc<Value>,
    /// The step's own parameters.
    pub parameters: Arc<Value>,
    /// What the executor declared.
    pub in_doubt: Policy,
    /// How long one try may take.
    pub timeout_ms: u64,
    /// What a failure for good means.
    pub on_error: OnError,
    /// How often and how fast it is tried.
    pub tries: Tries,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanCheck {
    /// The check's name.
    pub check: String,
    /// Its configuration when the plan was made.
    pub configuration: Arc<Value>,
    /// Whether it looks at the service itself, not at the API that made the change.
    pub independent: bool,
    /// How long one look may take.
    pub timeout_ms: u64,
}

/// What a step that failed for good means for the operation.
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
pub enum OnError {
    /// It is recorded, and the next step runs.
    Continue,
    /// Failed at once, without running the compensation.
    Abort,
    /// The compensation runs, then Failed. Without a compensation: Failed.
    Rollback,
    /// A person decides.
    Suspend,
}

/// How the service is left when a compensation step fails for good.
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
pub enum OnFailure {
    /// A person is called.
    Escalate,
    /// A person is called, and the service is to be put into its safe mode.
    EnterSafeMode,
    /// A person is called, and the service stays isolated.
    MaintainIsolation,
}

/// How often a step is tried, and how long the engine waits between two tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// Tries in all, the first included. At least 1.
    pub max: u32,
    /// The wait after the first try; doubles after each.
    pub backoff_ms: u64,
    /// The longest wait, `Retry-After` included.
    pub backoff_max_ms: u64,
}

/// The bounds of an operation: there is one for everything (safety rule 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From the first step to the end; stands still while Suspended or paused.
    pub deadline_ms: u64,
    /// From acceptance until it may act. Never restarted.
    pub waiting_ms: u64,
    /// How long verification may stay undecided.
    pub verification_ms: u64,
    /// How long every check must hold.
    pub settle_ms: u64,
    /// How many looks in a row must be healthy. At least 1.
    pub passes: u32,
    /// The time between two looks.
    pub check_interval_ms: u64,
    /// Attempts in all. At least 1.
    pub attempts: u32,
    /// How long the compensation may take.
    pub compensation_ms: u64,
    /// How long the strategy leaves the target alone after an attempt.
    pub cooldown_ms: u64,
    /// How long it leaves the target alone when it ended before acting by rejection or expiry.
    pub idle_cooldown_ms: u64,
    /// How many operations of this strategy may be admitted in a window, over all targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy_rate: Option<Rate>,
    /// How many operations may be admitted for one fingerprint in a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint_rate: Option<Rate>,
}

/// At most so many in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// At most so many.
    pub most: u32,
    /// In so many milliseconds, ending now.
    pub window_ms: u64,
}

impl Limits {
    /// [`Self::cooldown_ms`] as a duration.
    pub const fn cooldown(&self) -> Duration {
        Duration::from_millis(self.cooldown_ms)
    }
}

/// A plan as the log keeps it: the bytes, their hash, and what they say.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPlan {
    /// SHA-256 over [`Self::bytes`].
    pub hash: PlanHash,
    /// The JSON that was hashed.
    pub bytes: Arc<[u8]>,
    /// What it says.
    pub plan: Plan,
}

/// Why stored bytes are not a plan.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// They are not a plan's JSON.
    #[error("plan {hash} cannot be read")]
    Json {
        /// The hash of the bytes.
        hash: PlanHash,
        /// What is wrong with them.
        #[source]
        source: serde_json::Error,
    },
    /// They are a newer format than this program knows.
    #[error("plan {hash} has format {found}; this program reads up to {FORMAT}")]
    Newer {
        /// The hash of the bytes.
        hash: PlanHash,
        /// The format they name.
        found: u16,
    },
}

impl StoredPlan {
    /// Freezes a plan.
    ///
    /// # Errors
    /// When a configuration cannot be written as JSON (a map with keys that are not text).
    pub fn freeze(plan: Plan) -> Result<Self, serde_json::Error> {
        let bytes: Arc<[u8]> = serde_json::to_vec(&plan)?.into();
        Ok(Self { hash: Hash::of(&[&bytes]), bytes, plan })
    }

    /// Reads a stored plan back. The hash is that of the bytes given.
    ///
    /// # Errors
    /// When they are no plan, or a newer one than this program knows.
    pub fn read(bytes: Arc<[u8]>) -> Result<Self, Unreadable> {
        let hash = Hash::of(&[&bytes]);
        let plan: Plan =
            serde_json::from_slice(&bytes).map_err(|source| Unreadable::Json { hash, source })?;
        if plan.format > FORMAT {
            return Err(Unreadable::Newer { hash, found: plan.format });
        }
        Ok(Self { hash, bytes, plan })
    }
}
