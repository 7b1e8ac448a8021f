//! The engine on the log in memory, with tokio's time paused: what a test waits for comes at once or never.
//!
//! Effects are counted at the [`Target`](redress_testkit::Target), and every test ends with
//! [`World::judge`](world::World::judge): the log must verify, and nothing may have been done twice.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are test code too")]

mod admission;
mod admission_again;
mod admission_limits;
mod between_tries;
mod budgets;
mod cancel;
mod checkpoints;
mod compensation;
mod crash;
mod default_check;
mod engines;
mod escalation;
mod faults;
mod finder;
mod holding;
mod lease;
mod outbox;
mod own_alert;
mod pause;
mod shutdown;
mod silent_log;
mod slots;
mod spine;
mod steps;
mod suspended;
mod unable;
mod verification;
mod world;
