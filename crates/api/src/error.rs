//! [`Error`]: everything a request can be refused for, and the one place that decides its status and its code.
//!
//! The body is `{"error":{"code","message","details"}}` (contracts §6). Causes go to the log, not to the client.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use redress_operation_log::Error as LogError;
use redress_types::WithCauses;
use serde_json::{Value, json};

use crate::read;

/// How long a client that got a 503 is asked to wait, in seconds. Short: Alertmanager backs off by itself.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// Why a request was refused.
#[derive(Debug)]
pub(crate) enum Error {
    /// Something in the request is wrong, and named.
    Parameter { message: String, details: Value },
    /// No credentials, or other ones.
    Unauthorized { challenges: Vec<HeaderValue> },
    /// Not for this caller, whatever it sends.
    Forbidden(&'static str),
    /// There is no such thing.
    NotFound { message: String, details: Value },
    /// The address exists, and takes other methods.
    MethodNotAllowed,
    /// The body did not arrive in time.
    TooSlow,
    /// It contradicts what is recorded, or could mean several things.
    Conflict { message: String, details: Value },
    /// Too much at once.
    TooLarge { message: String },
    /// A defect here, or damage below. The cause has been logged.
    Internal,
    /// Too many requests at the same time.
    Overloaded,
    /// It cannot be done now. The same request again may be answered.
    Unavailable { message: String, details: Value },
}

impl Error {
    /// [`Error::Parameter`] about one named thing.
    pub(crate) fn parameter(field: &str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        let details = json!({"problems": [{"field": field, "problem": problem}]});
        Self::Parameter { message: format!("{field}: {problem}"), details }
    }

    /// [`Error::NotFound`] without more to say.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::NotFound { message: message.into(), details: json!({}) }
    }

    /// [`Error::Unavailable`] without more to say.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable { message: message.into(), details: json!({}) }
    }

    /// [`Error::Internal`]; the whole chain of causes is logged here.
    pub(crate) fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %WithCauses(cause), "a request could not be answered");
        Self::Internal
    }

    /// The status and the code.
    const fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Parameter { .. } => (StatusCode::BAD_REQUEST, "INVALID_PARAMETER"),
            Self::Unauthorized { .. } => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "FORBIDDEN"),
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT"),
            Self::Conflict { .. } => (StatusCode::CONFLICT, "CONFLICT"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED"),
            Self::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        }
    }

    fn said(self) -> (String, Value) {
        match self {
            Self::Parameter { message, details }
            | Self::NotFound { message, details }
            | Self::Conflict { message, details }
            | Self::Unavailable { message, details } => (message, details),
            Self::Unauthorized { .. } => ("the credentials are missing or wrong".to_owned(), json!({})),
            Self::Forbidden(message) => (message.to_owned(), json!({})),
            Self::MethodNotAllowed => {
                ("this address does not take this method; see Allow".to_owned(), json!({}))
            }
            Self::TooSlow => ("the request's body did not arrive in time".to_owned(), json!({})),
            Self::TooLarge { message } => (message, json!({})),
            Self::Internal => {
                ("something went wrong here; the log has it under the request's id".to_owned(), json!({}))
            }
            Self::Overloaded => ("too much at the same time; send it again".to_owned(), json!({})),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(mut self) -> Response {
        let (status, code) = self.kind();
        let challenges = match &mut self {
            Self::Unauthorized { challenges } => std::mem::take(challenges),
            Self::Parameter { .. }
            | Self::Forbidden(_)
            | Self::NotFound { .. }
            | Self::MethodNotAllowed
            | Self::TooSlow
            | Self::Conflict { .. }
            | Self::TooLarge { .. }
            | Self::Internal
            | Self::Overloaded
            | Self::Unavailable { .. } => Vec::new(),
        };
        let (message, details) = self.said();
        let body = json!({"error": {"code": code, "message": message, "details": details}});
        let mut response = (status, Json(body)).into_response();
        for challenge in challenges {
            response.headers_mut().append(WWW_AUTHENTICATE, challenge);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_S);
        }
        response
    }
}

impl From<LogError> for Error {
    /// Of a read: the log cannot be reached, or what it holds cannot be read.
    fn from(error: LogError) -> Self {
        match error {
            LogError::NotFound(id) => Self::not_found(format!("there is no operation {id}")),
            LogError::Unavailable { .. } => {
                tracing::warn!(error = %WithCauses(&error), "the log could not be read");
                Self::unavailable("the log cannot be read now; send the request again")
            }
            LogError::Conflict { .. }
            | LogError::DifferentContent { .. }
            | LogError::Stale { .. }
            | LogError::NotFolded { .. }
            | LogError::Lost { .. }
            | LogError::NotNow { .. }
            | LogError::KnownAlert(_)
            | LogError::Ended { .. }
            | LogError::Held { .. }
            | LogError::Corrupt { .. }
            | LogError::Unstorable { .. } => Self::internal(&error),
        }
    }
}

impl From<read::Error> for Error {
    fn from(error: read::Error) -> Self {
        let message = error.to_string();
        match error {
            read::Error::Unknown(_) => Self::not_found(message),
            read::Error::Ambiguous { candidates, more, .. } => {
                let shown = candidates.iter().map(|head| json!({"id": head.id, "name": head.name}));
                let details = json!({"candidates": shown.collect::<Vec<_>>(), "more": more});
                Self::Conflict { message, details }
            }
            read::Error::Archived { record, outcome } => {
                let details = json!({"operation": record.operation, "alert": record.id, "state": outcome.state,
                                     "ended_at": outcome.ended_at.to_string()});
                Self::NotFound { message, details }
            }
            read::Error::Log(error) => error.into(),
            read::Error::Unreadable(_) | read::Error::Broken { .. } => Self::internal(&error),
        }
    }
}

impl From<redress_ingest::Error> for Error {
    /// Nothing of the payload was taken.
    fn from(error: redress_ingest::Error) -> Self {
        let message = error.to_string();
        match error {
            redress_ingest::Error::TooLarge { .. } => Self::TooLarge { message },
            redress_ingest::Error::NotJson(_) => Self::Parameter { message, details: json!({}) },
            redress_ingest::Error::Invalid(problems) => {
                let shown = problems
                    .shown()
                    .iter()
                    .map(|one| json!({"field": one.field, "index": one.index, "problem": one.problem}));
                let details = json!({"problems": shown.collect::<Vec<_>>(), "count": problems.count()});
                Self::Parameter { message, details }
            }
        }
    }
}
