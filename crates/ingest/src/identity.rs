//! [`Identity`]: which labels make two alerts the same problem.

use redress_types::{Alert, Fingerprint};

/// The names whose values are hashed into a fingerprint when the source gives none (contracts §1).
///
/// `environment`, `service` and `component` stand for the alert's own, with their defaults; any other name is a
/// label, empty when absent. The order counts. Changing it changes every fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(Vec<String>);

/// Why a list of names cannot be an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// Without a name, every alert would be the same problem.
    #[error("a fingerprint needs at least one label name")]
    Empty,
    /// It differs between alerts of one problem.
    #[error(
        "{0:?} cannot be part of a fingerprint: it changes while the problem stays the same; leave it out"
    )]
    Unstable(String),
}

/// A new version, another replica or a raised severity is still the same problem.
const UNSTABLE: [&str; 5] = ["replica", "version", "service_version", "severity", "level"];

impl Identity {
    /// An identity over these names, in this order.
    ///
    /// # Errors
    ///
    /// [`InvalidIdentity`] when there is no name, or one that changes while the problem stays the same.
    pub fn over<I: IntoIterator<Item = S>, S: Into<String>>(names: I) -> Result<Self, InvalidIdentity> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.is_empty() {
            return Err(InvalidIdentity::Empty);
        }
        match names.iter().find(|name| UNSTABLE.contains(&name.as_str())) {
            Some(name) => Err(InvalidIdentity::Unstable(name.clone())),
            None => Ok(Self(names)),
        }
    }

    /// The fingerprint of the problem that `alert` is about. Reads everything of it but its fingerprint.
    pub fn fingerprint(&self, alert: &Alert) -> Fingerprint {
        let value = |name: &String| match name.as_str() {
            "environment" => alert.environment(),
            "service" => &alert.service,
            "component" => &alert.component,
            label => alert.labels.get(label).map_or("", String::as_str),
        };
        let values: Vec<&str> = self.0.iter().map(value).collect();
        Fingerprint::over(&values)
    }
}

impl Default for Identity {
    /// `alertname`, `environment`, `service`, `component`, `instance`.
    fn default() -> Self {
        Self(["alertname", "environment", "service", "component", "instance"].map(str::to_owned).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_within_a_problem_is_refused() {
        assert_eq!(Identity::over(Vec::<String>::new()), Err(InvalidIdentity::Empty));
        for name in UNSTABLE {
            let refused = Identity::over(["alertname", name]);
            assert_eq!(refused, Err(InvalidIdentity::Unstable(name.to_owned())));
        }
        assert!(Identity::over(["alertname", "idc"]).is_ok());
    }
}
