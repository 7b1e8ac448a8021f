//! The remediation state machine: one finite table, the same live and in replay.
//!
//! Pure: no async, no clock, no database, no logging. Read [`table`] first: everything else follows from it.
//! [`page`] draws it; `docs/state-machine.md` is what it draws.

pub mod event_kind;
pub mod page;
pub mod state;
pub mod table;

pub use event_kind::EventKind;
pub use state::State;
pub use table::{INITIAL, Refusal, Row, TABLE, next};

/// The version of [`TABLE`], written into every log entry. Raised when a row changes or goes away, so that an
/// engine claims only what it understands.
pub const TABLE_VERSION: u16 = 1;
