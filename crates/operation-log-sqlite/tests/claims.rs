//! Claims are freed by their keys, as the writer remembers them: also those that it did not take itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold fails the test")]

mod common;

use std::sync::Arc;

use common::{folder, open};
use redress_operation_log::conformance::fixture::{Writer, alert, new_alert, skipped};
use redress_operation_log::conformance::life::{LEASE, NOW, assert_proven, session, writer};
use redress_operation_log::record::{Claim, ClaimRequest, Ending, Join};
use redress_operation_log::{
    Actor, Error, Event, OperationHistory as _, OperationLog as _, SessionId, Versions,
};
use redress_operation_log_sqlite::SqliteLog;

/// Begins the operation of this number, which has its fingerprint and waits to act.
async fn begun(log: &SqliteLog, session: SessionId, number: u64) -> Writer {
    let mut writer = writer(session, number);
    let mut begin = writer.begin(NOW, vec![]);
    begin.claims = vec![fingerprint(&writer)];
    writer.append(log, begin).await.unwrap();
    writer
}

fn fingerprint(writer: &Writer) -> Claim {
    Claim::Fingerprint(writer.alert.fingerprint.as_str().to_owned())
}

async fn claims(log: &SqliteLog) -> Vec<(Claim, redress_types::OperationId)> {
    log.audit().await.unwrap().claims
}

/// Lets an alert of this id join.
async fn join(log: &SqliteLog, writer: &Writer, id: &str) {
    let content = Arc::new(alert(id));
    let (operation, new) = (writer.id, new_alert(&content, NOW));
    let actor = Actor("source:test".into());
    log.join(Join { operation, alert: new, content, actor }).await.unwrap();
}

/// Ends it, with the alert of this id folded.
async fn end(log: &SqliteLog, writer: &mut Writer, joined: Option<&str>) {
    let join = |id: &str| Event::AlertJoined { request: 1, alert: Arc::new(alert(id)) };
    let mut events: Vec<Event> = joined.map(join).into_iter().collect();
    events.push(skipped());
    let append = writer.next(NOW, events);
    writer.append(log, append).await.unwrap();
}

#[tokio::test]
async fn claims_of_before_are_freed_by_the_next_holder() {
    let (_folder, path) = folder();
    let log = open(&path);
    let first = session(&log).await;
    let mut writers = Vec::new();
    for number in 1..=3 {
        writers.push(begun(&log, first, number).await);
    }
    join(&log, &writers[0], "joined").await;
    drop(log);

    let log = open(&path);
    let second = session(&log).await;
    let fresh = begun(&log, second, 4).await;
    let due = NOW.plus(LEASE);
    let reads = Versions::CURRENT;
    let request =
        ClaimRequest { session: second, now: NOW, limit: 9, reads, unable: vec![], driven: vec![], due };
    for claimed in log.claim(request).await.unwrap() {
        let writer = writers.iter_mut().find(|writer| writer.id == claimed.operation).unwrap();
        (writer.session, writer.epoch) = (second, claimed.epoch);
    }
    assert_eq!(claims(&log).await.len(), 5);
    end(&log, &mut writers[0], Some("joined")).await;
    let left = [fingerprint(&writers[1]), fingerprint(&writers[2]), fingerprint(&fresh)];
    let mut left: Vec<_> = left.into_iter().zip([writers[1].id, writers[2].id, fresh.id]).collect();
    left.sort();
    assert_eq!(claims(&log).await, left);
    for writer in writers.iter_mut().skip(1).chain([&mut fresh.clone()]) {
        end(&log, writer, None).await;
    }
    assert_eq!(claims(&log).await, vec![]);
    assert_proven(&log).await;
}

#[tokio::test]
async fn a_claim_that_another_process_took_is_freed_too() {
    let (_folder, path) = folder();
    let (engine, other) = (open(&path), open(&path));
    let session = session(&engine).await;
    let mut writer = begun(&engine, session, 1).await;
    join(&other, &writer, "joined").await;
    assert_eq!(claims(&engine).await.len(), 2);
    end(&engine, &mut writer, Some("joined")).await;
    assert_eq!(claims(&engine).await, vec![]);
    assert_proven(&engine).await;
}

#[tokio::test]
async fn a_refused_append_takes_no_claim_and_commits_nothing() {
    let (_folder, path) = folder();
    let log = open(&path);
    let session = session(&log).await;
    let holder = begun(&log, session, 1).await;
    let (before, commits) = (claims(&log).await, log.commits());
    let late = writer(session, 2);
    let mut begin = late.begin(NOW, vec![]);
    begin.claims = vec![Claim::Sameness("free".into()), fingerprint(&holder), Claim::Slot("free".into())];
    let answer = log.append(begin.clone().into()).await;
    assert!(matches!(answer, Err(Error::Lost { holder: who, .. }) if who == holder.id), "{answer:?}");
    assert_eq!((claims(&log).await, log.commits()), (before, commits));

    // What it has already, it may name again.
    begin.claims = vec![fingerprint(&late), fingerprint(&late)];
    let mut late = late;
    late.append(&log, begin).await.unwrap();
    let mut next = late.next(NOW, vec![Event::DiagnosisStarted]);
    next.claims = vec![Claim::Slot("free".into()), fingerprint(&late)];
    late.append(&log, next).await.unwrap();
    assert_eq!(claims(&log).await.len(), 3);
    let mut ending = late.next(NOW, vec![skipped()]);
    ending.ends = Some(Ending { hold: None, refund: true });
    late.append(&log, ending).await.unwrap();
    assert_eq!(claims(&log).await, vec![(fingerprint(&holder), holder.id)]);
}
