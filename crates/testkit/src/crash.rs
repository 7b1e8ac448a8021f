//! [`Crash`]: the sudden end of one engine, at a chosen point.
//!
//! A process that is killed does nothing more: its log calls, its effects and its answers stop where they are.
//! Tasks cannot be killed like that inside one test, so every double asks its `Crash` at each point and, once
//! it has happened, stands still for ever. What the engine still computes then reaches nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redress_action::CancellationToken;

/// The sudden end of one engine. Clones are the same end.
#[derive(Clone, Debug, Default)]
pub struct Crash(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    happened: CancellationToken,
    points: Mutex<Points>,
}

#[derive(Debug, Default)]
struct Points {
    /// Crash at the point of this number, from 0.
    at: Option<usize>,
    passed: Vec<String>,
}

impl Crash {
    /// An engine that does not crash unless [`now`](Self::now) is called.
    pub fn never() -> Self {
        Self::default()
    }

    /// An engine that crashes when it comes to its point number `point`, from 0.
    pub fn at(point: usize) -> Self {
        let crash = Self::default();
        crash.points().at = Some(point);
        crash
    }

    /// It crashes now.
    pub fn now(&self) {
        self.0.happened.cancel();
    }

    /// Whether it has crashed.
    pub fn has_happened(&self) -> bool {
        self.0.happened.is_cancelled()
    }

    /// Waits until it crashes.
    pub async fn happened(&self) {
        self.0.happened.cancelled().await;
    }

    /// A point at which a crash makes a difference. Never returns once it has crashed.
    pub async fn point(&self, name: &str) {
        if !self.has_happened() {
            let mut points = self.points();
            if points.at == Some(points.passed.len()) {
                self.0.happened.cancel();
            }
            points.passed.push(name.to_owned());
        }
        self.stand_still().await;
    }

    /// Returns at once, unless it has crashed: then never.
    pub async fn stand_still(&self) {
        if self.has_happened() {
            std::future::pending::<()>().await;
        }
    }

    /// The points it came to, in order; the last one is where it crashed, if it did.
    pub fn passed(&self) -> Vec<String> {
        self.points().passed.clone()
    }

    fn points(&self) -> MutexGuard<'_, Points> {
        self.0.points.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
