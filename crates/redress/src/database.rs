//! Which log a command opens, and as what: to write, or only to read what is there.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Error, bail};
use redress_operation_log::{MemoryLog, OperationLog};
use redress_operation_log_postgres::{Migrate, Options as PostgresOptions, PostgresLog};
use redress_operation_log_sqlite::{Options, SqliteLog, path_of};
use redress_types::SystemClock;
use redress_types::url::without_password;

use crate::cli::Global;

/// The database when none is named.
pub(crate) const DEFAULT: &str = "sqlite://redress.db";
/// The name that other tools share; the project's own comes before it.
const SHARED_NAME: &str = "DATABASE_URL";

/// Where a log is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this process only.
    Memory,
    /// In a SQLite file: the text that names it, and how the user may name it again.
    File(String),
    /// In a Postgres database: its URL, which may hold a password.
    Postgres(String),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Place {
    /// What `--db`, or else the environment, or else the default names.
    pub(crate) fn of(global: &Global) -> Result<Self, Error> {
        match &global.db {
            Some(text) if !text.is_empty() => Self::read(text).context("the database (--db)"),
            Some(_) | None => match std::env::var(SHARED_NAME) {
                Ok(text) if !text.is_empty() => {
                    Self::read(&text).with_context(|| format!("the database ({SHARED_NAME})"))
                }
                Ok(_) | Err(std::env::VarError::NotPresent) => Ok(Self::File(DEFAULT.to_owned())),
                Err(std::env::VarError::NotUnicode(_)) => bail!("{SHARED_NAME} is not UTF-8"),
            },
        }
    }

    fn read(text: &str) -> Result<Self, Error> {
        if matches!(text, "memory:" | "memory" | "memory://" | ":memory:" | "sqlite::memory:") {
            return Ok(Self::Memory);
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        if let Some((scheme, _)) = text.split_once("://").filter(|(scheme, _)| *scheme != "sqlite") {
            // The rest may hold a password.
            bail!(
                "the log is kept in a SQLite file, in Postgres or in memory, not in {scheme}://; name sqlite://FILE \
                 or postgres://USER@HOST/NAME with --db or REDRESS_DATABASE_URL"
            );
        }
        if text.starts_with("sqlite:") && text.contains('?') {
            bail!("{text:?} has parameters (?…), and none are read; name only the file, as in {DEFAULT}");
        }
        path_of(text)?;
        Ok(Self::File(text.to_owned()))
    }

    /// Opens it to run an engine on; makes the file when there is none.
    pub(crate) async fn open(&self) -> Result<Arc<dyn OperationLog>, Error> {
        match self {
            Self::Memory => Ok(Arc::new(MemoryLog::new(Arc::new(SystemClock)))),
            Self::File(url) => Ok(Arc::new(self.file(url, true)?)),
            Self::Postgres(url) => Ok(Arc::new(self.postgres(url, Migrate::Auto).await?)),
        }
    }

    /// Opens what is there already, to read it or to leave a request. Makes nothing.
    pub(crate) async fn open_existing(&self) -> Result<Arc<dyn OperationLog>, Error> {
        let url = match self {
            Self::File(url) => url,
            Self::Postgres(url) => return Ok(Arc::new(self.postgres(url, Migrate::Check).await?)),
            Self::Memory => bail!("a log in memory ends with the process that has it; name a file with --db"),
        };
        let path = path_of(url)?;
        if !path.exists() {
            bail!(
                "there is no database {}; `redress run FILE` makes one, --db names another",
                path.display()
            );
        }
        if path.metadata().is_ok_and(|file| file.is_file() && file.len() == 0) {
            bail!("{} is empty: no database yet", path.display());
        }
        Ok(Arc::new(self.file(url, false)?))
    }

    fn file(&self, url: &str, create: bool) -> Result<SqliteLog, Error> {
        let path = path_of(url)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
            && !folder.is_dir()
        {
            bail!("there is no folder {} for the database; make it first", folder.display());
        }
        let options = Options { create, ..Options::default() };
        SqliteLog::open(url, &options).with_context(|| format!("opening the database {}", path.display()))
    }

    async fn postgres(&self, url: &str, migrate: Migrate) -> Result<PostgresLog, Error> {
        let options = PostgresOptions { migrate, ..PostgresOptions::default() };
        PostgresLog::open(url, &options)
            .await
            .with_context(|| format!("opening the database {}", self.shown()))
    }

    /// What names it, without a password.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Memory => "memory:".to_owned(),
            Self::File(url) => url.clone(),
            Self::Postgres(url) => without_password(url),
        }
    }

    /// The file, when it is one.
    pub(crate) fn path(&self) -> Option<std::path::PathBuf> {
        match self {
            Self::Memory | Self::Postgres(_) => None,
            Self::File(url) => path_of(url).ok(),
        }
    }

    /// What to add to a command so that it opens this log again, with a space before it.
    pub(crate) fn as_option(&self) -> String {
        match self {
            Self::Memory => " --db memory:".to_owned(),
            Self::File(url) if url == DEFAULT => String::new(),
            Self::File(url) => format!(" --db {}", quoted(url)),
            Self::Postgres(_) => format!(" --db {}", quoted(&self.shown())),
        }
    }
}

/// This program as it was called, so that a command that is shown can be pasted.
pub(crate) fn program() -> String {
    let called = std::env::args().next().filter(|called| called.contains('/'));
    called.map_or_else(|| "redress".to_owned(), |called| quoted(&called))
}

/// A text as one word of a shell command.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.:_-=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", crate::text::escape(text).replace('\'', "'\\''"))
}

/// The bytes that the files of a database have now.
pub(crate) fn bytes(path: &Path) -> u64 {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        std::fs::metadata(name).map_or(0, |file| file.len())
    };
    beside("") + beside("-wal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_database() {
        let read = |text: &str| Place::read(text).map_err(|error| error.to_string());
        assert_eq!(read("memory:"), Ok(Place::Memory));
        assert_eq!(read("sqlite://a.db"), Ok(Place::File("sqlite://a.db".into())));
        assert_eq!(read("a b.db"), Ok(Place::File("a b.db".into())));
        let postgres = read("postgres://me:hunter2@db:5432/x?sslmode=require&password=hunter2").unwrap();
        assert_eq!(postgres.shown(), "postgres://me@db:5432/x");
        assert_eq!(postgres.as_option(), " --db postgres://me@db:5432/x");
        assert!(!format!("{postgres:?}").contains("hunter2"));
        let refused = read("mysql://me:hunter2@db/x").unwrap_err();
        assert!(refused.contains("mysql://") && !refused.contains("hunter2"), "{refused}");
        assert!(read("sqlite://a.db?mode=rwc").unwrap_err().contains("parameters"));
        assert!(read("sqlite://").is_err());
    }

    #[test]
    fn a_command_that_is_shown_can_be_pasted() {
        assert_eq!(Place::File(DEFAULT.into()).as_option(), "");
        assert_eq!(Place::File("a.db".into()).as_option(), " --db a.db");
        assert_eq!(Place::File("it's.db".into()).as_option(), " --db 'it'\\''s.db'");
    }
}
