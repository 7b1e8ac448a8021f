//! The spine: Received, RollingBack, Verifying, Restored, in as few commits as can be.

use std::future::poll_fn;
use std::pin::pin;

use expect_test::expect;
use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::{OperationHistory as _, OperationLog as _};
use redress_engine::{Disposition, strategy::Strategy};
use redress_testkit::{Do, Script, SequentialIds, alert::alert};

use crate::world::{SECOND, World, accept, submit};

#[tokio::test(start_paused = true)]
async fn n_steps_and_one_verification_cost_n_and_two_commits() {
    for steps in 1..=4_u32 {
        let world = World::new();
        let executor = world.executor(Policy::Rerun, Script::new());
        let engine = world.engine(&executor, world.strategy(&executor, steps as usize)).await;
        let before = world.log.commits();
        let receipt = submit(&engine, alert("a").native()).await;
        assert_eq!(receipt.disposition, Disposition::Accepted(State::RollingBack));
        let head = receipt.settled().await.unwrap().unwrap();
        assert_eq!(head.state, State::Restored);
        assert_eq!(world.log.commits() - before, u64::from(steps) + 2, "{}", world.story(head.id).await);
        for step in 0..steps {
            assert_eq!(world.effects(head.id, 1, step), 1);
        }
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_result_of_a_step_and_the_next_intent_share_an_entry() {
    let world = World::new();
    let executor = world.executor(Policy::Probe, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 2)).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_ended(id).await;
    expect!["accepted admitted step_started | step_succeeded step_started | step_succeeded verification_started | verification_passed"]
        .assert_eq(&world.story(id).await);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn watchers_see_each_entry_after_its_commit() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let mut watcher = engine.observe();
    let id = accept(&engine, alert("a").native()).await;
    world.until_ended(id).await;
    let mut states = Vec::new();
    while let Ok(seen) = watcher.try_recv() {
        assert!(world.head(id).await.seq >= seen.entry.seq);
        states.push(seen.state());
    }
    assert_eq!(states, [State::RollingBack, State::Verifying, State::Restored]);
}

/// Whoever waits for the end is told it then, and is not woken for each entry before.
#[tokio::test(start_paused = true)]
async fn a_receipt_that_waits_for_the_end_is_woken_once() {
    let world = World::new();
    // Time passes between two entries, so that each could wake it.
    let executor = world.executor(Policy::Rerun, Script::always(Do::slowly(SECOND, Do::Succeed)));
    let engine = world.engine(&executor, world.strategy(&executor, 3)).await;
    let receipt = submit(&engine, alert("a").native()).await;
    let mut driven = pin!(receipt.driven());
    let mut polls = 0;
    let state = poll_fn(|context| {
        polls += 1;
        driven.as_mut().poll(context)
    });
    assert_eq!(state.await, Some(State::Restored));
    assert_eq!(polls, 2, "when it began to wait, and at the end");
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn the_channel_gives_a_receipt_and_refuses_after_the_stop() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let sender = engine.sender();
    let receipt = sender.send(alert("a").native()).await.unwrap();
    assert_eq!(receipt.operation, Some(SequentialIds::nth(1)));
    receipt.settled().await.unwrap();
    let answered = sender.try_send(alert("b").service("other").native()).unwrap();
    answered.await.unwrap();
    engine.shutdown().await;
    assert!(sender.send(alert("c").native()).await.is_err());
    assert!(sender.try_send(alert("c").native()).is_err());
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_strategy_that_needs_what_is_not_there_is_refused_at_the_start() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy: Strategy = world.strategy(&executor, 1).build().unwrap();
    let error = world.builder().strategy(strategy).start().await.err().unwrap();
    expect![[r#"strategy "fix" needs executor do, which this engine does not have; register it before the strategy is used"#]]
        .assert_eq(&error.to_string());
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_cannot_run_a_plan_leaves_it_for_one_that_can() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [redress_testkit::Do::Retry(None)]));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    engine.shutdown().await;
    // This one has an executor of that name that promises something else.
    let other = world.executor(Policy::Halt, Script::new());
    let unable = world.engine(&other, world.strategy(&other, 1)).await;
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(world.state(id).await, State::RollingBack);
    assert_eq!(world.calls(id, 1, 0), 1);
    unable.shutdown().await;
    let able = world.executor(Policy::Rerun, Script::new());
    let _engine = world.engine(&able, world.strategy(&able, 1)).await;
    assert_eq!(world.until_ended(id).await, State::Restored);
    assert!(world.log.stuck().await.unwrap().is_empty());
    world.judge().await;
}
