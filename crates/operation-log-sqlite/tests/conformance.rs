//! The suite that every log must pass, on files of their own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what does not hold fails the test"
)]

use std::sync::Arc;

use async_trait::async_trait;
use redress_operation_log::OperationLog;
use redress_operation_log::conformance::fixture::TestClock;
use redress_operation_log::conformance::{Harness, InMemory, differential, exercise};
use redress_operation_log_sqlite::{Options, SqliteLog};
use tempfile::TempDir;

/// A log in a folder of its own.
struct OnDisk {
    folder: TempDir,
    clock: TestClock,
    log: Option<SqliteLog>,
}

impl OnDisk {
    fn new() -> Self {
        let mut this = Self { folder: tempfile::tempdir().unwrap(), clock: TestClock::default(), log: None };
        this.open();
        this
    }

    fn open(&mut self) {
        let path = self.folder.path().join("log.db");
        let options = Options { clock: Arc::new(self.clock.clone()), ..Options::default() };
        self.log = Some(SqliteLog::open(path.to_str().unwrap(), &options).unwrap());
    }
}

#[async_trait]
impl Harness for OnDisk {
    fn log(&self) -> Arc<dyn OperationLog> {
        Arc::new(self.log.clone().unwrap())
    }

    fn clock(&self) -> TestClock {
        self.clock.clone()
    }

    fn several_engines(&self) -> bool {
        false
    }

    async fn reopen(&mut self) -> bool {
        self.log = None;
        self.open();
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_every_promise() {
    let exercised = exercise(|| async { OnDisk::new() }).await;
    for (promise, why) in &exercised.skipped {
        println!("skipped: {promise}: {why}");
    }
    println!("{} held", exercised.held.len());
    assert!(exercised.held.len() > 50, "{exercised:?}");
}

/// The same calls on both logs: the answers and the histories are equal. A failing seed is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 5 s: ./test runs it"]
async fn sqlite_and_memory_answer_alike() {
    for seed in 1..=10 {
        differential(seed, 300, &mut InMemory::default(), &mut OnDisk::new()).await;
    }
}
