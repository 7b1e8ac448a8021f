//! How long a lease surely lasts, and what is let go of at once.

use std::sync::Arc;
use std::time::Duration;

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::OperationHistory as _;
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

/// A renewal whose answer takes its time is a lease from when it was asked for: it is over as early as that says, and a
/// call that is under way is dropped before it may have ended, asked to stop or not, and however long the grace is.
#[tokio::test(start_paused = true)]
async fn what_is_under_way_ends_with_a_lease_whose_answer_was_slow() {
    for (asked, then) in [(false, Act::Fail), (true, Act::Wait(Gate::new()))] {
        let world = World::new();
        let script = Script::new().step(0, [Do::slowly(42 * SECOND, Do::Succeed)]);
        let executor = world.executor(Policy::Halt, script);
        let log = FaultyLog::new(Arc::new(world.log.clone()));
        let config = Config { grace: 5 * MINUTE, ..Config::default() };
        let strategy = world.strategy(&executor, 0).step(step(&executor, 0).timeout(20 * MINUTE));
        let builder = world.builder_on(Arc::new(log.clone())).config(config);
        let gate = Gate::new();
        let slow = gate.clone();
        log.hook(move |moment| match (moment.method, moment.call, moment.when) {
            ("renew_session", 1, When::After) => Act::Wait(slow.clone()),
            ("renew_session", 2.., _) => then.clone(),
            _ => Act::GoOn,
        });
        let (engine, took) = timed(world.start(builder, &executor, strategy)).await;
        assert!(took < SECOND, "{took:?}");
        let id = accept(&engine, alert("a").native()).await;
        if asked {
            world.until(id, "was called", |_| world.calls(id, 1, 0) == 1).await;
            world.cancel(id).await;
        }
        let begun = tokio::time::Instant::now();
        gate.reached().await;
        tokio::time::sleep(4 * SECOND).await;
        gate.open();
        engine.lost().await;
        // Asked for at a third: a sixth before its end nothing is done any more.
        assert!(begun.elapsed() <= LEASE / 3 + LEASE - LEASE / 6, "{:?}", begun.elapsed());
        tokio::time::sleep(10 * MINUTE).await;
        assert_eq!((world.calls(id, 1, 0), world.effects(id, 1, 0)), (1, 0), "it was dropped at 40 s");
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_at_a_third() {
    let world = World::new();
    let (_engine, log) = idle(&world).await;
    tokio::time::sleep(2 * LEASE + SECOND).await;
    assert_eq!(log.count("renew_session"), 6);
    world.judge().await;
}

/// It is too late to count, and early enough to be noted.
#[tokio::test(start_paused = true)]
async fn an_answer_in_the_last_sixth_of_the_lease_is_kept_beside_the_log() {
    let world = World::new();
    let script = Script::new().step(0, [Do::slowly(27 * SECOND, Do::Succeed)]);
    let executor = world.executor(Policy::Halt, script);
    let log = FaultyLog::new(Arc::new(world.log.clone()));
    let config = Config { grace: 5 * SECOND, ..Config::default() };
    let strategy = world.strategy(&executor, 0).step(step(&executor, 0).timeout(20 * MINUTE));
    let builder = world.builder_on(Arc::new(log.clone())).config(config);
    log.hook(|moment| if moment.method == "renew_session" { Act::Fail } else { Act::GoOn });
    let engine = world.start(builder, &executor, strategy).await;
    let id = accept(&engine, alert("a").native()).await;
    tokio::time::sleep(LEASE).await;
    let late = world.log.late_results(id).await.unwrap();
    let [late] = late.as_slice() else { panic!("{late:?}") };
    assert_eq!((late.said.as_str(), late.reason.as_str()), ("succeeded: done", "the lease was over"));
    assert_eq!(world.state(id).await, State::RollingBack);
    world.judge().await;
}

/// The answer to an append was lost, and before it was asked for again the session was over: it stands, and another
/// engine may have the operation.
#[tokio::test(start_paused = true)]
async fn what_was_announced_by_a_session_that_is_over_is_not_carried_out_by_it() {
    for announces in [1, 2] {
        let world = World::new();
        let executor = world.executor(Policy::Rerun, Script::new());
        let (engine, log) = world.faulty(&executor, world.strategy(&executor, 2)).await;
        let clock = world.clock.clone();
        log.hook(move |moment| match (moment.method, moment.call, moment.when) {
            ("append", call, When::After) if call == announces => {
                clock.advance(MINUTE);
                Act::Fail
            }
            _ => Act::GoOn,
        });
        let id = accept(&engine, alert("a").native()).await;
        engine.lost().await;
        let (head, calls) = (world.head(id).await, [world.calls(id, 1, 0), world.calls(id, 1, 1)]);
        assert_eq!((head.state, head.seq), (State::RollingBack, announces));
        assert_eq!(calls, [u32::from(announces == 2), 0], "{}", world.story(id).await);
        world.judge().await;
    }
}

/// Somebody else may have it: what is under way is dropped before anything more comes of it.
#[tokio::test(start_paused = true)]
async fn a_call_is_dropped_when_its_operation_is_lost() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Halt, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    gate.reached().await;
    world.clock.advance(MINUTE);
    // What it is told it cannot record any more.
    world.cancel(id).await;
    tokio::time::timeout(5 * SECOND, async {
        while !engine.at_work().is_empty() {
            tokio::time::sleep(SECOND / 100).await;
        }
    })
    .await
    .unwrap();
    gate.open();
    tokio::time::sleep(SECOND).await;
    assert_eq!((world.calls(id, 1, 0), world.effects(id, 1, 0)), (1, 0));
    world.judge().await;
}

/// The wall clock runs ahead, and with it the time from when any engine may take what is held: also the one that has it.
#[tokio::test(start_paused = true)]
async fn an_engine_does_not_take_over_from_itself() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Halt, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let strategy = world.strategy(&executor, 0).step(step(&executor, 0).timeout(2 * MINUTE)).deadline(HOUR);
    let engine = world.engine(&executor, strategy).await;
    let id = accept(&engine, alert("a").native()).await;
    gate.reached().await;
    for _ in 0..8 {
        world.clock.advance(15 * SECOND);
        tokio::time::sleep(11 * SECOND).await;
    }
    let head = world.head(id).await;
    assert_eq!((head.epoch.0, head.session), (1, Some(engine.health().session)));
    gate.open();
    assert_eq!(world.until_ended(id).await, State::Restored, "{}", world.story(id).await);
    assert_eq!(world.calls(id, 1, 0), 1);
    world.judge().await;
}
