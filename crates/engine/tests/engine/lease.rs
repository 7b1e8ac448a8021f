//! How long a lease surely lasts, and what is let go of at once.

use std::sync::Arc;
use std::time::Duration;

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::strategy::OnError;
use redress_engine::types::OperationId;
use redress_engine::{Config, Engine};
use redress_testkit::{
    Act, Do, FaultyLog, Gate, Pager, Script, ScriptedExecutor, TestClock, When, alert::alert,
};

use crate::world::{HOUR, MINUTE, SECOND, World, accept, step, timed};

/// The lease that engines have here unless they are told otherwise.
const LEASE: Duration = Duration::from_secs(30);

async fn idle(world: &World) -> (Engine, FaultyLog) {
    let executor = world.executor(Policy::Rerun, Script::new());
    world.faulty(&executor, world.strategy(&executor, 1)).await
}

/// A lease counts from before it was asked for, not from the answer: after the last renewal the engine stops before
/// the log may give what it holds to another.
#[tokio::test(start_paused = true)]
async fn it_is_counted_from_before_it_was_asked_for() {
    let world = World::new();
    let (engine, log) = idle(&world).await;
    log.hook(|moment| match (moment.method, moment.call) {
        ("renew_session", 2..) => Act::Fail,
        _ => Act::GoOn,
    });
    let ((), took) = timed(engine.lost()).await;
    // Renewed once, after a third.
    assert!((LEASE..LEASE / 3 + LEASE).contains(&took), "{took:?}");
    world.judge().await;
}

/// Whose session is over by the log's own clock is told so by the next renewal, and acts no more, whatever its own
/// counting says.
#[tokio::test(start_paused = true)]
async fn a_session_that_the_log_has_ended_is_over_at_the_next_renewal() {
    let world = World::new();
    let (engine, log) = idle(&world).await;
    let clock = world.clock.clone();
    log.hook(move |moment| {
        if (moment.method, moment.call, moment.when) == ("renew_session", 1, When::Before) {
            clock.advance(HOUR);
        }
        Act::GoOn
    });
    let ((), took) = timed(engine.lost()).await;
    assert!(took < LEASE / 2, "{took:?}");
    world.judge().await;
}

/// Acting, and left by an engine that is gone; its step may take long.
async fn left_while_acting(world: &World, executor: &ScriptedExecutor, gate: &Gate) -> OperationId {
    let strategy = world.strategy(executor, 0).step(step(executor, 0).timeout(20 * MINUTE));
    let engine = world.engine(executor, strategy).await;
    let id = accept(&engine, alert("a").native()).await;
    gate.reached().await;
    engine.shutdown().await;
    id
}

/// An engine that cannot run a plan lets go of it each time it has looked: it holds it neither for the step's limit nor
/// for its own lease.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_run_here_is_kept_from_nobody() {
    let world = World::new();
    let gate = Gate::new();
    let executor =
        world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Fail), Do::Succeed]));
    let id = left_while_acting(&world, &executor, &gate).await;
    let else_ = ScriptedExecutor::new("else", Policy::Rerun, &world.target, Script::new());
    let _unable = world.engine(&else_, world.strategy(&else_, 1)).await;
    for _ in 0..12 {
        tokio::time::sleep(7 * SECOND).await;
        assert_eq!(world.head(id).await.session, None, "{}", world.story(id).await);
    }
    let strategy = world.strategy(&executor, 0).step(step(&executor, 0).timeout(20 * MINUTE));
    let _able = world.engine(&executor, strategy).await;
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Restored, "{}", world.story(id).await);
    assert!(took < 20 * SECOND, "{took:?}");
    world.judge().await;
}

/// Whose clock is off takes over nothing, until it is right.
#[tokio::test(start_paused = true)]
async fn an_engine_whose_clock_is_off_claims_nothing() {
    let world = World::new();
    let gate = Gate::new();
    let executor =
        world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Fail), Do::Succeed]));
    let id = left_while_acting(&world, &executor, &gate).await;
    let clock = TestClock::new();
    clock.set(world.log_now().plus(5 * SECOND));
    let environment = redress_testkit::environment(&clock, &world.ids);
    let builder = Engine::builder(environment, Arc::new(world.log.clone())).check(world.check.clone());
    let strategy = world.strategy(&executor, 0).step(step(&executor, 0).timeout(20 * MINUTE));
    let _engine = world.start(builder, &executor, strategy).await;
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!((world.calls(id, 1, 0), world.head(id).await.session), (1, None));
    clock.set(world.log_now());
    assert_eq!(world.until_ended(id).await, State::Restored, "{}", world.story(id).await);
    world.judge().await;
}

/// A compensation that was cut off by its limit is never silent, also where every step that ran was done and what is
/// owed is what a person wanted.
#[tokio::test(start_paused = true)]
async fn a_cancelled_operation_whose_compensation_was_cut_off_calls_a_person() {
    let world = World::new();
    let pager = Pager::new();
    let script =
        Script::new().step(0, [Do::when_stopped(Do::Fail)]).compensation(0, [Do::when_stopped(Do::Succeed)]);
    let executor = world.executor(Policy::Rerun, script);
    let undo = |n| step(&executor, n).timeout(5 * MINUTE).on_error(OnError::Abort);
    let strategy =
        world.strategy(&executor, 1).compensate(undo(0)).compensate(undo(1)).compensation_limit(10 * SECOND);
    let config = Config { grace: SECOND, ..Config::default() };
    let builder = world.builder().config(config).escalation(pager.clone());
    let engine = world.start(builder, &executor, strategy).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until(id, "was called", |_| world.calls(id, 1, 0) == 1).await;
    world.cancel(id).await;
    assert_eq!(world.until_ended(id).await, State::Cancelled, "{}", world.story(id).await);
    assert_eq!((world.compensations(id, 0), world.compensations(id, 1)), (1, 0));
    tokio::time::sleep(MINUTE).await;
    assert_eq!(pager.calls().len(), 1, "{:?}", pager.calls());
    world.judge().await;
}
