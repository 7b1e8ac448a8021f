//! What every request goes through: an id, a place among those at work, a limit in time, and an answer whatever
//! happens.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request};
use axum::http::header::{CACHE_CONTROL, CONNECTION, X_CONTENT_TYPE_OPTIONS};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::error::Error;
use crate::routes::HEALTHZ;
use crate::serve::HEAD_BYTES_MAX;
use crate::service::State;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken from a client.
const REQUEST_ID_MAX: usize = 64;

/// Around every request, the refused ones included.
pub(crate) async fn around(
    axum::extract::State(state): axum::extract::State<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    let number = state.counted.request();
    let id = sane(request.headers()).unwrap_or_else(|| made(&state, number));
    let path = request.extensions().get::<MatchedPath>().map_or("(none)", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path
    );
    let started = Instant::now();
    let mut response = answered(&state, &path, request, next).instrument(span.clone()).await;
    let (status, took_ms) = (response.status().as_u16(), started.elapsed().as_millis());
    span.in_scope(|| tracing::debug!(status, took_ms, "answered"));
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn answered(state: &State, path: &str, request: Request, next: Next) -> Response {
    if head_bytes(&request) > HEAD_BYTES_MAX {
        // As the parser answers a head that does not fit its buffer.
        return (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, [(CONNECTION, "close")]).into_response();
    }
    let place = match state.requests.try_acquire() {
        Ok(place) => Some(place),
        // Whoever asks whether the process lives must not be told that it is busy.
        Err(_) if path == HEALTHZ => None,
        Err(_) => {
            state.counted.overload();
            return Error::Overloaded.into_response();
        }
    };
    let work = AssertUnwindSafe(next.run(request)).catch_unwind();
    let done = tokio::time::timeout(state.limits.request_timeout, work).await;
    drop(place);
    match done {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            state.counted.panic();
            tracing::error!("a request ended in a panic");
            Error::Internal.into_response()
        }
        Err(_) => {
            tracing::warn!("a request took too long");
            Error::unavailable("it took too long; send the request again").into_response()
        }
    }
}

/// The bytes of a request's head, written without a blank more than needed.
fn head_bytes(request: &Request) -> usize {
    let uri = request.uri();
    let path = uri.path_and_query().map_or("", PathAndQuery::as_str).len();
    // Only a proxy is sent the whole address: `http://authority/path`.
    let scheme = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let first = request.method().as_str().len() + scheme + authority + path + "  HTTP/1.1\r\n".len();
    let lines = request.headers().iter();
    let lines: usize = lines.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum();
    first + lines + "\r\n".len()
}

/// The client's own id, when it may stand in a log and in a header.
fn sane(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(REQUEST_ID)?;
    let sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    let fits = (1..=REQUEST_ID_MAX).contains(&id.len()) && id.as_bytes().iter().all(sane);
    fits.then(|| id.clone())
}

/// An id that no other request of this service has: when it was made, and which request of it this is.
fn made(state: &State, number: u64) -> HeaderValue {
    let id = format!("{:x}-{number:x}", state.started.as_micros());
    HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("none"))
}
