//! What tests of the workspace as a whole share. It uses public API only.
//!
//! [`files`] finds the text files that belong to the workspace, [`members`] reads its manifests, [`rules`]
//! says what no file may contain. The tests themselves stand in `tests/tests/`; start with `tidy.rs`, which
//! holds the shape of the workspace.

pub mod files;
pub mod members;
pub mod rules;
