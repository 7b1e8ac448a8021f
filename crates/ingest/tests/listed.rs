//! What a truncated webhook left out, read from Alertmanager's list of alerts.

#![expect(clippy::unwrap_used, reason = "helpers of tests are test code too")]

use redress_ingest::{Error, Group, Options, parse_alerts, parse_listed};
use redress_types::Status;
use serde_json::{Value, json};

/// The shape of an answer of `GET /api/v2/alerts`.
fn alert(name: &str, fingerprint: &str) -> Value {
    json!({
        "annotations": {"summary": name},
        "endsAt": "2026-11-21T02:50:08.541Z",
        "fingerprint": fingerprint,
        "receivers": [{"name": "other"}, {"name": "redress"}],
        "startsAt": "2026-11-21T02:45:08.541Z",
        "status": {"inhibitedBy": [], "silencedBy": [], "state": "active"},
        "updatedAt": "2026-11-21T02:46:08.541Z",
        "generatorURL": "http://prometheus.invalid/graph",
        "labels": {"alertname": name, "service": "shop", "cluster": "a"},
    })
}

fn group() -> Group {
    let labels = [("cluster".to_owned(), "a".to_owned())].into();
    Group { key: "{}:{cluster=\"a\"}".into(), receiver: "redress".into(), labels }
}

fn titles(list: &Value) -> Vec<String> {
    let listed = parse_listed(list.to_string().as_bytes(), &group(), &Options::default()).unwrap();
    assert!(listed.problems.is_empty(), "{}", listed.problems);
    listed.deliveries.into_iter().map(|delivery| delivery.alert.title).collect()
}

#[test]
fn an_alert_is_the_same_from_the_list_as_from_a_webhook() {
    let listed = alert("down", "b0f25eccdaefc05c");
    let mut sent = listed.clone();
    sent["status"] = json!("firing");
    sent["endsAt"] = json!("0001-01-01T00:00:00Z");
    let webhook = json!({"version": "4", "groupKey": group().key, "alerts": [sent]});
    let webhook = parse_alerts(webhook.to_string().as_bytes(), &Options::default()).unwrap();
    let listed = parse_listed(json!([listed]).to_string().as_bytes(), &group(), &Options::default()).unwrap();
    assert_eq!(listed.deliveries[0].status, Status::Firing);
    assert_eq!(listed.deliveries, webhook.deliveries);
}

/// As Alertmanager 0.25 writes the start of one alert, in its webhook and in its list.
#[test]
fn a_start_is_the_same_in_nanoseconds_and_in_milliseconds() {
    let mut listed = alert("down", "d0c14f891339699e");
    let mut sent = listed.clone();
    (listed["startsAt"], sent["startsAt"]) =
        (json!("2026-11-21T13:57:15.909Z"), json!("2026-11-21T13:57:15.909492992Z"));
    (sent["status"], sent["endsAt"]) = (json!("firing"), json!("0001-01-01T00:00:00Z"));
    let webhook = json!({"version": "4", "groupKey": group().key, "alerts": [sent]});
    let webhook = parse_alerts(webhook.to_string().as_bytes(), &Options::default()).unwrap();
    let listed = parse_listed(json!([listed]).to_string().as_bytes(), &group(), &Options::default()).unwrap();
    assert_eq!(listed.deliveries, webhook.deliveries);
}

#[test]
fn only_what_fires_in_the_group_is_kept() {
    let with = |name: &str, pointer: &str, value: Value| {
        let mut changed = alert(name, "b0f25eccdaefc05c");
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let list = json!([
        alert("kept", "b0f25eccdaefc05c"),
        with("silenced", "/status/state", json!("suppressed")),
        with("another group", "/labels/cluster", json!("b")),
        with("another receiver", "/receivers", json!([{"name": "other"}])),
        with("no receiver", "/receivers", json!(3)),
        with("no labels", "/labels", json!({})),
    ]);
    assert_eq!(titles(&list), ["kept"]);
    assert_eq!(titles(&json!([])), Vec::<String>::new());
}

#[test]
fn what_cannot_be_read_is_left_out_and_named() {
    let mut bad = alert("bad", "b0f25eccdaefc05c");
    bad["startsAt"] = json!("yesterday");
    let list = json!([bad, "nonsense", alert("good", "5a9828c4a29547cf")]).to_string();
    let listed = parse_listed(list.as_bytes(), &group(), &Options::default()).unwrap();
    assert_eq!(listed.deliveries.len(), 1);
    assert_eq!(listed.problems.count(), 2);
    assert_eq!(listed.problems.shown()[0].field, "[0].startsAt");
}

#[test]
fn what_is_no_list_is_refused() {
    let options = Options { alerts_max: 1, ..Options::default() };
    let read = |text: &str| parse_listed(text.as_bytes(), &group(), &options).unwrap_err();
    assert!(matches!(read("{}"), Error::Invalid(_)));
    assert!(matches!(read("<html>"), Error::NotJson(_)));
    assert!(matches!(read("[{}, {}]"), Error::TooLarge { .. }));
}

#[test]
fn a_truncated_webhook_says_which_group_was_cut() {
    let cut = |truncated: u32| {
        let body = json!({"version": "4", "groupKey": "k", "receiver": "redress", "alerts": [],
                          "groupLabels": {"cluster": "a"}, "truncatedAlerts": truncated});
        parse_alerts(body.to_string().as_bytes(), &Options::default()).unwrap()
    };
    assert_eq!(cut(3).group, Some(Group { key: "k".into(), ..group() }));
    assert_eq!(cut(3).truncated, 3);
    assert_eq!(cut(0).group, None);
}

#[test]
fn a_problem_says_in_which_alert_it_is() {
    let index = |body: Value| match parse_alerts(body.to_string().as_bytes(), &Options::default()) {
        Err(Error::Invalid(problems)) => problems.shown()[0].index,
        other => panic!("{other:?}"),
    };
    let good = json!({"id": "a", "alert_since": "2026-01-01T00:00:00Z"});
    assert_eq!(index(json!([good, {"alert_since": 3}])), Some(1));
    assert_eq!(index(json!({"id": "a", "alert_since": 3})), None);
    assert_eq!(index(json!({"id": "a", "alert_since": "2026-01-01T00:00:00Z", "labels": ["x"]})), None);
    assert_eq!(index(json!({"version": "4", "alerts": [{}]})), Some(0));
}
