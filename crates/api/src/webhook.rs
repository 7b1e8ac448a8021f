//! `POST /v1/integrations/alertmanager/webhook` (contracts §2).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State as Shared};
use redress_engine::Disposition;
use redress_ingest::{Kind, Parsed, parse_alerts};
use redress_types::Status;
use serde_json::{Value, json};

use crate::error::Error;
use crate::service::State;
use crate::submit::{self, Became};
use crate::{alerts, body, pull};

/// Takes a webhook body: all or nothing when it is malformed, answered when every alert of it is durable.
///
/// Its query is not looked at: Alertmanager does not send again what is answered 400, and the alerts would be lost.
pub(crate) async fn webhook(
    Shared(state): Shared<Arc<State>>,
    request: Request,
) -> Result<Json<Value>, Error> {
    state.webhook_access.check(request.headers())?;
    alerts::not_from_a_page(request.headers())?;
    let whole = body::read(&state, request).await?;
    let options = state.webhook_options();
    let Parsed { mut deliveries, truncated, group, kind } = parse_alerts(&whole.bytes, &options)?;
    match kind {
        Kind::Webhook => {}
        Kind::Message | Kind::Messages => {
            let problem =
                "is missing; this address takes Alertmanager's webhook, /v1/alerts takes alert messages";
            return Err(Error::parameter("alerts", problem));
        }
    }
    if truncated > 0 {
        state.counted.truncated(truncated);
        let key = group.as_ref().map_or("", |group| group.key.as_str());
        tracing::warn!(truncated, group = key, "Alertmanager left alerts out of a webhook (max_alerts)");
    }
    if let Some(group) = &group {
        let left_out = pull::left_out(&state, group, &deliveries, &options).await;
        deliveries.extend(left_out);
    }
    let fires = deliveries.iter().any(|delivery| matches!(delivery.status, Status::Firing));
    let became = submit::submit(&state, deliveries).await?;
    answer(&state, &became, fires)
}

fn answer(state: &State, became: &[Became], fires: bool) -> Result<Json<Value>, Error> {
    if let Some(error) = submit::unavailable(state, became) {
        return Err(error);
    }
    if let Some(error) = submit::unstorable(became) {
        return Err(error);
    }
    let dispositions = || {
        became.iter().filter_map(|one| match one {
            Became::Taken(receipt) => Some(&receipt.disposition),
            Became::Conflict { .. } | Became::Unstorable(_) | Became::Unavailable => None,
        })
    };
    // A webhook's conflict is recorded by the engine, never refused; were it refused, it is a conflict all the same.
    let recorded = dispositions().filter(|one| matches!(one, Disposition::Conflicting)).count();
    let refused = became.iter().filter(|one| matches!(one, Became::Conflict { .. })).count();
    if recorded + refused > 0 {
        state.counted.conflicts(recorded + refused);
        tracing::warn!(alerts = recorded + refused, "a webhook names alerts that stand for others");
    }
    let resolves = dispositions().any(|one| matches!(one, Disposition::Resolved));
    if !fires && !resolves {
        return Ok(Json(json!({"ok": true, "msg": "ignored (not firing)"})));
    }
    let new = |one: &&Disposition| matches!(one, Disposition::Accepted(_) | Disposition::Joined);
    Ok(Json(json!({"ok": true, "created": dispositions().filter(new).count()})))
}
