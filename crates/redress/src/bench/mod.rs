//! `redress bench`: operations per second of the whole engine on this machine's disk, and beside it the raw
//! figure: the same rows written without an engine.
//!
//! [`load`] is the work, [`raw`] writes its rows again. Each operation has a target of its own, no cooldown and
//! nothing in the outbox: what is measured is the log and the engine, not waiting.

mod folder;
mod load;
mod raw;

use std::sync::Arc;

use anyhow::{Context as _, Error, bail};
use redress_operation_log::{Filter, OperationHistory};
use serde::Serialize;

use crate::Exit;
use crate::cli::{Bench, Global};
use crate::database::{self, Place};
use crate::text::{json_line, print};

use self::folder::Folder;

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    operations: u32,
    in_flight: u32,
    steps: u32,
    /// Operations per second, from the first submission to the last end.
    ops_per_s: f64,
    /// From submission to the end, half of the operations were at least so fast.
    p50_ms: f64,
    /// All but one in a hundred.
    p99_ms: f64,
    /// Transactions of the log, per operation.
    commits_per_op: f64,
    /// Growth of the database and its write-ahead log, per operation. In memory: 0.
    bytes_per_op: f64,
    /// What an acknowledged write has survived, in the backend's words.
    durability: String,
    /// The same rows in transactions of the same size, without an engine. In memory: none.
    raw_ops_per_s: Option<f64>,
}

/// Measures and prints.
pub(crate) async fn bench(global: &Global, asked: Bench) -> Result<Exit, Error> {
    let folder = Folder::make()?;
    let place = match &global.db {
        Some(_) => Place::of(global)?,
        None => Place::File(folder.path().join("bench.db").display().to_string()),
    };
    let log = place.open()?;
    refuse_used(&*log).await?;
    let path = place.path();
    let size = || path.as_deref().map_or(0, database::bytes);
    let bytes_before = size();
    let load = load::run(Arc::clone(&log), &asked).await?;
    let bytes = size().saturating_sub(bytes_before);
    let raw_ops_per_s = match &path {
        Some(path) => {
            Some(raw_beside(&*log, path, load.commits).await.context("the raw half of the measurement")?)
        }
        None => None,
    };
    let operations = f64::from(asked.operations);
    let figures = Figures {
        operations: asked.operations,
        in_flight: asked.in_flight,
        steps: asked.steps,
        ops_per_s: round(operations / load.took.as_secs_f64(), 1),
        p50_ms: round(load.percentile(50), 3),
        p99_ms: round(load.percentile(99), 3),
        commits_per_op: round(load.commits as f64 / operations, 4),
        bytes_per_op: round(bytes as f64 / operations, 1),
        durability: log.durability(),
        raw_ops_per_s: raw_ops_per_s.map(|raw| round(raw, 1)),
    };
    show(global, &figures)?;
    Ok(Exit::DONE)
}

/// A measurement in a database that is used would be wrong, and would be in somebody's history.
async fn refuse_used(history: &dyn OperationHistory) -> Result<(), Error> {
    let page = history.operations(&Filter::default(), None, 1).await?;
    if !page.operations.is_empty() {
        bail!("the database holds operations; name one that does not exist, or leave --db out");
    }
    Ok(())
}

/// Writes the rows of the run again, into a file beside the one measured: the same disk, the same settings.
async fn raw_beside(
    history: &dyn OperationHistory,
    path: &std::path::Path,
    commits: u64,
) -> Result<f64, Error> {
    let rows = raw::Rows::read(history, commits).await?;
    let mut name = path.as_os_str().to_owned();
    name.push(".raw");
    let beside = std::path::PathBuf::from(name);
    if beside.exists() {
        bail!("{} is in the way; remove it", beside.display());
    }
    let written = {
        let beside = beside.clone();
        tokio::task::spawn_blocking(move || rows.write(&beside)).await?
    };
    for end in ["", "-wal", "-shm"] {
        let mut name = beside.as_os_str().to_owned();
        name.push(end);
        // What is not there need not be removed.
        let _ = std::fs::remove_file(name);
    }
    written
}

fn show(global: &Global, figures: &Figures) -> Result<(), Error> {
    if global.json {
        return print(&json_line(figures)?);
    }
    let raw = match figures.raw_ops_per_s {
        Some(raw) => format!("{raw:.0} operations/s"),
        None => "none in memory".to_owned(),
    };
    print(&format!(
        "{} operations of {} steps, {} in flight\n\
         throughput    {:.0} operations/s\n\
         latency       {:.2} ms median, {:.2} ms at 99 %\n\
         commits       {:.2} per operation\n\
         bytes         {:.0} per operation\n\
         durability    {}\n\
         the same rows without an engine: {raw}\n",
        figures.operations,
        figures.steps,
        figures.in_flight,
        figures.ops_per_s,
        figures.p50_ms,
        figures.p99_ms,
        figures.commits_per_op,
        figures.bytes_per_op,
        figures.durability,
    ))
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
