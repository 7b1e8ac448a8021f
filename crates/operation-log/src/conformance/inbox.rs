//! What reaches an operation from outside: joins, repeats, requests.

use std::sync::Arc;

use redress_types::OperationId;

use super::case::{Case, fails};
use super::fixture::{alert, alert_id, new_alert, operation_id, refused as answered, seconds};
use crate::error::Error;
use crate::event::Actor;
use crate::record::{Claim, Join, Post, Posted, Repeat, Request};

fn joining(case: &Case<'_>, operation: OperationId, id: &str) -> Join {
    let content = Arc::new(alert(id));
    Join { operation, alert: new_alert(&content, case.now()), content, actor: Actor("source:test".into()) }
}

pub(super) async fn join(case: &mut Case<'_>) {
    let session = case.session().await;
    let wake_at = Some(case.later(600));
    let writer = case.waiting(session, wake_at).await;
    let request = joining(case, writer.id, "second");
    let delivered = case.ok(case.log.join(request.clone()).await, "an alert joins");
    case.same((delivered.request, delivered.record.count), (1, 1), "the inbox row and the count");
    case.same(
        (delivered.record.joined, delivered.record.operation),
        (true, writer.id),
        "where it is counted",
    );
    let kept = case.ok(case.log.alert(&alert_id("second")).await, "an alert record is read");
    case.same(kept, Some(delivered.record.clone()), "its record");
    let found = case.ok(case.log.by_fingerprint(request.alert.fingerprint.as_str()).await, "it is looked up");
    case.same(found, Some(writer.id), "the operation of its fingerprint");
    let rows = case.ok(case.log.inbox(writer.id, 0).await, "an inbox is read");
    let asked: Vec<_> = rows.iter().map(|row| (row.seq, row.request.clone())).collect();
    case.same(asked, vec![(1, Request::Join { alert: request.content.clone() })], "its inbox");
    let alerts = case.ok(case.log.alerts_of(writer.id).await, "alerts are read");
    let ids: Vec<_> = alerts.iter().map(|record| record.id.as_str()).collect();
    case.same(ids, vec!["alert-1", "second"], "its alerts, in the order they came");

    let before = case.whole().await;
    let again = case.ok(case.log.join(request).await, "the same join again is answered");
    case.same((again.record, again.request), (delivered.record, 1), "the answer to the same join");
    case.same(&case.whole().await, &before, "the same join again changes nothing");
    case.same(case.claimed(session).await, vec![writer.id], "an operation with an inbox row is due");
}

pub(super) async fn join_refused(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut first = case.writer(session);
    let mut begin = first.begin(case.now(), vec![]);
    begin.claims = vec![Claim::Fingerprint(first.alert.fingerprint.as_str().to_owned())];
    case.record(&mut first, begin).await;
    let mut second = case.begun(session).await;
    let before = case.whole().await;
    let mut taken = joining(case, second.id, "new");
    taken.alert.fingerprint = first.alert.fingerprint.clone();
    match case.log.join(taken).await {
        Err(Error::Lost { holder, .. }) => case.same(holder, first.id, "who has the fingerprint"),
        other => case.broken(&format!("the fingerprint is another operation's; the answer is {other:?}")),
    }
    fails!(case, case.log.join(joining(case, second.id, "alert-1")), Error::KnownAlert(_));
    fails!(case, case.log.join(joining(case, second.id, "alert-2")), Error::KnownAlert(_));
    fails!(case, case.log.join(joining(case, operation_id(999), "new")), Error::NotFound(_));
    case.same(&case.whole().await, &before, "a join that was refused changes nothing");
    let ending = second.skip(case.now());
    case.record(&mut second, ending).await;
    fails!(case, case.log.join(joining(case, second.id, "new")), Error::Ended { .. });
    let known = case.ok(case.log.alert(&alert_id("new")).await, "an alert record is read");
    case.same(known, None, "the record of an alert that could not join");
}

pub(super) async fn repeat(case: &mut Case<'_>) {
    let session = case.session().await;
    let writer = case.begun(session).await;
    let head = case.head(writer.id).await;
    let start = case.now();
    let again =
        |after, conflict| Repeat { id: writer.alert.id.clone(), at: start.plus(seconds(after)), conflict };
    let record = case.ok(case.log.repeat(again(5, false)).await, "a repeat is counted");
    case.same((record.count, record.conflicts), (2, 0), "deliveries and conflicts");
    case.same((record.first_seen, record.last_seen), (start, start.plus(seconds(5))), "first and last seen");
    let record = case.ok(case.log.repeat(again(9, true)).await, "a conflict is counted");
    case.same((record.count, record.conflicts), (2, 1), "deliveries and conflicts");
    case.same(record.last_seen, start.plus(seconds(5)), "last seen: a conflict is never a delivery");
    let kept = case.ok(case.log.alert(&writer.alert.id).await, "an alert record is read");
    case.same(kept, Some(record), "its record");
    case.same(case.head(writer.id).await, head, "its operation");
    let unknown = Repeat { id: alert_id("never seen"), at: start, conflict: false };
    case.that(case.log.repeat(unknown).await.is_err(), "an id that is not known has no repeat");
}

pub(super) async fn runs(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut first = case.begun(session).await;
    let ending = first.skip(case.now());
    case.record(&mut first, ending).await;
    let mut second = case.writer(session);
    let base = first.alert.id.clone();
    second.alert.id = base.nth(2).unwrap_or_else(|| case.broken("there is a second run"));
    let mut begin = second.begin(case.now(), vec![]);
    if let Some(begin) = &mut begin.begin {
        (begin.alert.base, begin.alert.n) = (base.clone(), 2);
    }
    case.record(&mut second, begin).await;
    let record = case.ok(case.log.alert(&base).await, "an alert record is read");
    let found = record.map(|record| (record.n, record.runs, record.operation, record.count));
    case.same(found, Some((1, 2, first.id, 1)), "the base id's number, runs, operation, count");
    let record = case.ok(case.log.alert(&second.alert.id).await, "an alert record is read");
    let found = record.map(|record| (record.n, record.base, record.operation));
    case.same(found, Some((2, base, second.id)), "the second run's number, base and operation");
}

fn cancel(case: &Case<'_>, operation: OperationId, key: &str, reason: &str) -> Post {
    let request = Request::Cancel { reason: reason.into() };
    Post { operation, key: key.into(), request, actor: Actor("person:ann".into()), at: case.now() }
}

pub(super) async fn post(case: &mut Case<'_>) {
    let session = case.session().await;
    let (a, b) = (case.begun(session).await, case.begun(session).await);
    let row = |request, before| Posted { request, before, held_by: Some(session) };
    for (id, key, number) in [(a.id, "k1", 1), (a.id, "k2", 2), (b.id, "k1", 1)] {
        let posted = case.ok(case.log.post(cancel(case, id, key, "enough")).await, "a request is left");
        case.same(posted, row(number, false), "its number and who will fold it");
    }
    let posted = case.ok(case.log.post(cancel(case, a.id, "k1", "enough")).await, "it is left again");
    case.same(posted, row(1, true), "the first row answers the same key");
    fails!(case, case.log.post(cancel(case, a.id, "k1", "other")), Error::DifferentContent { .. });
    fails!(case, case.log.post(cancel(case, operation_id(999), "k", "x")), Error::NotFound(_));
    let delivered = case.ok(case.log.join(joining(case, a.id, "joins")).await, "an alert joins");
    case.same(delivered.request, 3, "joins and requests are numbered together");
    let rows = case.ok(case.log.inbox(a.id, 1).await, "an inbox is read");
    let numbers: Vec<_> = rows.iter().map(|row| row.seq).collect();
    case.same(numbers, vec![2, 3], "the rows after the first");
    case.same((rows[0].key.as_str(), rows[0].at), ("k2", case.now()), "the key and the time of a row");
    case.same(rows[0].actor.clone(), Actor("person:ann".into()), "who asked");
    case.same(case.head(a.id).await.inbox, 3, "the head's inbox");
    let waiting = case.waiting(session, None).await;
    let posted = case.ok(case.log.post(cancel(case, waiting.id, "k", "enough")).await, "a request is left");
    case.same(posted.held_by, None, "who folds it, while nobody holds the operation");
}

pub(super) async fn post_ended(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut writer = case.begun(session).await;
    case.ok(case.log.post(cancel(case, writer.id, "k", "enough")).await, "a request is left");
    let ending = writer.next(case.now(), vec![answered(1), super::fixture::skipped()]);
    case.record(&mut writer, ending).await;
    fails!(case, case.log.post(cancel(case, writer.id, "new", "enough")), Error::Ended { .. });
    let posted = case.ok(
        case.log.post(cancel(case, writer.id, "k", "enough")).await,
        "a request that was left before the end is answered again",
    );
    case.same((posted.request, posted.before), (1, true), "its number");
}

pub(super) async fn waiting(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut writers = [case.begun(session).await, case.begun(session).await, case.begun(session).await];
    for writer in &writers[..2] {
        case.ok(case.log.post(cancel(case, writer.id, "k", "enough")).await, "a request is left");
    }
    let mut found = case.ok(case.log.inbox_waiting(session).await, "it is looked up");
    found.sort();
    case.same(found, vec![writers[0].id, writers[1].id], "operations with rows that are not folded");
    let next = writers[0].next(case.now(), vec![answered(1)]);
    case.record(&mut writers[0], next).await;
    let found = case.ok(case.log.inbox_waiting(session).await, "it is looked up");
    case.same(found, vec![writers[1].id], "operations with rows that are not folded");
    case.same(case.head(writers[0].id).await.folded_request, 1, "the last row that was folded");
}
