//! Databases and a Redis that belong to one test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::{Config, ServerConfig};
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use redress_persistence::{CacheSettings, TablesSettings};
use redress_testkit::servers::{Process, free_address, redis};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tempfile::TempDir;

/// Where a test's tables are.
pub enum Db {
    Sqlite { path: PathBuf, _folder: TempDir },
    Postgres { url: String },
}

fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn postgres_url() -> String {
    std::env::var("TEST_POSTGRES_URL")
        .expect("TEST_POSTGRES_URL is not set: run ./test, which starts the servers that tests need")
}

impl Db {
    pub fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        Self::Sqlite { path: folder.path().join("redress-issues.db"), _folder: folder }
    }

    /// A schema of its own, which is all that its connections see.
    pub async fn postgres() -> Self {
        let base = postgres_url();
        let schema = format!("persistence_{}_{}", std::process::id(), unique());
        let mut admin = PgConnection::connect(&base).await.unwrap();
        let sql = format!("drop schema if exists {schema} cascade; create schema {schema}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        let mark = if base.contains('?') { '&' } else { '?' };
        Self::Postgres { url: format!("{base}{mark}options=-csearch_path%3D{schema}") }
    }

    pub fn settings(&self) -> TablesSettings {
        match self {
            Self::Sqlite { path, .. } => TablesSettings::Sqlite(path.clone()),
            Self::Postgres { url } => TablesSettings::from_url("test", url).unwrap(),
        }
    }

    /// As another user, who sees the same schema.
    pub fn settings_as(&self, user: &str) -> TablesSettings {
        let Self::Postgres { url } = self else { panic!("SQLite has no users") };
        let (login, rest) = url.split_once('@').unwrap();
        let scheme = login.split_once("://").unwrap().0;
        TablesSettings::from_url("test", &format!("{scheme}://{user}:secret@{rest}")).unwrap()
    }

    pub const fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    /// Runs statements.
    pub async fn run(&self, sql: &str) {
        match self {
            Self::Sqlite { path, .. } => {
                let conn = rusqlite::Connection::open(path).unwrap();
                conn.busy_timeout(Duration::from_secs(5)).unwrap();
                conn.execute_batch(sql).unwrap();
            }
            Self::Postgres { url } => {
                let mut conn = PgConnection::connect(url).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
            }
        }
    }

    /// The one text column of a query.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        match self {
            Self::Sqlite { path, .. } => {
                let conn = rusqlite::Connection::open(path).unwrap();
                let mut select = conn.prepare(sql).unwrap();
                select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
            }
            Self::Postgres { url } => {
                let mut conn = PgConnection::connect(url).await.unwrap();
                let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut conn).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }

    /// `id state alert_state`, in id order.
    pub async fn issues(&self) -> Vec<String> {
        self.texts("select id || ' ' || state || ' ' || alert_state from alert_issues order by id").await
    }

    /// `service version health [ids] resolved|null`, in key order.
    pub async fn services(&self) -> Vec<String> {
        let ids = if self.is_postgres() { "array_to_json(alert_issue_ids)::text" } else { "alert_issue_ids" };
        self.texts(&format!(
            "select service || ' ' || version || ' ' || health_state || ' ' || {ids} || ' '
                    || case when resolved_at is null then 'null' else 'resolved' end
             from service_states order by service, version"
        ))
        .await
    }

    /// The comments on an issue, oldest first.
    pub async fn comments(&self, id: &str) -> Vec<String> {
        self.texts(&format!(
            "select content from alert_issue_comments where issue_id = '{id}' order by create_at"
        ))
        .await
    }
}

/// A Redis of one test: a process of its own on a free port, ended with the test.
pub struct Redis {
    address: SocketAddr,
    options: Vec<String>,
    server: Option<Process>,
}

impl Redis {
    pub fn start() -> Self {
        Self::with(Vec::new())
    }

    /// With further options, also when it is started again.
    pub fn with(options: Vec<String>) -> Self {
        let mut redis = Self { address: free_address().unwrap(), options, server: None };
        redis.up();
        redis
    }

    /// Starts it (again), empty, and waits until it answers.
    pub fn up(&mut self) {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.server = Some(redis(self.address, &options).unwrap());
    }

    pub fn down(&mut self) {
        self.server = None;
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn settings(&self) -> CacheSettings {
        cache_at(self.address)
    }

    pub async fn client(&self) -> Probe {
        let server = ServerConfig::new_centralized(self.address.ip().to_string(), self.address.port());
        let client = Builder::from_config(Config { server, ..Config::default() }).build().unwrap();
        client.init().await.unwrap();
        Probe(client)
    }
}

/// The settings of a cache at this address.
pub fn cache_at(address: SocketAddr) -> CacheSettings {
    CacheSettings::from_url("test", &format!("redis://{address}")).unwrap()
}

/// Looks into a Redis.
pub struct Probe(Client);

impl Probe {
    pub async fn run(&self, command: &str) -> Value {
        let mut words = command.split(' ').map(str::to_owned);
        let name = words.next().unwrap();
        let command = CustomCommand::new(name, ClusterHash::FirstKey, false);
        self.0.custom(command, words.collect::<Vec<_>>()).await.unwrap()
    }

    pub async fn text(&self, command: &str) -> Option<String> {
        self.run(command).await.convert().unwrap()
    }

    pub async fn number(&self, command: &str) -> i64 {
        self.run(command).await.convert().unwrap()
    }

    pub async fn members(&self, set: &str) -> Vec<String> {
        let mut members: Vec<String> = self.run(&format!("SMEMBERS {set}")).await.convert().unwrap();
        members.sort_unstable();
        members
    }

    /// Every key, in order.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.run("KEYS *").await.convert().unwrap();
        keys.sort_unstable();
        keys
    }

    /// Everything that is there, as it can be compared: key, content.
    pub async fn dump(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for key in self.keys().await {
            let kind = self.text(&format!("TYPE {key}")).await.unwrap();
            let content = match kind.as_str() {
                "string" => self.text(&format!("GET {key}")).await.unwrap(),
                "set" => self.members(&key).await.join(","),
                other => other.to_owned(),
            };
            all.push((key, content));
        }
        all
    }
}
