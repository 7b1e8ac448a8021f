//! `POST /v1/alerts`: our own alert message (contracts §1), one or a list, and what became of each.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State as Shared};
use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, StatusCode};
use redress_engine::{Disposition, Receipt};
use redress_ingest::{Kind, parse_alerts};
use redress_operation_log::AlertRecord;
use redress_types::{AlertId, OperationId, WithCauses};
use serde_json::{Value, json};

use crate::body;
use crate::error::Error;
use crate::query::Query;
use crate::service::State;
use crate::submit::{self, Became};

/// Takes alert messages: all or nothing when one is malformed, answered when every one of them is durable.
pub(crate) async fn alerts(
    Shared(state): Shared<Arc<State>>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Error> {
    state.alerts_access.check(request.headers())?;
    not_from_a_page(request.headers())?;
    let asked = Query::read(request.uri(), &[]);
    let whole = body::read(&state, request).await?;
    // Refused only now: the connection can then be used again.
    asked?;
    let parsed = parse_alerts(&whole.bytes, &state.options())?;
    match parsed.kind {
        Kind::Message | Kind::Messages => {}
        Kind::Webhook => {
            let problem = "is Alertmanager's; send its webhook to /v1/integrations/alertmanager/webhook";
            return Err(Error::parameter("alerts", problem));
        }
    }
    let ids: Vec<AlertId> = parsed.deliveries.iter().map(|delivery| delivery.alert.id.clone()).collect();
    let became = submit::submit(&state, parsed.deliveries).await?;
    if let Some(error) = submit::unavailable(&state, &became) {
        return Err(error);
    }
    let mut said = Vec::with_capacity(ids.len());
    for (id, one) in ids.iter().zip(&became) {
        said.push(say(&state, id, one).await);
    }
    let conflicts = became.iter().filter(|one| matches!(one, Became::Conflict { .. })).count();
    if conflicts > 0 {
        state.counted.conflicts(conflicts);
        return Err(conflict(&became, conflicts, &said));
    }
    if let Some(error) = submit::unstorable(&became) {
        return Err(error);
    }
    Ok((StatusCode::ACCEPTED, Json(json!({"alerts": said}))))
}

/// A browser says which page a request comes from. No page has a reason to send alerts, and one that does may be
/// reaching for a service that only listens on this machine.
pub(crate) fn not_from_a_page(headers: &HeaderMap) -> Result<(), Error> {
    match headers.contains_key(ORIGIN) {
        true => Err(Error::Forbidden("alerts are not taken from web pages (the request has an Origin)")),
        false => Ok(()),
    }
}

fn conflict(became: &[Became], conflicts: usize, said: &[Value]) -> Error {
    let first = became.iter().find_map(|one| match one {
        Became::Conflict { message, .. } => Some(message.as_str()),
        Became::Taken(_) | Became::Unstorable(_) | Became::Unavailable => None,
    });
    let others = match became.len() - conflicts {
        0 => String::new(),
        n => format!("; the other {n} were taken"),
    };
    let message = format!("{}{others}", first.unwrap_or("an id stands for another alert"));
    Error::Conflict { message, details: json!({"alerts": said}) }
}

/// What became of one alert, as its sender reads it.
async fn say(state: &State, id: &AlertId, became: &Became) -> Value {
    match became {
        Became::Taken(receipt) => taken(state, id, receipt).await,
        Became::Conflict { known, .. } => json!({
            "id": id, "status": "conflict",
            "known": {"service": known.service, "alert_since": known.alert_since.to_string()},
            "operation": operation(state, Some(known.operation), Some(known)).await,
        }),
        Became::Unstorable(problem) => json!({"id": id, "status": "refused", "problem": problem}),
        Became::Unavailable => json!({"id": id, "status": "unavailable"}),
    }
}

async fn taken(state: &State, id: &AlertId, receipt: &Receipt) -> Value {
    let status = match receipt.disposition {
        Disposition::Accepted(_) => "accepted",
        Disposition::Joined => "joined",
        Disposition::Repeated => "repeated",
        Disposition::Conflicting => "conflict",
        Disposition::Resolved => "resolved",
        Disposition::Ignored => "ignored",
    };
    let record = receipt.alert.as_ref();
    json!({
        "id": record.map_or(id, |record| &record.id),
        "status": status,
        "operation": operation(state, receipt.operation, record).await,
        "count": record.map(|record| record.count),
        "first_seen": record.map(|record| record.first_seen.to_string()),
        "last_seen": record.map(|record| record.last_seen.to_string()),
    })
}

/// The operation that an alert led to: its id, the name people read, and where it stands. The state is left out
/// when it cannot be read now: the alert is durable all the same.
async fn operation(state: &State, id: Option<OperationId>, record: Option<&AlertRecord>) -> Value {
    let Some(id) = id else { return Value::Null };
    match state.history.operation(id).await {
        Ok(Some(head)) => json!({"id": id, "name": head.name, "state": head.state}),
        Ok(None) => {
            let outcome = record.and_then(|record| record.outcome.as_ref());
            json!({"id": id, "state": outcome.map(|outcome| outcome.state), "archived": true})
        }
        Err(error) => {
            tracing::warn!(error = %WithCauses(&error), "an operation could not be read");
            json!({"id": id})
        }
    }
}
