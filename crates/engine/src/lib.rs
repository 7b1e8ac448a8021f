//! The engine: fold → decide → append → run the effect → append. It owns no truth.
//!
//! An orchestrator imports this crate: build an [`Engine`] over a log, register executors and checks, add
//! strategies, and submit alerts through the [`channel`]. `examples/embed.rs` is a complete program.
//!
//! Inside: [`decide`] is the pure core; [`effect`] derives what to do from a folded operation; `driver` runs
//! one operation, `admission` lets alerts in, `holder` keeps the session and finds work, `outbox` delivers what
//! is owed.

mod admission;
pub mod channel;
mod commit;
pub mod config;
pub mod decide;
mod driver;
pub mod effect;
pub mod environment;
mod holder;
mod observer;
mod outbox;
pub mod registry;
mod shared;
mod step;
mod verification;

pub use admission::{Disposition, Receipt, SubmitError};
pub use channel::{AlertSender, SendError, TrySendError};
pub use config::Config;
pub use environment::{Environment, Ids, SystemIds};
pub use holder::{Builder, Engine, StartError};
pub use observer::Observed;
pub use outbox::Obligations;
pub use redress_action as action;
pub use redress_fsm as fsm;
pub use redress_operation_log as operation_log;
pub use redress_strategy as strategy;
pub use redress_types as types;
pub use registry::Registry;
