//! What travels with every effect: its [`EffectKey`] and its [`FencingToken`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::OperationId;

/// The part of an operation's life that an effect belongs to.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// A step of the strategy, while RollingBack.
    Rollback,
    /// A check, while Verifying.
    Verification,
    /// A step of the compensation plan.
    Compensation,
    /// A row of the outbox.
    Outbox,
}

/// The idempotency key of one effect: `{operation_id}:{phase}:{attempt}:{step}`.
///
/// Retries of a step keep it; a new attempt is a new key. It is in the log before the call, it is handed to
/// the executor, and it goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EffectKey {
    /// The operation that owes the effect.
    pub operation: OperationId,
    /// Where in its life.
    pub phase: Phase,
    /// The attempt, from 1. (For the outbox: the entry's seq.)
    pub attempt: u32,
    /// The step's place in its plan, from 0.
    pub step: u32,
}

impl fmt::Display for EffectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.operation, self.phase, self.attempt, self.step)
    }
}

/// A text that is not an effect key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an effect key: {{operation_id}}:{{phase}}:{{attempt}}:{{step}} is expected")]
pub struct InvalidKey;

impl FromStr for EffectKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let parts: Vec<&str> = text.split(':').collect();
        let [operation, phase, attempt, step] = parts.as_slice() else { return Err(InvalidKey) };
        Ok(Self {
            operation: operation.parse().map_err(|_| InvalidKey)?,
            phase: phase.parse().map_err(|_| InvalidKey)?,
            attempt: attempt.parse().map_err(|_| InvalidKey)?,
            step: step.parse().map_err(|_| InvalidKey)?,
        })
    }
}

/// How often an operation has changed hands. Only grows; a write that names an older one changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// How often the log itself has been restored from a backup or failed over with loss. Only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// What a target compares to refuse a stale worker: the log's incarnation, then the operation's epoch.
///
/// Text form `{incarnation}.{epoch}`; compare the numbers, not the text. See Kleppmann,
/// "How to do distributed locking" (2016), on why a lease alone is not enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FencingToken {
    /// The log's incarnation.
    pub incarnation: Incarnation,
    /// The operation's epoch within it.
    pub epoch: Epoch,
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation.0, self.epoch.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back() {
        let key = EffectKey {
            operation: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            phase: Phase::Rollback,
            attempt: 1,
            step: 2,
        };
        assert_eq!(key.to_string(), "01890a5d-ac96-774b-bcce-b302099a8057:rollback:1:2");
        assert_eq!(key.to_string().parse::<EffectKey>().unwrap(), key);
        assert!("a:b:c".parse::<EffectKey>().is_err());
    }
}
