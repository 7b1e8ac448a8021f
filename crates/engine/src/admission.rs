//! Lets alerts in: a new operation, a join, a counted repeat, or the next run of one that ended.
//!
//! There is no look before the leap: the accepting append names its claims, holds, budgets and switches, and the
//! log refuses it whole when one is in the way. Then we decide again.

use std::sync::Arc;
use std::time::Duration;

use redress_fsm::State;
use redress_operation_log::event::{Event, HoldReason};
use redress_operation_log::fold::{Draft, Sealed};
use redress_operation_log::{
    AlertRecord, Append, Begin, Claim, Entry, Error, Join, NewAlert, Operation, Payload, Post, Recorded,
    Repeat, Request,
};
use redress_strategy::Strategy;
use redress_types::{Alert, AlertId, Delivery, Epoch, OperationId, Severity, Source, Status, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::commit::{self, Extras, OnStop};
use crate::decide::{self, Input};
use crate::driver::Driver;
use crate::escalation;
use crate::own_alert;
use crate::receipt::{Disposition, Receipt, SubmitError};
use crate::shared::Shared;

/// Alert names that watch the watcher: they never start an operation (safety rule 20).
const DEAD_MAN_ALERTS: [&str; 3] = ["Watchdog", "DeadMansSwitch", "InfoInhibitor"];

/// How often admission decides again before it asks the sender to come back.
const ROUNDS_MAX: u32 = 32;

/// Takes a delivery from outside; the answer is given only after it is durable.
pub(crate) async fn submit(shared: &Arc<Shared>, delivery: Delivery) -> Result<Receipt, SubmitError> {
    if let Some(what) = own_alert::taken_for_own(&delivery.alert) {
        return Err(SubmitError::Unstorable(Error::Unstorable { what }));
    }
    submit_own(shared, delivery).await
}

/// Takes a delivery from wherever it comes, the engine itself included.
pub(crate) async fn submit_own(shared: &Arc<Shared>, delivery: Delivery) -> Result<Receipt, SubmitError> {
    if shared.stopping.is_cancelled() || !shared.may_act() {
        return Err(SubmitError::Stopping);
    }
    if let Some(why) = shared.clock_is_off() {
        return Err(SubmitError::Unavailable(Error::Unavailable { what: why, source: None }));
    }
    if let Some(what) = too_large(shared, &delivery) {
        return Err(SubmitError::Unstorable(Error::Unstorable { what }));
    }
    match delivery.status {
        Status::Firing => firing(shared, &delivery).await,
        Status::Resolved { ends_at } => resolved(shared, &delivery.alert.id, ends_at).await,
    }
}

/// Which of the engine's limits an alert is over, and what is expected.
fn too_large(shared: &Shared, delivery: &Delivery) -> Option<String> {
    let alert = &delivery.alert;
    let (labels, labels_max) = (alert.labels.len(), shared.config.labels_max);
    if labels > labels_max {
        return Some(format!("alert {}: has {labels} labels; at most {labels_max} are taken", alert.id));
    }
    let texts = [&alert.service, &alert.component, &alert.version, &alert.title];
    let optional = [&alert.metric, &alert.suggested_action];
    let bytes = alert.labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        + texts.iter().map(|text| text.len()).sum::<usize>()
        + optional.iter().filter_map(|text| text.as_ref()).map(String::len).sum::<usize>()
        + delivery.original.as_ref().map_or(0, |original| original.len());
    let bytes_max = shared.config.alert_bytes_max;
    (bytes > bytes_max)
        .then(|| format!("alert {}: has {bytes} bytes; at most {bytes_max} are taken", alert.id))
}

async fn firing(shared: &Arc<Shared>, delivery: &Delivery) -> Result<Receipt, SubmitError> {
    let alert = Arc::new(delivery.alert.clone());
    let mut run = Run { id: alert.id.clone(), base: alert.id.clone(), n: 1 };
    // The id and time are drawn once: a repeated append is then the same append.
    let mut begin = Beginning::new(shared, delivery, &alert, &run);
    for _ in 0..ROUNDS_MAX {
        match begin.append(shared).await {
            Ok(receipt) => {
                seen_again(shared, &run).await;
                return Ok(receipt);
            }
            Err(Error::KnownAlert(known)) => match known_alert(shared, delivery, *known, &run).await? {
                Known::Answered(receipt) => return Ok(receipt),
                Known::RunAgain(again) => {
                    run = again;
                    begin = Beginning::new(shared, delivery, &alert, &run);
                }
            },
            Err(Error::Lost { claim: Claim::Fingerprint(_) | Claim::Sameness(_), holder }) => {
                if let Some(receipt) = join(shared, delivery, &alert, &run, holder).await? {
                    if receipt.disposition == Disposition::Joined {
                        seen_again(shared, &run).await;
                    }
                    return Ok(receipt);
                }
            }
            Err(Error::Lost { claim: claim @ Claim::Slot(_), holder }) => {
                let reason = HoldReason::TargetBusy { slot: claim.key().to_owned(), holder };
                begin.held = Some((reason, Timestamp::MAX));
            }
            Err(Error::NotNow { reason, until }) => {
                // The next run of an ended alert is not worth waiting for: the sender repeats. When the problem has
                // used up its attempts, a person is called, and for that it must be an operation.
                if run.n > 1 && !escalation::calls_a_person(&reason) {
                    return repeat(shared, &run.base, delivery, false).await;
                }
                begin.held = Some((reason, until));
            }
            Err(error @ Error::Unstorable { .. }) => return Err(SubmitError::Unstorable(error)),
            Err(error) => return Err(SubmitError::Unavailable(error)),
        }
    }
    let what = format!("admission of alert {} changed its mind {ROUNDS_MAX} times", run.id);
    Err(SubmitError::Unavailable(Error::Unavailable { what, source: None }))
}

/// Which run of an alert this is.
struct Run {
    id: AlertId,
    base: AlertId,
    n: u32,
}

/// A new operation, while it is being admitted.
struct Beginning<'a> {
    id: OperationId,
    alert: Arc<Alert>,
    strategy: Option<&'a Strategy>,
    skip: Option<String>,
    held: Option<(HoldReason, Timestamp)>,
    new_alert: NewAlert,
    payload: Option<Payload>,
    now: Timestamp,
}

impl<'a> Beginning<'a> {
    fn new(shared: &'a Shared, delivery: &Delivery, alert: &Arc<Alert>, run: &Run) -> Self {
        let now = shared.now();
        let alert = if run.n == 1 {
            Arc::clone(alert)
        } else {
            Arc::new(Alert { id: run.id.clone(), ..Alert::clone(alert) })
        };
        let skip = reason_to_skip(&alert);
        let strategy = if skip.is_some() { None } else { shared.strategy_for(&alert) };
        let skip = skip.or_else(|| match strategy {
            None => Some("no strategy applies to it".to_owned()),
            Some(strategy) => not_narrowed(strategy, &alert),
        });
        let strategy = strategy.filter(|_| skip.is_none());
        let new_alert = new_alert(&alert, run, now);
        let payload = delivery
            .original
            .as_ref()
            .map(|bytes| Payload { salt: shared.environment.ids.salt(), bytes: Arc::clone(bytes) });
        let id = shared.environment.ids.operation();
        Self { id, alert, strategy, skip, held: None, new_alert, payload, now }
    }

    /// Appends the first entry: accepted, and admitted, held or skipped.
    async fn append(&self, shared: &Arc<Shared>) -> Result<Receipt, Error> {
        // While the log does not answer, what waits for it is bounded too: beyond that the sender comes back.
        let Ok(accepting) = Arc::clone(&shared.accepting).try_acquire_owned() else {
            return Err(Error::Unavailable { what: "too many alerts wait for the log".into(), source: None });
        };
        // Without a permit it is accepted and waits for one, held by nobody.
        let permit = Arc::clone(&shared.permits).try_acquire_owned().ok();
        let epoch = Epoch(1);
        let sealed = self.decide(shared, epoch, permit.is_some())?;
        let extras = Extras {
            begin: Some(Box::new(self.begin())),
            claims: self.claims(&sealed.operation),
            payloads: self.payload.iter().cloned().collect(),
        };
        let append = commit::append(shared, &sealed, epoch, extras);
        let operation = Arc::new(sealed.operation);
        // In a task of its own, so that a sender that goes away loses nothing: what was begun is driven.
        let (tell, told) = oneshot::channel();
        let begun =
            Begun { shared: Arc::clone(shared), operation: Arc::clone(&operation), epoch, permit, accepting };
        shared.tasks.spawn(begun.append_and_drive(append, sealed.entry, tell));
        let patience = shared.config.submit_timeout;
        match tokio::time::timeout(patience, told).await {
            Ok(Ok(answer)) => answer?,
            Ok(Err(_)) | Err(_) => {
                let what = format!("no answer from the log within {patience:?}");
                return Err(Error::Unavailable { what, source: None });
            }
        }
        Ok(Receipt {
            operation: Some(operation.id),
            disposition: Disposition::Accepted(operation.state),
            alert: Some(record_of(&self.new_alert, operation.id, false)),
            shared: Arc::clone(shared),
        })
    }

    fn decide(&self, shared: &Shared, epoch: Epoch, permit: bool) -> Result<Sealed, Error> {
        let unstorable = |what: String| Error::Unstorable { what };
        let mut writer = shared.writer(epoch);
        writer.now = self.now;
        let accepted = Event::Accepted {
            alert: Arc::clone(&self.alert),
            target: self.alert.target(),
            strategy: self.strategy.map(|strategy| strategy.name().to_owned()),
            plan: self.strategy.map(|strategy| strategy.plan().hash),
            sameness: self.strategy.map(|strategy| strategy.sameness(&self.alert.target(), &self.alert)),
        };
        let plan = self.strategy.map(|strategy| Arc::clone(strategy.plan()));
        let mut draft =
            Draft::begin(self.id, writer, accepted, plan).map_err(|error| unstorable(error.to_string()))?;
        let decided = if let Some(reason) = &self.skip {
            draft.push(Event::Skipped { reason: reason.clone() }).map(|()| draft)
        } else if let Some((reason, until)) = &self.held {
            let until = (*until).min(decide::waiting_limit(draft.operation()));
            decide::decide(draft, &[Input::Held(reason.clone(), until)])
        } else if permit {
            decide::decide(draft, &[Input::Admitted])
        } else {
            Ok(draft)
        };
        let mut draft = decided.map_err(|error| unstorable(error.to_string()))?;
        draft.set_payloads(self.payload.iter().map(Payload::hash).collect());
        draft.seal().map_err(|error| unstorable(format!("alert {}: {error}", self.alert.id)))
    }

    fn begin(&self) -> Begin {
        Begin {
            name: self.id.name(&self.alert.fingerprint),
            alert: self.new_alert.clone(),
            target: self.alert.target(),
            strategy: self.strategy.map(|strategy| strategy.name().to_owned()),
            plan: self.strategy.map(|strategy| Arc::clone(strategy.plan())),
            level: self.alert.level,
            title: self.alert.title.clone(),
        }
    }

    /// Fingerprint first: an alert of the same problem joins before one of the same remedy.
    fn claims(&self, operation: &Operation) -> Vec<Claim> {
        if operation.state.is_ended() {
            return Vec::new();
        }
        let fingerprint = Claim::Fingerprint(self.alert.fingerprint.to_string());
        std::iter::once(fingerprint).chain(operation.sameness.clone().map(Claim::Sameness)).collect()
    }
}

/// An operation whose first entry is on its way.
struct Begun {
    shared: Arc<Shared>,
    operation: Arc<Operation>,
    epoch: Epoch,
    permit: Option<OwnedSemaphorePermit>,
    accepting: OwnedSemaphorePermit,
}

impl Begun {
    async fn append_and_drive(
        self,
        append: Arc<Append>,
        entry: Entry,
        tell: oneshot::Sender<Result<(), Error>>,
    ) {
        let Self { shared, operation, epoch, permit, accepting } = self;
        let held = append.standing.held;
        let recorded = match commit::append_for_certain(&shared, append, OnStop::Leave).await {
            Ok(recorded) => recorded,
            Err(error) => {
                // Nobody waits for it any more: then there is nobody to tell.
                let _ = tell.send(Err(error));
                return;
            }
        };
        drop(accepting);
        commit::observe(&shared, &operation, entry);
        if !held || !recorded.current {
            drop(permit);
            shared.work.notify_one();
            let _ = tell.send(Ok(()));
            return;
        }
        let Recorded { inbox, switches, .. } = recorded;
        let driver = Driver::new(Arc::clone(&shared), operation, epoch, inbox, switches);
        let _ = tell.send(Ok(()));
        driver.run().await;
        drop(permit);
    }
}

fn reason_to_skip(alert: &Alert) -> Option<String> {
    if alert.service.is_empty() {
        return Some("the alert names no service".into());
    }
    if alert.service == own_alert::SERVICE {
        return Some("Redress does not remediate itself".into());
    }
    if alert.severity == Severity::Info {
        return Some("severity info starts nothing".into());
    }
    let name = alert.labels.get("alertname")?;
    DEAD_MAN_ALERTS
        .contains(&name.as_str())
        .then(|| format!("{name} watches the monitoring itself and starts nothing"))
}

/// Of an alert that does not say which part of the target it means, nobody can say what it would act beside.
fn not_narrowed(strategy: &Strategy, alert: &Alert) -> Option<String> {
    let lacks = |label: &&String| alert.labels.get(label.as_str()).is_none_or(String::is_empty);
    let label = strategy.plan().plan.slot_labels.iter().find(lacks)?;
    Some(format!(
        "strategy {:?} narrows its targets by the label {label:?}, which the alert does not have",
        strategy.name()
    ))
}

fn new_alert(alert: &Alert, run: &Run, now: Timestamp) -> NewAlert {
    NewAlert {
        id: run.id.clone(),
        base: run.base.clone(),
        n: run.n,
        fingerprint: alert.fingerprint.clone(),
        service: alert.service.clone(),
        alert_since: alert.alert_since,
        seen_at: now,
    }
}

fn record_of(new: &NewAlert, operation: OperationId, joined: bool) -> AlertRecord {
    AlertRecord {
        id: new.id.clone(),
        base: new.base.clone(),
        n: new.n,
        runs: new.n,
        fingerprint: new.fingerprint.clone(),
        service: new.service.clone(),
        alert_since: new.alert_since,
        operation,
        joined,
        count: 1,
        first_seen: new.seen_at,
        last_seen: new.seen_at,
        conflicts: 0,
        outcome: None,
    }
}

enum Known {
    Answered(Receipt),
    RunAgain(Run),
}

/// A known alert id: a conflict, a live repeat of an ended one that may run again, or a repeat.
async fn known_alert(
    shared: &Arc<Shared>,
    delivery: &Delivery,
    known: AlertRecord,
    run: &Run,
) -> Result<Known, SubmitError> {
    let alert = &delivery.alert;
    if known.service != alert.service || known.alert_since != alert.alert_since {
        if delivery.source == Source::Native {
            count(shared, &known.id, true).await?;
            let (service, alert_since) = (alert.service.clone(), alert.alert_since);
            return Err(SubmitError::Conflict { known: Box::new(known), service, alert_since });
        }
        return repeat(shared, &known.id, delivery, true).await.map(Known::Answered);
    }
    if let Source::Webhook { repeat_interval } = delivery.source
        && run.n == 1
        && let Some(next) = next_run(shared, &known, repeat_interval).await?
    {
        return Ok(Known::RunAgain(next));
    }
    repeat(shared, &run.base, delivery, false).await.map(Known::Answered)
}

/// The next run of an alert whose last run has ended, when this delivery is live and the run was a real one.
async fn next_run(
    shared: &Shared,
    known: &AlertRecord,
    repeat_interval: Duration,
) -> Result<Option<Run>, SubmitError> {
    let live = shared.now().since(known.last_seen) <= repeat_interval.saturating_mul(2);
    if !live {
        return Ok(None);
    }
    let last = match known.base.nth(known.runs) {
        Some(id) if known.runs > 1 => shared.log.alert(&id).await.map_err(SubmitError::Unavailable)?,
        Some(_) | None => Some(known.clone()),
    };
    let Some(last) = last else { return Ok(None) };
    let state = match &last.outcome {
        Some(outcome) => Some(outcome.state),
        None => shared
            .log
            .operation(last.operation)
            .await
            .map_err(SubmitError::Unavailable)?
            .map(|head| head.state),
    };
    let ran_and_ended = matches!(state, Some(State::Restored | State::Failed | State::TimedOut));
    let n = known.runs + 1;
    Ok(known.base.nth(n).filter(|_| ran_and_ended).map(|id| Run { id, base: known.base.clone(), n }))
}

/// A further run is a delivery of the base id too: else the next repeat of its sender would not look live.
async fn seen_again(shared: &Shared, run: &Run) {
    if run.n == 1 {
        return;
    }
    if let Err(error) = count(shared, &run.base, false).await {
        // The run is durable and answered. At worst the next repeat is taken for a replay.
        tracing::warn!(alert = %run.base, %error, "a delivery could not be counted on the base id");
    }
}

async fn count(shared: &Shared, id: &AlertId, conflict: bool) -> Result<AlertRecord, SubmitError> {
    let repeat = Repeat { id: id.clone(), at: shared.now(), conflict };
    shared.log.repeat(repeat).await.map_err(SubmitError::Unavailable)
}

async fn repeat(
    shared: &Arc<Shared>,
    id: &AlertId,
    _delivery: &Delivery,
    conflict: bool,
) -> Result<Receipt, SubmitError> {
    let record = count(shared, id, conflict).await?;
    let disposition = if conflict { Disposition::Conflicting } else { Disposition::Repeated };
    Ok(Receipt {
        operation: Some(record.operation),
        disposition,
        alert: Some(record),
        shared: Arc::clone(shared),
    })
}

/// Counts the alert on the operation that has its claim. `None`: that has ended meanwhile, decide again.
async fn join(
    shared: &Arc<Shared>,
    delivery: &Delivery,
    alert: &Arc<Alert>,
    run: &Run,
    holder: OperationId,
) -> Result<Option<Receipt>, SubmitError> {
    let content = if run.n == 1 {
        Arc::clone(alert)
    } else {
        Arc::new(Alert { id: run.id.clone(), ..Alert::clone(alert) })
    };
    let join = Join {
        operation: holder,
        alert: new_alert(alert, run, shared.now()),
        content,
        actor: shared.actor.clone(),
    };
    match shared.log.join(join).await {
        Ok(delivered) => {
            shared.ring(holder);
            shared.work.notify_one();
            Ok(Some(Receipt {
                operation: Some(holder),
                disposition: Disposition::Joined,
                alert: Some(delivered.record),
                shared: Arc::clone(shared),
            }))
        }
        Err(Error::Ended { .. } | Error::Lost { .. } | Error::NotFound(_)) => Ok(None),
        // A repeated join whose first answer was lost, or a second delivery at the same moment.
        Err(Error::KnownAlert(known)) => repeat(shared, &known.id, delivery, false).await.map(Some),
        Err(error @ Error::Unstorable { .. }) => Err(SubmitError::Unstorable(error)),
        Err(error) => Err(SubmitError::Unavailable(error)),
    }
}

/// A source's word that an alert is over: one vote, handed to the operation that counts the alert.
async fn resolved(shared: &Arc<Shared>, id: &AlertId, ends_at: Timestamp) -> Result<Receipt, SubmitError> {
    let ignored = |alert: Option<AlertRecord>| Receipt {
        operation: alert.as_ref().map(|alert| alert.operation),
        disposition: Disposition::Ignored,
        alert,
        shared: Arc::clone(shared),
    };
    let Some(base) = shared.log.alert(id).await.map_err(SubmitError::Unavailable)? else {
        return Ok(ignored(None));
    };
    let last = match base.base.nth(base.runs) {
        Some(last) if base.runs > 1 => shared.log.alert(&last).await.map_err(SubmitError::Unavailable)?,
        Some(_) | None => None,
    };
    let record = last.unwrap_or(base);
    let post = Post {
        operation: record.operation,
        key: format!("resolved:{}:{}", record.id, ends_at.as_micros()),
        request: Request::Resolved { alert: record.id.clone(), ends_at },
        actor: shared.actor.clone(),
        at: shared.now(),
    };
    match shared.log.post(post).await {
        Ok(_) => {
            shared.ring(record.operation);
            shared.work.notify_one();
            Ok(Receipt {
                operation: Some(record.operation),
                disposition: Disposition::Resolved,
                alert: Some(record),
                shared: Arc::clone(shared),
            })
        }
        Err(Error::Ended { .. } | Error::NotFound(_) | Error::DifferentContent { .. }) => {
            Ok(ignored(Some(record)))
        }
        Err(error) => Err(SubmitError::Unavailable(error)),
    }
}
