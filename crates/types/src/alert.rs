//! [`Alert`]: what a source told us, normalised once at the door; and the [`Target`] it points at.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{AlertId, Fingerprint};
use crate::time::Timestamp;

/// Label names and values, in name order.
pub type Labels = BTreeMap<String, String>;

/// How urgent the source says it is (contracts §1).
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
    strum::EnumIter,
    strum::IntoStaticStr,
)]
pub enum Level {
    /// The worst.
    P0,
    /// Serious.
    P1,
    /// To be looked at.
    P2,
    /// Anything else; what a source wrote instead is kept in the label `level`.
    Warning,
}

/// What the alert means for acting at all: `Info` never starts anything.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Severity {
    /// For the record only.
    Info,
    /// Something is wrong.
    Warning,
    /// Something is down.
    Critical,
}

/// One alert, normalised. `ingest` makes it from what a source sends and has checked every bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The idempotency key: one operation per id, for ever.
    pub id: AlertId,
    /// The identity of the problem.
    pub fingerprint: Fingerprint,
    /// The service that is broken; empty when the source named none (then it is Skipped).
    pub service: String,
    /// The part of the service; the service itself when the source named none.
    pub component: String,
    /// The version that is broken; may be empty.
    pub version: String,
    /// Urgency.
    pub level: Level,
    /// Whether it can start anything.
    pub severity: Severity,
    /// One line for people, at most 255 characters.
    pub title: String,
    /// Since when.
    pub alert_since: Timestamp,
    /// All labels as sent.
    pub labels: Labels,
    /// The metric that crossed its threshold, where the source says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<f64>,
    /// The threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// What the source would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested_action: Option<String>,
}

impl Alert {
    /// The most characters of a title that are stored (contracts §1).
    pub const TITLE_MAX_CHARS: usize = 255;

    /// An alert without labels: level `Warning`, the fingerprint over service and title. Set what differs.
    pub fn new(id: AlertId, service: &str, title: &str, alert_since: Timestamp) -> Self {
        Self {
            id,
            fingerprint: Fingerprint::over(&[service, title]),
            service: service.to_owned(),
            component: service.to_owned(),
            version: String::new(),
            level: Level::Warning,
            severity: Severity::Warning,
            title: title.chars().take(Self::TITLE_MAX_CHARS).collect(),
            alert_since,
            labels: Labels::new(),
            metric: None,
            current: None,
            threshold: None,
            suggested_action: None,
        }
    }

    /// Label `environment`, else `env`, else `default`; an empty label counts as absent.
    pub fn environment(&self) -> &str {
        ["environment", "env"]
            .iter()
            .filter_map(|name| self.labels.get(*name))
            .find(|value| !value.is_empty())
            .map_or("default", String::as_str)
    }

    /// The unit of mutual exclusion this alert is about.
    pub fn target(&self) -> Target {
        Target { environment: self.environment().to_owned(), service: self.service.clone() }
    }

    /// The deployment to roll back as the source named it: label `deploy_id`, when not empty.
    pub fn deploy_id(&self) -> Option<&str> {
        self.labels.get("deploy_id").map(String::as_str).filter(|id| !id.is_empty())
    }
}

/// `environment/service`: what at most one operation acts on at a time (safety rule 1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// Where it runs.
    pub environment: String,
    /// What it is.
    pub service: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A slash inside a part is escaped, so two different targets never share a text.
        let mut text = String::with_capacity(self.environment.len() + self.service.len() + 1);
        push_escaped(&mut text, &self.environment, &['/']);
        text.push('/');
        push_escaped(&mut text, &self.service, &['/']);
        f.pad(&text)
    }
}

/// Adds `part` to `key`, with `%` and each of `separators`, which are ASCII, as `%` and two hex digits: no two lists of
/// parts make one key.
pub fn push_escaped(key: &mut String, part: &str, separators: &[char]) {
    for c in part.chars() {
        if c == '%' || separators.contains(&c) {
            key.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            key.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_with_slashes_do_not_collide() {
        let a = Target { environment: "a/b".into(), service: "c".into() };
        let b = Target { environment: "a".into(), service: "b/c".into() };
        assert_eq!((a.to_string(), b.to_string()), ("a%2Fb/c".to_owned(), "a/b%2Fc".to_owned()));
    }

    #[test]
    fn a_target_is_filled_up_and_cut_like_any_text() {
        let target = Target { environment: "é%".into(), service: "=".into() };
        assert_eq!(format!("{target:<10}|{target:.2}|"), "é%25/=    |é%|");
    }
}
