//! [`TestClock`]: a wall clock that follows tokio's time and can be moved apart from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use redress_types::{Clock, Timestamp};
use tokio::time::Instant;

/// A wall clock that shows a base time plus what tokio's time has gone on since it was made.
///
/// With tokio's time paused, timers and timestamps then agree, and nothing passes unless every task waits.
/// [`advance`](Self::advance), [`back`](Self::back) and [`set`](Self::set) step the wall clock alone, as an
/// administrator or NTP does; timers do not move. Clones show the same time.
#[derive(Clone, Debug)]
pub struct TestClock {
    since: Instant,
    base_micros: Arc<AtomicI64>,
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl TestClock {
    /// 2026-01-01T00:00:00Z, in microseconds: what a new clock shows.
    pub const START_MICROS: i64 = 1_767_225_600_000_000;

    /// A clock that shows 2026-01-01T00:00:00Z now.
    pub fn new() -> Self {
        Self { since: Instant::now(), base_micros: Arc::new(AtomicI64::new(Self::START_MICROS)) }
    }

    /// Steps the wall clock forward.
    pub fn advance(&self, by: Duration) {
        self.base_micros.fetch_add(micros(by), Ordering::SeqCst);
    }

    /// Steps the wall clock back.
    pub fn back(&self, by: Duration) {
        self.base_micros.fetch_sub(micros(by), Ordering::SeqCst);
    }

    /// Makes it show `to` now.
    pub fn set(&self, to: Timestamp) {
        self.base_micros.store(to.as_micros().saturating_sub(self.elapsed_micros()), Ordering::SeqCst);
    }

    fn elapsed_micros(&self) -> i64 {
        micros(self.since.elapsed())
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let base = self.base_micros.load(Ordering::SeqCst);
        Timestamp::from_micros(base.saturating_add(self.elapsed_micros()))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_follows_paused_time_and_can_be_stepped() {
        let clock = TestClock::new();
        let start = clock.now();
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(clock.now().since(start), Duration::from_secs(90));
        clock.advance(Duration::from_secs(10));
        clock.back(Duration::from_secs(40));
        assert_eq!(clock.now().since(start), Duration::from_secs(60));
        clock.set(start);
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(clock.now(), start.plus(Duration::from_millis(5)));
    }
}
