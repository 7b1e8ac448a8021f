//! `GET /v1/issues` and one of them (contracts §6), from whatever tables the program reads them from.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State as Shared;
use redress_types::{Comment, Issue, IssueDetail, IssueState, WithCauses};
use serde_json::Value;

use crate::error::Error;
use crate::query::{Asked, Id, page, refused};
use crate::service::State;

/// Reads the alert tables.
///
/// Cancellation safety: every method may be dropped at any await.
#[async_trait]
pub trait IssueReader: Send + Sync + 'static {
    /// A page of issues, in an order that later issues do not disturb. At most `query.limit` items.
    ///
    /// # Errors
    /// [`IssueError`].
    async fn list(&self, query: &IssueQuery) -> Result<IssuePage, IssueError>;

    /// One issue with its comments, oldest first; `None`: there is none of this id.
    ///
    /// # Errors
    /// [`IssueError`].
    async fn get(&self, id: &str) -> Result<Option<(Issue, Vec<Comment>)>, IssueError>;
}

/// Which issues a page shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueQuery {
    /// The `next` of the page before; `None`: from the first.
    pub start: Option<String>,
    /// 1 to 100.
    pub limit: usize,
    /// Only those.
    pub state: Option<IssueState>,
}

/// A page of issues.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IssuePage {
    /// The issues.
    pub items: Vec<Issue>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<String>,
}

/// Why issues could not be read.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The cursor is none that this reader gave out (400).
    #[error("the cursor is not one of this list")]
    Cursor,
    /// The tables cannot be reached now (503).
    #[error("the alert tables cannot be read now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What they hold cannot be read (500).
    #[error("the alert tables cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<IssueError> for Error {
    fn from(error: IssueError) -> Self {
        match &error {
            IssueError::Cursor => Self::parameter("start", "is not a `next` of this list"),
            IssueError::Unavailable(_) => {
                tracing::warn!(error = %WithCauses(&error), "issues could not be read");
                Self::unavailable("the alert tables cannot be read now; send the request again")
            }
            IssueError::Unreadable(_) => Self::internal(&error),
        }
    }
}

/// A page of issues.
pub(crate) async fn list(asked: Asked, Shared(state): Shared<Arc<State>>) -> Result<Json<Value>, Error> {
    let query = asked.query(&["start", "limit", "state"])?;
    let stands =
        query.text("state")?.map(|text| text.parse().map_err(|_| refused("state", text, "Open or Closed")));
    let wanted = IssueQuery {
        start: query.text("start")?.map(str::to_owned),
        limit: query.limit()?,
        state: stands.transpose()?,
    };
    let found = reader(&state)?.list(&wanted).await?;
    let items = found.items.iter().map(serde_json::to_value).collect::<Result<_, _>>();
    Ok(Json(page(items.map_err(|error| Error::internal(&error))?, found.next)))
}

/// One issue, with its comments.
pub(crate) async fn one(
    asked: Asked,
    Id(id): Id,
    Shared(state): Shared<Arc<State>>,
) -> Result<Json<Value>, Error> {
    asked.query(&[])?;
    let found = reader(&state)?.get(&id).await?;
    let (issue, comments) = found.ok_or_else(|| Error::not_found(format!("there is no issue {id:?}")))?;
    let detail = serde_json::to_value(IssueDetail { issue, comments });
    detail.map(Json).map_err(|error| Error::internal(&error))
}

fn reader(state: &State) -> Result<&dyn IssueReader, Error> {
    let none = || Error::not_found("no alert tables are configured, so there are no issues to read");
    state.issues.as_deref().ok_or_else(none)
}
