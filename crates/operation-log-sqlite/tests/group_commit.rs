//! Concurrent appends share commits, a lone one waits for nobody, and one that fails is alone in that.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what does not hold fails the test"
)]

mod common;

use std::collections::HashSet;
use std::time::Duration;

use common::{folder, open};
use redress_operation_log::conformance::fixture::outbox_request;
use redress_operation_log::conformance::life::{NOW, assert_proven, begin, begun, session, writer};
use redress_operation_log::{Error, OperationHistory as _, OperationLog as _};
use redress_operation_log_sqlite::{Options, SqliteLog};

#[tokio::test]
async fn a_lone_append_is_one_commit() {
    let (_folder, path) = folder();
    let log = open(&path);
    let session = session(&log).await;
    let before = log.commits();
    let writer = writer(session, 1);
    log.append(begin(&writer).into()).await.unwrap();
    assert_eq!(log.commits() - before, 1);
    // Asking, being refused and saying it again commit nothing.
    log.append(begin(&writer).into()).await.unwrap();
    log.next_due().await.unwrap();
    let stale = redress_operation_log::SessionId(99);
    let request = outbox_request(stale, NOW, NOW, 1);
    assert!(matches!(log.outbox_due(request).await, Err(Error::Stale { .. })));
    assert_eq!(log.commits() - before, 1);
}

/// What was sent while the file was busy forms few batches.
#[tokio::test]
async fn concurrent_appends_share_commits_and_one_bad_one_fails_alone() {
    const APPENDS: u64 = 200;
    let (_folder, path) = folder();
    let log = open(&path);
    let session = session(&log).await;
    let before = log.commits();

    let busy = rusqlite::Connection::open(&path).unwrap();
    busy.execute_batch("begin immediate").unwrap();
    let tasks: Vec<_> = (1..=APPENDS)
        .map(|number| {
            let (log, mut append) = (log.clone(), begin(&writer(session, number)));
            // One that no head can hold: it has folded inbox rows that are not there.
            append.standing.folded_request = if number == 77 { 5 } else { 0 };
            tokio::spawn(async move { (number, log.append(append.into()).await) })
        })
        .collect();
    // On this single thread every task has sent its append once this one runs again.
    tokio::task::yield_now().await;
    busy.execute_batch("rollback").unwrap();

    let mut positions = HashSet::new();
    for task in tasks {
        let (number, answer) = task.await.unwrap();
        match answer {
            Ok(recorded) => assert!(positions.insert(recorded.position)),
            Err(Error::Unstorable { what }) => {
                assert_eq!(number, 77);
                assert!(what.contains("operation_folds_only_what_is_there"), "{what}");
            }
            Err(error) => panic!("{number}: {error:?}"),
        }
    }
    assert_eq!(positions.len() as u64, APPENDS - 1);
    assert_proven(&log).await;
    assert_eq!(log.audit().await.unwrap().heads.len() as u64, APPENDS - 1);

    // Once more without the bad one, so that no batch has to be taken apart.
    let before_second = log.commits();
    assert!(before_second > before);
    busy.execute_batch("begin immediate").unwrap();
    let tasks: Vec<_> = (1000..1000 + APPENDS)
        .map(|number| {
            let (log, append) = (log.clone(), begin(&writer(session, number)));
            tokio::spawn(async move { log.append(append.into()).await })
        })
        .collect();
    tokio::task::yield_now().await;
    busy.execute_batch("rollback").unwrap();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    // What the writer had taken when the file was busy, and all the rest.
    assert!(log.commits() - before_second <= 3, "{} commits", log.commits() - before_second);
}

#[tokio::test]
async fn a_file_that_stays_busy_is_told_to_all_at_once() {
    let (_folder, path) = folder();
    let options = Options { busy_timeout: Duration::from_millis(20), ..Options::default() };
    let log = SqliteLog::open(path.to_str().unwrap(), &options).unwrap();
    let session = session(&log).await;
    let busy = rusqlite::Connection::open(&path).unwrap();
    busy.execute_batch("begin immediate").unwrap();
    let tasks: Vec<_> = (1..=300)
        .map(|number| {
            let (log, append) = (log.clone(), begin(&writer(session, number)));
            tokio::spawn(async move { log.append(append.into()).await })
        })
        .collect();
    for task in tasks {
        let error = task.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("another process is writing"), "{error}");
    }
    busy.execute_batch("rollback").unwrap();
    begun(&log, session, 1).await;
}

#[tokio::test]
async fn a_dropped_call_leaves_the_log_whole() {
    let (_folder, path) = folder();
    let log = open(&path);
    let session = session(&log).await;
    for number in 1..50 {
        let append = log.append(begin(&writer(session, number)).into());
        // Polled once, so that it is on its way, and dropped.
        tokio::select! { biased; _ = append => {}, () = std::future::ready(()) => {} }
    }
    begun(&log, session, 100).await;
    assert_proven(&log).await;
}
