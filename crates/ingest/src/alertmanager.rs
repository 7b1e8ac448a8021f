//! Alertmanager's webhook body, version "4" (contracts §2; the format is described at
//! <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>).
//!
//! Each alert is taken by its own `status`; the group's is not read. The id is `{fingerprint}-{startsAt in unix ms}`,
//! so every repetition and every retry of one firing is the same alert. Alertmanager's fingerprint covers *all*
//! labels, so a new version would look like a new problem: it is only kept as the label `am_fingerprint`, and the
//! fingerprint is made by [`Identity`](crate::Identity). `startsAt` is taken to the millisecond, as the id is.
//!
//! An alert that names no service has an empty one: it is recorded and Skipped later, and fails nothing else.

use redress_types::{Alert, AlertId, Delivery, Fingerprint, InvalidId, Labels, Status, Timestamp};
use serde_json::value::RawValue;

use crate::error::{Error, Problems, quoted};
use crate::json::{self, Object, Path, check_text, wrong_type};
use crate::limits::{GROUP_KEY_BYTES_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX};
use crate::{Group, Kind, Options, Parsed, check_count, delivery, labels};

/// The one version of the format that is understood.
pub const VERSION: &str = "4";

/// The title of an alert that has nothing to make one from.
pub const TITLE_DEFAULT: &str = "Alert from Alertmanager";

/// A webhook body; `None` when it cannot be read at all. Problems of single alerts are noted.
pub(crate) fn read(
    root: &Object<'_, '_>,
    options: &Options,
    problems: &mut Problems,
) -> Result<Option<Parsed>, Error> {
    if !is_version_4(root, problems) {
        return Ok(None);
    }
    let group_key = root.text("groupKey", GROUP_KEY_BYTES_MAX, problems).unwrap_or_default();
    let truncated = read_truncated(root, problems);
    let group = (truncated > 0).then(|| Group {
        key: group_key.clone(),
        receiver: root.text("receiver", TEXT_BYTES_MAX, problems).unwrap_or_default(),
        labels: labels::read_field(root, "groupLabels", problems),
    });
    root.require("alerts", "a webhook body has a list of alerts, [] at least", problems);
    let Some(raw) = root.get("alerts") else { return Ok(None) };
    let path = root.path("alerts");
    let Some(items) = json::items(raw) else {
        problems.add(&path, wrong_type(raw, "a list of alerts"));
        return Ok(None);
    };
    check_count(items.len(), options)?;
    let mut deliveries = Vec::with_capacity(items.len());
    for (i, raw) in items.iter().enumerate() {
        let here = Path::Index(&path, i);
        let Some(object) = Object::read(raw, &here, problems) else { continue };
        deliveries.extend(read_alert(&object, raw, Form::Webhook, &group_key, options, problems));
    }
    Ok(Some(Parsed { deliveries, truncated, group, kind: Kind::Webhook }))
}

/// Of another version no field can be trusted to mean the same, so nothing else is looked at.
fn is_version_4(root: &Object<'_, '_>, problems: &mut Problems) -> bool {
    root.require("version", "an Alertmanager webhook body says \"version\": \"4\"", problems);
    let version = root.text("version", usize::MAX, problems);
    if let Some(other) = version.as_deref().filter(|version| *version != VERSION) {
        let problem = format!("is {}; only version {VERSION:?} of the webhook is understood", quoted(other));
        problems.add(&root.path("version"), problem);
    }
    version.as_deref() == Some(VERSION)
}

fn read_truncated(root: &Object<'_, '_>, problems: &mut Problems) -> u64 {
    let Some(raw) = root.get("truncatedAlerts") else { return 0 };
    serde_json::from_str(raw.get()).unwrap_or_else(|_| {
        let problem = match raw.get().as_bytes() {
            [b'-' | b'0'..=b'9', ..] => "must be a whole number, 0 or more".to_owned(),
            _ => wrong_type(raw, "a whole number, 0 or more"),
        };
        problems.add(&root.path("truncatedAlerts"), problem);
        0
    })
}

/// Where an alert stands, which decides what its `status` is.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// In a webhook: `firing` or `resolved`.
    Webhook,
    /// In the list of alerts, which names those that fire; there `endsAt` is when that would be over by itself.
    Listed,
}

/// One alert; `None`, with the problems noted, when anything in it is wrong.
pub(crate) fn read_alert(
    object: &Object<'_, '_>,
    raw: &RawValue,
    form: Form,
    group_key: &str,
    options: &Options,
    problems: &mut Problems,
) -> Option<Delivery> {
    let before = problems.count();
    let mut labels = labels::read(object, problems);
    object.require("startsAt", "write it like 2026-01-31T12:00:00Z", problems);
    let starts_at = object.time("startsAt", problems);
    let status = match form {
        Form::Webhook => read_status(object, problems),
        Form::Listed => Some(Status::Firing),
    };
    let theirs = read_fingerprint(object, problems);
    let summary = read_summary(object, problems);
    let url = object.text("generatorURL", TEXT_BYTES_MAX, problems).unwrap_or_default();
    let mut name = |names: &[&str]| read_name(&labels, names, object, problems);
    let service = name(&["service", "job", "component"]);
    let version = name(&["service_version", "version"]);
    let component = Some(name(&["component"])).filter(|name| !name.is_empty());
    if problems.count() > before {
        return None;
    }
    let (theirs, starts_at) = (theirs?, to_the_millisecond(starts_at?));
    let title = summary.unwrap_or_else(|| title_of(&labels, &service));
    add_label(&mut labels, "am_fingerprint", &theirs);
    add_label(&mut labels, "generatorURL", &url);
    add_label(&mut labels, "groupKey", group_key);
    let given = labels.get("severity").map_or("", String::as_str);
    let level = labels::level(given);
    let mut alert = Alert {
        id: id_of(&theirs, starts_at, object, problems)?,
        // Replaced below: it is made from the rest of the alert.
        fingerprint: Fingerprint::over(&[]),
        component: component.unwrap_or_else(|| service.clone()),
        service,
        version,
        level,
        severity: labels::severity(given).unwrap_or(labels::severity_of(level)),
        title: labels::cut_title(title),
        alert_since: starts_at,
        labels,
        metric: None,
        current: None,
        threshold: None,
        suggested_action: None,
    };
    alert.fingerprint = options.identity.fingerprint(&alert);
    Some(delivery(alert, status?, raw, options))
}

/// The alert's own status. `endsAt` in year 1 means "still firing"; a firing alert may leave it out.
fn read_status(object: &Object<'_, '_>, problems: &mut Problems) -> Option<Status> {
    object.require("status", "an alert is \"firing\" or \"resolved\"", problems);
    let ends_at = object.time("endsAt", problems);
    let text = object.text("status", usize::MAX, problems)?;
    match text.as_str() {
        "firing" => Some(Status::Firing),
        "resolved" => {
            object.require("endsAt", "a resolved alert says when it ended", problems);
            if ends_at == Some(Timestamp::MIN) {
                let problem = "is year 1, which means still firing, but the alert's status is \"resolved\"";
                problems.add(&object.path("endsAt"), problem.into());
            }
            ends_at.map(|ends_at| Status::Resolved { ends_at })
        }
        other => {
            let problem = format!("is {}; must be \"firing\" or \"resolved\"", quoted(other));
            problems.add(&object.path("status"), problem);
            None
        }
    }
}

/// Alertmanager's fingerprint: 16 hexadecimal digits, in lower case.
fn read_fingerprint(object: &Object<'_, '_>, problems: &mut Problems) -> Option<String> {
    object.require("fingerprint", "Alertmanager sends 16 hexadecimal digits", problems);
    let text = object.text("fingerprint", usize::MAX, problems)?;
    if text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(text.to_ascii_lowercase());
    }
    problems.add(&object.path("fingerprint"), format!("{} is not 16 hexadecimal digits", quoted(&text)));
    None
}

/// Annotation `summary`, when not empty. No other annotation is stored, so no other is checked.
fn read_summary(object: &Object<'_, '_>, problems: &mut Problems) -> Option<String> {
    let path = object.path("annotations");
    let annotations = Object::read(object.get("annotations")?, &path, problems)?;
    annotations.text("summary", usize::MAX, problems).filter(|summary| !summary.is_empty())
}

/// The first of the labels that is not empty, checked as a part of keys; empty when there is none.
fn read_name(labels: &Labels, names: &[&str], object: &Object<'_, '_>, problems: &mut Problems) -> String {
    let found = names.iter().find_map(|name| Some((name, labels.get(*name).filter(|v| !v.is_empty())?)));
    let Some((name, value)) = found else { return String::new() };
    if let Some(problem) = check_text(value, NAME_BYTES_MAX) {
        problems.add(&Path::Field(&object.path("labels"), name), problem);
    }
    value.clone()
}

/// `"{idc} {service} {alertname}"` of those that are there.
fn title_of(labels: &Labels, service: &str) -> String {
    let label = |name: &str| labels.get(name).map_or("", String::as_str);
    let parts = [label("idc"), service, label("alertname")];
    let title = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    if title.is_empty() { TITLE_DEFAULT.to_owned() } else { title }
}

/// What Alertmanager says of an alert wins over a label that the alert's rule happens to call the same.
fn add_label(labels: &mut Labels, name: &str, value: &str) {
    if !value.is_empty() {
        labels.insert(name.to_owned(), value.to_owned());
    }
}

/// Where a webhook writes nanoseconds, Alertmanager's list of the same alerts writes milliseconds, and so does the id.
/// Kept finer, the start of one alert would differ between the two, and be a conflict.
fn to_the_millisecond(time: Timestamp) -> Timestamp {
    Timestamp::from_micros(time.as_millis().saturating_mul(1000))
}

fn id_of(
    fingerprint: &str,
    starts_at: Timestamp,
    object: &Object<'_, '_>,
    problems: &mut Problems,
) -> Option<AlertId> {
    // At most 16 + 1 + 15 characters, so this cannot fail; were it to, it would be said.
    let id = format!("{fingerprint}-{}", starts_at.as_millis()).parse();
    id.map_err(|e: InvalidId| problems.add(&object.path("fingerprint"), e.to_string())).ok()
}
