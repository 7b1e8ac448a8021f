//! What the tests of the log share: a schema of its own for each, on the server of `TEST_POSTGRES_URL`.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold fails the test")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redress_operation_log_postgres::{Options, PostgresLog};
use redress_testkit::until_async;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

/// How long whatever must come may take.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The database that tests may use.
pub fn server() -> String {
    std::env::var("TEST_POSTGRES_URL").unwrap_or_else(|_| {
        panic!("TEST_POSTGRES_URL names no database; run ./test, which starts a private server")
    })
}

/// A schema of its own, removed when dropped. Tests that use it run on several threads.
pub struct Schema {
    server: String,
    pub name: String,
}

impl Schema {
    pub async fn new() -> Self {
        Self::on(&server()).await
    }

    pub async fn on(server: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let this = Self { server: server.to_owned(), name: format!("t{}_{number}", std::process::id()) };
        this.run(&format!("create schema {}", this.name)).await;
        this
    }

    /// The URL of a log in this schema.
    pub fn url(&self) -> String {
        self.url_of(&self.server)
    }

    /// The same in another form of the server's URL.
    pub fn url_of(&self, server: &str) -> String {
        let sign = if server.contains('?') { '&' } else { '?' };
        format!("{server}{sign}options=-c%20search_path%3D{}", self.name)
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }

    /// Runs statements, in this schema once it exists.
    pub async fn run(&self, sql: &str) {
        let mut conn = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
    }

    /// Looks until this query, which reads one number, reads at least so much.
    pub async fn until(&self, what: &str, sql: &str, least: i64) {
        let look = async || {
            let row = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.connect().await).await?;
            Ok((row.try_get::<i64, _>(0)? >= least).then_some(()))
        };
        until_async(LIMIT, what, look).await.unwrap();
    }

    pub async fn open(&self) -> PostgresLog {
        PostgresLog::open(&self.url(), &Options::default()).await.unwrap()
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let remove = async move {
            let Ok(mut conn) = PgConnection::connect(&server).await else { return };
            let sql = format!("drop schema if exists {name} cascade");
            let _ = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await;
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(remove));
    }
}
