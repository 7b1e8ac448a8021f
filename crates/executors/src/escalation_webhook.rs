//! [`EscalationWebhook`]: calls a person through somebody's webhook.
//!
//! It posts the [`Escalation`] as JSON, once per try, with `Idempotency-Key`: the same for every try of one call, so
//! that a receiver that keeps keys rings once. What a reply means is contracts §3's reading of statuses.

use std::time::Duration;

use async_trait::async_trait;
use hyper::Method;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use redress_action::{CancellationToken, Error, Escalate, Escalation};

use crate::egress::Egress;
use crate::http::{Authentication, Client, Failure, InvalidAuthentication, Reply, Request, Url, one_line};

/// How long one try may take; within the time that the engine waits for it.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Posts each escalation to one URL.
///
/// | reply | means |
/// |---|---|
/// | 200 to 299 | a person was called |
/// | 408, 425, 429, and no connection | tried again (`Retry-After` honoured) |
/// | 500 and above, and a lost reply | tried again under the same key: it may have arrived |
/// | any other, redirects too | never tried again by itself: the call is handed to a person in the outbox |
#[derive(Clone, Debug)]
pub struct EscalationWebhook {
    url: Url,
    client: Client,
    authentication: Option<Authentication>,
}

impl EscalationWebhook {
    /// Posts to `url`. Refuses one that is not a URL to be called, and a host that is not listed in `egress`.
    ///
    /// # Errors
    /// Says which of the two; holds no secret.
    pub fn new(url: &str, egress: Egress) -> Result<Self, String> {
        let url: Url = url.parse().map_err(|error| format!("escalation URL: {error}"))?;
        let client = Client::new(egress);
        client.permits(&url).map_err(|error| format!("escalation URL: {error}"))?;
        Ok(Self { url, client, authentication: None })
    }

    /// Sends these credentials with every call.
    ///
    /// # Errors
    /// When they cannot be sent.
    pub fn authenticated(mut self, authentication: Authentication) -> Result<Self, InvalidAuthentication> {
        authentication.validate()?;
        self.authentication = Some(authentication);
        Ok(self)
    }

    fn headers(&self, escalation: &Escalation, body: &[u8]) -> Result<HeaderMap, String> {
        let key = HeaderValue::from_str(&escalation.key.to_string()).map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("idempotency-key"), key);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authentication) = &self.authentication {
            let (name, value) = authentication.header(body).map_err(|error| error.to_string())?;
            headers.insert(name, value);
        }
        Ok(headers)
    }

    fn replied(&self, reply: &Reply) -> Result<(), Error> {
        let retry_after = reply.retry_after();
        let reason = self.describe(reply).into();
        match reply.status.as_u16() {
            200..=299 => Ok(()),
            408 | 425 | 429 => Err(Error::Retryable { reason, retry_after }),
            500.. => Err(Error::Unknown { reason, retry_after }),
            _ => Err(Error::Permanent { reason }),
        }
    }

    /// The reply in one line, without anything secret.
    fn describe(&self, reply: &Reply) -> String {
        let status = reply.status.as_u16();
        let Some(message) = reply.message() else { return format!("calling {}: HTTP {status}", self.url) };
        let message = self.authentication.as_ref().map_or(message.clone(), |known| known.mask(&message));
        format!("calling {}: HTTP {status}: {}", self.url, one_line(&message))
    }
}

#[async_trait]
impl Escalate for EscalationWebhook {
    /// Cancellation safety: dropped, the connection is closed, and whether the call arrived is unknown.
    async fn escalate(&self, escalation: &Escalation) -> Result<(), Error> {
        let body = serde_json::to_vec(escalation)
            .map_err(|error| Error::permanent(format!("the escalation cannot be written: {error}")))?;
        let headers = self.headers(escalation, &body).map_err(Error::permanent)?;
        let cancel = CancellationToken::new();
        let request = Request {
            method: Method::POST,
            url: &self.url,
            headers,
            body,
            timeout: TIMEOUT,
            cancel: &cancel,
        };
        let reason = |reason: String| format!("calling {}: {reason}", self.url);
        match self.client.send(request).await {
            Ok(reply) => self.replied(&reply),
            Err(Failure::Forbidden(why)) => Err(Error::permanent(reason(why))),
            Err(Failure::ConnectionRefused(why) | Failure::NotSent(why)) => {
                Err(Error::retryable(reason(why)))
            }
            Err(Failure::Lost(why)) => Err(Error::unknown(reason(why))),
        }
    }
}

#[cfg(test)]
#[path = "escalation_webhook_tests.rs"]
mod tests;
