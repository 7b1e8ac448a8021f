//! A server of its own that is killed, failed over, copied, and spoken to over TLS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold fails the test")]

mod common;

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{LIMIT, Schema};
use redress_operation_log::conformance::life::{LEASE, assert_proven, begin, begun, rest, session, writer};
use redress_operation_log::record::Recorded;
use redress_operation_log::{Append, Error, OperationHistory as _, OperationLog as _, SessionId};
use redress_operation_log_postgres::{Options, PostgresLog};
use redress_testkit::servers::Postgres;
use redress_testkit::until_async;
use redress_types::{Hash, Incarnation, OperationId};

/// Appends while the server is killed three times. What was acknowledged is there, once, and the calls go on by
/// themselves when the server is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_killed_server_loses_nothing_that_was_acknowledged() {
    let server = Arc::new(Postgres::start().unwrap());
    let schema = Schema::on(&server.url()).await;
    let log = schema.open().await;
    let session = session(&log).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (told, mut progress) = tokio::sync::watch::channel(0_u64);
    let workers: Vec<_> = (0..16_u64)
        .map(|worker| {
            let (log, stop, told) = (log.clone(), Arc::clone(&stop), told.clone());
            tokio::spawn(async move {
                let mut acknowledged = HashMap::new();
                let mut number = worker;
                while !stop.load(Ordering::SeqCst) {
                    number += 16;
                    live(&log, session, number, &mut acknowledged, &told).await;
                }
                acknowledged
            })
        })
        .collect();
    for _ in 0..3 {
        let next = *progress.borrow() + 60;
        progress.wait_for(|done| *done >= next).await.unwrap();
        let server = Arc::clone(&server);
        tokio::task::spawn_blocking(move || server.ctl(&["-m", "immediate", "restart"]).unwrap())
            .await
            .unwrap();
    }
    let next = *progress.borrow() + 60;
    progress.wait_for(|done| *done >= next).await.unwrap();
    stop.store(true, Ordering::SeqCst);
    let mut acknowledged = HashMap::new();
    for worker in workers {
        acknowledged.extend(worker.await.unwrap());
    }
    let entries = log.follow(0, 1_000_000).await.unwrap();
    assert_eq!(entries.len(), acknowledged.len());
    for entry in entries {
        let answer = acknowledged.get(&(entry.operation, entry.seq)).copied();
        assert_eq!(answer, Some((entry.position, entry.hash)));
    }
    assert_proven(&log).await;
    // The session went on: the restart took no lease away.
    log.renew_session(session).await.unwrap();
}

type Acknowledged = HashMap<(OperationId, u64), (u64, Hash)>;

/// One operation from begin to end; each append is repeated until it is answered.
async fn live(
    log: &PostgresLog,
    session: SessionId,
    number: u64,
    acknowledged: &mut Acknowledged,
    told: &tokio::sync::watch::Sender<u64>,
) {
    let mut writer = writer(session, number);
    let first = begin(&writer);
    writer.took(&first);
    for append in std::iter::once(first).chain(rest(&writer)) {
        let recorded = certain(log, &append).await;
        let key = (append.operation, append.expected_seq + 1);
        acknowledged.insert(key, (recorded.position, append.hash));
        told.send_modify(|done| *done += 1);
    }
}

async fn certain(log: &PostgresLog, append: &Append) -> Recorded {
    until_back(|| log.append(append.clone().into())).await.unwrap()
}

/// A promoted standby, or a recovery to a point in time, begins another timeline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn another_timeline_ends_the_sessions_and_raises_the_incarnation() {
    let server = Postgres::start().unwrap();
    let schema = Schema::on(&server.url()).await;
    let log = schema.open().await;
    let before = log.open_session("before", LEASE).await.unwrap();
    assert_eq!((before.incarnation, before.restored), (Incarnation(1), false));
    let held = begun(&log, before.id, 1).await;
    let position = log.status().await.unwrap().position;
    // Made a standby of nothing, and promoted.
    std::fs::write(server.data().join("standby.signal"), "").unwrap();
    server.give(&server.data().join("standby.signal")).unwrap();
    server.ctl(&["-m", "fast", "restart"]).unwrap();
    let standby = PostgresLog::open(&schema.url(), &Options::default()).await.unwrap_err();
    assert!(standby.to_string().contains("standby"), "{standby}");
    server.ctl(&["promote"]).unwrap();

    assert!(matches!(until_back(|| log.renew_session(before.id)).await, Err(Error::Stale { .. })));
    let after = log.open_session("after", LEASE).await.unwrap();
    assert_eq!((after.incarnation, after.restored, after.since), (Incarnation(2), true, after.id));
    assert!(after.id.0 > before.id.0 + 1000, "sessions that were lost are not given out again");
    assert!(matches!(log.append(rest(&held)[0].clone().into()).await, Err(Error::Stale { .. })));
    let next = writer(after.id, 2);
    assert!(log.append(begin(&next).into()).await.unwrap().position > position + 1000);
    // Noticed once.
    let later = log.open_session("later", LEASE).await.unwrap();
    assert_eq!((later.incarnation, later.restored, later.since), (Incarnation(2), false, after.id));
    log.renew_session(after.id).await.unwrap();
    assert_proven(&log).await;
}

/// Again while the server, or the connections of before it stopped, are found to be gone.
async fn until_back<T, Fut>(call: impl Fn() -> Fut) -> Result<T, Error>
where
    Fut: Future<Output = Result<T, Error>>,
{
    let look = || async {
        match call().await {
            Err(gone @ Error::Unavailable { .. }) => Err(gone.into()),
            other => Ok(Some(other)),
        }
    };
    until_async(LIMIT, "the server is back", look).await.unwrap()
}

/// `pg_dump`, dropped, and read back into the same database: the tables are others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn tables_that_were_made_anew_are_noticed() {
    let schema = Schema::new().await;
    let log = schema.open().await;
    let before = log.open_session("before", LEASE).await.unwrap();
    begun(&log, before.id, 1).await;
    let anew = "create table other (like meta including all); insert into other select * from meta;
         drop table meta; alter table other rename to meta";
    schema.run(anew).await;
    let log = schema.open().await;
    let after = log.open_session("after", LEASE).await.unwrap();
    assert_eq!((after.incarnation, after.restored), (Incarnation(2), true));
}

/// What this process has seen is gone: somebody put an older state in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_log_that_is_older_than_what_was_seen_is_noticed() {
    let schema = Schema::new().await;
    let log = schema.open().await;
    let session = session(&log).await;
    for number in 1..=5 {
        begun(&log, session, number).await;
    }
    schema.run("update meta set position = 2; delete from entries where position > 2").await;
    let after = log.open_session("after", LEASE).await.unwrap();
    assert!(after.restored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn tls_is_spoken_and_the_certificate_checked() {
    let server = Postgres::start().unwrap();
    let folder = server.folder();
    let (key, certificate) = (folder.join("server.key"), folder.join("server.crt"));
    let made = Command::new("openssl")
        .args(["req", "-new", "-x509", "-days", "2", "-nodes", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap_or_else(|error| panic!("this test needs openssl: {error}"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    server.give(&key).unwrap();
    let lines =
        format!("ssl = on\nssl_key_file = '{}'\nssl_cert_file = '{}'", key.display(), certificate.display());
    server.configure(&lines).unwrap();
    server.give(&certificate).unwrap();
    server.ctl(&["restart"]).unwrap();

    let schema = Schema::on(&server.url()).await;
    let root = certificate.display();
    let trusting = schema.url_of(&format!("{}?sslmode=verify-full&sslrootcert={root}", server.url()));
    let log = PostgresLog::open(&trusting, &Options::default()).await.unwrap();
    let session = session(&log).await;
    begun(&log, session, 1).await;
    let mut conn = schema.connect().await;
    let sql = "select count(*) from pg_stat_ssl s join pg_stat_activity a using (pid)
         where a.application_name = 'redress' and s.ssl";
    let row = sqlx::query(sql).fetch_one(&mut conn).await.unwrap();
    assert!(sqlx::Row::get::<i64, _>(&row, 0) >= 2);
    // Nobody that this machine trusts has signed it.
    let doubting = schema.url_of(&format!("{}?sslmode=verify-full", server.url()));
    let refused = PostgresLog::open(&doubting, &Options::default()).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused() {
    let server = Postgres::start_with("fsync = off\nsynchronous_commit = off").unwrap();
    let schema = Schema::on(&server.url()).await;
    let refused = PostgresLog::open(&schema.url(), &Options::default()).await.unwrap_err();
    assert!(refused.to_string().contains("fsync=off"), "{refused}");
    let options = Options { accept_loss: true, ..Options::default() };
    let log = PostgresLog::open(&schema.url(), &options).await.unwrap();
    // What the server lowers is raised for our connections.
    assert!(log.durability().contains("synchronous_commit=on"), "{}", log.durability());
    let session = session(&log).await;
    begun(&log, session, 1).await;
    server.ctl(&["-m", "immediate", "stop"]).unwrap();
    let gone = log.operation(writer(session, 1).id).await.unwrap_err();
    assert!(matches!(gone, Error::Unavailable { .. }), "{gone:?}");
    let gone = log.append(begin(&writer(session, 2)).into()).await.unwrap_err();
    assert!(matches!(gone, Error::Unavailable { .. }), "{gone:?}");
    server.ctl(&["start"]).unwrap();
    until_back(|| log.append(begin(&writer(session, 2)).into())).await.unwrap();
}

/// A user that may not see by what a cluster is told has sessions all the same; what it may see is compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_user_that_may_see_little_of_the_server_has_sessions() {
    let server = Postgres::start().unwrap();
    let schema = Schema::on(&server.url()).await;
    let sql = format!(
        "create role plain login; grant all on schema {} to plain;
         revoke execute on function pg_control_system(), pg_current_wal_lsn() from public",
        schema.name
    );
    schema.run(&sql).await;
    let url = schema.url_of(&server.url().replace("redress@", "plain@"));
    let log = PostgresLog::open(&url, &Options::default()).await.unwrap();
    for _ in 0..2 {
        let opened = log.open_session("plain", LEASE).await.unwrap();
        assert_eq!((opened.incarnation, opened.restored), (Incarnation(1), false));
        log.renew_session(opened.id).await.unwrap();
    }
    schema.run("update meta set meta_oid = 1").await;
    assert!(log.open_session("plain", LEASE).await.unwrap().restored);
}
