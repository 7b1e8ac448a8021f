//! [`Error`]: one variant for each thing somebody can do about it. None of the texts holds a secret.

use redress_types::WithCauses;

/// Why bookkeeping was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is wrong: correct it.
    #[error("{setting}: {problem}")]
    Setting {
        /// The name of the setting.
        setting: String,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// A table, a column or a right is missing: somebody must run the statement that the text shows.
    #[error("{what}")]
    NotReady {
        /// What is missing, and the statement that makes it.
        what: String,
    },
    /// A server did not answer or a lock could not be had: later it may work by itself.
    #[error("{what}")]
    Unavailable {
        /// What was being done.
        what: String,
        /// Why not.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The content cannot be stored, and never will be: a person must look.
    #[error("{what}")]
    Refused {
        /// What, and what the database said.
        what: String,
    },
    /// A Redis Cluster: the fixed key names of the cache lie in different slots, so no script can change them
    /// together.
    #[error(
        "{server} is a Redis Cluster; the cache's key names lie in different slots and cannot be changed together: use a single Redis, or one with replicas"
    )]
    Cluster {
        /// Which.
        server: String,
    },
    /// A cache key holds something of another type than ours. Nothing was changed.
    #[error("{what}")]
    WrongType {
        /// The key, what it is, what was expected.
        what: String,
    },
    /// The operation log could not be read.
    #[error("the operation log could not be read")]
    Log(#[from] redress_operation_log::Error),
}

impl Error {
    pub(crate) fn unavailable(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable { what: what.into(), source: Some(source.into()) }
    }

    pub(crate) fn setting(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Setting { setting: setting.into(), problem: problem.into() }
    }

    /// The whole chain of causes on one line.
    pub fn chain(&self) -> String {
        WithCauses(self).to_string()
    }
}

impl From<Error> for redress_action::Error {
    fn from(error: Error) -> Self {
        let reason = error.chain();
        match error {
            Error::Refused { .. } => Self::permanent(reason),
            // Somebody can put these right while the row stays owed. Each is safe to repeat.
            Error::Setting { .. }
            | Error::NotReady { .. }
            | Error::Unavailable { .. }
            | Error::Cluster { .. }
            | Error::WrongType { .. }
            | Error::Log(_) => Self::retryable(reason),
        }
    }
}
