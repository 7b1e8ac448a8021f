//! [`TcpCheck`]: whether something accepts connections at a host and port.

use std::time::Duration;

use async_trait::async_trait;
use redress_action::{Call, Check, Observation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::egress::{self, Egress, Host};

/// Connects and hangs up. Configuration: `{"address":"host:port"}`.
///
/// Accepted: healthy. Refused by every address: unhealthy, for that is an answer. No answer in time, no route, a
/// name that does not resolve, a host that may not be called: inconclusive (safety rule 8).
#[derive(Clone, Debug)]
pub struct TcpCheck {
    configuration: Configuration,
    egress: Egress,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    address: String,
}

impl Configuration {
    fn parse(&self) -> Result<(Host, u16), String> {
        match egress::host_and_port(&self.address).map_err(|error| format!("address: {error}"))? {
            (host, Some(port)) => Ok((host, port)),
            (_, None) => Err(format!("address: {:?} names no port; write host:port", self.address)),
        }
    }
}

impl TcpCheck {
    /// The name plans freeze.
    pub const NAME: &'static str = "tcp";

    /// A check of `address` (`host:port`). Refuses what is not one, and a host that is not listed in `egress`.
    pub fn new(address: &str, egress: Egress) -> Result<Self, String> {
        let configuration = Configuration { address: address.chars().take(300).collect() };
        let (host, port) = configuration.parse()?;
        egress.permits(&host, port).map_err(|error| error.to_string())?;
        Ok(Self { configuration, egress })
    }
}

#[async_trait]
impl Check for TcpCheck {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn configuration(&self) -> Value {
        serde_json::to_value(&self.configuration).unwrap_or_default()
    }

    fn accepts(&self, configuration: &Value) -> Result<(), String> {
        let (host, port) = crate::read::<Configuration>(configuration)?.parse()?;
        self.egress.permits(&host, port).map_err(|error| error.to_string())
    }

    fn independent(&self) -> bool {
        true
    }

    async fn check(&self, call: &Call) -> Observation {
        let parsed = crate::read::<Configuration>(&call.configuration).and_then(|found| found.parse());
        let (host, port) = match parsed {
            Ok(parsed) => parsed,
            Err(detail) => return Observation::Inconclusive { detail },
        };
        let started = tokio::time::Instant::now();
        let connected = tokio::select! {
            biased;
            () = call.cancel.cancelled() => return nothing_seen(&host, port, "cancelled"),
            connected = tokio::time::timeout(call.timeout, self.egress.connect(&host, port)) => connected,
        };
        match connected {
            Ok(Ok(_)) => accepted(&host, port, started.elapsed()),
            Ok(Err(error @ egress::Error::ConnectionRefused { .. })) => {
                Observation::Unhealthy { detail: error.to_string() }
            }
            Ok(Err(error)) => Observation::Inconclusive { detail: error.to_string() },
            Err(_) => nothing_seen(&host, port, "no answer in time"),
        }
    }
}

fn accepted(host: &Host, port: u16, after: Duration) -> Observation {
    Observation::Healthy { detail: format!("{host} port {port} accepted after {} ms", after.as_millis()) }
}

fn nothing_seen(host: &Host, port: u16, why: &str) -> Observation {
    Observation::Inconclusive { detail: format!("{host} port {port}: {why}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::call_with;

    #[tokio::test]
    async fn open_closed_and_unknown() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = open.local_addr().unwrap().to_string();
        let check = TcpCheck::new(&address, Egress::new(["127.0.0.1"]).unwrap()).unwrap();
        assert!(check.independent());
        let call = call_with(check.configuration());
        assert!(matches!(check.check(&call).await, Observation::Healthy { .. }));

        drop(open);
        let seen = check.check(&call).await;
        assert!(matches!(seen, Observation::Unhealthy { .. }), "{seen:?}");

        for address in ["nowhere.invalid:80", "127.0.0.2:80", "127.0.0.1", "169.254.169.254:80", "x y:1"] {
            let seen = check.check(&call_with(json!({ "address": address }))).await;
            assert!(matches!(seen, Observation::Inconclusive { .. }), "{address}: {seen:?}");
        }
        call.cancel.cancel();
        assert!(matches!(check.check(&call).await, Observation::Inconclusive { .. }));
    }

    #[test]
    fn what_it_accepts() {
        let check = TcpCheck::new("127.0.0.1:80", Egress::new(["127.0.0.1:80"]).unwrap()).unwrap();
        assert!(check.accepts(&json!({ "address": "127.0.0.1:80" })).is_ok());
        assert!(
            check.accepts(&json!({ "address": "127.0.0.1:81" })).unwrap_err().contains("not a listed host")
        );
        assert!(check.accepts(&json!({})).is_err());
        assert!(TcpCheck::new("127.0.0.1", Egress::new(["127.0.0.1"]).unwrap()).is_err());
        assert!(TcpCheck::new("10.0.0.1:80", Egress::new(["127.0.0.1"]).unwrap()).is_err());
    }
}
