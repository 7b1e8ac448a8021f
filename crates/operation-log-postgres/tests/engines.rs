//! Several engines at one log: claims raced, sessions judged by the database's clock, wake-ups between processes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold fails the test")]

mod common;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use common::{LIMIT, Schema};
use redress_operation_log::conformance::fixture::{Writer, alert_id};
use redress_operation_log::conformance::life::{
    LEASE, NOW, assert_proven, begin, begun, rest, session, writer,
};
use redress_operation_log::event::HoldReason;
use redress_operation_log::record::{Budget, Claim, ClaimRequest, Join, Post, Request};
use redress_operation_log::{
    Actor, Error, OperationHistory as _, OperationLog as _, SessionId, Versions, conformance,
};
use redress_operation_log_postgres::PostgresLog;
use redress_testkit::until_async;
use redress_types::Epoch;

/// Two engines take in the same alerts at the same moment and run what they began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn alerts_that_come_to_two_engines_lead_to_one_operation_each() {
    const ALERTS: u64 = 120;
    let schema = Schema::new().await;
    let mut sides = Vec::new();
    for _ in 0..2 {
        let log = schema.open().await;
        let session = session(&log).await;
        sides.push((log, session));
    }
    let mut tasks = Vec::new();
    for number in 1..=ALERTS {
        for (side, (log, session)) in (0..).zip(&sides) {
            // Operations of their own, one alert id and one fingerprint.
            let mut writer = Writer::new(*session, number * 2 + side, &format!("alert-{number}"));
            writer.target.service = format!("service-{number}");
            tasks.push(tokio::spawn(run(log.clone(), writer)));
        }
    }
    let mut outcomes: HashMap<&str, u64> = HashMap::new();
    for task in tasks {
        *outcomes.entry(task.await.unwrap()).or_default() += 1;
    }
    assert_eq!(outcomes["ran"], ALERTS, "{outcomes:?}");
    assert_eq!(outcomes["known"], ALERTS, "{outcomes:?}");
    for number in 1..=ALERTS {
        let record = sides[0].0.alert(&alert_id(&format!("alert-{number}"))).await.unwrap().unwrap();
        assert!(
            record.operation == conformance::fixture::operation_id(number * 2)
                || record.operation == conformance::fixture::operation_id(number * 2 + 1)
        );
    }
    let entries = sides[1].0.follow(0, 10_000).await.unwrap();
    assert_eq!(entries.len() as u64, ALERTS * 4);
    let positions: Vec<u64> = entries.iter().map(|entry| entry.position).collect();
    assert!(positions.iter().copied().eq(1..=ALERTS * 4), "positions have no gaps");
    assert_proven(&sides[0].0).await;
}

async fn run(log: PostgresLog, mut writer: Writer) -> &'static str {
    let first = begin(&writer);
    match writer.append(&log, first).await {
        Ok(_) => {}
        Err(Error::KnownAlert(_)) => return "known",
        // Its fingerprint and its slot are the other's, who may have ended since: then the id is known.
        Err(Error::Lost { .. }) => return "known",
        Err(other) => panic!("{other:?}"),
    }
    for append in rest(&writer) {
        writer.append(&log, append).await.unwrap();
    }
    "ran"
}

/// Whoever follows while two engines append sees every position, in order, exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn who_follows_two_engines_misses_nothing() {
    const EACH: u64 = 150;
    let schema = Schema::new().await;
    let mut tasks = Vec::new();
    for side in 0..2 {
        let log = schema.open().await;
        let session = session(&log).await;
        for number in 0..EACH {
            let (log, mut writer) = (log.clone(), writer(session, 1 + number * 2 + side));
            writer.target.service = format!("service-{}", writer.id);
            tasks.push(tokio::spawn(async move { run(log, writer).await }));
        }
    }
    let log = schema.open().await;
    let mut after = 0;
    while after < EACH * 2 * 4 {
        for entry in log.follow(after, 100).await.unwrap() {
            assert_eq!(entry.position, after + 1);
            after = entry.position;
        }
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), "ran");
    }
}

/// A slot is freed by one engine while operations of another begin to wait for it: each is woken in its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn no_waiter_is_forgotten_between_two_engines() {
    const ROUNDS: u64 = 40;
    let schema = Schema::new().await;
    let (one, two) = (schema.open().await, schema.open().await);
    let (first, second) = (session(&one).await, session(&two).await);
    for round in 0..ROUNDS {
        let slot = Claim::Slot(format!("slot-{round}"));
        let mut holder = writer(first, round * 2 + 1);
        let mut append = begin(&holder);
        append.claims = vec![slot.clone()];
        holder.append(&one, append).await.unwrap();
        let mut ending = holder.clone();
        let appends = rest(&holder);
        for append in &appends[..2] {
            ending.append(&one, append.clone()).await.unwrap();
        }
        let waiter = writer(second, round * 2 + 2);
        let mut waits = waiter.begin(NOW, vec![]);
        let far = NOW.plus(Duration::from_secs(86_400));
        (waits.standing.held, waits.standing.wake_at) = (false, Some(far));
        waits.standing.waits_on = Some(slot);
        let (last, log) = (appends[2].clone(), one.clone());
        let ends = tokio::spawn(async move { log.append(last.into()).await });
        two.append(waits.into()).await.unwrap();
        ends.await.unwrap().unwrap();
        let head = one.operation(waiter.id).await.unwrap().unwrap();
        assert_eq!(head.wake_at, Some(NOW), "round {round}");
    }
}

/// Two engines admit under the same budgets at once: each holds exactly as many as it may, however they collide.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_budget_that_two_engines_ask_for_is_never_overdrawn() {
    const ROUNDS: u64 = 12;
    const EACH: u64 = 20;
    let schema = Schema::new().await;
    let (one, two) = (schema.open().await, schema.open().await);
    let sides = [(one.clone(), session(&one).await), (two.clone(), session(&two).await)];
    for round in 0..ROUNDS {
        let most = u32::try_from(round % 5 + 1).unwrap();
        let mut tasks = Vec::new();
        for number in 0..EACH {
            for (side, (log, session)) in (0..).zip(&sides) {
                let mut writer = writer(*session, 1 + (round * EACH + number) * 2 + side);
                // Only the budgets are asked for by many.
                writer.target.service = format!("service-{}", writer.id);
                let mut append = begin(&writer);
                let budget = |key: &str, most| {
                    let key = format!("{key}:{round}");
                    Budget { key, most, window: Duration::from_secs(3600) }
                };
                append.conditions.budgets = vec![budget("wide", 1000), budget("engine", most)];
                let log = log.clone();
                tasks.push(tokio::spawn(async move { log.append(append.into()).await }));
            }
        }
        let mut admitted = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => admitted += 1,
                Err(Error::NotNow { reason: HoldReason::Budget { key, .. }, .. }) => {
                    assert_eq!(key, format!("engine:{round}"));
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(admitted, most, "round {round}");
        let sql = format!(
            "do $$ begin
                 assert (select count(*) from reservations where key = 'engine:{round}') = {most};
                 assert (select count(*) from reservations where key = 'wide:{round}') = {most};
             end $$"
        );
        schema.run(&sql).await;
    }
    assert_proven(&one).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_session_ends_by_the_clock_of_the_database() {
    let schema = Schema::new().await;
    let (one, two) = (schema.open().await, schema.open().await);
    let short = one.open_session("short", LEASE).await.unwrap();
    let long = two.open_session("long", LEASE).await.unwrap();
    assert!(!short.restored && !long.restored);
    let held = begun(&one, short.id, 1).await;
    let claim = || ClaimRequest {
        session: long.id,
        now: NOW,
        limit: 9,
        reads: Versions::CURRENT,
        unable: vec![],
        driven: vec![],
        due: NOW.plus(Duration::from_secs(600)),
    };
    one.renew_session(short.id).await.unwrap();
    assert_eq!(two.claim(claim()).await.unwrap(), []);
    let soon =
        "update sessions set expires_at = (extract(epoch from clock_timestamp()) * 1000000)::bigint + 50000
         where engine = 'short'";
    schema.run(soon).await;
    // Only the database's clock moves on, and nobody tells.
    let look = async || Ok(Some(two.claim(claim()).await?).filter(|claimed| !claimed.is_empty()));
    let claimed = until_async(LIMIT, "the session is over", look).await.unwrap();
    assert_eq!((claimed[0].operation, claimed[0].epoch), (held.id, Epoch(2)));
    assert!(matches!(one.renew_session(short.id).await, Err(Error::Stale { .. })));
    assert!(matches!(one.append(rest(&held)[0].clone().into()).await, Err(Error::Stale { .. })));
    let status = two.status().await.unwrap();
    let alive: Vec<_> = status.sessions.iter().map(|session| (session.id, session.holds)).collect();
    assert_eq!(alive, [(long.id, 1)]);
}

/// What one process commits, the other hears of without asking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn another_process_is_told() {
    let schema = Schema::new().await;
    let (one, two) = (schema.open().await, schema.open().await);
    let session = session(&one).await;
    let held = begun(&one, session, 1).await;
    let mut heard = one.wakeups();
    listening(&schema).await;
    heard.mark_unchanged();
    let request = Request::Cancel { reason: "enough".into() };
    let actor = Actor("person:ann".into());
    let post = Post { operation: held.id, key: "k".into(), request, actor, at: NOW };
    two.post(post).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), heard.changed()).await.unwrap().unwrap();
    assert_eq!(one.inbox_waiting(session).await.unwrap(), [held.id]);
}

/// Until both logs of the schema listen.
async fn listening(schema: &Schema) {
    let sql = "select count(*) from pg_stat_activity a, meta m
         where a.query = 'LISTEN \"redress_' || replace(m.log_id::text, '-', '_') || '\"'";
    schema.until("both listen", sql, 2).await;
}

/// Joins, endings, posts and claims of one operation from many sides at once: nothing waits in a circle for long,
/// and the log proves itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn many_sides_at_one_operation() {
    let schema = Schema::new().await;
    let (one, two) = (schema.open().await, schema.open().await);
    let (first, second) = (session(&one).await, session(&two).await);
    let mut tasks = Vec::new();
    for number in 1..=30_u64 {
        let held = begun(&one, first, number).await;
        let (log, operation) = (two.clone(), held.id);
        tasks.push(tokio::spawn(async move {
            let content = std::sync::Arc::new(conformance::fixture::alert(&format!("joins-{number}")));
            let alert = conformance::fixture::new_alert(&content, NOW);
            let join = Join { operation, alert, content, actor: Actor("source:test".into()) };
            accepted(log.join(join).await.map(|_| ()));
        }));
        let log = two.clone();
        tasks.push(tokio::spawn(async move {
            let request = Request::Cancel { reason: "enough".into() };
            let (key, actor) = ("k".to_owned(), Actor("person:ann".into()));
            accepted(log.post(Post { operation, key, request, actor, at: NOW }).await.map(|_| ()));
        }));
        let log = one.clone();
        tasks.push(tokio::spawn(async move {
            for append in rest(&held) {
                accepted(log.append(append.into()).await.map(|_| ()));
            }
        }));
        let (log, session) = (two.clone(), second);
        tasks.push(tokio::spawn(async move {
            accepted(log.renew_session(session).await.map(|_| ()));
            let unknown = SessionId(999);
            assert!(log.renew_session(unknown).await.is_err());
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_proven(&one).await;
    let ids: HashSet<_> = one.audit().await.unwrap().heads.iter().map(|head| head.id).collect();
    assert_eq!(ids.len(), 30);
}

/// Done, or refused for a reason that this race may have.
fn accepted(answer: Result<(), Error>) {
    match answer {
        Ok(())
        | Err(Error::NotFolded { .. } | Error::Ended { .. } | Error::Conflict { .. } | Error::Stale { .. }) =>
            {}
        Err(other) => panic!("{other:?}"),
    }
}
