//! The engine: fold → decide → append → run the effect → append. It owns no truth.
//!
//! An orchestrator imports this crate: build an [`Engine`] over a log, register executors and checks, add
//! strategies, and submit alerts through the [`channel`]. `examples/embed.rs` is a complete program.
//!
//! Inside: [`decide`] is the pure core; [`effect`] derives what to do from a folded operation; `driver` runs
//! one operation, `admission` lets alerts in, `lease` keeps the session, `finder` finds work, `outbox` delivers what
//! is owed, `unable` cares for what cannot be run here, [`escalation`] calls people.

mod admission;
mod builder;
mod calling;
pub mod channel;
mod checkpoints;
mod commit;
pub mod config;
pub mod decide;
mod driver;
pub mod effect;
pub mod environment;
pub mod escalation;
mod finder;
mod holder;
mod lease;
mod observer;
mod outbox;
mod own_alert;
mod receipt;
pub mod registry;
mod shared;
mod step;
mod unable;
mod verification;

pub use builder::{Builder, StartError};
pub use channel::{AlertSender, SendError, TrySendError};
pub use config::Config;
pub use environment::{Environment, Ids, SystemIds};
pub use holder::{Engine, Health};
pub use observer::Observed;
pub use receipt::{Disposition, Receipt, SubmitError};
pub use redress_action as action;
pub use redress_action::{Escalate, Escalation};
pub use redress_fsm as fsm;
pub use redress_operation_log as operation_log;
pub use redress_operation_log::Obligations;
pub use redress_strategy as strategy;
pub use redress_types as types;
pub use registry::Registry;
