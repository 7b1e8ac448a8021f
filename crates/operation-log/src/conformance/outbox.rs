//! The outbox: order, taking, outcomes.

use super::appends::owe;
use super::case::{Case, fails};
use super::fixture::{Writer, outbox_request, seconds};
use crate::error::Error;
use crate::event::Actor;
use crate::record::{
    OutboxDecision, OutboxOutcome, OutboxRequest, OutboxRow, OutboxSettled, OutboxState, OutboxVerdict, Owe,
};
use crate::session::SessionId;

/// Begins an operation that owes rows of these order keys.
async fn owing(case: &mut Case<'_>, session: SessionId, keys: &[&str]) -> Writer {
    let mut writer = case.writer(session);
    let mut begin = writer.begin(case.now(), vec![]);
    begin.outbox = keys.iter().map(|key| owe(key)).collect();
    case.record(&mut writer, begin).await;
    writer
}

async fn due(case: &Case<'_>, session: SessionId, limit: usize) -> Vec<OutboxRow> {
    let request = outbox_request(session, case.now(), case.later(60), limit);
    case.ok(case.log.outbox_due(request).await, "due rows are given")
}

fn decision(case: &Case<'_>, row: &OutboxRow, what: OutboxVerdict) -> OutboxDecision {
    let (by, reason) = (Actor("person:ann".into()), "the target is back".into());
    OutboxDecision { position: row.position, index: row.index, at: case.now(), by, reason, what }
}

async fn decide(case: &Case<'_>, row: &OutboxRow, what: OutboxVerdict) -> OutboxRow {
    let decision = decision(case, row, what);
    case.ok(case.log.outbox_decide(decision).await, "a decision is carried out")
}

async fn settle(case: &Case<'_>, session: SessionId, row: &OutboxRow, how: OutboxOutcome) {
    let settled = settled(case, row, how);
    case.ok(case.log.outbox_settle(session, settled).await, "an outcome is kept");
}

fn settled(case: &Case<'_>, row: &OutboxRow, how: OutboxOutcome) -> OutboxSettled {
    OutboxSettled { position: row.position, index: row.index, at: case.now(), how }
}

fn places(rows: &[OutboxRow]) -> Vec<(String, u32)> {
    rows.iter().map(|row| (row.order_key.clone(), row.index)).collect()
}

fn place(key: &str, index: u32) -> (String, u32) {
    (key.to_owned(), index)
}

pub(super) async fn order_keys(case: &mut Case<'_>) {
    let session = case.session().await;
    let first = owing(case, session, &["a", "b", "a"]).await;
    let second = owing(case, session, &["b", "c"]).await;
    let rows = case.ok(case.log.outbox_of(first.id).await, "an outbox is read");
    case.same(places(&rows), vec![place("a", 0), place("b", 1), place("a", 2)], "what the first owes");
    case.same((rows[0].seq, rows[0].state, rows[0].tries), (1, OutboxState::Owed, 0), "a fresh row");
    case.same((rows[0].due_at, rows[0].operation), (case.now(), first.id), "a fresh row");
    case.same(rows[0].content.to_vec(), owe("a").content.to_vec(), "what the executor is told");
    let given = due(case, session, 10).await;
    case.same(places(&given), vec![place("a", 0), place("b", 1), place("c", 1)], "the first of each key");
    settle(case, session, &given[0], OutboxOutcome::Done).await;
    case.same(places(&due(case, session, 10).await), vec![place("a", 2)], "the next of a key");
    settle(case, session, &given[1], OutboxOutcome::Done).await;
    let next = due(case, session, 10).await;
    case.same(places(&next), vec![place("b", 0)], "the next of a key, of another operation");
    case.same(next[0].operation, second.id, "whose it is");
    case.same(case.head(first.id).await.owed, 1, "rows that the first still owes");
}

pub(super) async fn taken(case: &mut Case<'_>) {
    let session = case.session().await;
    owing(case, session, &["a", "b", "c"]).await;
    case.same(due(case, session, 0).await, vec![], "at most none");
    case.same(places(&due(case, session, 2).await), vec![place("a", 0), place("b", 1)], "at most two");
    case.same(places(&due(case, session, 9).await), vec![place("c", 2)], "what nobody has taken");
    case.same(due(case, session, 9).await, vec![], "everything is taken");
    case.pass(20);
    case.ok(case.log.renew_session(session).await, "a lease is renewed");
    let later = case.later(41);
    let request = outbox_request(session, later, later.plus(seconds(60)), 9);
    let given = case.log.outbox_due(request).await;
    case.same(case.ok(given, "due rows are given").len(), 3, "what was taken until a time that has come");
}

pub(super) async fn outcomes(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut writer = owing(case, session, &["a", "a"]).await;
    let first = due(case, session, 9).await;
    let again = OutboxOutcome::Again { at: case.later(10), error: "no route".into() };
    settle(case, session, &first[0], again.clone()).await;
    case.same(due(case, session, 9).await, vec![], "a row to be tried later holds up those behind it");
    let repeated = settled(case, &first[0], again);
    case.ok(case.log.outbox_settle(session, repeated).await, "the same outcome again is answered");
    case.pass(10);
    let second = due(case, session, 9).await;
    case.same(places(&second), vec![place("a", 0)], "it is tried again when its time has come");
    case.same((second[0].tries, second[0].last_error.as_deref()), (1, Some("no route")), "tries, last error");
    settle(case, session, &second[0], OutboxOutcome::Handed { error: "it says 400".into() }).await;
    let third = due(case, session, 9).await;
    case.same(places(&third), vec![place("a", 1)], "what a person has does not hold up those behind it");
    let ending = writer.skip(case.now());
    case.record(&mut writer, ending).await;
    settle(case, session, &third[0], OutboxOutcome::Done).await;
    let done = settled(case, &third[0], OutboxOutcome::Done);
    case.ok(case.log.outbox_settle(session, done).await, "the same outcome again is answered");
    let rows = case.ok(case.log.outbox_of(writer.id).await, "an outbox is read");
    let found: Vec<_> = rows.iter().map(|row| (row.state, row.tries)).collect();
    case.same(found, vec![(OutboxState::Handed, 2), (OutboxState::Done, 1)], "states and tries");
    case.same(rows[0].last_error.as_deref(), Some("it says 400"), "the last error");
    case.pass(10);
    case.same(due(case, session, 9).await, vec![], "nothing is due any more");
}

pub(super) async fn stale(case: &mut Case<'_>) {
    let first = case.session().await;
    owing(case, first, &["a"]).await;
    let row = due(case, first, 9).await[0].clone();
    case.ok(case.log.close_session(first).await, "a session is closed");
    let done = settled(case, &row, OutboxOutcome::Done);
    fails!(case, case.log.outbox_settle(first, done.clone()), Error::Stale { .. });
    let late = case.later(120);
    fails!(case, case.log.outbox_due(outbox_request(first, late, late, 9)), Error::Stale { .. });
    case.pass(61);
    let second = case.session().await;
    let given = due(case, second, 9).await;
    case.same(places(&given), vec![place("a", 0)], "what a session that is over had taken");
    case.same(given[0].state, OutboxState::Owed, "where it stands");
    case.ok(case.log.outbox_settle(second, done).await, "an outcome is kept");
}

pub(super) async fn executors(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut writer = case.writer(session);
    let mut begin = writer.begin(case.now(), vec![]);
    let by = |executor: &str, key: &str| Owe { executor: executor.into(), ..owe(key) };
    begin.outbox = vec![
        by("elsewhere", "a"),
        by("persist", "a"),
        by("persist", "b"),
        by("elsewhere", "c"),
        by("persist", "d"),
        by("notify", "e"),
    ];
    case.record(&mut writer, begin).await;
    let ask = async |case: &Case<'_>, limit, executors: &[&str]| {
        let executors = executors.iter().map(|name| (*name).to_owned()).collect();
        let request = outbox_request(session, case.now(), case.later(60), limit);
        let request = OutboxRequest { executors, ..request };
        case.ok(case.log.outbox_due(request).await, "due rows are given")
    };
    case.same(ask(case, 9, &[]).await, vec![], "an engine without executors");
    let given = ask(case, 1, &["persist"]).await;
    case.same(places(&given), vec![place("b", 2)], "the first of those it can deliver");
    let given = ask(case, 9, &["persist", "another"]).await;
    case.same(places(&given), vec![place("d", 4)], "a row for another engine holds up those behind it");
    let given = ask(case, 9, &["elsewhere", "notify", "persist"]).await;
    let expected = vec![place("a", 0), place("c", 3), place("e", 5)];
    case.same(places(&given), expected, "what other engines can deliver");
    settle(case, session, &given[0], OutboxOutcome::Done).await;
    case.same(places(&ask(case, 9, &["persist"]).await), vec![place("a", 1)], "what was held up");
}

pub(super) async fn owed(case: &mut Case<'_>) {
    let session = case.session().await;
    let owed = async |case: &Case<'_>, limit| {
        let rows = case.ok(case.log.outbox_owed(limit).await, "what is owed is read");
        rows.iter().map(|row| (row.order_key.clone(), row.state)).collect::<Vec<_>>()
    };
    case.same(owed(case, 9).await, vec![], "nothing is owed");
    let writer = owing(case, session, &["a", "b", "a"]).await;
    owing(case, session, &["c"]).await;
    let given = due(case, session, 9).await;
    settle(case, session, &given[0], OutboxOutcome::Done).await;
    settle(case, session, &given[1], OutboxOutcome::Handed { error: "it says 400".into() }).await;
    let line = |key: &str, state| (key.to_owned(), state);
    let (handed, still) = (OutboxState::Handed, OutboxState::Owed);
    let all = vec![line("b", handed), line("a", still), line("c", still)];
    case.same(owed(case, 9).await, all.clone(), "what is owed, in position order");
    case.same(owed(case, 2).await, all[..2].to_vec(), "at most two");
    case.same(case.head(writer.id).await.owed, 2, "what a person has is owed still");
    let rows = case.ok(case.log.outbox_owed(9).await, "what is owed is read");
    let of = case.ok(case.log.outbox_of(writer.id).await, "an outbox is read");
    case.same(rows[0].clone(), of[1].clone(), "the same row");
}

pub(super) async fn retry(case: &mut Case<'_>) {
    let session = case.session().await;
    let writer = owing(case, session, &["a", "b"]).await;
    let given = due(case, session, 9).await;
    settle(case, session, &given[0], OutboxOutcome::Handed { error: "it says 400".into() }).await;
    let again = OutboxOutcome::Again { at: case.later(500), error: "no route".into() };
    settle(case, session, &given[1], again).await;
    case.pass(5);
    for row in &given {
        let before = case.ok(case.log.outbox_of(writer.id).await, "an outbox is read");
        let after = decide(case, row, OutboxVerdict::Retry).await;
        case.same(
            (after.state, after.due_at, after.tries),
            (OutboxState::Owed, case.now(), 1),
            "due at once",
        );
        let said = Some("person:ann: the target is back");
        case.same(after.last_error.as_deref(), said, "who decided, and why");
        case.same(decide(case, row, OutboxVerdict::Retry).await, after.clone(), "the same again");
        let stands = case.ok(case.log.outbox_of(writer.id).await, "an outbox is read");
        let place = usize::try_from(row.index).unwrap_or_default();
        case.same(&stands[place], &after, "it stands as answered");
        case.same(&stands[1 - place], &before[1 - place], "the other one stands as before");
    }
    case.same(case.head(writer.id).await.owed, 2, "both are owed still");
    let given = due(case, session, 9).await;
    case.same(places(&given), vec![place("a", 0), place("b", 1)], "both are delivered");
    settle(case, session, &given[0], OutboxOutcome::Done).await;
    let late = case.log.outbox_decide(decision(case, &given[0], OutboxVerdict::Retry));
    fails!(case, late, Error::DifferentContent { .. });
    let nowhere = OutboxRow { index: 77, ..given[0].clone() };
    let decided = case.log.outbox_decide(decision(case, &nowhere, OutboxVerdict::Retry));
    fails!(case, decided, Error::Unstorable { .. });
}

pub(super) async fn retry_waits(case: &mut Case<'_>) {
    let session = case.session().await;
    owing(case, session, &["a", "a", "a"]).await;
    let first = due(case, session, 9).await[0].clone();
    settle(case, session, &first, OutboxOutcome::Handed { error: "it says 400".into() }).await;
    let second = due(case, session, 9).await[0].clone();
    case.same(second.index, 1, "what a person has does not hold up those behind it");
    decide(case, &first, OutboxVerdict::Retry).await;
    case.same(due(case, session, 9).await, vec![], "one of a key at a time");
    // One that is being delivered is not given a second time because somebody wants it sooner.
    decide(case, &second, OutboxVerdict::Retry).await;
    case.same(due(case, session, 9).await, vec![], "one of a key at a time");
    let again = OutboxOutcome::Again { at: case.now(), error: "no route".into() };
    settle(case, session, &second, again).await;
    let given = due(case, session, 9).await;
    case.same(places(&given), vec![place("a", 0)], "the first in position order");
    settle(case, session, &given[0], OutboxOutcome::Done).await;
    case.same(places(&due(case, session, 9).await), vec![place("a", 1)], "then the next");
    // A row that is taken and was never settled is free when its time is over.
    case.pass(20);
    case.ok(case.log.renew_session(session).await, "a lease is renewed");
    let later = case.later(41);
    let given = case.log.outbox_due(outbox_request(session, later, later.plus(seconds(60)), 9)).await;
    case.same(places(&case.ok(given, "due rows are given")), vec![place("a", 1)], "the same once more");
}

pub(super) async fn close(case: &mut Case<'_>) {
    let session = case.session().await;
    let writer = owing(case, session, &["a", "a", "b"]).await;
    let given = due(case, session, 9).await;
    case.same(places(&given), vec![place("a", 0), place("b", 2)], "the first of each key");
    settle(case, session, &given[1], OutboxOutcome::Handed { error: "it says 400".into() }).await;
    let after = decide(case, &given[1], OutboxVerdict::Close).await;
    case.same((after.state, after.tries), (OutboxState::Closed, 1), "a closed row");
    let said = Some("person:ann: the target is back");
    case.same(after.last_error.as_deref(), said, "who decided, and why");
    case.same(case.head(writer.id).await.owed, 2, "it is owed no more");
    case.pass(1);
    case.same(decide(case, &given[1], OutboxVerdict::Close).await, after, "the same again");
    case.same(case.head(writer.id).await.owed, 2, "and counted once");
    let back = case.log.outbox_decide(decision(case, &given[1], OutboxVerdict::Retry));
    fails!(case, back, Error::DifferentContent { .. });

    // One that is being delivered: what comes of that does not count any more.
    decide(case, &given[0], OutboxVerdict::Close).await;
    let done = settled(case, &given[0], OutboxOutcome::Done);
    fails!(case, case.log.outbox_settle(session, done), Error::Stale { .. });
    let next = due(case, session, 9).await;
    case.same(places(&next), vec![place("a", 1)], "a closed row does not hold up those behind it");
    settle(case, session, &next[0], OutboxOutcome::Done).await;
    let late = case.log.outbox_decide(decision(case, &next[0], OutboxVerdict::Close));
    fails!(case, late, Error::DifferentContent { .. });
    case.same(case.head(writer.id).await.owed, 0, "nothing is owed");
    case.same(case.ok(case.log.outbox_owed(9).await, "what is owed is read"), vec![], "nothing is owed");
    let rows = case.ok(case.log.outbox_of(writer.id).await, "an outbox is read");
    let states: Vec<_> = rows.iter().map(|row| row.state).collect();
    let expected = vec![OutboxState::Closed, OutboxState::Done, OutboxState::Closed];
    case.same(states, expected, "how each of them went");
}
