//! `append`: the checks in their order, then the writing, which cannot fail.

use std::time::Duration;

use redress_types::{OperationId, Timestamp};

use super::state::{Owed, Row, Tables};
use crate::entry::{StoredEntry, Versions};
use crate::error::Error;
use crate::event::HoldReason;
use crate::record::{Append, Begin, Budget, Claim, Ending, Head, OutboxRow, OutboxState, Recorded};

/// How soon to look again at a switch at the latest: it may be turned on again before its own end.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

impl Tables {
    pub(super) fn append(&mut self, append: Append, log_now: Timestamp) -> Result<Recorded, Error> {
        if let Some(recorded) = self.recorded_before(&append, log_now)? {
            return Ok(recorded);
        }
        is_coherent(&append)?;
        self.check(&append, log_now)?;
        Ok(self.write(append))
    }

    /// Check 1: the same again.
    fn recorded_before(&self, append: &Append, log_now: Timestamp) -> Result<Option<Recorded>, Error> {
        let Some(row) = self.operations.get(&append.operation) else { return Ok(None) };
        let standing = usize::try_from(append.expected_seq).ok().and_then(|seq| row.entries.get(seq));
        let Some(entry) = standing else { return Ok(None) };
        if entry.hash != append.hash {
            self.is_writer(append, Some(&row.head), log_now)?;
            let what = format!("entry {} of operation {}", entry.seq, entry.operation);
            return Err(Error::DifferentContent { what });
        }
        let current = self.stands(append, &row.head, log_now);
        Ok(Some(Recorded { before: true, current, ..self.answer(entry.position, row.head.inbox) }))
    }

    fn answer(&self, position: u64, inbox: u64) -> Recorded {
        Recorded { position, before: false, current: true, inbox, switches: self.switch_changes }
    }

    /// Whether who repeats an append holds the operation still, or let it go by this very append.
    fn stands(&self, append: &Append, head: &Head, log_now: Timestamp) -> bool {
        let keeps = append.standing.held && append.ends.is_none();
        head.epoch == append.epoch
            && match head.session {
                Some(session) => session == append.session && !self.is_over(session, log_now),
                None => !keeps && head.seq == append.expected_seq + 1,
            }
    }

    /// Checks 2 to 7.
    fn check(&self, append: &Append, log_now: Timestamp) -> Result<(), Error> {
        let head = self.operations.get(&append.operation).map(|row| &row.head);
        self.is_writer(append, head, log_now)?;
        self.is_next(append, head)?;
        if let (Some(head), true) = (head, append.ends.is_some())
            && append.standing.folded_request < head.inbox
        {
            return Err(Error::NotFolded { operation: head.id, inbox: head.inbox });
        }
        for kind in ["fingerprint", "sameness"] {
            self.can_claim(append, kind)?;
        }
        self.conditions_hold(append)?;
        self.can_claim(append, "slot")
    }

    fn is_writer(&self, append: &Append, head: Option<&Head>, log_now: Timestamp) -> Result<(), Error> {
        self.current(append.session, log_now)?;
        if let Some(head) = head
            && (head.session != Some(append.session) || head.epoch != append.epoch)
        {
            return Err(Error::Stale { what: format!("epoch {} of operation {}", append.epoch.0, head.id) });
        }
        Ok(())
    }

    fn is_next(&self, append: &Append, head: Option<&Head>) -> Result<(), Error> {
        let operation = append.operation;
        match (head, &append.begin) {
            (Some(head), _) if head.seq != append.expected_seq => {
                Err(Error::Conflict { operation, expected: append.expected_seq, found: head.seq })
            }
            (Some(head), _) if head.state.is_ended() => Err(Error::Ended { operation, state: head.state }),
            (Some(_), _) => Ok(()),
            (None, Some(begin)) if append.expected_seq == 0 => match self.alerts.get(&begin.alert.id) {
                Some(known) => Err(Error::KnownAlert(Box::new(known.clone()))),
                None => Ok(()),
            },
            (None, _) => Err(Error::NotFound(operation)),
        }
    }

    fn can_claim(&self, append: &Append, kind: &str) -> Result<(), Error> {
        for claim in append.claims.iter().filter(|claim| claim.kind() == kind) {
            if let Some(holder) = self.claims.get(claim)
                && *holder != append.operation
            {
                return Err(Error::Lost { claim: claim.clone(), holder: *holder });
            }
        }
        Ok(())
    }

    fn conditions_hold(&self, append: &Append) -> Result<(), Error> {
        let now = append.now;
        for key in &append.conditions.holds {
            if let Some(until) = self.holds.get(key).filter(|until| **until > now) {
                return Err(Error::NotNow {
                    reason: HoldReason::Cooldown { key: key.clone() },
                    until: *until,
                });
            }
        }
        for budget in &append.conditions.budgets {
            self.has_budget(budget, now)?;
        }
        for key in &append.conditions.switches {
            if let Some(switch) = self.switches.get(key)
                && switch.until.is_none_or(|until| until > now)
            {
                let look_again = now.plus(LOOK_AGAIN);
                let until = switch.until.map_or(look_again, |until| until.min(look_again));
                return Err(Error::NotNow { reason: HoldReason::Paused { switch: key.clone() }, until });
            }
        }
        Ok(())
    }

    fn has_budget(&self, budget: &Budget, now: Timestamp) -> Result<(), Error> {
        let reserved = self.budgets.get(&budget.key).map(Vec::as_slice).unwrap_or_default();
        let young = || reserved.iter().map(|(at, _)| *at).filter(|at| now.since(*at) < budget.window);
        if young().count() < usize::try_from(budget.most).unwrap_or(usize::MAX) {
            return Ok(());
        }
        let until = young().min().unwrap_or(now).plus(budget.window);
        let reason = HoldReason::Budget { key: budget.key.clone(), most: budget.most };
        Err(Error::NotNow { reason, until })
    }

    fn write(&mut self, append: Append) -> Recorded {
        self.position += 1;
        self.commits += 1;
        let position = self.position;
        let Append { operation, now, session, .. } = append;
        let seq = append.expected_seq + 1;
        let entry = StoredEntry { position, operation, seq, body: append.body, hash: append.hash };
        let begins = append.begin.is_some();
        let standing = append.standing;
        let mut row = match append.begin {
            Some(begin) if seq == 1 => self.begin(operation, position, now, *begin),
            Some(_) | None => match self.operations.remove(&operation) {
                Some(row) => row,
                // `check` has seen it; the lock was not let go.
                None => return self.answer(position, 0),
            },
        };
        self.index.remove(&row.head);
        for payload in append.payloads {
            row.payloads.push((seq, payload));
        }
        for claim in append.claims {
            if self.claims.insert(claim.clone(), operation).is_none() {
                row.claims.push(claim);
            }
        }
        for budget in append.conditions.budgets {
            self.budgets.entry(budget.key).or_default().push((now, operation));
        }
        let ends = append.ends.is_some();
        let waited_on = row.head.waits_on.take();
        row.head = Head {
            seq,
            hash: entry.hash,
            versions: row.head.versions.highest(append.versions),
            state: standing.state,
            epoch: append.epoch,
            session: (standing.held && !ends).then_some(session),
            wake_at: standing.wake_at.filter(|_| !ends),
            waits_on: standing.waits_on.filter(|_| !ends),
            folded_request: standing.folded_request,
            reason: standing.reason,
            updated_at: now,
            ended_at: ends.then_some(now),
            owed: row.head.owed + append.outbox.len() as u64,
            ..row.head
        };
        self.positions.insert(position, (operation, seq));
        if let Some(session) = self.sessions.get_mut(&session) {
            session.sum.entries += 1;
            session.sum.operations += u64::from(begins);
            session.sum.digest.combine(&entry.hash);
        }
        for (index, owe) in (0..).zip(append.outbox) {
            let row = OutboxRow {
                position,
                index,
                operation,
                seq,
                executor: owe.executor,
                order_key: owe.order_key,
                content: owe.content,
                tries: 0,
                due_at: now,
                state: OutboxState::Owed,
                last_error: None,
            };
            self.outbox.insert((position, index), Owed { row, since: now, taken: None });
            self.owed.insert((position, index));
        }
        row.entries.push(entry);
        let mut freed = append.ends.map(|ending| self.end(&mut row, ending)).unwrap_or_default();
        // A waiter that goes another way passes on what it was woken for.
        freed.extend(
            waited_on.filter(|claim| {
                row.head.waits_on.as_ref() != Some(claim) && !self.claims.contains_key(claim)
            }),
        );
        self.look_at_waits(&mut row.head, now);
        self.index.add(&row.head);
        let inbox = row.head.inbox;
        self.operations.insert(operation, row);
        self.wake_waiters(&freed, now);
        self.answer(position, inbox)
    }

    fn begin(&mut self, id: OperationId, position: u64, now: Timestamp, begin: Begin) -> Row {
        let plan = begin.plan.map(|plan| {
            let hash = plan.hash;
            self.plans.entry(hash).or_insert(plan);
            hash
        });
        let fingerprint = begin.alert.fingerprint.clone();
        self.record_alert(begin.alert, id, false);
        self.begun.insert(position, id);
        let head = Head {
            id,
            name: begin.name,
            seq: 0,
            hash: redress_types::Hash::ZERO,
            versions: Versions { format: 0, table: 0 },
            state: redress_fsm::INITIAL,
            epoch: redress_types::Epoch::default(),
            session: None,
            wake_at: None,
            waits_on: None,
            inbox: 0,
            folded_request: 0,
            target: begin.target,
            strategy: begin.strategy,
            plan,
            fingerprint,
            level: begin.level,
            title: begin.title,
            reason: None,
            accepted_at: now,
            updated_at: now,
            ended_at: None,
            position,
            owed: 0,
        };
        let (entries, claims, inbox, late) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Row { head, entries, claims, inbox, late, payloads: Vec::new() }
    }

    /// Frees what an ended operation had, and answers its claims.
    fn end(&mut self, row: &mut Row, ending: Ending) -> Vec<Claim> {
        let freed = std::mem::take(&mut row.claims);
        for claim in &freed {
            self.claims.remove(claim);
        }
        if let Some((key, until)) = ending.hold {
            let hold = self.holds.entry(key).or_insert(until);
            *hold = until.max(*hold);
        }
        if ending.refund {
            self.budgets.retain(|_, reserved| {
                reserved.retain(|(_, of)| *of != row.head.id);
                !reserved.is_empty()
            });
        }
        freed
    }

    /// A head that waits for what nobody has is due at once: it was freed between the refusal and this append.
    fn look_at_waits(&mut self, head: &mut Head, now: Timestamp) {
        if let (Some(claim), None) = (&head.waits_on, head.session)
            && !self.claims.contains_key(claim)
        {
            head.wake_at = Some(head.wake_at.map_or(now, |at| at.min(now)));
            self.woke = true;
        }
    }

    /// The first waiter of each freed slot is due at once.
    fn wake_waiters(&mut self, freed: &[Claim], now: Timestamp) {
        for claim in freed.iter().filter(|claim| matches!(claim, Claim::Slot(_))) {
            // One that is due already may be one that nobody at work can run: it must not keep the slot from the next.
            let due = |id: &OperationId| {
                self.operations.get(id).is_some_and(|row| row.head.wake_at.is_some_and(|at| at <= now))
            };
            let waiting = self.index.waiting.get(claim).into_iter().flatten();
            let first = waiting.map(|(_, _, _, id)| *id).find(|id| !due(id));
            if let Some(id) = first {
                self.change(id, |row| {
                    row.head.wake_at = Some(row.head.wake_at.map_or(now, |at| at.min(now)));
                });
                self.woke = true;
            }
        }
    }
}

/// What the writer must never send: an ended state and an ending go together.
fn is_coherent(append: &Append) -> Result<(), Error> {
    if append.standing.state.is_ended() == append.ends.is_some() {
        return Ok(());
    }
    let what = "its state and its ending contradict each other";
    Err(Error::Unstorable { what: format!("an entry of operation {}: {what}", append.operation) })
}
