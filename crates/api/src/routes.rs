//! The addresses, as one table.

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};

use crate::error::Error;
use crate::query::Query;
use crate::service::State;
use crate::{OPENAPI, alerts, around, health, issues, operations, webhook};

/// `/healthz`, which is answered whatever else is going on.
pub(crate) const HEALTHZ: &str = "/healthz";

type Handler = MethodRouter<Arc<State>>;

/// Method, path, and who answers. `{name}` in a path is one percent-encoded segment.
fn table() -> Vec<(&'static str, &'static str, Handler)> {
    vec![
        ("POST", "/v1/integrations/alertmanager/webhook", post(webhook::webhook)),
        ("POST", "/v1/alerts", post(alerts::alerts)),
        ("GET", "/v1/operations", get(operations::list)),
        ("GET", "/v1/operations/{id}", get(operations::one)),
        ("GET", "/v1/operations/{id}/log", get(operations::log)),
        ("GET", "/v1/issues", get(issues::list)),
        ("GET", "/v1/issues/{id}", get(issues::one)),
        ("GET", HEALTHZ, get(health::healthz)),
        ("GET", "/readyz", get(health::readyz)),
        ("GET", "/openapi.json", get(openapi)),
    ]
}

/// Every method and path that the service answers.
pub fn routes() -> Vec<(&'static str, &'static str)> {
    table().into_iter().map(|(method, path, _)| (method, path)).collect()
}

/// All of it, with what goes around every request.
pub(crate) fn router(state: Arc<State>) -> Router {
    let routes =
        table().into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler));
    routes
        .fallback(async || {
            Error::not_found("there is no such address; /openapi.json describes what there is")
        })
        .method_not_allowed_fallback(async || Error::MethodNotAllowed)
        .layer(from_fn_with_state(Arc::clone(&state), around::around))
        .with_state(state)
}

async fn openapi(uri: Uri) -> Result<impl IntoResponse, Error> {
    Query::read(&uri, &[])?;
    Ok(([(CONTENT_TYPE, "application/json")], OPENAPI))
}
