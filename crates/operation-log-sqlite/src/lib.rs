//! The embedded operation log: one SQLite file, one engine, full durability.
//!
//! [`SqliteLog::open`] gives reading, the inbox and everything else; the right to append is a session, and one
//! process at a time has one. What the log promises is in [`redress_operation_log::log`]; the tables are in
//! `migrations/sqlite`. Read `writer` for how requests share commits, `append` for the heart of it, `wal` for checkpoints, `lock` for
//! how one engine has the file and how a restored backup is noticed.

mod alerts;
mod append;
mod archive;
mod at_once;
mod batch;
mod commit;
mod conditions;
mod ending;
mod fault;
mod heads;
mod holding;
mod inbox;
mod lock;
mod log;
mod open;
mod outbox;
mod payloads;
mod prepared;
mod readers;
mod schema;
mod session;
mod status;
mod switches;
mod values;
mod wal;
mod writer;

pub use log::SqliteLog;
pub use open::{Options, path_of};
