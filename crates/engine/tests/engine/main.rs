//! The engine on the log in memory, with tokio's time paused: what a test waits for comes at once or never.
//!
//! Effects are counted at the [`Target`](redress_testkit::Target), and every test ends with
//! [`World::judge`](world::World::judge): the log must verify, and nothing may have been done twice.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are test code too")]

mod admission;
mod admission_again;
mod between_tries;
mod cancel;
mod compensation;
mod crash;
mod faults;
mod holding;
mod pause;
mod shutdown;
mod spine;
mod steps;
mod suspended;
mod verification;
mod world;
