//! One step: every policy and every way it can go; timeouts, retries, and what each failure means.

use std::fmt::Write as _;

use expect_test::expect;
use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::OperationHistory as _;
use redress_engine::strategy::OnError;
use redress_testkit::{Do, Gate, ProbeSays, Script, alert::alert};

use crate::world::{MINUTE, SECOND, World, accept, step, timed};

#[tokio::test(start_paused = true)]
async fn every_policy_and_every_outcome() {
    let scripts: [(&str, Vec<Do>); 10] = [
        ("succeeds", vec![Do::Succeed]),
        ("fails", vec![Do::Fail]),
        ("later", vec![Do::Retry(None), Do::Succeed]),
        ("never", vec![Do::Retry(None)]),
        ("reply lost", vec![Do::LoseReply, Do::Succeed]),
        ("request lost", vec![Do::LoseRequest, Do::Succeed]),
        ("always lost", vec![Do::LoseRequest]),
        ("hangs once", vec![Do::Hang, Do::Succeed]),
        ("panics once", vec![Do::Panic, Do::Succeed]),
        ("stops late", vec![Do::when_stopped(Do::LoseRequest), Do::Succeed]),
    ];
    let mut table = String::new();
    for (name, tries) in scripts {
        for policy in [Policy::Rerun, Policy::Probe, Policy::Halt] {
            let world = World::new();
            let executor = world.executor(policy, Script::new().step(0, tries.clone()));
            let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
            let id = accept(&engine, alert("a").native()).await;
            let head = world.until(id, "came to rest", |head| head.wake_at.is_none()).await;
            let effects = world.effects(id, 1, 0);
            let story = world.story(id).await;
            let story = story.strip_prefix("accepted admitted step_started | ").unwrap_or(&story);
            let state = head.state;
            writeln!(table, "{name:12} {policy:5} {state:9} {effects} {story}").unwrap();
            world.judge().await;
        }
    }
    expect![[r#"
        succeeds     rerun restored  1 step_succeeded verification_started | verification_passed
        succeeds     probe restored  1 step_succeeded verification_started | verification_passed
        succeeds     halt  restored  1 step_succeeded verification_started | verification_passed
        fails        rerun failed    0 step_failed failed
        fails        probe failed    0 step_failed failed
        fails        halt  failed    0 step_failed failed
        later        rerun restored  1 try_failed | step_resumed | step_succeeded verification_started | verification_passed
        later        probe restored  1 try_failed | step_resumed | step_succeeded verification_started | verification_passed
        later        halt  restored  1 try_failed | step_resumed | step_succeeded verification_started | verification_passed
        never        rerun failed    0 try_failed | step_resumed | try_failed | step_resumed | step_failed failed
        never        probe failed    0 try_failed | step_resumed | try_failed | step_resumed | step_failed failed
        never        halt  failed    0 try_failed | step_resumed | try_failed | step_resumed | step_failed failed
        reply lost   rerun restored  2 try_failed | step_resumed | step_succeeded verification_started | verification_passed
        reply lost   probe restored  1 try_failed | step_resumed | step_succeeded verification_started | verification_passed
        reply lost   halt  suspended 1 try_failed suspended
        request lost rerun restored  1 try_failed | step_resumed | step_succeeded verification_started | verification_passed
        request lost probe restored  1 try_failed | step_resumed | try_failed | step_resumed | step_succeeded verification_started | verification_passed
        request lost halt  suspended 0 try_failed suspended
        always lost  rerun suspended 0 try_failed | step_resumed | try_failed | step_resumed | try_failed suspended
        always lost  probe failed    0 try_failed | step_resumed | try_failed | step_resumed | try_failed | step_resumed | try_failed | step_resumed | try_failed | step_resumed | step_failed failed
        always lost  halt  suspended 0 try_failed suspended
        hangs once   rerun restored  1 try_failed | step_resumed | step_succeeded verification_started | verification_passed
        hangs once   probe restored  1 try_failed | step_resumed | try_failed | step_resumed | step_succeeded verification_started | verification_passed
        hangs once   halt  suspended 0 try_failed suspended
        panics once  rerun restored  1 try_failed | step_resumed | step_succeeded verification_started | verification_passed
        panics once  probe restored  1 try_failed | step_resumed | try_failed | step_resumed | step_succeeded verification_started | verification_passed
        panics once  halt  suspended 0 try_failed suspended
        stops late   rerun restored  1 try_failed | step_resumed | step_succeeded verification_started | verification_passed
        stops late   probe restored  1 try_failed | step_resumed | try_failed | step_resumed | step_succeeded verification_started | verification_passed
        stops late   halt  suspended 0 try_failed suspended
    "#]].assert_eq(&table);
}

#[tokio::test(start_paused = true)]
async fn on_error_decides_what_a_failure_means() {
    let rows = [
        (OnError::Continue, State::Restored, 1, 0),
        (OnError::Abort, State::Failed, 0, 0),
        (OnError::Rollback, State::Failed, 0, 1),
        (OnError::Suspend, State::Suspended, 0, 0),
    ];
    for (on_error, state, next, compensated) in rows {
        let world = World::new();
        let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::Fail]));
        let strategy = redress_engine::strategy::Strategy::builder("fix")
            .step(step(&executor, 0).on_error(on_error))
            .step(step(&executor, 1))
            .compensate(step(&executor, 0))
            .check(&world.check, SECOND);
        let engine = world.engine(&executor, strategy).await;
        let id = accept(&engine, alert("a").native()).await;
        let head = world.until(id, "came to rest", |head| head.wake_at.is_none()).await;
        assert_eq!(head.state, state, "{on_error}");
        assert_eq!((world.effects(id, 1, 1), world.compensations(id, 0)), (next, compensated), "{on_error}");
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn tries_back_off_and_honour_the_targets_wish() {
    let world = World::new();
    let tries = [Do::Retry(None), Do::Retry(Some(6 * SECOND)), Do::Succeed];
    let executor = world.executor(Policy::Rerun, Script::new().step(0, tries));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    let start = world.log_now();
    let (ended, _) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Restored);
    let entries = redress_testkit::judge::entries(&world.log, id).await.unwrap();
    let at: Vec<_> = entries.iter().map(|entry| entry.recorded_at.since(start)).collect();
    // Each further try is announced first (entries 2 and 4). Between half of one second and one second; then at
    // least what was asked for.
    assert!(at[2] >= SECOND / 2 && at[2] <= SECOND + SECOND / 10, "{at:?}");
    assert!(at[4] - at[3] >= 6 * SECOND && at[4] - at[3] <= 7 * SECOND, "{at:?}");
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_longer_than_the_maximum_is_cut() {
    let world = World::new();
    let executor =
        world.executor(Policy::Rerun, Script::new().step(0, [Do::Retry(Some(60 * MINUTE)), Do::Succeed]));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Restored);
    assert!(took < 20 * SECOND, "{took:?}");
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_result_that_comes_too_late_is_kept_with_the_reason() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Halt, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_state(id, State::Suspended).await;
    gate.open();
    tokio::time::sleep(SECOND).await;
    let late = world.log.late_results(id).await.unwrap();
    expect!["1: succeeded: done (no answer within 10.0s)"].assert_eq(&format!(
        "{}: {} ({})",
        late.len(),
        late[0].said,
        late[0].reason
    ));
    assert_eq!(world.state(id).await, State::Suspended);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn probes_that_cannot_answer_end_with_a_person() {
    for says in [ProbeSays::Unknown, ProbeSays::Hang, ProbeSays::Panic] {
        let world = World::new();
        let executor = world.executor(Policy::Probe, Script::new().step(0, [Do::LoseReply]));
        let executor = executor.probe_says([says; 20]);
        let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
        let id = accept(&engine, alert("a").native()).await;
        world.until_state(id, State::Suspended).await;
        assert_eq!(world.effects(id, 1, 0), 1);
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_refused_fails_the_step() {
    let world = World::new();
    let executor = world.executor(Policy::Probe, Script::new().step(0, [Do::LoseRequest]));
    let executor = executor.probe_says([ProbeSays::Unknown, ProbeSays::Refused]);
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(world.until_ended(id).await, State::Failed);
    assert_eq!(world.calls(id, 1, 0), 1);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_settles_what_runs_first() {
    let rows = [
        (Policy::Rerun, Do::when_stopped(Do::Succeed), State::TimedOut),
        (Policy::Rerun, Do::Hang, State::Suspended),
        (Policy::Probe, Do::Hang, State::TimedOut),
        (Policy::Probe, Do::when_stopped(Do::LoseReply), State::TimedOut),
        (Policy::Halt, Do::Hang, State::Suspended),
        (Policy::Halt, Do::when_stopped(Do::Fail), State::TimedOut),
        (Policy::Halt, Do::Retry(None), State::TimedOut),
    ];
    for (policy, act, state) in rows {
        let world = World::new();
        let executor = world.executor(policy, Script::new().step(0, [act.clone()]));
        let strategy = redress_engine::strategy::Strategy::builder("fix")
            .step(step(&executor, 0).timeout(5 * MINUTE).tries(9, MINUTE, MINUTE))
            .step(step(&executor, 1))
            .check(&world.check, SECOND)
            .deadline(20 * SECOND);
        let engine = world.engine(&executor, strategy).await;
        let id = accept(&engine, alert("a").native()).await;
        let (head, took) = timed(world.until(id, "came to rest", |head| head.wake_at.is_none())).await;
        assert_eq!(head.state, state, "{policy} {act:?}: {}", world.story(id).await);
        assert!(took < 30 * SECOND, "{policy} {act:?}: {took:?}");
        assert_eq!(world.calls(id, 1, 1), 0);
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_result_that_comes_too_late_no_more_is_kept_than_of_others() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Halt, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let config = redress_engine::Config { output_bytes_max: 7, ..Default::default() };
    let builder = world.builder().config(config);
    let engine = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_state(id, State::Suspended).await;
    gate.open();
    tokio::time::sleep(SECOND).await;
    assert_eq!(world.log.late_results(id).await.unwrap()[0].said, "succeed");
    world.judge().await;
}

/// What is asked to stop has no longer for that than its step has.
#[tokio::test(start_paused = true)]
async fn a_step_that_is_asked_to_stop_keeps_its_limit() {
    for stops in [true, false] {
        let world = World::new();
        let executor = world.executor(Policy::Halt, Script::new().step(0, [Do::Hang]));
        let config = redress_engine::Config { grace: 5 * MINUTE, ..Default::default() };
        let builder = world.builder().config(config);
        let engine = world.start(builder, &executor, world.strategy(&executor, 1)).await;
        let id = accept(&engine, alert("a").native()).await;
        world.until(id, "was called", |_| world.calls(id, 1, 0) == 1).await;
        let ((), took) = if stops {
            timed(engine.shutdown()).await
        } else {
            world.cancel(id).await;
            let (_, took) = timed(world.until_state(id, State::Suspended)).await;
            ((), took)
        };
        assert!(took < 15 * SECOND, "{took:?}");
        world.judge().await;
    }
}
