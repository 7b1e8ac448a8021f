//! What a file must be to be opened, what is said when it is not, and that what was written is there again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what does not hold fails the test"
)]

mod common;

use std::path::Path;

use common::{folder, open, try_open};
use redress_operation_log::conformance::life::{
    LEASE, NOW, assert_proven, begin, begun, rest, session, writer,
};
use redress_operation_log::{Error, OperationHistory as _, OperationLog as _, verify};
use redress_operation_log_sqlite::{Options, SqliteLog};
use redress_types::Incarnation;
use rusqlite::Connection;

fn refusal(path: &Path) -> String {
    let error = try_open(path).unwrap_err();
    let (Error::Corrupt { what } | Error::Unstorable { what } | Error::Unavailable { what, .. }) = error
    else {
        panic!("{error:?}")
    };
    assert!(what.contains(path.to_str().unwrap()), "it names the file: {what}");
    what
}

#[test]
fn a_file_that_is_no_log_is_refused_and_left_as_it_was() {
    let (_folder, path) = folder();
    std::fs::write(&path, "dear diary, ".repeat(1000)).unwrap();
    assert!(refusal(&path).contains("is not a SQLite database"));
    assert_eq!(std::fs::read(&path).unwrap(), "dear diary, ".repeat(1000).into_bytes());

    let (folder, path) = folder();
    Connection::open(&path).unwrap().execute_batch("create table users (name text)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(refusal(&path).contains("another application"));
    assert_eq!(std::fs::read(&path).unwrap(), before);

    assert!(refusal(folder.path()).contains("is a folder"));
    assert!(refusal(&folder.path().join("none/log.db")).contains("folder exists"));
    let no_create = Options { create: false, ..Options::default() };
    let absent = folder.path().join("absent.db");
    assert!(SqliteLog::open(absent.to_str().unwrap(), &no_create).is_err());
    assert!(!absent.exists());
}

#[test]
fn a_newer_or_incomplete_file_is_refused() {
    let change = |sql: &str| {
        let (folder, path) = folder();
        drop(open(&path));
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let what = refusal(&path);
        drop(folder);
        what
    };
    assert!(change("pragma user_version = 2").contains("use a newer redress"));
    assert!(change("pragma application_id = 7").contains("another application"));
    assert!(change("drop table holds").contains("column holds.key text"));
    assert!(change("alter table claims rename column key to name").contains("column claims.key text"));
    assert!(change("drop index operations_due").contains("index operations_due on operations (wake_at)"));
    // As a file from before the first release would look.
    let before = change("alter table outbox rename column written_at to since");
    assert!(before.contains("column outbox.written_at integer"), "{before}");
    assert!(before.contains("begin a new file with this one"), "{before}");
    assert!(change("delete from meta").contains("row in meta"));
}

#[test]
fn other_tables_may_stand_beside_it() {
    let (_folder, path) = folder();
    drop(open(&path));
    Connection::open(&path).unwrap().execute_batch("create table alert_issues (id text)").unwrap();
    open(&path);
}

#[test]
fn many_may_make_the_same_file_at_once() {
    let (_folder, path) = folder();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| try_open(&path).map(drop))).collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
    });
}

#[tokio::test]
async fn the_file_is_set_up_for_durability() {
    let (_folder, path) = folder();
    assert_eq!(open(&path).durability(), "sqlite wal, synchronous=full");
}

#[tokio::test]
async fn the_database_repeats_the_rules() {
    let (_folder, path) = folder();
    let log = open(&path);
    let session = session(&log).await;
    begun(&log, session, 1).await;
    let by_hand = Connection::open(&path).unwrap();
    let refused = |sql: &str, constraint: &str| {
        let error = by_hand.execute_batch(sql).unwrap_err().to_string();
        assert!(error.contains(constraint), "{sql}: {error}");
    };
    refused("update operations set state = 'done'", "operation_state_is_known");
    refused("update operations set state = 'failed'", "operation_ended_at_says_ended");
    refused("update operations set state = 'failed', ended_at = 1", "operation_ended_is_held_by_nobody");
    refused(
        "update operations set state = 'failed', ended_at = 1, session = null",
        "operation_ended_waits_for_nothing",
    );
    refused("update operations set folded_request = 9", "operation_folds_only_what_is_there");
    refused("update operations set waits_kind = 'slot'", "operation_waits_on_a_known_kind");
    refused("update entries set seq = 0", "entry_seq_is_positive");
    refused("update claims set kind = 'luck'", "claim_kind_is_known");
    refused("insert into claims select kind, key, 1 from claims", "UNIQUE");
    refused("insert into meta select 2, log_id, 1, 1, 1, 1, 1, 1, log_id from meta", "meta_is_one_row");
}

#[tokio::test]
async fn what_was_written_is_there_again() {
    let (_folder, path) = folder();
    let log = open(&path);
    let opened = session(&log).await;
    let mut first = begun(&log, opened, 1).await;
    for append in rest(&first) {
        first.append(&log, append).await.unwrap();
    }
    let second = begun(&log, opened, 2).await;
    let before = log.audit().await.unwrap();
    let entries = log.follow(0, 100).await.unwrap();
    drop(log);

    let log = open(&path);
    let after = log.audit().await.unwrap();
    assert_eq!((after.heads, after.sums, after.claims), (before.heads, before.sums, before.claims));
    assert_eq!(log.follow(0, 100).await.unwrap(), entries);
    assert_eq!(log.plan(second.plan.clone().unwrap().hash).await.unwrap(), second.plan);
    assert_proven(&log).await;

    // The session of a holder that is gone is over; its operation goes on under a higher epoch.
    let next = session(&log).await;
    assert!(next > opened);
    let request = redress_operation_log::ClaimRequest {
        session: next,
        now: NOW,
        limit: 10,
        reads: redress_operation_log::Versions::CURRENT,
        unable: vec![],
        driven: vec![],
        due: NOW.plus(LEASE),
    };
    let claimed = log.claim(request).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].operation, claimed[0].epoch.0), (second.id, 2));
}

#[tokio::test]
async fn an_operation_whose_beginning_was_removed_is_missed() {
    let (_folder, path) = folder();
    let log = open(&path);
    let session = session(&log).await;
    begun(&log, session, 1).await;
    let by_hand = Connection::open(&path).unwrap();
    assert_eq!(by_hand.execute("delete from beginnings", []).unwrap(), 1);
    let report = verify::verify(&log, &verify::Options::default()).await.unwrap();
    assert!(!report.findings.is_empty(), "{report:?}");
}

/// Copies a log while nobody has it open.
fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

#[tokio::test]
async fn a_backup_that_is_put_back_raises_the_incarnation() {
    let (folder, path) = folder();
    let backup = folder.path().join("backup.db");
    let log = open(&path);
    let first = log.open_session("test", LEASE).await.unwrap();
    assert_eq!((first.incarnation, first.restored), (Incarnation(1), false));
    drop(log);
    copy(&path, &backup);

    let log = open(&path);
    let second = log.open_session("test", LEASE).await.unwrap();
    assert_eq!((second.incarnation, second.restored), (Incarnation(1), false));
    begun(&log, second.id, 1).await;
    drop(log);

    copy(&backup, &path);
    let log = open(&path);
    let third = log.open_session("test", LEASE).await.unwrap();
    assert_eq!((third.incarnation, third.restored), (Incarnation(2), true));
    assert!(third.id > second.id, "a session's number is not given twice");
    log.close_session(third.id).await.unwrap();
    let fourth = log.open_session("test", LEASE).await.unwrap();
    assert_eq!((fourth.incarnation, fourth.restored), (Incarnation(2), false));
    drop(log);

    // A new log in the same place is a new log.
    std::fs::remove_file(&path).unwrap();
    let log = open(&path);
    let other = log.open_session("test", LEASE).await.unwrap();
    assert_eq!((other.incarnation, other.restored), (Incarnation(1), false));
}

#[tokio::test]
async fn a_backup_of_the_same_session_is_noticed_once_it_was_renewed() {
    let (folder, path) = folder();
    let backup = folder.path().join("backup.db");
    let log = open(&path);
    let opened = session(&log).await;
    begun(&log, opened, 1).await;
    Connection::open(&path).unwrap().execute("vacuum into ?1", [backup.to_str().unwrap()]).unwrap();
    begun(&log, opened, 2).await;
    log.renew_session(opened).await.unwrap();
    drop(log);

    std::fs::remove_file(&path).unwrap();
    copy(&backup, &path);
    let log = open(&path);
    let next = log.open_session("test", LEASE).await.unwrap();
    assert!(next.restored);
    let recorded = log.append(begin(&writer(next.id, 3)).into()).await.unwrap();
    assert_eq!(recorded.position, 3, "a position that was seen is not given again");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_work_goes_on_when_there_is_room() {
    let (_folder, path) = folder();
    let log = open(&path);
    let session = session(&log).await;
    begun(&log, session, 1).await;
    let pages: u32 =
        Connection::open(&path).unwrap().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    log.limit_pages(pages + 8).await.unwrap();
    let answers: Vec<_> = (2..100)
        .map(|number| {
            let (log, append) = (log.clone(), begin(&writer(session, number)));
            tokio::spawn(async move { (number, log.append(append.into()).await) })
        })
        .collect();
    let (mut stand, mut full) = (vec![1], vec![]);
    for answer in answers {
        match answer.await.unwrap() {
            (number, Ok(_)) => stand.push(number),
            (number, Err(error)) => {
                assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
                assert!(error.to_string().contains("the disk is full"), "{error}");
                full.push(number);
            }
        }
    }
    assert!(!full.is_empty());
    assert_eq!(log.audit().await.unwrap().heads.len(), stand.len());
    assert_proven(&log).await;

    log.limit_pages(1_000_000).await.unwrap();
    for number in full {
        log.append(begin(&writer(session, number)).into()).await.unwrap();
    }
    assert_eq!(log.audit().await.unwrap().heads.len(), 99);
    assert_proven(&log).await;
}
