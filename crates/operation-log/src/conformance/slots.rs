//! Waiting for a slot, and who is woken when it is free.

use redress_types::{Level, OperationId};

use super::case::Case;
use super::fixture::{Writer, seconds};
use crate::event::{Event, HoldReason};
use crate::record::Claim;
use crate::session::SessionId;

fn slot() -> Claim {
    Claim::Slot("t".into())
}

/// Begins an operation of this level that waits for the slot for an hour.
async fn waiter(case: &mut Case<'_>, session: SessionId, level: Level) -> Writer {
    let mut writer = case.writer(session);
    writer.alert.level = level;
    let until = case.later(3600);
    let reason = HoldReason::TargetBusy { slot: "t".into(), holder: super::fixture::operation_id(1) };
    let mut begin = writer.begin(case.now(), vec![Event::Held { reason, until }]);
    begin.standing.held = false;
    begin.standing.wake_at = Some(until);
    begin.standing.waits_on = Some(slot());
    case.record(&mut writer, begin).await;
    writer
}

async fn holder(case: &mut Case<'_>, session: SessionId) -> Writer {
    let mut writer = case.writer(session);
    let mut begin = writer.begin(case.now(), vec![]);
    begin.claims = vec![slot()];
    case.record(&mut writer, begin).await;
    writer
}

pub(super) async fn free_at_append(case: &mut Case<'_>) {
    let session = case.session().await;
    let writer = waiter(case, session, Level::P1).await;
    let head = case.head(writer.id).await;
    case.that(head.wake_at.is_some_and(|at| at <= case.now()), "it is due at once");
    case.same(case.claimed(session).await, vec![writer.id], "what can be claimed");
}

pub(super) async fn taken_at_append(case: &mut Case<'_>) {
    let session = case.session().await;
    holder(case, session).await;
    let writer = waiter(case, session, Level::P1).await;
    let head = case.head(writer.id).await;
    case.same((head.waits_on, head.session), (Some(slot()), None), "what it waits for, and who holds it");
    case.same(head.wake_at, Some(case.later(3600)), "when it is looked at again");
    case.same(case.claimed(session).await, vec![], "what can be claimed");
}

/// Frees the slot and answers what is due then.
async fn free(case: &Case<'_>, session: SessionId, mut holder: Writer) -> Vec<OperationId> {
    let ending = holder.skip(case.now());
    case.record(&mut holder, ending).await;
    case.claimed(session).await
}

pub(super) async fn by_level(case: &mut Case<'_>) {
    let session = case.session().await;
    let first = holder(case, session).await;
    waiter(case, session, Level::P1).await;
    case.pass(1);
    let urgent = waiter(case, session, Level::P0).await;
    waiter(case, session, Level::Warning).await;
    case.same(free(case, session, first).await, vec![urgent.id], "who is woken");
}

pub(super) async fn by_acceptance(case: &mut Case<'_>) {
    let session = case.session().await;
    let first = holder(case, session).await;
    let start = case.now();
    case.clock.set(start.plus(seconds(2)));
    waiter(case, session, Level::P1).await;
    // Its engine's clock is behind, so it was accepted before one with a lower position.
    case.clock.set(start.plus(seconds(1)));
    let older = waiter(case, session, Level::P1).await;
    case.clock.set(start.plus(seconds(3)));
    case.same(free(case, session, first).await, vec![older.id], "who is woken");
}

pub(super) async fn by_position(case: &mut Case<'_>) {
    let session = case.session().await;
    let first = holder(case, session).await;
    let waiters = [
        waiter(case, session, Level::P1).await,
        waiter(case, session, Level::P1).await,
        waiter(case, session, Level::P1).await,
    ];
    case.same(free(case, session, first).await, vec![waiters[0].id], "who is woken");
    case.same(case.claimed(session).await, vec![], "who else is woken");
    // The one that was woken ends without taking the slot: it passes it on.
    let head = case.head(waiters[0].id).await;
    let mut woken = waiters[0].clone();
    woken.epoch = head.epoch;
    let ending = woken.skip(case.now());
    case.record(&mut woken, ending).await;
    let next = case.claimed(session).await;
    case.same(next, vec![waiters[1].id], "who is woken when a waiter leaves the free slot");
}

pub(super) async fn passed_over(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut first = holder(case, session).await;
    let urgent = waiter(case, session, Level::P0).await;
    let next = waiter(case, session, Level::P1).await;
    let ending = first.skip(case.now());
    case.record(&mut first, ending).await;
    case.that(case.head(urgent.id).await.wake_at <= Some(case.now()), "the first waiter is due");
    // No engine at work has what it needs, so nobody claims it; somebody else has the slot meanwhile.
    let mut other = holder(case, session).await;
    let ending = other.skip(case.now());
    case.record(&mut other, ending).await;
    case.that(case.head(next.id).await.wake_at <= Some(case.now()), "the one behind it is due too");
}

pub(super) async fn given_up(case: &mut Case<'_>) {
    let session = case.session().await;
    let first = holder(case, session).await;
    let mut waiters = Vec::new();
    for level in [Level::P1, Level::Warning, Level::P2] {
        waiters.push(waiter(case, session, level).await.id);
    }
    case.same(free(case, session, first).await, vec![waiters[0]], "who is woken");
    // Each that cannot go on passes the slot to the next: the last one is reached too.
    case.pass(1);
    let epoch = case.head(waiters[0]).await.epoch;
    case.ok(case.log.give_up(session, waiters[0], epoch).await, "a waiter is given up");
    case.same(case.head(waiters[1]).await.wake_at, Some(case.later(3599)), "when the last one wakes");
    case.same(case.claimed(session).await, vec![waiters[0], waiters[2]], "itself, and the next by level");
    let epoch = case.head(waiters[2]).await.epoch;
    case.ok(case.log.give_up(session, waiters[2], epoch).await, "a waiter is given up");
    case.same(case.claimed(session).await, vec![waiters[1], waiters[2]], "itself, and the last one");
    // Of a slot that somebody has, nothing is passed on.
    let taker = case.head(waiters[1]).await;
    case.that(taker.session == Some(session), "it is held");
    holder(case, session).await;
    let late = waiter(case, session, Level::P0).await;
    case.ok(case.log.give_up(session, taker.id, taker.epoch).await, "a waiter is given up");
    case.same(case.claimed(session).await, vec![taker.id], "what can be claimed while somebody has the slot");
    case.same(case.head(late.id).await.wake_at, Some(case.later(3600)), "when the other waiter wakes");
}
