//! Compensation: what it owes is given once the plan has run, within its own limit.

use expect_test::expect;
use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::event::Decision;
use redress_engine::strategy::Builder;
use redress_testkit::{Do, Gate, Script, ScriptedCheck, ScriptedExecutor, See, alert::alert};

use crate::world::{MINUTE, SECOND, World, accept, step, timed};

fn compensated(world: &World, executor: &ScriptedExecutor) -> Builder {
    world.strategy(executor, 2).compensate(step(executor, 0)).compensate(step(executor, 1))
}

#[tokio::test(start_paused = true)]
async fn a_failed_step_runs_the_plan_and_fails() {
    let world = World::new();
    let executor = world.executor(Policy::Probe, Script::new().step(1, [Do::Fail]));
    let engine = world.engine(&executor, compensated(&world, &executor)).await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(world.until_ended(id).await, State::Failed);
    expect!["accepted admitted step_started | step_succeeded step_started | step_failed compensation_started step_started | step_succeeded step_started | step_succeeded compensated_to_failed"].assert_eq(&world.story(id).await);
    assert_eq!((world.compensations(id, 0), world.compensations(id, 1)), (1, 1));
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn checks_that_stay_bad_run_the_plan_and_fail() {
    let world = World::seeing(ScriptedCheck::always("check", See::Unhealthy));
    let executor = world.executor(Policy::Probe, Script::new());
    let engine = world.engine(&executor, compensated(&world, &executor)).await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(world.until_ended(id).await, State::Failed);
    assert_eq!((world.compensations(id, 0), world.compensations(id, 1)), (1, 1));
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_compensation_step_that_fails_is_noted_and_the_rest_runs() {
    let world = World::new();
    let script = Script::new().step(0, [Do::Fail]).compensation(0, [Do::Fail]);
    let executor = world.executor(Policy::Rerun, script);
    let engine = world.engine(&executor, compensated(&world, &executor)).await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(world.until_ended(id).await, State::Failed);
    assert!(
        world.story(id).await.contains("step_failed step_started | step_succeeded compensated_to_failed")
    );
    assert_eq!((world.compensations(id, 0), world.compensations(id, 1)), (0, 1));
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_runs_the_plan_first() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Probe, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let engine = world.engine(&executor, compensated(&world, &executor)).await;
    let id = accept(&engine, alert("a").native()).await;
    gate.reached().await;
    world.cancel(id).await;
    world.until(id, "folded the cancel", |head| head.folded_request == 1).await;
    gate.open();
    assert_eq!(world.until_ended(id).await, State::Cancelled);
    assert_eq!((world.effects(id, 1, 0), world.calls(id, 1, 1)), (1, 0));
    assert_eq!((world.compensations(id, 0), world.compensations(id, 1)), (1, 1));
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_runs_the_plan_first_and_cannot_end_it() {
    let world = World::new();
    let slow = Do::slowly(8 * SECOND, Do::Succeed);
    let script = Script::new().step(1, [Do::when_stopped(Do::Fail)]).compensation(0, [slow.clone()]);
    let executor = world.executor(Policy::Rerun, script.compensation(1, [slow]));
    let engine = world.engine(&executor, compensated(&world, &executor).deadline(5 * SECOND)).await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(world.until_ended(id).await, State::TimedOut);
    assert_eq!((world.compensations(id, 0), world.compensations(id, 1)), (1, 1));
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_while_compensating_is_recorded_and_changes_nothing() {
    let world = World::new();
    let gate = Gate::new();
    let script = Script::new().step(0, [Do::Fail]).compensation(0, [Do::behind(&gate, Do::Succeed)]);
    let executor = world.executor(Policy::Rerun, script);
    let engine = world.engine(&executor, compensated(&world, &executor)).await;
    let id = accept(&engine, alert("a").native()).await;
    gate.reached().await;
    world.cancel(id).await;
    world.until(id, "folded the cancel", |head| head.folded_request == 1).await;
    gate.open();
    assert_eq!(world.until_ended(id).await, State::Failed);
    assert_eq!((world.compensations(id, 0), world.compensations(id, 1)), (1, 1));
    world.judge().await;
}

/// At its limit the step under way is settled, the rest is noted as not run, the outcome owed is given.
#[tokio::test(start_paused = true)]
async fn the_limit_of_a_compensation_ends_a_hanging_step_and_a_long_wait() {
    for first in [Do::when_stopped(Do::Fail), Do::Hang, Do::Retry(Some(MINUTE))] {
        let world = World::new();
        let script = Script::new().step(0, [Do::Fail]).compensation(0, [first.clone(), Do::Succeed]);
        let executor = world.executor(Policy::Probe, script);
        let long = |n| step(&executor, n).timeout(5 * MINUTE).tries(3, 2 * MINUTE, 4 * MINUTE);
        let strategy = world
            .strategy(&executor, 1)
            .compensate(long(0))
            .compensate(long(1))
            .compensation_limit(10 * SECOND);
        let engine = world.engine(&executor, strategy).await;
        let id = accept(&engine, alert("a").native()).await;
        let (ended, took) = timed(world.until_ended(id)).await;
        assert_eq!(ended, State::Failed);
        assert!(world.story(id).await.contains("step_not_run"), "{first:?}: {}", world.story(id).await);
        assert!(took < 20 * SECOND, "{first:?} took {took:?}");
        assert_eq!((world.compensations(id, 0), world.compensations(id, 1)), (0, 0));
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_compensation_step_in_doubt_waits_for_a_person_and_goes_on() {
    for (decision, state) in [
        (Decision::Happened, State::Failed),
        (Decision::DidNotHappen, State::Failed),
        (Decision::GiveUp, State::Failed),
    ] {
        let world = World::new();
        let script = Script::new().step(0, [Do::Fail]).compensation(0, [Do::LoseRequest, Do::Succeed]);
        let executor = world.executor(Policy::Halt, script);
        let engine = world.engine(&executor, compensated(&world, &executor)).await;
        let id = accept(&engine, alert("a").native()).await;
        world.until_state(id, State::Suspended).await;
        world.decide(id, decision).await;
        assert_eq!(world.until_ended(id).await, state);
        let rest = u32::from(decision != Decision::GiveUp);
        assert_eq!(world.compensations(id, 1), rest, "{decision}");
    }
}

/// What a person takes to decide is not taken from the plan: the step is called again, and the rest of it runs.
#[tokio::test(start_paused = true)]
async fn the_compensations_limit_stands_still_while_a_person_thinks() {
    let world = World::new();
    let script = Script::new().step(0, [Do::Fail]).compensation(0, [Do::LoseRequest, Do::Succeed]);
    let executor = world.executor(Policy::Halt, script);
    let strategy = compensated(&world, &executor).compensation_limit(30 * SECOND);
    let engine = world.engine(&executor, strategy).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_state(id, State::Suspended).await;
    tokio::time::sleep(5 * MINUTE).await;
    world.decide(id, Decision::DidNotHappen).await;
    assert_eq!(world.until_ended(id).await, State::Failed);
    assert_eq!(world.compensations(id, 1), 1, "{}", world.story(id).await);
    world.judge().await;
}
