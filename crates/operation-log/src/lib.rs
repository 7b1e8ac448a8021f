//! The operation log: the ground truth of Redress.
//!
//! Read [`log`] for what a log promises, [`event`] for what is recorded, [`fold`] for what it means. Everything
//! else follows: [`memory`] is a real log in memory, [`verify`] proves a log from its bytes, `conformance` is
//! the suite that every log must pass.

pub mod archive;
pub mod checkpoint;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod entry;
pub mod error;
pub mod event;
pub mod fold;
pub mod log;
pub mod memory;
pub mod obligations;
pub mod record;
pub mod session;
pub mod summary;
pub mod verify;

pub use entry::{Entry, StoredEntry, Versions};
pub use error::Error;
pub use event::{Actor, Decision, Event};
pub use fold::Operation;
pub use log::{OperationHistory, OperationLog};
pub use memory::MemoryLog;
pub use obligations::Obligations;
pub use record::*;
pub use session::{Session, SessionId};
