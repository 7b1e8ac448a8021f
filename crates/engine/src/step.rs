//! Calls the step under way, or asks its target, and waits for the answer, a limit, a request or a stop.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use redress_action::{ActionExecutor, Call, CancellationToken, Error, InDoubt, Output, Policy, Probed};
use redress_operation_log::LateResult;
use redress_operation_log::event::KnownBy;
use redress_strategy::PlanStep;
use redress_types::{EffectKey, Epoch};
use tokio::time::Instant;

use crate::config::cut;
use crate::decide::{self, Answer, Input, Said};
use crate::driver::{Driver, Stop};
use crate::shared::Shared;

type Answering = Pin<Box<dyn Future<Output = Result<Output, Error>> + Send>>;

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
        let stops = self.shared.stopping.is_cancelled();
        let reason = if decide::stopping(&self.operation, self.shared.now()) {
            "it is to stop".to_owned()
        } else if stops {
            "the engine stops".to_owned()
        } else if let Some(switch) = self.paused_since_last_look().await {
            let answer = not_sent(key, format!("{switch} is paused"));
            self.record_all(vec![answer, Input::Paused(&switch)]).await?;
            return Ok(true);
        } else {
            return Ok(false);
        };
        let mut inputs = vec![not_sent(key, reason)];
        inputs.extend(stops.then_some(Input::Rest));
        self.record_all(inputs).await?;
        Ok(true)
    }

    fn build_call(&self, key: EffectKey, step: &PlanStep) -> Call {
        let tries = self.operation.open.as_ref().map_or(0, |intent| intent.tries);
        Call {
            key,
            fencing: self.shared.fencing(self.epoch),
            try_number: tries + 1,
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
        let (timeout, cancel, epoch) = (call.timeout, call.cancel.clone(), self.epoch);
        let mut answering: Answering = Box::pin(async move {
            let executing = AssertUnwindSafe(executor.execute(&call)).catch_unwind();
            executing.await.unwrap_or_else(|_| Err(Error::unknown("the executor panicked")))
        });
        match self.wait_for_answer(&mut answering, timeout, &cancel).await? {
            Waited::Answered(answer) => {
                self.cleared = None;
                if self.shared.stopping.is_cancelled() && self.cut_short(&answer) {
                    return Err(Stop::Shutdown);
                }
                let said = self.said(answer);
                let recorded = self.answer(key, said.clone()).await;
                if matches!(recorded, Err(Stop::Lost)) {
                    let why = "it came when another engine had the operation, or the lease was over";
                    keep_late(&self.shared, key, epoch, format!("{said:?}"), why.into()).await;
                }
                // While stopping, an intent that was written with it is withdrawn next.
                recorded
            }
            Waited::GaveUp(why) => {
                self.cleared = None;
                let stops = self.shared.stopping.is_cancelled();
                let patience = self.shared.config.lease;
                self.keep_what_comes_late(answering, key, epoch, why.clone(), patience);
                if stops {
                    return Err(Stop::Shutdown);
                }
                self.answer(key, Said::Unknown { error: why, retry_after: None }).await
            }
            Waited::Lost => {
                // It was asked to stop. What is left of the lease is all the time it has.
                let left = self.shared.lease_end().saturating_duration_since(Instant::now());
                let patience = left.min(self.shared.config.grace);
                self.keep_what_comes_late(answering, key, epoch, "the lease was over".into(), patience);
                Err(Stop::Lost)
            }
        }
    }

    async fn wait_for_answer(
        &mut self,
        answering: &mut Answering,
        timeout: Duration,
        cancel: &CancellationToken,
    ) -> Result<Waited, Stop> {
        // Most answers are there at once or soon; no timer is armed for those that are.
        if let Some(answer) = answering.as_mut().now_or_never() {
            return Ok(Waited::Answered(answer));
        }
        let shared = Arc::clone(&self.shared);
        let doorbell = Arc::clone(&self.doorbell);
        let mut give_up = Instant::now() + timeout;
        let mut why = format!("no answer within {}", redress_types::show_duration(timeout));
        loop {
            let asked = cancel.is_cancelled();
            let limit = self.next_limit().map(|limit| limit.since(shared.now()));
            tokio::select! {
                biased;
                answer = answering.as_mut() => return Ok(Waited::Answered(answer)),
                () = shared.lost.cancelled() => {
                    cancel.cancel();
                    return Ok(Waited::Lost);
                }
                () = tokio::time::sleep_until(give_up) => {
                    if asked {
                        return Ok(Waited::GaveUp(why));
                    }
                    cancel.cancel();
                    give_up = Instant::now() + shared.config.grace;
                }
                () = shared.stopping.cancelled(), if !asked => {
                    why = "the engine stopped before it answered".to_owned();
                    cancel.cancel();
                    give_up = give_up.min(Instant::now() + shared.config.grace);
                }
                () = doorbell.notified() => self.look_at_inbox().await?,
                () = sleep_or_never(limit) => self.record_all(vec![Input::Look]).await?,
            }
            if !cancel.is_cancelled() && decide::stopping(&self.operation, shared.now()) {
                why = "it was asked to stop and did not answer".to_owned();
                cancel.cancel();
                give_up = give_up.min(Instant::now() + shared.config.grace);
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

    /// An answer that comes after the engine gave up on it does not count; it is kept, with the reason.
    fn keep_what_comes_late(
        &mut self,
        answering: Answering,
        key: EffectKey,
        epoch: Epoch,
        why: String,
        patience: Duration,
    ) {
        let shared = Arc::clone(&self.shared);
        let waiting = self.shared.tasks.spawn(async move {
            let answer = tokio::select! {
                answer = tokio::time::timeout(patience, answering) => answer,
                () = shared.stopping.cancelled() => return,
            };
            let Ok(answer) = answer else { return };
            let said = match answer {
                Ok(output) => format!("succeeded: {}", output.summary),
                Err(error) => format!("failed: {error}"),
            };
            keep_late(&shared, key, epoch, said, why).await;
        });
        let mut late = self.shared.late();
        late.retain(|_, waiting| !waiting.is_finished());
        late.insert(key.operation, waiting.abort_handle());
    }
}

async fn keep_late(shared: &Shared, key: EffectKey, epoch: Epoch, said: String, reason: String) {
    let said = cut(&said, shared.config.output_bytes_max);
    let late = LateResult { key, epoch, at: shared.now(), said, reason };
    if let Err(error) = shared.log.keep_late(late).await {
        tracing::warn!(%key, %error, "a late result could not be kept");
    }
}

enum Waited {
    Answered(Result<Output, Error>),
    GaveUp(String),
    Lost,
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
