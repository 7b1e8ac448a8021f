//! [`Tables`]: `alert_issues`, `alert_issue_comments` and `service_states`, in Postgres or in SQLite.
//!
//! Every [`Change`] is one transaction: the service states are locked first, in key order, then issues, comments
//! and at last the states that follow. Both backends do the same in the same order; `schema` has the statements.

mod postgres;
mod schema;
mod sqlite;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redress_types::{Comment, Issue, IssueState};

use crate::error::Error;
use crate::issue::{Change, IssueRow, NewComment, OpenIssues, ServiceKey, ServiceState, Standing};
use crate::read::Cursor;
use crate::settings::TablesSettings;

/// How many microseconds after its entry a comment may at most stand, when others have those before.
const MICROSECONDS_MAX: u64 = 1_000;

/// The tables of the persistence step. Cloning is cheap and gives the same ones.
#[derive(Clone, Debug)]
pub struct Tables(Backend);

#[derive(Clone, Debug)]
enum Backend {
    Postgres(postgres::Postgres),
    Sqlite(sqlite::Sqlite),
}

/// Runs the same on either backend.
macro_rules! on {
    ($tables:expr, $backend:ident => $call:expr) => {
        match &$tables.0 {
            Backend::Postgres($backend) => $call,
            Backend::Sqlite($backend) => $call,
        }
    };
}

impl Tables {
    /// Opens the tables, inside a Tokio runtime. Postgres is not spoken to before it is needed; a SQLite file is
    /// opened (and made) here.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(settings: &TablesSettings) -> Result<Self, Error> {
        Ok(Self(match settings {
            TablesSettings::Postgres(options) => Backend::Postgres(postgres::open((**options).clone())),
            TablesSettings::Sqlite(path) => Backend::Sqlite(sqlite::open(path)?),
        }))
    }

    /// As [`Self::open`] where nothing may be created, not even a file.
    ///
    /// # Errors
    /// [`Error::NotReady`] when there is no file; as [`Self::open`].
    pub fn open_existing(settings: &TablesSettings) -> Result<Self, Error> {
        if let TablesSettings::Sqlite(path) = settings
            && !path.exists()
        {
            let [first, ..] = &schema::TABLES;
            let why = format!("there is no file {}", path.display());
            return Err(missing(first.name, first.sqlite, &why));
        }
        Self::open(settings)
    }

    /// The file of the embedded default, beside the log's: `redress.db` → `redress-issues.db`.
    ///
    /// A file of its own, because the log's file has one writer, who holds it for whole batches, and is refused
    /// when it has tables that the log does not know.
    pub fn beside(log: &Path) -> PathBuf {
        let stem = log.file_stem().unwrap_or(log.as_os_str()).to_string_lossy();
        let end = log.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
        log.with_file_name(format!("{stem}-issues{end}"))
    }

    /// Looks whether the tables are there with their columns and rights, and makes the missing ones when `create`
    /// allows it. Tables that are there are left as they are. Repeatable; several processes may do it at once.
    ///
    /// # Errors
    /// [`Error::NotReady`] names the table, what is missing, and the statement that makes it.
    pub async fn ensure(&self, create: bool) -> Result<(), Error> {
        on!(self, tables => tables.ensure(create).await)
    }

    /// Ends the connections.
    pub async fn close(&self) {
        on!(self, tables => tables.close().await);
    }

    pub(crate) async fn apply(&self, change: &Change) -> Result<Standing, Error> {
        on!(self, tables => tables.apply(change).await)
    }

    pub(crate) async fn look(&self, change: &Change) -> Result<Look, Error> {
        on!(self, tables => tables.look(change).await)
    }

    pub(crate) async fn issues(
        &self,
        state: Option<&'static str>,
        after: Option<&Cursor>,
        limit: i64,
    ) -> Result<Vec<Issue>, Error> {
        on!(self, tables => tables.issues(state, after, limit).await)
    }

    /// The keys of the service states above `after`, in order.
    pub(crate) async fn service_keys(
        &self,
        after: Option<&ServiceKey>,
        limit: i64,
    ) -> Result<Vec<ServiceKey>, Error> {
        on!(self, tables => tables.service_keys(after, limit).await)
    }

    pub(crate) async fn issue(&self, id: &str) -> Result<Option<(Issue, Vec<Comment>)>, Error> {
        on!(self, tables => tables.issue(id).await)
    }

    /// Those of these ids that are issues, and whether each is closed.
    pub(crate) async fn known(&self, ids: &[String]) -> Result<BTreeMap<String, bool>, Error> {
        on!(self, tables => tables.known(ids).await)
    }
}

/// How the rows of a change stand now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    /// The issues of the change, and the earlier runs that are there.
    pub issues: Vec<IssueRow>,
    /// By issue, the comments from the microsecond of the entry on.
    pub comments: BTreeMap<String, Said>,
    pub services: Vec<ServiceLook>,
}

/// The comments of an issue from the microsecond of an entry on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// One stands at that very microsecond.
    pub exactly: bool,
    pub contents: Vec<String>,
}

impl Said {
    /// Whether the comment is there. Whatever stands at the entry's microsecond may be ours that somebody has
    /// rewritten: it is not written a second time.
    pub(crate) fn has(&self, comment: &NewComment) -> bool {
        self.exactly || self.contents.iter().any(|content| comment.is(content))
    }
}

/// How a service state stands now.
#[derive(Clone, Debug)]
pub(crate) struct ServiceLook {
    pub key: ServiceKey,
    pub row: Option<ServiceState>,
    /// Those of its issues that are open.
    pub open: OpenIssues,
}

/// The table that a database says is missing.
fn table_in(message: &str) -> &'static schema::Table {
    let named = schema::TABLES.iter().rev().find(|table| message.contains(table.name));
    named.unwrap_or(&schema::TABLES[0])
}

fn missing(table: &str, statement: &str, why: &str) -> Error {
    let what =
        format!("table {table} is missing ({why}); somebody who may create tables runs:\n{statement};");
    Error::NotReady { what }
}

/// The ids of those rows that are open.
fn open_of(rows: &[IssueRow]) -> impl Iterator<Item = String> + '_ {
    rows.iter().filter(|row| row.state == IssueState::Open).map(|row| row.id.clone())
}

fn issue_row(id: String, state: &str, alert_state: &str) -> Result<IssueRow, String> {
    let unknown = |word: &str| format!("alert_issues {id} has the state {word:?}, which is none of ours");
    let state = state.parse().map_err(|_| unknown(state))?;
    let alert_state = alert_state.parse().map_err(|_| unknown(alert_state))?;
    Ok(IssueRow { id, state, alert_state })
}
