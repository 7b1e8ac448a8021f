//! [`Fault`]: what can go wrong inside a request, and what SQLite's errors mean to a caller.

use redress_operation_log::Error;
use rusqlite::ErrorCode;

/// Why a request was not done.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The log refused it, and nothing was written for it.
    Refused(Error),
    /// SQLite failed: what was written for it, and for all that shared its transaction, is rolled back.
    Sqlite(rusqlite::Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Fault {
    /// What the caller is told. `log` names the file.
    pub(crate) fn into_error(self, log: &str) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Sqlite(error) => to_error(log, error),
        }
    }
}

/// What a request found, or what the log said to it. An error is one of SQLite's, for which the transaction fails.
pub(crate) fn refused<T>(found: Result<T, Fault>) -> rusqlite::Result<Result<T, Error>> {
    match found {
        Ok(value) => Ok(Ok(value)),
        Err(Fault::Refused(error)) => Ok(Err(error)),
        Err(Fault::Sqlite(error)) => Err(error),
    }
}

/// Whether another connection, mostly another process's, is in the way: that passes.
pub(crate) fn is_busy(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
}

/// What SQLite's error means to a caller.
pub(crate) fn to_error(log: &str, error: rusqlite::Error) -> Error {
    let Some(code) = error.sqlite_error_code() else { return of_values(log, error) };
    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not known to be lasting may be tried again")]
    match code {
        ErrorCode::NotADatabase => Error::Corrupt {
            what: format!("{log} is not a SQLite database; name another file, or move this one away"),
        },
        ErrorCode::DatabaseCorrupt => Error::Corrupt {
            what: format!("{log} is damaged ({error}); restore it from a backup, then run `redress verify`"),
        },
        ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch => {
            Error::Unstorable { what: format!("{log} cannot hold this: {error}") }
        }
        ErrorCode::DiskFull => unavailable(log, "the disk is full; make room, nothing was lost", error),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
            unavailable(log, "it may not be written; check the permissions of the file and its folder", error)
        }
        ErrorCode::CannotOpen => {
            unavailable(log, "it cannot be opened; check that its folder exists and may be written", error)
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            unavailable(log, "another process is writing to it; try again", error)
        }
        ErrorCode::SystemIoFailure => unavailable(log, "reading or writing it failed", error),
        _ => unavailable(log, "SQLite failed", error),
    }
}

/// Errors that SQLite did not make: a value that is not what its column must hold, or does not fit.
fn of_values(log: &str, error: rusqlite::Error) -> Error {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest are defects here, and may be tried again")]
    match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => {
            Error::Corrupt { what: format!("{log} holds what no log writes ({error}); run `redress verify`") }
        }
        rusqlite::Error::ToSqlConversionFailure(_) => {
            Error::Unstorable { what: format!("{log} cannot hold this: {error}") }
        }
        _ => unavailable(log, "SQLite failed", error),
    }
}

fn unavailable(log: &str, why: &str, error: rusqlite::Error) -> Error {
    Error::unavailable(format!("{log}: {why}"), error)
}
