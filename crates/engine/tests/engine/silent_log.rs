//! A log that does not answer at all: what is under way goes on, is told to stop in time, and ends with the lease.

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::Request;
use redress_testkit::{Act, Do, FaultyLog, Gate, Script, When, alert::alert};

use crate::world::{MINUTE, SECOND, World, accept, timed};

/// Posts a request that is folded by an append which then waits at the gate.
async fn silence(world: &World, log: &FaultyLog, id: redress_engine::types::OperationId) -> Gate {
    let gate = Gate::new();
    log.once("append", 1, When::Before, Act::Wait(gate.clone()));
    let ends_at = world.log_now();
    world.post(id, "resolved", Request::Resolved { alert: "a".parse().unwrap(), ends_at }).await;
    gate.reached().await;
    gate
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_while_its_driver_waits_for_the_log() {
    let world = World::new();
    let script = Script::new().step(0, [Do::slowly(5 * SECOND, Do::Succeed)]);
    let executor = world.executor(Policy::Halt, script);
    let (engine, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until(id, "was called", |_| world.calls(id, 1, 0) == 1).await;
    let gate = silence(&world, &log, id).await;
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(world.effects(id, 1, 0), 1, "it was polled all the time");
    gate.open();
    assert_eq!(world.until_ended(id).await, State::Restored, "{}", world.story(id).await);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_noticed_while_its_driver_waits_for_the_log() {
    let world = World::new();
    // It does its work only when it is asked to stop, which is after 10 s.
    let script = Script::new().step(0, [Do::when_stopped(Do::Succeed)]);
    let executor = world.executor(Policy::Halt, script);
    let (engine, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until(id, "was called", |_| world.calls(id, 1, 0) == 1).await;
    let gate = silence(&world, &log, id).await;
    tokio::time::sleep(12 * SECOND).await;
    assert_eq!(world.effects(id, 1, 0), 1, "it was asked to stop");
    gate.open();
    assert_eq!(world.until_ended(id).await, State::Restored, "{}", world.story(id).await);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_lease_drops_a_call_whose_driver_waits_for_the_log() {
    let world = World::new();
    let script = Script::new().step(0, [Do::slowly(MINUTE, Do::Succeed), Do::Succeed]);
    let executor = world.executor(Policy::Rerun, script);
    let strategy = || {
        let step = redress_engine::strategy::Step::new("s", &executor).timeout(5 * MINUTE);
        redress_engine::strategy::Strategy::builder("fix").check(&world.check, SECOND).step(step)
    };
    let (engine, log) = world.faulty(&executor, strategy()).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until(id, "was called", |_| world.calls(id, 1, 0) == 1).await;
    let gate = Gate::new();
    let silent = gate.clone();
    log.hook(move |_| Act::Wait(silent.clone()));
    let ends_at = world.log_now();
    world.post(id, "resolved", Request::Resolved { alert: "a".parse().unwrap(), ends_at }).await;
    engine.lost().await;
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(world.effects(id, 1, 0), 0, "it was dropped with the lease");
    // Nothing hangs: neither the engine, nor whoever goes on.
    let ((), took) = timed(engine.shutdown()).await;
    assert!(took < MINUTE, "{took:?}");
    let _next = world.engine(&executor, strategy()).await;
    assert_eq!(world.until_ended(id).await, State::Restored, "{}", world.story(id).await);
    assert_eq!(world.effects(id, 1, 0), 1);
    gate.open();
    world.judge().await;
}
