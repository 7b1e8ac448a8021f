//! What a reviewer with fresh eyes broke: pauses, cancels and panics that come between the tries of a step.

use std::sync::atomic::{AtomicBool, Ordering};

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::event::Event;
use redress_engine::operation_log::fold::StepResult;
use redress_engine::operation_log::{Operation, OperationLog as _, Owe, SessionId};
use redress_testkit::{Crash, Do, ProbeSays, Script, SequentialIds, alert::alert};

use crate::world::{HOUR, MINUTE, SECOND, World, accept};

#[tokio::test(start_paused = true)]
async fn a_pause_between_two_tries_holds_back_the_next() {
    for policy in [Policy::Rerun, Policy::Probe, Policy::Halt] {
        let world = World::new();
        let executor = world.executor(policy, Script::new().step(0, [Do::Retry(None), Do::Succeed]));
        let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
        let id = accept(&engine, alert("a").native()).await;
        world.until(id, "try failed", |head| head.seq == 2).await;
        world.pause("engine").await;
        tokio::time::sleep(MINUTE).await;
        assert_eq!(world.calls(id, 1, 0), 1, "{policy}: {}", world.story(id).await);
        world.resume("engine").await;
        assert_eq!(world.until_ended(id).await, State::Restored, "{policy}");
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_back_what_a_crash_left_in_doubt() {
    for policy in [Policy::Rerun, Policy::Probe] {
        let world = World::new();
        let crash = Crash::at(2);
        let executor = world.executor(policy, Script::new());
        let first = world.mortal(&crash, &executor, world.strategy(&executor, 1)).await;
        let sender = first.sender();
        tokio::spawn(async move { sender.send(alert("a").native()).await });
        crash.happened().await;
        let id = SequentialIds::nth(1);
        world.pause("engine").await;
        let before = world.calls(id, 1, 0);
        let _second = world.engine(&executor, world.strategy(&executor, 1)).await;
        tokio::time::sleep(MINUTE).await;
        assert_eq!(world.calls(id, 1, 0), before, "{policy}: {}", world.story(id).await);
        world.resume("engine").await;
        assert_eq!(world.until_ended(id).await, State::Restored, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
#[ignore = "takes 5 s: ./test runs it"]
async fn a_cancel_after_a_crash_in_the_second_try_never_calls_done_failed() {
    for policy in [Policy::Rerun, Policy::Probe, Policy::Halt] {
        for point in 0..14 {
            let world = World::new();
            let crash = Crash::at(point);
            let script = Script::new().step(0, [Do::Retry(None), Do::Succeed]);
            let executor = world.executor(policy, script);
            let first = world.mortal(&crash, &executor, world.strategy(&executor, 2)).await;
            let sender = first.sender();
            tokio::spawn(async move { sender.send(alert("a").native()).await });
            tokio::select! {
                () = crash.happened() => {}
                () = tokio::time::sleep(30 * SECOND) => break,
            }
            let id = SequentialIds::nth(1);
            let head = world.log_operation(id).await;
            if head.is_none_or(|head| head.state.is_ended()) {
                continue;
            }
            world.log.close_session(SessionId(1)).await.unwrap();
            world.cancel(id).await;
            let _second = world.engine(&executor, world.strategy(&executor, 2)).await;
            tokio::time::sleep(30 * SECOND).await;
            let result = world.fold(id).await.steps.first().and_then(|step| step.result);
            let failed = matches!(result, Some(StepResult::Failed(_) | StepResult::Withdrawn));
            let story = world.story(id).await;
            assert!(!failed || world.effects(id, 1, 0) == 0, "{policy}, crash {point}: {story}");
            world.judge().await;
        }
    }
}

/// Panics once, while the result of a step is being appended.
struct PanicsOnce(AtomicBool);

impl redress_engine::Obligations for PanicsOnce {
    fn owed(&self, _: &Operation, events: &[Event]) -> Vec<Owe> {
        let succeeded = events.iter().any(|event| matches!(event, Event::StepSucceeded { .. }));
        assert!(!succeeded || self.0.swap(true, Ordering::Relaxed), "on purpose");
        Vec::new()
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_panics_gives_its_operation_up() {
    let world = World::new();
    let executor = world.executor(Policy::Probe, Script::new());
    let builder = world.builder().obligations(PanicsOnce(AtomicBool::new(false)));
    let engine = world.start(builder, &executor, world.strategy(&executor, 2)).await;
    let id = accept(&engine, alert("a").native()).await;
    tokio::time::timeout(HOUR, world.until_ended(id)).await.unwrap();
    assert_eq!(world.state(id).await, State::Restored);
    assert_eq!(world.effects(id, 1, 0), 1, "{}", world.story(id).await);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_during_a_probe_keeps_the_step_from_being_called() {
    let world = World::new();
    let script = Script::new().step(0, [Do::Retry(None), Do::Succeed]);
    let executor = world.executor(Policy::Probe, script).probe_takes(5 * SECOND);
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until(id, "try failed", |head| head.seq == 2).await;
    tokio::time::sleep(3 * SECOND).await;
    world.cancel(id).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(world.effects(id, 1, 0), 0, "{}", world.story(id).await);
    assert_eq!(world.state(id).await, State::Cancelled);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_permanent_answer_does_not_erase_an_earlier_doubt() {
    let world = World::new();
    let executor = world.executor(
        Policy::Rerun,
        Script::new().step(0, [Do::LoseReply, Do::Fail, Do::Fail, Do::Fail, Do::Fail]),
    );
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_state(id, State::Suspended).await;
    assert_eq!(world.effects(id, 1, 0), 1, "{}", world.story(id).await);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn being_stopped_is_no_try_of_a_step_that_may_be_called_again() {
    let world = World::new();
    let stopped = Do::when_stopped(Do::Retry(None));
    let tries = std::iter::repeat_n(stopped, 8).chain([Do::Succeed]);
    let executor = world.executor(Policy::Rerun, Script::new().step(0, tries));
    let strategy = world.strategy(&executor, 1);
    let mut engine = world.engine(&executor, strategy.clone()).await;
    let id = accept(&engine, alert("a").native()).await;
    for call in 1..=8 {
        world.until(id, "was called again", |_| world.calls(id, 1, 0) >= call).await;
        engine.shutdown().await;
        assert_eq!(world.state(id).await, State::RollingBack, "{}", world.story(id).await);
        engine = world.engine(&executor, strategy.clone()).await;
    }
    assert_eq!(world.until_ended(id).await, State::Restored, "{}", world.story(id).await);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_cannot_be_asked_adds_no_doubt_where_there_was_none() {
    let world = World::new();
    let silent = std::iter::repeat_n(ProbeSays::Unknown, 64);
    let executor = world.executor(Policy::Probe, Script::always(Do::Retry(None))).probe_says(silent);
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(world.until_ended(id).await, State::Failed, "{}", world.story(id).await);
    assert_eq!(world.effects(id, 1, 0), 0);
    world.judge().await;
}
