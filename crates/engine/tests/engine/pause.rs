//! Switches: looked at before each step; time stands still; nothing that runs is torn.

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_testkit::{Act, Do, FaultyLog, Gate, Script, When, alert::alert};

use crate::world::{MINUTE, SECOND, World, accept, step};

#[tokio::test(start_paused = true)]
async fn a_pause_while_a_step_runs_holds_the_next_one() {
    for switch in ["engine", "strategy:fix", "target:default/shop"] {
        let world = World::new();
        let gate = Gate::new();
        let executor = world.executor(Policy::Halt, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
        let strategy = world.strategy(&executor, 2).deadline(MINUTE);
        let engine = world.engine(&executor, strategy).await;
        let id = accept(&engine, alert("a").native()).await;
        gate.reached().await;
        world.pause(switch).await;
        gate.open();
        world.until(id, "is paused", |head| head.seq == 2).await;
        assert!(world.fold(id).await.paused.is_some());
        tokio::time::sleep(10 * MINUTE).await;
        assert_eq!(world.head(id).await.epoch.0, 1, "nobody takes a paused operation from its engine");
        assert_eq!((world.calls(id, 1, 0), world.calls(id, 1, 1)), (1, 0));
        world.resume(switch).await;
        // The deadline stood still meanwhile.
        assert_eq!(world.until_ended(id).await, State::Restored, "{}", world.story(id).await);
        world.judge().await;
    }
}

/// The answer of the `n`th append is lost; it is repeated, and reaches the log, when the gate is open. What the repeat
/// answers is how things stand then.
fn lost_answer(log: &FaultyLog, n: u64) -> Gate {
    let (gate, nth) = (Gate::new(), log.count("append") + n);
    let waits = gate.clone();
    log.hook(move |moment| match (moment.method, moment.when) {
        ("append", When::After) if moment.call == nth => Act::Fail,
        ("append", When::Before) if moment.call == nth + 1 => Act::Wait(waits.clone()),
        _ => Act::GoOn,
    });
    gate
}

/// The switch goes off after the intent was made durable and before the call.
#[tokio::test(start_paused = true)]
async fn a_pause_between_intent_and_call_withdraws_the_intent() {
    let world = World::new();
    let executor = world.executor(Policy::Halt, Script::new());
    let (engine, log) = world.faulty(&executor, world.strategy(&executor, 2)).await;
    let gate = lost_answer(&log, 2);
    let id = accept(&engine, alert("a").native()).await;
    gate.reached().await;
    world.pause("target:default/shop").await;
    gate.open();
    world.until(id, "was withdrawn", |head| head.seq == 3).await;
    assert!(world.story(id).await.ends_with("step_withdrawn paused"), "{}", world.story(id).await);
    assert_eq!(world.calls(id, 1, 1), 0);
    world.resume("target:default/shop").await;
    assert_eq!(world.until_ended(id).await, State::Restored);
    assert_eq!((world.effects(id, 1, 0), world.effects(id, 1, 1)), (1, 1));
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_while_paused_is_carried_out() {
    for plan in [false, true] {
        let world = World::new();
        let gate = Gate::new();
        let executor = world.executor(Policy::Probe, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
        let mut strategy = world.strategy(&executor, 2);
        if plan {
            strategy = strategy.compensate(step(&executor, 0));
        }
        let engine = world.engine(&executor, strategy).await;
        let id = accept(&engine, alert("a").native()).await;
        gate.reached().await;
        world.pause("engine").await;
        gate.open();
        world.until(id, "is paused", |head| head.seq == 2).await;
        world.cancel(id).await;
        if plan {
            // A plan is steps, and steps wait for the switch.
            world.until_state(id, State::Compensating).await;
            tokio::time::sleep(MINUTE).await;
            assert_eq!(world.compensations(id, 0), 0);
            world.resume("engine").await;
        }
        assert_eq!(world.until_ended(id).await, State::Cancelled);
        assert_eq!(world.compensations(id, 0), u32::from(plan));
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_outlives_the_engine() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Probe, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let engine = world.engine(&executor, world.strategy(&executor, 2)).await;
    let id = accept(&engine, alert("a").native()).await;
    gate.reached().await;
    world.pause("engine").await;
    gate.open();
    world.until(id, "is paused", |head| head.seq == 2).await;
    engine.shutdown().await;
    let _next = world.engine(&executor, world.strategy(&executor, 2)).await;
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(world.calls(id, 1, 1), 0);
    world.resume("engine").await;
    assert_eq!(world.until_ended(id).await, State::Restored);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_switch_with_an_end_ends_by_itself() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    world.pause_until("engine", world.log_now().plus(30 * SECOND)).await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(world.state(id).await, State::Blocked);
    assert_eq!(world.until_ended(id).await, State::Restored);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_flickering_at_every_step_does_not_confuse_it() {
    let world = World::new();
    let slow = || [Do::slowly(SECOND, Do::Succeed)];
    let script = Script::new().step(0, slow()).step(1, slow()).step(2, slow());
    let executor = world.executor(Policy::Halt, script);
    let engine = world.engine(&executor, world.strategy(&executor, 3)).await;
    let id = accept(&engine, alert("a").native()).await;
    for _ in 0..200 {
        world.pause("engine").await;
        tokio::time::sleep(SECOND / 7).await;
        world.resume("engine").await;
        tokio::time::sleep(SECOND / 9).await;
    }
    assert_eq!(world.until_ended(id).await, State::Restored, "{}", world.story(id).await);
    for n in 0..3 {
        assert_eq!(world.effects(id, 1, n), 1);
    }
    world.judge().await;
}

/// A try that was announced and withdrawn by a pause begins the step again, but not its tries.
#[tokio::test(start_paused = true)]
async fn a_step_that_is_withdrawn_keeps_count_of_its_tries() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::always(Do::Retry(None)));
    let (engine, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
    // Begun, tried, and announced for the second try.
    let gate = lost_answer(&log, 3);
    let id = accept(&engine, alert("a").native()).await;
    gate.reached().await;
    world.pause("target:default/shop").await;
    gate.open();
    world.until(id, "was withdrawn", |head| head.seq == 4).await;
    assert!(world.story(id).await.ends_with("step_withdrawn paused"), "{}", world.story(id).await);
    world.resume("target:default/shop").await;
    assert_eq!(world.until_ended(id).await, State::Failed, "{}", world.story(id).await);
    assert_eq!(world.calls(id, 1, 0), 3, "{}", world.story(id).await);
    world.judge().await;
}

/// Another operation's switch was turned off once, long ago: that costs one look, not one a step.
#[tokio::test(start_paused = true)]
async fn switches_are_looked_at_when_they_have_changed_since_the_last_look() {
    let world = World::new();
    let executor = world.executor(Policy::Halt, Script::new());
    let (engine, log) = world.faulty(&executor, world.strategy(&executor, 5)).await;
    world.pause("target:default/other").await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(world.until_ended(id).await, State::Restored);
    assert_eq!(log.count("switches"), 1);
    world.judge().await;
}

/// Not to know whether it is paused is not to be free to call.
#[tokio::test(start_paused = true)]
async fn nothing_is_called_while_the_switches_cannot_be_read() {
    for stops in [false, true] {
        let world = World::new();
        let executor = world.executor(Policy::Halt, Script::new());
        let (engine, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
        world.pause("target:default/other").await;
        log.hook(|moment| if moment.method == "switches" { Act::Fail } else { Act::GoOn });
        let id = accept(&engine, alert("a").native()).await;
        tokio::time::sleep(5 * SECOND).await;
        assert_eq!(world.calls(id, 1, 0), 0);
        if stops {
            engine.shutdown().await;
        }
        log.hook(|_| Act::GoOn);
        let _next =
            if stops { Some(world.engine(&executor, world.strategy(&executor, 1)).await) } else { None };
        assert_eq!(world.until_ended(id).await, State::Restored, "{}", world.story(id).await);
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn however_many_are_paused_one_look_serves_them_all() {
    let world = World::new();
    let executor = world.executor(Policy::Halt, Script::always(Do::slowly(SECOND, Do::Succeed)));
    let (engine, log) = world.faulty(&executor, world.strategy(&executor, 2)).await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(accept(&engine, alert(&format!("{n}")).service(&format!("s{n}")).native()).await);
    }
    world.pause("engine").await;
    tokio::time::sleep(5 * SECOND).await;
    let before = log.count("switches");
    tokio::time::sleep(10 * SECOND).await;
    // The engine polls four times a second.
    let looks = log.count("switches") - before;
    assert!((1..=42).contains(&looks), "{looks}");
    world.resume("engine").await;
    for id in ids {
        assert_eq!(world.until_ended(id).await, State::Restored);
    }
    world.judge().await;
}
