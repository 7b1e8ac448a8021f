//! What the tests of this crate share: a [`Call`], and a server on the loopback that records and misbehaves.

use std::sync::Arc;
use std::time::Duration;

use redress_action::{Call, CancellationToken};
use redress_types::{Alert, EffectKey, Epoch, FencingToken, Incarnation, Level, Phase, Severity, Timestamp};
use serde_json::Value;

#[cfg(feature = "http")]
pub(crate) mod server;

/// A call for service `checkout`, deployment `d-42`, with a null configuration.
#[cfg(feature = "mock")]
pub(crate) fn call() -> Call {
    call_with(Value::Null)
}

/// A call for service `checkout`, deployment `d-42`, with this frozen configuration.
pub(crate) fn call_with(configuration: Value) -> Call {
    let alert = Alert {
        id: "alert-1".parse().unwrap(),
        fingerprint: "ab".repeat(32).parse().unwrap(),
        service: "checkout".into(),
        component: "checkout".into(),
        version: "v2".into(),
        level: Level::P0,
        severity: Severity::Critical,
        title: "checkout is down".into(),
        alert_since: Timestamp::EPOCH,
        labels: [("deploy_id".to_owned(), "d-42".to_owned())].into(),
        metric: None,
        current: None,
        threshold: None,
        suggested_action: None,
    };
    Call {
        key: EffectKey {
            operation: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            phase: Phase::Rollback,
            attempt: 1,
            step: 0,
        },
        fencing: FencingToken { incarnation: Incarnation(1), epoch: Epoch(7) },
        try_number: 1,
        target: alert.target(),
        alert: Arc::new(alert),
        configuration: Arc::new(configuration),
        parameters: Arc::new(Value::Null),
        timeout: Duration::from_secs(60),
        cancel: CancellationToken::new(),
    }
}

/// `call` with another deployment id; `None` takes the label away.
#[cfg(feature = "http")]
pub(crate) fn with_deploy_id(mut call: Call, id: Option<&str>) -> Call {
    let alert = Arc::make_mut(&mut call.alert);
    alert.labels.remove("deploy_id");
    if let Some(id) = id {
        alert.labels.insert("deploy_id".into(), id.into());
    }
    call
}
