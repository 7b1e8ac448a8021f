//! [`Trigger`]: which alerts a strategy is for.

use redress_types::Alert;

/// Which alerts a strategy is for. The first strategy whose trigger matches is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Every alert.
    Any,
    /// Alerts of this service.
    Service(String),
    /// Alerts that carry this label with this value.
    Label {
        /// The label's name.
        name: String,
        /// The value it must have, exactly.
        value: String,
    },
}

impl Trigger {
    /// Whether it is for this alert.
    pub fn matches(&self, alert: &Alert) -> bool {
        match self {
            Self::Any => true,
            Self::Service(service) => alert.service == *service,
            Self::Label { name, value } => alert.labels.get(name) == Some(value),
        }
    }
}
