//! The outbox: order, taking, outcomes.

use super::appends::owe;
use super::case::{Case, fails};
use super::fixture::{Writer, seconds};
use crate::error::Error;
use crate::record::{OutboxOutcome, OutboxRow, OutboxSettled, OutboxState};
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
    let (now, until) = (case.now(), case.later(60));
    case.ok(case.log.outbox_due(session, now, until, limit).await, "due rows are given")
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
    let given = case.log.outbox_due(session, later, later.plus(seconds(60)), 9).await;
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
    fails!(case, case.log.outbox_due(first, late, late, 9), Error::Stale { .. });
    case.pass(61);
    let second = case.session().await;
    let given = due(case, second, 9).await;
    case.same(places(&given), vec![place("a", 0)], "what a session that is over had taken");
    case.same(given[0].state, OutboxState::Owed, "where it stands");
    case.ok(case.log.outbox_settle(second, done).await, "an outcome is kept");
}
