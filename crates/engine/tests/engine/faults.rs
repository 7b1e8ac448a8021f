//! The log fails once, here or there: nothing is lost, nothing hangs, nothing is done twice.

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::event::Decision;
use redress_testkit::{Act, Do, Gate, Script, When, alert::alert};

use crate::world::{SECOND, World, accept};

#[tokio::test(start_paused = true)]
async fn an_append_whose_answer_is_lost_is_not_done_twice() {
    for call in 1..=4 {
        for when in [When::Before, When::After] {
            let world = World::new();
            let executor = world.executor(Policy::Halt, Script::new());
            let (engine, log) = world.faulty(&executor, world.strategy(&executor, 2)).await;
            log.once("append", call, when, Act::Fail);
            let id = accept(&engine, alert("a").native()).await;
            assert_eq!(world.until_ended(id).await, State::Restored);
            assert_eq!((world.effects(id, 1, 0), world.effects(id, 1, 1)), (1, 1));
            world.judge().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_away_for_a_while_stops_nothing_for_good() {
    let world = World::new();
    let executor = world.executor(Policy::Probe, Script::new());
    let (engine, log) = world.faulty(&executor, world.strategy(&executor, 2)).await;
    let gate = Gate::new();
    log.once("append", 2, When::Before, Act::Wait(gate.clone()));
    let id = accept(&engine, alert("a").native()).await;
    gate.reached().await;
    log.hook(|_| Act::Fail);
    gate.open();
    tokio::time::sleep(5 * SECOND).await;
    log.hook(|_| Act::GoOn);
    assert_eq!(world.until_ended(id).await, State::Restored);
    assert_eq!((world.effects(id, 1, 0), world.effects(id, 1, 1)), (1, 1));
    world.judge().await;
}

/// A verdict that was read at a bad moment must be read again.
#[tokio::test(start_paused = true)]
async fn a_verdict_is_not_lost_when_the_inbox_cannot_be_read_once() {
    let world = World::new();
    let executor = world.executor(Policy::Halt, Script::new().step(0, [Do::LoseReply, Do::Succeed]));
    let (engine, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_state(id, State::Suspended).await;
    log.once("inbox", 1, When::Before, Act::Fail);
    world.decide(id, Decision::Happened).await;
    assert_eq!(world.until_ended(id).await, State::Restored);
    world.judge().await;
}

/// The ending append was told to fold the inbox first, and the inbox could not be read at that moment.
#[tokio::test(start_paused = true)]
async fn an_ending_that_must_fold_first_goes_on_when_the_inbox_cannot_be_read_once() {
    let world = World::new();
    let executor = world.executor(Policy::Halt, Script::new());
    let (engine, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
    let gate = Gate::new();
    // The last append: verification passed.
    log.once("append", 3, When::Before, Act::Wait(gate.clone()));
    let id = accept(&engine, alert("a").problem("p").native()).await;
    gate.reached().await;
    let _other = joining(&world).await;
    log.once("inbox", 1, When::Before, Act::Fail);
    gate.open();
    assert_eq!(world.until_ended(id).await, State::Restored);
    assert_eq!(world.fold(id).await.alerts.len(), 2);
    world.judge().await;
}

/// Another engine over the same log, which joins an alert of the same problem.
async fn joining(world: &World) -> redress_engine::Engine {
    let executor = world.executor(Policy::Halt, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    accept(&engine, alert("b").problem("p").native()).await;
    engine
}

/// What was claimed and could not be read at that moment is read again.
#[tokio::test(start_paused = true)]
async fn an_operation_that_cannot_be_read_when_it_is_claimed_is_not_left_behind() {
    let world = World::new();
    let executor = world.executor(Policy::Probe, Script::new().step(0, [Do::Retry(None), Do::Succeed]));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    engine.shutdown().await;
    let (_engine, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
    log.once("entries", 1, When::Before, Act::Fail);
    assert_eq!(world.until_ended(id).await, State::Restored);
    world.judge().await;
}
