//! [`Delivery`]: one alert as it arrived at the door.

use std::sync::Arc;
use std::time::Duration;

use crate::alert::Alert;
use crate::time::Timestamp;

/// One alert as it arrived, mapped and checked, ready for admission.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// What the source says is wrong.
    pub alert: Alert,
    /// Whether the source says it still is.
    pub status: Status,
    /// Who brought it; decides what a repeat may do.
    pub source: Source,
    /// The bytes it came in, when they are to be kept.
    pub original: Option<Arc<[u8]>>,
}

impl Delivery {
    /// An alert that fires now, submitted by code of the same process.
    pub fn firing(alert: Alert) -> Self {
        Self { alert, status: Status::Firing, source: Source::Native, original: None }
    }
}

/// What the source says about the alert now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is wrong now.
    Firing,
    /// It is not wrong any more: one vote, never proof (safety rule 17).
    Resolved {
        /// When the source says it ended.
        ends_at: Timestamp,
    },
}

/// Who brought a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A webhook that repeats what still fires: a live repeat may open `{id}#n`, and a conflict is recorded.
    Webhook {
        /// How often the sender repeats. A delivery within twice this of the last one is live.
        repeat_interval: Duration,
    },
    /// Native intake, library, queue, file: a repeat never runs again, and a conflict is refused.
    Native,
}
