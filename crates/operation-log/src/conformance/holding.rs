//! Who holds an operation: claims, leases, giving up, and what is due when.

use redress_types::Epoch;

use super::case::{Case, LEASE, fails, refused};
use super::fixture::{Writer, plan, refused as answered, seconds};
use crate::entry::Versions;
use crate::error::Error;
use crate::event::{Actor, Event};
use crate::record::{ClaimRequest, Claimed, Post, Request};
use crate::session::SessionId;

pub(super) async fn due(case: &mut Case<'_>) {
    let session = case.session().await;
    let wake_at = case.later(20);
    let mut writer = case.waiting(session, Some(wake_at)).await;
    case.pass(19);
    case.same(case.claimed(session).await, vec![], "what is due a second before its time");
    case.pass(1);
    let claimed = case.claim(session, 10).await;
    let plan = writer.plan.as_ref().map(|plan| plan.hash);
    let expected = Claimed { operation: writer.id, epoch: Epoch(2), plan };
    case.same(claimed, vec![expected], "what is due at its time, under the next epoch");
    let head = case.head(writer.id).await;
    case.same((head.epoch, head.session), (Epoch(2), Some(session)), "its epoch and holder");
    case.same(head.wake_at, Some(case.later(600)), "until when it counts as held");
    case.same(case.claimed(session).await, vec![], "what is held is not due");
    // Claiming adds no entry, and the writer goes on under the new epoch only.
    refused!(case, writer.skip(case.now()), Error::Stale { .. });
    writer.epoch = Epoch(2);
    let ending = writer.skip(case.now());
    case.record(&mut writer, ending).await;
    case.pass(10_000);
    let session = case.session().await;
    case.same(case.claimed(session).await, vec![], "what has ended is never due");
}

async fn post(case: &Case<'_>, writer: &Writer) {
    let request = Request::Cancel { reason: "enough".into() };
    let (operation, actor) = (writer.id, Actor("person:ann".into()));
    let post = Post { operation, key: "k".into(), request, actor, at: case.now() };
    case.ok(case.log.post(post).await, "a request is left");
}

pub(super) async fn asked(case: &mut Case<'_>) {
    let session = case.session().await;
    let wake_at = Some(case.later(500));
    let mut writer = case.waiting(session, wake_at).await;
    case.waiting(session, wake_at).await;
    post(case, &writer).await;
    case.same(case.claimed(session).await, vec![writer.id], "what has an inbox row");
    writer.epoch = Epoch(2);
    let mut folds = writer.next(case.now(), vec![answered(1)]);
    (folds.standing.held, folds.standing.wake_at) = (false, wake_at);
    case.record(&mut writer, folds).await;
    case.same(case.claimed(session).await, vec![], "what has folded its inbox");
}

async fn suspend(case: &mut Case<'_>, session: SessionId) -> Writer {
    let mut writer = case.writer(session);
    let mut events = writer.admitted();
    events.push(Event::Suspended { reason: "nobody knows".into() });
    let mut begin = writer.begin(case.now(), events);
    (begin.standing.held, begin.standing.wake_at) = (false, None);
    case.record(&mut writer, begin).await;
    writer
}

pub(super) async fn suspended(case: &mut Case<'_>) {
    let session = case.session().await;
    let writer = suspend(case, session).await;
    case.same(case.ok(case.log.stuck().await, "it is looked up"), vec![], "a person has it: it is not stuck");
    case.pass(100_000);
    let session = case.session().await;
    case.same(case.claimed(session).await, vec![], "a suspended operation without a verdict");
    case.same(case.ok(case.log.next_due().await, "it is looked up"), None, "the next due time");
    post(case, &writer).await;
    case.same(case.claimed(session).await, vec![writer.id], "a suspended operation with a verdict");
}

pub(super) async fn closed(case: &mut Case<'_>) {
    let first = case.session().await;
    let writers = [case.begun(first).await, case.begun(first).await];
    case.ok(case.log.close_session(first).await, "a session is closed");
    case.ok(case.log.close_session(first).await, "a session is closed again");
    let next = case.ok(case.log.next_due().await, "it is looked up");
    case.that(next.is_some_and(|at| at <= case.now()), "something is due now");
    let second = case.session().await;
    let mut claimed = case.claimed(second).await;
    claimed.sort();
    case.same(claimed, vec![writers[0].id, writers[1].id], "the operations of a closed session");
    case.same(case.head(writers[0].id).await.epoch, Epoch(2), "the epoch after it");
}

pub(super) async fn expired(case: &mut Case<'_>) {
    let first = case.session().await;
    let writer = case.begun(first).await;
    case.pass(31);
    // Where one engine is allowed, the lease of the one before is over, so nothing is in the way.
    let second = case.session().await;
    case.same(case.claimed(second).await, vec![writer.id], "the operations of an expired session");
    refused!(case, writer.skip(case.now()), Error::Stale { .. });
}

pub(super) async fn held(case: &mut Case<'_>) {
    let first = case.session().await;
    let writer = case.begun(first).await;
    for _ in 0..29 {
        case.pass(20);
        case.ok(case.log.renew_session(first).await, "a lease is renewed");
        case.same(case.claimed(first).await, vec![], "what somebody holds");
    }
    case.pass(21);
    case.ok(case.log.renew_session(first).await, "a lease is renewed");
    case.same(case.claimed(first).await, vec![writer.id], "what was held past its due time");
    case.same(case.head(writer.id).await.epoch, Epoch(2), "its epoch");
}

pub(super) async fn unable(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut foreign = case.writer(session);
    foreign.plan = Some(plan("another"));
    let mut none = case.writer(session);
    none.plan = None;
    let mut own = case.writer(session);
    for writer in [&mut foreign, &mut none, &mut own] {
        let mut begin = writer.begin(case.now(), vec![]);
        (begin.standing.held, begin.standing.wake_at) = (false, Some(case.now()));
        case.record(writer, begin).await;
    }
    post(case, &foreign).await;
    let (now, due) = (case.now(), case.later(60));
    let unable = vec![plan("another").hash, plan("a third").hash];
    let request =
        ClaimRequest { session, now, limit: 2, unable, driven: vec![], reads: Versions::CURRENT, due };
    let claimed = case.ok(case.log.claim(request).await, "claiming works");
    let mut ids: Vec<_> = claimed.iter().map(|claimed| claimed.operation).collect();
    ids.sort();
    case.same(ids, vec![none.id, own.id], "what this engine can run");
    case.same(case.head(foreign.id).await.epoch, Epoch(1), "the epoch of what was left alone");
    case.same(case.claimed(session).await, vec![foreign.id], "what an engine with that plan can run");
}

pub(super) async fn versions(case: &mut Case<'_>) {
    let session = case.session().await;
    let now = case.now();
    let Versions { format, table } = Versions::CURRENT;
    let needs = [(format, table), (format + 1, table), (format, table + 1)]
        .map(|(format, table)| Versions { format, table });
    let mut ids = Vec::new();
    for versions in needs {
        let mut writer = case.writer(session);
        let mut begin = writer.begin(now, vec![]);
        begin.versions = versions;
        case.record(&mut writer, begin).await;
        case.same(case.head(writer.id).await.versions, versions, "what its only entry needs");
        // A program of before goes on with it: what its first entry needs, it needs still.
        let mut next = writer.next(now, vec![Event::DiagnosisStarted]);
        (next.standing.held, next.standing.wake_at) = (false, Some(now));
        case.record(&mut writer, next).await;
        case.same(case.head(writer.id).await.versions, versions, "what the highest of its entries needs");
        post(case, &writer).await;
        ids.push(writer.id);
    }
    let mut later = case.writer(session);
    let begin = later.begin(now, vec![]);
    case.record(&mut later, begin).await;
    let mut next = later.next(now, vec![Event::DiagnosisStarted]);
    (next.standing.held, next.standing.wake_at, next.versions) = (false, Some(now), needs[2]);
    case.record(&mut later, next).await;
    case.same(case.head(later.id).await.versions, needs[2], "what the last of its entries needs");
    ids.push(later.id);

    case.same(case.claimed(session).await, vec![ids[0]], "what this program reads");
    case.same(case.head(ids[1]).await.epoch, Epoch(1), "the epoch of what was left alone");
    let take = |reads| {
        let due = now.plus(seconds(60));
        ClaimRequest { session, now, limit: 9, reads, unable: vec![], driven: vec![], due }
    };
    for (reads, expected) in [(needs[1], vec![ids[1]]), (needs[2], vec![ids[2], ids[3]])] {
        let claimed = case.ok(case.log.claim(take(reads)).await, "claiming works");
        let mut claimed: Vec<_> = claimed.iter().map(|claimed| claimed.operation).collect();
        claimed.sort();
        case.same(claimed, expected, "what a newer program reads");
    }
}

pub(super) async fn oldest_first(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut ids = Vec::new();
    for after in [40, 10, 30, 20] {
        let wake_at = Some(case.later(after));
        ids.push(case.waiting(session, wake_at).await.id);
    }
    case.ok(case.log.renew_session(session).await, "a lease is renewed");
    let now = case.later(35);
    let take = |limit| ClaimRequest {
        session,
        now,
        limit,
        reads: Versions::CURRENT,
        unable: vec![],
        driven: vec![],
        due: now.plus(seconds(600)),
    };
    let mut found = Vec::new();
    for limit in [2, 0, 5] {
        let claimed = case.ok(case.log.claim(take(limit)).await, "claiming works");
        case.that(claimed.len() <= limit, "at most so many");
        found.extend(claimed.iter().map(|claimed| claimed.operation));
    }
    case.same(found, vec![ids[1], ids[3], ids[2]], "what is due, oldest first");
    case.ok(case.log.close_session(session).await, "a session is closed");
    fails!(case, case.log.claim(take(5)), Error::Stale { .. });
}

pub(super) async fn give_up(case: &mut Case<'_>) {
    let session = case.session().await;
    let writer = case.begun(session).await;
    let head = case.head(writer.id).await;
    case.ok(case.log.give_up(session, writer.id, Epoch(2)).await, "giving up is answered");
    case.same(case.head(writer.id).await, head, "giving up under another epoch does nothing");
    let other = SessionId(session.0 + 100);
    case.ok(case.log.give_up(other, writer.id, Epoch(1)).await.or(Ok::<_, Error>(())), "it is answered");
    case.same(case.head(writer.id).await.session, Some(session), "another session gives nothing up");
    case.ok(case.log.give_up(session, writer.id, Epoch(1)).await, "it is given up");
    case.same(case.head(writer.id).await.session, None, "its holder");
    case.same(case.claimed(session).await, vec![writer.id], "it is due at once");
    case.ok(case.log.give_up(session, writer.id, Epoch(1)).await, "giving up again is answered");
    case.same(case.head(writer.id).await.session, Some(session), "and does nothing under the old epoch");
}

pub(super) async fn next_due(case: &mut Case<'_>) {
    let session = case.session().await;
    let next = async |case: &Case<'_>| case.ok(case.log.next_due().await, "it is looked up");
    case.same(next(case).await, None, "nothing waits");
    case.begun(session).await;
    case.same(next(case).await, None, "what somebody holds does not wait");
    let (late, early) = (case.later(50), case.later(10));
    let writer = case.waiting(session, Some(late)).await;
    case.same(next(case).await, Some(late), "the only one that waits");
    case.waiting(session, Some(early)).await;
    case.same(next(case).await, Some(early), "the first of two");
    post(case, &writer).await;
    case.that(next(case).await.is_some_and(|at| at <= case.now()), "an inbox row is due now");
}

pub(super) async fn leases(case: &mut Case<'_>) {
    let opened = case.ok(case.log.open_session("first", LEASE).await, "a session opens");
    case.same(opened.log_now, case.now(), "the log's own clock");
    case.same(opened.lease, LEASE, "the lease");
    for _ in 0..3 {
        case.pass(20);
        let now = case.ok(case.log.renew_session(opened.id).await, "a lease is renewed");
        case.same(now, case.now(), "the log's own clock");
    }
    case.begun(opened.id).await;
    case.pass(31);
    fails!(case, case.log.renew_session(opened.id), Error::Stale { .. });
    case.ok(case.log.close_session(opened.id).await, "a session that is over is closed");
    let next = case.session().await;
    case.that(next > opened.id, "session ids grow");
    case.ok(case.log.close_session(next).await, "a session is closed");
    fails!(case, case.log.renew_session(next), Error::Stale { .. });
}

pub(super) async fn taken_over(case: &mut Case<'_>) {
    let first = case.session().await;
    let mut writer = case.begun(first).await;
    let second = case.next_session(first).await;
    if case.claimed(second).await.is_empty() {
        // The first lives; its operation is taken when its due time has passed.
        case.pass(20);
        for session in [first, second] {
            case.ok(case.log.renew_session(session).await, "a lease is renewed");
        }
        let (now, due) = (case.later(700), case.later(1400));
        let request = ClaimRequest {
            session: second,
            now,
            limit: 9,
            unable: vec![],
            driven: vec![],
            reads: Versions::CURRENT,
            due,
        };
        case.same(case.ok(case.log.claim(request).await, "claiming works").len(), 1, "what was taken");
    }
    refused!(case, writer.skip(case.now()), Error::Stale { .. });
    case.ok(case.log.give_up(first, writer.id, Epoch(1)).await.or(Ok::<_, Error>(())), "it is answered");
    case.same(case.head(writer.id).await.session, Some(second), "who holds it");
    (writer.session, writer.epoch) = (second, Epoch(2));
    let ending = writer.skip(case.now());
    case.record(&mut writer, ending).await;
}

pub(super) async fn stuck(case: &mut Case<'_>) {
    let session = case.session().await;
    let found = async |case: &Case<'_>| case.ok(case.log.stuck().await, "it is looked up");
    case.same(found(case).await, vec![], "an empty log");
    case.begun(session).await;
    let wake_at = Some(case.later(5));
    case.waiting(session, wake_at).await;
    suspend(case, session).await;
    let mut over = case.begun(session).await;
    let mut ending = over.skip(case.now());
    ending.outbox = vec![super::appends::owe("issue")];
    case.record(&mut over, ending).await;
    case.same(found(case).await, vec![], "held, waiting, suspended and ended operations");
    let forgotten = case.writer(session);
    let mut begin = forgotten.begin(case.now(), vec![]);
    (begin.standing.held, begin.standing.wake_at) = (false, None);
    // A log may refuse to write such a thing at all.
    if case.log.append(begin.into()).await.is_ok() {
        case.same(found(case).await, vec![forgotten.id], "what nothing will wake");
        post(case, &forgotten).await;
        case.same(found(case).await, vec![], "an inbox row wakes it");
    }
}
