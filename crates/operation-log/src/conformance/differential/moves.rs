//! What a player writes: the events that may come next, and what an append carries with them.

use redress_fsm::State;

use super::player::Player;
use crate::conformance::fixture::{Writer, seconds, skipped};
use crate::event::{Event, HoldReason};
use crate::record::{Append, Budget, Claim, Ending, Owe};

impl Player {
    pub(super) fn one_more(&mut self, writer: &Writer, state: State) -> Vec<Event> {
        let open = writer.operation.as_ref().is_some_and(|operation| operation.open.is_some());
        let next = writer.operation.as_ref().map_or(0, |operation| operation.next_step);
        match state {
            State::Received => match self.dice.below(4) {
                0 if writer.plan.is_some() => writer.admitted(),
                1 => vec![self.held_by_something()],
                2 => vec![Event::DiagnosisStarted],
                _ => vec![skipped()],
            },
            State::Blocked => match self.dice.below(3) {
                0 => vec![Event::Released],
                1 => vec![self.held_by_something()],
                _ => vec![skipped()],
            },
            State::Diagnosing => vec![Event::Diagnosed { cause: "a bad deploy".into(), confidence: 0.5 }],
            State::RollingBack if self.dice.one_in(5) => vec![Event::Suspended { reason: "in doubt".into() }],
            State::RollingBack if open => {
                let intent = writer.operation.as_ref().and_then(|operation| operation.open.as_ref());
                let resumed = intent.filter(|intent| intent.epoch != writer.epoch).map(|intent| intent.key);
                let mut events: Vec<_> =
                    resumed.map(|key| Event::StepResumed { key, request: None }).into_iter().collect();
                events.push(writer.succeeded(next));
                events
            }
            State::RollingBack if next < 2 => {
                vec![Event::StepStarted { key: writer.key(next), step: "warm up".into() }]
            }
            State::RollingBack => vec![Event::VerificationStarted],
            State::Verifying => {
                let detail = String::new();
                vec![Event::VerificationPassed { passes: 1, held_ms: 0, independent: true, detail }]
            }
            State::AwaitingApproval
            | State::Compensating
            | State::Suspended
            | State::Restored
            | State::Failed
            | State::TimedOut
            | State::Skipped
            | State::Cancelled => vec![],
        }
    }

    /// Claims, conditions, standing, outbox and what is left behind, from small pools so that they collide.
    pub(super) fn dress(&mut self, append: &mut Append) {
        let pool = self.dice.below(3);
        if self.dice.one_in(3) {
            append.claims.push(Claim::Fingerprint(format!("f{pool}")));
        }
        if self.dice.one_in(4) {
            append.claims.push(Claim::Sameness(format!("m{pool}")));
        }
        if self.dice.one_in(3) {
            append.claims.push(Claim::Slot(format!("t{pool}")));
        }
        if self.dice.one_in(4) {
            append.conditions.holds.push(format!("h{pool}"));
        }
        if self.dice.one_in(4) {
            let (most, window) = (2, seconds(40));
            append.conditions.budgets.push(Budget { key: format!("b{pool}"), most, window });
        }
        if self.dice.one_in(4) {
            append.conditions.switches.push(format!("switch{pool}"));
        }
        if self.dice.one_in(12) {
            append.versions.table += 1;
        }
        for _ in 0..self.dice.below(3) {
            let order_key = format!("o{}", self.dice.below(3));
            let executor = if self.dice.one_in(8) { "elsewhere" } else { "persist" }.to_owned();
            append.outbox.push(Owe { executor, order_key, content: (*b"{}").into() });
        }
        if let Some(ending) = &mut append.ends {
            let until = self.now.plus(seconds(self.dice.roll() % 30));
            let hold = self.dice.one_in(2).then(|| (format!("h{pool}"), until));
            *ending = Ending { hold, refund: self.dice.one_in(2) };
        } else if append.standing.state == State::Suspended {
            (append.standing.held, append.standing.wake_at) = (false, None);
        } else if self.dice.one_in(3) {
            append.standing.held = false;
            append.standing.wake_at = Some(self.now.plus(seconds(self.dice.roll() % 60)));
            append.standing.waits_on = self.dice.one_in(2).then(|| Claim::Slot(format!("t{pool}")));
        }
    }

    pub(super) fn held_by_something(&mut self) -> Event {
        let reason = HoldReason::Paused { switch: "engine".into() };
        Event::Held { reason, until: self.now.plus(seconds(30)) }
    }
}
