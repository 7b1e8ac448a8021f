//! `GET /v1/operations`, one of them, and its log.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, Uri};
use redress_fsm::State as Stands;
use redress_operation_log::{Cursor, Filter};
use redress_types::{Timestamp, parse_duration};
use serde_json::{Value, json};

use crate::error::Error;
use crate::query::{Query, id, refused};
use crate::service::State;
use crate::{read, shape};

/// A page of operations, newest first.
pub(crate) async fn list(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, Error> {
    state.reading_access.check(&headers)?;
    let query = Query::read(&uri, &["state", "service", "since", "limit", "cursor"])?;
    let filter = Filter {
        states: states(&query)?,
        service: query.text("service")?.map(str::to_owned),
        since: since(&state, &query)?,
    };
    let after = query.value::<u64>("cursor", "a `next` of a page before")?.map(Cursor);
    let page = state.history.operations(&filter, after, query.limit()?).await?;
    let items: Vec<Value> = page.operations.iter().map(shape::head).collect();
    let next = page.next.map(|Cursor(next)| next.to_string()).unwrap_or_default();
    Ok(Json(json!({"items": items, "next": next})))
}

/// `state=failed,suspended`, or the name several times.
fn states(query: &Query) -> Result<Vec<Stands>, Error> {
    let words = query.all("state").flat_map(|value| value.split(','));
    words.map(|word| word.parse().map_err(|_| refused("state", word, "a state of an operation"))).collect()
}

/// A time, or how long ago.
fn since(state: &State, query: &Query) -> Result<Option<Timestamp>, Error> {
    let Some(text) = query.text("since")? else { return Ok(None) };
    if let Ok(at) = text.parse() {
        return Ok(Some(at));
    }
    match parse_duration(text) {
        Ok(ago) => Ok(Some(state.clock.now().minus(ago))),
        Err(_) => Err(refused("since", text, "a time like 2026-01-31T12:00:00Z, nor a duration like 2h")),
    }
}

/// One operation.
pub(crate) async fn one(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    uri: Uri,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Error> {
    state.reading_access.check(&headers)?;
    Query::read(&uri, &[])?;
    let head = read::find(&*state.history, &id(path)?).await?;
    Ok(Json(read::operation(&*state.history, head.id).await?))
}

/// A page of its entries, oldest first.
pub(crate) async fn log(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    uri: Uri,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Error> {
    state.reading_access.check(&headers)?;
    let query = Query::read(&uri, &["limit", "cursor"])?;
    let after = query.value::<u64>("cursor", "a `next` of a page before")?.unwrap_or(0);
    let limit = query.limit()?;
    let head = read::find(&*state.history, &id(path)?).await?;
    // One more than is shown says whether there is a next page.
    let mut entries = state.history.entries(head.id, after, limit + 1).await?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().filter(|_| more).map(|last| last.seq.to_string()).unwrap_or_default();
    let items = entries.iter().map(shape::entry).collect::<Result<Vec<Value>, _>>();
    let items = items.map_err(|error| Error::internal(&error))?;
    Ok(Json(json!({"operation": head.id, "items": items, "next": next})))
}
