//! [`AlertBuilder`]: alerts and deliveries, with as little said as the test needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redress_types::{Alert, AlertId, Delivery, Fingerprint, Level, Severity, Source, Status, Timestamp};

use crate::clock::TestClock;

/// Describes an alert. Everything but the id has a value of its own: service `shop`, level P1, critical, a
/// fingerprint made from the id.
#[derive(Clone, Debug)]
pub struct AlertBuilder {
    alert: Alert,
}

/// An alert with this id.
///
/// # Panics
/// When the text is no alert id (1 to 64 characters).
#[expect(clippy::expect_used, reason = "a test helper; the caller writes the id into the test")]
pub fn alert(id: &str) -> AlertBuilder {
    let id: AlertId = id.parse().expect("an alert id of 1 to 64 characters");
    let alert = Alert {
        fingerprint: Fingerprint::over(&[id.as_str()]),
        id,
        service: "shop".into(),
        component: "shop".into(),
        version: "1.4.2".into(),
        level: Level::P1,
        severity: Severity::Critical,
        title: "shop does not answer".into(),
        alert_since: Timestamp::from_micros(TestClock::START_MICROS - 60_000_000),
        labels: BTreeMap::new(),
        metric: None,
        current: None,
        threshold: None,
        suggested_action: None,
    };
    AlertBuilder { alert }
}

impl AlertBuilder {
    /// Of this service.
    #[must_use]
    pub fn service(mut self, service: &str) -> Self {
        self.alert.service = service.to_owned();
        self
    }

    /// Of the problem of this name: alerts of one name have one fingerprint.
    #[must_use]
    pub fn problem(mut self, problem: &str) -> Self {
        self.alert.fingerprint = Fingerprint::over(&["problem", problem]);
        self
    }

    /// Of this level.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.alert.level = level;
        self
    }

    /// Of this severity.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.alert.severity = severity;
        self
    }

    /// With this label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.alert.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// That began then.
    #[must_use]
    pub fn since(mut self, since: Timestamp) -> Self {
        self.alert.alert_since = since;
        self
    }

    /// The alert itself.
    pub fn build(self) -> Alert {
        self.alert
    }

    /// As the native intake delivers it, firing.
    pub fn native(self) -> Delivery {
        self.delivery(Status::Firing, Source::Native)
    }

    /// As a webhook that repeats this often delivers it, firing.
    pub fn webhook(self, repeat_interval: Duration) -> Delivery {
        self.delivery(Status::Firing, Source::Webhook { repeat_interval })
    }

    /// The word that it is over.
    pub fn resolved(self, ends_at: Timestamp) -> Delivery {
        let source = Source::Webhook { repeat_interval: Duration::from_secs(300) };
        self.delivery(Status::Resolved { ends_at }, source)
    }

    /// A firing delivery with the bytes it came in.
    pub fn with_original(self, bytes: &[u8]) -> Delivery {
        Delivery { original: Some(Arc::from(bytes)), ..self.native() }
    }

    fn delivery(self, status: Status, source: Source) -> Delivery {
        Delivery { alert: self.alert, status, source, original: None }
    }
}
