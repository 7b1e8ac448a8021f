//! [`Plan`]: what an operation will do, frozen when it is accepted.

use std::sync::Arc;
use std::time::Duration;

use redress_action::{OnFailure, Policy};
use redress_types::alert::push_escaped;
use redress_types::{Alert, Hash, Target};
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
    /// The labels whose values narrow its target; see [`Plan::slot`]. Empty: the whole target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slot_labels: Vec<String>,
}

/// The most bytes of what labels add to a slot's key; what is longer is replaced by its hash.
const NARROWING_BYTES_MAX: usize = 512;

impl Plan {
    /// The key of the slot that an operation of this plan needs: the target, narrowed by the labels that the plan
    /// names. At most one operation at a time acts under one key.
    ///
    /// A label that the alert does not carry narrows nothing: the key is then that of the whole target, which excludes
    /// none of the narrowed ones. So the engine skips such an alert. Another plan that narrows otherwise has other keys for
    /// the same target, so strategies that share targets must narrow alike.
    pub fn slot(&self, target: &Target, alert: &Alert) -> String {
        let mut narrowing = String::new();
        for name in &self.slot_labels {
            if let Some(value) = alert.labels.get(name).filter(|value| !value.is_empty()) {
                narrowing.push('/');
                push_escaped(&mut narrowing, name, &['/', '=']);
                narrowing.push('=');
                push_escaped(&mut narrowing, value, &['/', '=']);
            }
        }
        if narrowing.len() > NARROWING_BYTES_MAX {
            // Keys are indexed, and an index entry has a limit.
            return format!("{target}/sha256={}", Hash::of(&[narrowing.as_bytes()]));
        }
        format!("{target}{narrowing}")
    }
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
    /// How many operations of this strategy may be admitted on one target (as narrowed by the plan) in a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_rate: Option<Rate>,
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

#[cfg(test)]
mod tests {
    use redress_types::Timestamp;

    use super::*;

    /// As it was stored before plans could narrow a slot and limit a target.
    const OLD: &str = r#"{"format":1,"strategy":"fix","steps":[],"checks":[],"compensation":[],"on_failure":"enter_safe_mode","limits":{"deadline_ms":1,"waiting_ms":1,"verification_ms":1,"settle_ms":0,"passes":1,"check_interval_ms":1,"attempts":1,"compensation_ms":1,"cooldown_ms":0,"idle_cooldown_ms":0}}"#;

    fn narrowed_by(labels: &[&str]) -> Plan {
        let old: Plan = serde_json::from_str(OLD).unwrap();
        Plan { slot_labels: labels.iter().map(|label| (*label).to_owned()).collect(), ..old }
    }

    fn slot(plan: &Plan, labels: &[(&str, &str)]) -> String {
        let mut alert = Alert::new("a".parse().unwrap(), "sh/op", "title", Timestamp::EPOCH);
        alert.labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        plan.slot(&alert.target(), &alert)
    }

    #[test]
    fn an_old_plan_is_read_and_written_as_it_was() {
        let stored = StoredPlan::read(OLD.as_bytes().into()).unwrap();
        assert_eq!(stored.plan.limits.target_rate, None);
        assert!(stored.plan.slot_labels.is_empty());
        assert_eq!(StoredPlan::freeze(stored.plan.clone()).unwrap(), stored);
    }

    #[test]
    fn a_slot_is_the_target_unless_it_is_narrowed() {
        let shard = [("shard", "1/2=%"), ("zone", "a")];
        assert_eq!(slot(&narrowed_by(&[]), &shard), "default/sh%2Fop");
        assert_eq!(slot(&narrowed_by(&["shard"]), &shard), "default/sh%2Fop/shard=1%2F2%3D%25");
        assert_eq!(
            slot(&narrowed_by(&["zone", "shard"]), &shard),
            "default/sh%2Fop/zone=a/shard=1%2F2%3D%25"
        );
        assert_eq!(slot(&narrowed_by(&["other"]), &shard), "default/sh%2Fop");
        assert_eq!(slot(&narrowed_by(&["shard"]), &[("shard", "")]), "default/sh%2Fop");
        assert_eq!(slot(&narrowed_by(&["a/b=%"]), &[("a/b=%", "é")]), "default/sh%2Fop/a%2Fb%3D%25=é");
    }

    #[test]
    fn the_longest_label_leaves_a_key_that_can_be_indexed() {
        let (one, two) = ("x".repeat(65_536), "y".repeat(65_536));
        let plan = narrowed_by(&["shard"]);
        assert!(slot(&plan, &[("shard", &one)]).len() < 600);
        let (longest, longer) = ("x".repeat(505), "x".repeat(506));
        assert_eq!(slot(&plan, &[("shard", &longest)]), format!("default/sh%2Fop/shard={longest}"));
        assert_eq!(
            slot(&plan, &[("shard", &longer)]),
            "default/sh%2Fop/sha256=4dd86a71d8c0beebbcc7aa8d65bb5023c2a63f0636f0f6c0473283f0e5ee3a65"
        );
        assert_ne!(slot(&plan, &[("shard", &one)]), slot(&plan, &[("shard", &two)]));
    }
}
