//! `{id}#n`: when a live repeat of an ended alert runs again, and every case in which it never does.

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::{OperationHistory as _, OperationLog as _};
use redress_engine::{Disposition, Engine};
use redress_testkit::{Do, Pager, Script, ScriptedExecutor, alert::alert};

use crate::world::{HOUR, MINUTE, SECOND, World, accept, submit};

/// An engine on which alert `a` has run once from a webhook that repeats every five minutes.
async fn ran_once(world: &World, executor: &ScriptedExecutor) -> Engine {
    let strategy = world.strategy(executor, 1).cooldown(2 * MINUTE);
    let engine = world.engine(executor, strategy).await;
    let id = accept(&engine, alert("a").webhook(5 * MINUTE)).await;
    world.until(id, "ended or stood", |head| head.wake_at.is_none()).await;
    engine
}

#[tokio::test(start_paused = true)]
async fn a_live_repeat_after_the_cooldown_runs_again_under_the_next_number() {
    for first in [Do::Succeed, Do::Fail] {
        let world = World::new();
        let executor = world.executor(Policy::Rerun, Script::new().step(0, [first]));
        let engine = ran_once(&world, &executor).await;
        tokio::time::sleep(5 * MINUTE).await;
        let again = submit(&engine, alert("a").webhook(5 * MINUTE)).await;
        assert_eq!(again.disposition, Disposition::Accepted(State::RollingBack));
        assert_eq!(again.alert.as_ref().unwrap().id.as_str(), "a#2");
        let second = again.operation.unwrap();
        world.until_ended(second).await;
        assert_eq!(world.fold(second).await.alert.id.as_str(), "a#2");
        let base = world.log.alert(&"a".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((base.runs, base.count), (2, 2), "the run is a delivery of the base id");
        // More than twice the interval after the first delivery, a little more than one after the second.
        tokio::time::sleep(5 * MINUTE + SECOND).await;
        let third = submit(&engine, alert("a").webhook(5 * MINUTE)).await;
        assert_eq!(third.alert.as_ref().unwrap().id.as_str(), "a#3", "{third:?}");
        world.until_ended(third.operation.unwrap()).await;
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_live_repeats_at_once_are_one_run() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = ran_once(&world, &executor).await;
    tokio::time::sleep(5 * MINUTE).await;
    let (a, b) = tokio::join!(
        submit(&engine, alert("a").webhook(5 * MINUTE)),
        submit(&engine, alert("a").webhook(5 * MINUTE))
    );
    let accepted = [&a, &b].iter().filter(|r| matches!(r.disposition, Disposition::Accepted(_))).count();
    assert_eq!(accepted, 1, "{a:?} {b:?}");
    tokio::time::sleep(SECOND).await;
    let base = world.log.alert(&"a".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((base.runs, base.count), (2, 3), "each is a delivery of the base id");
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn never_within_the_cooldown_never_late_never_natively() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = ran_once(&world, &executor).await;
    let soon = submit(&engine, alert("a").webhook(5 * MINUTE)).await;
    assert_eq!(soon.disposition, Disposition::Repeated, "within the cooldown");
    tokio::time::sleep(5 * MINUTE).await;
    let native = submit(&engine, alert("a").native()).await;
    assert_eq!(native.disposition, Disposition::Repeated, "natively");
    // More than twice the interval after the last delivery: nobody repeated it, so it is a replay.
    tokio::time::sleep(10 * MINUTE + SECOND).await;
    let late = submit(&engine, alert("a").webhook(5 * MINUTE)).await;
    assert_eq!(late.disposition, Disposition::Repeated, "a replay");
    assert_eq!(world.target.all().len(), 1);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn never_after_cancelled_skipped_or_while_it_still_waits() {
    let world = World::new();
    let executor = world.executor(Policy::Halt, Script::new().step(0, [Do::LoseReply]));
    let engine = ran_once(&world, &executor).await;
    let id = redress_testkit::SequentialIds::nth(1);
    assert_eq!(world.state(id).await, State::Suspended);
    tokio::time::sleep(5 * MINUTE).await;
    let waits = submit(&engine, alert("a").webhook(5 * MINUTE)).await;
    assert_eq!((waits.disposition, waits.operation), (Disposition::Repeated, Some(id)), "it waits");
    world.cancel(id).await;
    world.decide(id, redress_engine::operation_log::Decision::Happened).await;
    assert_eq!(world.until_ended(id).await, State::Cancelled);
    tokio::time::sleep(4 * MINUTE).await;
    let cancelled = submit(&engine, alert("a").webhook(5 * MINUTE)).await;
    assert_eq!(cancelled.disposition, Disposition::Repeated, "cancelled");
    let skipped = accept(&engine, alert("w").label("alertname", "Watchdog").webhook(5 * MINUTE)).await;
    tokio::time::sleep(5 * MINUTE).await;
    let again = submit(&engine, alert("w").label("alertname", "Watchdog").webhook(5 * MINUTE)).await;
    assert_eq!((again.disposition, again.operation), (Disposition::Repeated, Some(skipped)), "skipped");
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn over_the_attempt_budget_it_waits_and_a_person_is_called() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy = world.strategy(&executor, 1).cooldown(MINUTE).fingerprint_rate(2, HOUR);
    let pager = Pager::new();
    let engine = world.start(world.builder().escalation(pager.clone()), &executor, strategy).await;
    let mut states = Vec::new();
    for _ in 0..8 {
        let receipt = submit(&engine, alert("a").webhook(5 * MINUTE)).await;
        if let Disposition::Accepted(state) = receipt.disposition {
            states.push(state);
        }
        tokio::time::sleep(5 * MINUTE).await;
    }
    assert_eq!(states, [State::RollingBack, State::RollingBack, State::Blocked]);
    assert_eq!(world.target.all().len(), 2, "two operations acted");
    assert_eq!(pager.calls().len(), 1, "{:?}", pager.calls());
    assert_eq!(pager.calls()[0].state, State::Blocked);
    // The window moves on, and the problem is still there.
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.target.all().len(), 3);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_live_repeat_after_it_timed_out_runs_again() {
    let world = World::new();
    let script = Script::new().step(0, [Do::when_stopped(Do::Fail), Do::Succeed]);
    let executor = world.executor(Policy::Rerun, script);
    let engine = world.engine(&executor, world.strategy(&executor, 1).deadline(5 * SECOND)).await;
    let first = accept(&engine, alert("a").webhook(5 * MINUTE)).await;
    assert_eq!(world.until_ended(first).await, State::TimedOut);
    tokio::time::sleep(5 * MINUTE).await;
    let again = submit(&engine, alert("a").webhook(5 * MINUTE)).await;
    assert_eq!(again.alert.unwrap().id.as_str(), "a#2");
    world.until_ended(again.operation.unwrap()).await;
    world.judge().await;
}

/// What ended may have gone into the archive meanwhile: how it ended is still known.
#[tokio::test(start_paused = true)]
async fn a_live_repeat_of_what_was_archived_runs_again() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = ran_once(&world, &executor).await;
    tokio::time::sleep(5 * MINUTE).await;
    let old = world.log.archivable(world.log_now(), 9).await.unwrap();
    let gone: Vec<_> = old.iter().map(|one| (one.head.id, one.head.hash)).collect();
    assert_eq!(world.log.remove_archived(&gone).await.unwrap(), 1);
    let again = submit(&engine, alert("a").webhook(5 * MINUTE)).await;
    assert_eq!(again.alert.unwrap().id.as_str(), "a#2");
    world.until_ended(again.operation.unwrap()).await;
    world.judge().await;
}

/// The last run decides: while that stands, a repeat is counted on the base id, and the word that it is over is its.
#[tokio::test(start_paused = true)]
async fn a_repeat_while_the_second_run_waits_is_counted_and_the_word_that_it_is_over_reaches_it() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = ran_once(&world, &executor).await;
    tokio::time::sleep(5 * MINUTE).await;
    let gate = redress_testkit::Gate::new();
    let slow = world.executor(Policy::Rerun, Script::always(Do::behind(&gate, Do::Succeed)));
    engine.shutdown().await;
    let engine = world.engine(&slow, world.strategy(&slow, 1).cooldown(2 * MINUTE)).await;
    let second = submit(&engine, alert("a").webhook(5 * MINUTE)).await;
    assert_eq!(second.alert.unwrap().id.as_str(), "a#2");
    let repeat = submit(&engine, alert("a").webhook(5 * MINUTE)).await;
    assert_eq!(repeat.disposition, Disposition::Repeated);
    let base = repeat.alert.unwrap();
    assert_eq!((base.id.as_str(), base.runs, base.count), ("a", 2, 3));
    let over = submit(&engine, alert("a").resolved(world.log_now())).await;
    assert_eq!((over.disposition, over.operation), (Disposition::Resolved, second.operation));
    gate.open();
    world.until_ended(second.operation.unwrap()).await;
    world.judge().await;
}

/// A further run that joins something is known there by its own number, and is a delivery of the base id.
#[tokio::test(start_paused = true)]
async fn a_further_run_that_joins_is_counted_once_on_the_base_id() {
    let world = World::new();
    let gate = redress_testkit::Gate::new();
    let script = Script::by({
        let gate = gate.clone();
        let first = redress_testkit::SequentialIds::nth(1);
        move |key, _| if key.operation == first { Do::Succeed } else { Do::behind(&gate, Do::Succeed) }
    });
    let executor = world.executor(Policy::Rerun, script);
    let strategy = world.strategy(&executor, 0).step(crate::world::step(&executor, 0).timeout(HOUR));
    let engine = world.engine(&executor, strategy.cooldown(2 * MINUTE)).await;
    let first = accept(&engine, alert("a").problem("p").webhook(5 * MINUTE)).await;
    world.until_ended(first).await;
    tokio::time::sleep(5 * MINUTE).await;
    let other = accept(&engine, alert("b").problem("p").native()).await;
    let joined = submit(&engine, alert("a").problem("p").webhook(5 * MINUTE)).await;
    assert_eq!((joined.disposition, joined.operation), (Disposition::Joined, Some(other)));
    let base = world.log.alert(&"a".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((base.runs, base.count), (2, 2));
    world.until(other, "counted it", |head| head.folded_request == 1).await;
    let operation = world.fold(other).await;
    let alerts: Vec<_> = operation.alerts.iter().map(|counted| counted.alert.id.as_str()).collect();
    assert_eq!(alerts, ["b", "a#2"]);
    gate.open();
    world.until_ended(other).await;
    world.judge().await;
}
