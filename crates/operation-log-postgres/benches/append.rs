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
use std::time::{Duration, Instant};

use redress_operation_log::conformance::life::{LEASE, NOW, begin, live_together, rest_in, writer};
use redress_operation_log::record::{Append, Budget};
use redress_operation_log::{OperationLog, SessionId};
use redress_operation_log_postgres::{Options, PostgresLog};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

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
fn life(session: SessionId, number: usize) -> Vec<Arc<Append>> {
    let mut writer = writer(session, number as u64 + 1);
    let mut begin = begin(&writer);
    let hold = format!("restore/{}", writer.target);
    begin.conditions.holds = vec![hold.clone()];
    // As a strategy has it when it says nothing else.
    let (key, window) = (format!("fingerprint:{}", writer.alert.fingerprint), Duration::from_secs(6 * 3600));
    begin.conditions.budgets = vec![Budget { key, most: 5, window }];
    begin.conditions.switches =
        vec!["engine".into(), "strategy:restore".into(), format!("target:{}", writer.target)];
    writer.took(&begin);
    let mut rest = rest_in(&writer, &[2, 1, 1, 1]);
    for ending in rest.iter_mut().filter_map(|append| append.ends.as_mut()) {
        ending.hold = Some((hold.clone(), NOW.plus(Duration::from_secs(300))));
    }
    std::iter::once(begin).chain(rest).map(Arc::new).collect()
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
    let work: Arc<Vec<Vec<Arc<Append>>>> =
        Arc::new((0..operations).map(|number| life(logs[number % logs.len()].1, number)).collect());
    let count = || logs.iter().map(|(log, _)| log.commits()).sum::<u64>();
    let each: Vec<_> = logs.iter().map(|(log, _)| Arc::new(log.clone()) as Arc<dyn OperationLog>).collect();
    let (start, commits) = (Instant::now(), count());
    live_together(&each, &work, in_flight).await;
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
