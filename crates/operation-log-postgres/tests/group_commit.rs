//! Concurrent appends share commits, a lone one waits for nobody, and one that fails is alone in that.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold fails the test")]

mod common;

use std::collections::HashSet;

use common::Schema;
use redress_operation_log::conformance::life::{NOW, assert_proven, begin, begun, rest, session, writer};
use redress_operation_log::record::{Budget, Claim, Ending, OutboxRequest, Owe, Payload, Switch};
use redress_operation_log::{Actor, Error, OperationHistory as _, OperationLog as _, SessionId};
use redress_operation_log_postgres::PostgresLog;

/// A log that has stored the plan of the fixtures: that is a commit of its own.
async fn warm(schema: &Schema) -> (PostgresLog, SessionId) {
    let log = schema.open().await;
    let session = session(&log).await;
    begun(&log, session, 1_000_000).await;
    (log, session)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_lone_append_is_one_commit() {
    let schema = Schema::new().await;
    let (log, session) = warm(&schema).await;
    let before = log.commits();
    let writer = writer(session, 1);
    log.append(begin(&writer).into()).await.unwrap();
    assert_eq!(log.commits() - before, 1);
    let mut after = writer.clone();
    after.took(&begin(&writer));
    for append in rest(&after) {
        log.append(append.into()).await.unwrap();
    }
    assert_eq!(log.commits() - before, 4);
    // Asking, being refused and saying it again commit nothing.
    assert!(log.append(begin(&writer).into()).await.unwrap().before);
    log.next_due().await.unwrap();
    let request = OutboxRequest {
        session: SessionId(99),
        now: NOW,
        until: NOW,
        limit: 1,
        executors: vec!["persist".into()],
    };
    assert!(matches!(log.outbox_due(request).await, Err(Error::Stale { .. })));
    assert_eq!(log.commits() - before, 4);
    assert_proven(&log).await;
}

/// What an accepting append brings with it in a server: budgets, a payload and outbox rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn an_admission_with_all_that_belongs_to_it_is_one_commit_in_one_round_trip() {
    let schema = Schema::new().await;
    let (log, session) = warm(&schema).await;
    let before = log.commits();
    let appends: Vec<_> = (1..=30_u64)
        .map(|number| {
            let log = log.clone();
            tokio::spawn(async move {
                let writer = writer(session, number);
                let mut append = begin(&writer);
                let budget =
                    |key: String| Budget { key, most: 30, window: std::time::Duration::from_secs(60) };
                append.conditions.budgets =
                    vec![budget(format!("fingerprint:{number}")), budget("all".into())];
                append.payloads = (0..number % 4).map(|place| payload(number, place)).collect();
                append.outbox = owed(number, number % 2);
                log.append(append.into()).await.unwrap();
                writer.id
            })
        })
        .collect();
    for (number, append) in (1..).zip(appends) {
        let id = append.await.unwrap();
        let expected: Vec<_> = (0..number % 4).map(|place| (1, payload(number, place))).collect();
        assert_eq!(log.payloads(id).await.unwrap(), expected, "{number}");
        assert_eq!(log.outbox_of(id).await.unwrap().len() as u64, number % 2);
    }
    assert!(log.commits() - before < 30, "{}", log.commits() - before);
    let kept =
        "do $$ begin assert (select count(distinct operation) from reservations where key = 'all') = 30;
        assert (select count(distinct o.position) from reservations r join operations o
            on o.position = r.operation where r.key like 'fingerprint:%') = 30; end $$";
    schema.run(kept).await;
    let mut over = begin(&writer(session, 31));
    over.conditions.budgets =
        vec![Budget { key: "all".into(), most: 30, window: std::time::Duration::from_secs(60) }];
    assert!(matches!(log.append(over.into()).await, Err(Error::NotNow { .. })));
}

fn payload(number: u64, place: u64) -> Payload {
    let salt = [u8::try_from(number).unwrap(); 16];
    Payload { salt, bytes: format!("original {number}.{place}").into_bytes().into() }
}

/// What was sent while the log was busy forms few batches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn concurrent_appends_share_commits_and_one_bad_one_fails_alone() {
    const APPENDS: u64 = 200;
    let schema = Schema::new().await;
    let (log, session) = warm(&schema).await;
    let mut busy = schema.connect().await;

    for round in [0, 1] {
        let before = log.commits();
        sqlx::raw_sql("begin; select 1 from meta for update").execute(&mut busy).await.unwrap();
        let numbers = round * 1000 + 1..=round * 1000 + APPENDS;
        let tasks: Vec<_> = numbers
            .map(|number| {
                let (log, mut append) = (log.clone(), begin(&writer(session, number)));
                // One that no head can hold: its slot has a name longer than an index takes.
                if number == 77 {
                    append.claims = vec![Claim::Slot(noise(5_000))];
                }
                (number, append, log)
            })
            .map(|(number, append, log)| {
                tokio::spawn(async move { (number, log.append(append.into()).await) })
            })
            .collect();
        until_waiting(&schema).await;
        sqlx::raw_sql("rollback").execute(&mut busy).await.unwrap();
        let mut positions = HashSet::new();
        for task in tasks {
            match task.await.unwrap() {
                (_, Ok(recorded)) => assert!(positions.insert(recorded.position)),
                (77, Err(Error::Unstorable { what })) => assert!(what.contains("rights_slot"), "{what}"),
                (number, Err(error)) => panic!("{number}: {error:?}"),
            }
        }
        let commits = log.commits() - before;
        if round == 0 {
            assert_eq!(positions.len() as u64, APPENDS - 1);
        } else {
            // What the writer had taken when the log was busy, and all the rest.
            assert_eq!(positions.len() as u64, APPENDS);
            assert!(commits <= 4, "{commits} commits");
        }
    }
    assert_proven(&log).await;
    assert_eq!(log.audit().await.unwrap().heads.len() as u64, 2 * APPENDS);
}

/// Text that Postgres cannot compress.
fn noise(length: usize) -> String {
    let mut state = 0x9e37_79b9_u64;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 59) as u8 % 26)
    };
    (0..length).map(letter).collect()
}

/// Until a batch of another connection waits for a lock that we hold.
async fn until_waiting(schema: &Schema) {
    let sql = "select count(*) from pg_stat_activity
         where wait_event_type = 'Lock' and query ~ '^with (barred|moved) as '";
    schema.until("somebody waits", sql, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_dropped_call_leaves_the_log_whole() {
    let schema = Schema::new().await;
    let (log, session) = warm(&schema).await;
    for number in 1..50 {
        let append = log.append(begin(&writer(session, number)).into());
        // Polled once, so that it is on its way, and dropped.
        tokio::select! { biased; _ = append => {}, () = std::future::ready(()) => {} }
    }
    begun(&log, session, 100).await;
    assert_proven(&log).await;
}

/// Outbox rows, holds and claims of many appends in one batch are each their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn what_a_batch_owes_and_leaves_is_each_its_own() {
    let schema = Schema::new().await;
    let (log, session) = warm(&schema).await;
    let lives: Vec<_> = (1..=40_u64)
        .map(|number| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut writer = writer(session, number);
                let mut first = begin(&writer);
                first.outbox = owed(number, number % 3);
                writer.append(&log, first).await.unwrap();
                for mut append in rest(&writer) {
                    append.outbox = owed(number, (number + append.expected_seq) % 3);
                    if append.ends.is_some() {
                        let until = NOW.plus(std::time::Duration::from_secs(number));
                        append.ends = Some(Ending { hold: Some(("all".into(), until)), refund: true });
                    }
                    writer.append(&log, append).await.unwrap();
                }
                writer.id
            })
        })
        .collect();
    for (number, life) in (1..).zip(lives) {
        let id = life.await.unwrap();
        let rows = log.outbox_of(id).await.unwrap();
        let found: Vec<_> = rows.iter().map(|row| (row.seq, row.index, row.order_key.clone())).collect();
        let expected: Vec<_> = (0..4)
            .flat_map(|seq| (0..(number + seq) % 3).map(move |index| (seq, index)))
            .map(|(seq, index)| (seq + 1, u32::try_from(index).unwrap(), format!("key {number}.{index}")))
            .collect();
        assert_eq!(found, expected, "{number}");
        assert_eq!(log.operation(id).await.unwrap().unwrap().owed, rows.len() as u64);
        let entries = log.entries(id, 0, 9).await.unwrap();
        for row in rows {
            let entry = entries.iter().find(|entry| entry.seq == row.seq).unwrap();
            assert_eq!(row.position, entry.position);
        }
    }
    assert_proven(&log).await;
    // Of the forty holds the latest stands.
    let mut held = begin(&writer(session, 900));
    held.conditions.holds = vec!["all".into()];
    match log.append(held.into()).await {
        Err(Error::NotNow { until, .. }) => {
            assert_eq!(until, NOW.plus(std::time::Duration::from_secs(40)));
        }
        other => panic!("{other:?}"),
    }
}

fn owed(number: u64, rows: u64) -> Vec<Owe> {
    let owe = |index| Owe {
        executor: "persist".into(),
        order_key: format!("key {number}.{index}"),
        content: format!("{number}.{index}").into_bytes().into(),
    };
    (0..rows).map(owe).collect()
}

/// The writer remembers that no switch was ever changed; another process changes one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_switch_that_another_process_turned_off_is_in_the_way_at_once() {
    let schema = Schema::new().await;
    let (log, session) = warm(&schema).await;
    let other = schema.open().await;
    let (by, reason) = (Actor("person:ann".into()), "quiet".to_owned());
    let off = Switch { key: "engine".into(), by, reason, since: NOW, until: None };
    other.set_switch("engine", Some(off)).await.unwrap();
    let mut append = begin(&writer(session, 1));
    append.conditions.switches = vec!["engine".into()];
    assert!(matches!(log.append(append.clone().into()).await, Err(Error::NotNow { .. })));
    other.set_switch("engine", None).await.unwrap();
    assert_eq!(log.append(append.into()).await.unwrap().switches, 2);
}

/// Whole lives at once share their commits: a batch that its one statement could not take would go one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn whole_lives_share_their_commits() {
    let schema = Schema::new().await;
    let (log, session) = warm(&schema).await;
    let before = log.commits();
    let lives: Vec<_> = (1..=100_u64)
        .map(|number| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut writer = writer(session, number);
                let append = begin(&writer);
                writer.took(&append);
                log.append(append.into()).await.unwrap();
                for append in rest(&writer) {
                    log.append(append.into()).await.unwrap();
                }
            })
        })
        .collect();
    for life in lives {
        life.await.unwrap();
    }
    let commits = log.commits() - before;
    assert!(commits < 100, "100 lives of 4 appends took {commits} commits");
    assert_proven(&log).await;
}

/// What no batch can take goes alone; what has a claim in common with it waits for it, and for nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "needs Postgres: ./test runs it"]
async fn what_goes_alone_leaves_nobody_waiting() {
    let schema = Schema::new().await;
    let (log, session) = warm(&schema).await;
    let (mut alone, mut behind) = (begin(&writer(session, 1)), begin(&writer(session, 2)));
    alone.claims.extend([Claim::Slot("one".into()), Claim::Slot("two".into())]);
    behind.claims = vec![Claim::Slot("two".into())];
    let both = async { tokio::join!(log.append(alone.into()), log.append(behind.into())) };
    let (alone, behind) = tokio::time::timeout(std::time::Duration::from_secs(20), both).await.unwrap();
    // Which of them has it is open; that both are answered is not.
    assert!(alone.is_ok() != behind.is_ok(), "{alone:?}, {behind:?}");
}

/// What waits for something under way goes when that has landed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn what_has_a_claim_in_common_with_what_is_under_way_goes_after_it() {
    let schema = Schema::new().await;
    let (log, session) = warm(&schema).await;
    let mut busy = schema.connect().await;
    sqlx::raw_sql("begin; select 1 from meta for update").execute(&mut busy).await.unwrap();
    let slot = |number| {
        let mut append = begin(&writer(session, number));
        append.claims = vec![Claim::Slot("one".into())];
        let log = log.clone();
        tokio::spawn(async move { log.append(append.into()).await })
    };
    let first = slot(1);
    until_waiting(&schema).await;
    let second = slot(2);
    sqlx::raw_sql("rollback").execute(&mut busy).await.unwrap();
    let both = async { tokio::join!(first, second) };
    let (first, second) = tokio::time::timeout(std::time::Duration::from_secs(20), both).await.unwrap();
    first.unwrap().unwrap();
    assert!(matches!(second.unwrap(), Err(Error::Lost { .. })));
}
