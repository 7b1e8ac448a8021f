//! The operation log in Postgres: several engines, one log.
//!
//! [`PostgresLog::open`] gives reading, the inbox and, with a session, the right to append. What the log promises is
//! in [`redress_operation_log::log`]; the tables are in `migrations/postgres`. Read `writer` for how appends share
//! commits, `fast` for the one statement that takes a batch, `append` for every check in its order, `session` and
//! `marks` for who may write and how a restored database is noticed.

mod alerts;
mod append;
mod archive;
mod arrays;
mod conditions;
mod ending;
mod fast;
mod fault;
mod heads;
mod holding;
mod inbox;
mod lane;
mod log;
mod marks;
mod open;
mod outbox;
mod payloads;
mod schema;
mod session;
mod shared;
mod sql;
mod status;
mod switches;
mod tx;
mod values;
mod wakeups;
mod writer;

pub use log::PostgresLog;
pub use open::{Migrate, Options};
