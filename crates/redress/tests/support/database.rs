//! [`Database`]: a Postgres database of a test's own.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// A database of its own on the server of `TEST_POSTGRES_URL`, removed when dropped: what is there is the test's alone.
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    pub fn new(name: &str) -> Self {
        let server = std::env::var("TEST_POSTGRES_URL").unwrap_or_else(|_| {
            panic!("TEST_POSTGRES_URL names no database; run ./test, which starts a private server")
        });
        let this = Self { server, name: format!("redress_{name}_{}", std::process::id()) };
        this.run(&this.server, &format!("create database {}", this.name));
        this
    }

    pub fn url(&self) -> String {
        let (base, parameters) = self.server.split_once('?').unwrap_or((&self.server, ""));
        let (base, _) = base.rsplit_once('/').unwrap();
        format!("{base}/{}?{parameters}", self.name)
    }

    fn run(&self, url: &str, sql: &str) {
        block_on(async {
            let mut conn = PgConnection::connect(url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
        });
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.run(&self.server, &format!("drop database if exists {} with (force)", self.name));
    }
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
