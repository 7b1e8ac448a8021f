//! What the tests of the file share.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use redress_operation_log::conformance::fixture::Writer;
use redress_operation_log::record::{Append, Claim};
use redress_operation_log::{Event, OperationLog, SessionId, verify};
use redress_operation_log_sqlite::{Options, SqliteLog};
use redress_types::Timestamp;
use tempfile::TempDir;

pub const LEASE: Duration = Duration::from_secs(3600);
pub const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// A folder, and the path of a log in it.
pub fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    (folder, path)
}

pub fn open(path: &Path) -> SqliteLog {
    try_open(path).unwrap()
}

pub fn try_open(path: &Path) -> Result<SqliteLog, redress_operation_log::Error> {
    SqliteLog::open(path.to_str().unwrap(), &Options::default())
}

pub async fn session(log: &SqliteLog) -> SessionId {
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
pub async fn assert_proven(log: &SqliteLog) {
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
