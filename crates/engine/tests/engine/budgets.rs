//! How often anything is remediated at all: per target, per problem, over the whole engine (safety rules 5 and 6).

use redress_engine::Config;
use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::strategy::Rate;
use redress_testkit::{Pager, Script, alert::alert};

use crate::world::{HOUR, MINUTE, SECOND, World, accept, timed};

#[tokio::test(start_paused = true)]
async fn a_target_rate_holds_one_target_and_no_other() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1).target_rate(2, HOUR)).await;
    for n in 0..2 {
        let id = accept(&engine, alert(&format!("shop {n}")).native()).await;
        assert_eq!(world.until_ended(id).await, State::Restored);
    }
    let third = accept(&engine, alert("shop 2").native()).await;
    assert_eq!(world.state(third).await, State::Blocked);
    let reason = world.head(third).await.reason.unwrap();
    assert!(reason.contains("target:fix@default/shop"), "{reason}");
    let other = accept(&engine, alert("other").service("other").native()).await;
    assert_eq!(world.until_ended(other).await, State::Restored);
    let (ended, took) = timed(world.until_ended(third)).await;
    assert_eq!(ended, State::Restored);
    assert!(took > 59 * MINUTE && took < 61 * MINUTE, "{took:?}");
    world.judge().await;
}

/// The budget is the log's, not the engine's: what one engine admitted counts for the other.
#[tokio::test(start_paused = true)]
async fn the_engines_rate_holds_over_all_strategies_and_engines() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let config = || Config { rate: Some(Rate { most: 2, window_ms: 3_600_000 }), ..Config::default() };
    let strategy = world.strategy(&executor, 1);
    let one = world.start(world.builder().config(config()), &executor, strategy.clone()).await;
    let two = world.start(world.builder().config(config()), &executor, strategy).await;
    let mut ids = Vec::new();
    for (n, engine) in [&one, &two, &one, &two].into_iter().enumerate() {
        ids.push(accept(engine, alert(&format!("{n}")).service(&format!("s{n}")).native()).await);
    }
    assert_eq!(world.until_ended(ids[0]).await, State::Restored);
    assert_eq!(world.until_ended(ids[1]).await, State::Restored);
    assert_eq!((world.state(ids[2]).await, world.state(ids[3]).await), (State::Blocked, State::Blocked));
    assert_eq!(world.until_ended(ids[2]).await, State::Restored);
    assert_eq!(world.until_ended(ids[3]).await, State::Restored);
    world.judge().await;
}

/// Nobody set a limit: a problem that comes back all the time gets to a person all the same.
#[tokio::test(start_paused = true)]
async fn a_problem_that_keeps_coming_back_gets_to_a_person() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let pager = Pager::new();
    // Hours go by here, and nothing hangs on looking often.
    let config = Config { poll: 10 * SECOND, ..Config::default() };
    let builder = world.builder().config(config).escalation(pager.clone());
    let engine = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    for n in 0..5 {
        let id = accept(&engine, alert(&format!("{n}")).problem("p").native()).await;
        assert_eq!(world.until_ended(id).await, State::Restored);
        tokio::time::sleep(10 * MINUTE).await;
    }
    assert_eq!(pager.calls(), []);
    let sixth = accept(&engine, alert("5").problem("p").native()).await;
    assert_eq!(world.state(sixth).await, State::Blocked);
    tokio::time::sleep(MINUTE).await;
    let calls = pager.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!((calls[0].operation, calls[0].state), (sixth, State::Blocked));
    assert!(calls[0].reason.contains("keeps coming back"), "{:?}", calls[0]);
    // Another alert joins, and it is held back again for the same reason.
    assert_eq!(accept(&engine, alert("6").problem("p").native()).await, sixth);
    let joined = world.until(sixth, "counts it and waits", |head| {
        head.folded_request == 1 && head.state == State::Blocked && head.session.is_none()
    });
    joined.await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(pager.calls().len(), 1);
    // Five hours and a bit after the first of the five, the window has room again.
    tokio::time::sleep(5 * HOUR).await;
    assert_eq!(world.until_ended(sixth).await, State::Restored);
    assert_eq!(pager.calls().len(), 1, "once");
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn the_limit_per_problem_can_be_taken_away() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1).unlimited_per_fingerprint()).await;
    for n in 0..8 {
        let id = accept(&engine, alert(&format!("{n}")).problem("p").native()).await;
        assert_eq!(world.until_ended(id).await, State::Restored);
    }
    world.judge().await;
}

/// What was admitted and did nothing has used nothing up.
#[tokio::test(start_paused = true)]
async fn what_was_cancelled_before_it_acted_is_given_back() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1).target_rate(1, HOUR)).await;
    world.pause("engine").await;
    let idle = accept(&engine, alert("idle").native()).await;
    world.cancel(idle).await;
    assert_eq!(world.until_ended(idle).await, State::Cancelled);
    world.resume("engine").await;
    // The hold of what was cancelled is not given back.
    let next = accept(&engine, alert("next").native()).await;
    let (ended, took) = timed(world.until_ended(next)).await;
    assert_eq!(ended, State::Restored);
    assert!(took < HOUR + MINUTE, "{took:?}");
    world.judge().await;
}
