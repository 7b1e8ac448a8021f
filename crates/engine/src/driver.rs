//! [`Driver`]: one held operation, from the effect it asks for to the entry that follows, until it ends, waits
//! for something outside, or is not ours any more.
//!
//! Calling a step is in [`crate::step`], running the checks in [`crate::verification`].

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use redress_action::Policy;
use redress_fsm::State;
use redress_operation_log::event::HoldReason;
use redress_operation_log::fold::{Draft, Refused};
use redress_operation_log::{Error, InboxRow, Operation, Request};
use redress_types::{EffectKey, Epoch, OperationId, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::commit::{self, Extras, OnStop};
use crate::decide::{self, Answer, Input, Said};
use crate::effect::{Effect, effect};
use crate::shared::{Running, Shared, long_after_the_lease, paused_by, switch_keys};

/// One held operation.
pub(crate) struct Driver {
    pub shared: Arc<Shared>,
    pub operation: Arc<Operation>,
    pub epoch: Epoch,
    pub doorbell: Arc<Notify>,
    /// The state, for those who wait until it goes away with this driver. They are not woken for each change.
    state: watch::Sender<State>,
    /// The head names our session: it does not when the last entry left the operation waiting outside.
    holds: bool,
    /// When the log was last told that this driver lives, other than by an entry.
    life_shown: Instant,
    /// The last inbox row that the log has told of.
    inbox: u64,
    /// The count of switch changes that the log has last told of.
    switches: u64,
    /// The count of switch changes at which none was in the way.
    switches_seen: u64,
    /// The intent whose present try was called, or may have been, by whoever.
    pub(crate) sent: Option<EffectKey>,
    /// The intent that an earlier holder left in doubt.
    pub(crate) recovered: Option<EffectKey>,
    /// The intent about which the target says that it did not happen.
    pub(crate) cleared: Option<EffectKey>,
    /// When this driver first called the step under way.
    pub(crate) first_call: Option<(EffectKey, Instant)>,
}

/// Why a driver lets go before the operation is done.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Another engine has it, or the lease is over: nothing more may be done.
    Lost,
    /// The engine stops; the operation is given up and goes on later.
    Shutdown,
    /// What was decided cannot be recorded: a defect. The operation is left alone until its due time.
    Defect(String),
}

/// Something is in the way of the entry.
#[derive(Clone, Debug)]
pub(crate) struct InTheWay {
    reason: HoldReason,
    until: Timestamp,
}

impl Driver {
    /// Takes an operation that this engine has just claimed or begun, and tells the engine that it has it.
    pub fn new(
        shared: Arc<Shared>,
        operation: Arc<Operation>,
        epoch: Epoch,
        inbox: u64,
        switches: u64,
    ) -> Self {
        let doorbell = Arc::new(Notify::new());
        let (state, receiver) = watch::channel(operation.state);
        let running = Running { epoch, doorbell: Arc::clone(&doorbell), state: receiver };
        shared.running().insert(operation.id, running);
        Self {
            shared,
            operation,
            epoch,
            doorbell,
            state,
            holds: true,
            life_shown: Instant::now(),
            inbox,
            switches,
            switches_seen: 0,
            sent: None,
            recovered: None,
            cleared: None,
            first_call: None,
        }
    }

    /// Drives it. Returns when it has ended, waits outside, or is lost.
    pub async fn run(mut self) {
        let id = self.operation.id;
        let shared = Arc::clone(&self.shared);
        let driving = async {
            tokio::select! {
                biased;
                stopped = self.drive() => stopped,
                // Only a log that does not answer keeps it for so long.
                () = long_after_the_lease(&shared) => Err(Stop::Lost),
            }
        };
        let stopped = AssertUnwindSafe(driving).catch_unwind().await;
        self.leave();
        let stopped = match stopped {
            Ok(stopped) => stopped,
            Err(_) => {
                // Given up, but not at once: what panics may do so again.
                tracing::error!(operation = %id, "driving it panicked");
                tokio::time::sleep(AFTER_A_PANIC).await;
                Err(Stop::Shutdown)
            }
        };
        match stopped {
            Ok(()) | Err(Stop::Lost) => {}
            Err(Stop::Shutdown) => self.give_up(id).await,
            Err(Stop::Defect(what)) => tracing::error!(operation = %id, %what, "the operation cannot go on"),
        }
        if self.shared.permits.available_permits() == 0 {
            // Others wait for the place that is free in a moment.
            self.shared.work.notify_one();
        }
    }

    /// The head names our session.
    pub(crate) fn holds(&self) -> bool {
        self.holds
    }

    pub(crate) async fn give_up(&self, id: OperationId) {
        if let Err(error) = self.shared.log.give_up(self.shared.session_id(), id, self.epoch).await {
            // The session is closed next, which gives up everything it still has.
            tracing::debug!(operation = %id, %error, "could not be given up by itself");
        }
    }

    /// Not ours any more; a later driver of the same operation is left in place.
    fn leave(&self) {
        let mut running = self.shared.running();
        if running.get(&self.operation.id).is_some_and(|running| running.epoch == self.epoch) {
            running.remove(&self.operation.id);
        }
    }

    async fn drive(&mut self) -> Result<(), Stop> {
        loop {
            if !self.shared.may_act() {
                return Err(Stop::Lost);
            }
            self.fold_inbox().await?;
            if !self.holds {
                return Ok(());
            }
            match effect(&self.operation, self.epoch) {
                Effect::Nothing | Effect::WaitForPerson => return Ok(()),
                Effect::Admit => {
                    if self.shared.stopping.is_cancelled() {
                        return Err(Stop::Shutdown);
                    }
                    if !self.admit().await? {
                        return Ok(());
                    }
                }
                Effect::Begin => {
                    if self.shared.stopping.is_cancelled() {
                        return Err(Stop::Shutdown);
                    }
                    self.record_all(vec![Input::Look]).await?;
                }
                Effect::Call(key) => self.call(key).await?,
                Effect::Recover(key, policy) => self.recover(key, policy).await?,
                Effect::WaitForTry(key, at) => self.wait_for_try(key, at).await?,
                Effect::Verify => self.verify().await?,
                Effect::WaitForSwitch => self.wait_for_switch().await?,
            }
        }
    }

    /// Looks whether it may act now; false: it waits, and nobody holds it.
    async fn admit(&mut self) -> Result<bool, Stop> {
        match self.record(vec![Input::Admitted]).await? {
            None => Ok(true),
            Some(InTheWay { reason, until }) => {
                if let Some(in_the_way) = self.record(vec![Input::Held(reason, until)]).await? {
                    return Err(Stop::Defect(format!("a hold was refused by {in_the_way:?}")));
                }
                // Blocked waits outside; ended (cancelled meanwhile) is done.
                Ok(false)
            }
        }
    }

    async fn recover(&mut self, key: EffectKey, policy: Policy) -> Result<(), Stop> {
        if self.pause_if_asked().await? {
            return Ok(());
        }
        let stopping = decide::stopping(&self.operation, self.shared.now());
        let next_at = self.operation.open.as_ref().and_then(|intent| intent.next_at);
        if let Some(next_at) = next_at.filter(|_| !stopping && policy != Policy::Halt)
            && self.wait_until(next_at).await? == Woken::ByNews
        {
            return Ok(());
        }
        match policy {
            Policy::Probe => {}
            Policy::Rerun if !stopping => {}
            Policy::Rerun | Policy::Halt => {
                let step = self.operation.current_step().map(|step| step.name.clone()).unwrap_or_default();
                let why = format!(
                    "step {step:?} was begun and the engine stopped before its result was recorded; nobody knows whether it happened"
                );
                return self.record_all(vec![Input::Doubt(&why)]).await;
            }
        }
        self.sent = Some(key);
        self.recovered = Some(key);
        self.cleared = None;
        self.record_all(vec![Input::Resume(key)]).await
    }

    async fn wait_for_try(&mut self, key: EffectKey, at: Timestamp) -> Result<(), Stop> {
        let Some(step) = self.operation.current_step().cloned() else {
            return Err(Stop::Defect("an open intent without a step".into()));
        };
        let unknown = self.operation.open.as_ref().is_some_and(|intent| intent.unknown);
        let stopping = decide::stopping(&self.operation, self.shared.now());
        if stopping && !unknown {
            let last = self.operation.open.as_ref().and_then(|intent| intent.last_error.clone());
            let error = format!("{}; not tried again, it is to stop", last.unwrap_or_default());
            let known_by = redress_operation_log::event::KnownBy::Answer;
            if self.operation.open.as_ref().is_some_and(|intent| intent.epoch != self.epoch) {
                // Only the epoch that the intent durably belongs to may settle it.
                self.record_all(vec![Input::Resume(key)]).await?;
            }
            return self.answer(key, Said::Failed { error, known_by }).await;
        }
        if stopping && step.in_doubt != Policy::Probe {
            let why =
                format!("nobody knows whether step {:?} happened, and it may not be called again", step.name);
            return self.record_all(vec![Input::Doubt(&why)]).await;
        }
        if !stopping && self.wait_until(at).await? == Woken::ByNews {
            return Ok(());
        }
        // Each further try is an intent of its own: durable before the call, withdrawn if it is not sent.
        self.sent = None;
        self.record_all(vec![Input::Resume(key)]).await?;
        let announced = self.operation.open.as_ref().is_some_and(|open| open.key == key && open.in_flight);
        if !announced || self.operation.paused.is_some() {
            return Ok(());
        }
        self.call(key).await
    }

    /// Before a call that has no append of its own to be refused: true when a switch is off, which is recorded.
    pub(crate) async fn pause_if_asked(&mut self) -> Result<bool, Stop> {
        if self.operation.paused.is_some() || decide::stopping(&self.operation, self.shared.now()) {
            return Ok(false);
        }
        // What the last append told may be old by now.
        let Some(switch) = self.paused_now().await? else { return Ok(false) };
        self.record_all(vec![Input::Paused(&switch)]).await?;
        Ok(true)
    }

    async fn wait_for_switch(&mut self) -> Result<(), Stop> {
        let deadline = self.shared.now().plus(self.shared.config.poll);
        if self.wait_until(deadline).await? == Woken::ByNews {
            return Ok(());
        }
        self.show_life().await?;
        let switches = match self.shared.switches_lately().await {
            Ok(switches) => switches,
            Err(error) => {
                tracing::warn!(operation = %self.operation.id, %error, "cannot look at the switches");
                return Ok(());
            }
        };
        let keys = switch_keys(self.operation.strategy.as_deref(), &self.operation.target);
        let off = paused_by(&switches, &keys, self.shared.now());
        let stopping = decide::stopping(&self.operation, self.shared.now());
        match off {
            Some(_) if !stopping => Ok(()),
            Some(_) => self.record_all(vec![Input::Look]).await,
            None => self.record_all(vec![Input::Unpaused]).await,
        }
    }

    /// A wait without entries shows a sign of life now and then, and learns when another engine has taken over.
    async fn show_life(&mut self) -> Result<(), Stop> {
        if self.life_shown.elapsed() < self.shared.session.lease / 3 {
            return Ok(());
        }
        self.life_shown = Instant::now();
        let (shared, operation) = (&self.shared, &self.operation);
        let due = commit::due(shared, operation, shared.now());
        match shared.log.hold_until(shared.session_id(), operation.id, self.epoch, due).await {
            Err(Error::Stale { .. }) => Err(Stop::Lost),
            // Anything else is tried again at the next turn; the due time is far enough away.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Waits until a time, or until there is something new in the inbox or a limit passed.
    pub(crate) async fn wait_until(&mut self, at: Timestamp) -> Result<Woken, Stop> {
        if self.shared.stopping.is_cancelled() {
            return Err(Stop::Shutdown);
        }
        let limit = self.next_limit();
        let until = limit.map_or(at, |limit| limit.min(at));
        let wait = until.since(self.shared.now());
        let doorbell = Arc::clone(&self.doorbell);
        tokio::select! {
            () = tokio::time::sleep(wait) => {
                if limit.is_some_and(|limit| limit <= self.shared.now()) {
                    self.record_all(vec![Input::Look]).await?;
                    return Ok(Woken::ByNews);
                }
                Ok(Woken::ByTime)
            }
            () = doorbell.notified() => {
                self.look_at_inbox().await?;
                Ok(Woken::ByNews)
            }
            () = self.shared.stopping.cancelled() => Err(Stop::Shutdown),
            () = self.shared.lost.cancelled() => Err(Stop::Lost),
        }
    }

    /// When the deadline or the compensation's limit passes, if that would be news.
    pub(crate) fn next_limit(&self) -> Option<Timestamp> {
        let operation = &self.operation;
        if operation.state == State::Compensating {
            // Nothing is recorded when it passes, so it is no news afterwards.
            return operation.compensation_until().filter(|limit| *limit > self.shared.now());
        }
        if operation.clock.passed {
            return None;
        }
        operation.deadline_at()
    }

    /// Records what came of the step under way.
    pub(crate) async fn answer(&mut self, key: EffectKey, said: Said) -> Result<(), Stop> {
        let took = match self.first_call {
            Some((called, since)) if called == key => since.elapsed(),
            Some(_) | None => Duration::ZERO,
        };
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut inputs = vec![Input::Answer(Answer { key, said, took_ms })];
        // An intent that this engine will not send would be in doubt for the next one.
        inputs.extend(self.shared.stopping.is_cancelled().then_some(Input::Rest));
        self.record_all(inputs).await
    }

    /// Reads the inbox whatever was heard of it, and folds what is new.
    pub(crate) async fn look_at_inbox(&mut self) -> Result<(), Stop> {
        self.inbox = self.inbox.max(self.operation.folded_request + 1);
        self.fold_inbox().await
    }

    pub(crate) async fn fold_inbox(&mut self) -> Result<(), Stop> {
        if self.inbox <= self.operation.folded_request {
            return Ok(());
        }
        let Some(rows) = self.inbox_now().await else { return Ok(()) };
        self.inbox = rows.last().map_or(self.operation.folded_request, |row| row.seq);
        if rows.is_empty() {
            return Ok(());
        }
        self.record_all(vec![Input::Requests(&rows)]).await
    }

    /// The rows that are not folded yet. `None`: they cannot be read. They are durable: they are read at the next look,
    /// and no ending append can miss them.
    pub(crate) async fn inbox_now(&self) -> Option<Vec<InboxRow>> {
        match self.shared.log.inbox(self.operation.id, self.operation.folded_request).await {
            Ok(rows) => Some(rows),
            Err(error) => {
                tracing::warn!(operation = %self.operation.id, %error, "cannot read the inbox");
                None
            }
        }
    }

    /// Reads the inbox; repeats while the log is unavailable, so that what is to be recorded with it is not lost.
    async fn inbox_for_certain(&self, on_stop: OnStop) -> Result<Vec<InboxRow>, Stop> {
        loop {
            match self.shared.log.inbox(self.operation.id, self.operation.folded_request).await {
                Ok(rows) => return Ok(rows),
                Err(error) => tracing::warn!(operation = %self.operation.id, %error, "cannot read the inbox"),
            }
            tokio::select! {
                () = tokio::time::sleep(self.shared.config.poll) => {}
                () = self.shared.stopping.cancelled(), if on_stop == OnStop::Leave => {
                    return Err(Stop::Shutdown);
                }
                () = self.shared.lost.cancelled() => return Err(Stop::Lost),
            }
        }
    }

    /// Whether more is in the inbox than was folded, as far as the log has told.
    pub(crate) fn inbox_is_ahead(&self) -> bool {
        self.inbox > self.operation.folded_request
    }

    /// The switch that pauses this operation now, looked up only when switches changed since the last look.
    pub(crate) async fn paused_since_last_look(&mut self) -> Result<Option<String>, Stop> {
        if self.switches == self.switches_seen { Ok(None) } else { self.paused_now().await }
    }

    /// The switch that pauses this operation now. Repeats while the log is unavailable: not to know is not to be free.
    async fn paused_now(&mut self) -> Result<Option<String>, Stop> {
        let told = self.switches;
        loop {
            match self.shared.log.switches().await {
                Ok(switches) => {
                    let keys = switch_keys(self.operation.strategy.as_deref(), &self.operation.target);
                    let off = paused_by(&switches, &keys, self.shared.now());
                    if off.is_none() {
                        self.switches_seen = told;
                    }
                    return Ok(off.map(|switch| switch.key.clone()));
                }
                Err(error) => {
                    tracing::warn!(operation = %self.operation.id, %error, "cannot look at the switches");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(self.shared.config.poll) => {}
                () = self.shared.stopping.cancelled() => return Err(Stop::Shutdown),
                () = self.shared.lost.cancelled() => return Err(Stop::Lost),
            }
        }
    }

    /// Records inputs that nothing outside can be in the way of, a pause apart, which is recorded with them.
    pub(crate) async fn record_all(&mut self, mut inputs: Vec<Input<'_>>) -> Result<(), Stop> {
        let paused = match self.record(inputs.clone()).await? {
            None => return Ok(()),
            Some(InTheWay { reason: HoldReason::Paused { switch }, .. }) => switch,
            Some(other) => return Err(Stop::Defect(format!("refused by {other:?}"))),
        };
        inputs.push(Input::Paused(&paused));
        match self.record(inputs).await? {
            None => Ok(()),
            Some(other) => Err(Stop::Defect(format!("refused by {other:?}"))),
        }
    }

    /// Decides and appends, folding the inbox first where the log asks for it.
    async fn record(&mut self, mut inputs: Vec<Input<'_>>) -> Result<Option<InTheWay>, Stop> {
        let mut rows = Vec::new();
        let told =
            |input: &Input<'_>| matches!(input, Input::Answer(Answer { said, .. }) if said.is_a_result());
        let on_stop = if inputs.iter().any(told) { OnStop::Repeat } else { OnStop::Leave };
        loop {
            let draft = Draft::on(&self.operation, self.shared.writer(self.epoch));
            let decided = if rows.is_empty() {
                decide::decide(draft, &inputs)
            } else {
                decide::decide(draft, &[Input::Requests(&rows)])
                    .and_then(|draft| decide::decide(draft, &inputs))
            };
            let draft = decided.map_err(|refused| defect(&self.operation, &refused))?;
            if draft.events().is_empty() {
                return Ok(None);
            }
            let sealed = draft.seal().map_err(|error| Stop::Defect(error.to_string()))?;
            let append = commit::append(&self.shared, &sealed, self.epoch, Extras::default());
            let holds = append.standing.held;
            match commit::append_for_certain(&self.shared, append, on_stop).await {
                Ok(recorded) => {
                    self.holds = holds;
                    self.inbox = recorded.inbox;
                    self.switches = recorded.switches;
                    self.operation = Arc::new(sealed.operation);
                    self.state.send_if_modified(|state| {
                        *state = self.operation.state;
                        false
                    });
                    commit::observe(&self.shared, &self.operation, sealed.entry);
                    if !recorded.current {
                        // It stands, but somebody else has taken over since: nothing may follow from here.
                        return Err(Stop::Lost);
                    }
                    return Ok(None);
                }
                Err(Error::NotFolded { .. }) => {
                    rows = self.inbox_for_certain(on_stop).await?;
                    inputs.retain(|input| !matches!(input, Input::Requests(_)));
                    if rows.iter().any(|row| matches!(row.request, Request::Join { .. })) {
                        // What the checks saw was before it came: the settling starts again.
                        inputs.retain(|input| !matches!(input, Input::Checks(_)));
                    }
                    if rows.is_empty() {
                        return Err(Stop::Defect("the log asks for inbox rows that it does not have".into()));
                    }
                }
                Err(Error::NotNow { reason, until }) => return Ok(Some(InTheWay { reason, until })),
                Err(Error::Lost { claim, holder }) => {
                    let reason = HoldReason::TargetBusy { slot: claim.key().to_owned(), holder };
                    let until = decide::waiting_limit(&self.operation);
                    return Ok(Some(InTheWay { reason, until }));
                }
                Err(Error::Stale { .. } | Error::Conflict { .. } | Error::Ended { .. }) => {
                    return Err(Stop::Lost);
                }
                Err(Error::Unavailable { .. }) => {
                    return Err(if self.shared.may_act() { Stop::Shutdown } else { Stop::Lost });
                }
                Err(
                    error @ (Error::NotFound(_)
                    | Error::DifferentContent { .. }
                    | Error::KnownAlert(_)
                    | Error::Held { .. }
                    | Error::Corrupt { .. }
                    | Error::Unstorable { .. }),
                ) => return Err(Stop::Defect(error.to_string())),
            }
        }
    }
}

impl Drop for Driver {
    /// However it goes away, nobody is told any more that it is driven here.
    fn drop(&mut self) {
        self.leave();
    }
}

/// How long an operation rests whose driver panicked.
const AFTER_A_PANIC: Duration = Duration::from_secs(1);

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The time came.
    ByTime,
    /// Something was recorded meanwhile: look again at what is to be done.
    ByNews,
}

fn defect(operation: &Operation, refused: &Refused) -> Stop {
    Stop::Defect(format!("operation {} at entry {}: {refused}", operation.id, operation.seq))
}
