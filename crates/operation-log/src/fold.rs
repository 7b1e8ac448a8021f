//! [`Operation`]: the fold of an operation's entries, with the guards that the table alone cannot hold.
//!
//! [`Operation::with`] is the only way on, live and in replay. What was refused changed nothing.
//! The guards themselves are in `guard`; what people read is in [`crate::summary`].

mod draft;
mod guard;
mod parts;

pub use draft::{Draft, Sealed, Writer};
pub use parts::{Clock, Counted, Failure, Held, Intent, Refused, ReplayError, StepRecord, StepResult};

use std::sync::Arc;
use std::time::Duration;

use redress_fsm::State;
use redress_strategy::{OnError, OnFailure, PlanStep, StoredPlan};
use redress_types::{Alert, AlertId, EffectKey, Epoch, Hash, OperationId, Phase, Target, Timestamp};

use crate::entry::{Entry, StoredEntry};
use crate::event::{Event, KnownBy, Owed, Saw};
use crate::session::SessionId;

/// An operation as its log tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Which.
    pub id: OperationId,
    /// Where it stands.
    pub state: State,
    /// The seq of its last entry.
    pub seq: u64,
    /// The hash of its last entry.
    pub hash: Hash,
    /// The epoch of its last entry.
    pub epoch: Epoch,
    /// The session of its last entry.
    pub session: SessionId,
    /// The alert that started it.
    pub alert: Arc<Alert>,
    /// What it acts on.
    pub target: Target,
    /// Its strategy; `None`: no strategy matched.
    pub strategy: Option<String>,
    /// The plan frozen with it.
    pub plan: Option<Arc<StoredPlan>>,
    /// Strategy, target and parameters as one value.
    pub sameness: Option<String>,
    /// Every alert counted on it, the first included.
    pub alerts: Vec<Counted>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When its last entry was written.
    pub updated_at: Timestamp,
    /// What holds it, while Blocked.
    pub hold: Option<Held>,
    /// The attempt that runs, from 1; 0 before it acts.
    pub attempt: u32,
    /// The next step of the phase that runs.
    pub next_step: u32,
    /// The intent without a result.
    pub open: Option<Intent>,
    /// The step that failed for good and whose `on_error` has yet to be carried out.
    pub failure: Option<Failure>,
    /// Every step that was begun, in order.
    pub steps: Vec<StepRecord>,
    /// How its deadline runs.
    pub clock: Clock,
    /// The switch that pauses it.
    pub paused: Option<String>,
    /// That a person wants it stopped, and why.
    pub cancel: Option<String>,
    /// The state it was suspended in.
    pub came_from: Option<State>,
    /// The outcome that follows the compensation.
    pub owes: Option<Owed>,
    /// When the compensation began, moved on by the time it stood still since.
    pub compensating_since: Option<Timestamp>,
    /// When the present verification began.
    pub verifying_since: Option<Timestamp>,
    /// What the checks last saw.
    pub saw: Option<(Saw, String)>,
    /// Verified, and by a check that looked at the service itself.
    pub verified_independently: Option<bool>,
    /// The last inbox row that was folded.
    pub folded_request: u64,
    /// Why it stands where it stands: what it waits for, or why it ended so.
    pub reason: Option<String>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl Operation {
    /// Folds the first entry of an operation. `plan` must be the one that it names.
    ///
    /// # Errors
    /// When it is not a first entry.
    pub fn begin(entry: &Entry, hash: Hash, plan: Option<Arc<StoredPlan>>) -> Result<Self, Refused> {
        let order = |why| Refused::Order { operation: entry.operation, after: 0, found: entry.seq, why };
        let Some(Event::Accepted { alert, target, strategy, plan: named, sameness }) = entry.events.first()
        else {
            return Err(order("an operation begins with accepted"));
        };
        if entry.seq != 1 {
            return Err(order("the first entry has seq 1"));
        }
        if plan.as_ref().map(|plan| plan.hash) != *named {
            return Err(order("the plan given is not the plan named"));
        }
        let mut operation = Self {
            id: entry.operation,
            state: redress_fsm::INITIAL,
            seq: 0,
            hash: Hash::ZERO,
            epoch: entry.epoch,
            session: entry.session,
            alert: Arc::clone(alert),
            target: target.clone(),
            strategy: strategy.clone(),
            plan,
            sameness: sameness.clone(),
            alerts: vec![Counted { alert: Arc::clone(alert), resolved_at: None }],
            accepted_at: entry.recorded_at,
            updated_at: entry.recorded_at,
            hold: None,
            attempt: 0,
            next_step: 0,
            open: None,
            failure: None,
            steps: Vec::new(),
            clock: Clock::default(),
            paused: None,
            cancel: None,
            came_from: None,
            owes: None,
            compensating_since: None,
            verifying_since: None,
            saw: None,
            verified_independently: None,
            folded_request: 0,
            reason: None,
            ended_at: None,
        };
        operation.fold_events(entry, &entry.events[1..])?;
        operation.stand_at(entry, hash);
        Ok(operation)
    }

    /// The operation after one more entry.
    ///
    /// # Errors
    /// When the entry cannot follow; `self` is as it was.
    pub fn with(&self, entry: &Entry, hash: Hash) -> Result<Self, Refused> {
        let mut next = self.clone();
        next.follow(entry, hash)?;
        Ok(next)
    }

    /// Goes on by one entry. After a refusal it may be half changed, and must be thrown away.
    fn follow(&mut self, entry: &Entry, hash: Hash) -> Result<(), Refused> {
        let order = |why| Refused::Order { operation: self.id, after: self.seq, found: entry.seq, why };
        if entry.operation != self.id {
            return Err(order("it belongs to another operation"));
        }
        if entry.seq != self.seq + 1 {
            return Err(order("seq must grow by one"));
        }
        if entry.epoch < self.epoch {
            return Err(order("its epoch is older"));
        }
        if entry.events.is_empty() {
            return Err(order("it holds no event"));
        }
        self.fold_events(entry, &entry.events)?;
        self.stand_at(entry, hash);
        Ok(())
    }

    /// Folds a whole history, oldest entry first.
    ///
    /// # Errors
    /// The first entry that cannot be read or cannot follow.
    pub fn replay(entries: &[StoredEntry], plan: Option<Arc<StoredPlan>>) -> Result<Self, ReplayError> {
        let (first, rest) = entries.split_first().ok_or(ReplayError::Empty)?;
        let mut operation = Self::begin(&first.read()?, first.hash, plan)?;
        for stored in rest {
            operation.follow(&stored.read()?, stored.hash)?;
        }
        Ok(operation)
    }

    /// The steps of the phase that runs (or that it was suspended in).
    pub fn steps_of_phase(&self) -> &[PlanStep] {
        match (&self.plan, self.phase()) {
            (Some(plan), Phase::Rollback) => &plan.plan.steps,
            (Some(plan), Phase::Compensation) => &plan.plan.compensation,
            (Some(_), Phase::Verification | Phase::Outbox) | (None, _) => &[],
        }
    }

    /// The phase that runs, or that it was suspended in.
    pub fn phase(&self) -> Phase {
        match self.came_from.unwrap_or(self.state) {
            State::Compensating => Phase::Compensation,
            State::Verifying => Phase::Verification,
            State::Received
            | State::Blocked
            | State::Diagnosing
            | State::AwaitingApproval
            | State::RollingBack
            | State::Suspended
            | State::Restored
            | State::Failed
            | State::TimedOut
            | State::Skipped
            | State::Cancelled => Phase::Rollback,
        }
    }

    /// The step that the open intent, or else the next one, is about.
    pub fn current_step(&self) -> Option<&PlanStep> {
        let index = self.open.as_ref().map_or(self.next_step, |intent| intent.key.step);
        self.steps_of_phase().get(usize::try_from(index).ok()?)
    }

    /// The key of the next step of the phase that runs; `None` when none is left.
    pub fn next_key(&self) -> Option<EffectKey> {
        let steps = self.steps_of_phase().len();
        (usize::try_from(self.next_step).is_ok_and(|next| next < steps)).then(|| EffectKey {
            operation: self.id,
            phase: self.phase(),
            attempt: self.attempt,
            step: self.next_step,
        })
    }

    /// Whether a compensation plan was frozen with it.
    pub fn has_compensation(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| !plan.plan.compensation.is_empty())
    }

    /// When the deadline passes if the clock goes on from `now`; `None` before the first step or while it
    /// stands still.
    pub fn deadline_at(&self) -> Option<Timestamp> {
        let plan = self.plan.as_ref()?;
        if self.clock.standing_since.is_some() {
            return None;
        }
        let limit = Duration::from_millis(plan.plan.limits.deadline_ms);
        Some(self.clock.started?.plus(limit).plus(self.clock.stood))
    }

    /// When the compensation's own limit is reached if the clock goes on from now; `None` while it stands still,
    /// and for what does not compensate.
    pub fn compensation_until(&self) -> Option<Timestamp> {
        if self.clock.standing_since.is_some() {
            return None;
        }
        let limit = Duration::from_millis(self.plan.as_ref()?.plan.limits.compensation_ms);
        Some(self.compensating_since?.plus(limit))
    }

    /// Whether anything may have been called: an intent that was not withdrawn, or not before its first try.
    pub fn attempted(&self) -> bool {
        self.steps.iter().any(|step| step.result != Some(StepResult::Withdrawn) || step.tries > 0)
    }

    /// Whether this alert is counted on it.
    pub fn counts(&self, id: &AlertId) -> bool {
        self.alerts.iter().any(|counted| counted.alert.id == *id)
    }

    /// Whether every counted alert was called resolved by its source.
    pub fn all_resolved(&self) -> bool {
        self.alerts.iter().all(|counted| counted.resolved_at.is_some())
    }

    fn fold_events(&mut self, entry: &Entry, events: &[Event]) -> Result<(), Refused> {
        events.iter().try_for_each(|event| self.fold_event(entry, event))
    }

    /// One event: the table, the guards, then what it changes. A refusal changes nothing.
    fn fold_event(&mut self, entry: &Entry, event: &Event) -> Result<(), Refused> {
        let to = redress_fsm::next(self.state, event.kind())?;
        if let Err(why) = guard::allows(self, entry, event) {
            return Err(Refused::Guard { state: self.state, event: event.kind(), why });
        }
        self.take(entry, event);
        self.state = to;
        if to.is_ended() {
            self.ended_at = Some(entry.recorded_at);
        }
        Ok(())
    }

    fn stand_at(&mut self, entry: &Entry, hash: Hash) {
        self.seq = entry.seq;
        self.hash = hash;
        self.epoch = entry.epoch;
        self.session = entry.session;
        self.updated_at = entry.recorded_at;
    }

    /// What an allowed event changes beside the state.
    fn take(&mut self, entry: &Entry, event: &Event) {
        let at = entry.recorded_at;
        if let Some(request) = event.answers() {
            self.folded_request = request;
        }
        match event {
            Event::Accepted { .. } | Event::DiagnosisStarted | Event::Diagnosed { .. } => {}
            Event::ApprovalGiven { .. } | Event::RequestRefused { .. } => {}
            Event::AlertJoined { alert, .. } => {
                self.alerts.push(Counted { alert: Arc::clone(alert), resolved_at: None });
            }
            Event::AlertResolved { alert, ends_at, .. } => {
                for counted in self.alerts.iter_mut().filter(|counted| counted.alert.id == *alert) {
                    counted.resolved_at = Some(*ends_at);
                }
            }
            Event::Held { reason, until } => {
                self.reason = Some(reason.to_string());
                let since = self.hold.as_ref().filter(|held| held.reason == *reason).map_or(at, |h| h.since);
                self.hold = Some(Held { reason: reason.clone(), since, until: *until });
            }
            Event::Released => self.hold = None,
            Event::ApprovalRequested { .. } => self.reason = Some("waits for approval".into()),
            Event::Rejected { by, reason } => self.reason = Some(format!("rejected by {by}: {reason}")),
            Event::ApprovalExpired => self.reason = Some("nobody approved in time".into()),
            Event::Admitted { attempt } => {
                self.hold = None;
                self.reason = None;
                self.attempt = *attempt;
            }
            Event::Skipped { reason } | Event::Failed { reason } | Event::Cancelled { reason } => {
                self.reason = Some(reason.clone());
            }
            Event::WaitingLimitReached => {
                let waited = self.reason.take().unwrap_or_else(|| "nothing".into());
                self.reason = Some(format!("waited as long as it may; last for: {waited}"));
            }
            Event::CancelRequested { by, reason, .. } => {
                // While compensating, the outcome is decided: it is recorded and changes nothing.
                if self.phase() != Phase::Compensation {
                    self.cancel = Some(format!("cancelled by {by}: {reason}"));
                }
            }
            Event::Paused { switch } => {
                self.paused = Some(switch.clone());
                self.clock.standing_since.get_or_insert(at);
            }
            Event::Unpaused => {
                self.paused = None;
                self.resume_clock(at);
            }
            Event::DeadlinePassed => self.clock.passed |= self.state != State::Compensating,
            Event::StepStarted { key, step } => self.begin_step(entry, *key, step),
            Event::StepResumed { request, .. } => self.resume_step(entry.epoch, request.is_some()),
            Event::TryFailed { try_number, error, unknown, next_at, .. } => {
                self.note_try(*try_number, error, *unknown, *next_at);
            }
            Event::StepSucceeded { output, known_by, took_ms, .. } => {
                self.settle(StepResult::Succeeded(*known_by), output, *took_ms);
                self.next_step += 1;
            }
            Event::StepFailed { error, known_by, took_ms, .. } => self.fail_step(error, *known_by, *took_ms),
            Event::StepWithdrawn { reason, .. } => self.settle(StepResult::Withdrawn, reason, 0),
            Event::StepAbandoned { .. } => self.settle(StepResult::Abandoned, "", 0),
            Event::StepNotRun { .. } => self.next_step += 1,
            Event::VerificationStarted => {
                self.verifying_since = Some(at);
                self.saw = None;
            }
            Event::ChecksObserved { saw, detail } => self.saw = Some((*saw, detail.clone())),
            Event::VerificationPassed { independent, detail, .. } => {
                self.saw = Some((Saw::Healthy, detail.clone()));
                self.verified_independently = Some(*independent);
            }
            Event::NextAttemptStarted { attempt } => {
                self.attempt = *attempt;
                self.next_step = 0;
            }
            Event::CompensationStarted { owes, reason } => {
                self.owes = Some(*owes);
                self.reason = Some(reason.clone());
                self.failure = None;
                self.next_step = 0;
                self.compensating_since = Some(at);
            }
            Event::CompensatedToFailed | Event::CompensatedToTimedOut | Event::CompensatedToCancelled => {}
            Event::TimedOut => self.reason = Some("the deadline passed".into()),
            Event::Suspended { reason } => {
                self.came_from = Some(self.state);
                self.reason = Some(reason.clone());
                self.clock.standing_since.get_or_insert(at);
            }
            Event::ResumedRollingBack { verdict }
            | Event::ResumedVerifying { verdict }
            | Event::ResumedCompensating { verdict } => {
                self.came_from = None;
                self.reason = None;
                self.resume_clock(at);
                if verdict.decision == crate::event::Decision::GoOn {
                    self.attempt += 1;
                    self.failure = None;
                    self.verifying_since = Some(at);
                    self.saw = None;
                }
            }
            Event::GivenUp { verdict } => {
                self.came_from = None;
                self.reason = Some(format!("given up by {}: {}", verdict.by, verdict.reason));
            }
        }
    }

    fn begin_step(&mut self, entry: &Entry, key: EffectKey, step: &str) {
        let at = entry.recorded_at;
        self.clock.started.get_or_insert(at);
        self.open = Some(Intent {
            key,
            epoch: entry.epoch,
            tries: 0,
            decided_at: 0,
            in_flight: true,
            unknown: false,
            next_at: None,
            since: at,
            last_error: None,
        });
        self.steps.push(StepRecord {
            key,
            step: step.to_owned(),
            started_at: at,
            tries: 0,
            result: None,
            took_ms: 0,
            detail: String::new(),
        });
    }

    fn resume_step(&mut self, epoch: Epoch, by_verdict: bool) {
        if let Some(intent) = &mut self.open {
            // "Did not happen" settles every try so far.
            intent.unknown &= !by_verdict;
            if by_verdict {
                intent.decided_at = intent.tries;
            }
            intent.epoch = epoch;
            intent.in_flight = true;
            intent.next_at = None;
        }
    }

    fn note_try(&mut self, try_number: u32, error: &str, unknown: bool, next_at: Timestamp) {
        if let Some(intent) = &mut self.open {
            intent.tries = try_number;
            intent.in_flight = false;
            intent.unknown = unknown;
            intent.next_at = Some(next_at);
            intent.last_error = Some(error.to_owned());
        }
        if let Some(record) = self.steps.last_mut() {
            record.tries = try_number;
            error.clone_into(&mut record.detail);
        }
    }

    fn fail_step(&mut self, error: &str, known_by: KnownBy, took_ms: u64) {
        let step = self.current_step().map(|step| (step.name.clone(), step.on_error));
        self.settle(StepResult::Failed(known_by), error, took_ms);
        match step {
            Some((step, on_error)) if self.state != State::Compensating && on_error != OnError::Continue => {
                self.failure = Some(Failure { step, error: error.to_owned(), on_error });
            }
            Some((step, _)) if self.state == State::Compensating => {
                // It is noted, the rest of the plan runs, and a person is to look (safety rule 16).
                let left = self.plan.as_ref().map_or(OnFailure::Escalate, |plan| plan.plan.on_failure);
                let before = self.reason.take().unwrap_or_default();
                self.reason =
                    Some(format!("{before}; compensation step {step:?} failed: {error}; on failure: {left}"));
                self.next_step += 1;
            }
            Some(_) | None => self.next_step += 1,
        }
    }

    fn settle(&mut self, result: StepResult, detail: &str, took_ms: u64) {
        let tries = self.open.take().map_or(0, |intent| intent.tries);
        if let Some(record) = self.steps.last_mut() {
            // The answer that settles it is a try too, unless nothing was sent or nobody answered.
            let answered = matches!(
                result,
                StepResult::Succeeded(KnownBy::Answer) | StepResult::Failed(KnownBy::Answer)
            );
            record.tries = tries + u32::from(answered);
            record.result = Some(result);
            record.took_ms = took_ms;
            if !detail.is_empty() {
                detail.clone_into(&mut record.detail);
            }
        }
    }

    fn resume_clock(&mut self, at: Timestamp) {
        // Suspended and paused may overlap: the clock goes on when neither holds it.
        if self.paused.is_none()
            && self.came_from.is_none()
            && let Some(since) = self.clock.standing_since.take()
        {
            self.clock.stood += at.since(since);
            // What stood still before the compensation began is not its own.
            self.compensating_since =
                self.compensating_since.map(|began| began.plus(at.since(since.max(began))));
        }
    }
}
