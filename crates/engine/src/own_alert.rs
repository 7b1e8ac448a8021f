//! Alerts that the engine raises about itself: what is owed through an executor cannot be delivered.
//!
//! They go through admission like any other, so they are recorded once and for ever, and are Skipped there: Redress
//! does not remediate itself (safety rule 20). What they do is call a person: once for an executor and outage, however
//! many rows fail, and not again within [`QUIET`] for the same executor. Nobody outside can send one.

use std::sync::Arc;
use std::time::Duration;

use redress_action::OWN_ALERT_LABEL;
use redress_operation_log::{AlertRecord, Filter, OutboxRow, OutboxState};
use redress_types::{Alert, AlertId, Delivery, Fingerprint, Level, OperationId, Severity, Target, Timestamp};

use crate::admission;
use crate::config::cut;
use crate::shared::Shared;

/// The service that alerts about Redress itself name.
pub(crate) const SERVICE: &str = "redress";

/// How the ids of the engine's own alerts begin.
const OWED: &str = "redress-owed-";

/// The label that says what goes wrong.
const ERROR_LABEL: &str = "error";

const ERROR_BYTES_MAX: usize = 512;

/// For so long after an alert about an executor there is no other one about it.
const QUIET: Duration = Duration::from_secs(3600);

/// So much of an executor's name goes into an id, which has a limit.
const NAME_BYTES_MAX: usize = 20;

/// Rows and operations that are looked at to find out what was raised before.
const LOOKED_AT: usize = 1000;

/// Why a person is called for this alert; `None` when it is not one of the engine's own.
pub(crate) fn reason(alert: &Alert) -> Option<String> {
    is_own(alert).then(|| {
        let error = alert.labels.get(ERROR_LABEL).map_or("", String::as_str);
        format!("{}: {error}", alert.title)
    })
}

fn is_own(alert: &Alert) -> bool {
    alert.service == SERVICE && alert.id.as_str().starts_with(OWED)
}

/// Why an alert from outside is not taken: it passes itself off as one of the engine's own.
pub(crate) fn taken_for_own(alert: &Alert) -> Option<String> {
    if alert.id.as_str().starts_with(OWED) {
        return Some(format!("alert {}: ids that begin with {OWED:?} are the engine's own", alert.id));
    }
    (alert.service == SERVICE && alert.labels.contains_key(OWN_ALERT_LABEL)).then(|| {
        format!(
            "alert {}: the label {OWN_ALERT_LABEL:?} on service {SERVICE:?} is the engine's own",
            alert.id
        )
    })
}

/// What the alert about a row says beside the row.
pub(crate) struct About<'a> {
    pub operation: OperationId,
    /// Of the operation that owes it.
    pub target: &'a Target,
    /// When the row was written.
    pub since: Timestamp,
    /// What the last try said.
    pub error: &'a str,
}

/// Raises the alert about what this row's executor owes, unless it was raised for this outage, or a short time ago.
///
/// # Errors
/// It is not durable; try again.
pub(crate) async fn raise(shared: &Arc<Shared>, row: &OutboxRow, about: About<'_>) -> Result<(), String> {
    // One after the other: rows that fail at the same moment are one outage.
    let mut raised = shared.raised.lock().await;
    let now = shared.now();
    let known = raised.get(&row.executor).is_some_and(|at| now.since(*at) < QUIET);
    if known || raised_lately(shared, &row.executor, now).await? {
        raised.entry(row.executor.clone()).or_insert(now);
        return Ok(());
    }
    let position = first_owed(shared, row).await?;
    if let Some(id) = unused_id(shared, &row.executor, position).await? {
        tracing::error!(operation = %row.operation, executor = row.executor, error = about.error, "owed, and fails");
        let delivery = Delivery::firing(alert(id, row, &about));
        admission::submit_own(shared, delivery).await.map_err(|error| error.to_string())?;
    }
    raised.insert(row.executor.clone(), now);
    Ok(())
}

/// By whichever engine: all of them are in the log.
async fn raised_lately(shared: &Shared, executor: &str, now: Timestamp) -> Result<bool, String> {
    let filter =
        Filter { service: Some(SERVICE.to_owned()), since: Some(now.minus(QUIET)), ..Filter::default() };
    let page = shared.log.operations(&filter, None, LOOKED_AT).await.map_err(|error| error.to_string())?;
    let fingerprint = fingerprint(executor);
    for head in page.operations.iter().filter(|head| head.fingerprint == fingerprint) {
        let alerts = shared.log.alerts_of(head.id).await.map_err(|error| error.to_string())?;
        if alerts.iter().any(|record| is_ours(record, executor)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first row that the executor still owes stands for the outage, whichever row is noticed.
async fn first_owed(shared: &Shared, row: &OutboxRow) -> Result<u64, String> {
    let rows = shared.log.outbox_owed(LOOKED_AT).await.map_err(|error| error.to_string())?;
    let owed = |other: &&OutboxRow| other.executor == row.executor && other.state == OutboxState::Owed;
    let first = rows.iter().filter(owed).map(|owed| owed.position).min();
    Ok(first.map_or(row.position, |first| first.min(row.position)))
}

/// The id of the alert about this outage; `None`: it was raised already. An id that somebody else's alert has, from a
/// time when it was not refused, is passed over.
async fn unused_id(shared: &Shared, executor: &str, position: u64) -> Result<Option<AlertId>, String> {
    for again in ["", "-2", "-3"] {
        let id: AlertId = format!("{OWED}{}-{position}{again}", name(executor))
            .parse()
            .map_err(|error| format!("{error}"))?;
        match shared.log.alert(&id).await.map_err(|error| error.to_string())? {
            None => return Ok(Some(id)),
            Some(record) if is_ours(&record, executor) => return Ok(None),
            Some(_) => {}
        }
    }
    Err(format!("other alerts have the ids of the alert about executor {executor}"))
}

fn is_ours(record: &AlertRecord, executor: &str) -> bool {
    record.id.as_str().starts_with(OWED)
        && record.service == SERVICE
        && record.fingerprint == fingerprint(executor)
}

fn fingerprint(executor: &str) -> Fingerprint {
    Fingerprint::over(&[OWED, executor])
}

/// An executor's name as it fits into an id.
fn name(executor: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if executor.len() <= NAME_BYTES_MAX && executor.bytes().all(plain) {
        return executor.to_owned();
    }
    fingerprint(executor).to_string().chars().take(NAME_BYTES_MAX).collect()
}

fn alert(id: AlertId, row: &OutboxRow, about: &About<'_>) -> Alert {
    let title = format!("{} of operation {} is owed and cannot be delivered", row.executor, about.operation);
    let labels = [
        ("alertname", "RedressOwed".to_owned()),
        (OWN_ALERT_LABEL, "true".to_owned()),
        ("environment", about.target.environment.clone()),
        ("owed_by", about.operation.to_string()),
        ("owed_for", about.target.service.clone()),
        ("executor", row.executor.clone()),
        (ERROR_LABEL, cut(about.error, ERROR_BYTES_MAX)),
    ];
    Alert {
        fingerprint: fingerprint(&row.executor),
        level: Level::P1,
        severity: Severity::Critical,
        labels: labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        // The time of the entry, not of the failure.
        ..Alert::new(id, SERVICE, &title, about.since)
    }
}
