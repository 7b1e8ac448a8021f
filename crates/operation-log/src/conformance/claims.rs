//! Claims, holds, budgets and switches: what is in the way of an append, and until when.

use std::time::Duration;

use redress_types::Timestamp;

use super::appends::budget;
use super::case::{Case, refused};
use super::fixture::{Writer, seconds};
use crate::error::Error;
use crate::event::{Actor, HoldReason};
use crate::record::{Append, Budget, Claim, Ending, Switch};

pub(super) async fn lost(case: &mut Case<'_>) {
    let session = case.session().await;
    for claim in [Claim::Fingerprint("x".into()), Claim::Sameness("x".into()), Claim::Slot("x".into())] {
        let mut first = case.writer(session);
        let mut begin = first.begin(case.now(), vec![]);
        begin.claims = vec![claim.clone()];
        case.record(&mut first, begin).await;
        let writer = case.writer(session);
        let mut begin = writer.begin(case.now(), vec![]);
        begin.claims = vec![Claim::Slot(format!("other than {claim}")), claim.clone()];
        begin.outbox = vec![super::appends::owe("issue")];
        begin.conditions.budgets = vec![Budget { key: claim.to_string(), ..budget(1) }];
        match case.log.append(begin.clone().into()).await {
            Err(Error::Lost { claim: what, holder }) => {
                case.same((what, holder), (claim.clone(), first.id), "the claim and who has it");
            }
            other => case.broken(&format!("{claim} is lost to another operation; the answer is {other:?}")),
        }
        refused!(case, begin.clone(), Error::Lost { .. });
        let known = case.ok(case.log.alert(&writer.alert.id).await, "an alert record is read");
        case.same(known, None, "the record of an alert whose append failed");
        // The budget was not reserved either: it holds one.
        begin.claims.clear();
        case.ok(case.log.append(begin.into()).await, "the budget is as it was");
    }
}

pub(super) async fn kept_and_freed(case: &mut Case<'_>) {
    let session = case.session().await;
    let claims =
        [Claim::Fingerprint("f".into()), Claim::Sameness("s".into()), Claim::Slot("t".into())].to_vec();
    let mut first = case.writer(session);
    let mut begin = first.begin(case.now(), vec![]);
    begin.claims = claims.clone();
    case.record(&mut first, begin).await;
    let mut next = first.next(case.now(), vec![crate::Event::DiagnosisStarted]);
    next.claims = claims.clone();
    case.record(&mut first, next).await;
    case.same(case.whole().await.claims.len(), 3, "claims that it had already are taken again");
    let found = case.ok(case.log.by_fingerprint("f").await, "a fingerprint is looked up");
    case.same(found, Some(first.id), "the operation of a fingerprint");

    let mut second = case.writer(session);
    let mut begin = second.begin(case.now(), vec![]);
    begin.claims = claims;
    refused!(case, begin.clone(), Error::Lost { .. });
    let ending = first.skip(case.now());
    case.record(&mut first, ending).await;
    case.same(case.whole().await.claims, vec![], "claims after the end");
    let found = case.ok(case.log.by_fingerprint("f").await, "a fingerprint is looked up");
    case.same(found, None, "the operation of a fingerprint after its end");
    case.record(&mut second, begin).await;
    case.same(case.whole().await.claims.len(), 3, "claims taken by the next");
}

/// A begin that must not meet this hold.
fn under_hold(writer: &Writer, now: Timestamp) -> Append {
    let mut begin = writer.begin(now, vec![]);
    begin.conditions.holds = vec!["some other".into(), "h".into()];
    begin
}

/// Begins and ends an operation that leaves a hold behind.
async fn leave_hold(case: &mut Case<'_>, session: crate::SessionId, until: Timestamp) {
    let mut writer = case.begun(session).await;
    let mut ending = writer.skip(case.now());
    ending.ends = Some(Ending { hold: Some(("h".into(), until)), refund: false });
    case.record(&mut writer, ending).await;
}

pub(super) async fn holds(case: &mut Case<'_>) {
    let session = case.session().await;
    let until = case.later(20);
    leave_hold(case, session, until).await;
    let mut writer = case.writer(session);
    let just_before = until.minus(Duration::from_micros(1));
    for now in [case.now(), just_before] {
        let found = match case.log.append(under_hold(&writer, now).into()).await {
            Err(Error::NotNow { reason: HoldReason::Cooldown { key }, until }) => Some((key, until)),
            Ok(_) | Err(_) => None,
        };
        case.same(found, Some(("h".into(), until)), "the hold and its time");
        refused!(case, under_hold(&writer, now), Error::NotNow { .. });
    }
    let begin = under_hold(&writer, until);
    case.record(&mut writer, begin).await;
}

pub(super) async fn later_hold(case: &mut Case<'_>) {
    let session = case.session().await;
    let (early, late) = (case.later(10), case.later(20));
    for until in [early, late, early] {
        leave_hold(case, session, until).await;
    }
    let mut writer = case.writer(session);
    refused!(case, under_hold(&writer, early), Error::NotNow { .. });
    let begin = under_hold(&writer, late);
    case.record(&mut writer, begin).await;
}

fn under_budget(writer: &Writer, now: Timestamp, most: u32) -> Append {
    let mut begin = writer.begin(now, vec![]);
    begin.conditions.budgets = vec![budget(most)];
    begin
}

pub(super) async fn budgets(case: &mut Case<'_>) {
    let session = case.session().await;
    let start = case.now();
    for after in [0, 10] {
        let mut writer = case.writer(session);
        let begin = under_budget(&writer, start.plus(seconds(after)), 2);
        case.record(&mut writer, begin).await;
    }
    let mut third = case.writer(session);
    let oldest_leaves = start.plus(seconds(100));
    let just_before = oldest_leaves.minus(Duration::from_micros(1));
    for now in [start.plus(seconds(10)), just_before] {
        let found = match case.log.append(under_budget(&third, now, 2).into()).await {
            Err(Error::NotNow { reason: HoldReason::Budget { key, most }, until }) => {
                Some((key, most, until))
            }
            Ok(_) | Err(_) => None,
        };
        case.same(found, Some(("b".into(), 2, oldest_leaves)), "the budget, its size and when it is free");
        refused!(case, under_budget(&third, now, 2), Error::NotNow { .. });
    }
    let begin = under_budget(&third, oldest_leaves, 2);
    case.record(&mut third, begin).await;
    // The second is in the window still, and the third now too.
    let mut fourth = case.writer(session);
    refused!(case, under_budget(&fourth, oldest_leaves, 2), Error::NotNow { .. });
    let mut other = fourth.begin(oldest_leaves, vec![]);
    other.conditions.budgets = vec![Budget { key: "another".into(), ..budget(2) }];
    case.record(&mut fourth, other).await;
}

pub(super) async fn refund(case: &mut Case<'_>) {
    let session = case.session().await;
    for refund in [true, false] {
        let mut writer = case.writer(session);
        let begin = under_budget(&writer, case.now(), 1);
        case.record(&mut writer, begin).await;
        let mut ending = writer.skip(case.now());
        ending.ends = Some(Ending { hold: None, refund });
        case.record(&mut writer, ending).await;
    }
    // The first gave its own back, so the second could begin; the second did not.
    let writer = case.writer(session);
    refused!(case, under_budget(&writer, case.now(), 1), Error::NotNow { .. });
}

pub(super) async fn switches(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut writer = case.writer(session);
    let mut begin = writer.begin(case.now(), vec![]);
    begin.conditions.switches = vec!["strategy:restore".into(), "engine".into()];
    let off = |until| {
        let (key, by) = ("engine".to_owned(), Actor("person:ann".into()));
        Some(Switch { key, by, reason: "quiet".into(), since: case.now(), until })
    };
    let (soon, minute) = (case.later(10), case.later(60));
    // An end far away: it may be turned on again before, and then nobody waits longer than a minute.
    for (until, look_again) in [(Some(soon), soon), (Some(case.later(3600)), minute), (None, minute)] {
        case.ok(case.log.set_switch("engine", off(until)).await, "a switch is turned off");
        let found = match case.log.append(begin.clone().into()).await {
            Err(Error::NotNow { reason: HoldReason::Paused { switch }, until }) => Some((switch, until)),
            Ok(_) | Err(_) => None,
        };
        case.same(found, Some(("engine".into(), look_again)), "the switch and when to look again");
    }
    refused!(case, begin.clone(), Error::NotNow { .. });
    case.ok(case.log.set_switch("engine", None).await, "a switch is turned on");
    let recorded = case.record(&mut writer, begin).await;

    // Off until a time that has come is not in the way, to the microsecond.
    case.ok(case.log.set_switch("engine", off(Some(soon))).await, "a switch is turned off");
    let mut next = writer.next(soon.minus(Duration::from_micros(1)), vec![crate::Event::DiagnosisStarted]);
    next.conditions.switches = vec!["engine".into()];
    refused!(case, next, Error::NotNow { .. });
    let mut next = writer.next(soon, vec![crate::Event::DiagnosisStarted]);
    next.conditions.switches = vec!["engine".into()];
    let later = case.record(&mut writer, next).await;
    case.that(later.switches > recorded.switches, "the count of changes grew with the switch");
}
