//! Delivers what entries owe the world, whatever happens next: rows of the outbox, through the same
//! [`ActionExecutor`](redress_action::ActionExecutor) trait, under keys of their own. A row is tried until it is done;
//! only what can never be done is handed to a person. Never delays an operation.
//!
//! The alert about a row that keeps failing is in [`crate::own_alert`].

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use redress_action::{Call, CancellationToken, Error};
use redress_operation_log::event::Event;
use redress_operation_log::{OutboxOutcome, OutboxRequest, OutboxRow, OutboxSettled};
use redress_strategy::{Tries, backoff};
use redress_types::{Alert, EffectKey, Epoch, Phase, Target, Timestamp};
use tokio::task::JoinSet;

use crate::config::cut;
use crate::own_alert;
use crate::shared::Shared;

/// How far apart the tries of a row are. There is no last one.
const TRIES: Tries = Tries { max: u32::MAX, backoff_ms: 500, backoff_max_ms: 300_000 };

/// How long one delivery may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// From so many tries on, or after so long and a few, a row fails for long: a person is to know.
const LONG_TRIES: u32 = 10;
const LONG: Duration = Duration::from_secs(120);
const LONG_MIN_TRIES: u32 = 3;

/// How long it waits for the next try when the alert about a row could not be raised.
const UNRAISED: Duration = Duration::from_secs(5);

/// How often the outbox is looked at when nothing rings: for tries whose time has come, and for rows that are left by
/// an earlier configuration or by other engines that are gone. An engine that owes nothing itself has only those.
const POLL: Duration = Duration::from_secs(1);
const IDLE_POLL: Duration = Duration::from_secs(5);

/// Delivers until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut deliveries = JoinSet::new();
    let poll = shared.config.poll.max(if shared.obligations.is_empty() { IDLE_POLL } else { POLL });
    loop {
        while deliveries.len() < shared.config.outbox_at_work_max {
            let room = shared.config.outbox_at_work_max - deliveries.len();
            let rows = due(&shared, room).await;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                deliveries.spawn(deliver(Arc::clone(&shared), row));
            }
        }
        tokio::select! {
            () = shared.stopping.cancelled() => break,
            () = shared.lost.cancelled() => break,
            () = shared.owed.notified() => {}
            Some(_) = deliveries.join_next() => {}
            () = tokio::time::sleep(poll) => {}
        }
    }
    // What is under way is settled or, dropped, tried again under its key.
    let settling = async { while deliveries.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(shared.config.grace, settling).await;
}

async fn due(shared: &Shared, limit: usize) -> Vec<OutboxRow> {
    let now = shared.now();
    let until = now.plus(TIMEOUT + shared.config.lease);
    let executors = shared.registry.executor_names();
    let request = OutboxRequest { session: shared.session_id(), now, until, limit, executors };
    match shared.log.outbox_due(request).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(%error, "cannot read the outbox");
            Vec::new()
        }
    }
}

async fn deliver(shared: Arc<Shared>, row: OutboxRow) {
    let Some(how) = attempt(&shared, &row).await else { return };
    let settled = OutboxSettled { position: row.position, index: row.index, at: shared.now(), how };
    if let Err(error) = shared.log.outbox_settle(shared.session_id(), settled).await {
        // It stays owed, and is tried again under its key.
        tracing::warn!(operation = %row.operation, %error, "a delivery could not be settled");
    }
}

/// How one try went; `None`: the lease was over before it, and somebody else delivers.
async fn attempt(shared: &Arc<Shared>, row: &OutboxRow) -> Option<OutboxOutcome> {
    let owing = match owing(shared, row).await {
        Ok(owing) => owing,
        Err(why) => {
            if row.tries.saturating_add(1) >= LONG_TRIES {
                raise_for_unread(shared, row, &why).await;
            }
            return Some(again(shared, row, why, None));
        }
    };
    let (Some(executor), Some(call)) =
        (shared.registry.executor(&row.executor), build_call(shared, row, &owing))
    else {
        let error = format!("there is no executor {}, or the row's content is not JSON", row.executor);
        return Some(handed(shared, row, &owing, error).await);
    };
    if !shared.may_act() {
        return None;
    }
    let executing = AssertUnwindSafe(executor.execute(&call)).catch_unwind();
    let kept = |text: &str| cut(text, shared.config.output_bytes_max);
    let (error, retry_after) = match tokio::time::timeout(TIMEOUT, executing).await {
        Ok(Ok(Ok(_))) => return Some(OutboxOutcome::Done),
        Ok(Ok(Err(Error::Permanent { reason }))) => {
            return Some(handed(shared, row, &owing, kept(&reason)).await);
        }
        Ok(Ok(Err(Error::Retryable { reason, retry_after } | Error::Unknown { reason, retry_after }))) => {
            (kept(&reason), retry_after)
        }
        Ok(Err(_)) => ("the executor panicked".to_owned(), None),
        Err(_) => ("no answer in time".to_owned(), None),
    };
    if fails_for_long(shared, row, &owing) {
        // Not raised now is raised after the next try.
        let _ = raise(shared, row, &owing, &error).await;
    }
    Some(again(shared, row, error, retry_after))
}

fn fails_for_long(shared: &Shared, row: &OutboxRow, owing: &Owing) -> bool {
    let tries = row.tries.saturating_add(1);
    tries >= LONG_TRIES || (tries >= LONG_MIN_TRIES && shared.now().since(owing.since) >= LONG)
}

/// A person gets it, once the alert that says so is durable: nothing would ever look at the row again.
async fn handed(shared: &Arc<Shared>, row: &OutboxRow, owing: &Owing, error: String) -> OutboxOutcome {
    match raise(shared, row, owing, &error).await {
        Ok(()) => OutboxOutcome::Handed { error },
        Err(why) => {
            tracing::warn!(operation = %row.operation, %why, "the alert about a delivery could not be raised");
            OutboxOutcome::Again { at: shared.now().plus(UNRAISED), error }
        }
    }
}

async fn raise(shared: &Arc<Shared>, row: &OutboxRow, owing: &Owing, error: &str) -> Result<(), String> {
    let (since, target) = (owing.since, &owing.target);
    raise_about(shared, row, own_alert::About { operation: row.operation, target, since, error }).await
}

async fn raise_about(
    shared: &Arc<Shared>,
    row: &OutboxRow,
    about: own_alert::About<'_>,
) -> Result<(), String> {
    let error = about.error;
    if shared.quiet.contains(&row.executor) {
        tracing::error!(operation = %row.operation, executor = row.executor, error, "owed, and fails; nobody is called");
        return Ok(());
    }
    if about.target.service == own_alert::SERVICE {
        // An alert about what an alert owes would lead to the next one, for ever.
        tracing::error!(operation = %row.operation, error, "what an alert about Redress owes cannot be delivered");
        return Ok(());
    }
    own_alert::raise(shared, row, about).await
}

/// What is owed cannot even be read: then the alert says what the row and the head say. The row is tried on: another
/// engine may read it.
async fn raise_for_unread(shared: &Arc<Shared>, row: &OutboxRow, why: &str) {
    let Ok(head) = shared.log.operation(row.operation).await else { return };
    let (target, since) = match head {
        Some(head) => (head.target, head.updated_at),
        None => (Target { environment: String::new(), service: String::new() }, row.due_at),
    };
    let about = own_alert::About { operation: row.operation, target: &target, since, error: why };
    // Not raised now is raised after the next try.
    let _ = raise_about(shared, row, about).await;
}

fn again(shared: &Shared, row: &OutboxRow, error: String, retry_after: Option<Duration>) -> OutboxOutcome {
    let wait = backoff::wait(&TRIES, &key(row), row.tries.saturating_add(1), retry_after);
    OutboxOutcome::Again { at: shared.now().plus(wait), error }
}

/// `{operation_id}:outbox:{seq}:{index}`. An entry's seq fits: an operation has few entries.
fn key(row: &OutboxRow) -> EffectKey {
    let attempt = u32::try_from(row.seq).unwrap_or(u32::MAX);
    EffectKey { operation: row.operation, phase: Phase::Outbox, attempt, step: row.index }
}

/// The operation that owes a row.
struct Owing {
    alert: Arc<Alert>,
    target: Target,
    epoch: Epoch,
    /// When the entry that owes it was written.
    since: Timestamp,
}

async fn owing(shared: &Shared, row: &OutboxRow) -> Result<Owing, String> {
    let entry = |after| async move {
        let entries = shared.log.entries(row.operation, after, 1).await.map_err(|error| error.to_string())?;
        let stored = entries.first().ok_or("its operation has no such entry")?;
        stored.read().map_err(|error| error.to_string())
    };
    let first = entry(0).await?;
    let Some(Event::Accepted { alert, target, .. }) = first.events.first() else {
        return Err("its operation does not begin with accepted".to_owned());
    };
    let since = if row.seq <= 1 { first.recorded_at } else { entry(row.seq - 1).await?.recorded_at };
    let head = shared.log.operation(row.operation).await.map_err(|error| error.to_string())?;
    let epoch = head.map_or(Epoch(0), |head| head.epoch);
    Ok(Owing { alert: Arc::clone(alert), target: target.clone(), epoch, since })
}

fn build_call(shared: &Shared, row: &OutboxRow, owing: &Owing) -> Option<Call> {
    let parameters: serde_json::Value = serde_json::from_slice(&row.content).ok()?;
    let configuration = shared.registry.executor(&row.executor)?.configuration();
    Some(Call {
        key: key(row),
        fencing: shared.fencing(owing.epoch),
        try_number: row.tries.saturating_add(1),
        alert: Arc::clone(&owing.alert),
        target: owing.target.clone(),
        configuration: Arc::new(configuration),
        parameters: Arc::new(parameters),
        timeout: TIMEOUT,
        cancel: CancellationToken::new(),
    })
}
