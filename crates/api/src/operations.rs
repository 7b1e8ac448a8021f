//! `GET /v1/operations`, one of them, and its log.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use redress_fsm::State as Stands;
use redress_operation_log::{Cursor, Filter};
use redress_types::{Timestamp, parse_duration};
use serde_json::{Value, json};

use crate::error::Error;
use crate::query::{Asked, Id, Query, page, refused};
use crate::read::{self, Shown};
use crate::service::State;
use crate::shape;

/// A page of operations, newest first.
pub(crate) async fn list(asked: Asked, Shared(state): Shared<Arc<State>>) -> Result<Json<Value>, Error> {
    let query = asked.query(&["state", "service", "since", "limit", "cursor"])?;
    let filter = Filter {
        states: states(&query)?,
        service: query.text("service")?.map(str::to_owned),
        since: since(&state, &query)?,
    };
    let after = query.value::<u64>("cursor", "a `next` of a page before")?.map(Cursor);
    let found = state.history.operations(&filter, after, query.limit()?).await?;
    let items = found.operations.iter().map(shape::head).collect();
    Ok(Json(page(items, found.next.map(|Cursor(next)| next.to_string()))))
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
    asked: Asked,
    Id(id): Id,
    Shared(state): Shared<Arc<State>>,
) -> Result<Json<Value>, Error> {
    asked.query(&[])?;
    let head = read::find(&*state.history, &id).await?;
    let shown = Shown::read(&*state.history, head.id).await?;
    shape::operation(&shown).map(Json).map_err(|error| Error::internal(&error))
}

/// A page of its entries, oldest first.
pub(crate) async fn log(
    asked: Asked,
    Id(id): Id,
    Shared(state): Shared<Arc<State>>,
) -> Result<Json<Value>, Error> {
    let query = asked.query(&["limit", "cursor"])?;
    let after = query.value::<u64>("cursor", "a `next` of a page before")?.unwrap_or(0);
    let limit = query.limit()?;
    let head = read::find(&*state.history, &id).await?;
    // One more than is shown says whether there is a next page.
    let mut entries = state.history.entries(head.id, after, limit + 1).await?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().filter(|_| more).map(|last| last.seq.to_string());
    let items = entries.iter().map(shape::entry).collect::<Result<_, _>>();
    let mut page = page(items.map_err(|error| Error::internal(&error))?, next);
    page["operation"] = json!(head.id);
    Ok(Json(page))
}
