//! Work is found at once: by an engine that looks by itself once an hour only.

use std::sync::Arc;

use redress_engine::Config;
use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_testkit::{Act, Do, FaultyLog, Gate, Script, When, alert::alert};

use crate::world::{HOUR, MINUTE, SECOND, World, accept, timed};

fn rarely() -> Config {
    Config { poll: HOUR, ..Config::default() }
}

/// Between the look and the listening there is no gap.
#[tokio::test(start_paused = true)]
async fn what_another_engine_lets_go_of_during_a_look() {
    let world = World::new();
    let script = Script::new().step(0, [Do::when_stopped(Do::Retry(None)), Do::Succeed]);
    let executor = world.executor(Policy::Rerun, script);
    let first = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&first, alert("a").native()).await;
    world.until(id, "was called", |_| world.calls(id, 1, 0) == 1).await;
    let log = FaultyLog::new(Arc::new(world.log.clone()));
    let gate = Gate::new();
    // What it sees of the log is from before the first engine stops.
    log.once("claim", 1, When::After, Act::Wait(gate.clone()));
    let builder = world.builder_on(Arc::new(log.clone())).config(rarely());
    let _second = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    gate.reached().await;
    first.shutdown().await;
    gate.open();
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Restored, "{}", world.story(id).await);
    assert!(took < MINUTE, "{took:?}");
    world.judge().await;
}

/// An operation that waits for a place, without the log having anything new to say.
#[tokio::test(start_paused = true)]
async fn a_place_that_becomes_free() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let builder = world.builder().config(Config { operations_at_work_max: 1, ..rarely() });
    let engine = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    let first = accept(&engine, alert("a").native()).await;
    let waits = accept(&engine, alert("b").service("other").native()).await;
    tokio::time::sleep(SECOND).await;
    gate.open();
    world.until_ended(first).await;
    let (ended, took) = timed(world.until_ended(waits)).await;
    assert_eq!(ended, State::Restored);
    assert!(took < MINUTE, "{took:?}");
    world.judge().await;
}

/// Small rounds follow each other without a pause.
#[tokio::test(start_paused = true)]
async fn more_than_one_look_takes() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let first = world.engine(&executor, world.strategy(&executor, 1)).await;
    world.pause("engine").await;
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(accept(&first, alert(&format!("{n}")).service(&format!("s{n}")).native()).await);
    }
    first.shutdown().await;
    world.resume("engine").await;
    tokio::time::sleep(5 * MINUTE).await;
    let gate = Gate::new();
    let slow = world.executor(Policy::Rerun, Script::always(Do::behind(&gate, Do::Succeed)));
    let builder = world.builder().config(rarely());
    let engine = world.start(builder, &slow, world.strategy(&slow, 1)).await;
    // Nothing ends meanwhile, so nothing but the looks themselves calls for the next one.
    tokio::time::sleep(SECOND).await;
    assert_eq!(engine.at_work().len(), 40);
    gate.open();
    for id in ids {
        assert_eq!(world.until_ended(id).await, State::Restored);
    }
    world.judge().await;
}

/// Held by an engine that lives, and nothing was heard of it for longer than its step may take.
#[tokio::test(start_paused = true)]
async fn what_a_living_engine_shows_no_sign_of_life_for() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let (first, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
    let gate = Gate::new();
    log.once("append", 2, When::Before, Act::Wait(gate.clone()));
    let id = accept(&first, alert("a").native()).await;
    gate.reached().await;
    let _second = world.engine(&executor, world.strategy(&executor, 1)).await;
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Restored, "{}", world.story(id).await);
    assert!(took < 2 * MINUTE, "{took:?}");
    assert!(first.health().acts, "it lives");
    gate.open();
    world.judge().await;
}

/// What is due and not to be had, because it needs a part that this engine lacks, keeps no engine busy.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_run_here_is_not_looked_at_in_a_circle() {
    let world = World::new();
    let gate = Gate::new();
    let script = Script::new().step(0, [Do::when_stopped(Do::Retry(None)), Do::behind(&gate, Do::Succeed)]);
    let executor = world.executor(Policy::Rerun, script);
    let first = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&first, alert("a").native()).await;
    world.until(id, "was called", |_| world.calls(id, 1, 0) == 1).await;
    first.shutdown().await;
    let other = redress_testkit::ScriptedExecutor::new("else", Policy::Rerun, &world.target, Script::new());
    let (_engine, log) = world.faulty(&other, world.strategy(&other, 1)).await;
    tokio::time::sleep(MINUTE).await;
    // Four looks a second, and what it cannot run once for each third of the lease.
    assert!(log.count("next_due") <= 250, "{} looks", log.count("next_due"));
    assert!(log.count("claim") <= 260, "{} claims", log.count("claim"));
    assert!(world.head(id).await.epoch.0 <= 10, "taken {} times", world.head(id).await.epoch.0);
    world.judge().await;
}

/// Where nothing is due, the log is asked for more than the time only to sweep.
#[tokio::test(start_paused = true)]
async fn where_nothing_is_due_nothing_is_claimed_but_to_sweep() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let (_engine, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
    tokio::time::sleep(5 * MINUTE).await;
    assert!((20..=31).contains(&log.count("claim")), "{}", log.count("claim"));
    world.judge().await;
}
