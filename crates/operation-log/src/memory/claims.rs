//! Sessions, and who holds which operation.

use std::collections::BTreeMap;
use std::time::Duration;

use redress_fsm::State;
use redress_types::{Epoch, Incarnation, OperationId, Timestamp};

use super::state::{Row, SessionRow, Tables};
use crate::error::Error;
use crate::record::{ClaimRequest, Claimed, LogStatus, OutboxState, SessionStatus, Sum};
use crate::session::{Session, SessionId};

impl Tables {
    pub(super) fn open_session(&mut self, engine: &str, lease: Duration, log_now: Timestamp) -> Session {
        let last = self.sessions.last_key_value().map_or(0, |(id, _)| id.0);
        let id = SessionId(last + 1);
        let sum = Sum { session: id, ..Sum::default() };
        let (engine, lasts_until) = (engine.to_owned(), log_now.plus(lease));
        self.sessions.insert(id, SessionRow { engine, lease, lasts_until, closed_at: None, sum });
        self.commits += 1;
        Session { id, incarnation: Incarnation(1), restored: false, since: SessionId(0), lease, log_now }
    }

    pub(super) fn renew_session(&mut self, id: SessionId, log_now: Timestamp) -> Result<Timestamp, Error> {
        self.current(id, log_now)?;
        if let Some(row) = self.sessions.get_mut(&id) {
            row.lasts_until = log_now.plus(row.lease);
            self.commits += 1;
        }
        Ok(log_now)
    }

    pub(super) fn close_session(&mut self, id: SessionId, log_now: Timestamp) {
        if let Some(row) = self.sessions.get_mut(&id)
            && row.closed_at.is_none()
        {
            row.closed_at = Some(log_now);
            self.commits += 1;
            self.woke = true;
        }
    }

    pub(super) fn claim(
        &mut self,
        request: &ClaimRequest,
        log_now: Timestamp,
    ) -> Result<Vec<Claimed>, Error> {
        self.current(request.session, log_now)?;
        let mut claimed = Vec::new();
        for id in self.claimable(request, log_now) {
            self.change(id, |row| {
                row.head.epoch = Epoch(row.head.epoch.0 + 1);
                row.head.session = Some(request.session);
                row.head.wake_at = Some(request.due);
                claimed.push(Claimed { operation: id, epoch: row.head.epoch, plan: row.head.plan });
            });
        }
        self.commits += u64::from(!claimed.is_empty());
        Ok(claimed)
    }

    /// What may be claimed, oldest due first; what has no time of its own comes before.
    fn claimable(&self, request: &ClaimRequest, log_now: Timestamp) -> Vec<OperationId> {
        let due = |index: &BTreeMap<(Timestamp, u64), OperationId>| {
            let able = index
                .range(..=(request.now, u64::MAX))
                .filter(|(_, id)| self.is_able(**id, request))
                .take(request.limit);
            able.map(|(at, id)| (*at, *id)).collect::<Vec<_>>()
        };
        let mut found: BTreeMap<(Timestamp, u64), OperationId> = BTreeMap::new();
        for ((at, position), id) in due(&self.index.free).into_iter().chain(due(&self.index.kept)) {
            found.insert((at, position), id);
        }
        let free = |id: &OperationId| self.operations.get(id).is_some_and(|row| row.head.session.is_none());
        let asked = self.index.asked.values().filter(|id| free(id));
        let over = self.index.held.iter().filter(|(session, _)| self.is_over(**session, log_now));
        let left = over.flat_map(|(_, held)| held.values());
        for id in asked.chain(left).filter(|id| self.is_able(**id, request)) {
            if let Some(row) = self.operations.get(id) {
                found.insert((row.head.wake_at.unwrap_or(Timestamp::MIN), row.head.position), *id);
            }
        }
        found.into_values().take(request.limit).collect()
    }

    fn is_able(&self, id: OperationId, request: &ClaimRequest) -> bool {
        let Some(Row { head, .. }) = self.operations.get(&id) else { return false };
        request.reads.reads(head.versions)
            && !request.driven.contains(&id)
            && head.plan.is_none_or(|plan| !request.unable.contains(&plan))
    }

    pub(super) fn hold_until(
        &mut self,
        session: SessionId,
        id: OperationId,
        epoch: Epoch,
        due: Timestamp,
        log_now: Timestamp,
    ) -> Result<(), Error> {
        self.current(session, log_now)?;
        let holds = |row: &Row| row.head.session == Some(session) && row.head.epoch == epoch;
        if !self.operations.get(&id).is_some_and(holds) {
            return Err(Error::Stale { what: format!("epoch {} of operation {id}", epoch.0) });
        }
        self.change(id, |row| row.head.wake_at = Some(due));
        self.commits += 1;
        Ok(())
    }

    pub(super) fn give_up(&mut self, session: SessionId, id: OperationId, epoch: Epoch, log_now: Timestamp) {
        let holds = |row: &Row| row.head.session == Some(session) && row.head.epoch == epoch;
        if !self.operations.get(&id).is_some_and(holds) {
            return;
        }
        self.change(id, |row| {
            row.head.session = None;
            row.head.wake_at = Some(row.head.wake_at.map_or(log_now, |at| at.min(log_now)));
        });
        self.pass_on(id, log_now);
        self.commits += 1;
        self.woke = true;
    }

    /// A waiter that was given up passes the free slot on: the first that is not due yet is due at once.
    fn pass_on(&mut self, id: OperationId, log_now: Timestamp) {
        let claim = self.operations.get(&id).and_then(|row| row.head.waits_on.as_ref());
        let Some(claim) = claim.filter(|claim| !self.claims.contains_key(claim)) else { return };
        let waiting = self.index.waiting.get(claim).into_iter().flatten().map(|(_, _, _, id)| *id);
        let wakes_later = |id: &OperationId| {
            let wake_at = self.operations.get(id).and_then(|row| row.head.wake_at);
            wake_at.is_none_or(|at| at > log_now)
        };
        let next = waiting.into_iter().find(|next| *next != id && wakes_later(next));
        if let Some(next) = next {
            self.change(next, |row| row.head.wake_at = Some(log_now));
        }
    }

    pub(super) fn inbox_waiting(&self, session: SessionId) -> Vec<OperationId> {
        let held =
            |id: &&OperationId| self.operations.get(id).is_some_and(|row| row.head.session == Some(session));
        self.index.asked.values().filter(held).copied().collect()
    }

    pub(super) fn next_due(&self, log_now: Timestamp) -> Option<Timestamp> {
        let free = self.index.free.first_key_value().map(|((at, _), _)| *at);
        let asked = self.index.asked.values().filter_map(|id| {
            let row = self.operations.get(id).filter(|row| row.head.session.is_none())?;
            row.inbox.iter().find(|asked| asked.seq > row.head.folded_request).map(|asked| asked.at)
        });
        let over = self.index.held.keys().filter(|session| self.is_over(**session, log_now)).map(|session| {
            let row = self.sessions.get(session);
            row.map_or(log_now, |row| row.closed_at.unwrap_or(row.lasts_until))
        });
        free.into_iter().chain(asked).chain(over).min()
    }

    pub(super) fn status(&self, log_now: Timestamp) -> LogStatus {
        let alive = self.sessions.iter().filter(|(id, _)| !self.is_over(**id, log_now));
        let owed = || self.owed.iter().filter_map(|place| self.outbox.get(place));
        LogStatus {
            log_now,
            position: self.position,
            sessions: alive
                .map(|(id, row)| SessionStatus {
                    id: *id,
                    engine: row.engine.clone(),
                    expires_at: row.lasts_until,
                    holds: self.index.held.get(id).map_or(0, BTreeMap::len) as u64,
                })
                .collect(),
            owed: self.owed.len() as u64,
            handed: owed().filter(|owed| owed.row.state == OutboxState::Handed).count() as u64,
            owed_since: owed().map(|owed| owed.since).next(),
        }
    }

    pub(super) fn stuck(&self) -> Vec<OperationId> {
        // An outbox row cannot be stuck here: each has a time, and what is taken is free again when that is over.
        let mut stuck: Vec<_> = self
            .operations
            .values()
            .map(|row| &row.head)
            .filter(|head| !head.state.is_ended() && head.state != State::Suspended)
            .filter(|head| head.session.is_none() && head.wake_at.is_none())
            .filter(|head| head.inbox == head.folded_request)
            .map(|head| (head.position, head.id))
            .collect();
        stuck.sort_unstable();
        stuck.into_iter().map(|(_, id)| id).collect()
    }
}
