//! `GET /v1/issues` and one of them (contracts §6), from whatever tables the program reads them from.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, Uri};
use redress_types::Timestamp;
use serde_json::{Value, json};

use crate::error::{Error, chain};
use crate::query::{Query, id, refused};
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

/// Whether a problem is still one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssueState {
    /// It is.
    Open,
    /// It is not.
    Closed,
}

impl IssueState {
    /// The word in the tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::Closed => "Closed",
        }
    }
}

/// A page of issues.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IssuePage {
    /// The issues.
    pub items: Vec<Issue>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<String>,
}

/// An issue as the tables have it; the words are those of contracts §4.
#[derive(Clone, Debug, PartialEq)]
pub struct Issue {
    /// The alert's id.
    pub id: String,
    /// `Open` or `Closed`.
    pub state: String,
    /// `P0`, `P1`, `P2` or `Warning`.
    pub level: String,
    /// `Pending`, `InProcessing`, `Restored` or `AutoRestored`.
    pub alert_state: String,
    /// One line for people.
    pub title: String,
    /// `[{"key":…,"value":…}]`.
    pub labels: Value,
    /// Since when.
    pub alert_since: Timestamp,
}

/// A comment on an issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// When it was written.
    pub created_at: Timestamp,
    /// Markdown.
    pub content: String,
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
                tracing::warn!(error = chain(&error), "issues could not be read");
                Self::unavailable("the alert tables cannot be read now; send the request again")
            }
            IssueError::Unreadable(_) => Self::internal(&error),
        }
    }
}

/// A page of issues.
pub(crate) async fn list(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, Error> {
    state.reading_access.check(&headers)?;
    let query = Query::read(&uri, &["start", "limit", "state"])?;
    let asked = IssueQuery {
        start: query.text("start")?.map(str::to_owned),
        limit: query.limit()?,
        state: match query.text("state")? {
            None => None,
            Some("Open") => Some(IssueState::Open),
            Some("Closed") => Some(IssueState::Closed),
            Some(other) => return Err(refused("state", other, "Open or Closed")),
        },
    };
    let page = reader(&state)?.list(&asked).await?;
    let items: Vec<Value> = page.items.iter().map(item).collect();
    Ok(Json(json!({"items": items, "next": page.next.unwrap_or_default()})))
}

/// One issue, with its comments.
pub(crate) async fn one(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    uri: Uri,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Error> {
    state.reading_access.check(&headers)?;
    Query::read(&uri, &[])?;
    let id = id(path)?;
    let Some((issue, comments)) = reader(&state)?.get(&id).await? else {
        return Err(Error::not_found(format!("there is no issue {id:?}")));
    };
    let comments = comments.iter().map(
        |comment| json!({"createdAt": comment.created_at.to_rfc3339_millis(), "content": comment.content}),
    );
    let mut item = item(&issue);
    item["comments"] = comments.collect();
    Ok(Json(item))
}

fn reader(state: &State) -> Result<&dyn IssueReader, Error> {
    let none = || Error::not_found("no alert tables are configured, so there are no issues to read");
    state.issues.as_deref().ok_or_else(none)
}

fn item(issue: &Issue) -> Value {
    json!({
        "id": issue.id,
        "state": issue.state,
        "level": issue.level,
        "alertState": issue.alert_state,
        "title": issue.title,
        "labels": issue.labels,
        "alertSince": issue.alert_since.to_rfc3339_millis(),
    })
}
