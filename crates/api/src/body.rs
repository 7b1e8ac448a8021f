//! Reads a request's body: bounded in bytes, in time, and together with all others that are read at the moment.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use axum::http::{HeaderMap, Request};
use futures_util::StreamExt as _;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::Error;
use crate::service::State;

/// What of an oversized body is read and thrown away, so that its sender reads the answer and not a broken
/// connection: as many times the limit.
const DRAINED: usize = 4;

/// The bytes of bodies are counted in units of so many.
pub(crate) const UNIT: usize = 1024;

/// A body, which takes its place among all bodies at work until it is dropped.
pub(crate) struct Whole {
    pub bytes: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

/// Reads all of it.
pub(crate) async fn read(state: &State, request: Request<Body>) -> Result<Whole, Error> {
    let (head, body) = request.into_parts();
    let max = state.limits.body_bytes_max;
    let announced = length(&head.headers);
    let asks = head.headers.contains_key(EXPECT);
    if announced.is_some_and(|length| length > max && (asks || length > max.saturating_mul(DRAINED))) {
        return Err(too_large(max));
    }
    let place = place(state, announced.unwrap_or(max).min(max))?;
    let reading = tokio::time::timeout(state.limits.body_timeout, collect(body, max, announced)).await;
    let bytes = reading.map_err(|_| Error::TooSlow)??;
    Ok(Whole { bytes, _place: place })
}

fn length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn place(state: &State, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
    let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
    let place = Arc::clone(&state.bodies).try_acquire_many_owned(units);
    place.map_err(|_| {
        state.counted.overload();
        Error::Overloaded
    })
}

async fn collect(body: Body, max: usize, announced: Option<usize>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(max));
    let mut seen = 0_usize;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Error::parameter("the body", "broke off before its end"))?;
        seen = seen.saturating_add(chunk.len());
        if seen <= max {
            bytes.extend_from_slice(&chunk);
        } else if seen > max.saturating_mul(DRAINED) {
            break;
        }
    }
    if seen > max { Err(too_large(max)) } else { Ok(bytes) }
}

fn too_large(max: usize) -> Error {
    let message = format!("the body is larger than {max} bytes; send the alerts in smaller parts");
    Error::TooLarge { message }
}
