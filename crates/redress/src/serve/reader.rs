//! What the HTTP service asks of others: issues from the alert tables, and what Alertmanager left out of a webhook.

use anyhow::{Context as _, Error};
use async_trait::async_trait;
use redress_api::{IssueError, IssuePage, IssueQuery, IssueReader, Pull, PullError};
use redress_executors::{AlertmanagerAlerts, Egress, Url};
use redress_persistence::{self as tables, ReadError};
use redress_types::{Comment, Issue};

/// Issues as the alert tables have them.
pub(super) struct Issues(pub tables::Issues);

#[async_trait]
impl IssueReader for Issues {
    async fn list(&self, query: &IssueQuery) -> Result<IssuePage, IssueError> {
        let start = query.start.as_deref().unwrap_or_default();
        let page = self.0.list(query.state, start, query.limit).await.map_err(|error| match error {
            ReadError::Cursor(_) => IssueError::Cursor,
            ReadError::Tables(error) => refused(error),
        })?;
        let next = Some(page.next).filter(|next| !next.is_empty());
        Ok(IssuePage { items: page.items, next })
    }

    async fn get(&self, id: &str) -> Result<Option<(Issue, Vec<Comment>)>, IssueError> {
        let found = self.0.get(id).await.map_err(refused)?;
        Ok(found.map(|found| (found.issue, found.comments)))
    }
}

/// What somebody can put right while the service runs, a missing table or right included, is asked for again.
fn refused(error: tables::Error) -> IssueError {
    if matches!(error, tables::Error::Unavailable { .. } | tables::Error::NotReady { .. }) {
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
