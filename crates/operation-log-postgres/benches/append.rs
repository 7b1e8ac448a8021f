//! Appends per second at full durability: operations of five entries each (three steps and one check), so many of
//! them at a time, and the latency of a lone append, next to what the server's disk takes to flush.
//! `TEST_POSTGRES_URL=… cargo bench -p redress-operation-log-postgres [-- OPERATIONS IN_FLIGHT LOGS]`.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench measures and prints"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redress_operation_log::conformance::fixture::Writer;
use redress_operation_log::record::{Append, Budget, Claim, Ending};
use redress_operation_log::{Event, OperationLog as _, SessionId};
use redress_operation_log_postgres::{Options, PostgresLog};
use redress_types::Timestamp;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

const LEASE: Duration = Duration::from_secs(3600);
const SCHEMA: &str = "redress_bench";

fn main() {
    let Ok(server) = std::env::var("TEST_POSTGRES_URL") else {
        println!("skipped: TEST_POSTGRES_URL names no database");
        return;
    };
    // Cargo passes a flag of its own.
    let given: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let number = |at: usize, default| given.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (operations, in_flight, logs) = (number(0, 10_000), number(1, 256), number(2, 1));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        run(&server, &format!("drop schema if exists {SCHEMA} cascade; create schema {SCHEMA}")).await;
        let sign = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{sign}options=-c%20search_path%3D{SCHEMA}");
        let mut opened = Vec::new();
        for _ in 0..logs {
            let log = PostgresLog::open(&url, &Options::default()).await.unwrap();
            let session = log.open_session("bench", LEASE).await.unwrap().id;
            opened.push((log, session));
        }
        lone(&opened[0].0, opened[0].1, operations).await;
        together(&opened, operations, in_flight).await;
        println!("{}", opened[0].0.durability());
        drop(opened);
        run(&server, &format!("drop schema if exists {SCHEMA} cascade")).await;
    });
}

async fn run(server: &str, sql: &str) {
    let mut conn = PgConnection::connect(server).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
}

/// The five appends of an operation: accepted and begun, three results, verified.
fn life(session: SessionId, number: usize) -> Vec<Append> {
    let now = Timestamp::from_micros(1_767_225_600_000_000);
    let mut writer = Writer::new(session, number as u64 + 1, &format!("alert-{number}"));
    let mut begin = writer.begin(now, writer.admitted());
    let fingerprint = writer.alert.fingerprint.as_str().to_owned();
    begin.claims = vec![Claim::Fingerprint(fingerprint), Claim::Slot(writer.target.to_string())];
    begin.conditions.holds = vec![format!("restore/{}", writer.target)];
    // As a strategy has it when it says nothing else.
    let (key, window) = (format!("fingerprint:{}", writer.alert.fingerprint), Duration::from_secs(6 * 3600));
    begin.conditions.budgets = vec![Budget { key, most: 5, window }];
    begin.conditions.switches =
        vec!["engine".into(), "strategy:restore".into(), format!("target:{}", writer.target)];
    let mut appends = vec![begin];
    writer.took(&appends[0]);
    let started = Event::StepStarted { key: writer.key(1), step: "warm up".into() };
    let passed = Event::VerificationPassed { passes: 1, held_ms: 0, independent: true, detail: "200".into() };
    for events in [
        vec![writer.succeeded(0), started],
        vec![writer.succeeded(1)],
        vec![Event::VerificationStarted],
        vec![passed],
    ] {
        let mut append = writer.next(now, events);
        if append.ends.is_some() {
            let hold = Some((format!("restore/{}", writer.target), now.plus(Duration::from_secs(300))));
            append.ends = Some(Ending { hold, refund: false });
        }
        writer.took(&append);
        appends.push(append);
    }
    appends
}

async fn lone(log: &PostgresLog, session: SessionId, from: usize) {
    let (mut appends, mut lives) = (Vec::new(), Vec::new());
    for number in from..from + 400 {
        let began = Instant::now();
        for append in life(session, number) {
            let start = Instant::now();
            log.append(append).await.unwrap();
            appends.push(start.elapsed());
        }
        lives.push(began.elapsed());
    }
    for (what, mut took) in [("append", appends), ("operation of five", lives)] {
        took.sort_unstable();
        println!("lone {what}: p50 {:?}, p99 {:?}", took[took.len() / 2], took[took.len() * 99 / 100]);
    }
}

async fn together(logs: &[(PostgresLog, SessionId)], operations: usize, in_flight: usize) {
    let work: Arc<Vec<Vec<Append>>> =
        Arc::new((0..operations).map(|number| life(logs[number % logs.len()].1, number)).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let count = || logs.iter().map(|(log, _)| log.commits()).sum::<u64>();
    let (start, commits) = (Instant::now(), count());
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let logs: Vec<PostgresLog> = logs.iter().map(|(log, _)| log.clone()).collect();
            let (work, next) = (Arc::clone(&work), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(life) = work.get(number) else { return };
                    for append in life {
                        logs[number % logs.len()].append(append.clone()).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (took, appends) = (start.elapsed(), work.iter().map(Vec::len).sum::<usize>());
    let commits = count() - commits;
    println!(
        "{in_flight} in flight, {} logs: {appends} appends in {took:.2?}, {:.0}/s, {:.0} operations/s, {:.1} a commit",
        logs.len(),
        appends as f64 / took.as_secs_f64(),
        operations as f64 / took.as_secs_f64(),
        appends as f64 / commits as f64
    );
}
