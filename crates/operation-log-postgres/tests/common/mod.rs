//! What the tests of the log share: a schema of its own for each, on the server of `TEST_POSTGRES_URL`.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold fails the test")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redress_operation_log::conformance::fixture::Writer;
use redress_operation_log::record::{Append, Claim};
use redress_operation_log::{Event, OperationLog, SessionId, verify};
use redress_operation_log_postgres::{Options, PostgresLog};
use redress_types::Timestamp;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

pub const LEASE: Duration = Duration::from_secs(3600);
pub const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

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

pub async fn session(log: &PostgresLog) -> SessionId {
    log.open_session("test", LEASE).await.unwrap().id
}

/// A writer for the operation of this number.
pub fn writer(session: SessionId, number: u64) -> Writer {
    Writer::new(session, number, &format!("alert-{number}"))
}

/// The append that begins it, with the claims that an engine would take.
pub fn begin(writer: &Writer) -> Append {
    let mut append = writer.begin(NOW, writer.admitted());
    let fingerprint = writer.alert.fingerprint.as_str().to_owned();
    append.claims = vec![Claim::Fingerprint(fingerprint), Claim::Slot(writer.target.to_string())];
    append
}

/// The three appends after the first, to the end.
pub fn rest(writer: &Writer) -> Vec<Append> {
    let mut writer = writer.clone();
    let started = Event::StepStarted { key: writer.key(1), step: "warm up".into() };
    let passed = Event::VerificationPassed { passes: 1, held_ms: 0, independent: true, detail: "200".into() };
    let mut appends = Vec::new();
    for events in [
        vec![writer.succeeded(0), started],
        vec![writer.succeeded(1), Event::VerificationStarted],
        vec![passed],
    ] {
        let append = writer.next(NOW, events);
        writer.took(&append);
        appends.push(append);
    }
    appends
}

/// The log proves itself.
pub async fn assert_proven(log: &PostgresLog) {
    let report = verify::verify(log, &verify::Options::default()).await.unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

/// Begins the operation of this number.
pub async fn begun(log: &dyn OperationLog, session: SessionId, number: u64) -> Writer {
    let mut writer = writer(session, number);
    let append = begin(&writer);
    writer.append(log, append).await.unwrap();
    writer
}
