//! [`Facts`]: what the log says of one operation up to one entry, and the [`Change`] that it asks of the tables.
//!
//! Derived from the entries alone, so a repeat, years later or on another engine, asks for the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use redress_action::OWN_ALERT_LABEL;
use redress_fsm::State;
use redress_operation_log::{Entry, Event, Operation, OperationHistory, StoredEntry};
use redress_types::{Alert, AlertId, OperationId, Severity, Timestamp};

use crate::comment::{self, Language};
use crate::error::Error;
use crate::issue::{AlertState, Change, NewComment, NewIssue, NewService, ServiceKey, labels, title};

/// Entries read at once.
const PAGE: usize = 500;

/// What the log says of an operation up to one entry.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// As the entry left it.
    pub operation: Operation,
    /// The position of the entry.
    pub position: u64,
    /// The time of the entry.
    pub at: Timestamp,
    /// How far its issues are.
    pub stage: AlertState,
    /// The alerts that have an issue row.
    pub issues: Vec<Fact>,
    /// Cause and confidence.
    pub diagnosis: Option<(String, f64)>,
    /// What verification rests on.
    pub verified: Option<Verified>,
    /// The last entry moves all of its issues, not only those that it brings.
    pub whole: bool,
}

/// An alert that has an issue row.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub alert: Arc<Alert>,
    /// The state its row begins with.
    pub born: AlertState,
    /// The entry that brought it.
    pub seq: u64,
    /// When it came.
    pub came_at: Timestamp,
}

/// What verification rests on.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    pub passes: u32,
    pub independent: bool,
    pub detail: String,
}

/// Whether an alert has an issue row: severity `info`, and what names no service, has none (contracts §1). Neither has
/// an alert of the engine about itself: nobody would ever close it.
pub(crate) fn has_issue(alert: &Alert) -> bool {
    let own = alert.service == "redress" && alert.labels.contains_key(OWN_ALERT_LABEL);
    alert.severity != Severity::Info && !alert.service.is_empty() && !own
}

/// Whether an entry starts to act, which moves all issues of the operation.
fn moves_all(entry: &Entry) -> bool {
    entry.events.iter().any(|event| matches!(event, Event::Admitted { .. }))
}

/// How far the issues of an operation are.
fn stage(operation: &Operation) -> AlertState {
    let acted = if operation.attempt > 0 { AlertState::InProcessing } else { AlertState::Pending };
    match operation.state {
        State::Restored => AlertState::Restored,
        State::Skipped if operation.all_resolved() => AlertState::AutoRestored,
        State::Received
        | State::Blocked
        | State::Diagnosing
        | State::AwaitingApproval
        | State::RollingBack
        | State::Verifying
        | State::Compensating
        | State::Suspended
        | State::Failed
        | State::TimedOut
        | State::Skipped
        | State::Cancelled => acted,
    }
}

/// Reads the operation up to and including entry `seq`. `None`: the log has no entry of it (any more).
pub(crate) async fn read(
    history: &dyn OperationHistory,
    id: OperationId,
    seq: u64,
) -> Result<Option<Facts>, Error> {
    let mut stored: Vec<StoredEntry> = Vec::new();
    loop {
        let after = stored.last().map_or(0, |last| last.seq);
        let page = history.entries(id, after, PAGE).await?;
        let full = page.len() == PAGE;
        let wanted = page.into_iter().filter(|entry| entry.seq <= seq);
        let before = stored.len();
        stored.extend(wanted);
        if !full || stored.len() - before < PAGE {
            break;
        }
    }
    let Some(last) = stored.last() else { return Ok(None) };
    let position = last.position;
    let unreadable = |error: &dyn std::error::Error| unreadable(id, error);
    let entries: Vec<Entry> =
        stored.iter().map(StoredEntry::read).collect::<Result<_, _>>().map_err(|error| unreadable(&error))?;
    let plan = match entries.first().and_then(|entry| entry.events.first()) {
        Some(Event::Accepted { plan: Some(hash), .. }) => history.plan(*hash).await?,
        Some(_) | None => None,
    };
    let operation = Operation::replay(&stored, plan).map_err(|error| unreadable(&error))?;
    Ok(Some(Facts::new(operation, &entries, position)))
}

fn unreadable(id: OperationId, error: &dyn std::error::Error) -> Error {
    Error::Unavailable {
        what: format!("operation {id} cannot be read by this program: {error}"),
        source: None,
    }
}

/// What one entry alone brings: its alerts that have an issue, its position and its time. `None`: the log has no such
/// entry (any more).
pub(crate) async fn brought(
    history: &dyn OperationHistory,
    id: OperationId,
    seq: u64,
    acts: bool,
) -> Result<Option<Brought>, Error> {
    let page = history.entries(id, seq.saturating_sub(1), 1).await?;
    let Some(stored) = page.first().filter(|stored| stored.seq == seq) else { return Ok(None) };
    let entry = stored.read().map_err(|error| unreadable(id, &error))?;
    let born = if acts { AlertState::InProcessing } else { AlertState::Pending };
    let issues = entry.events.iter().filter_map(|event| fact(&entry, event, born)).collect();
    Ok(Some(Brought { issues, position: stored.position, at: entry.recorded_at, born }))
}

/// What one entry alone brings.
pub(crate) struct Brought {
    pub issues: Vec<Fact>,
    pub position: u64,
    pub at: Timestamp,
    /// The state that they have.
    pub born: AlertState,
}

#[expect(clippy::wildcard_enum_match_arm, reason = "no other event brings an alert")]
fn fact(entry: &Entry, event: &Event, born: AlertState) -> Option<Fact> {
    match event {
        Event::Accepted { alert, .. } | Event::AlertJoined { alert, .. } if has_issue(alert) => {
            Some(Fact { alert: Arc::clone(alert), born, seq: entry.seq, came_at: entry.recorded_at })
        }
        _ => None,
    }
}

impl Facts {
    fn new(operation: Operation, entries: &[Entry], position: u64) -> Self {
        let mut facts = Self {
            position,
            at: operation.updated_at,
            stage: stage(&operation),
            issues: Vec::new(),
            diagnosis: None,
            verified: None,
            whole: false,
            operation,
        };
        let mut acts = false;
        facts.whole = entries.last().is_some_and(moves_all) || facts.operation.state.is_ended();
        for entry in entries {
            for event in &entry.events {
                acts |= matches!(event, Event::Admitted { .. });
                facts.note(entry, event, acts);
            }
        }
        facts
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the other facts are in the fold")]
    fn note(&mut self, entry: &Entry, event: &Event, acts: bool) {
        match event {
            Event::Accepted { .. } | Event::AlertJoined { .. } => {
                let born = if acts { AlertState::InProcessing } else { AlertState::Pending };
                self.issues.extend(fact(entry, event, born));
            }
            Event::Diagnosed { cause, confidence } => self.diagnosis = Some((cause.clone(), *confidence)),
            Event::VerificationPassed { passes, independent, detail, .. } => {
                let (passes, independent, detail) = (*passes, *independent, detail.clone());
                self.verified = Some(Verified { passes, independent, detail });
            }
            _ => {}
        }
    }

    /// The services that its issues are about, in order.
    pub(crate) fn services(&self) -> Vec<String> {
        services(self.issues.iter().map(|fact| &*fact.alert))
    }

    /// What it asks of the tables. `earlier` are the earlier runs of its alerts.
    pub(crate) fn change(&self, language: Language, earlier: Vec<String>) -> Change {
        let comment = self.comment(language);
        Change { earlier, comment, ..change_of(&self.issues, self.stage, self.at) }
    }

    /// What is said on the issues of an operation that has ended; nothing of what was over by itself.
    fn comment(&self, language: Language) -> Option<NewComment> {
        let says = self.operation.state.is_ended() && self.stage != AlertState::AutoRestored;
        says.then(|| NewComment {
            content: comment::render(self, language),
            operation: self.operation.id.name(&self.operation.alert.fingerprint),
        })
    }

    /// The earlier runs of its alerts that its closing takes along; none while it does not close.
    pub(crate) async fn earlier(&self, history: &dyn OperationHistory) -> Result<Vec<String>, Error> {
        let mut earlier = Vec::new();
        if !self.stage.is_final() {
            return Ok(earlier);
        }
        for fact in &self.issues {
            let Some(record) = history.alert(&fact.alert.id).await? else { continue };
            for n in 1..record.n {
                let id = if n == 1 { Some(record.base.clone()) } else { record.base.nth(n) };
                let Some(id) = id else { continue };
                // An id that only looks like an earlier run belongs to another alert.
                if history.alert(&id).await?.is_some_and(|found| found.base == record.base) {
                    earlier.push(id.as_str().to_owned());
                }
            }
        }
        earlier.retain(|id| !self.issues.iter().any(|fact| fact.alert.id.as_str() == id));
        Ok(earlier)
    }
}

/// The services that these alerts are about, in order, each once.
pub(crate) fn services<'a>(alerts: impl Iterator<Item = &'a Alert>) -> Vec<String> {
    let mut services: Vec<String> = alerts.map(|alert| crate::text::storable(&alert.service)).collect();
    services.sort_unstable();
    services.dedup();
    services
}

/// The alert of this id as its operation recorded it; `None` once that was archived.
pub(crate) async fn alert_of(history: &dyn OperationHistory, id: &str) -> Result<Option<Fact>, Error> {
    let Ok(id) = id.parse::<AlertId>() else { return Ok(None) };
    let Some(record) = history.alert(&id).await? else { return Ok(None) };
    let facts = read(history, record.operation, u64::MAX).await?;
    Ok(facts.and_then(|facts| facts.issues.into_iter().find(|fact| fact.alert.id == id)))
}

/// What these alerts ask of the tables, without an ending.
pub(crate) fn change_of(issues: &[Fact], stage: AlertState, at: Timestamp) -> Change {
    let mut services: BTreeMap<ServiceKey, NewService> = BTreeMap::new();
    for Fact { alert, .. } in issues {
        let service = services
            .entry(ServiceKey::of(alert))
            .or_insert_with(|| NewService { issues: Vec::new(), report_at: alert.alert_since });
        service.issues.push(alert.id.as_str().to_owned());
        service.report_at = service.report_at.min(alert.alert_since);
    }
    let issues = issues.iter().map(new_issue).collect();
    Change { issues, services, stage, at, closed: Arc::default(), earlier: Vec::new(), comment: None }
}

fn new_issue(fact: &Fact) -> NewIssue {
    let labels = labels(&fact.alert);
    NewIssue {
        id: fact.alert.id.as_str().to_owned(),
        born: fact.born,
        level: fact.alert.level,
        title: title(&fact.alert),
        // A list of two strings each can always be written.
        labels: serde_json::to_string(&labels).unwrap_or_else(|_| "[]".to_owned()),
        alert_since: fact.alert.alert_since,
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn an_alert_of_the_engine_about_itself_has_no_issue() {
        let about = |service: &str| Alert::new("a".parse().unwrap(), service, "t", Timestamp::MIN);
        let mut own = about("redress");
        assert!(has_issue(&own), "others may watch Redress too");
        own.labels.insert(OWN_ALERT_LABEL.to_owned(), "true".to_owned());
        assert!(!has_issue(&own));
        let labels = own.labels;
        assert!(has_issue(&Alert { labels, ..about("shop") }), "the label is ours on our service only");
    }
}
