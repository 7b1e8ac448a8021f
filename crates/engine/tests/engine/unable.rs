//! Operations whose plan no engine at work can run: they still hear, their limits hold, they say what they wait for,
//! and they are in nobody's way.

use redress_engine::action::{self, ActionExecutor, Call, InDoubt, Output, Policy};
use redress_engine::fsm::State;
use redress_engine::operation_log::event::Decision;
use redress_engine::strategy::{Step, Strategy, Trigger};
use redress_engine::types::OperationId;
use redress_engine::{Engine, Registry};
use redress_testkit::{Act, Do, Gate, Pager, Script, ScriptedExecutor, alert::alert};

use crate::world::{HOUR, MINUTE, SECOND, World, accept, step, timed};

/// An engine that has nothing of what strategy `fix` needs, and a strategy of its own.
async fn other(world: &World, pager: &Pager) -> Engine {
    let executor = ScriptedExecutor::new("else", Policy::Rerun, &world.target, Script::new());
    let trigger = Trigger::Label { name: "by".into(), value: "else".into() };
    let strategy = Strategy::builder("other")
        .trigger(trigger)
        .step(step(&executor, 0))
        .check(&world.check, SECOND)
        .cooldown(std::time::Duration::ZERO);
    world.start(world.builder().escalation(pager.clone()), &executor, strategy).await
}

/// Accepted and Blocked by an engine that is gone.
async fn left_before_acting(world: &World, executor: &ScriptedExecutor) -> OperationId {
    let strategy = world.strategy(executor, 1).waiting_limit(HOUR);
    let engine = world.engine(executor, strategy).await;
    world.pause("strategy:fix").await;
    let id = accept(&engine, alert("a").native()).await;
    engine.shutdown().await;
    world.resume("strategy:fix").await;
    id
}

#[tokio::test(start_paused = true)]
async fn before_it_acts_it_says_what_it_waits_for_and_ends_with_its_waiting_limit() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let id = left_before_acting(&world, &executor).await;
    let due = world.head(id).await.wake_at.unwrap();
    let _other = other(&world, &Pager::new()).await;
    let says = |reason: &Option<String>| reason.as_ref().is_some_and(|why| why.contains("executor do"));
    let (head, took) = timed(world.until(id, "said what it waits for", |head| says(&head.reason))).await;
    assert_eq!(head.state, State::Blocked);
    assert!(head.updated_at >= due.plus(30 * SECOND), "for a lease it is left to whoever can run it");
    assert!(took < 2 * MINUTE, "{took:?}");
    tokio::time::sleep(20 * MINUTE).await;
    assert_eq!(world.head(id).await.seq, head.seq, "said once: {}", world.story(id).await);
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::TimedOut);
    assert!(took < 41 * MINUTE, "{took:?}");
    assert!(world.target.all().is_empty());
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn before_it_acts_it_can_be_cancelled() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let id = left_before_acting(&world, &executor).await;
    let _other = other(&world, &Pager::new()).await;
    tokio::time::sleep(MINUTE).await;
    world.cancel(id).await;
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Cancelled);
    assert!(took < 2 * MINUTE, "{took:?}");
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_has_the_part_takes_it_at_once() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let id = left_before_acting(&world, &executor).await;
    let _other = other(&world, &Pager::new()).await;
    tokio::time::sleep(10 * MINUTE).await;
    let _able = world.engine(&executor, world.strategy(&executor, 1)).await;
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Restored, "{}", world.story(id).await);
    assert!(took < MINUTE, "{took:?}");
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn while_it_acts_a_person_is_called_once_and_decides() {
    let world = World::new();
    let script = Script::new().step(0, [Do::Retry(Some(SECOND)), Do::Succeed]);
    let executor = world.executor(Policy::Rerun, script);
    let first = world.engine(&executor, world.strategy(&executor, 1).deadline(6 * HOUR)).await;
    let id = accept(&first, alert("a").native()).await;
    world.until(id, "failed a try", |head| head.seq == 2).await;
    first.shutdown().await;
    let pager = Pager::new();
    let other = other(&world, &pager).await;
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(world.state(id).await, State::RollingBack, "an engine that has it may come back");
    let head = world.until_state(id, State::Suspended).await;
    assert!(head.reason.as_ref().unwrap().contains("executor do"), "{:?}", head.reason);
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(pager.calls().len(), 1, "{:?}", pager.calls());
    // It hears its verdict even here, and goes on where the part is.
    world.decide(id, Decision::DidNotHappen).await;
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(world.state(id).await, State::RollingBack, "{}", world.story(id).await);
    let _able = world.engine(&executor, world.strategy(&executor, 1)).await;
    assert_eq!(world.until_ended(id).await, State::Restored, "{}", world.story(id).await);
    assert_eq!(world.effects(id, 1, 0), 1);
    other.shutdown().await;
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn while_it_acts_a_cancel_is_carried_out_when_nothing_is_open() {
    let world = World::new();
    let script = Script::new().step(0, [Do::when_stopped(Do::Succeed)]);
    let executor = world.executor(Policy::Rerun, script);
    let first = world.engine(&executor, world.strategy(&executor, 2)).await;
    let id = accept(&first, alert("a").native()).await;
    world.until(id, "was called", |_| world.calls(id, 1, 0) == 1).await;
    first.shutdown().await;
    world.cancel(id).await;
    let _other = other(&world, &Pager::new()).await;
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Cancelled, "{}", world.story(id).await);
    assert!(took < 2 * MINUTE, "{took:?}");
    world.judge().await;
}

/// Woken by the freed slot, they cannot use it: those behind them get it.
#[tokio::test(start_paused = true)]
async fn they_do_not_keep_others_from_the_slot() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let third = ScriptedExecutor::new("third", Policy::Rerun, &world.target, Script::new());
    let first = world.engine(&executor, world.strategy(&executor, 1)).await;
    let acting = accept(&first, alert("a").native()).await;
    let gone = world.engine(&third, world.strategy(&third, 1)).await;
    let mut waits = Vec::new();
    for n in 0..3 {
        let waiting = alert(&format!("waits {n}")).label("deploy_id", &format!("{n}"));
        waits.push(accept(&gone, waiting.native()).await);
        tokio::time::sleep(SECOND).await;
    }
    gone.shutdown().await;
    let behind = accept(&first, alert("behind").label("deploy_id", "4").native()).await;
    assert_eq!(world.state(behind).await, State::Blocked);
    gate.open();
    world.until_ended(acting).await;
    let (ended, took) = timed(world.until_ended(behind)).await;
    assert_eq!(ended, State::Restored, "{}", world.story(behind).await);
    assert!(took < 3 * MINUTE, "{took:?}");
    for id in waits {
        assert_eq!(world.state(id).await, State::Blocked);
    }
    world.judge().await;
}

/// What cannot be folded is let go of, left alone for a while, and tried again.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_folded_is_let_go_of() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let id = left_before_acting(&world, &executor).await;
    let log = redress_testkit::FaultyLog::new(std::sync::Arc::new(world.log.clone()));
    log.hook(|moment| if moment.method == "entries" { Act::Fail } else { Act::GoOn });
    let builder = world.builder_on(std::sync::Arc::new(log.clone()));
    let _engine = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    tokio::time::sleep(80 * SECOND).await;
    let tried = log.count("entries");
    assert!((2..=80).contains(&tried), "{tried}");
    assert_eq!(world.head(id).await.session, None);
    log.hook(|_| Act::GoOn);
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Restored);
    assert!(took < 10 * SECOND, "{took:?}");
    world.judge().await;
}

/// Panics when it is asked.
struct Touchy;

#[async_trait::async_trait]
impl ActionExecutor for Touchy {
    fn name(&self) -> &str {
        "do"
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Rerun
    }

    fn accepts(&self, _: &serde_json::Value) -> Result<(), String> {
        panic!("on purpose")
    }

    async fn execute(&self, _: &Call) -> Result<Output, action::Error> {
        Ok(Output::new("done"))
    }
}

#[test]
fn an_executor_that_panics_when_it_is_asked_is_missing() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy = Strategy::builder("fix").step(Step::new("s", &executor)).check(&world.check, SECOND);
    let mut registry = Registry::default();
    registry.add_executor(std::sync::Arc::new(Touchy));
    registry.add_check(std::sync::Arc::new(world.check.clone()));
    let missing = registry.missing(&strategy.build().unwrap().plan().plan).unwrap();
    assert!(missing.starts_with("executor do: it panicked"), "{missing}");
}

/// An engine that cannot go on begins nothing, so that nobody after it is in doubt about what it began.
#[tokio::test(start_paused = true)]
async fn a_verdict_is_heard_where_nothing_can_be_begun() {
    let world = World::new();
    let executor = world.executor(Policy::Halt, Script::new().step(0, [Do::LoseReply]));
    let strategy = || world.strategy(&executor, 2).deadline(6 * HOUR);
    let first = world.engine(&executor, strategy()).await;
    let id = accept(&first, alert("a").native()).await;
    world.until_state(id, State::Suspended).await;
    first.shutdown().await;
    let other = other(&world, &Pager::new()).await;
    world.decide(id, Decision::Happened).await;
    world.until(id, "heard it", |head| head.folded_request == 1).await;
    other.shutdown().await;
    let _able = world.engine(&executor, strategy()).await;
    let head = world.until(id, "ended or was suspended", |head| head.wake_at.is_none()).await;
    assert_eq!(head.state, State::Restored, "{}", world.story(id).await);
    assert_eq!((world.calls(id, 1, 0), world.calls(id, 1, 1)), (1, 1));
    world.judge().await;
}
