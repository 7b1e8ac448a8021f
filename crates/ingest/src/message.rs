//! Our own alert message (contracts §1), one or a list.
//!
//! | field | what is taken |
//! |---|---|
//! | `id` | required, 1 to 64 characters |
//! | `service` | empty when absent: the alert is then recorded and Skipped |
//! | `version` | empty when absent |
//! | `level` | `P0`, `P1`, `P2`, `Warning`; else `Warning`, and what was sent becomes the label `level` |
//! | `title` | cut to 255 characters |
//! | `alert_since` | required, RFC 3339 |
//! | `labels` | a map of strings, or a list of `{key,value}` |
//! | `component` | the service when absent or empty |
//! | `severity` | `info`, `warning`, `critical`; by the level when absent |
//! | `metric`, `current`, `threshold`, `suggested_action` | optional |
//! | `fingerprint` | 64 hexadecimal digits; made by [`Identity`](crate::Identity) when absent |

use redress_types::{Alert, AlertId, Delivery, Fingerprint, InvalidId, Labels, Level, Severity, Status};
use serde_json::value::RawValue;

use crate::error::{Error, Problems, quoted};
use crate::json::{Object, Path};
use crate::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
use crate::{Kind, Options, Parsed, check_count, delivery, labels};

/// A list of messages.
pub(crate) fn read_list(
    items: &[&RawValue],
    options: &Options,
    problems: &mut Problems,
) -> Result<Option<Parsed>, Error> {
    check_count(items.len(), options)?;
    let mut deliveries = Vec::with_capacity(items.len());
    for (i, raw) in items.iter().enumerate() {
        let path = Path::Index(&Path::Root, i);
        let Some(object) = Object::read(raw, &path, problems) else { continue };
        deliveries.extend(read(&object, raw, options, problems));
    }
    Ok(Some(Parsed { deliveries, truncated: 0, group: None, kind: Kind::Messages }))
}

/// One message; `None`, with the problems noted, when anything in it is wrong.
pub(crate) fn read(
    object: &Object<'_, '_>,
    raw: &RawValue,
    options: &Options,
    problems: &mut Problems,
) -> Option<Delivery> {
    let before = problems.count();
    // Without an id the shape itself is in question, so both shapes are named.
    object.require("id", "an alert message has an `id`, an Alertmanager webhook body has `alerts`", problems);
    let id = read_id(object, problems);
    object.require("alert_since", "write it like 2026-01-31T12:00:00Z", problems);
    let alert_since = object.time("alert_since", problems);
    let given = read_fingerprint(object, problems);
    let mut labels = labels::read(object, problems);
    let level = read_level(object, &mut labels, problems);
    let severity = read_severity(object, problems).unwrap_or(labels::severity_of(level));
    let service = object.text("service", NAME_BYTES_MAX, problems).unwrap_or_default();
    let component = object.text("component", NAME_BYTES_MAX, problems).filter(|name| !name.is_empty());
    let mut alert = Alert {
        // Replaced below: it is made from the rest of the alert.
        fingerprint: Fingerprint::over(&[]),
        component: component.unwrap_or_else(|| service.clone()),
        service,
        version: object.text("version", NAME_BYTES_MAX, problems).unwrap_or_default(),
        level,
        severity,
        // No bound of its own: what is over 255 characters is cut.
        title: object.text("title", usize::MAX, problems).map(labels::cut_title).unwrap_or_default(),
        labels,
        metric: object.text("metric", NAME_BYTES_MAX, problems),
        current: object.number("current", problems),
        threshold: object.number("threshold", problems),
        suggested_action: object.text("suggested_action", TEXT_BYTES_MAX, problems),
        // Last, so that what is wrong with the other fields has been noted by now.
        id: id?,
        alert_since: alert_since?,
    };
    alert.fingerprint = given.unwrap_or_else(|| options.identity.fingerprint(&alert));
    (problems.count() == before).then(|| delivery(alert, Status::Firing, raw, options))
}

fn read_id(object: &Object<'_, '_>, problems: &mut Problems) -> Option<AlertId> {
    let text = object.text("id", usize::MAX, problems)?;
    text.parse().map_err(|invalid: InvalidId| problems.add(&object.path("id"), invalid.problem)).ok()
}

fn read_fingerprint(object: &Object<'_, '_>, problems: &mut Problems) -> Option<Fingerprint> {
    let text = object.text("fingerprint", usize::MAX, problems)?;
    // Digits are checked here as well: a sign before a digit must not pass for one.
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let fingerprint = text.parse().ok().filter(|_| digits);
    if fingerprint.is_none() {
        let problem = format!("{} is not 64 hexadecimal digits (SHA-256); or leave it out", quoted(&text));
        problems.add(&object.path("fingerprint"), problem);
    }
    fingerprint
}

fn read_level(object: &Object<'_, '_>, labels: &mut Labels, problems: &mut Problems) -> Level {
    let text = object.text("level", TEXT_BYTES_MAX, problems).unwrap_or_default();
    let level = labels::level(&text);
    if !text.is_empty() && text != <&str>::from(level) {
        labels.entry("level".to_owned()).or_insert(text);
    }
    level
}

fn read_severity(object: &Object<'_, '_>, problems: &mut Problems) -> Option<Severity> {
    let text = object.text("severity", usize::MAX, problems)?;
    let severity = labels::severity(&text);
    if severity.is_none() {
        let problem = format!("is {}; must be info, warning or critical, or left out", quoted(&text));
        problems.add(&object.path("severity"), problem);
    }
    severity
}
