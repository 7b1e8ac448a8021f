//! [`PersistenceObligations`]: which entries owe the tables and the cache something.
//!
//! Each service that an operation's issues are about gets a row for the tables and, where there is a cache, one for
//! it, under order keys of their own: while Redis is down, the tables go on.

use std::sync::Arc;

use redress_operation_log::{Event, Obligations, Operation, Owe};
use redress_types::Alert;
use serde::{Deserialize, Serialize};

use crate::facts::{has_issue, services};

/// The executor of the tables' rows.
pub const TABLES_EXECUTOR: &str = "persistence";
/// The executor of the cache's rows.
pub const CACHE_EXECUTOR: &str = "persistence_cache";

/// Owes a row when an entry accepts or joins an alert that has an issue, starts to act, or ends. Pure.
#[derive(Clone, Copy, Debug)]
pub struct PersistenceObligations {
    /// There is a cache.
    pub cache: bool,
}

/// What a row says. The entry that owes it is in the row; what it means is derived from the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// What happened, for people.
    #[serde(default)]
    pub what: Vec<String>,
    /// Whose turn it is.
    pub service: String,
    /// The operation acted already. `None`: the row is of a program that did not say so.
    #[serde(default)]
    pub acting: Option<bool>,
}

impl Content {
    /// Of an entry that only brings alerts: whether the operation acted already. Such a row needs nothing else of the
    /// operation's history.
    pub(crate) fn only_brings(&self) -> Option<bool> {
        let only = !self.what.is_empty() && self.what.iter().all(|word| word == ACCEPTED || word == JOINED);
        self.acting.filter(|_| only)
    }
}

const ACCEPTED: &str = "accepted";
const JOINED: &str = "joined";

impl Obligations for PersistenceObligations {
    fn owed(&self, operation: &Operation, events: &[Event]) -> Vec<Owe> {
        let mut what: Vec<String> = events.iter().filter_map(told).map(str::to_owned).collect();
        // An ended operation refuses every event, so only the entry that ends it can get here ended.
        if operation.state.is_ended() {
            what.push(operation.state.to_string());
        }
        if what.is_empty() {
            return Vec::new();
        }
        let moves_all = what.iter().any(|word| word != ACCEPTED && word != JOINED);
        let services = if moves_all {
            let counted = operation.alerts.iter().map(|counted| &*counted.alert);
            services(counted.filter(|alert| has_issue(alert)))
        } else {
            // Of a storm of joined alerts each owes its own row, not one for everything before it.
            services(events.iter().filter_map(brought))
        };
        let acting = Some(operation.attempt > 0);
        let row = |service: String| Content { what: what.clone(), service, acting };
        services.into_iter().flat_map(|service| self.rows(&row(service))).collect()
    }
}

impl PersistenceObligations {
    fn rows(&self, content: &Content) -> Vec<Owe> {
        let kinds = [(TABLES_EXECUTOR, "service"), (CACHE_EXECUTOR, "cache")];
        let order_key = |kind: &str| format!("{kind}:{}", content.service);
        // Texts and a flag can always be written.
        let content: Arc<[u8]> = serde_json::to_vec(content).unwrap_or_default().into();
        let owe = |(executor, kind): (&str, &str)| Owe {
            executor: executor.to_owned(),
            order_key: order_key(kind),
            content: Arc::clone(&content),
        };
        kinds.into_iter().take(1 + usize::from(self.cache)).map(owe).collect()
    }
}

/// The alert that an event brings, where it has an issue.
#[expect(clippy::wildcard_enum_match_arm, reason = "no other event brings an alert")]
fn brought(event: &Event) -> Option<&Alert> {
    match event {
        Event::Accepted { alert, .. } | Event::AlertJoined { alert, .. } if has_issue(alert) => Some(alert),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "no other event is about the tables")]
fn told(event: &Event) -> Option<&'static str> {
    match event {
        Event::Accepted { alert, .. } if has_issue(alert) => Some(ACCEPTED),
        Event::AlertJoined { alert, .. } if has_issue(alert) => Some(JOINED),
        Event::Admitted { .. } => Some("started"),
        _ => None,
    }
}
