//! Appends per second at full durability: operations of four entries each, so many of them at a time, and the
//! latency of a lone append. `cargo bench -p redress-operation-log-sqlite [-- OPERATIONS IN_FLIGHT FOLDER]`.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench measures and prints"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use redress_operation_log::conformance::life::{LEASE, NOW, begin, live_together, rest, writer};
use redress_operation_log::record::{Append, Claim};
use redress_operation_log::{OperationLog as _, SessionId};
use redress_operation_log_sqlite::{Options, SqliteLog};

fn main() {
    // Cargo passes a flag of its own.
    let given: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let number = |at: usize, default| given.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (operations, in_flight) = (number(0, 10_000), number(1, 256));
    let folder = given.get(2).map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(folder).unwrap();
    let log = SqliteLog::open(folder.path().join("log.db").to_str().unwrap(), &Options::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let session = log.open_session("bench", LEASE).await.unwrap().id;
        let work: Arc<Vec<Vec<Arc<Append>>>> =
            Arc::new((0..operations).map(|number| life(session, number)).collect());
        lone(&log, session, operations).await;
        together(&log, work, in_flight).await;
    });
    println!("{}", log.durability());
}

/// The four appends of an operation: accepted and begun, two results, verified.
fn life(session: SessionId, number: usize) -> Vec<Arc<Append>> {
    let mut writer = writer(session, number as u64 + 1);
    let mut begin = begin(&writer);
    let sameness = redress_types::Hash::of(&[writer.id.0.as_bytes()]).to_string();
    begin.claims.push(Claim::Sameness(sameness));
    begin.conditions.holds = vec![writer.target.to_string()];
    writer.took(&begin);
    let mut rest = rest(&writer);
    for ending in rest.iter_mut().filter_map(|append| append.ends.as_mut()) {
        ending.hold = Some((writer.target.to_string(), NOW));
    }
    std::iter::once(begin).chain(rest).map(Arc::new).collect()
}

async fn lone(log: &SqliteLog, session: SessionId, from: usize) {
    let mut took: Vec<Duration> = Vec::new();
    for number in from..from + 250 {
        for append in life(session, number) {
            let start = Instant::now();
            log.append(append).await.unwrap();
            took.push(start.elapsed());
        }
    }
    took.sort_unstable();
    println!("lone append: p50 {:?}, p99 {:?}", took[took.len() / 2], took[took.len() * 99 / 100]);
}

async fn together(log: &SqliteLog, work: Arc<Vec<Vec<Arc<Append>>>>, in_flight: usize) {
    let (start, commits, busy) = (Instant::now(), log.commits(), writer_cpu());
    live_together(&[Arc::new(log.clone())], &work, in_flight).await;
    let (took, appends) = (start.elapsed(), work.iter().map(Vec::len).sum::<usize>());
    let commits = log.commits() - commits;
    println!(
        "{in_flight} in flight: {appends} appends in {took:.2?}, {:.0}/s, {:.1} a commit",
        appends as f64 / took.as_secs_f64(),
        appends as f64 / commits as f64
    );
    if let (Some(before), Some(after)) = (busy, writer_cpu()) {
        let each = (after - before).as_secs_f64() * 1e6 / appends as f64;
        println!("the writer's thread: {each:.2} µs of a processor for each append");
    }
}

/// How long the writer's thread has run on a processor, where the system tells: unlike the time that passed, it says the
/// same on a busy machine.
fn writer_cpu() -> Option<Duration> {
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let folder = thread.ok()?.path();
        if std::fs::read_to_string(folder.join("comm")).ok()?.trim() == "redress-log" {
            let times = std::fs::read_to_string(folder.join("schedstat")).ok()?;
            return times.split(' ').next()?.parse().ok().map(Duration::from_nanos);
        }
    }
    None
}
