//! The service on a real listener, spoken to over real connections, with an engine on the log in memory behind it.
//!
//! Every answer that the [`client`] reads is held against the OpenAPI document.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are test code too")]

mod client;
mod health;
mod history;
mod issues;
mod limits;
mod native;
mod openapi;
mod stop;
mod webhook;
mod world;
