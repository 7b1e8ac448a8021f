//! What the tests of the file share: where it lies.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::{Path, PathBuf};

use redress_operation_log_sqlite::{Options, SqliteLog};
use tempfile::TempDir;

/// A folder, and the path of a log in it.
pub fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    (folder, path)
}

pub fn open(path: &Path) -> SqliteLog {
    try_open(path).unwrap()
}

pub fn try_open(path: &Path) -> Result<SqliteLog, redress_operation_log::Error> {
    SqliteLog::open(path.to_str().unwrap(), &Options::default())
}
