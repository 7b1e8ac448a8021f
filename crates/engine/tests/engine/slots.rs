//! The unit of mutual exclusion, and a strategy that narrows it.

use redress_engine::Disposition;
use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_testkit::alert::{AlertBuilder, alert};
use redress_testkit::{Do, Gate, Script};

use crate::world::{HOUR, SECOND, World, accept, submit};

fn of_shard(id: &str, shard: &str) -> AlertBuilder {
    alert(id).label("shard", shard)
}

/// It stands in the log for as long as its operation: a program that made another one would not see that they are the
/// same.
#[tokio::test]
async fn what_makes_two_operations_the_same_is_as_it_was() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy = world.strategy(&executor, 1).build().unwrap();
    let hash = |alert: AlertBuilder| {
        let alert = alert.native().alert;
        strategy.sameness(&alert.target(), &alert)
    };
    // SHA-256 of `3:fix12:default/shop9:deploy_id0:` and of `3:fix12:default/shop9:deploy_id2:é`.
    assert_eq!(hash(alert("a")), "80fdf3b4f463b2bdc475da6d9b000d703798d8e32e1852c7ce9f0e514f8828fb");
    let named = alert("a").label("deploy_id", "é");
    assert_eq!(hash(named), "a948c24640689f2d9fc8de8c54cd7237901578df7f2d10f81b797d5e2973cbcb");
}

/// Alerts of different shards act at the same time, those of one shard one after the other.
#[tokio::test(start_paused = true)]
async fn a_narrowed_slot_excludes_only_its_own() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let strategy = world.strategy(&executor, 1).slot_labels(["shard"]).cooldown(10 * SECOND);
    let engine = world.engine(&executor, strategy).await;
    let one = accept(&engine, of_shard("one", "1").native()).await;
    let two = accept(&engine, of_shard("two", "2").native()).await;
    assert_eq!((world.state(one).await, world.state(two).await), (State::RollingBack, State::RollingBack));
    let same = submit(&engine, of_shard("same", "1").native()).await;
    assert_eq!((same.disposition, same.operation), (Disposition::Joined, Some(one)), "sameness follows");
    let waits = accept(&engine, of_shard("waits", "1").label("deploy_id", "7").native()).await;
    assert_eq!(world.state(waits).await, State::Blocked);
    assert!(world.head(waits).await.waits_on.unwrap().key().ends_with("/shard=1"));
    // It does not say which shard it is about: the whole target would exclude none of them.
    let whole = accept(&engine, alert("whole").native()).await;
    let head = world.head(whole).await;
    assert_eq!(head.state, State::Skipped);
    assert!(head.reason.as_ref().unwrap().contains("\"shard\""), "{:?}", head.reason);
    let empty = accept(&engine, of_shard("empty", "").native()).await;
    assert_eq!(world.state(empty).await, State::Skipped, "an empty label names no shard");
    gate.open();
    for id in [one, two, waits] {
        assert_eq!(world.until_ended(id).await, State::Restored);
    }
    // Each has a cooldown of its own.
    let third = accept(&engine, of_shard("third", "3").native()).await;
    assert_eq!(world.until_ended(third).await, State::Restored);
    world.judge().await;
}

/// The rule is the plan's: an engine that was configured otherwise meanwhile takes the slot that was agreed on.
#[tokio::test(start_paused = true)]
async fn the_slot_of_an_operation_does_not_change_with_its_strategy() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let narrowed = world.strategy(&executor, 1).slot_labels(["shard"]);
    let first = world.engine(&executor, narrowed).await;
    world.pause("engine").await;
    let id = accept(&first, of_shard("a", "1").native()).await;
    first.shutdown().await;
    let second = world.engine(&executor, world.strategy(&executor, 1)).await;
    world.resume("engine").await;
    world.until_state(id, State::RollingBack).await;
    let other = accept(&second, of_shard("b", "2").label("deploy_id", "2").native()).await;
    assert_eq!(world.state(other).await, State::RollingBack, "the whole target is free");
    gate.open();
    tokio::time::timeout(HOUR, world.until_ended(id)).await.unwrap();
    world.until_ended(other).await;
    world.judge().await;
}
