//! What tests of the workspace as a whole share. It uses public API only.
//!
//! [`files`] finds the text files that belong to the workspace, [`members`] reads its manifests, [`rules`]
//! says what no file may contain. [`recorder`] is a server that counts effects, [`client`] what speaks to it in the
//! programs under `tests/examples/`; [`processes`] runs them. [`neighbours`] speaks to Alertmanager, Redis and Postgres.
//! The tests themselves stand in `tests/tests/`; start with `tidy.rs`, which holds the shape of the workspace.

pub mod chance;
pub mod client;
pub mod files;
pub mod members;
pub mod neighbours;
pub mod processes;
pub mod recorder;
pub mod recorder_deployments;
pub mod recorder_fleet;
pub mod recorder_http;
pub mod recorder_steps;
pub mod recorder_webhook;
pub mod rules;
