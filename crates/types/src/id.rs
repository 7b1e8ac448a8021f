//! Names that must be unique: [`OperationId`], [`AlertId`], [`Fingerprint`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::hash::Hash;

/// Why a text cannot be an id. Names the field, and never repeats more than 80 characters of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidId {
    /// The field as the sender knows it.
    pub field: &'static str,
    /// What is wrong with it, and what is expected.
    pub problem: String,
}

/// One operation, for ever. A UUID (version 7 when the real id source made it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(pub Uuid);

impl OperationId {
    /// The name people read: `rr-` + 12 digits of the fingerprint + `-` + the last 8 digits of the id.
    ///
    /// The last eight, because the first digits of a version 7 UUID are the time and alike for neighbours.
    pub fn name(self, fingerprint: &Fingerprint) -> String {
        let id = self.0.simple().to_string();
        format!("rr-{}-{}", &fingerprint.as_str()[..12], &id[24..])
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.hyphenated().to_string())
    }
}

impl FromStr for OperationId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidId {
            field: "operation id",
            problem: format!("{:?} is not a UUID", text.chars().take(80).collect::<String>()),
        })
    }
}

/// The idempotency key of an alert: 1 to 64 characters, one operation per id, for ever (contracts §1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct AlertId(String);

impl AlertId {
    /// The most characters (not bytes) an id may have.
    pub const MAX_CHARS: usize = 64;

    /// The id as sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the `n`th run of the same alert, `{id}#n`; `None` when that is over 64 characters.
    pub fn nth(&self, n: u32) -> Option<Self> {
        format!("{}#{n}", self.0).parse().ok()
    }
}

impl FromStr for AlertId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let refused = |problem: String| Err(InvalidId { field: "id", problem });
        match text.chars().count() {
            0 => refused("is empty; an alert id has 1 to 64 characters".into()),
            n if n > Self::MAX_CHARS => refused(format!("has {n} characters; an alert id has 1 to 64")),
            _ if text.contains('\0') => refused("contains a NUL character".into()),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for AlertId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The identity of a problem across its alerts: 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// SHA-256 over the values in the given order. Each is preceded by its length, so that
    /// (`ab`, `c`) and (`a`, `bc`) differ.
    pub fn over(values: &[&str]) -> Self {
        let mut bytes = Vec::with_capacity(values.iter().map(|v| v.len() + 8).sum());
        for value in values {
            bytes.extend_from_slice(&(value.len() as u64).to_be_bytes());
            bytes.extend_from_slice(value.as_bytes());
        }
        Self(Hash::of(&[&bytes]).to_string())
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.parse::<Hash>() {
            Ok(_) => Ok(Self(text.to_ascii_lowercase())),
            Err(_) => Err(InvalidId {
                field: "fingerprint",
                problem: "must be 64 hexadecimal digits (SHA-256), or left out".into(),
            }),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alert_ids_are_counted_in_characters() {
        assert!("".parse::<AlertId>().is_err());
        assert!("é".repeat(64).parse::<AlertId>().is_ok());
        assert_eq!(
            "é".repeat(65).parse::<AlertId>().unwrap_err().to_string(),
            "id: has 65 characters; an alert id has 1 to 64"
        );
        assert!("a\0b".parse::<AlertId>().is_err());
        assert_eq!("x".parse::<AlertId>().unwrap().nth(2).unwrap().as_str(), "x#2");
        assert!("x".repeat(63).parse::<AlertId>().unwrap().nth(2).is_none());
    }

    #[test]
    fn fingerprints_do_not_run_together() {
        assert_ne!(Fingerprint::over(&["ab", "c"]), Fingerprint::over(&["a", "bc"]));
        let upper = "AB".repeat(32).parse::<Fingerprint>().unwrap();
        assert_eq!(upper.as_str(), "ab".repeat(32));
    }

    #[test]
    fn names_are_fingerprint_and_uuid() {
        let id: OperationId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let fingerprint = "b1".repeat(32).parse().unwrap();
        assert_eq!(id.name(&fingerprint), "rr-b1b1b1b1b1b1-099a8057");
    }
}
