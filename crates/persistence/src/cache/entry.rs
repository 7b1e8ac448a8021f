//! What stands in the cache: key names, values and index sets, to the letter of contracts §5.

use std::time::Duration;

use redress_types::{Alert, IssueState, Timestamp};
use serde::{Serialize, Serializer};
use strum::IntoEnumIterator;

use crate::issue::{AlertState, Health, IssueRow, Label, ServiceKey, ServiceState, labels, title};
use crate::text::storable;

/// How long an issue stands in the cache. Kept by every update.
pub(crate) const TTL: Duration = Duration::from_secs(3 * 24 * 60 * 60);

pub(crate) const OPEN: &str = "alert:index:open";

pub(crate) fn open_of_service(service: &str) -> String {
    format!("alert:index:svc:{service}:open")
}

pub(crate) fn alert_state_set(state: AlertState) -> String {
    format!("alert:index:alert_state:{state}")
}

pub(crate) fn health_set(health: Health) -> String {
    format!("service_state:index:health:{health}")
}

/// Where the version of a value stands.
pub(crate) fn version_key(key: &str) -> String {
    format!("redress:version:{key}")
}

/// A position as twenty digits: as text it sorts like the number, which Lua could not hold above 2^53.
pub(crate) fn version(position: u64) -> String {
    format!("{position:020}")
}

/// An issue as it must stand in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IssueEntry {
    pub id: String,
    pub service: String,
    pub state: IssueState,
    pub alert_state: AlertState,
    pub json: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IssueValue<'a> {
    id: &'a str,
    state: IssueState,
    level: redress_types::Level,
    alert_state: AlertState,
    title: String,
    labels: Vec<Label>,
    #[serde(serialize_with = "millis")]
    alert_since: Timestamp,
    fingerprint: &'a str,
    service: String,
    alertname: String,
}

impl IssueEntry {
    pub(crate) fn new(alert: &Alert, state: IssueState, alert_state: AlertState) -> Self {
        let service = storable(&alert.service);
        let value = IssueValue {
            id: alert.id.as_str(),
            state,
            level: alert.level,
            alert_state,
            title: title(alert),
            labels: labels(alert),
            alert_since: alert.alert_since,
            fingerprint: alert.fingerprint.as_str(),
            service: service.clone(),
            alertname: alert.labels.get("alertname").map(|name| storable(name)).unwrap_or_default(),
        };
        // Texts, words and one list of texts can always be written.
        let json = serde_json::to_string(&value).unwrap_or_default();
        Self { id: alert.id.as_str().to_owned(), service, state, alert_state, json }
    }

    pub(crate) fn of(alert: &Alert, row: &IssueRow) -> Self {
        Self::new(alert, row.state, row.alert_state)
    }

    pub(crate) fn key(&self) -> String {
        format!("alert:issue:{}", self.id)
    }

    /// Value, version, then the index sets in the order of the scripts.
    pub(crate) fn keys(&self) -> Vec<String> {
        let key = self.key();
        let version = version_key(&key);
        let mut keys = vec![key, version, OPEN.to_owned(), open_of_service(&self.service)];
        keys.extend(AlertState::iter().map(alert_state_set));
        keys
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == IssueState::Open
    }

    /// For each index set, whether it belongs there.
    pub(crate) fn places(&self) -> Vec<bool> {
        let open = [self.is_open(); 2];
        open.into_iter().chain(AlertState::iter().map(|state| state == self.alert_state)).collect()
    }
}

/// A service state as it must stand in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceEntry {
    key: String,
    pub health: Health,
    pub json: String,
}

#[derive(Serialize)]
struct ServiceValue<'a> {
    service: &'a str,
    version: &'a str,
    health_state: Health,
    #[serde(serialize_with = "maybe_millis")]
    report_at: Option<Timestamp>,
    #[serde(serialize_with = "maybe_millis")]
    resolved_at: Option<Timestamp>,
}

impl ServiceEntry {
    pub(crate) fn of(row: &ServiceState) -> Self {
        let health = row.health.unwrap_or(Health::Normal);
        let value = ServiceValue {
            service: &row.key.service,
            version: &row.key.version,
            health_state: health,
            report_at: row.report_at,
            resolved_at: row.resolved_at,
        };
        let json = serde_json::to_string(&value).unwrap_or_default();
        Self { key: service_key(&row.key), health, json }
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Value, version, then the health sets in the order of the script.
    pub(crate) fn keys(&self) -> Vec<String> {
        keys_of_service(self.key.clone())
    }

    /// As [`Self::keys`], whatever its state.
    pub(crate) fn keys_of(key: &ServiceKey) -> Vec<String> {
        keys_of_service(service_key(key))
    }

    /// For each health set, whether it belongs there.
    pub(crate) fn places(&self) -> Vec<bool> {
        Health::iter().map(|health| health == self.health).collect()
    }
}

fn service_key(key: &ServiceKey) -> String {
    format!("service_state:{key}")
}

fn keys_of_service(key: String) -> Vec<String> {
    let version = version_key(&key);
    let mut keys = vec![key, version];
    keys.extend(Health::iter().map(health_set));
    keys
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn millis<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_millis())
}

#[expect(clippy::ref_option, reason = "serde passes fields by reference")]
fn maybe_millis<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => millis(at, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_like_numbers() {
        assert!(version(9) < version(10));
        assert!(version(u64::MAX - 1) < version(u64::MAX));
        assert_eq!(version(u64::MAX).len(), 20);
    }

    #[test]
    fn an_issue_is_what_other_systems_read() {
        let mut alert = Alert::new(
            "a-1".parse().unwrap(),
            "payments",
            "down",
            Timestamp::from_micros(1_795_229_108_541_999),
        );
        let none = IssueEntry::new(&alert, IssueState::Open, AlertState::Pending);
        assert!(none.json.contains(r#""labels":[]"#), "{}", none.json);
        alert.labels.insert("alertname".into(), "Down".into());
        alert.labels.insert("build".into(), "9007199254740993".into());
        let entry = IssueEntry::new(&alert, IssueState::Closed, AlertState::Restored);
        let expected = format!(
            r#"{{"id":"a-1","state":"Closed","level":"Warning","alertState":"Restored","title":"down","labels":[{{"key":"alertname","value":"Down"}},{{"key":"build","value":"9007199254740993"}}],"alertSince":"2026-11-21T02:45:08.541Z","fingerprint":"{}","service":"payments","alertname":"Down"}}"#,
            alert.fingerprint
        );
        assert_eq!(entry.json, expected);
        assert_eq!(entry.places(), [false, false, false, false, true, false]);
        assert_eq!(entry.keys()[3], "alert:index:svc:payments:open");
    }
}
