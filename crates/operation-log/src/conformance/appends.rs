//! Append: the same again, who may write, where, and the order of the checks.

use redress_types::{Epoch, Hash};

use super::case::{Case, refused};
use super::fixture::{alert_id, plan, refused as answered, seconds, skipped};
use crate::error::Error;
use crate::event::{Actor, Event, HoldReason};
use crate::record::{Append, Budget, Claim, Conditions, Ending, Owe, Post, Recorded, Request, Switch};
use crate::session::SessionId;

pub(super) async fn same_again(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut writer = case.writer(session);
    let mut appends = vec![writer.begin(case.now(), vec![])];
    let mut answers = vec![case.record(&mut writer, appends[0].clone()).await];
    for events in [writer.admitted(), vec![writer.succeeded(0)]] {
        let next = writer.next(case.now(), events);
        answers.push(case.record(&mut writer, next.clone()).await);
        appends.push(next);
        again(case, &appends, &answers).await;
    }
    let mut other = case.begun(session).await;
    let ending = other.skip(case.now());
    answers.push(case.record(&mut other, ending.clone()).await);
    appends.push(ending);
    again(case, &appends, &answers).await;
    case.ok(case.log.close_session(session).await, "a session is closed");
    again(case, &appends, &answers).await;
}

async fn again(case: &Case<'_>, appends: &[Append], answers: &[Recorded]) {
    let before = case.whole().await;
    for (append, answer) in appends.iter().zip(answers) {
        let found =
            case.ok(case.log.append(append.clone().into()).await, "the same append again is answered");
        let expected = Recorded { before: true, current: found.current, ..*answer };
        case.same(found, expected, "the answer to the same append again");
    }
    case.same(&case.whole().await, &before, "the same append again changes nothing");
}

/// Repeats an append and says whether its writer is told that nobody else has taken the operation.
async fn is_current(case: &Case<'_>, append: &Append) -> bool {
    let found = case.ok(case.log.append(append.clone().into()).await, "the same append again is answered");
    case.that(found.before, "it stood before");
    found.current
}

pub(super) async fn still_held(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut writer = case.writer(session);
    let begin = writer.begin(case.now(), vec![]);
    case.that(case.record(&mut writer, begin.clone()).await.current, "a fresh append is current");
    let next = writer.next(case.now(), vec![Event::DiagnosisStarted]);
    case.record(&mut writer, next.clone()).await;
    for append in [&begin, &next] {
        case.that(is_current(case, append).await, "the writer holds it still");
    }
    // Let go by an append, and taken by nobody since.
    let mut lets_go = writer.next(case.now(), vec![Event::Diagnosed { cause: "x".into(), confidence: 0.5 }]);
    (lets_go.standing.held, lets_go.standing.wake_at) = (false, Some(case.now()));
    case.record(&mut writer, lets_go.clone()).await;
    case.that(is_current(case, &lets_go).await, "it stands as this append left it");
    case.that(!is_current(case, &next).await, "it was let go since");
    case.same(case.claimed(session).await, vec![writer.id], "what is claimed");
    for append in [&begin, &next, &lets_go] {
        case.that(!is_current(case, append).await, "the epoch is another");
    }
    writer.epoch = Epoch(2);
    let ending = writer.skip(case.now());
    case.record(&mut writer, ending.clone()).await;
    case.that(is_current(case, &ending).await, "it ended by this append");
    let mut given_up = case.writer(session);
    let begin = given_up.begin(case.now(), vec![]);
    case.record(&mut given_up, begin.clone()).await;
    case.ok(case.log.give_up(session, given_up.id, Epoch(1)).await, "it is given up");
    case.that(!is_current(case, &begin).await, "it was given up since");
    let mut left = case.writer(session);
    let begin = left.begin(case.now(), vec![]);
    case.record(&mut left, begin.clone()).await;
    case.ok(case.log.close_session(session).await, "a session is closed");
    case.that(!is_current(case, &begin).await, "the session is over");
    case.that(is_current(case, &ending).await, "it ended by this append, whoever asks");
}

pub(super) async fn different_content(case: &mut Case<'_>) {
    let session = case.session().await;
    let before = case.begun(session).await;
    let mut writer = before.clone();
    let first = writer.next(case.now(), writer.admitted());
    case.record(&mut writer, first).await;
    let other = before.next(case.later(1), before.admitted());
    refused!(case, other.clone(), Error::DifferentContent { .. });
    let stale = Append { epoch: Epoch(7), ..other.clone() };
    refused!(case, stale, Error::Stale { .. });
    case.ok(case.log.close_session(session).await, "a session is closed");
    refused!(case, other, Error::Stale { .. });
}

pub(super) async fn session_over(case: &mut Case<'_>) {
    let session = case.session().await;
    let writer = case.begun(session).await;
    let next = writer.next(case.now(), writer.admitted());
    refused!(case, Append { session: SessionId(session.0 + 1000), ..next.clone() }, Error::Stale { .. });
    case.ok(case.log.close_session(session).await, "a session is closed");
    refused!(case, next, Error::Stale { .. });
    let fresh = case.writer(session);
    refused!(case, fresh.begin(case.now(), vec![]), Error::Stale { .. });

    let session = case.session().await;
    let writer = case.begun(session).await;
    case.pass(31);
    let next = writer.next(case.now(), writer.admitted());
    refused!(case, next, Error::Stale { .. });
}

pub(super) async fn old_epoch(case: &mut Case<'_>) {
    let session = case.session().await;
    let writer = case.begun(session).await;
    for epoch in [Epoch(0), Epoch(2)] {
        let mut other = writer.clone();
        other.epoch = epoch.max(Epoch(1));
        let next = Append { epoch, ..other.next(case.now(), vec![skipped()]) };
        refused!(case, next, Error::Stale { .. });
    }
    // A head that nobody holds names no session, so nobody may write to it before claiming it.
    let wake_at = Some(case.later(60));
    let waiting = case.waiting(session, wake_at).await;
    case.same(case.head(waiting.id).await.session, None, "the session of a head that is not held");
    refused!(case, waiting.skip(case.now()), Error::Stale { .. });
}

pub(super) async fn conflict(case: &mut Case<'_>) {
    let session = case.session().await;
    let writer = case.begun(session).await;
    let next = writer.next(case.now(), writer.admitted());
    let ahead = Append { expected_seq: 5, ..next };
    refused!(case, ahead, Error::Conflict { expected: 5, found: 1, .. });
}

pub(super) async fn not_begun(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut writer = case.writer(session);
    let begin = writer.begin(case.now(), vec![]);
    refused!(case, Append { begin: None, ..begin.clone() }, Error::NotFound(_));
    writer.took(&begin);
    refused!(case, writer.skip(case.now()), Error::NotFound(_));
}

pub(super) async fn ended(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut writer = case.begun(session).await;
    let open = writer.clone();
    let ending = writer.skip(case.now());
    case.record(&mut writer, ending.clone()).await;
    let head = case.head(writer.id).await;
    case.that(head.ended_at == Some(ending.now) && head.state.is_ended(), "the head says when it ended");
    case.same((head.session, head.wake_at), (None, None), "who holds it, and when it wakes");
    // Nobody holds it any more, so the writer is told that first.
    let after = Append { expected_seq: 2, ..open.next(case.now(), open.admitted()) };
    refused!(case, after, Error::Ended { .. } | Error::Stale { .. });
}

pub(super) async fn known_alert(case: &mut Case<'_>) {
    let session = case.session().await;
    let first = case.begun(session).await;
    let mut second = case.writer(session);
    second.alert.id = first.alert.id.clone();
    let begin = second.begin(case.now(), vec![]);
    let answer = case.log.append(begin.clone().into()).await;
    let led_to = match &answer {
        Err(Error::KnownAlert(record)) => Some((record.id.clone(), record.operation)),
        Ok(_) | Err(_) => None,
    };
    case.same(led_to, Some((first.alert.id.clone(), first.id)), "the alert and the operation that it led to");
    refused!(case, begin, Error::KnownAlert(_));
}

pub(super) async fn not_folded(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut writer = case.begun(session).await;
    for key in ["a", "b"] {
        case.ok(case.log.post(cancel(case, writer.id, key)).await, "a request is left");
    }
    refused!(case, writer.skip(case.now()), Error::NotFolded { inbox: 2, .. });
    let one = writer.next(case.now(), vec![answered(1)]);
    let recorded = case.record(&mut writer, one).await;
    case.same(recorded.inbox, 2, "the last inbox row, told by an append that does not end");
    refused!(case, writer.skip(case.now()), Error::NotFolded { inbox: 2, .. });
    let both = writer.next(case.now(), vec![answered(2), skipped()]);
    case.record(&mut writer, both).await;
}

fn cancel(case: &Case<'_>, operation: redress_types::OperationId, key: &str) -> Post {
    let request = Request::Cancel { reason: "enough".into() };
    Post { operation, key: key.into(), request, actor: Actor("person:ann".into()), at: case.now() }
}

/// Everything is wrong with one append; it is put right piece by piece, and the next piece is named.
pub(super) async fn order_of_checks(case: &mut Case<'_>) {
    let session = case.session().await;
    let claims =
        [Claim::Slot("s".into()), Claim::Sameness("m".into()), Claim::Fingerprint("f".into())].to_vec();
    let mut holder = case.writer(session);
    let mut begin = holder.begin(case.now(), vec![]);
    begin.claims = claims.clone();
    begin.conditions.budgets = vec![budget(1)];
    case.record(&mut holder, begin.clone()).await;
    let mut cold = case.begun(session).await;
    let mut ending = cold.skip(case.now());
    ending.ends = Some(Ending { hold: Some(("h".into(), case.later(60))), refund: false });
    case.record(&mut cold, ending).await;
    let off = Switch {
        key: "engine".into(),
        by: Actor("person:ann".into()),
        reason: "quiet".into(),
        since: case.now(),
        until: None,
    };
    case.ok(case.log.set_switch("engine", Some(off)).await, "a switch is turned off");

    let mut writer = case.writer(session);
    writer.alert.id = alert_id("alert-1");
    let mut known = writer.begin(case.now(), vec![]);
    known.claims = claims.clone();
    refused!(case, known, Error::KnownAlert(_));

    let mut writer = case.begun(session).await;
    let mut all = writer.skip(case.now());
    all.claims = claims;
    all.conditions =
        Conditions { holds: vec!["h".into()], budgets: vec![budget(1)], switches: vec!["engine".into()] };
    case.ok(case.log.post(cancel(case, writer.id, "a")).await, "a request is left");

    refused!(case, Append { epoch: Epoch(9), expected_seq: 4, ..all.clone() }, Error::Stale { .. });
    refused!(case, Append { expected_seq: 4, ..all.clone() }, Error::Conflict { .. });
    refused!(case, all.clone(), Error::NotFolded { .. });
    let mut folded = writer.next(case.now(), vec![answered(1), skipped()]);
    (folded.claims, folded.conditions) = (all.claims, all.conditions);
    refused!(case, folded.clone(), Error::Lost { claim: Claim::Fingerprint(_), .. });
    folded.claims.truncate(2);
    refused!(case, folded.clone(), Error::Lost { claim: Claim::Sameness(_), .. });
    folded.claims.truncate(1);
    refused!(case, folded.clone(), Error::NotNow { reason: HoldReason::Cooldown { .. }, .. });
    folded.conditions.holds.clear();
    refused!(case, folded.clone(), Error::NotNow { reason: HoldReason::Budget { .. }, .. });
    folded.conditions.budgets.clear();
    refused!(case, folded.clone(), Error::NotNow { reason: HoldReason::Paused { .. }, .. });
    folded.conditions.switches.clear();
    refused!(case, folded.clone(), Error::Lost { claim: Claim::Slot(_), .. });
    folded.claims.clear();
    case.record(&mut writer, folded.clone()).await;
    // What stands already is answered before anything else is looked at.
    let wrong = Append { epoch: Epoch(9), session: SessionId(session.0 + 99), ..folded };
    let again =
        case.ok(case.log.append(wrong.into()).await, "the same content again is answered first of all");
    case.that(again.before, "it stood there already");
}

pub(super) fn budget(most: u32) -> Budget {
    Budget { key: "b".into(), most, window: seconds(100) }
}

pub(super) async fn stands_as_given(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut writer = case.writer(session);
    let mut begin = writer.begin(case.now(), vec![]);
    begin.claims = vec![Claim::Slot("free".into())];
    begin.standing.reason = Some("looks around".into());
    let first = case.record(&mut writer, begin.clone()).await;
    case.that(!first.before && first.inbox == 0, "a first answer");
    let head = case.head(writer.id).await;
    let given = begin.begin.clone().unwrap_or_else(|| case.broken("the fixture begins"));
    case.same((head.name, head.title), (given.name, given.title), "name and title");
    case.same((head.seq, head.hash, head.position), (1, begin.hash, first.position), "seq, hash, position");
    case.same((head.epoch, head.session), (writer.epoch, Some(session)), "epoch and session");
    case.same(head.wake_at, begin.standing.wake_at, "when it wakes");
    case.same(head.reason.as_deref(), Some("looks around"), "the reason");
    case.same(head.plan, writer.plan.as_ref().map(|plan| plan.hash), "the plan");
    case.same((head.target, head.level), (given.target, given.level), "target and level");
    case.same((head.accepted_at, head.updated_at), (case.now(), case.now()), "accepted and updated");
    case.same((head.ended_at, head.owed, head.waits_on), (None, 0, None), "end, debts, waits");

    case.pass(5);
    let mut next = writer.next(case.now(), writer.admitted());
    next.outbox = vec![owe("issue-1"), owe("issue-2")];
    let second = case.record(&mut writer, next.clone()).await;
    case.that(second.position > first.position, "positions grow");
    let head = case.head(writer.id).await;
    case.same((head.seq, head.state), (2, next.standing.state), "seq and state");
    case.same((head.position, head.owed), (first.position, 2), "the first position, and the debts");
    case.same((head.accepted_at, head.updated_at), (begin.now, next.now), "accepted and updated");

    let alert = case.ok(case.log.alert(&writer.alert.id).await, "an alert record is read");
    let alert = alert.unwrap_or_else(|| case.broken("the alert has a record"));
    case.same((alert.operation, alert.joined, alert.count, alert.n), (writer.id, false, 1, 1), "the record");
    case.same((alert.first_seen, alert.last_seen), (begin.now, begin.now), "first and last seen");
    case.same(alert.outcome, None, "an outcome comes with the archive");
    let stored = case.ok(case.log.plan(plan("restore").hash).await, "a plan is read");
    case.same(stored, writer.plan.clone(), "the plan");
}

pub(super) fn owe(order_key: &str) -> Owe {
    Owe { executor: "persist".into(), order_key: order_key.into(), content: (*b"{\"row\":1}").into() }
}

pub(super) async fn read_back(case: &mut Case<'_>) {
    let session = case.session().await;
    let (mut a, mut b) = (case.begun(session).await, case.begun(session).await);
    for step in 0..2 {
        for writer in [&mut a, &mut b] {
            let events = if step == 0 { writer.admitted() } else { vec![writer.succeeded(0)] };
            let next = writer.next(case.now(), events);
            case.record(writer, next).await;
        }
    }
    let entries = case.ok(case.log.entries(a.id, 0, 100).await, "entries are read");
    case.same(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), vec![1, 2, 3], "their seqs");
    let folded = crate::Operation::replay(&entries, a.plan.clone());
    case.same(folded.ok(), a.operation.clone(), "their fold is the operation");
    let page = case.ok(case.log.entries(a.id, 1, 1).await, "entries are read");
    case.same(page, entries[1..2].to_vec(), "one entry after the first");
    let none = case.ok(case.log.entries(a.id, 3, 10).await, "entries are read");
    case.same(none, vec![], "nothing after the last");
    let unknown =
        case.ok(case.log.entries(super::fixture::operation_id(999), 0, 9).await, "entries are read");
    case.same(unknown, vec![], "nothing of an operation that is not there");
}

pub(super) async fn sums(case: &mut Case<'_>) {
    let first = case.session().await;
    let mut writer = case.begun(first).await;
    case.begun(first).await;
    let next = writer.next(case.now(), writer.admitted());
    case.record(&mut writer, next.clone()).await;
    case.ok(case.log.append(next.into()).await, "the same append again is answered");
    let whole = case.whole().await;
    let mut digest = Hash::ZERO;
    whole.entries.iter().for_each(|entry| digest.combine(&entry.hash));
    let found: Vec<_> =
        whole.sums.iter().map(|sum| (sum.session, sum.entries, sum.operations, sum.digest)).collect();
    case.same(found, vec![(first, 3, 2, digest)], "what the session appended");
    let second = case.next_session(first).await;
    case.begun(second).await;
    let sums: Vec<_> = case.whole().await.sums.iter().map(|sum| (sum.session, sum.entries)).collect();
    case.same(sums, vec![(first, 3), (second, 1)], "what each session appended");
}
