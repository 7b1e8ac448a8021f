//! [`Deployments`]: the deployment system's API, spoken but not judged: one rollback request, one status request.

use std::time::Duration;

use hyper::Method;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use redress_action::Call;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::template::{InvalidDeployId, InvalidTemplate, Template};
use crate::egress::Egress;
use crate::http::{Authentication, Client, Failure, InvalidAuthentication, Reply, Request, Url, one_line};

/// How long reading a status may take. Reading is quick; what is left of the step's time belongs to the rollback.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What a plan freezes: `{"url":"http://host/v1/deployments/%s/rollback"}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Configuration {
    pub url: String,
}

/// The deployment system as this instance may speak to it.
#[derive(Clone, Debug)]
pub(super) struct Deployments {
    template: Template,
    client: Client,
    authentication: Option<Authentication>,
}

/// One deployment, found by the frozen template and the alert's label.
pub(super) struct Deployment {
    pub rollback: Url,
    pub status: Url,
    /// Its id as it stands in the URL, for texts.
    pub shown: String,
}

/// Why no deployment can be named.
#[derive(Clone, Debug)]
pub(super) enum Unnamed {
    /// This instance may not run the step as it was frozen.
    Configuration(String),
    /// The alert names no usable deployment, and never will.
    Alert(String),
}

/// The statuses of contracts §3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Unrelease,
    Deploying,
    Stop,
    Rollback,
    Completed,
}

impl Status {
    pub fn word(self) -> &'static str {
        match self {
            Self::Unrelease => "unrelease",
            Self::Deploying => "deploying",
            Self::Stop => "stop",
            Self::Rollback => "rollback",
            Self::Completed => "completed",
        }
    }
}

/// What reading a status told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The deployment is the alert's service's (or names no service), and this is its status.
    Status(Status),
    /// It belongs to another service.
    OtherService(String),
    /// The system knows no such deployment.
    Missing(String),
    /// We may not read it, or not there; asking again is of no use until somebody changes something.
    Denied(String),
    /// No usable answer now; asking again may help.
    Unreadable { reason: String, retry_after: Option<Duration> },
}

impl Deployments {
    pub fn new(template: &str, egress: Egress) -> Result<Self, super::InvalidRollback> {
        let template: Template = template.parse::<Template>().map_err(super::InvalidRollback::Template)?;
        let client = Client::new(egress);
        client.permits(template.origin()).map_err(super::InvalidRollback::Egress)?;
        Ok(Self { template, client, authentication: None })
    }

    pub fn authenticated(mut self, authentication: Authentication) -> Result<Self, InvalidAuthentication> {
        authentication.validate()?;
        self.authentication = Some(authentication);
        Ok(self)
    }

    pub fn configuration(&self) -> Value {
        serde_json::to_value(Configuration { url: self.template.to_string() }).unwrap_or_default()
    }

    /// The frozen template, when this instance may call it.
    pub fn accepted(&self, configuration: &Value) -> Result<Template, String> {
        let Configuration { url } = crate::read(configuration)?;
        let template: Template = url.parse().map_err(|error: InvalidTemplate| error.to_string())?;
        self.client.permits(template.origin())?;
        if self.authentication.is_some() && !template.origin().same_origin(self.template.origin()) {
            return Err(format!(
                "the credentials configured here are for {}, and this step calls {}",
                self.template.origin().host(),
                template.origin().host()
            ));
        }
        Ok(template)
    }

    /// The deployment that `call` is about.
    pub fn named_by(&self, call: &Call) -> Result<Deployment, Unnamed> {
        let template = self.accepted(&call.configuration).map_err(Unnamed::Configuration)?;
        let Some(id) = call.alert.deploy_id() else {
            // The id made up as {service}:{version} serves the mock only (contracts §3).
            return Err(Unnamed::Alert(
                "the alert has no label deploy_id, so which deployment to roll back is not known and not guessed; \
                 a person must roll it back"
                    .into(),
            ));
        };
        let unusable =
            |error: InvalidDeployId| Unnamed::Alert(format!("{error}; a person must name the deployment"));
        let (rollback, status) = template.urls(id).map_err(unusable)?;
        let shown = super::template::segment(id).map_err(unusable)?;
        Ok(Deployment { rollback, status, shown: one_line(&shown) })
    }

    /// Asks for the rollback, once. `timeout` is for all of it.
    pub async fn roll_back(
        &self,
        call: &Call,
        which: &Deployment,
        timeout: Duration,
    ) -> Result<Reply, Failure> {
        let body = serde_json::json!({
            "idempotency_key": call.key.to_string(),
            "fencing_token": call.fencing.to_string(),
            "service": call.alert.service,
            "version": call.alert.version,
        });
        self.send(call, Method::POST, &which.rollback, body.to_string().into_bytes(), timeout).await
    }

    /// Reads the deployment's status.
    ///
    /// Cancellation safety: may be dropped at any await.
    pub async fn read(&self, call: &Call, which: &Deployment, timeout: Duration) -> Seen {
        let timeout = timeout.min(READ_TIMEOUT);
        match self.send(call, Method::GET, &which.status, Vec::new(), timeout).await {
            Ok(reply) => self.seen(call, which, &reply),
            Err(Failure::Forbidden(reason)) => Seen::Denied(reason),
            Err(Failure::ConnectionRefused(reason) | Failure::NotSent(reason) | Failure::Lost(reason)) => {
                Seen::Unreadable {
                    reason: format!("reading the deployment's status: {reason}"),
                    retry_after: None,
                }
            }
        }
    }

    fn seen(&self, call: &Call, which: &Deployment, reply: &Reply) -> Seen {
        let reason = || format!("reading the status of deployment {}: {}", which.shown, self.describe(reply));
        match reply.status.as_u16() {
            200..=299 => {}
            404 | 410 => return Seen::Missing(reason()),
            408 | 425 | 429 | 500.. => {
                return Seen::Unreadable { reason: reason(), retry_after: reply.retry_after() };
            }
            _ => return Seen::Denied(reason()),
        }
        if let Some(other) = self.other_service(call, which, reply) {
            return Seen::OtherService(other);
        }
        let json = reply.json();
        let status = json.get("status").unwrap_or(&Value::Null);
        match Status::deserialize(status) {
            Ok(status) => Seen::Status(status),
            Err(_) => {
                let named =
                    status.as_str().map_or("no status".to_owned(), |text| format!("{:?}", self.shown(text)));
                let reason = format!(
                    "deployment {} reports {named}, which is none of unrelease, deploying, stop, rollback, completed",
                    which.shown
                );
                Seen::Unreadable { reason, retry_after: None }
            }
        }
    }

    /// Says so when the reply names a service and it is not the alert's.
    pub fn other_service(&self, call: &Call, which: &Deployment, reply: &Reply) -> Option<String> {
        let json = reply.json();
        let named = json.get("service")?.as_str()?;
        (named != call.alert.service).then(|| {
            format!(
                "deployment {} belongs to service {:?}, but the alert is about {:?}; a person must name the right one",
                which.shown,
                self.shown(named),
                one_line(&call.alert.service)
            )
        })
    }

    /// The reply in one line: its status and what it says of itself, without anything secret.
    pub fn describe(&self, reply: &Reply) -> String {
        match reply.message().map(|message| self.shown(&message)).filter(|message| !message.is_empty()) {
            Some(message) => format!("HTTP {}: {message}", reply.status.as_u16()),
            None => match reply.status.canonical_reason() {
                Some(reason) => format!("HTTP {} {reason}", reply.status.as_u16()),
                None => format!("HTTP {}", reply.status.as_u16()),
            },
        }
    }

    fn shown(&self, text: &str) -> String {
        match &self.authentication {
            Some(authentication) => one_line(&authentication.mask(text)),
            None => one_line(text),
        }
    }

    async fn send(
        &self,
        call: &Call,
        method: Method,
        url: &Url,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Reply, Failure> {
        let headers = self.headers(call, &body).map_err(Failure::NotSent)?;
        self.client.send(Request { method, url, headers, body, timeout, cancel: &call.cancel }).await
    }

    fn headers(&self, call: &Call, body: &[u8]) -> Result<HeaderMap, String> {
        let value = |text: String| HeaderValue::from_str(&text).map_err(|error| error.to_string());
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("idempotency-key"), value(call.key.to_string())?);
        headers.insert(HeaderName::from_static("redress-fencing-token"), value(call.fencing.to_string())?);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(authentication) = &self.authentication {
            let (name, value) = authentication.header(body).map_err(|error| error.to_string())?;
            headers.insert(name, value);
        }
        Ok(headers)
    }
}
