//! Readers: following, lists, finding, announcements, texts.

use redress_fsm::State;

use super::case::Case;
use super::fixture::{outbox_request, seconds};
use crate::error::Error;
use crate::event::Actor;
use crate::record::{
    Claim, Cursor, Filter, Head, OutboxOutcome, OutboxSettled, Post, Request, SessionStatus, Switch,
};

pub(super) async fn follow(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut seen = Vec::new();
    let mut after = 0;
    for round in 0..5 {
        for _ in 0..3 {
            let mut writer = case.begun(session).await;
            let next = writer.next(case.now(), writer.admitted());
            case.record(&mut writer, next).await;
        }
        for _ in 0..100 {
            let page = case.ok(case.log.follow(after, 2 + round).await, "entries are followed");
            let Some(last) = page.last() else { break };
            case.that(page.len() <= 2 + round, "at most so many");
            after = last.position;
            seen.extend(page);
        }
    }
    case.same(seen.len(), 30, "entries seen");
    case.that(seen.is_sorted_by(|a, b| a.position < b.position), "positions grow");
    for head in case.whole().await.heads {
        let entries = case.ok(case.log.entries(head.id, 0, 9).await, "entries are read");
        let followed: Vec<_> = seen.iter().filter(|entry| entry.operation == head.id).cloned().collect();
        case.same(followed, entries, "one operation's entries");
    }
    let none = case.ok(case.log.follow(u64::MAX >> 1, 9).await, "entries are followed");
    case.same(none, vec![], "after everything");
}

async fn list(case: &Case<'_>, filter: &Filter, limit: usize) -> Vec<Head> {
    let mut found = Vec::new();
    let mut after: Option<Cursor> = None;
    for _ in 0..100 {
        let page = case.ok(case.log.operations(filter, after, limit).await, "a list is read");
        case.that(page.operations.len() <= limit, "at most so many");
        found.extend(page.operations);
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
    case.broken("a list comes to its end")
}

pub(super) async fn pages(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.insert(0, case.begun(session).await.id);
    }
    let all: Filter = Filter::default();
    for limit in [1, 2, 4, 6, 9] {
        let found: Vec<_> = list(case, &all, limit).await.iter().map(|head| head.id).collect();
        case.same(found, ids.clone(), "the whole list, newest first");
    }
    let whole = case.ok(case.log.operations(&all, None, 6).await, "a list is read");
    case.same(whole.next, None, "a list that ends with its page has no next one");
    let first = case.ok(case.log.operations(&all, None, 2).await, "a list is read");
    // Later operations come in between, and the ones not seen yet change.
    case.begun(session).await;
    let mut old = super::fixture::Writer::new(session, 1, "alert-1");
    old.took(&old.begin(case.now(), vec![]));
    let ending = old.skip(case.now());
    case.record(&mut old, ending).await;
    case.begun(session).await;
    let second = case.ok(case.log.operations(&all, first.next, 9).await, "a list is read");
    let found: Vec<_> = second.operations.iter().map(|head| head.id).collect();
    case.same(found, ids[2..].to_vec(), "the page after the first two");
}

pub(super) async fn filters(case: &mut Case<'_>) {
    let session = case.session().await;
    let start = case.now();
    let mut ids = Vec::new();
    for number in 0..4 {
        let mut writer = case.writer(session);
        writer.target.service = if number < 2 { "shop".into() } else { "sho%".into() };
        let begin = writer.begin(case.now(), vec![]);
        case.record(&mut writer, begin).await;
        if number % 2 == 1 {
            let ending = writer.skip(case.now());
            case.record(&mut writer, ending).await;
        }
        ids.push(writer.id);
        case.pass(1);
    }
    let shown = async |filter: Filter| {
        let found = list(case, &filter, 2).await;
        found.iter().map(|head| head.id).collect::<Vec<_>>()
    };
    let all = Filter::default();
    let states = |states: &[State]| Filter { states: states.to_vec(), ..all.clone() };
    case.same(shown(states(&[State::Skipped])).await, vec![ids[3], ids[1]], "in one state");
    let two = states(&[State::Skipped, State::Received]);
    case.same(shown(two).await, vec![ids[3], ids[2], ids[1], ids[0]], "in one of two states");
    case.same(shown(states(&[State::Failed])).await, vec![], "in a state that none has");
    let service = |service: &str| Filter { service: Some(service.into()), ..all.clone() };
    case.same(shown(service("shop")).await, vec![ids[1], ids[0]], "of one service");
    case.same(shown(service("sho%")).await, vec![ids[3], ids[2]], "of a service with a sign in its name");
    let since = Filter { since: Some(start.plus(seconds(2))), ..all.clone() };
    case.same(shown(since).await, vec![ids[3], ids[2]], "accepted at or after");
    let both = Filter { states: vec![State::Skipped], ..service("shop") };
    case.same(shown(both).await, vec![ids[1]], "of one service in one state");
}

pub(super) async fn find(case: &mut Case<'_>) {
    let session = case.session().await;
    let (first, second) = (case.begun(session).await, case.begun(session).await);
    let head = case.head(first.id).await;
    let id = first.id.to_string();
    for text in [&*id, &id[id.len() - 4..], &head.name, &head.name[..15], &head.name[head.name.len() - 8..]] {
        let found = case.ok(case.log.find(text, 9).await, "it is looked up");
        case.same(found, vec![head.clone()], &format!("what {text:?} finds"));
    }
    let both = case.ok(case.log.find("00000000-", 9).await, "it is looked up");
    let ids: Vec<_> = both.iter().map(|head| head.id).collect();
    case.same(ids, vec![second.id, first.id], "two that begin alike, newest first");
    let one = case.ok(case.log.find("rr-", 1).await, "it is looked up");
    case.same(one.len(), 1, "at most one");
    for text in ["%", "_", "00000000%", "nothing", "'; --", "-7000-"] {
        let found = case.ok(case.log.find(text, 9).await, "it is looked up");
        case.same(found, vec![], &format!("what {text:?} finds"));
    }
}

pub(super) async fn switches(case: &mut Case<'_>) {
    let off = |key: &str, reason: &str| Switch {
        key: key.into(),
        by: Actor("person:ann".into()),
        reason: reason.into(),
        since: case.now(),
        until: Some(case.later(60)),
    };
    let found = async || {
        let mut switches = case.ok(case.log.switches().await, "switches are read");
        switches.sort_by(|a, b| a.key.cmp(&b.key));
        switches
    };
    case.same(found().await, vec![], "nothing is off");
    for (key, reason) in [("engine", "a"), ("strategy:restore", "b"), ("engine", "c")] {
        case.ok(case.log.set_switch(key, Some(off(key, reason))).await, "a switch is turned off");
    }
    case.same(found().await, vec![off("engine", "c"), off("strategy:restore", "b")], "what is off");
    case.ok(case.log.set_switch("engine", None).await, "a switch is turned on");
    case.ok(case.log.set_switch("engine", None).await, "a switch that is on is turned on");
    case.same(found().await, vec![off("strategy:restore", "b")], "what is off");
}

pub(super) async fn status(case: &mut Case<'_>) {
    let status = async |case: &Case<'_>| case.ok(case.log.status().await, "the status is read");
    let empty = status(case).await;
    case.same((empty.log_now, empty.sessions), (case.now(), vec![]), "an empty log");
    case.same((empty.owed, empty.handed, empty.owed_since), (0, 0, None), "an empty log");
    let session = case.session().await;
    case.begun(session).await;
    case.pass(5);
    let since = case.now();
    let mut writer = case.writer(session);
    let mut begin = writer.begin(since, vec![]);
    begin.outbox = vec![super::appends::owe("a"), super::appends::owe("b"), super::appends::owe("c")];
    let recorded = case.record(&mut writer, begin).await;
    case.pass(2);
    case.ok(case.log.renew_session(session).await, "a lease is renewed");
    let mut ending = writer.skip(case.now());
    ending.outbox = vec![super::appends::owe("d")];
    let last = case.record(&mut writer, ending).await;
    let found = status(case).await;
    case.same(found.log_now, case.now(), "the log's own clock");
    case.that(found.position >= last.position, "the highest position");
    case.same((found.owed, found.handed, found.owed_since), (4, 0, Some(since)), "what is owed");
    let expires_at = case.now().plus(super::case::LEASE);
    let at_work = SessionStatus { id: session, engine: "conformance".into(), expires_at, holds: 1 };
    case.same(found.sessions, vec![at_work], "who is at work");

    let request = outbox_request(session, case.now(), case.later(9), 9);
    let rows = case.ok(case.log.outbox_due(request).await, "rows are given");
    let outcomes = [
        OutboxOutcome::Done,
        OutboxOutcome::Again { at: case.later(50), error: "no route".into() },
        OutboxOutcome::Handed { error: "it says 400".into() },
    ];
    for (row, how) in rows.iter().zip(outcomes) {
        let settled = OutboxSettled { position: row.position, index: row.index, at: case.now(), how };
        case.ok(case.log.outbox_settle(session, settled).await, "an outcome is kept");
    }
    let found = status(case).await;
    case.same((found.owed, found.handed, found.owed_since), (3, 1, Some(since)), "what is owed");
    case.that(found.position >= recorded.position, "the highest position");
    case.pass(31);
    case.same(status(case).await.sessions, vec![], "whose lease ran out is not at work");
    let next = case.session().await;
    let ids: Vec<_> = status(case).await.sessions.iter().map(|session| session.id).collect();
    case.same(ids, vec![next], "who is at work");
    case.ok(case.log.close_session(next).await, "a session is closed");
    case.same(status(case).await.sessions, vec![], "a closed session is not at work");
}

pub(super) async fn wakeups(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut bell = case.log.wakeups();
    let mut rang = async |case: &Case<'_>, what: &str| {
        case.that(bell.has_changed().unwrap_or(false), what);
        bell.borrow_and_update();
    };
    let mut writer = case.writer(session);
    let mut begin = writer.begin(case.now(), vec![]);
    begin.claims = vec![Claim::Slot("t".into())];
    case.record(&mut writer, begin).await;
    let mut waits = case.writer(session);
    let mut begin = waits.begin(case.now(), vec![]);
    begin.standing.held = false;
    begin.standing.waits_on = Some(Claim::Slot("t".into()));
    case.record(&mut waits, begin).await;
    let (actor, at) = (Actor("person:ann".into()), case.now());
    let request = Request::Cancel { reason: "enough".into() };
    let post = Post { operation: waits.id, key: "k".into(), request, actor, at };
    case.ok(case.log.post(post).await, "a request is left");
    rang(case, "an inbox row is announced").await;
    let ending = writer.skip(case.now());
    case.record(&mut writer, ending).await;
    rang(case, "a freed slot is announced").await;
    let (by, since, until) = (Actor("person:ann".into()), case.now(), Some(case.later(3600)));
    let off = Switch { key: "engine".into(), by, reason: "quiet".into(), since, until };
    case.ok(case.log.set_switch("engine", Some(off.clone())).await, "a switch is turned off");
    rang(case, "a switch that is off is announced").await;
    let earlier = Switch { until: Some(case.later(60)), ..off };
    case.ok(case.log.set_switch("engine", Some(earlier)).await, "a switch is given an earlier end");
    rang(case, "an earlier end is announced").await;
    case.ok(case.log.set_switch("engine", None).await, "a switch is turned on");
    rang(case, "a switch that is on again is announced").await;
    case.ok(case.log.close_session(session).await, "a session is closed");
    rang(case, "a closed session is announced").await;
    case.that(!case.log.durability().is_empty(), "it says how durable a write is");
    case.that(case.log.commits() > 0, "it counts its transactions");
}

pub(super) async fn texts(case: &mut Case<'_>) {
    let session = case.session().await;
    for text in ["'; DROP TABLE entries; --", "é 🦀 \u{202e}", "line\nbreak\t\"\\", "a\0b", "%_", ""] {
        let mut writer = case.writer(session);
        writer.alert.title = text.into();
        writer.target.service = text.into();
        let mut begin = writer.begin(case.now(), vec![]);
        begin.claims = vec![Claim::Slot(format!("{text}/slot"))];
        begin.standing.reason = Some(text.into());
        let before = case.whole().await;
        match case.log.append(begin.into()).await {
            Ok(_) => {
                let head = case.head(writer.id).await;
                case.same(head.title.as_str(), text, "the title");
                case.same(head.target.service.as_str(), text, "the service");
                case.same(head.reason.as_deref(), Some(text), "the reason");
                let claims = case.whole().await.claims;
                let slot = (Claim::Slot(format!("{text}/slot")), writer.id);
                case.that(claims.contains(&slot), "the slot");
            }
            Err(Error::Unstorable { .. }) => {
                case.same(&case.whole().await, &before, "what cannot be stored changes nothing");
            }
            Err(other) => case.broken(&format!("{text:?} is stored or refused, not {other:?}")),
        }
    }
}
