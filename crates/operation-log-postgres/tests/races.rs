//! What two engines, or an engine and the network, must not bring about between them: a log that is taken for a
//! restored one, one outbox row at two engines, a waiter that nobody wakes, a call that does not return.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold fails the test")]

mod common;
#[path = "common/proxy.rs"]
mod proxy;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Schema, server};
use proxy::Proxy;
use redress_operation_log::conformance::life::{LEASE, NOW, begin, begun, rest, session, writer};
use redress_operation_log::record::{
    Append, Budget, Claim, ClaimRequest, OutboxDecision, OutboxRequest, OutboxVerdict,
};
use redress_operation_log::{Actor, Error, OperationHistory as _, OperationLog as _, SessionId, Versions};
use redress_operation_log_postgres::{Options, PostgresLog};
use redress_types::Incarnation;
use sqlx::Connection as _;

/// The write-ahead log moves all the while, and each session's look at it is later than the one before it noted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn sessions_opened_and_renewed_at_once_are_no_restored_log() {
    let schema = Schema::new().await;
    let (one, two) = (schema.open().await, schema.open().await);
    let stop = Arc::new(AtomicBool::new(false));
    let (mut conn, stopped) = (schema.connect().await, Arc::clone(&stop));
    let traffic = tokio::spawn(async move {
        while !stopped.load(Ordering::SeqCst) {
            let sql = "select pg_logical_emit_message(false, 'test', repeat('x', 20000))";
            sqlx::query(sql).execute(&mut conn).await.unwrap();
        }
    });
    let mut tasks = Vec::new();
    for side in 0..8 {
        let log = if side % 2 == 0 { one.clone() } else { two.clone() };
        tasks.push(tokio::spawn(async move {
            for _ in 0..15 {
                let opened = log.open_session("test", LEASE).await.unwrap();
                assert_eq!((opened.incarnation, opened.restored), (Incarnation(1), false));
                log.renew_session(opened.id).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    traffic.await.unwrap();
}

/// What was not committed was not seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_session_whose_commit_is_lost_is_no_sign_of_a_restored_log() {
    let schema = Schema::new().await;
    let (proxy, url) = Proxy::before(&server()).await;
    let log = PostgresLog::open(&schema.url_of(&url), &Options::default()).await.unwrap();
    proxy.faults.cut_commit.store(true, Ordering::SeqCst);
    let lost = log.open_session("test", LEASE).await.unwrap_err();
    assert!(matches!(lost, Error::Unavailable { .. }), "{lost:?}");
    assert!(!proxy.faults.cut_commit.load(Ordering::SeqCst), "a commit was cut off");
    let opened = log.open_session("test", LEASE).await.unwrap();
    assert_eq!((opened.incarnation, opened.restored), (Incarnation(1), false));
}

/// In the middle of a transaction the server falls silent: its end is not waited for too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_server_that_falls_silent_is_not_waited_for_for_ever() {
    let schema = Schema::new().await;
    let (proxy, url) = Proxy::before(&server()).await;
    let options = Options { statement_timeout: Duration::from_secs(1), ..Options::default() };
    let log = PostgresLog::open(&schema.url_of(&url), &options).await.unwrap();
    let mut other = schema.connect().await;
    let mut holds = other.begin().await.unwrap();
    sqlx::query("select 1 from meta for update").execute(&mut *holds).await.unwrap();
    let call = tokio::spawn(async move { log.open_session("test", LEASE).await });
    waits_for_a_lock(&schema).await;
    proxy.faults.silent.store(true, Ordering::SeqCst);
    let answer = tokio::time::timeout(Duration::from_secs(20), call).await.unwrap().unwrap();
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    holds.rollback().await.unwrap();
}

/// Until somebody waits for the row of `meta`.
async fn waits_for_a_lock(schema: &Schema) {
    let sql = "select count(*) from pg_locks l join pg_locks t on t.pid = l.pid
         where not l.granted and t.relation = 'meta'::regclass";
    schema.until("somebody waits", sql, 1).await;
}

fn outbox(session: SessionId, limit: usize) -> OutboxRequest {
    let (now, until) = (NOW, NOW.plus(Duration::from_secs(3600)));
    OutboxRequest { session, now, limit, until, executors: vec!["pager".into()] }
}

/// Adds outbox rows to the one operation: `keys` keys, each with a row for each of these states, in this order.
async fn owe(schema: &Schema, keys: u32, states: &str) {
    let sql = format!(
        "insert into outbox (position, place, operation, seq, executor, order_key, content, written_at, due_at, state)
         select 1, k * 10 + s.n, 1, 1, 'pager', 'key-' || k, 'x', 1, 1, s.state
             from generate_series(1, {keys}) k, unnest(array[{states}]) with ordinality s(state, n);
         update operations set owed = owed + (select count(*) from outbox)"
    );
    schema.run(&sql).await;
}

/// Takes until nothing is left; answers the place of each row taken.
async fn take_all(log: PostgresLog, session: SessionId, done: Arc<AtomicBool>) -> Vec<u32> {
    let mut taken = Vec::new();
    loop {
        let is_last = done.load(Ordering::SeqCst);
        let rows = log.outbox_due(outbox(session, 20)).await.unwrap();
        if rows.is_empty() && is_last {
            return taken;
        }
        taken.extend(rows.iter().map(|row| row.index));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn an_outbox_row_is_given_to_one_engine() {
    const ROWS: u32 = 3000;
    let schema = Schema::new().await;
    let (one, two) = (schema.open().await, schema.open().await);
    let (first, second) = (session(&one).await, session(&two).await);
    begun(&one, first, 1).await;
    owe(&schema, ROWS, "'owed'").await;
    // One that finds all that is left in the other's hands for a moment looks again.
    let done = Arc::new(AtomicBool::new(true));
    let other = tokio::spawn(take_all(two, second, Arc::clone(&done)));
    let mut taken = take_all(one.clone(), first, Arc::clone(&done)).await;
    taken.extend(other.await.unwrap());
    taken.extend(take_all(one, first, done).await);
    let different: HashSet<_> = taken.iter().copied().collect();
    assert_eq!((taken.len(), different.len()), (ROWS as usize, ROWS as usize));
}

/// A person has the first row of a key tried again while engines take the second: one of them is on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn of_an_order_key_one_row_is_on_its_way_whatever_a_person_decides() {
    const KEYS: u32 = 150;
    let schema = Schema::new().await;
    let (one, two) = (schema.open().await, schema.open().await);
    let (first, second) = (session(&one).await, session(&two).await);
    begun(&one, first, 1).await;
    owe(&schema, KEYS, "'handed', 'owed'").await;
    let done = Arc::new(AtomicBool::new(false));
    let engines = [
        tokio::spawn(take_all(one.clone(), first, Arc::clone(&done))),
        tokio::spawn(take_all(two.clone(), second, Arc::clone(&done))),
    ];
    // From the end, where the engines come to last.
    for key in (1..=KEYS).rev() {
        let (by, reason) = (Actor("person:ann".into()), "again".to_owned());
        let (position, index, what) = (1, key * 10 + 1, OutboxVerdict::Retry);
        two.outbox_decide(OutboxDecision { position, index, at: NOW, by, reason, what }).await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    let mut keys = Vec::new();
    for engine in engines {
        keys.extend(engine.await.unwrap().iter().map(|place| place / 10));
    }
    let different: HashSet<_> = keys.iter().copied().collect();
    assert_eq!((keys.len(), different.len()), (KEYS as usize, KEYS as usize));
}

/// A slot is freed while somebody has the head of its only waiter locked, for something that wakes nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_waiter_that_was_locked_when_its_slot_was_freed_is_found_by_the_next_claim() {
    let schema = Schema::new().await;
    let log = schema.open().await;
    let session = session(&log).await;
    let slot = Claim::Slot("slot".into());
    let mut holder = writer(session, 1);
    let mut append = begin(&holder);
    append.claims = vec![slot.clone()];
    holder.append(&log, append).await.unwrap();
    let waiter = writer(session, 2);
    let mut waits = waiter.begin(NOW, vec![]);
    let far = NOW.plus(Duration::from_secs(86_400));
    (waits.standing.held, waits.standing.wake_at, waits.standing.waits_on) = (false, Some(far), Some(slot));
    log.append(waits.into()).await.unwrap();

    let mut other = schema.connect().await;
    let mut locks = other.begin().await.unwrap();
    let sql = "select 1 from operations where waits_key = 'slot' for update";
    assert_eq!(sqlx::query(sql).fetch_all(&mut *locks).await.unwrap().len(), 1);
    for append in rest(&holder) {
        holder.append(&log, append).await.unwrap();
    }
    locks.rollback().await.unwrap();
    assert_eq!(log.operation(waiter.id).await.unwrap().unwrap().wake_at, Some(far));

    let (now, due) = (NOW, NOW.plus(LEASE));
    let (reads, unable, driven) = (Versions::CURRENT, vec![], vec![]);
    let claim = ClaimRequest { session, now, limit: 9, reads, unable, driven, due };
    let claimed: Vec<_> = log.claim(claim).await.unwrap().iter().map(|claimed| claimed.operation).collect();
    assert_eq!(claimed, [waiter.id]);
}

/// What comes true while a batch waits behind whoever commits it: the batch is taken back and looks again.
async fn meanwhile(change: &str, append: impl FnOnce(SessionId) -> Append) -> Error {
    let schema = Schema::new().await;
    let log = schema.open().await;
    let session = session(&log).await;
    // Its plan is stored, so that the append is the next statement of the connection.
    begun(&log, session, 1_000).await;
    let mut other = schema.connect().await;
    sqlx::raw_sql("begin; select 1 from meta for update").execute(&mut other).await.unwrap();
    let (appending, append) = (log.clone(), append(session));
    let appending = tokio::spawn(async move { appending.append(append.into()).await });
    waits_for_a_lock(&schema).await;
    let change = change.replace("$session", &session.to_string());
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("{change}; commit"))).execute(&mut other).await.unwrap();
    appending.await.unwrap().unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_session_that_is_closed_while_its_append_waits_appends_nothing() {
    let close = "update sessions set closed_at = 1 where id = $session";
    let refused = meanwhile(close, |session| begin(&writer(session, 1))).await;
    assert!(matches!(refused, Error::Stale { .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_hold_that_is_left_behind_while_an_append_waits_keeps_it_away() {
    let hold = "insert into holds (key, next_allowed_at) values ('rest', 9000000000000000)";
    let refused = meanwhile(hold, |session| {
        let mut append = begin(&writer(session, 1));
        append.conditions.holds = vec!["rest".into()];
        append
    });
    let refused = refused.await;
    assert!(matches!(refused, Error::NotNow { .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_budget_that_is_used_up_while_an_append_waits_keeps_it_away() {
    let at = NOW.as_micros();
    let reserve =
        format!("insert into reservations (key, operation, at, window_us) values ('all', 1, {at}, 1)");
    let refused = meanwhile(&reserve, |session| {
        let mut append = begin(&writer(session, 1));
        append.conditions.budgets = vec![Budget { key: "all".into(), most: 1, window: LEASE }];
        append
    });
    let refused = refused.await;
    assert!(matches!(refused, Error::NotNow { .. }), "{refused:?}");
}
