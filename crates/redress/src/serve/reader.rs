//! What the HTTP service asks of others: issues from the alert tables, and what Alertmanager left out of a webhook.

use anyhow::{Context as _, Error};
use async_trait::async_trait;
use redress_api::{
    Comment, Issue, IssueError, IssuePage, IssueQuery, IssueReader, IssueState, Pull, PullError,
};
use redress_executors::{AlertmanagerAlerts, Egress, Url};
use redress_persistence::{self as tables, ReadError};

/// Issues as the alert tables have them.
pub(super) struct Issues(pub tables::Issues);

#[async_trait]
impl IssueReader for Issues {
    async fn list(&self, query: &IssueQuery) -> Result<IssuePage, IssueError> {
        let state = query.state.map(|state| match state {
            IssueState::Open => tables::IssueState::Open,
            IssueState::Closed => tables::IssueState::Closed,
        });
        let start = query.start.as_deref().unwrap_or_default();
        let page = self.0.list(state, start, query.limit).await.map_err(|error| match error {
            ReadError::Cursor(_) => IssueError::Cursor,
            ReadError::Tables(error) => refused(error),
        })?;
        let next = Some(page.next).filter(|next| !next.is_empty());
        Ok(IssuePage { items: page.items.into_iter().map(issue).collect(), next })
    }

    async fn get(&self, id: &str) -> Result<Option<(Issue, Vec<Comment>)>, IssueError> {
        let found = self.0.get(id).await.map_err(refused)?;
        Ok(found.map(|found| {
            let comments = found.comments.into_iter();
            let comments =
                comments.map(|one| Comment { created_at: one.created_at, content: one.content }).collect();
            (issue(found.issue), comments)
        }))
    }
}

fn issue(from: tables::Issue) -> Issue {
    let tables::Issue { id, state, level, alert_state, title, labels, alert_since } = from;
    Issue { id, state, level, alert_state, title, labels, alert_since }
}

fn refused(error: tables::Error) -> IssueError {
    if matches!(error, tables::Error::Unavailable { .. }) {
        IssueError::Unavailable(Box::new(error))
    } else {
        IssueError::Unreadable(Box::new(error))
    }
}

/// Asks one Alertmanager, whose host is thereby listed.
pub(super) struct AlertmanagerPull(AlertmanagerAlerts);

impl AlertmanagerPull {
    pub(super) fn new(text: &str) -> Result<Self, Error> {
        let url: Url = text.parse().context("--alertmanager-url")?;
        let egress = Egress::new(std::iter::empty::<&str>())?.listing(url.host().clone(), url.port());
        Ok(Self(AlertmanagerAlerts::new(text, egress).map_err(Error::msg)?))
    }
}

#[async_trait]
impl Pull for AlertmanagerPull {
    async fn alerts(&self, _receiver: &str) -> Result<Vec<u8>, PullError> {
        self.0.fetch().await.map_err(PullError)
    }
}
