//! Delivers what entries owe the world, whatever happens next: rows of the outbox, through the same
//! [`ActionExecutor`](redress_action::ActionExecutor) trait, under keys of their own, retried until done or
//! given to a person. Never delays an operation.

use std::sync::Arc;
use std::time::Duration;

use redress_action::{Call, CancellationToken, Error};
use redress_operation_log::event::Event;
use redress_operation_log::{Operation, OutboxOutcome, OutboxRow, OutboxSettled, Owe};
use redress_strategy::{Tries, backoff};
use redress_types::{EffectKey, Epoch, Phase};
use tokio::task::JoinSet;

use crate::config::cut;
use crate::shared::Shared;

/// Says what an entry owes. Pure: called while the entry is being appended.
pub trait Obligations: Send + Sync + 'static {
    /// The effects that these events owe. `operation` is as it stands after them.
    fn owed(&self, operation: &Operation, events: &[Event]) -> Vec<Owe>;
}

/// How often a row is tried, and how far apart, before a person gets it: about a day.
const TRIES: Tries = Tries { max: 300, backoff_ms: 500, backoff_max_ms: 300_000 };

/// How long one delivery may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Delivers until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut deliveries = JoinSet::new();
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
            () = tokio::time::sleep(shared.config.poll) => {}
        }
    }
    // What is under way is settled or, dropped, tried again under its key.
    let settling = async { while deliveries.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(shared.config.grace, settling).await;
}

async fn due(shared: &Shared, limit: usize) -> Vec<OutboxRow> {
    let now = shared.now();
    let until = now.plus(TIMEOUT + shared.config.lease);
    match shared.log.outbox_due(shared.session_id(), now, until, limit).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(%error, "cannot read the outbox");
            Vec::new()
        }
    }
}

async fn deliver(shared: Arc<Shared>, row: OutboxRow) {
    let how = attempt(&shared, &row).await;
    let settled = OutboxSettled { position: row.position, index: row.index, at: shared.now(), how };
    if let Err(error) = shared.log.outbox_settle(shared.session_id(), settled).await {
        // It stays owed, and is tried again under its key.
        tracing::warn!(operation = %row.operation, %error, "a delivery could not be settled");
    }
}

async fn attempt(shared: &Shared, row: &OutboxRow) -> OutboxOutcome {
    let Some(executor) = shared.registry.executor(&row.executor) else {
        let error = format!("this engine has no executor {}", row.executor);
        return OutboxOutcome::Again { at: shared.now().plus(Duration::from_secs(30)), error };
    };
    let key = key(row);
    let call = match build_call(shared, row, key).await {
        Ok(call) => call,
        Err(error) => return again(shared, row, key, error, None),
    };
    let answer = tokio::time::timeout(TIMEOUT, executor.execute(&call)).await;
    let kept = |text: &str| cut(text, shared.config.output_bytes_max);
    match answer {
        Ok(Ok(_)) => OutboxOutcome::Done,
        Ok(Err(Error::Permanent { reason })) => OutboxOutcome::Handed { error: kept(&reason) },
        Ok(Err(Error::Retryable { reason, retry_after } | Error::Unknown { reason, retry_after })) => {
            again(shared, row, key, kept(&reason), retry_after)
        }
        Err(_) => again(shared, row, key, "no answer in time".to_owned(), None),
    }
}

fn again(
    shared: &Shared,
    row: &OutboxRow,
    key: EffectKey,
    error: String,
    retry_after: Option<Duration>,
) -> OutboxOutcome {
    let try_number = row.tries + 1;
    if try_number >= TRIES.max {
        return OutboxOutcome::Handed { error };
    }
    let wait = backoff::wait(&TRIES, &key, try_number, retry_after);
    OutboxOutcome::Again { at: shared.now().plus(wait), error }
}

/// `{operation_id}:outbox:{seq}:{index}`. An entry's seq fits: an operation has few entries.
fn key(row: &OutboxRow) -> EffectKey {
    let attempt = u32::try_from(row.seq).unwrap_or(u32::MAX);
    EffectKey { operation: row.operation, phase: Phase::Outbox, attempt, step: row.index }
}

async fn build_call(shared: &Shared, row: &OutboxRow, key: EffectKey) -> Result<Call, String> {
    let parameters: serde_json::Value =
        serde_json::from_slice(&row.content).map_err(|error| format!("its content is not JSON: {error}"))?;
    let entries = shared.log.entries(row.operation, 0, 1).await.map_err(|error| error.to_string())?;
    let first = entries.first().ok_or("its operation has no entry")?;
    let entry = first.read().map_err(|error| error.to_string())?;
    let Some(Event::Accepted { alert, target, .. }) = entry.events.first() else {
        return Err("its operation does not begin with accepted".to_owned());
    };
    let head = shared.log.operation(row.operation).await.map_err(|error| error.to_string())?;
    let epoch = head.map_or(Epoch(0), |head| head.epoch);
    let configuration = shared
        .registry
        .executor(&row.executor)
        .map_or(serde_json::Value::Null, |executor| executor.configuration());
    Ok(Call {
        key,
        fencing: shared.fencing(epoch),
        try_number: row.tries + 1,
        alert: Arc::clone(alert),
        target: target.clone(),
        configuration: Arc::new(configuration),
        parameters: Arc::new(parameters),
        timeout: TIMEOUT,
        cancel: CancellationToken::new(),
    })
}
