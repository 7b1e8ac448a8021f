//! What alert sources send: read, checked and mapped to [`Delivery`] values. Pure: bytes in, values out.
//!
//! [`parse_alerts`] takes a whole payload or refuses a whole payload. Every field has a bound ([`limits`]), every
//! error names the field ([`Error`]), and no input makes it panic. Read [`message`] for our own alert message,
//! [`alertmanager`] for Alertmanager's webhook, [`listed`] for what it left out of one, [`identity`] for how a problem
//! gets its fingerprint.

pub mod alertmanager;
pub mod error;
pub mod identity;
mod json;
mod labels;
pub mod limits;
pub mod listed;
pub mod message;

use std::sync::Arc;

use redress_types::{Alert, Delivery, Labels, Source, Status};
use serde_json::value::RawValue;

pub use error::{Error, Problem, Problems};
pub use identity::{Identity, InvalidIdentity};
use json::{Object, Path};
pub use listed::{Listed, parse_listed};

/// How to read a payload.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who brought it; copied to every delivery.
    pub source: Source,
    /// Whether each delivery keeps the bytes of its own alert, exactly as sent.
    pub keep_original: bool,
    /// What makes two alerts the same problem.
    pub identity: Identity,
    /// The most bytes a payload may have.
    pub payload_bytes_max: usize,
    /// The most alerts a payload may carry.
    pub alerts_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            source: Source::Native,
            keep_original: false,
            identity: Identity::default(),
            payload_bytes_max: limits::PAYLOAD_BYTES_MAX,
            alerts_max: limits::ALERTS_MAX,
        }
    }
}

/// What a payload was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One alert message.
    Message,
    /// A list of alert messages.
    Messages,
    /// An Alertmanager webhook body.
    Webhook,
}

/// A group of alerts as Alertmanager notifies it: what says which alerts a truncated webhook left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its key, which becomes a label of each of its alerts.
    pub key: String,
    /// The receiver that is notified.
    pub receiver: String,
    /// What its alerts have in common; empty: the receiver does not group.
    pub labels: Labels,
}

/// A payload, read whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The alerts in the order they were sent. An alert sent twice is here twice: admission counts it.
    pub deliveries: Vec<Delivery>,
    /// How many alerts the sender left out (`truncatedAlerts`); 0 for anything but a webhook.
    pub truncated: u64,
    /// Which group they were left out of; `None` when none were.
    pub group: Option<Group>,
    /// What the payload was.
    pub kind: Kind,
}

/// Reads a payload: an alert message, a list of them, or an Alertmanager webhook body, told apart by shape.
///
/// All or nothing: when one alert is malformed, nothing of the payload is returned. Fields that nobody asked for are
/// ignored, `null` counts as absent, and of a repeated JSON key the last one counts. An empty list is a payload of
/// no alerts.
///
/// # Errors
///
/// [`Error::TooLarge`] when the payload or its number of alerts is over the limit in `options`;
/// [`Error::NotJson`] when it is not JSON in UTF-8; [`Error::Invalid`] with the first few fields that are wrong.
pub fn parse_alerts(bytes: &[u8], options: &Options) -> Result<Parsed, Error> {
    let raw = read_json(bytes, options.payload_bytes_max)?;
    let mut problems = Problems::default();
    let parsed = match json::items(raw) {
        Some(items) => message::read_list(&items, options, &mut problems)?,
        None => read_object(raw, options, &mut problems)?,
    };
    match parsed {
        Some(parsed) if problems.is_empty() => Ok(parsed),
        _ => Err(Error::Invalid(problems)),
    }
}

/// One message or one webhook body; `None` when a problem was noted.
fn read_object(raw: &RawValue, options: &Options, problems: &mut Problems) -> Result<Option<Parsed>, Error> {
    let Some(root) = Object::read(raw, &Path::Root, problems) else { return Ok(None) };
    if root.names("alerts") {
        return alertmanager::read(&root, options, problems);
    }
    let delivery = message::read(&root, raw, options, problems);
    Ok(delivery.map(|delivery| Parsed {
        deliveries: vec![delivery],
        truncated: 0,
        group: None,
        kind: Kind::Message,
    }))
}

/// The payload as one JSON value, its syntax checked to the last byte.
fn read_json(bytes: &[u8], max: usize) -> Result<&RawValue, Error> {
    if bytes.len() > max {
        return Err(Error::TooLarge { what: "the payload", size: bytes.len(), limit: max, unit: "bytes" });
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Error::NotJson(format!("byte {} is not UTF-8", e.valid_up_to() + 1)))?;
    // Editors on Windows write a byte order mark, which JSON lets a reader ignore (RFC 8259, section 8.1).
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_ascii().is_empty() {
        return Err(Error::NotJson("it is empty".into()));
    }
    serde_json::from_str(text).map_err(|e| Error::NotJson(e.to_string()))
}

/// A delivery of `alert` as `options` ask for it.
fn delivery(alert: Alert, status: Status, raw: &RawValue, options: &Options) -> Delivery {
    let original = options.keep_original.then(|| Arc::from(raw.get().as_bytes()));
    Delivery { alert, status, source: options.source, original }
}

/// An error when a payload carries more alerts than `options` allow.
fn check_count(count: usize, options: &Options) -> Result<(), Error> {
    if count <= options.alerts_max {
        return Ok(());
    }
    Err(Error::TooLarge {
        what: "the list of alerts",
        size: count,
        limit: options.alerts_max,
        unit: "alerts",
    })
}
