//! `redress bench`: operations per second of the whole engine on this machine's disk, and beside it the raw
//! figure: the same rows written without an engine. `redress bench intake`: how the HTTP service takes alerts while
//! operations run.
//!
//! [`load`] is the work, [`raw`] writes its rows again. Each operation has a target of its own, no cooldown and
//! nothing in the outbox: what is measured is the log and the engine, not waiting. Read [`intake`] for the other one.

mod folder;
mod intake;
mod load;
mod raw;

use std::sync::Arc;

use anyhow::{Context as _, Error, bail};
use redress_operation_log::{Filter, OperationHistory, OperationLog};
use serde::Serialize;

use crate::Exit;
use crate::cli::{Bench, BenchWhat, Global, Throughput};
use crate::database::Place;
use crate::text::{json_line, print};

use self::folder::Folder;
use self::raw::Beside;

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    operations: u32,
    in_flight: u32,
    steps: u32,
    engines: u32,
    /// Operations per second, from the first submission to the last end.
    ops_per_s: f64,
    /// What one of the engines did with as many operations, in turns with all of them. With one engine: none.
    one_engine_ops_per_s: Option<f64>,
    /// From submission to the end, half of the operations were at least so fast.
    p50_ms: f64,
    /// All but one in a hundred.
    p99_ms: f64,
    /// Transactions of the log, per operation.
    commits_per_op: f64,
    /// Growth of the database, per operation: of the file and its write-ahead log, or of what `pg_database_size`
    /// counts, which is without Postgres's write-ahead log. In memory: 0.
    bytes_per_op: f64,
    /// What an acknowledged write has survived, in the backend's words.
    durability: String,
    /// The same rows in transactions of the same size, without an engine. In memory: none.
    raw_ops_per_s: Option<f64>,
}

/// Measures and prints.
pub(crate) async fn bench(global: &Global, asked: Bench) -> Result<Exit, Error> {
    match asked.what {
        None => throughput(global, &asked.throughput).await,
        Some(BenchWhat::Intake(intake)) => intake::intake(global, &intake).await,
    }
}

async fn throughput(global: &Global, asked: &Throughput) -> Result<Exit, Error> {
    let folder = Folder::make()?;
    let place = place(global, &folder)?;
    if asked.engines > 1 && !matches!(place, Place::Postgres(_)) {
        bail!(
            "--engines {}: several engines share a log only in Postgres (a SQLite file has one engine at a time, a log \
             in memory one process); name one with --db postgres://…",
            asked.engines
        );
    }
    let mut logs: Vec<Arc<dyn OperationLog>> = Vec::new();
    for _ in 0..asked.engines {
        logs.push(place.open().await?);
    }
    let log = logs.first().cloned().context("no engine")?;
    refuse_used(&*log).await?;
    let beside = Beside::of(&place).await?;
    let bytes_before = beside.bytes().await?;
    let (load, one) = if logs.len() > 1 {
        let (load, one) = load::in_turns(&logs, asked).await?;
        (load, Some(one))
    } else {
        (load::run(&logs, asked, 0..asked.operations).await?, None)
    };
    let bytes = beside.bytes().await?.saturating_sub(bytes_before);
    let operations = f64::from(asked.operations);
    let commits_per_op = load.commits as f64 / operations;
    let raw = beside.measure(&*log, commits_per_op, logs.len()).await;
    let raw_ops_per_s = raw.context("the raw half of the measurement")?;
    let written = operations * if one.is_some() { 2.0 } else { 1.0 };
    let figures = Figures {
        operations: asked.operations,
        in_flight: asked.in_flight,
        steps: asked.steps,
        engines: asked.engines,
        ops_per_s: round(load.per_second(), 1),
        one_engine_ops_per_s: one.map(|one| round(one.per_second(), 1)),
        p50_ms: round(load.percentile(50), 3),
        p99_ms: round(load.percentile(99), 3),
        commits_per_op: round(commits_per_op, 4),
        bytes_per_op: round(bytes as f64 / written, 1),
        durability: log.durability(),
        raw_ops_per_s: raw_ops_per_s.map(|raw| round(raw, 1)),
    };
    show(global, &figures)?;
    Ok(Exit::DONE)
}

/// The database that was named, or one in the folder.
fn place(global: &Global, folder: &Folder) -> Result<Place, Error> {
    match &global.db {
        Some(_) => Place::of(global),
        None => Ok(Place::File(folder.path().join("bench.db").display().to_string())),
    }
}

/// A measurement in a database that is used would be wrong, and would be in somebody's history.
async fn refuse_used(history: &dyn OperationHistory) -> Result<(), Error> {
    let page = history.operations(&Filter::default(), None, 1).await?;
    if !page.operations.is_empty() {
        bail!("the database holds operations; name one that does not exist, or leave --db out");
    }
    Ok(())
}

fn show(global: &Global, figures: &Figures) -> Result<(), Error> {
    if global.json {
        return print(&json_line(figures)?);
    }
    let raw = match figures.raw_ops_per_s {
        Some(raw) => format!("{raw:.0} operations/s"),
        None => "none in memory".to_owned(),
    };
    let engines = match figures.engines {
        1 => String::new(),
        n => format!(", {n} engines"),
    };
    let one = figures.one_engine_ops_per_s.map_or_else(String::new, |one| {
        format!("one engine    {one:.0} operations/s, in turns: {:.2} of it\n", figures.ops_per_s / one)
    });
    print(&format!(
        "{} operations of {} steps, {} in flight{engines}\n\
         throughput    {:.0} operations/s\n\
         {one}\
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
