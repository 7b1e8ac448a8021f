//! Calls the step under way, or asks its target, and waits for the answer, a limit, a request or a stop.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use redress_action::{ActionExecutor, Call, CancellationToken, Error, InDoubt, Output, Policy, Probed};
use redress_operation_log::event::KnownBy;
use redress_strategy::PlanStep;
use redress_types::EffectKey;
use tokio::time::Instant;

use crate::calling::{Answering, Calling, Terms, Told, keep_late};
use crate::config::cut;
use crate::decide::{self, Answer, Input, Said};
use crate::driver::{Driver, Stop};

impl Driver {
    /// Calls the executor of the open intent, which is durable under our epoch, or probes first.
    pub(crate) async fn call(&mut self, key: EffectKey) -> Result<(), Stop> {
        let Some(step) = self.operation.current_step().cloned() else {
            return Err(Stop::Defect("an open intent without a step".into()));
        };
        let Some(executor) = self.shared.registry.executor(&step.executor).cloned() else {
            return Err(Stop::Defect(format!("there is no executor {}", step.executor)));
        };
        let open = self.operation.open.as_ref();
        let (tries, unknown) = open.map_or((0, false), |intent| (intent.tries, intent.unknown));
        if self.sent != Some(key) && !unknown {
            if self.withdrawn(key).await? {
                return Ok(());
            }
        } else if self.kept_back(step.in_doubt, &step.name).await? {
            return Ok(());
        }
        if !self.shared.may_act() {
            return Err(Stop::Lost);
        }
        let may_have_happened = tries > 0 || self.recovered == Some(key);
        let looks_first = step.in_doubt == Policy::Probe && may_have_happened && self.cleared != Some(key);
        self.sent = Some(key);
        if self.first_call.is_none_or(|(called, _)| called != key) {
            self.first_call = Some((key, Instant::now()));
        }
        if let Some(late) = self.shared.late().remove(&self.operation.id) {
            // What was given up must not happen behind the back of the next probe or call.
            late.abort();
        }
        let call = self.build_call(key, &step);
        if looks_first { self.look(&executor, call).await } else { self.execute(executor, call).await }
    }

    /// Before a call that cannot be withdrawn, because an earlier try may have happened. True: not now.
    async fn kept_back(&mut self, policy: Policy, step: &str) -> Result<bool, Stop> {
        if self.shared.stopping.is_cancelled() {
            return Err(Stop::Shutdown);
        }
        if self.inbox_is_ahead() {
            self.fold_inbox().await?;
        }
        if decide::stopping(&self.operation, self.shared.now()) && policy != Policy::Probe {
            let why = format!("nobody knows whether step {step:?} happened, and it is to stop");
            self.record_all(vec![Input::Doubt(&why)]).await?;
            return Ok(true);
        }
        self.pause_if_asked().await
    }

    /// Between intent and call: what was asked meanwhile, switches, shutdown. True: it is not called.
    async fn withdrawn(&mut self, key: EffectKey) -> Result<bool, Stop> {
        if self.inbox_is_ahead() {
            self.fold_inbox().await?;
        }
        let stopping = decide::stopping(&self.operation, self.shared.now());
        let stops = self.shared.stopping.is_cancelled();
        // While switches cannot be read, only a stop leads on.
        let paused = if stopping || stops { Ok(None) } else { self.paused_since_last_look().await };
        let stops = stops || matches!(paused, Err(Stop::Shutdown));
        let reason = match paused {
            _ if stopping => "it is to stop".to_owned(),
            _ if stops => "the engine stops".to_owned(),
            Err(stop) => return Err(stop),
            Ok(None) => return Ok(false),
            Ok(Some(switch)) => {
                let answer = not_sent(key, format!("{switch} is paused"));
                self.record_all(vec![answer, Input::Paused(&switch)]).await?;
                return Ok(true);
            }
        };
        let mut inputs = vec![not_sent(key, reason)];
        inputs.extend(stops.then_some(Input::Rest));
        self.record_all(inputs).await?;
        Ok(true)
    }

    fn build_call(&self, key: EffectKey, step: &PlanStep) -> Call {
        let tries = self.operation.open.as_ref().map_or(0, |intent| intent.tries);
        let tries = decide::withdrawn_tries(&self.operation, key).saturating_add(tries);
        Call {
            key,
            fencing: self.shared.fencing(self.epoch),
            try_number: tries.saturating_add(1),
            alert: Arc::clone(&self.operation.alert),
            target: self.operation.target.clone(),
            configuration: Arc::clone(&step.configuration),
            parameters: Arc::clone(&step.parameters),
            timeout: Duration::from_millis(step.timeout_ms),
            cancel: CancellationToken::new(),
        }
    }

    async fn execute(&mut self, executor: Arc<dyn ActionExecutor>, call: Call) -> Result<(), Stop> {
        let key = call.key;
        let terms = Terms { key, epoch: self.epoch, timeout: call.timeout, cancel: call.cancel.clone() };
        let mut answering: Answering = Box::pin(async move {
            let executing = AssertUnwindSafe(executor.execute(&call)).catch_unwind();
            executing.await.unwrap_or_else(|_| Err(Error::unknown("the executor panicked")))
        });
        // Many answers are there at once; only the others need a task and a timer.
        if let Some(answer) = answering.as_mut().now_or_never() {
            return self.answered(key, answer).await;
        }
        let mut calling = Calling::begin(&self.shared, answering, terms);
        match self.wait_for_answer(&mut calling).await? {
            Told::Answered(answer) => self.answered(key, answer).await,
            Told::GaveUp(why) => {
                self.cleared = None;
                calling.keep(&self.shared, key);
                if self.shared.stopping.is_cancelled() {
                    return Err(Stop::Shutdown);
                }
                self.answer(key, Said::Unknown { error: why, retry_after: None }).await
            }
            Told::Lost => {
                calling.keep(&self.shared, key);
                Err(Stop::Lost)
            }
        }
    }

    async fn answered(&mut self, key: EffectKey, answer: Result<Output, Error>) -> Result<(), Stop> {
        self.cleared = None;
        if self.shared.stopping.is_cancelled() && self.cut_short(&answer) {
            return Err(Stop::Shutdown);
        }
        let said = self.said(answer);
        let recorded = self.answer(key, said.clone()).await;
        if matches!(recorded, Err(Stop::Lost)) {
            let why = "it came when another engine had the operation, or the lease was over";
            keep_late(&self.shared, key, self.epoch, format!("{said:?}"), why.into()).await;
        }
        // While stopping, an intent that was written with it is withdrawn next.
        recorded
    }

    /// Waits for what becomes of a call; folds what comes in meanwhile, and asks the call to stop when that says so.
    async fn wait_for_answer(&mut self, calling: &mut Calling) -> Result<Told, Stop> {
        let doorbell = Arc::clone(&self.doorbell);
        loop {
            let limit = self.next_limit().map(|limit| limit.since(self.shared.now()));
            tokio::select! {
                biased;
                told = &mut calling.told => {
                    return Ok(told.unwrap_or_else(|_| Told::GaveUp("its task ended".to_owned())));
                }
                () = doorbell.notified() => self.look_at_inbox().await?,
                () = sleep_or_never(limit) => self.record_all(vec![Input::Look]).await?,
            }
            if !calling.asked() && decide::stopping(&self.operation, self.shared.now()) {
                calling.ask_to_stop("it was asked to stop and did not answer");
            }
        }
    }

    /// Asks the target.
    async fn look(&mut self, executor: &Arc<dyn ActionExecutor>, call: Call) -> Result<(), Stop> {
        let key = call.key;
        let InDoubt::Probe(probe) = executor.in_doubt() else {
            return Err(Stop::Defect(format!("executor {} has no probe", executor.name())));
        };
        let shared = Arc::clone(&self.shared);
        let doorbell = Arc::clone(&self.doorbell);
        let mut asking = Box::pin(AssertUnwindSafe(probe.probe(&call)).catch_unwind());
        let give_up = Instant::now() + call.timeout;
        let probed = loop {
            let limit = self.next_limit().map(|limit| limit.since(shared.now()));
            tokio::select! {
                biased;
                probed = asking.as_mut() => {
                    break probed.unwrap_or_else(|_| Probed::Unknown("the probe panicked".into()));
                }
                () = tokio::time::sleep_until(give_up) => {
                    break Probed::Unknown("the target did not answer in time".into());
                }
                () = shared.lost.cancelled() => return Err(Stop::Lost),
                () = shared.stopping.cancelled() => return Err(Stop::Shutdown),
                () = doorbell.notified() => self.look_at_inbox().await?,
                () = sleep_or_never(limit) => self.record_all(vec![Input::Look]).await?,
            }
        };
        drop(asking);
        let kept = |text: &str| cut(text, self.shared.config.output_bytes_max);
        let said = match probed {
            Probed::Applied(output) => {
                Said::Succeeded { output: kept(&output.summary), known_by: KnownBy::Probe }
            }
            Probed::Refused(why) => Said::Failed { error: kept(&why), known_by: KnownBy::Probe },
            Probed::Unknown(why) if self.may_have_happened(key) => {
                Said::Unknown { error: kept(&why), retry_after: None }
            }
            // Every try so far certainly did not happen: that the target cannot be asked adds no doubt.
            Probed::Unknown(why) => {
                let error = kept(&format!("not tried again, the target could not be asked: {why}"));
                Said::TryAgain { error, retry_after: None }
            }
            Probed::NotApplied => {
                self.cleared = Some(key);
                self.recovered = None;
                Said::NotApplied
            }
        };
        self.answer(key, said).await?;
        // Nothing may have been recorded (no doubt, nothing happened): then it is called now, unless it is to stop.
        let open =
            self.operation.open.as_ref().filter(|intent| intent.key == key && intent.next_at.is_none());
        if self.cleared != Some(key) || open.is_none() || self.pause_if_asked().await? {
            return Ok(());
        }
        if decide::stopping(&self.operation, self.shared.now()) {
            let error = "the target says it did not happen, and it is to stop".to_owned();
            return self.answer(key, Said::Failed { error, known_by: KnownBy::Probe }).await;
        }
        if !self.shared.may_act() {
            return Err(Stop::Lost);
        }
        self.execute(Arc::clone(executor), call).await
    }

    /// An earlier try of this intent may have happened.
    fn may_have_happened(&self, key: EffectKey) -> bool {
        self.recovered == Some(key) || self.operation.open.as_ref().is_some_and(|intent| intent.unknown)
    }

    /// An answer that only says that we stopped it is no try: the intent stays open, in doubt for who goes on. Not so
    /// for a step that must never be repeated: that this try certainly did not happen is worth knowing.
    fn cut_short(&self, answer: &Result<Output, Error>) -> bool {
        let halts = self.operation.current_step().is_some_and(|step| step.in_doubt == Policy::Halt);
        match answer {
            Err(Error::Unknown { .. }) => true,
            Err(Error::Retryable { .. }) => !halts,
            Ok(_) | Err(Error::Permanent { .. }) => false,
        }
    }

    fn said(&self, answer: Result<Output, Error>) -> Said {
        let kept = |text: &str| cut(text, self.shared.config.output_bytes_max);
        match answer {
            Ok(output) => Said::Succeeded { output: kept(&output.summary), known_by: KnownBy::Answer },
            Err(Error::Permanent { reason }) => {
                Said::Failed { error: kept(&reason), known_by: KnownBy::Answer }
            }
            Err(Error::Retryable { reason, retry_after }) => {
                Said::TryAgain { error: kept(&reason), retry_after }
            }
            Err(Error::Unknown { reason, retry_after }) => {
                Said::Unknown { error: kept(&reason), retry_after }
            }
        }
    }
}

fn not_sent(key: EffectKey, reason: String) -> Input<'static> {
    Input::Answer(Answer { key, said: Said::NotSent { reason }, took_ms: 0 })
}

pub(crate) async fn sleep_or_never(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
