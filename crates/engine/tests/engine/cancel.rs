//! Cancel at every point: at once before acting; else what runs is settled first.

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_testkit::{Act, Do, Gate, Script, ScriptedCheck, See, When, alert::alert};

use crate::world::{MINUTE, SECOND, World, accept, timed};

#[tokio::test(start_paused = true)]
async fn before_acting_it_is_cancelled_at_once() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    world.pause("engine").await;
    let id = accept(&engine, alert("a").native()).await;
    world.cancel(id).await;
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Cancelled);
    assert!(took < SECOND, "{took:?}");
    assert!(world.target.all().is_empty());
    world.judge().await;
}

/// What the step that runs does when it is asked to stop, and where that leads under each policy.
#[tokio::test(start_paused = true)]
async fn while_a_step_runs_it_is_settled_first() {
    let rows = [
        (Policy::Rerun, Do::when_stopped(Do::Succeed), State::Cancelled, 1),
        (Policy::Rerun, Do::when_stopped(Do::Retry(None)), State::Cancelled, 0),
        (Policy::Rerun, Do::Hang, State::Suspended, 0),
        (Policy::Probe, Do::when_stopped(Do::LoseReply), State::Cancelled, 1),
        (Policy::Probe, Do::when_stopped(Do::LoseRequest), State::Cancelled, 0),
        (Policy::Probe, Do::Hang, State::Cancelled, 0),
        (Policy::Halt, Do::when_stopped(Do::Succeed), State::Cancelled, 1),
        (Policy::Halt, Do::Hang, State::Suspended, 0),
    ];
    for (policy, act, state, effects) in rows {
        let world = World::new();
        let executor = world.executor(policy, Script::new().step(0, [act.clone()]));
        let engine = world.engine(&executor, world.strategy(&executor, 2)).await;
        let id = accept(&engine, alert("a").native()).await;
        world.cancel(id).await;
        let (head, took) = timed(world.until(id, "came to rest", |head| head.wake_at.is_none())).await;
        assert_eq!(head.state, state, "{policy} {act:?}: {}", world.story(id).await);
        assert!(took < 4 * SECOND, "{policy} {act:?}: {took:?}");
        assert_eq!((world.effects(id, 1, 0), world.calls(id, 1, 1)), (effects, 0), "{policy} {act:?}");
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn between_two_tries_it_is_not_tried_again() {
    for policy in [Policy::Rerun, Policy::Probe, Policy::Halt] {
        let world = World::new();
        let executor =
            world.executor(policy, Script::new().step(0, [Do::Retry(Some(8 * SECOND)), Do::Succeed]));
        let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
        let id = accept(&engine, alert("a").native()).await;
        world.until(id, "failed a try", |head| head.seq == 2).await;
        world.cancel(id).await;
        let (ended, took) = timed(world.until_ended(id)).await;
        assert_eq!(ended, State::Cancelled);
        assert!(took < SECOND, "{took:?}");
        assert_eq!(world.calls(id, 1, 0), 1);
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_verifying_it_ends_soon_also_when_a_check_hangs() {
    for see in [See::Unhealthy, See::Nothing, See::Hang] {
        let world = World::seeing(ScriptedCheck::always("check", see.clone()));
        let executor = world.executor(Policy::Rerun, Script::new());
        let strategy = redress_engine::strategy::Strategy::builder("fix")
            .step(crate::world::step(&executor, 0))
            .check(&world.check, MINUTE)
            .verification(10 * MINUTE, SECOND, 1);
        let engine = world.engine(&executor, strategy).await;
        let id = accept(&engine, alert("a").native()).await;
        world.until_state(id, State::Verifying).await;
        world.cancel(id).await;
        let (ended, took) = timed(world.until_ended(id)).await;
        assert_eq!(ended, State::Cancelled);
        assert!(took < 5 * SECOND, "{see:?} {took:?}");
        world.judge().await;
    }
}

/// The request arrives while each of the appends is under way: it is folded before the end, or refused at its
/// door because the end was first; it is never lost, and never cuts a step in two.
#[tokio::test(start_paused = true)]
async fn at_every_append() {
    for policy in [Policy::Rerun, Policy::Probe, Policy::Halt] {
        for call in 1..=4 {
            for when in [When::Before, When::After] {
                let world = World::new();
                let executor = world.executor(policy, Script::new());
                let (engine, log) = world.faulty(&executor, world.strategy(&executor, 2)).await;
                let gate = Gate::new();
                log.once("append", call, when, Act::Wait(gate.clone()));
                let id = redress_testkit::SequentialIds::nth(1);
                let sender = engine.sender();
                let sent = tokio::spawn(async move { sender.send(alert("a").native()).await });
                gate.reached().await;
                let before = world.log_operation(id).await;
                let asked = match before {
                    Some(head) if !head.state.is_ended() => {
                        world.cancel(id).await;
                        true
                    }
                    Some(_) | None => false,
                };
                gate.open();
                sent.await.unwrap().unwrap();
                let ended = world.until_ended(id).await;
                let wanted = if asked { State::Cancelled } else { State::Restored };
                assert_eq!(ended, wanted, "{policy} {call} {when:?}: {}", world.story(id).await);
                world.judge().await;
            }
        }
    }
}
