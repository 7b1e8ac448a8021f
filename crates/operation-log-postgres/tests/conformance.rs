//! The suite that every log must pass, each case in a schema of its own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what does not hold fails the test"
)]

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::Schema;
use redress_operation_log::OperationLog;
use redress_operation_log::conformance::fixture::TestClock;
use redress_operation_log::conformance::{Harness, InMemory, differential, exercise};
use redress_operation_log_postgres::{Options, PostgresLog};

/// A log in a schema of its own.
struct InPostgres {
    log: Option<PostgresLog>,
    clock: TestClock,
    schema: Schema,
}

impl InPostgres {
    async fn new() -> Self {
        let mut this = Self { schema: Schema::new().await, clock: TestClock::default(), log: None };
        this.open().await;
        this
    }

    async fn open(&mut self) {
        let options = Options { clock: Some(Arc::new(self.clock.clone())), ..Options::default() };
        self.log = Some(PostgresLog::open(&self.schema.url(), &options).await.unwrap());
    }
}

#[async_trait]
impl Harness for InPostgres {
    fn log(&self) -> Arc<dyn OperationLog> {
        Arc::new(self.log.clone().unwrap())
    }

    fn clock(&self) -> TestClock {
        self.clock.clone()
    }

    async fn reopen(&mut self) -> bool {
        if let Some(log) = self.log.take() {
            log.close().await.unwrap();
        }
        self.open().await;
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn postgres_keeps_every_promise() {
    let exercised = exercise(InPostgres::new).await;
    assert!(exercised.skipped.is_empty(), "{exercised:?}");
    println!("{} held", exercised.held.len());
    assert!(exercised.held.len() > 50, "{exercised:?}");
}

/// The same calls on both logs: the answers and the histories are equal. A failing seed is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn postgres_and_memory_answer_alike() {
    for seed in 1..=10 {
        differential(seed, 300, &mut InMemory::default(), &mut InPostgres::new().await).await;
    }
}
