//! The executors and checks that Redress ships, one cargo feature per group (all on by default).
//!
//! * `mock`: [`MockRollback`] and [`MockCheck`], which touch nothing and can be told to go wrong.
//! * `http`: [`HttpRollback`] and [`DeploymentStatusCheck`] for a deployment system's rollback API, and
//!   [`HttpCheck`], which asks the service itself; [`EscalationWebhook`], which calls a person; and
//!   [`AlertmanagerAlerts`], which reads what Alertmanager left out of a webhook.
//! * `tcp`: [`TcpCheck`].
//!
//! Whatever goes over the network goes through [`egress`]: read it first, then [`http_rollback`].
//!
//! Every executor and check here follows the configuration in its [`Call`](redress_action::Call), which was
//! frozen when the operation was accepted, and never its own; its own is what the next plan freezes.

#[cfg(feature = "http")]
pub mod alertmanager;
#[cfg(any(feature = "http", feature = "tcp"))]
pub mod egress;
#[cfg(feature = "http")]
pub mod escalation_webhook;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "http")]
pub mod http_check;
#[cfg(feature = "http")]
pub mod http_rollback;
#[cfg(feature = "mock")]
pub mod mock;
#[cfg(feature = "tcp")]
pub mod tcp_check;

#[cfg(test)]
#[cfg(any(feature = "mock", feature = "http", feature = "tcp"))]
mod testing;

#[cfg(feature = "http")]
pub use alertmanager::AlertmanagerAlerts;
#[cfg(any(feature = "http", feature = "tcp"))]
pub use egress::Egress;
#[cfg(feature = "http")]
pub use escalation_webhook::EscalationWebhook;
#[cfg(feature = "http")]
pub use http::{Authentication, Secret, Url};
#[cfg(feature = "http")]
pub use http_check::HttpCheck;
#[cfg(feature = "http")]
pub use http_rollback::template::Template;
#[cfg(feature = "http")]
pub use http_rollback::{DeploymentStatusCheck, HttpRollback};
#[cfg(feature = "mock")]
pub use mock::{MockCheck, MockRollback, MockTarget};
#[cfg(feature = "tcp")]
pub use tcp_check::TcpCheck;

/// A configuration as a check or executor reads it; `Null` means all defaults.
#[cfg(any(feature = "mock", feature = "http", feature = "tcp"))]
fn read<T: serde::de::DeserializeOwned>(configuration: &serde_json::Value) -> Result<T, String> {
    let empty = serde_json::Value::Object(serde_json::Map::new());
    let configuration = if configuration.is_null() { &empty } else { configuration };
    T::deserialize(configuration).map_err(|error| format!("configuration: {error}"))
}
