//! The HTTP service: it takes alerts, and answers what became of them.
//!
//! [`Service`] is put together where a program wires its parts, and [`Service::serve`] runs it on a listener. It knows
//! four things by trait or handle only: a [`Door`] into the engine, the history it reads, an [`IssueReader`] for
//! the alert tables, and any number of [`Dependency`] for `/readyz`.
//!
//! An alert is acknowledged only when it is durable. What cannot be made durable now, and what is too much now, is
//! answered 503; every error has the same body, and its status and code are decided in one place (`error.rs`).
//! Nothing here appends to an operation.
//!
//! [`read`] finds and folds an operation and [`shape`] writes it as JSON, for the command line as well.
//! Read `routes` for what there is, `webhook` and `alerts` for the two ways in, `around` for what every request
//! goes through, `serve` for the life of connections. The addresses are described in `docs/http-api.md` and in the
//! OpenAPI document that the service itself answers.

mod access;
mod alerts;
mod around;
mod body;
mod door;
mod error;
mod health;
mod issues;
mod limits;
mod operations;
mod pull;
mod query;
pub mod read;
mod routes;
mod serve;
mod service;
pub mod shape;
mod stall;
mod submit;
mod webhook;

pub use access::{Access, InvalidAccess};
pub use door::Door;
pub use health::{Condition, Dependency, EngineHealth, Health, LogHealth};
pub use issues::{IssueError, IssuePage, IssueQuery, IssueReader};
pub use limits::Limits;
pub use pull::{Pull, PullError};
pub use routes::routes;
pub use service::{Counted, Service};

/// What an [`IssueReader`] answers.
pub use redress_types::{Comment, Issue, IssueState};

/// The OpenAPI document that `GET /openapi.json` answers.
pub const OPENAPI: &str = include_str!("../openapi.json");
