//! [`Escalate`]: how a person is called. [`Escalation`]: what that person is told.
//!
//! The engine owes a call in the same commit as the entry that asks for one, and carries it out from the outbox: at
//! least once, under one key, until it is done. It never waits for it.

use async_trait::async_trait;
use redress_fsm::State;
use redress_types::{AlertId, EffectKey, Level, OperationId, Target, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The label of the alerts that the engine raises about itself. They call a person and are nothing else: what keeps
/// books of alerts leaves them out. Alerts of service `redress` from outside may not carry it.
pub const OWN_ALERT_LABEL: &str = "own_alert";

/// Why a person is called, and where things stand. In JSON every name is `snake_case`, the key is text, and the time
/// is RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escalation {
    /// The idempotency key, the same for every try: the receiver dedupes by it.
    #[serde(with = "text")]
    pub key: EffectKey,
    /// The operation that a person must look at.
    pub operation: OperationId,
    /// Its readable name.
    pub name: String,
    /// The alert that started it.
    pub alert: AlertId,
    /// How urgent that alert is.
    pub level: Level,
    /// Its title.
    pub title: String,
    /// What is being remediated.
    pub target: Target,
    /// By which strategy; `None`: none applied.
    pub strategy: Option<String>,
    /// Where the operation stands.
    pub state: State,
    /// Why a person is called.
    pub reason: String,
    /// How the strategy wants the service to be left when it cannot be restored.
    pub safe_state: OnFailure,
    /// Since when, by the clock of the engine that recorded it.
    #[serde(with = "text")]
    pub at: Timestamp,
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

/// Calls a person: a callback of the program, a webhook, a pager.
#[async_trait]
pub trait Escalate: Send + Sync + 'static {
    /// Calls a person. `Ok` means that the call is out of our hands.
    ///
    /// Called again under the same key when it failed, when it took longer than 30 s, or when the engine stopped
    /// before its answer was recorded: at least once, never given up unless the error is permanent.
    ///
    /// Cancellation safety: dropped when it takes too long and when the engine stops.
    ///
    /// # Errors
    /// [`Error::Retryable`] and [`Error::Unknown`] are tried again, up to five minutes apart. [`Error::Permanent`] is
    /// not: the call stays owed and shows as handed to a person.
    async fn escalate(&self, escalation: &Escalation) -> Result<(), Error>;
}

/// A value as the text that people write for it.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What receivers are sent, and what rows of the outbox hold: readable for ever.
    const WIRE: &str = r#"{"key":"01890a5d-ac96-774b-bcce-b302099a8057:outbox:4:1","operation":"01890a5d-ac96-774b-bcce-b302099a8057","name":"rr-b1b1b1b1b1b1-099a8057","alert":"a-1","level":"P1","title":"shop does not answer","target":{"environment":"production","service":"shop"},"strategy":"fix","state":"timed_out","reason":"the deadline passed","safe_state":"enter_safe_mode","at":"2026-01-31T12:00:00.5Z"}"#;

    #[test]
    fn the_wire_form_is_read_and_written_as_it_stands() {
        let escalation: Escalation = serde_json::from_str(WIRE).unwrap();
        assert_eq!(escalation.state, State::TimedOut);
        assert_eq!(escalation.key.step, 1);
        assert_eq!(escalation.at.as_millis(), 1_769_860_800_500);
        assert_eq!(serde_json::to_string(&escalation).unwrap(), WIRE);
    }
}
