//! The rules of the mapping, one by one.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use redress_ingest::{Identity, Kind, Options, parse_alerts};
use redress_types::{Alert, Fingerprint, Level, Severity, Status};
use serde_json::{Value, json};

fn parse(payload: &Value) -> Vec<Alert> {
    let parsed = parse_alerts(payload.to_string().as_bytes(), &Options::default()).unwrap();
    parsed.deliveries.into_iter().map(|delivery| delivery.alert).collect()
}

/// A message with `fields` laid over the required ones.
fn message(fields: Value) -> Alert {
    let mut whole = json!({"id": "a-1", "service": "api", "alert_since": "2026-11-21T02:45:08Z"});
    whole.as_object_mut().unwrap().append(&mut fields.as_object().unwrap().clone());
    parse(&whole).remove(0)
}

fn webhook_alert(labels: Value, annotations: Value) -> Value {
    json!({"status": "firing", "labels": labels, "annotations": annotations, "startsAt": "2026-11-21T02:45:08.541999Z",
        "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "b0f25eccdaefc05c"})
}

fn webhook(alerts: Value) -> Value {
    json!({"version": "4", "groupKey": "{}", "status": "firing", "alerts": alerts})
}

fn mapped(labels: Value) -> Alert {
    parse(&webhook(json!([webhook_alert(labels, json!({}))]))).remove(0)
}

#[test]
fn levels_and_severities_of_a_message() {
    for (sent, level, severity, kept) in [
        (json!({"level": "P0"}), Level::P0, Severity::Critical, None),
        (json!({"level": "P1"}), Level::P1, Severity::Warning, None),
        (json!({"level": "P2", "severity": "critical"}), Level::P2, Severity::Critical, None),
        (json!({"level": "P0", "severity": "Info"}), Level::P0, Severity::Info, None),
        (json!({"level": "Warning"}), Level::Warning, Severity::Warning, None),
        (json!({"level": "p0"}), Level::Warning, Severity::Warning, Some("p0")),
        (
            json!({"level": "🔥", "labels": {"level": "mine"}}),
            Level::Warning,
            Severity::Warning,
            Some("mine"),
        ),
        (json!({"level": null, "severity": null}), Level::Warning, Severity::Warning, None),
        (json!({}), Level::Warning, Severity::Warning, None),
    ] {
        let alert = message(sent.clone());
        assert_eq!((alert.level, alert.severity), (level, severity), "{sent}");
        assert_eq!(alert.labels.get("level").map(String::as_str), kept, "{sent}");
    }
}

#[test]
fn a_title_is_cut_between_characters() {
    for (title, stored) in [("é🙂".repeat(200), 255), ("x".repeat(255), 255), (String::new(), 0)] {
        let cut = message(json!({"title": title})).title;
        assert_eq!(cut.chars().count(), stored);
        assert!(title.starts_with(&cut));
    }
}

#[test]
fn a_message_without_service_is_taken_with_none() {
    for service in [json!(""), json!(null)] {
        let alert = message(json!({"service": service}));
        assert_eq!((alert.service.as_str(), alert.component.as_str()), ("", ""));
    }
    assert_eq!(parse(&json!({"id": "a", "alert_since": "2026-11-21T02:45:08Z"}))[0].service, "");
}

#[test]
fn labels_as_map_and_as_list_are_the_same() {
    let map = message(json!({"labels": {"a": "1", "b": ""}}));
    let list = message(json!({"labels": [{"key": "b", "value": ""}, {"key": "a", "value": "1", "more": 0}]}));
    assert_eq!(map, list);
    assert!(message(json!({"labels": null})).labels.is_empty());
}

#[test]
fn the_fingerprint_is_over_the_problem_and_nothing_else() {
    let plain = message(json!({"labels": {"alertname": "Down", "instance": "i-1", "replica": "a"}}));
    assert_eq!(plain.fingerprint, Fingerprint::over(&["Down", "default", "api", "api", "i-1"]));
    let changed = message(json!({"id": "a-2", "version": "v2", "level": "P0", "severity": "critical",
        "labels": {"alertname": "Down", "instance": "i-1", "replica": "b", "environment": "default"}}));
    assert_eq!(changed.fingerprint, plain.fingerprint);
    let other = message(json!({"labels": {"alertname": "Down", "instance": "i-2"}}));
    assert_ne!(other.fingerprint, plain.fingerprint);
    let given = message(json!({"fingerprint": "AB".repeat(32)}));
    assert_eq!(given.fingerprint.as_str(), "ab".repeat(32));

    let identity = Identity::over(["service", "idc"]).unwrap();
    let options = Options { identity, ..Options::default() };
    let payload = webhook(json!([webhook_alert(json!({"service": "api", "idc": "yzh"}), json!({}))]));
    let parsed = parse_alerts(payload.to_string().as_bytes(), &options).unwrap();
    assert_eq!(parsed.deliveries[0].alert.fingerprint, Fingerprint::over(&["api", "yzh"]));
}

#[test]
fn alertmanagers_names_come_from_the_first_label_that_is_not_empty() {
    for (labels, service, component, version) in [
        (json!({"service": "s", "job": "j", "component": "c"}), "s", "c", ""),
        (json!({"service": "", "job": "j", "service_version": "2", "version": "1"}), "j", "j", "2"),
        (json!({"job": "j", "component": "c"}), "j", "c", ""),
        (json!({"component": "c", "version": "1"}), "c", "c", "1"),
        (json!({"alertname": "Watchdog", "severity": "none"}), "", "", ""),
    ] {
        let alert = mapped(labels.clone());
        let found = (alert.service.as_str(), alert.component.as_str(), alert.version.as_str());
        assert_eq!(found, (service, component, version), "{labels}");
    }
}

#[test]
fn alertmanagers_titles() {
    let labels = json!({"idc": "yzh", "service": "api", "alertname": "Down"});
    for (labels, annotations, title) in [
        (labels.clone(), json!({"summary": "it is down"}), "it is down"),
        (labels.clone(), json!({"summary": "", "description": 7}), "yzh api Down"),
        (labels, json!(null), "yzh api Down"),
        (json!({"alertname": "Watchdog"}), json!({}), "Watchdog"),
        (json!({}), json!({}), "Alert from Alertmanager"),
    ] {
        assert_eq!(parse(&webhook(json!([webhook_alert(labels, annotations)])))[0].title, title);
    }
    let long = json!({"summary": "🙂".repeat(300)});
    assert_eq!(parse(&webhook(json!([webhook_alert(json!({}), long)])))[0].title, "🙂".repeat(255));
}

#[test]
fn alertmanagers_severity_gives_level_and_severity() {
    for (given, level, severity) in [
        ("P0", Level::P0, Severity::Critical),
        ("P2", Level::P2, Severity::Warning),
        ("CRITICAL", Level::Warning, Severity::Critical),
        ("info", Level::Warning, Severity::Info),
        ("page", Level::Warning, Severity::Warning),
    ] {
        let alert = mapped(json!({"severity": given}));
        assert_eq!((alert.level, alert.severity), (level, severity), "{given}");
        assert_eq!(alert.labels["severity"], given);
    }
}

#[test]
fn alertmanagers_own_facts_win_over_labels_of_the_same_name() {
    let alert = mapped(json!({"am_fingerprint": "forged", "groupKey": "forged", "generatorURL": "mine"}));
    assert_eq!(alert.labels["am_fingerprint"], "b0f25eccdaefc05c");
    assert_eq!(alert.labels["groupKey"], "{}");
    assert_eq!(alert.labels["generatorURL"], "mine", "the sent one is empty, so there is nothing to add");
}

#[test]
fn alertmanagers_ids_hold_the_start_in_milliseconds() {
    for (starts_at, id) in [
        ("2026-11-21T02:45:08.541999Z", "b0f25eccdaefc05c-1795229108541"),
        ("2026-11-21T04:45:08.541+02:00", "b0f25eccdaefc05c-1795229108541"),
        ("0001-01-01T00:00:00Z", "b0f25eccdaefc05c--62135596800000"),
        ("9999-12-30T00:00:00Z", "b0f25eccdaefc05c-253402128000000"),
    ] {
        let mut alert = webhook_alert(json!({}), json!({}));
        alert["startsAt"] = json!(starts_at);
        alert["fingerprint"] = json!("B0F25ECCDAEFC05C");
        assert_eq!(parse(&webhook(json!([alert])))[0].id.as_str(), id);
    }
}

#[test]
fn what_is_firing_may_leave_its_end_out() {
    let mut alert = webhook_alert(json!({}), json!({}));
    alert.as_object_mut().unwrap().remove("endsAt");
    let parsed = parse_alerts(webhook(json!([alert])).to_string().as_bytes(), &Options::default()).unwrap();
    assert_eq!(parsed.deliveries[0].status, Status::Firing);
}

#[test]
fn payloads_of_no_alerts_are_fine() {
    for (payload, kind) in [
        (r#"[]"#, Kind::Messages),
        (r#"{"version":"4","alerts":[]}"#, Kind::Webhook),
        ("\u{feff} {\"version\":\"4\",\"alerts\":[]}\n", Kind::Webhook),
    ] {
        let parsed = parse_alerts(payload.as_bytes(), &Options::default()).unwrap();
        assert_eq!((parsed.deliveries.len(), parsed.truncated, parsed.kind), (0, 0, kind));
    }
}

#[test]
fn an_alert_sent_twice_is_there_twice_and_the_last_of_a_repeated_key_counts() {
    let alert = webhook_alert(json!({"service": "api"}), json!({}));
    let alerts = parse(&webhook(json!([alert, alert])));
    assert_eq!(alerts[0], alerts[1]);
    let twice = r#"{"id":"a","id":"b","alert_since":"2026-11-21T02:45:08Z","labels":{"x":"1","x":"2"}}"#;
    let parsed = parse_alerts(twice.as_bytes(), &Options::default()).unwrap();
    assert_eq!(parsed.deliveries[0].alert.id.as_str(), "b");
    assert_eq!(parsed.deliveries[0].alert.labels["x"], "2");
}
