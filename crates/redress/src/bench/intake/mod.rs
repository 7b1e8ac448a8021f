//! `redress bench intake`: how the HTTP service takes alerts at a steady rate while operations run, and whether
//! everything that it acknowledged stands in the log.
//!
//! [`service`] is what `redress serve` runs, [`client`] sends to it.

mod client;
mod service;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Error;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redress_fsm::State;
use redress_operation_log::{Filter, Head, OperationHistory, OperationLog};
use redress_types::OperationId;
use serde::Serialize;
use tokio::time::Instant;

use self::client::{Plan, Sent};
use self::service::Running;
use super::{Folder, place, refuse_used, round};
use crate::Exit;
use crate::cli::{Global, Intake};
use crate::text::{json_line, print};

/// How often is looked whether all operations have ended.
const LOOK: Duration = Duration::from_millis(200);
/// Alert records that are read at the same time.
const LOOK_UPS: usize = 4;

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    seconds: u32,
    connections: u32,
    /// Requests per second that were asked for.
    rate: u32,
    /// Answers per second, from when the first request was due to the last answer.
    rate_reached: f64,
    /// Requests, one alert in each.
    sent: u32,
    /// Acknowledged: 202.
    accepted: usize,
    /// Answered otherwise.
    refused: u32,
    /// Without an answer.
    unanswered: u32,
    /// Acknowledged and not in the log: must be 0.
    lost: usize,
    /// From when a request was due to its acknowledgement.
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Acknowledged alerts whose operation ended as restored.
    restored: usize,
    /// Operations that ended while alerts were sent, per second.
    ops_per_s: f64,
    /// Outbox rows not delivered at the end; without tables and cache nothing is owed.
    owed: u64,
    /// What an acknowledged write has survived, in the backend's words.
    durability: String,
}

/// Measures and prints.
pub(super) async fn intake(global: &Global, asked: &Intake) -> Result<Exit, Error> {
    let folder = Folder::make()?;
    let place = place(global, &folder)?;
    let log = place.open().await?;
    refuse_used(&*log).await?;
    let running = Running::start(asked, &place, &log).await?;
    let requests = asked.rate.saturating_mul(asked.seconds);
    let plan = Plan {
        address: running.address,
        requests,
        rate: asked.rate,
        connections: asked.connections.min(requests),
    };
    let measured = measure(plan, &log, asked).await;
    running.stop().await;
    let figures = measured?;
    show(global, &figures)?;
    let all = figures.lost == 0 && figures.restored == figures.accepted;
    Ok(if all { Exit::DONE } else { Exit::OTHERWISE })
}

async fn measure(plan: Plan, log: &Arc<dyn OperationLog>, asked: &Intake) -> Result<Figures, Error> {
    let sent = client::send(plan).await?;
    let owed = wait(&**log, asked.wait).await?;
    let heads = log.audit().await?.heads;
    let meanwhile = match sent.span {
        Some((from, to)) => {
            heads.iter().filter(|head| head.ended_at.is_some_and(|at| at >= from && at <= to)).count()
        }
        None => 0,
    };
    let (lost, restored) = look_up(&**log, &sent, heads).await?;
    let mut times: Vec<Duration> = sent.accepted.iter().map(|(_, time)| *time).collect();
    times.sort_unstable();
    let answered = sent.accepted.len() + sent.refused as usize;
    Ok(Figures {
        seconds: asked.seconds,
        connections: plan.connections,
        rate: plan.rate,
        rate_reached: round(answered as f64 / sent.took.as_secs_f64(), 1),
        sent: plan.requests,
        accepted: sent.accepted.len(),
        refused: sent.refused,
        unanswered: sent.unanswered,
        lost,
        p50_ms: percentile(&times, 50),
        p95_ms: percentile(&times, 95),
        p99_ms: percentile(&times, 99),
        max_ms: percentile(&times, 100),
        restored,
        ops_per_s: round(meanwhile as f64 / sent.took.as_secs_f64(), 1),
        owed,
        durability: log.durability(),
    })
}

/// Waits until every operation has ended and nothing is owed, at most so long; answers what is owed then.
async fn wait(log: &dyn OperationHistory, most: Duration) -> Result<u64, Error> {
    let patience = Instant::now() + most;
    // Those that something leads out of; only an ended one has no way on.
    let mut states: Vec<State> = redress_fsm::table::transitions().map(|(from, ..)| from).collect();
    states.sort_unstable();
    states.dedup();
    let open = Filter { states, ..Filter::default() };
    loop {
        let ended = log.operations(&open, None, 1).await?.operations.is_empty();
        let owed = log.status().await?.owed;
        if (ended && owed == 0) || Instant::now() >= patience {
            return Ok(owed);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How many acknowledged alerts are not in the log, and how many led to a target that was restored. Asks the log for
/// each, by its id.
async fn look_up(log: &dyn OperationHistory, sent: &Sent, heads: Vec<Head>) -> Result<(usize, usize), Error> {
    let states: HashMap<OperationId, State> = heads.into_iter().map(|head| (head.id, head.state)).collect();
    let ids = sent.accepted.iter().map(|(n, _)| client::id(*n).parse().map_err(Error::from));
    let records = stream::iter(ids).map(async |id| log.alert(&id?).await.map_err(Error::from));
    let mut records = records.buffer_unordered(LOOK_UPS);
    let (mut lost, mut restored) = (0, 0);
    while let Some(record) = records.try_next().await? {
        match record.and_then(|record| states.get(&record.operation)) {
            None => lost += 1,
            Some(State::Restored) => restored += 1,
            Some(_) => {}
        }
    }
    Ok((lost, restored))
}

/// In milliseconds: so many per cent of the times were at most so long.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).map_or(0.0, |time| round(time.as_secs_f64() * 1000.0, 2))
}

fn show(global: &Global, figures: &Figures) -> Result<(), Error> {
    if global.json {
        return print(&json_line(figures)?);
    }
    let owed = match figures.owed {
        0 => String::new(),
        owed => format!("\nowed          {owed} outbox rows not delivered"),
    };
    print(&format!(
        "{} alerts in {} s over {} connections, {:.0} of {} a second reached\n\
         accepted      {}, refused {}, without an answer {}\n\
         lost          {}\n\
         latency       {:.1} ms median, {:.1} ms at 95 %, {:.1} ms at 99 %, {:.1} ms at most\n\
         restored      {}; {:.0} operations/s while alerts came\n\
         durability    {}{owed}\n",
        figures.sent,
        figures.seconds,
        figures.connections,
        figures.rate_reached,
        figures.rate,
        figures.accepted,
        figures.refused,
        figures.unanswered,
        figures.lost,
        figures.p50_ms,
        figures.p95_ms,
        figures.p99_ms,
        figures.max_ms,
        figures.restored,
        figures.ops_per_s,
        figures.durability,
    ))
}
