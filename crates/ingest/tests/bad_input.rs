//! Hostile and broken input: a clear error that names the field, or a correct result.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

use redress_ingest::{Error, Options, limits, parse_alerts};
use redress_types::Alert;
use serde_json::{Value, json};

fn refuse(payload: &str) -> String {
    match parse_alerts(payload.as_bytes(), &Options::default()) {
        Ok(parsed) => panic!("taken: {parsed:?}\nfrom {payload:.200}"),
        Err(error) => error.to_string(),
    }
}

/// Refused because of exactly this, and nothing else.
#[track_caller]
fn check(payload: impl ToString, problem: &str) {
    assert_eq!(refuse(&payload.to_string()), format!("nothing was taken from the payload: {problem}"));
}

/// A sound message with one field replaced.
fn message(field: &str, value: Value) -> Value {
    let mut whole = json!({"id": "a-1", "service": "api", "alert_since": "2026-11-21T02:45:08Z"});
    whole[field] = value;
    whole
}

/// A sound webhook of two alerts with one field of the second replaced.
fn webhook(field: &str, value: Value) -> Value {
    let good = json!({"status": "firing", "labels": {"service": "api"}, "annotations": {},
        "startsAt": "2026-11-21T02:45:08Z", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": "b0f25eccdaefc05c"});
    let mut bad = good.clone();
    bad[field] = value;
    json!({"version": "4", "groupKey": "{}", "alerts": [good, bad]})
}

#[test]
fn what_is_not_json() {
    for (payload, problem) in [
        ("", "it is empty"),
        (" \n\t", "it is empty"),
        ("\u{feff}", "it is empty"),
        ("{\"id\": ", "EOF while parsing a value at line 1 column 7"),
        ("{} {}", "trailing characters at line 1 column 4"),
        ("{'id': 1}", "key must be a string at line 1 column 2"),
        (
            "{\"a\": \"line\nbreak\"}",
            "control character (\\u0000-\\u001F) found while parsing a string at line 1 column 11",
        ),
        ("NaN", "expected value at line 1 column 1"),
    ] {
        let expected = format!(
            "the payload is not JSON: {problem}; send an alert message, a list of them, or an Alertmanager webhook body"
        );
        assert_eq!(refuse(payload), expected, "{payload:?}");
    }
    let error = parse_alerts(b"{\"id\": \"\xff\"}", &Options::default()).unwrap_err();
    assert_eq!(error, Error::NotJson("byte 9 is not UTF-8".into()));
    assert!(matches!(parse_alerts(&[b'['; 100_000], &Options::default()), Err(Error::NotJson(_))));
}

#[test]
fn what_is_no_alert() {
    check("7", "the payload: is a number; must be an object or a list");
    check("null", "the payload: is null; must be an object or a list");
    check("\"x\"", "the payload: is a string; must be an object or a list");
    check("[[]]", "[0]: is a list; must be an object");
    let shapes = "an alert message has an `id`, an Alertmanager webhook body has `alerts`";
    let time = "write it like 2026-01-31T12:00:00Z";
    check("{}", &format!("(1) id: is missing; {shapes} (2) alert_since: is missing; {time}"));
    check(message("id", json!(null)), &format!("id: is missing; {shapes}"));
}

#[test]
fn fields_of_a_message() {
    for (field, value, problem) in [
        ("id", json!(7), "id: is a number; must be a string"),
        ("id", json!(""), "id: is empty; an alert id has 1 to 64 characters"),
        ("id", json!("é".repeat(65)), "id: has 65 characters; an alert id has 1 to 64"),
        ("id", json!("a\0"), "id: contains a NUL character (\\u0000), which cannot be stored; remove it"),
        ("service", json!(["api"]), "service: is a list; must be a string"),
        (
            "service",
            json!("s".repeat(257)),
            "service: has 257 bytes; the limit is 256 bytes; shorten it or leave it out",
        ),
        ("version", json!(1.2), "version: is a number; must be a string"),
        ("level", json!({}), "level: is an object; must be a string"),
        ("title", json!(true), "title: is true or false; must be a string"),
        (
            "severity",
            json!("urgent"),
            "severity: is \"urgent\"; must be info, warning or critical, or left out",
        ),
        ("current", json!("0.5"), "current: is a string; must be a number that a 64-bit float can hold"),
        (
            "fingerprint",
            json!("+a".repeat(32)),
            &format!(
                "fingerprint: \"{}\" is not 64 hexadecimal digits (SHA-256); or leave it out",
                "+a".repeat(32)
            ),
        ),
        (
            "fingerprint",
            json!("ab"),
            "fingerprint: \"ab\" is not 64 hexadecimal digits (SHA-256); or leave it out",
        ),
        ("labels", json!("a=b"), "labels: is a string; must be a map of strings or a list of {key,value}"),
        ("labels", json!({"port": 80}), "labels.port: is a number; must be a string"),
        ("labels", json!({"x": null}), "labels.x: is null; must be a string"),
        ("labels", json!({"": "x"}), "labels: has a label with an empty name; name it or leave it out"),
        ("labels", json!({"a b": 1}), "labels.\"a b\": is a number; must be a string"),
        (
            "labels",
            json!({"environment": "e".repeat(257)}),
            "labels.environment: has 257 bytes; the limit is 256 bytes; shorten it or leave it out",
        ),
        ("labels", json!([{"key": "a"}]), "labels[0].value: is missing; a label has a value, \"\" at least"),
        ("labels", json!([{"key": "a", "value": 1}]), "labels.a: is a number; must be a string"),
        (
            "labels",
            json!([{"value": "1"}]),
            "labels[0].key: is missing; a label is written {\"key\":…,\"value\":…}",
        ),
        ("labels", json!(["a"]), "labels[0]: is a string; must be an object"),
    ] {
        check(message(field, value), problem);
    }
    let huge = message("current", json!(0)).to_string().replace("\"current\":0", "\"current\":1e999");
    check(huge, "current: is a number; must be a number that a 64-bit float can hold");
}

#[test]
fn fields_of_a_webhook() {
    for (field, value, problem) in [
        ("startsAt", json!(null), "alerts[1].startsAt: is missing; write it like 2026-01-31T12:00:00Z"),
        ("startsAt", json!(17), "alerts[1].startsAt: is a number; must be a string"),
        (
            "status",
            json!("suppressed"),
            "alerts[1].status: is \"suppressed\"; must be \"firing\" or \"resolved\"",
        ),
        ("status", json!(null), "alerts[1].status: is missing; an alert is \"firing\" or \"resolved\""),
        (
            "status",
            json!("resolved"),
            "alerts[1].endsAt: is year 1, which means still firing, but the alert's status is \"resolved\"",
        ),
        ("fingerprint", json!("xyz"), "alerts[1].fingerprint: \"xyz\" is not 16 hexadecimal digits"),
        (
            "fingerprint",
            json!(null),
            "alerts[1].fingerprint: is missing; Alertmanager sends 16 hexadecimal digits",
        ),
        ("labels", json!({"service": 1}), "alerts[1].labels.service: is a number; must be a string"),
        (
            "labels",
            json!({"job": "j".repeat(300)}),
            "alerts[1].labels.job: has 300 bytes; the limit is 256 bytes; shorten it or leave it out",
        ),
        ("annotations", json!([]), "alerts[1].annotations: is a list; must be an object"),
        (
            "annotations",
            json!({"summary": 1}),
            "alerts[1].annotations.summary: is a number; must be a string",
        ),
        ("generatorURL", json!({}), "alerts[1].generatorURL: is an object; must be a string"),
    ] {
        check(webhook(field, value), problem);
    }
}

#[test]
fn the_root_of_a_webhook() {
    for (field, value, problem) in [
        ("version", json!("5"), "version: is \"5\"; only version \"4\" of the webhook is understood"),
        ("version", json!(4), "version: is a number; must be a string"),
        ("version", json!(null), "version: is missing; an Alertmanager webhook body says \"version\": \"4\""),
        ("alerts", json!(null), "alerts: is missing; a webhook body has a list of alerts, [] at least"),
        ("alerts", json!({}), "alerts: is an object; must be a list of alerts"),
        ("alerts", json!([3]), "alerts[0]: is a number; must be an object"),
        ("truncatedAlerts", json!(-1), "truncatedAlerts: must be a whole number, 0 or more"),
        ("truncatedAlerts", json!(1.5), "truncatedAlerts: must be a whole number, 0 or more"),
        ("truncatedAlerts", json!("3"), "truncatedAlerts: is a string; must be a whole number, 0 or more"),
        (
            "groupKey",
            json!("k".repeat(8193)),
            "groupKey: has 8193 bytes; the limit is 8192 bytes; shorten it or leave it out",
        ),
    ] {
        let mut payload = webhook("status", json!("firing"));
        payload[field] = value;
        check(payload, problem);
    }
}

#[test]
fn dates() {
    for date in ["0001-01-01T00:00:00Z", "9999-12-30T00:00:00Z"] {
        let payload = message("alert_since", json!(date)).to_string();
        let parsed = parse_alerts(payload.as_bytes(), &Options::default()).unwrap();
        assert_eq!(parsed.deliveries[0].alert.alert_since.to_string(), date);
    }
    for date in [
        "10000-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "yesterday",
        "",
        "🙂",
        "2026-13-01T00:00:00Z",
    ] {
        let range = "from 0001-01-01T00:00:00Z to 9999-12-30T22:00:00Z; write it like 2026-01-31T12:00:00Z";
        let problem = format!("{date:?} is not a time in RFC 3339 {range}");
        check(message("alert_since", json!(date)), &format!("alert_since: {problem}"));
        check(webhook("startsAt", json!(date)), &format!("alerts[1].startsAt: {problem}"));
    }
}

#[test]
fn ids_of_1_and_64_characters_are_taken() {
    for id in ["x".to_owned(), "🙂".repeat(64)] {
        let payload = message("id", json!(id)).to_string();
        let parsed = parse_alerts(payload.as_bytes(), &Options::default()).unwrap();
        assert_eq!(parsed.deliveries[0].alert.id.as_str(), id);
    }
}

/// Every text of a message, set to the same text.
fn message_of(text: &str) -> Value {
    json!({"id": text, "service": text, "version": text, "level": text, "title": text, "component": text,
        "metric": text, "suggested_action": text, "labels": {text: text, "environment": text},
        "alert_since": "2026-11-21T02:45:08Z"})
}

#[test]
fn nasty_texts_are_kept_to_the_letter() {
    for text in [
        "../",
        "..",
        "\"'`",
        "a\nb\r\n",
        "%00%2e%2e",
        "🙂👩‍👩‍👧",
        "'; DROP TABLE x; --",
        "<script>",
        "\u{202e}",
        "\u{1b}[2J",
        "\\u0000",
    ] {
        let payload = message_of(text).to_string();
        let parsed = parse_alerts(payload.as_bytes(), &Options::default()).unwrap();
        let Alert { id, service, version, title, component, metric, suggested_action, labels, .. } =
            &parsed.deliveries[0].alert;
        for kept in [id.as_str(), service, version, title, component, metric.as_ref().unwrap()] {
            assert_eq!(kept, text);
        }
        assert_eq!(suggested_action.as_deref(), Some(text));
        for name in [text, "level", "environment"] {
            assert_eq!(labels[name], text);
        }
    }
}

#[test]
fn nul_and_half_characters_are_named_in_every_field() {
    let fields = [
        "id",
        "service",
        "version",
        "level",
        "title",
        "component",
        "metric",
        "suggested_action",
        "fingerprint",
    ];
    for field in fields {
        check(
            message(field, json!("a\0b")),
            &format!("{field}: contains a NUL character (\\u0000), which cannot be stored; remove it"),
        );
        let half = message(field, json!("HALF")).to_string().replace("HALF", "\\ud800");
        check(
            half,
            &format!(
                "{field}: holds a \\u escape that is no character (half of a surrogate pair); send both halves or neither"
            ),
        );
    }
    check(
        message("labels", json!({"a": "\0"})),
        "labels.a: contains a NUL character (\\u0000), which cannot be stored; remove it",
    );
    check(
        message("labels", json!({"a\0": "x"})),
        "labels.\"a\\0\": the label's name contains a NUL character (\\u0000), which cannot be stored; remove it",
    );
    let half = message("labels", json!({"HALF": "x"})).to_string().replace("HALF", "\\udc00x");
    check(
        half,
        "labels: has a field name with a \\u escape that is no character (half of a surrogate pair); send both halves or neither",
    );
    check(
        webhook("annotations", json!({"summary": "\0", "unread": "\0"})),
        "alerts[1].annotations.summary: contains a NUL character (\\u0000), which cannot be stored; remove it",
    );
}

#[test]
fn large_labels() {
    let megabyte = "🙂".repeat(1 << 18);
    let too_long = "has 1048576 bytes; the limit is 65536 bytes; shorten it or leave it out";
    check(message("labels", json!({"big": megabyte})), &format!("labels.big: {too_long}"));
    check(webhook("labels", json!({"big": megabyte})), &format!("alerts[1].labels.big: {too_long}"));
    let shown = format!("\"{}\" (cut)", "🙂".repeat(80));
    check(
        message("labels", json!({megabyte: "x"})),
        &format!(
            "labels.{shown}: the label's name has 1048576 bytes; the limit is 256 bytes; shorten it or leave it out"
        ),
    );
    let many: Value =
        (0..257).map(|i| (format!("l{i}"), json!("x"))).collect::<serde_json::Map<_, _>>().into();
    check(message("labels", many), "labels: has 257 labels; the limit is 256; leave out what nobody reads");
    // Exactly at each limit.
    let most: Value =
        (0..256).map(|i| (format!("{i:0>256}"), json!("x"))).collect::<serde_json::Map<_, _>>().into();
    for labels in [most, json!({"big": "x".repeat(limits::TEXT_BYTES_MAX)})] {
        let payload = message("labels", labels).to_string();
        assert!(parse_alerts(payload.as_bytes(), &Options::default()).is_ok());
    }
}

#[test]
fn ten_thousand_alerts_are_taken_and_one_more_is_not() {
    let list = |n: usize| {
        let one = |i| json!({"id": format!("a-{i}"), "service": "s", "alert_since": "2026-11-21T02:45:08Z"});
        Value::from((0..n).map(one).collect::<Vec<_>>()).to_string()
    };
    let parsed = parse_alerts(list(10_000).as_bytes(), &Options::default()).unwrap();
    assert_eq!(parsed.deliveries.len(), 10_000);
    assert_eq!(parsed.deliveries[9_999].alert.id.as_str(), "a-9999");
    let expected = "the list of alerts has 10001 alerts; the limit is 10000 alerts; send it in smaller parts";
    assert_eq!(refuse(&list(10_001)), expected);
    assert_eq!(refuse(&format!("{{\"version\":\"4\",\"alerts\":{}}}", list(10_001))), expected);
}

#[test]
fn a_payload_over_the_limit() {
    let payload = " ".repeat(limits::PAYLOAD_BYTES_MAX + 1);
    assert_eq!(
        refuse(&payload),
        "the payload has 4194305 bytes; the limit is 4194304 bytes; send it in smaller parts"
    );
    let options = Options { payload_bytes_max: 8 << 20, ..Options::default() };
    assert!(matches!(parse_alerts(payload.as_bytes(), &options), Err(Error::NotJson(_))));
}

#[test]
fn the_first_problems_are_spelled_out_and_the_rest_counted() {
    let error = parse_alerts(b"[1,2,3,4,5,6,7]", &Options::default()).unwrap_err();
    let Error::Invalid(problems) = &error else { panic!("{error}") };
    assert_eq!((problems.shown().len(), problems.count()), (5, 7));
    assert_eq!(problems.shown()[4].field, "[4]");
    assert!(error.to_string().ends_with("(5) [4]: is a number; must be an object and 2 more"), "{error}");
}

#[test]
fn one_bad_alert_refuses_the_whole_payload() {
    let mut payload = json!([message("id", json!("a")), message("id", json!("b"))]);
    assert!(parse_alerts(payload.to_string().as_bytes(), &Options::default()).is_ok());
    payload[1]["service"] = json!(1);
    check(payload, "[1].service: is a number; must be a string");
}

#[test]
fn depth_is_no_danger() {
    let deep = "[".repeat(500_000) + &"]".repeat(500_000);
    let payload = format!("{{\"id\":\"a\",\"alert_since\":\"2026-11-21T02:45:08Z\",\"ignored\":{deep}}}");
    assert!(parse_alerts(payload.as_bytes(), &Options::default()).is_ok());
    check(
        format!("{{\"id\":{deep}, \"alert_since\":\"2026-11-21T02:45:08Z\"}}"),
        "id: is a list; must be a string",
    );
}
