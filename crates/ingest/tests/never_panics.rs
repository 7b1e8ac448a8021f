//! Whatever is sent: no panic, no text inside out, and every refusal says why.

use proptest::prelude::*;
use redress_ingest::{Error, Options, limits, parse_alerts};
use redress_types::{Alert, AlertId};
use serde_json::{Map, Value, json};

/// What must hold of any answer to any payload.
fn judge(bytes: &[u8]) -> Result<(), TestCaseError> {
    let options = Options { keep_original: true, ..Options::default() };
    match parse_alerts(bytes, &options) {
        Ok(parsed) => {
            for delivery in &parsed.deliveries {
                let alert = &delivery.alert;
                prop_assert!(alert.title.chars().count() <= Alert::TITLE_MAX_CHARS);
                prop_assert!((1..=AlertId::MAX_CHARS).contains(&alert.id.as_str().chars().count()));
                prop_assert!(alert.target().to_string().len() < 2_704, "must fit a Postgres index");
                let texts = [&alert.service, &alert.component, &alert.version, &alert.title];
                let labels = alert.labels.iter().flat_map(|(name, value)| [name, value]);
                prop_assert!(texts.into_iter().chain(labels).all(|text| !text.contains('\0')));
                prop_assert!(
                    serde_json::from_slice::<Value>(delivery.original.as_deref().unwrap_or(b"")).is_ok()
                );
            }
        }
        Err(error) => {
            if let Error::Invalid(problems) = &error {
                prop_assert!((1..=limits::PROBLEMS_SHOWN_MAX).contains(&problems.shown().len()));
            }
            prop_assert!(error.to_string().len() < 20_000);
        }
    }
    Ok(())
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        let object = prop::collection::btree_map(any::<String>(), inner.clone(), 0..8);
        prop_oneof![
            prop::collection::vec(inner, 0..8).prop_map(Value::from),
            object.prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Text that a sender may well send, and text that it may not.
fn likely_text() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<String>().prop_map(Value::from),
        "[a-f0-9]{16}".prop_map(Value::from),
        "\\PC{0,300}".prop_map(Value::from),
        prop::sample::select(vec!["4", "firing", "resolved", "P0", "critical", "0001-01-01T00:00:00Z", "\0"])
            .prop_map(Value::from),
        "[0-9]{4}-0[1-9]-[0-2][0-9]T[0-2][0-9]:00:00(Z|[+]05:00)".prop_map(Value::from),
    ]
}

const FIELDS: [&str; 20] = [
    "id",
    "service",
    "version",
    "level",
    "title",
    "alert_since",
    "labels",
    "component",
    "severity",
    "metric",
    "current",
    "fingerprint",
    "status",
    "startsAt",
    "endsAt",
    "annotations",
    "generatorURL",
    "groupKey",
    "truncatedAlerts",
    "key",
];

/// A sound alert, of both formats at once, with up to three fields replaced.
fn nearly_an_alert() -> impl Strategy<Value = Value> {
    let label = (prop::sample::select(vec!["service", "job", "severity", "environment", "x"]), likely_text());
    let labels = prop::collection::vec(label, 0..4)
        .prop_map(|entries| Value::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()));
    let value = prop_oneof![3 => likely_text(), 2 => labels, 1 => any_json()];
    let changes = prop::collection::vec((prop::sample::select(FIELDS.to_vec()), value), 0..=3);
    changes.prop_map(|changes| {
        let mut alert = json!({"id": "a", "alert_since": "2026-11-21T02:45:08Z", "status": "firing",
            "startsAt": "2026-11-21T02:45:08Z"});
        for (field, value) in changes {
            alert[field] = value;
        }
        alert
    })
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        judge(&bytes)?;
    }

    #[test]
    fn any_value(value in any_json()) {
        judge(value.to_string().as_bytes())?;
    }

    #[test]
    fn anything_near_an_alert(alerts in prop::collection::vec(nearly_an_alert(), 0..4), whole in any_json()) {
        for alert in &alerts {
            judge(alert.to_string().as_bytes())?;
        }
        judge(Value::from(alerts.clone()).to_string().as_bytes())?;
        let mut webhook = Map::from_iter([("version".to_owned(), json!("4")), ("groupKey".to_owned(), whole)]);
        let mut alerts = alerts;
        for alert in &mut alerts {
            alert["fingerprint"] = json!("b0f25eccdaefc05c");
        }
        webhook.insert("alerts".to_owned(), Value::from(alerts));
        judge(Value::Object(webhook.clone()).to_string().as_bytes())?;
        webhook.remove("groupKey");
        judge(Value::Object(webhook).to_string().as_bytes())?;
    }

    #[test]
    fn a_sound_payload_cut_anywhere_or_with_a_byte_changed(at in 0usize..420, byte in any::<u8>()) {
        let payload = json!({"version": "4", "groupKey": "{}", "truncatedAlerts": 2, "alerts": [{"status": "resolved",
            "labels": {"service": "api", "idc": "é🙂"}, "annotations": {"summary": "\u{1F642}"},
            "startsAt": "2026-11-21T02:45:08Z", "endsAt": "2026-11-21T02:46:08Z", "generatorURL": "http://x/",
            "fingerprint": "b0f25eccdaefc05c"}]}).to_string().into_bytes();
        let at = at.min(payload.len() - 1);
        judge(&payload[..at])?;
        let mut changed = payload;
        changed[at] = byte;
        judge(&changed)?;
    }
}
