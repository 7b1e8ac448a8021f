//! Stopping: what runs is settled or left so that the next engine knows what to do; nothing is in doubt without
//! need; and stopping takes no longer than the grace period.

use redress_engine::Config;
use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::OperationHistory as _;
use redress_testkit::{Act, Do, Gate, Script, ScriptedCheck, See, SequentialIds, When, alert::alert};

use crate::world::{HOUR, MINUTE, SECOND, World, accept, timed};

#[tokio::test(start_paused = true)]
async fn a_step_that_answers_when_asked_to_stop_is_settled_and_the_rest_goes_on_later() {
    for policy in [Policy::Rerun, Policy::Probe, Policy::Halt] {
        let world = World::new();
        let script = Script::new().step(0, [Do::when_stopped(Do::Succeed)]);
        let executor = world.executor(policy, script);
        let engine = world.engine(&executor, world.strategy(&executor, 2)).await;
        let id = accept(&engine, alert("a").native()).await;
        let ((), took) = timed(engine.shutdown()).await;
        assert!(took <= SECOND, "{took:?}");
        assert_eq!(world.effects(id, 1, 0), 1);
        assert_eq!(world.calls(id, 1, 1), 0);
        let _next = world.engine(&executor, world.strategy(&executor, 2)).await;
        // The second step was never sent, so also one that must not be repeated is not in doubt.
        let head = world.until(id, "ended or was suspended", |head| head.wake_at.is_none()).await;
        assert_eq!(head.state, State::Restored, "{policy}: {}", world.story(id).await);
        assert_eq!((world.effects(id, 1, 0), world.effects(id, 1, 1)), (1, 1));
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_an_executor_that_ignores_it() {
    let world = World::new();
    let executor = world.executor(Policy::Probe, Script::new().step(0, [Do::Hang, Do::Succeed]));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    let ((), took) = timed(engine.shutdown()).await;
    assert!(took <= 3 * SECOND, "{took:?}");
    let _next = world.engine(&executor, world.strategy(&executor, 1)).await;
    assert_eq!(world.until_ended(id).await, State::Restored);
    assert_eq!(world.effects(id, 1, 0), 1);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_a_check() {
    let world = World::seeing(ScriptedCheck::series("check", [See::Hang, See::Healthy]));
    let executor = world.executor(Policy::Probe, Script::new());
    let strategy = world.strategy(&executor, 1).check(&world.check, 10 * MINUTE);
    let engine = world.engine(&executor, strategy.clone()).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_state(id, State::Verifying).await;
    let ((), took) = timed(engine.shutdown()).await;
    assert!(took <= 2 * SECOND, "{took:?}");
    let _next = world.engine(&executor, strategy).await;
    assert_eq!(world.until_ended(id).await, State::Restored);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_between_two_tries_goes_on_with_the_next_engine() {
    let world = World::new();
    let executor = world.executor(Policy::Halt, Script::new().step(0, [Do::Retry(None), Do::Succeed]));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until(id, "failed a try", |head| head.seq == 2).await;
    let ((), took) = timed(engine.shutdown()).await;
    assert!(took < SECOND, "{took:?}");
    let _next = world.engine(&executor, world.strategy(&executor, 1)).await;
    assert_eq!(world.until_ended(id).await, State::Restored);
    assert_eq!(world.calls(id, 1, 0), 2);
    world.judge().await;
}

/// What waits between two tries under an older epoch is settled under the new one.
#[tokio::test(start_paused = true)]
async fn a_cancel_between_two_tries_while_no_engine_runs_is_carried_out_by_the_next() {
    for policy in [Policy::Rerun, Policy::Probe, Policy::Halt] {
        let world = World::new();
        let executor = world.executor(policy, Script::new().step(0, [Do::Retry(None), Do::Succeed]));
        let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
        let id = accept(&engine, alert("a").native()).await;
        world.until(id, "failed a try", |head| head.seq == 2).await;
        engine.shutdown().await;
        world.cancel(id).await;
        let _next = world.engine(&executor, world.strategy(&executor, 1)).await;
        assert_eq!(world.until_ended(id).await, State::Cancelled);
        assert_eq!(world.effects(id, 1, 0), 0);
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
#[ignore = "takes 4 s: ./test runs it"]
async fn a_deadline_that_passed_while_no_engine_ran_is_carried_out_by_the_next() {
    for (policy, script) in [
        (Policy::Rerun, Script::new().step(0, [Do::Retry(None), Do::Succeed])),
        (Policy::Probe, Script::new().step(0, [Do::Retry(None), Do::Succeed])),
        (Policy::Probe, Script::new().step(0, [Do::LoseReply])),
        (Policy::Probe, Script::new().step(0, [Do::Hang])),
    ] {
        let world = World::new();
        let executor = world.executor(policy, script);
        let engine = world.engine(&executor, world.strategy(&executor, 2)).await;
        let id = accept(&engine, alert("a").native()).await;
        tokio::time::sleep(SECOND / 10).await;
        engine.shutdown().await;
        tokio::time::sleep(HOUR).await;
        let _next = world.engine(&executor, world.strategy(&executor, 2)).await;
        assert_eq!(world.until_ended(id).await, State::TimedOut, "{}", world.story(id).await);
        assert_eq!(world.calls(id, 1, 1), 0);
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn verification_begins_again_with_the_next_engine() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy = world.strategy(&executor, 1).verification(30 * SECOND, 20 * SECOND, 2);
    let engine = world.engine(&executor, strategy.clone()).await;
    let id = accept(&engine, alert("a").native()).await;
    tokio::time::sleep(15 * SECOND).await;
    let ((), took) = timed(engine.shutdown()).await;
    assert!(took < SECOND, "{took:?}");
    let _next = world.engine(&executor, strategy).await;
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Restored);
    assert!(took >= 20 * SECOND, "{took:?}");
    world.judge().await;
}

/// The engine is asked to stop while each of its appends is under way.
#[tokio::test(start_paused = true)]
async fn stopping_at_each_append_leaves_nothing_in_doubt() {
    for policy in [Policy::Rerun, Policy::Probe, Policy::Halt] {
        for call in 1..=5 {
            for when in [When::Before, When::After] {
                let world = World::new();
                let executor = world.executor(policy, Script::new().step(1, [Do::Retry(None), Do::Succeed]));
                let (engine, log) = world.faulty(&executor, world.strategy(&executor, 2)).await;
                let gate = Gate::new();
                log.once("append", call, when, Act::Wait(gate.clone()));
                let sender = engine.sender();
                let accepted = tokio::spawn(async move { sender.send(alert("a").native()).await });
                gate.reached().await;
                let stopping = tokio::spawn(engine.shutdown());
                tokio::task::yield_now().await;
                gate.open();
                let ((), took) = timed(async { stopping.await.unwrap() }).await;
                assert!(took <= SECOND, "{policy} {call} {when:?}: {took:?}");
                let id = accepted.await.unwrap().unwrap().operation.unwrap();
                let _next = world.engine(&executor, world.strategy(&executor, 2)).await;
                let head = world.until(id, "ended or was suspended", |head| head.wake_at.is_none()).await;
                assert_eq!(
                    head.state,
                    State::Restored,
                    "{policy} {call} {when:?}: {}",
                    world.story(id).await
                );
                assert_eq!((world.effects(id, 1, 0), world.effects(id, 1, 1)), (1, 1));
                world.judge().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_before_acting_waits_on() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    accept(&engine, alert("a").native()).await;
    let waiting = accept(&engine, alert("b").label("deploy_id", "2").native()).await;
    assert_eq!(world.state(waiting).await, State::Blocked);
    gate.open();
    engine.shutdown().await;
    assert!(world.log.stuck().await.unwrap().is_empty());
    let _next = world.engine(&executor, world.strategy(&executor, 1)).await;
    assert_eq!(world.until_ended(waiting).await, State::Restored);
    world.judge().await;
}

/// The log is away at the moment in which a definite answer comes and the engine stops: the answer is not thrown away.
#[tokio::test(start_paused = true)]
async fn a_result_is_recorded_although_the_log_is_away_while_stopping() {
    let world = World::new();
    let executor = world.executor(Policy::Halt, Script::new().step(0, [Do::when_stopped(Do::Succeed)]));
    let (engine, log) = world.faulty(&executor, world.strategy(&executor, 2)).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until(id, "was called", |_| world.calls(id, 1, 0) == 1).await;
    let from = log.count("append");
    log.hook(move |moment| match moment.method {
        "append" if moment.call <= from + 3 => Act::Fail,
        _ => Act::GoOn,
    });
    engine.shutdown().await;
    assert_eq!(world.effects(id, 1, 0), 1);
    let _next = world.engine(&executor, world.strategy(&executor, 2)).await;
    let head = world.until(id, "ended or was suspended", |head| head.wake_at.is_none()).await;
    assert_eq!(head.state, State::Restored, "{}", world.story(id).await);
    world.judge().await;
}

/// Whoever stops it loses patience: the lease is not renewed for ever by an engine that does nothing.
#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_dropped_ends_with_the_lease() {
    let world = World::new();
    let executor = world.executor(Policy::Probe, Script::new().step(0, [Do::Hang, Do::Succeed]));
    let (engine, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
    accept(&engine, alert("a").native()).await;
    let gate = Gate::new();
    let silent = gate.clone();
    log.hook(move |moment| match moment.method {
        "renew_session" => Act::GoOn,
        _ => Act::Wait(silent.clone()),
    });
    assert!(tokio::time::timeout(SECOND / 10, engine.shutdown()).await.is_err());
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(world.log.status().await.unwrap().sessions, []);
    engine.lost().await;
    gate.open();
}

/// Nobody waits for the rest of its lease, and nobody takes it for one that acts.
#[tokio::test(start_paused = true)]
async fn an_engine_that_was_stopped_leaves_no_session_and_says_that_it_is_over() {
    let world = World::new();
    let script = Script::new().step(0, [Do::when_stopped(Do::slowly(SECOND / 2, Do::Succeed))]);
    let executor = world.executor(Policy::Rerun, script);
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until(id, "was called", |_| world.calls(id, 1, 0) == 1).await;
    assert!(engine.health().acts);
    let mut stopping = std::pin::pin!(engine.shutdown());
    assert!(futures_util::poll!(stopping.as_mut()).is_pending());
    assert!(!engine.health().acts, "it settles what it can, and begins nothing");
    let ((), took) = timed(stopping).await;
    assert!(took <= SECOND, "{took:?}");
    assert_eq!(world.log.status().await.unwrap().sessions, []);
    tokio::time::timeout(SECOND / 10, engine.lost()).await.unwrap();
    assert!(!engine.health().acts);
    world.judge().await;
}

/// While one call takes all of the grace time, another engine goes on with the rest.
#[tokio::test(start_paused = true)]
async fn what_is_let_go_of_is_anothers_before_the_engine_has_stopped() {
    let world = World::new();
    let script = Script::by(|key, call| match (key.operation == SequentialIds::nth(1), call) {
        (true, _) => Do::Hang,
        (false, 1) => Do::Retry(None),
        (false, _) => Do::Succeed,
    });
    let executor = world.executor(Policy::Halt, script);
    let config = Config { grace: 8 * SECOND, ..Config::default() };
    let builder = world.builder().config(config);
    let first = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    let hangs = accept(&first, alert("a").native()).await;
    let waits = accept(&first, alert("b").service("other").native()).await;
    world.until(waits, "failed a try", |head| head.seq == 2).await;
    let _second = world.engine(&executor, world.strategy(&executor, 1)).await;
    let ((), took) = timed(async {
        let mut stopping = std::pin::pin!(first.shutdown());
        assert!(futures_util::poll!(stopping.as_mut()).is_pending());
        tokio::select! {
            () = stopping.as_mut() => panic!("it stopped before the other one had ended"),
            ended = world.until_ended(waits) => assert_eq!(ended, State::Restored),
        }
        stopping.await;
    })
    .await;
    assert!(took > 7 * SECOND, "{took:?}");
    world.until_state(hangs, State::Suspended).await;
    world.judge().await;
}

/// What is under way may be settled for as long as the lease surely lasts.
#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_dropped_settles_what_it_can() {
    let world = World::new();
    let script = Script::new().step(0, [Do::slowly(5 * SECOND, Do::Succeed)]);
    let executor = world.executor(Policy::Halt, script);
    let config = Config { grace: 8 * SECOND, ..Config::default() };
    let builder = world.builder().config(config);
    let engine = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until(id, "was called", |_| world.calls(id, 1, 0) == 1).await;
    assert!(tokio::time::timeout(SECOND / 10, engine.shutdown()).await.is_err());
    engine.lost().await;
    let _next = world.engine(&executor, world.strategy(&executor, 1)).await;
    let head = world.until(id, "ended or was suspended", |head| head.wake_at.is_none()).await;
    assert_eq!(head.state, State::Restored, "{}", world.story(id).await);
    world.judge().await;
}
