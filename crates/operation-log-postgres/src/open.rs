//! Opening: the connections and how each is set up, and that the server keeps what it acknowledges.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use redress_operation_log::Error;
use redress_types::Clock;
use redress_types::url::without_password;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection, PgPool, query, raw_sql};

use crate::fault::{Fault, to_error};
use crate::schema;
use crate::shared::only;
use crate::values::Columns;

/// The oldest server: the first with `bit_xor`, by which the sums of the sessions grow in one statement.
const OLDEST_SERVER: i32 = 140_000;

/// Whether opening may change the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Migrate {
    /// Bring it to this program's format; make it when there is none.
    #[default]
    Auto,
    /// Refuse any other format. For users that may not change the schema.
    Check,
}

/// How a log is opened.
#[derive(Clone)]
pub struct Options {
    /// Whether opening may change the schema; yes by default.
    pub migrate: Migrate,
    /// Connections beside three: two for appends, one for listening; 4 by default.
    pub connections: u32,
    /// How long a call waits for a connection, also while the server is away; 5 seconds by default.
    pub acquire_timeout: Duration,
    /// How long a statement may take; 30 seconds by default.
    pub statement_timeout: Duration,
    /// What the server's list of connections calls them; `redress` by default.
    pub application_name: String,
    /// Go on where the server runs with `fsync` or `full_page_writes` off, and may lose what it acknowledged; no by
    /// default.
    pub accept_loss: bool,
    /// In the place of the database's own clock. For tests: leases are then judged by it.
    pub clock: Option<Arc<dyn Clock>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            migrate: Migrate::Auto,
            connections: 4,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            application_name: "redress".into(),
            accept_loss: false,
            clock: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("migrate", &self.migrate)
            .field("connections", &self.connections)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("application_name", &self.application_name)
            .field("accept_loss", &self.accept_loss)
            .finish_non_exhaustive()
    }
}

/// A database, by its URL, and what messages call it: without the password.
pub(crate) struct Database {
    pub options: PgConnectOptions,
    pub log: String,
}

impl Database {
    /// # Errors
    /// [`Error::Unstorable`] when the text is not the URL of a Postgres database.
    pub(crate) fn of(url: &str, options: &Options) -> Result<Self, Error> {
        let refused = |why: String| Error::Unstorable {
            what: format!(
                "the URL names no Postgres database ({why}); write postgres://user@host:5432/database"
            ),
        };
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(refused("it does not begin with postgres://".into()));
        }
        let parsed = PgConnectOptions::from_str(url).map_err(|error| refused(error.to_string()))?;
        let database = parsed.get_database().unwrap_or_else(|| parsed.get_username());
        let log = format!("postgres://{}:{}/{database}", parsed.get_host(), parsed.get_port());
        // A password that was left unescaped may stand in what was read as the database.
        let log = without_password(&log);
        let options = parsed.application_name(&options.application_name).disable_statement_logging();
        Ok(Self { options, log })
    }

    /// One connection, set up.
    pub(crate) async fn connect(&self, options: &Options) -> Result<PgConnection, sqlx::Error> {
        let connect = async {
            let mut conn = self.options.connect().await?;
            set_up(&mut conn, options.statement_timeout).await?;
            Ok(conn)
        };
        match tokio::time::timeout(options.acquire_timeout, connect).await {
            Ok(connected) => connected,
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    /// The connections for everything but the batches of appends; made when they are needed.
    pub(crate) fn pool(&self, options: &Options) -> PgPool {
        let statement_timeout = options.statement_timeout;
        PgPoolOptions::new()
            // One more: who listens keeps it.
            .max_connections(options.connections.max(1) + 1)
            .acquire_timeout(options.acquire_timeout)
            .after_connect(move |conn, _| Box::pin(async move { set_up(conn, statement_timeout).await }))
            .connect_lazy_with(self.options.clone())
    }
}

/// How each connection is set up, in one round trip. Set here and not in the URL, so that what a role or a database
/// sets otherwise does not count, and a pooler between us and the server need not know it.
async fn set_up(conn: &mut PgConnection, statement_timeout: Duration) -> Result<(), sqlx::Error> {
    let sql = format!(
        "set statement_timeout = {};
         set lock_timeout = '10s';
         -- An engine that is stopped in the middle of a transaction keeps the others waiting no longer than this.
         set idle_in_transaction_session_timeout = '3s';
         set default_transaction_isolation = 'read committed';
         set jit = off;
         -- Statements are planned once for a connection, perhaps while the tables are still empty. Each is meant to
         -- use an index, so that its cost stays what it is when they are not.
         set plan_cache_mode = force_generic_plan;
         set enable_seqscan = off;
         -- Raised where a role or a database lowers it, and never lowered where it is stronger.
         select set_config('synchronous_commit', 'on', false)
             where current_setting('synchronous_commit') in ('off', 'local')",
        statement_timeout.as_millis()
    );
    raw_sql(sqlx::AssertSqlSafe(sql)).execute(conn).await?;
    Ok(())
}

/// What was found when a log was opened.
pub(crate) struct Found {
    /// The durability of an acknowledged write.
    pub durability: String,
    /// The log's own id.
    pub log_id: String,
    /// By what this process knows its own announcements.
    pub me: String,
}

/// Refuses a server that cannot hold a log or might lose what it acknowledged; brings the schema to its format.
/// Answers what was found.
pub(crate) async fn check(conn: &mut PgConnection, log: &str, options: &Options) -> Result<Found, Error> {
    let check = async {
        let durability = server(conn, log, options).await?;
        if options.migrate == Migrate::Auto {
            schema::migrate(conn, log).await?;
        }
        schema::check(conn, log).await?;
        let row = only(conn, query("select log_id::text, gen_random_uuid()::text from meta")).await?;
        let mut row = Columns::of(&row);
        Ok::<_, Fault>(Found { durability, log_id: row.get()?, me: row.get()? })
    };
    check.await.map_err(|fault| fault.into_error(log))
}

/// What the server is, and how durable an acknowledged write is there.
pub(crate) async fn server(conn: &mut PgConnection, log: &str, options: &Options) -> Result<String, Fault> {
    let sql = "select current_setting('server_version_num')::int, pg_is_in_recovery(),
             current_setting('server_encoding'), current_schema()::text, current_setting('fsync'),
             current_setting('full_page_writes'), current_setting('synchronous_commit')";
    let row = only(conn, query(sql)).await?;
    let mut row = Columns::of(&row);
    let (version, standby): (i32, bool) = (row.get()?, row.get()?);
    let (encoding, schema): (String, Option<String>) = (row.get()?, row.get()?);
    let (fsync, pages, commit): (String, String, String) = (row.get()?, row.get()?, row.get()?);
    let refused =
        |why: String| Err(Error::Unavailable { what: format!("{log}: {why}"), source: None }.into());
    if version < OLDEST_SERVER {
        let version = version / 10_000;
        return refused(format!("it is Postgres {version}; Redress needs 14 or newer"));
    }
    if standby {
        return refused("it is a standby, which only reads; name the primary server".into());
    }
    if encoding != "UTF8" {
        return refused(format!("its encoding is {encoding}; make a database with encoding UTF8"));
    }
    if schema.is_none() {
        return refused("no schema of its search_path exists; create one for Redress".into());
    }
    if (fsync != "on" || pages != "on") && !options.accept_loss {
        return refused(format!(
            "it runs with fsync={fsync} and full_page_writes={pages} and could lose what it acknowledged; turn both on"
        ));
    }
    if !matches!(commit.as_str(), "on" | "remote_write" | "remote_apply") {
        return refused(format!("synchronous_commit is {commit} and could not be turned on for this user"));
    }
    let durability = format!("postgres synchronous_commit={commit}, fsync={fsync}, full_page_writes={pages}");
    Ok(durability)
}

/// Brings the schema that a URL names to this program's format.
pub(crate) async fn migrate(url: &str, options: &Options) -> Result<Vec<i32>, Error> {
    let database = Database::of(url, options)?;
    let mut conn = database.connect(options).await.map_err(|error| to_error(&database.log, error))?;
    let migrate = async {
        server(&mut conn, &database.log, options).await?;
        schema::migrate(&mut conn, &database.log).await
    };
    migrate.await.map_err(|fault| fault.into_error(&database.log))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_database_without_the_password() {
        let named = |url: &str| Database::of(url, &Options::default()).map(|database| database.log);
        let url = "postgres://ann:secret@db.test:5433/redress?sslmode=disable";
        assert_eq!(named(url).unwrap(), "postgres://db.test:5433/redress");
        for unescaped in ["postgres://me:/s3cret@db/x", "postgres://me:5/s3cret@db/x"] {
            assert_eq!(named(unescaped).unwrap(), "postgres://…");
        }
        for refused in ["", "sqlite://redress.db", "redress.db", "postgres://[", "mysql://localhost/x"] {
            let error = named(refused).unwrap_err().to_string();
            assert!(error.contains("postgres://user@host"), "{error}");
        }
    }
}
