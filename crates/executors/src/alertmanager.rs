//! [`AlertmanagerAlerts`]: reads the alerts that an Alertmanager has, for those that its webhook left out.

use std::time::Duration;

use hyper::Method;
use hyper::header::{ACCEPT, HeaderMap, HeaderValue};
use redress_action::CancellationToken;

use crate::egress::Egress;
use crate::http::{Authentication, Client, Failure, InvalidAuthentication, Request, Url};

/// The most of an answer that is read: 16 MiB, which 10,000 alerts fit in.
const BODY_MAX: usize = 16 * 1024 * 1024;
/// How long one reading may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// `GET {url}/api/v2/alerts` of one Alertmanager, through the egress policy.
#[derive(Clone, Debug)]
pub struct AlertmanagerAlerts {
    url: Url,
    client: Client,
    authentication: Option<Authentication>,
}

impl AlertmanagerAlerts {
    /// Reads from the Alertmanager at `url`, as its external URL is written: `http://alertmanager:9093`, with a path
    /// where it has one. Refuses one that is not a URL to be called, and a host that is not listed in `egress`.
    ///
    /// # Errors
    /// Says which of the two; holds no secret.
    pub fn new(url: &str, egress: Egress) -> Result<Self, String> {
        if url.contains('?') {
            return Err("Alertmanager URL: has a query; write it like http://alertmanager:9093".into());
        }
        let list = format!(
            "{}/api/v2/alerts?active=true&silenced=false&inhibited=false&unprocessed=false",
            url.trim_end_matches('/')
        );
        let url: Url = list.parse().map_err(|error| format!("Alertmanager URL: {error}"))?;
        let client = Client::new(egress).reading(BODY_MAX, TIMEOUT);
        client.permits(&url).map_err(|error| format!("Alertmanager URL: {error}"))?;
        Ok(Self { url, client, authentication: None })
    }

    /// Sends these credentials.
    ///
    /// # Errors
    /// When they cannot be sent.
    pub fn authenticated(mut self, authentication: Authentication) -> Result<Self, InvalidAuthentication> {
        authentication.validate()?;
        self.authentication = Some(authentication);
        Ok(self)
    }

    /// The body of the answer, all of it: a JSON list of alerts.
    ///
    /// Cancellation safety: may be dropped at any await; reads only.
    ///
    /// # Errors
    /// When there is no answer within ten seconds, one of another status than 200, or one over 16 MiB.
    pub async fn fetch(&self) -> Result<Vec<u8>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authentication) = &self.authentication {
            let (name, value) = authentication.header(b"").map_err(|error| error.to_string())?;
            headers.insert(name, value);
        }
        let cancel = CancellationToken::new();
        let request = Request {
            method: Method::GET,
            url: &self.url,
            headers,
            body: Vec::new(),
            timeout: TIMEOUT,
            cancel: &cancel,
        };
        let reply = self.client.send(request).await.map_err(|failure| match failure {
            Failure::Forbidden(why)
            | Failure::ConnectionRefused(why)
            | Failure::NotSent(why)
            | Failure::Lost(why) => format!("reading {}: {why}", self.url),
        })?;
        match reply.status.as_u16() {
            200 if reply.body.len() < BODY_MAX => Ok(reply.body),
            200 => Err(format!("reading {}: the answer is {BODY_MAX} bytes or more", self.url)),
            other => Err(format!("reading {}: HTTP {other}", self.url)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::Secret;
    use crate::testing::server::{Answer, Server};

    fn alerts(port: u16, path: &str) -> AlertmanagerAlerts {
        let egress = Egress::new(["127.0.0.1"]).unwrap();
        AlertmanagerAlerts::new(&format!("http://127.0.0.1:{port}{path}"), egress).unwrap()
    }

    #[tokio::test]
    async fn the_whole_list_is_read_however_long() {
        let long = json!([{"labels": {"a": "x".repeat(Client::BODY_MAX * 3)}}]);
        let body = long.clone();
        let server = Server::start(move |_| Answer::Json(200, body.clone())).await;
        let basic = Authentication::Basic { user: "me".into(), password: Secret::new("x") };
        let read = alerts(server.port, "/am/").authenticated(basic).unwrap().fetch().await.unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&read).unwrap(), long);
        let seen = &server.seen()[0];
        assert_eq!(
            seen.path,
            "/am/api/v2/alerts?active=true&silenced=false&inhibited=false&unprocessed=false"
        );
        assert_eq!(seen.headers["authorization"], "Basic bWU6eA==");
    }

    #[tokio::test]
    async fn what_is_no_list_of_alerts_says_so() {
        let server = Server::start(|_| Answer::Json(503, json!({"message": "starting"}))).await;
        let error = alerts(server.port, "").fetch().await.unwrap_err();
        assert!(error.ends_with("/api/v2/alerts: HTTP 503"), "{error}");
        let port = server.port;
        server.stop().await;
        assert!(alerts(port, "").fetch().await.unwrap_err().contains("refused"));
    }

    #[test]
    fn what_cannot_be_called_is_refused_at_once() {
        let egress = || Egress::new(["am.example"]).unwrap();
        assert!(AlertmanagerAlerts::new("http://am.example:9093", egress()).is_ok());
        for bad in ["http://other.example:9093", "am.example:9093", "http://am.example/?x=1"] {
            assert!(AlertmanagerAlerts::new(bad, egress()).unwrap_err().starts_with("Alertmanager URL: "));
        }
    }
}
