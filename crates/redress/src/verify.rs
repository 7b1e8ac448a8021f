//! `redress verify`: proves the log, offline or beside a running engine.

use anyhow::{Context as _, Error};
use redress_operation_log::verify::{Options, verify as prove};

use crate::Exit;
use crate::cli::{Global, Verify};
use crate::database::Place;
use crate::text::{escape, json_line, print};

/// The name of the key that checkpoints are signed with.
const KEY: &str = "REDRESS_CHECKPOINT_KEY";

/// Proves the log and prints what was checked and found.
pub(crate) async fn verify(global: &Global, asked: Verify) -> Result<Exit, Error> {
    if let Some(file) = &asked.archive {
        return crate::archive::verify(global, file);
    }
    let log = Place::of(global)?.open_existing().await?;
    let options = Options { key: checkpoint_key(), expect: asked.checkpoint };
    let report = prove(&*log, &options).await.context("verifying the log")?;
    if global.json {
        print(&json_line(&report)?)?;
    } else {
        for line in report.to_string().lines() {
            print(&format!("{}\n", escape(line)))?;
        }
    }
    Ok(if report.is_clean() { Exit::DONE } else { Exit::OTHERWISE })
}

/// The key that checkpoints are signed with, when there is one.
pub(crate) fn checkpoint_key() -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt as _;
    std::env::var_os(KEY).map(std::ffi::OsString::into_vec).filter(|key| !key.is_empty())
}
