//! What comes between a crash and the next start: people write to the inbox or turn a switch, and time goes by.

use std::collections::BTreeSet;
use std::time::Duration;

use redress_engine::fsm::State;
use redress_engine::operation_log::{Actor, Operation, OperationLog, Post, Request, Switch};
use redress_engine::types::{Clock as _, SystemClock};

use super::case::replay;
use super::strategies::{HALT, PROBE, Strategy};
use super::{Outcome, Place, only_operation};

/// Beyond the deadline of the program's strategies, within the limit of their compensation.
const BEYOND_DEADLINE: Duration = Duration::from_secs(20 * 60);

/// The switch that is turned off.
const SWITCH: &str = "engine";

/// What comes between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// A person cancels.
    Cancel,
    /// The deadline passes.
    Deadline,
    /// A person pauses everything, and goes on once nothing moves any more.
    Pause,
}

/// How the operation stood when it came.
#[derive(Debug)]
pub struct Interrupted {
    pub by: Between,
    state: State,
    /// A step was under way, of which the log does not say that it did not happen.
    open: bool,
    /// The keys of which an effect was asked, or was about to be.
    keys: BTreeSet<String>,
    /// Whether the program was seen to stand still.
    pub stood_still: bool,
}

impl Between {
    pub const ALL: [Self; 3] = [Self::Cancel, Self::Deadline, Self::Pause];

    /// Lets it come. `keys`: those that the target has seen. `None`: there is nothing to interrupt yet, or any more.
    pub async fn come(
        self,
        log: &dyn OperationLog,
        place: &dyn Place,
        keys: BTreeSet<String>,
    ) -> Outcome<Option<Interrupted>> {
        let Some(head) = only_operation(log, place.number()).await? else { return Ok(None) };
        let operation = replay(log, &head).await?;
        if operation.state.is_ended() {
            return Ok(None);
        }
        let (now, actor) = (SystemClock.now().plus(place.ahead()), Actor::local(0));
        match self {
            Self::Cancel => {
                let request = Request::Cancel { reason: "not now".into() };
                log.post(Post { operation: head.id, key: "cancel".into(), request, actor, at: now }).await?;
            }
            Self::Deadline => place.move_on(BEYOND_DEADLINE),
            Self::Pause => {
                let (key, reason) = (SWITCH.to_owned(), "a test".to_owned());
                let switch = Switch { key, by: actor, reason, since: now, until: None };
                log.set_switch(SWITCH, Some(switch)).await?;
            }
        }
        Ok(Some(Interrupted::new(self, &operation, keys)))
    }
}

impl Interrupted {
    fn new(by: Between, operation: &Operation, mut keys: BTreeSet<String>) -> Self {
        let intent = operation.open.as_ref();
        let open = intent.is_some_and(|intent| intent.next_at.is_none() || intent.unknown);
        keys.extend(intent.map(|intent| intent.key.to_string()));
        Self { by, state: operation.state, open, keys, stood_still: false }
    }

    /// A pause is over.
    pub async fn go_on(&mut self, log: &dyn OperationLog, keys: &BTreeSet<String>) -> Outcome {
        let began: Vec<_> = keys.difference(&self.keys).collect();
        if self.by != Between::Pause || self.stood_still || !began.is_empty() {
            return Err(format!("it was paused after {self:?}, and began {began:?}").into());
        }
        self.stood_still = true;
        Ok(log.set_switch(SWITCH, None).await?)
    }

    /// What was owed before stays owed, and a pause changes nothing: the effects are those of the baseline.
    pub fn changes_nothing(&self) -> bool {
        self.by == Between::Pause || self.state == State::Compensating
    }

    /// The end that the table of the machine demands.
    pub fn end(&self, strategy: &Strategy) -> &'static str {
        match self.by {
            _ if self.changes_nothing() => strategy.state,
            Between::Cancel => "cancelled",
            Between::Deadline | Between::Pause => "timed_out",
        }
    }

    /// Whether a person must have been asked. What is to be stopped is only looked at: who cannot ask the target and may
    /// not call it again is told the truth by a person.
    pub fn leaves_doubt(&self, strategy: &Strategy) -> bool {
        let asks = strategy.name == PROBE.name;
        let calls = strategy.name != HALT.name && self.changes_nothing();
        self.open && !asks && !calls
    }

    /// Nothing may be begun after it but the compensation.
    pub fn may_begin(&self, key: &str) -> bool {
        self.changes_nothing() || self.keys.contains(key) || key.contains(":compensation:")
    }

    /// Whether a pause must have been seen: at work, and more steps to come than the one under way.
    pub fn must_stand_still(&self) -> bool {
        self.by == Between::Pause && matches!(self.state, State::RollingBack | State::Compensating)
    }
}
