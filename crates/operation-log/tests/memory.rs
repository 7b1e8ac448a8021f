//! The log in memory keeps every promise, but for durability.

use redress_operation_log::conformance::fixture::TestClock;
use redress_operation_log::conformance::{InMemory, differential, exercise};

#[tokio::test]
async fn keeps_every_promise() {
    let exercised = exercise(async || InMemory::default()).await;
    let skipped: Vec<_> = exercised.skipped.iter().map(|(promise, _)| *promise).collect();
    assert_eq!(skipped, ["what was acknowledged is there after the log was opened again"]);
    assert!(exercised.held.len() > 55, "{} promises held", exercised.held.len());
}

#[tokio::test]
async fn is_like_itself() {
    for seed in 0..20 {
        differential(seed, 600, &mut InMemory::default(), &mut InMemory::default()).await;
    }
}

/// Its leases never run out: the log goes by another clock than it says.
#[tokio::test]
#[should_panic(expected = "differ")]
async fn a_log_that_differs_is_found() {
    let stopped = InMemory { clock: TestClock::default(), ..InMemory::default() };
    differential(1, 600, &mut InMemory::default(), &mut { stopped }).await;
}
