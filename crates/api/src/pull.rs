//! Fetches what a truncated webhook left out, through a client that the program brings.

use std::collections::HashSet;

use async_trait::async_trait;
use redress_ingest::{Group, Options, parse_listed};
use redress_types::{Delivery, WithCauses};

use crate::service::State;

/// Alerts that a list may have.
const LISTED_MAX: usize = 100_000;

/// Asks an Alertmanager for its alerts.
#[async_trait]
pub trait Pull: Send + Sync + 'static {
    /// The body of `GET {url}/api/v2/alerts` for one receiver.
    ///
    /// Must follow the one egress policy and read a bounded answer. Reads only.
    ///
    /// Cancellation safety: may be dropped at any await.
    ///
    /// # Errors
    /// When there is no answer, or one of another status than 200.
    async fn alerts(&self, receiver: &str) -> Result<Vec<u8>, PullError>;
}

/// Why an Alertmanager's alerts could not be had. Must hold no secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PullError(pub String);

/// The firing alerts of a truncated group that its webhook did not carry. Fails nothing: what cannot be had now is
/// counted and logged, and Alertmanager's next notification of the group asks again.
pub(crate) async fn left_out(
    state: &State,
    group: &Group,
    carried: &[Delivery],
    options: &Options,
) -> Vec<Delivery> {
    let Some(pull) = &state.pull else { return Vec::new() };
    let receiver = group.receiver.as_str();
    let asked = tokio::time::timeout(state.limits.pull_timeout, pull.alerts(receiver)).await;
    let answered = match asked {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return failed(state, &WithCauses(&error).to_string()),
        Err(_) => return failed(state, "no answer in time"),
    };
    // A list of all that fires is longer than any one webhook: it was read up to a bound of its own.
    let options = &Options { payload_bytes_max: answered.len(), alerts_max: LISTED_MAX, ..options.clone() };
    let listed = match parse_listed(&answered, group, options) {
        Ok(listed) => listed,
        Err(error) => return failed(state, &WithCauses(&error).to_string()),
    };
    if !listed.problems.is_empty() {
        tracing::warn!(problems = %listed.problems, "alerts that a webhook left out could not be read");
    }
    let known: HashSet<_> = carried.iter().map(|delivery| &delivery.alert.id).collect();
    let deliveries = listed.deliveries.into_iter().filter(|delivery| !known.contains(&delivery.alert.id));
    let deliveries: Vec<_> = deliveries.collect();
    state.counted.pulled(deliveries.len());
    deliveries
}

fn failed(state: &State, why: &str) -> Vec<Delivery> {
    state.counted.pull_failed();
    tracing::error!(why, "the alerts that a webhook left out could not be fetched from Alertmanager");
    Vec::new()
}
