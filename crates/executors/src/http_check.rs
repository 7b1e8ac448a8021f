//! [`HttpCheck`]: whether the service itself answers well and soon enough.

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use hyper::Method;
use hyper::header::HeaderMap;
use redress_action::{Call, Check, Observation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::egress::Egress;
use crate::http::{Client, Failure, Reply, Request, Url};

/// One GET. Configuration: `{"url": …, "max_latency_ms"?: …, "status"?: [first, last]}`; statuses 200 to 299 pass
/// unless others are named. Redirects are not followed: a redirect is a status like any other.
///
/// | seen | is |
/// |---|---|
/// | a status that passes, soon enough | healthy |
/// | any other status; a status that came too late | unhealthy |
/// | connection refused: a definite answer that nothing serves there | unhealthy |
/// | no answer in time, a broken reply, an unresolved name, TLS that fails, a host that may not be called | inconclusive (safety rule 8) |
///
/// Latency is measured on the monotonic clock, from before the name is resolved until the status has been read.
#[derive(Clone, Debug)]
pub struct HttpCheck {
    configuration: Configuration,
    client: Client,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_latency_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<(u16, u16)>,
}

impl Configuration {
    fn statuses(&self) -> RangeInclusive<u16> {
        self.status.map_or(200..=299, |(first, last)| first..=last)
    }

    /// The URL, when this configuration can be checked under `client`'s policy.
    fn accepted(&self, client: &Client) -> Result<Url, String> {
        let url: Url = self.url.parse().map_err(|error| format!("check URL: {error}"))?;
        if self.statuses().is_empty() {
            return Err("check status: the first is greater than the last, so none would pass".into());
        }
        client.permits(&url)?;
        Ok(url)
    }
}

impl HttpCheck {
    /// The name plans freeze.
    pub const NAME: &'static str = "http";

    /// A check of `url`. Refuses one that is not a URL to be called, and a host that is not listed in `egress`.
    pub fn new(url: &str, egress: Egress) -> Result<Self, String> {
        let configuration = Configuration { url: url.to_owned(), max_latency_ms: None, status: None };
        let client = Client::new(egress);
        configuration.accepted(&client)?;
        Ok(Self { configuration, client })
    }

    /// Passes only an answer that comes within `latency`, kept in whole milliseconds.
    #[must_use]
    pub fn within(mut self, latency: Duration) -> Self {
        self.configuration.max_latency_ms = Some(u64::try_from(latency.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Passes these statuses instead of 200 to 299. An empty range is refused when the check is accepted.
    #[must_use]
    pub fn expecting(mut self, statuses: RangeInclusive<u16>) -> Self {
        self.configuration.status = Some((*statuses.start(), *statuses.end()));
        self
    }
}

#[async_trait]
impl Check for HttpCheck {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn configuration(&self) -> Value {
        serde_json::to_value(&self.configuration).unwrap_or_default()
    }

    fn accepts(&self, configuration: &Value) -> Result<(), String> {
        crate::read::<Configuration>(configuration)?.accepted(&self.client).map(drop)
    }

    fn independent(&self) -> bool {
        true
    }

    async fn check(&self, call: &Call) -> Observation {
        let read = crate::read::<Configuration>(&call.configuration);
        let accepted = read.and_then(|found| Ok((found.accepted(&self.client)?, found)));
        let (url, configuration) = match accepted {
            Ok(accepted) => accepted,
            Err(detail) => return Observation::Inconclusive { detail },
        };
        let request = Request {
            method: Method::GET,
            url: &url,
            headers: HeaderMap::new(),
            body: Vec::new(),
            timeout: call.timeout,
            cancel: &call.cancel,
        };
        match self.client.send(request).await {
            Ok(reply) => judge(&configuration, &url, &reply),
            Err(Failure::ConnectionRefused(reason)) => Observation::Unhealthy { detail: reason },
            Err(Failure::Forbidden(reason) | Failure::NotSent(reason) | Failure::Lost(reason)) => {
                Observation::Inconclusive { detail: format!("{url}: {reason}") }
            }
        }
    }
}

fn judge(configuration: &Configuration, url: &Url, reply: &Reply) -> Observation {
    let (status, latency) = (reply.status.as_u16(), reply.latency.as_millis());
    let statuses = configuration.statuses();
    let seen = format!("{url} answered {status} after {latency} ms");
    if !statuses.contains(&status) {
        let detail = format!("{seen}; {} to {} was expected", statuses.start(), statuses.end());
        return Observation::Unhealthy { detail };
    }
    match configuration.max_latency_ms {
        Some(limit) if reply.latency > Duration::from_millis(limit) => {
            Observation::Unhealthy { detail: format!("{seen}; at most {limit} ms was expected") }
        }
        Some(_) | None => Observation::Healthy { detail: seen },
    }
}

#[cfg(test)]
#[path = "http_check_tests.rs"]
mod tests;
