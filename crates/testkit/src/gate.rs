//! [`Gate`]: a place where code under test stops until the test lets it go on, and which says when it is there.

use std::sync::Arc;

use tokio::sync::watch;

/// A place to stop at. A test waits for [`reached`](Self::reached), then [`open`](Self::open)s it.
/// Clones are the same gate. Once open it stays open.
#[derive(Clone, Debug)]
pub struct Gate {
    arrived: Arc<watch::Sender<u64>>,
    opened: Arc<watch::Sender<bool>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { arrived: Arc::new(watch::Sender::new(0)), opened: Arc::new(watch::Sender::new(false)) }
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that somebody is here, and waits until the gate is open.
    ///
    /// Cancellation safety: dropped, it was reached all the same.
    pub async fn pass(&self) {
        self.arrived.send_modify(|count| *count += 1);
        let mut opened = self.opened.subscribe();
        // The sender is part of `self`, so this ends only when it was opened.
        let _ = opened.wait_for(|open| *open).await;
    }

    /// Waits until somebody has come to the gate.
    pub async fn reached(&self) {
        self.reached_times(1).await;
    }

    /// Waits until somebody has come to the gate so many times.
    pub async fn reached_times(&self, times: u64) {
        let mut arrived = self.arrived.subscribe();
        let _ = arrived.wait_for(|count| *count >= times).await;
    }

    /// How often somebody has come to it.
    pub fn count(&self) -> u64 {
        *self.arrived.borrow()
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.opened.send_replace(true);
    }
}
