//! The log in memory keeps every promise, but for durability.

use std::sync::Arc;

use redress_operation_log::conformance::fixture::TestClock;
use redress_operation_log::conformance::{Harness, differential, exercise};
use redress_operation_log::{MemoryLog, OperationLog};

struct Memory {
    log: Arc<MemoryLog>,
    clock: TestClock,
}

impl Memory {
    fn new() -> Self {
        let clock = TestClock::default();
        Self { log: Arc::new(MemoryLog::new(Arc::new(clock.clone()))), clock }
    }
}

impl Harness for Memory {
    fn log(&self) -> Arc<dyn OperationLog> {
        self.log.clone()
    }

    fn clock(&self) -> TestClock {
        self.clock.clone()
    }
}

#[tokio::test]
async fn keeps_every_promise() {
    let exercised = exercise(async || Memory::new()).await;
    let skipped: Vec<_> = exercised.skipped.iter().map(|(promise, _)| *promise).collect();
    assert_eq!(skipped, ["what was acknowledged is there after the log was opened again"]);
    assert!(exercised.held.len() > 55, "{} promises held", exercised.held.len());
}

#[tokio::test]
async fn is_like_itself() {
    for seed in 0..20 {
        differential(seed, 600, &mut Memory::new(), &mut Memory::new()).await;
    }
}

/// Its leases never run out: the log goes by another clock than it says.
#[tokio::test]
#[should_panic(expected = "differ")]
async fn a_log_that_differs_is_found() {
    let stopped = Memory { clock: TestClock::default(), ..Memory::new() };
    differential(1, 600, &mut Memory::new(), &mut { stopped }).await;
}
