//! What holds an operation back before it acts, and what lets it go: each waiter is woken, none is forgotten.

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::OperationHistory as _;
use redress_engine::strategy::{Strategy, Trigger};
use redress_engine::types::Level;
use redress_testkit::{Do, Gate, Script, ScriptedExecutor, alert::alert};

use crate::world::{HOUR, MINUTE, SECOND, World, accept, step, timed};

#[tokio::test(start_paused = true)]
async fn a_cooldown_holds_and_lets_go_by_itself() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1).cooldown(10 * MINUTE)).await;
    let first = accept(&engine, alert("a").native()).await;
    world.until_ended(first).await;
    let second = accept(&engine, alert("b").native()).await;
    assert_eq!(world.state(second).await, State::Blocked);
    let (ended, took) = timed(world.until_ended(second)).await;
    assert_eq!(ended, State::Restored);
    assert!(took >= 9 * MINUTE && took <= 10 * MINUTE + 10 * SECOND, "{took:?}");
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_holds_until_its_window_moves_on() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1).strategy_rate(2, HOUR)).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(accept(&engine, alert(&format!("{n}")).service(&format!("s{n}")).native()).await);
    }
    world.until_ended(ids[1]).await;
    assert_eq!(world.state(ids[2]).await, State::Blocked);
    let (ended, took) = timed(world.until_ended(ids[2])).await;
    assert_eq!(ended, State::Restored);
    assert!(took > 59 * MINUTE && took < 61 * MINUTE, "{took:?}");
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_freed_slot_goes_to_the_worst_level_then_to_the_oldest() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let mut watcher = engine.observe();
    let first = accept(&engine, alert("first").native()).await;
    let levels = [("p2", Level::P2), ("old p1", Level::P1), ("new p1", Level::P1), ("p0", Level::P0)];
    for (id, level) in levels {
        let waiting = alert(id).level(level).label("deploy_id", id);
        accept(&engine, waiting.native()).await;
        tokio::time::sleep(SECOND).await;
    }
    gate.open();
    world.until_ended(first).await;
    let mut order = Vec::new();
    while order.len() < 5 {
        let seen = watcher.recv().await.unwrap();
        if seen.state().is_ended() {
            order.push(seen.operation.alert.id.as_str().to_owned());
        }
    }
    assert_eq!(order, ["first", "p0", "old p1", "new p1", "p2"]);
    world.judge().await;
}

/// Two strategies on one target: `first` rests a long time after each operation, `second` does not.
async fn two_strategies(world: &World, executor: &ScriptedExecutor) -> redress_engine::Engine {
    let strategy = |name: &str, rest| {
        let trigger = Trigger::Label { name: "by".into(), value: name.into() };
        Strategy::builder(name)
            .trigger(trigger)
            .step(step(executor, 0))
            .check(&world.check, SECOND)
            .cooldown(rest)
            .build()
            .unwrap()
    };
    let builder = world.builder().executor(executor.clone());
    builder.strategy(strategy("first", HOUR)).strategy(strategy("second", SECOND)).start().await.unwrap()
}

/// The first waiter is woken, cannot use the slot, and must not leave the others asleep beside a free slot.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_cannot_use_the_freed_slot_passes_it_on() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let engine = two_strategies(&world, &executor).await;
    let acting = accept(&engine, alert("a").label("by", "first").native()).await;
    let cooling = accept(&engine, alert("b").label("by", "first").label("deploy_id", "2").native()).await;
    let ready = accept(&engine, alert("c").label("by", "second").native()).await;
    assert_eq!((world.state(cooling).await, world.state(ready).await), (State::Blocked, State::Blocked));
    gate.open();
    world.until_ended(acting).await;
    let (ended, took) = timed(world.until_ended(ready)).await;
    assert_eq!(ended, State::Restored);
    assert!(took < MINUTE, "{took:?}");
    assert_eq!(world.until_ended(cooling).await, State::Restored);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_was_resolved_or_cancelled_passes_the_slot_on() {
    for cancel in [true, false] {
        let world = World::new();
        let gate = Gate::new();
        let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
        let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
        let acting = accept(&engine, alert("a").native()).await;
        let gone = accept(&engine, alert("b").label("deploy_id", "2").native()).await;
        let ready = accept(&engine, alert("c").label("deploy_id", "3").native()).await;
        gate.open();
        // No await between the two that lets an engine act: both are there when the slot is free.
        if cancel {
            world.cancel(gone).await;
        } else {
            accept(&engine, alert("b").resolved(world.log_now())).await;
        }
        world.until_ended(acting).await;
        world.until_ended(gone).await;
        assert_eq!(world.until_ended(ready).await, State::Restored);
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_does_not_wait_for_ever() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy = world.strategy(&executor, 1).waiting_limit(10 * MINUTE);
    let engine = world.engine(&executor, strategy).await;
    world.pause("target:default/shop").await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(world.state(id).await, State::Blocked);
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::TimedOut);
    assert!(took <= 10 * MINUTE + 10 * SECOND, "{took:?}");
    assert!(world.target.all().is_empty());
    world.judge().await;
}

/// A long verification or a long wait is not taken from an engine that is at it, not even by itself.
#[tokio::test(start_paused = true)]
async fn a_long_wait_after_a_takeover_is_not_taken_over_again() {
    let world = World::new();
    let executor = world.executor(Policy::Probe, Script::new());
    let strategy = world.strategy(&executor, 1).verification(10 * MINUTE, 3 * MINUTE, 1);
    let engine = world.engine(&executor, strategy.clone()).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_state(id, State::Verifying).await;
    engine.shutdown().await;
    let (one, _two) =
        (world.engine(&executor, strategy.clone()).await, world.engine(&executor, strategy).await);
    // Others come and go, so that engines have reason to look for work all the time.
    for n in 0..60 {
        if world.state(id).await.is_ended() {
            break;
        }
        world.pause("target:default/busy").await;
        let busy = accept(&one, alert(&format!("busy {n}")).service("busy").native()).await;
        world.resume("target:default/busy").await;
        world.cancel(busy).await;
        tokio::time::sleep(10 * SECOND).await;
    }
    let head = world.head(id).await;
    assert_eq!(head.state, State::Restored, "{}", world.story(id).await);
    assert_eq!(head.epoch.0, 2, "one takeover");
    world.judge().await;
}

/// A probe and a call that each take nearly their whole time are not taken over in the middle.
#[tokio::test(start_paused = true)]
async fn a_slow_probe_and_a_slow_call_are_not_taken_for_dead() {
    let world = World::new();
    let slow = Do::slowly(100 * SECOND, Do::Succeed);
    let executor =
        world.executor(Policy::Probe, Script::new().step(0, [Do::Retry(None), slow.clone(), slow]));
    let slow_probe = executor.clone().probe_takes(100 * SECOND);
    let strategy =
        Strategy::builder("fix").step(step(&slow_probe, 0).timeout(2 * MINUTE)).check(&world.check, SECOND);
    let one = world.engine(&slow_probe, strategy.clone()).await;
    // The other engine is asked quickly.
    let _two = world.engine(&executor, strategy).await;
    let id = accept(&one, alert("a").native()).await;
    for n in 0..60 {
        if world.state(id).await.is_ended() {
            break;
        }
        world.pause("target:default/busy").await;
        let busy = accept(&one, alert(&format!("busy {n}")).service("busy").native()).await;
        world.resume("target:default/busy").await;
        world.cancel(busy).await;
        tokio::time::sleep(10 * SECOND).await;
    }
    assert_eq!(world.until_ended(id).await, State::Restored);
    assert_eq!(world.effects(id, 1, 0), 1);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_stuck_while_everything_waits() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    world.pause("engine").await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(accept(&engine, alert(&format!("{n}")).service(&format!("s{n}")).native()).await);
    }
    tokio::time::sleep(HOUR).await;
    assert!(world.log.stuck().await.unwrap().is_empty());
    assert!(world.target.all().is_empty());
    world.resume("engine").await;
    for id in ids {
        assert_eq!(world.until_ended(id).await, State::Restored);
    }
    world.judge().await;
}
