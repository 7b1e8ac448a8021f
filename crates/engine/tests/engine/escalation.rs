//! A person is called, once under one key, whenever the engine cannot go on by itself.

use std::time::Duration;

use redress_engine::action::{Error, Escalation, OnFailure, Policy};
use redress_engine::fsm::State;
use redress_engine::operation_log::event::Decision;
use redress_engine::operation_log::{OperationHistory as _, OutboxState};
use redress_engine::strategy::OnError;
use redress_engine::types::{Level, OperationId};
use redress_engine::{Config, Engine};
use redress_testkit::{Do, Pager, Script, ScriptedExecutor, alert::alert};

use crate::world::{HOUR, MINUTE, SECOND, World, accept, step, timed};

async fn engine(world: &World, pager: &Pager, executor: &ScriptedExecutor) -> Engine {
    let strategy = world.strategy(executor, 1).on_failure(OnFailure::EnterSafeMode);
    world.start(world.builder().escalation(pager.clone()), executor, strategy).await
}

async fn the_only_call(pager: &Pager) -> Escalation {
    tokio::time::sleep(MINUTE).await;
    let calls = pager.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    calls.into_iter().next().unwrap()
}

async fn owed(world: &World, id: OperationId) -> Vec<OutboxState> {
    world.log.outbox_of(id).await.unwrap().into_iter().map(|row| row.state).collect()
}

#[tokio::test(start_paused = true)]
async fn when_it_failed_with_the_safe_state_that_the_strategy_names() {
    let world = World::new();
    let pager = Pager::new();
    let executor = world.executor(Policy::Rerun, Script::always(Do::slowly(SECOND, Do::Fail)));
    let engine = engine(&world, &pager, &executor).await;
    let id = accept(&engine, alert("a").level(Level::P0).native()).await;
    assert_eq!(world.until_ended(id).await, State::Failed);
    let call = the_only_call(&pager).await;
    let head = world.head(id).await;
    assert_eq!((call.operation, call.name, call.state), (id, head.name, State::Failed));
    assert_eq!((call.alert.as_str(), call.strategy.as_deref()), ("a", Some("fix")));
    assert_eq!((call.level, call.title.as_str()), (Level::P0, "shop does not answer"));
    assert_eq!((call.target, call.safe_state), (head.target, OnFailure::EnterSafeMode));
    assert_eq!((Some(call.reason), Some(call.at)), (head.reason, head.ended_at));
    assert_eq!(call.key.to_string(), format!("{id}:outbox:{}:0", head.seq));
    assert_eq!(owed(&world, id).await, [OutboxState::Done]);
    assert_eq!(world.head(id).await.owed, 0);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn when_it_timed_out_waiting_and_not_when_it_was_restored() {
    let world = World::new();
    let pager = Pager::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy = world.strategy(&executor, 1).waiting_limit(10 * MINUTE);
    let engine = world.start(world.builder().escalation(pager.clone()), &executor, strategy).await;
    let fine = accept(&engine, alert("fine").service("other").native()).await;
    assert_eq!(world.until_ended(fine).await, State::Restored);
    world.pause("engine").await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(world.until_ended(id).await, State::TimedOut);
    assert_eq!(the_only_call(&pager).await.operation, id);
    world.judge().await;
}

/// Suspended, decided, suspended again: two calls under two keys.
#[tokio::test(start_paused = true)]
async fn each_time_it_is_suspended() {
    let world = World::new();
    let pager = Pager::new();
    let executor = world.executor(Policy::Halt, Script::always(Do::LoseRequest));
    let engine = engine(&world, &pager, &executor).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_state(id, State::Suspended).await;
    let first = the_only_call(&pager).await;
    assert_eq!((first.state, first.operation), (State::Suspended, id));
    // What does not fit is refused on record, which is no news for anybody.
    world.decide(id, Decision::GoOn).await;
    world.until(id, "refused it", |head| head.folded_request == 1).await;
    assert_eq!(the_only_call(&pager).await, first);
    let seq = world.head(id).await.seq;
    world.decide(id, Decision::DidNotHappen).await;
    world.until(id, "was suspended again", |head| head.seq > seq && head.state == State::Suspended).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(pager.calls().len(), 2);
    assert_ne!(pager.calls()[1].key, first.key);
    world.judge().await;
}

/// Nobody answers for a while: the call stays owed, under one key, and is delivered in the end.
#[tokio::test(start_paused = true)]
async fn until_somebody_answers() {
    let world = World::new();
    let nobody = Error::Retryable { reason: "busy".into(), retry_after: Some(Duration::from_secs(20)) };
    let pager = Pager::new().failing([nobody, Error::unknown("the reply was lost")]);
    let executor = world.executor(Policy::Rerun, Script::always(Do::Fail));
    let first = engine(&world, &pager, &executor).await;
    let id = accept(&first, alert("a").native()).await;
    world.until_ended(id).await;
    world.until(id, "was called for", |_| !pager.calls().is_empty()).await;
    first.shutdown().await;
    let _second = engine(&world, &pager, &executor).await;
    let (_, took) = timed(world.until(id, "was delivered", |head| head.owed == 0)).await;
    assert!(took > 19 * SECOND, "they asked for so long: {took:?}");
    let calls = pager.calls();
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|call| *call == calls[0]), "one key, one content: {calls:?}");
    world.judge().await;
}

/// Cancelled is an outcome that somebody wanted; a compensation that failed is not.
#[tokio::test(start_paused = true)]
async fn when_what_was_cancelled_could_not_be_compensated() {
    for fails in [true, false] {
        let world = World::new();
        let pager = Pager::new();
        let script = Script::new().step(0, [Do::when_stopped(Do::Fail)]);
        let script = if fails { script.compensation(0, [Do::Fail]) } else { script };
        let executor = world.executor(Policy::Rerun, script);
        let strategy = world.strategy(&executor, 1).compensate(step(&executor, 0).on_error(OnError::Abort));
        let config = Config { grace: SECOND, ..Config::default() };
        let builder = world.builder().config(config).escalation(pager.clone());
        let engine = world.start(builder, &executor, strategy).await;
        let id = accept(&engine, alert("a").native()).await;
        world.until(id, "was called", |_| world.calls(id, 1, 0) == 1).await;
        world.cancel(id).await;
        assert_eq!(world.until_ended(id).await, State::Cancelled, "{}", world.story(id).await);
        tokio::time::sleep(MINUTE).await;
        assert_eq!(pager.calls().len(), usize::from(fails), "{:?}", pager.calls());
        let why = world.head(id).await.reason;
        assert!(pager.calls().iter().all(|call| Some(&call.reason) == why.as_ref()), "{:?}", pager.calls());
        world.judge().await;
    }
}

/// A call that cannot be delivered for a while keeps nobody else waiting.
#[tokio::test(start_paused = true)]
async fn each_operation_for_itself() {
    let world = World::new();
    let nobody = Error::Retryable { reason: "busy".into(), retry_after: Some(2 * MINUTE) };
    let pager = Pager::new().failing([nobody]);
    let executor = world.executor(Policy::Rerun, Script::always(Do::Fail));
    let engine = engine(&world, &pager, &executor).await;
    let first = accept(&engine, alert("a").native()).await;
    world.until(first, "was called for", |_| !pager.calls().is_empty()).await;
    let second = accept(&engine, alert("b").service("other").native()).await;
    let (_, took) =
        timed(world.until(second, "was delivered", |head| head.state.is_ended() && head.owed == 0)).await;
    assert!(took < MINUTE, "{took:?}");
    world.until(first, "was delivered", |head| head.owed == 0).await;
    world.judge().await;
}

/// Only a problem that keeps coming back is a person's matter: not that a strategy is used often.
#[tokio::test(start_paused = true)]
async fn not_when_another_budget_is_used_up() {
    let world = World::new();
    let pager = Pager::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy = world.strategy(&executor, 1).strategy_rate(1, HOUR);
    let engine = world.start(world.builder().escalation(pager.clone()), &executor, strategy).await;
    world.until_ended(accept(&engine, alert("a").native()).await).await;
    let held = accept(&engine, alert("b").service("other").native()).await;
    assert_eq!(world.state(held).await, State::Blocked);
    world.until_ended(held).await;
    assert_eq!(pager.calls(), []);
    world.judge().await;
}
