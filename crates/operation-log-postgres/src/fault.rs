//! [`Fault`]: what can go wrong inside a request, and what Postgres's errors mean to a caller.

use redress_operation_log::Error;

/// Why a request was not done.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The log refused it, and nothing was written for it.
    Refused(Error),
    /// Postgres failed, or could not be reached.
    Postgres(sqlx::Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Postgres(error)
    }
}

impl Fault {
    /// What the caller is told. `log` names the database.
    pub(crate) fn into_error(self, log: &str) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Postgres(error) => to_error(log, error),
        }
    }

    /// Whether the same may succeed at once.
    pub(crate) fn is_worth_another_try(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Postgres(error) => kind(error) == Kind::Collided,
        }
    }

    /// Whether what a statement had looked at changed under it.
    pub(crate) fn is_changed(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Postgres(error) => {
                error.as_database_error().and_then(|error| error.code()).as_deref() == Some("40001")
            }
        }
    }

    /// Whether the server cannot do it now: nothing happened.
    pub(crate) fn is_unable(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Postgres(error) => kind(error) == Kind::Unable,
        }
    }

    /// Whether the connection is gone, and with it, perhaps, the answer.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Postgres(error) => kind(error) == Kind::Lost,
        }
    }
}

/// What an error of Postgres asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Two transactions were in each other's way: the same again may succeed.
    Collided,
    /// The connection is gone: what was under way may or may not have happened.
    Lost,
    /// The server cannot do it now.
    Unable,
    /// The content is at fault.
    Content,
    /// What is stored, or the schema, is at fault.
    Stored,
}

/// By the five characters that Postgres gives every error (its documentation, appendix A).
fn kind(error: &sqlx::Error) -> Kind {
    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not known to be lasting may be tried again")]
    match error {
        sqlx::Error::Database(error) => of_state(error.code().as_deref().unwrap_or_default()),
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => Kind::Lost,
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::RowNotFound => Kind::Stored,
        sqlx::Error::Encode(_) => Kind::Content,
        _ => Kind::Unable,
    }
}

fn of_state(state: &str) -> Kind {
    match state {
        // A unique violation is a race that was lost: looked at again, it has its name.
        "40001" | "40P01" | "23505" | "55P03" => Kind::Collided,
        "57P01" | "57P02" | "57P03" | "25P03" => Kind::Lost,
        "42P01" | "42703" | "42883" | "XX001" | "XX002" => Kind::Stored,
        _ => match state.get(..2) {
            Some("08") => Kind::Lost,
            Some("22" | "23" | "54") => Kind::Content,
            _ => Kind::Unable,
        },
    }
}

/// What Postgres's error means to a caller.
pub(crate) fn to_error(log: &str, error: sqlx::Error) -> Error {
    match kind(&error) {
        Kind::Collided => unavailable(log, "others were writing the same; try again", error),
        Kind::Lost => unavailable(log, "the connection was lost", error),
        Kind::Content => Error::Unstorable { what: format!("{log} cannot hold this: {}", message(&error)) },
        Kind::Stored => Error::Corrupt {
            what: format!(
                "{log} does not hold what this program expects ({}); run `redress migrate`, then `redress verify`",
                message(&error)
            ),
        },
        Kind::Unable => {
            let why = why_unable(&error);
            unavailable(log, why, error)
        }
    }
}

fn why_unable(error: &sqlx::Error) -> &'static str {
    let state = error.as_database_error().and_then(|error| error.code());
    match state.as_deref() {
        Some("28000" | "28P01") => "it refuses this user; check the user and the password",
        Some("3D000") => "there is no such database; create it first",
        Some("42501") => "this user may not do it; it must own the schema that holds the log",
        Some("25006") => "it is read only; name the primary server",
        Some("53100") => "its disk is full; make room, nothing was lost",
        Some("53300") => "it has no connection left; raise its max_connections",
        Some("57014") => "it took longer than the statement timeout",
        Some(_) => "Postgres failed",
        None if matches!(error, sqlx::Error::PoolTimedOut) => "no connection could be had in time",
        None => "it cannot be reached",
    }
}

fn unavailable(log: &str, why: &str, error: sqlx::Error) -> Error {
    Error::unavailable(format!("{log}: {why}"), error)
}

/// The server's message, with the name of the constraint where one was broken.
fn message(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(database) => match database.constraint() {
            Some(constraint) => format!("{} ({constraint})", database.message()),
            None => database.message().to_owned(),
        },
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_ask_for_what_can_be_done_about_them() {
        let of = |states: &[&str]| states.iter().map(|state| of_state(state)).collect::<Vec<_>>();
        assert_eq!(of(&["40001", "40P01", "23505"]), [Kind::Collided; 3]);
        assert_eq!(of(&["08006", "57P01", "57P02", "57P03"]), [Kind::Lost; 4]);
        assert_eq!(of(&["22021", "23514", "54000"]), [Kind::Content; 3]);
        assert_eq!(of(&["42P01", "XX001"]), [Kind::Stored; 2]);
        assert_eq!(of(&["53100", "57014", "42501", ""]), [Kind::Unable; 4]);
    }
}
