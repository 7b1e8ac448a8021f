//! What tests of Redress are made of: ours, and those of people who write executors, checks or logs.
//!
//! * [`TestClock`] and [`SequentialIds`]: time and ids that a test holds; they make [`environment`].
//! * [`Target`]: the world. It counts effects by key, so that a test counts what was *done*, not what was logged.
//! * [`ScriptedExecutor`], [`ScriptedCheck`] and [`Gate`]: answers on demand, signals instead of sleeps.
//! * [`Pager`]: somebody to be called, who remembers it.
//! * [`FaultyLog`] and [`Crash`]: a log that fails, and an engine that stops, at a chosen point.
//! * [`alert`]: alerts and deliveries; [`judge`]: what must hold of any log; [`simulation`]: random lives.
//!
//! All of this works in one process and waits for signals: run tests with tokio's time paused
//! (`#[tokio::test(start_paused = true)]`). For tests with real neighbours there are, with the feature `servers`,
//! servers of a test's own, and [`until()`], which looks at what another process does.

pub mod alert;
pub mod check;
pub mod clock;
pub mod crash;
pub mod executor;
pub mod faulty_log;
pub mod gate;
pub mod ids;
pub mod judge;
pub mod pager;
mod script;
#[cfg(feature = "servers")]
pub mod servers;
pub mod simulation;
pub mod target;
pub mod until;

pub use check::{ScriptedCheck, See};
pub use clock::TestClock;
pub use crash::Crash;
pub use executor::{ProbeSays, ScriptedExecutor};
pub use faulty_log::{Act, FaultyLog, Moment, When};
pub use gate::Gate;
pub use ids::SequentialIds;
pub use pager::Pager;
pub use script::{Do, Script};
pub use target::{Seen, Target};
pub use until::{until, until_async};

use std::sync::Arc;

use redress_engine::Environment;

/// A test clock and ids that count up, as an engine takes them.
pub fn environment(clock: &TestClock, ids: &SequentialIds) -> Environment {
    Environment { clock: Arc::new(clock.clone()), ids: Arc::new(ids.clone()) }
}
