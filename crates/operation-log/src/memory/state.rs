//! [`Tables`]: everything the log keeps, and the [`Index`] that finds what is due.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use redress_strategy::{PlanHash, StoredPlan};
use redress_types::{AlertId, Level, OperationId, Timestamp};

use crate::entry::StoredEntry;
use crate::error::Error;
use crate::record::{
    AlertRecord, Checkpoint, Claim, Head, InboxRow, LateResult, NewAlert, OutboxRow, Payload, Sum, Switch,
};
use crate::session::SessionId;

/// What the log keeps.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) sessions: BTreeMap<SessionId, SessionRow>,
    pub(super) operations: HashMap<OperationId, Row>,
    /// First entries, for lists.
    pub(super) begun: BTreeMap<u64, OperationId>,
    /// Every entry, for those who follow.
    pub(super) positions: BTreeMap<u64, (OperationId, u64)>,
    pub(super) plans: HashMap<PlanHash, Arc<StoredPlan>>,
    pub(super) alerts: HashMap<AlertId, AlertRecord>,
    pub(super) alerts_of: HashMap<OperationId, Vec<AlertId>>,
    pub(super) claims: HashMap<Claim, OperationId>,
    pub(super) holds: HashMap<String, Timestamp>,
    pub(super) budgets: HashMap<String, Vec<(Timestamp, OperationId)>>,
    pub(super) switches: BTreeMap<String, Switch>,
    pub(super) switch_changes: u64,
    pub(super) outbox: BTreeMap<(u64, u32), Owed>,
    /// Rows not delivered yet, those that a person has included.
    pub(super) owed: BTreeSet<(u64, u32)>,
    pub(super) archived: Sum,
    pub(super) checkpoints: Vec<Checkpoint>,
    pub(super) position: u64,
    pub(super) commits: u64,
    pub(super) index: Index,
    /// Something may have become due since the last announcement.
    pub(super) woke: bool,
}

/// One engine's stay.
pub(super) struct SessionRow {
    pub(super) engine: String,
    pub(super) lease: Duration,
    pub(super) lasts_until: Timestamp,
    pub(super) closed_at: Option<Timestamp>,
    pub(super) sum: Sum,
}

/// One operation.
pub(super) struct Row {
    pub(super) head: Head,
    pub(super) entries: Vec<StoredEntry>,
    pub(super) claims: Vec<Claim>,
    pub(super) inbox: Vec<InboxRow>,
    pub(super) late: Vec<LateResult>,
    /// Each with the seq of its entry.
    pub(super) payloads: Vec<(u64, Payload)>,
}

/// An outbox row and who delivers it at the moment.
pub(super) struct Owed {
    pub(super) row: OutboxRow,
    pub(super) since: Timestamp,
    pub(super) taken: Option<(SessionId, Timestamp)>,
}

impl Tables {
    /// Refuses a session that is over.
    pub(super) fn current(&self, session: SessionId, log_now: Timestamp) -> Result<(), Error> {
        if self.is_over(session, log_now) {
            return Err(Error::Stale { what: format!("session {session}") });
        }
        Ok(())
    }

    /// Closed, expired, or never opened.
    pub(super) fn is_over(&self, session: SessionId, log_now: Timestamp) -> bool {
        self.sessions.get(&session).is_none_or(|row| row.closed_at.is_some() || row.lasts_until <= log_now)
    }

    /// Changes an operation's head and what finds it.
    pub(super) fn change(&mut self, id: OperationId, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.operations.get_mut(&id) {
            self.index.remove(&row.head);
            change(row);
            self.index.add(&row.head);
        }
    }

    /// Keeps a new alert id and counts the run on its base.
    pub(super) fn record_alert(
        &mut self,
        new: NewAlert,
        operation: OperationId,
        joined: bool,
    ) -> AlertRecord {
        let record = AlertRecord {
            runs: new.n,
            id: new.id,
            base: new.base,
            n: new.n,
            fingerprint: new.fingerprint,
            service: new.service,
            alert_since: new.alert_since,
            operation,
            joined,
            count: 1,
            first_seen: new.seen_at,
            last_seen: new.seen_at,
            conflicts: 0,
            outcome: None,
        };
        if let Some(base) = self.alerts.get_mut(&record.base) {
            base.runs = base.runs.max(record.n);
        }
        self.alerts_of.entry(operation).or_default().push(record.id.clone());
        self.alerts.insert(record.id.clone(), record.clone());
        record
    }
}

/// Finds operations by what makes them due. Ended ones are in none of it.
#[derive(Default)]
pub(super) struct Index {
    /// Held by nobody, by the time they wake and their position.
    pub(super) free: BTreeMap<(Timestamp, u64), OperationId>,
    /// Held, by their due time.
    pub(super) kept: BTreeMap<(Timestamp, u64), OperationId>,
    /// By holder.
    pub(super) held: HashMap<SessionId, BTreeMap<u64, OperationId>>,
    /// With inbox rows that are not folded.
    pub(super) asked: BTreeMap<u64, OperationId>,
    /// Held by nobody and waiting for a claim: the first is the first to be woken.
    pub(super) waiting: HashMap<Claim, BTreeSet<(Level, Timestamp, u64, OperationId)>>,
}

impl Index {
    pub(super) fn add(&mut self, head: &Head) {
        if head.state.is_ended() {
            return;
        }
        let by_time = if head.session.is_none() { &mut self.free } else { &mut self.kept };
        if let Some(at) = head.wake_at {
            by_time.insert((at, head.position), head.id);
        }
        if let Some(session) = head.session {
            self.held.entry(session).or_default().insert(head.position, head.id);
        }
        if head.inbox > head.folded_request {
            self.asked.insert(head.position, head.id);
        }
        if let (Some(claim), None) = (&head.waits_on, head.session) {
            self.waiting.entry(claim.clone()).or_default().insert(rank(head));
        }
    }

    pub(super) fn remove(&mut self, head: &Head) {
        if let Some(at) = head.wake_at {
            self.free.remove(&(at, head.position));
            self.kept.remove(&(at, head.position));
        }
        if let Some(session) = head.session
            && let Some(held) = self.held.get_mut(&session)
        {
            held.remove(&head.position);
            if held.is_empty() {
                self.held.remove(&session);
            }
        }
        self.asked.remove(&head.position);
        if let Some(claim) = &head.waits_on
            && let Some(waiting) = self.waiting.get_mut(claim)
        {
            waiting.remove(&rank(head));
            if waiting.is_empty() {
                self.waiting.remove(claim);
            }
        }
    }
}

/// The order in which waiters are woken: level, then acceptance, then position.
fn rank(head: &Head) -> (Level, Timestamp, u64, OperationId) {
    (head.level, head.accepted_at, head.position, head.id)
}
