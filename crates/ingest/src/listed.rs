//! What a truncated webhook left out: the answer of Alertmanager's `GET /api/v2/alerts`, narrowed to one group.
//!
//! An alert from here is the same as from a webhook: its id is made of fingerprint and start, so it does not matter
//! which of the two brings it first. Unlike a webhook, the list is not a sender's message that stands or falls as
//! one: what cannot be read is left out and counted.

use redress_types::{Delivery, Labels};

use crate::alertmanager::{Form, read_alert};
use crate::error::{Error, Problems};
use crate::json::{self, Object, Path};
use crate::limits::TEXT_BYTES_MAX;
use crate::{Group, Options, check_count, labels, read_json};

/// The firing alerts of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// Those that fire and are neither silenced nor inhibited, in the order of the list.
    pub deliveries: Vec<Delivery>,
    /// What was wrong with those of the list that could not be read.
    pub problems: Problems,
}

/// Reads the list and keeps what fires in `group`: notified to its receiver, with all of its labels.
///
/// # Errors
///
/// [`Error::TooLarge`] and [`Error::NotJson`] as [`parse_alerts`](crate::parse_alerts); [`Error::Invalid`] when it is no
/// list.
pub fn parse_listed(bytes: &[u8], group: &Group, options: &Options) -> Result<Listed, Error> {
    let raw = read_json(bytes, options.payload_bytes_max)?;
    let mut problems = Problems::default();
    let Some(items) = json::items(raw) else {
        problems.add(&Path::Root, json::wrong_type(raw, "a list of alerts"));
        return Err(Error::Invalid(problems));
    };
    check_count(items.len(), options)?;
    let mut deliveries = Vec::new();
    for (i, raw) in items.iter().enumerate() {
        let here = Path::Index(&Path::Root, i);
        let Some(object) = Object::read(raw, &here, &mut problems) else { continue };
        if is_of(&object, group) {
            deliveries.extend(read_alert(&object, raw, Form::Listed, &group.key, options, &mut problems));
        }
    }
    Ok(Listed { deliveries, problems })
}

/// Whether the alert fires in this group. What cannot be read here is of no group; nobody needs to hear of it.
fn is_of(alert: &Object<'_, '_>, group: &Group) -> bool {
    let unread = &mut Problems::default();
    let labels: Labels = labels::read(alert, unread);
    let grouped = group.labels.iter().all(|(name, value)| labels.get(name) == Some(value));
    grouped && is_active(alert, unread) && is_notified(alert, &group.receiver, unread)
}

/// Neither silenced nor inhibited.
fn is_active(alert: &Object<'_, '_>, unread: &mut Problems) -> bool {
    let path = alert.path("status");
    let status = alert.get("status").and_then(|raw| Object::read(raw, &path, unread));
    status.and_then(|status| status.text("state", TEXT_BYTES_MAX, unread)).as_deref() == Some("active")
}

fn is_notified(alert: &Object<'_, '_>, receiver: &str, unread: &mut Problems) -> bool {
    let path = alert.path("receivers");
    let receivers = alert.get("receivers").and_then(json::items).unwrap_or_default();
    receivers.iter().any(|raw| {
        let named = Object::read(raw, &path, unread).and_then(|r| r.text("name", TEXT_BYTES_MAX, unread));
        named.as_deref() == Some(receiver)
    })
}
