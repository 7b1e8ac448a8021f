//! What the tables hold, as values: issues, comments, service states, and how one change is described.
//!
//! [`Change`] says what one entry of the log asks of the tables; `tables` carries it out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use redress_types::{Alert, IssueState, Level, Timestamp};
use serde::Serialize;

use crate::text::{cut, storable};

/// How far the remediation of an issue is. Only moves forward, in this order; the last two are both the end.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    strum::Display,
    strum::EnumString,
    strum::EnumIter,
    strum::IntoStaticStr,
)]
pub enum AlertState {
    /// Accepted, nothing was done yet.
    Pending,
    /// An operation acts on it.
    InProcessing,
    /// Restored and verified.
    Restored,
    /// Over by itself, before anything was done.
    AutoRestored,
}

impl AlertState {
    /// Whether nothing follows it.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Restored | Self::AutoRestored)
    }

    /// Where an issue stands that was at `self` and is told to go to `to`.
    #[must_use]
    pub fn forward(self, to: Self) -> Self {
        if self.is_final() { self } else { self.max(to) }
    }
}

/// How a service fares.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    strum::Display,
    strum::EnumString,
    strum::EnumIter,
    strum::IntoStaticStr,
)]
pub enum Health {
    /// None of its issues is open.
    Normal,
    /// An issue below P0 is open.
    Warning,
    /// A P0 issue is open.
    Error,
}

impl Health {
    /// From the levels of the issues that are open. What is no level of ours counts as `Warning`.
    pub fn of_open<'a>(levels: impl IntoIterator<Item = &'a str>) -> Self {
        let p0 = <&str>::from(Level::P0);
        levels.into_iter().fold(Self::Normal, |worst, level| match worst {
            Self::Error => Self::Error,
            Self::Normal | Self::Warning if level == p0 => Self::Error,
            Self::Normal | Self::Warning => Self::Warning,
        })
    }
}

/// A label as the table and the cache keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Label {
    pub key: String,
    pub value: String,
}

/// The labels as a list of `{"key":…,"value":…}`, in key order.
pub(crate) fn labels(alert: &Alert) -> Vec<Label> {
    alert.labels.iter().map(|(key, value)| Label { key: storable(key), value: storable(value) }).collect()
}

/// The title as it is stored (contracts §1).
pub(crate) fn title(alert: &Alert) -> String {
    cut(&storable(&alert.title), Alert::TITLE_MAX_CHARS).to_owned()
}

/// The key of a service state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct ServiceKey {
    pub service: String,
    pub version: String,
}

impl ServiceKey {
    pub(crate) fn of(alert: &Alert) -> Self {
        Self { service: storable(&alert.service), version: storable(&alert.version) }
    }
}

impl std::fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.service, self.version)
    }
}

/// A row of `service_states`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceState {
    pub key: ServiceKey,
    pub report_at: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
    /// `None`: a word that is not ours.
    pub health: Option<Health>,
    pub issues: Vec<String>,
}

/// A row of `alert_issues` as far as it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IssueRow {
    pub id: String,
    pub state: IssueState,
    pub alert_state: AlertState,
}

/// An issue that must stand in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewIssue {
    pub id: String,
    /// The state it has when it is new.
    pub born: AlertState,
    pub level: Level,
    pub title: String,
    /// JSON.
    pub labels: String,
    pub alert_since: Timestamp,
}

/// What a service state must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewService {
    pub issues: Vec<String>,
    pub report_at: Timestamp,
}

/// A comment that must stand on each issue, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewComment {
    pub content: String,
    /// The name of the operation, which stands in its comment in every language and every wording.
    pub operation: String,
}

impl NewComment {
    /// Whether a comment is this one, as this or another version of the program wrote it, or as somebody edited it.
    pub(crate) fn is(&self, content: &str) -> bool {
        content.contains(&self.operation)
    }
}

/// What an operation, up to one entry, asks of the tables. Carried out whole or not at all; again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub issues: Vec<NewIssue>,
    pub services: BTreeMap<ServiceKey, NewService>,
    /// To where its issues move.
    pub stage: AlertState,
    /// The time of the entry.
    pub at: Timestamp,
    /// When other operations closed issues of a service, where that is known: the last time of each. Reconciliation
    /// asks it of the log; the outbox, which comes in order, does not need it.
    pub closed: Arc<BTreeMap<ServiceKey, Timestamp>>,
    /// Earlier runs of its alerts, which are closed with it where they are still open.
    pub earlier: Vec<String>,
    pub comment: Option<NewComment>,
}

impl Change {
    pub(crate) fn ids(&self) -> Vec<String> {
        self.issues.iter().map(|issue| issue.id.clone()).collect()
    }

    /// Also the earlier runs.
    pub(crate) fn all_ids(&self) -> Vec<String> {
        let mut ids = self.ids();
        ids.extend_from_slice(&self.earlier);
        ids
    }

    /// The state that goes with where its issues move.
    pub(crate) fn closes(&self) -> bool {
        self.stage.is_final()
    }
}

/// How the rows of a change stand after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The issues of the change, and the earlier runs that are there.
    pub issues: Vec<IssueRow>,
    pub services: Vec<ServiceState>,
}

/// Issues that are open, and the level of each.
pub(crate) type OpenIssues = BTreeMap<String, String>;

/// The service state that follows from its row (`None`: there is none yet), what must be known there, and those of its
/// issues that are open.
pub(crate) fn settled(
    before: Option<&ServiceState>,
    key: &ServiceKey,
    new: Option<&NewService>,
    open: &OpenIssues,
    change: &Change,
) -> ServiceState {
    let health = Health::of_open(open.values().map(String::as_str));
    let mut issues = before.map(|row| row.issues.clone()).unwrap_or_default();
    let mut known: BTreeSet<String> = issues.iter().cloned().collect();
    for id in new.map(|new| new.issues.as_slice()).unwrap_or_default() {
        if known.insert(id.clone()) {
            issues.push(id.clone());
        }
    }
    let reported = [before.and_then(|row| row.report_at), new.map(|new| new.report_at)];
    // A late repeat of an older ending never moves the time back, and only an ending moves it on.
    let at = change.closed.get(key).map_or(change.at, |closed| change.at.max(*closed));
    let normal_since =
        before.filter(|row| row.health == Some(Health::Normal)).and_then(|row| row.resolved_at);
    let resolved_at = match normal_since {
        Some(since) if change.closes() => since.max(at),
        Some(since) => since,
        None => at,
    };
    ServiceState {
        key: key.clone(),
        report_at: reported.into_iter().flatten().min(),
        resolved_at: (health == Health::Normal).then_some(resolved_at),
        health: Some(health),
        issues,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issues_only_move_forward() {
        use AlertState::*;
        assert_eq!(Pending.forward(InProcessing), InProcessing);
        assert_eq!(InProcessing.forward(Pending), InProcessing);
        assert_eq!(Restored.forward(AutoRestored), Restored);
        assert_eq!(AutoRestored.forward(Restored), AutoRestored);
        assert_eq!(Pending.forward(AutoRestored), AutoRestored);
    }

    #[test]
    fn health_is_the_worst_open_level() {
        assert_eq!(Health::of_open([]), Health::Normal);
        assert_eq!(Health::of_open(["P1", "P2", "Warning"]), Health::Warning);
        assert_eq!(Health::of_open(["info"]), Health::Warning);
        assert_eq!(Health::of_open(["P1", "P0", "P2"]), Health::Error);
    }
}
