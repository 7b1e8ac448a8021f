//! What the engine itself refuses at the door, whoever brings it.

use std::time::Duration;

use redress_engine::action::Policy;
use redress_engine::operation_log::{Error, MemoryLog, OperationHistory as _};
use redress_engine::types::{Clock as _, Delivery};
use redress_engine::{Config, Engine, SubmitError};
use redress_testkit::{Script, SequentialIds, TestClock, alert::alert};

use std::sync::Arc;

use crate::world::{SECOND, World, accept};

async fn refused(engine: &Engine, delivery: Delivery) -> String {
    let error = engine.submit(delivery).await.unwrap_err();
    let SubmitError::Unstorable(Error::Unstorable { what }) = error else { panic!("{error:?}") };
    what
}

#[tokio::test(start_paused = true)]
async fn an_alert_over_a_limit_is_refused_with_the_limit() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let config = Config { labels_max: 2, alert_bytes_max: 1_000, ..Config::default() };
    let engine = world.start(world.builder().config(config), &executor, world.strategy(&executor, 1)).await;
    let labels =
        |n: u32| (0..n).fold(alert("labels"), |alert, n| alert.label(&format!("label {n}"), "value"));
    let what = refused(&engine, labels(3).native()).await;
    assert_eq!(what, "alert labels: has 3 labels; at most 2 are taken");
    let what = refused(&engine, alert("label").label("l", &"x".repeat(1_000)).native()).await;
    assert!(what.ends_with("bytes; at most 1000 are taken"), "{what}");
    let what = refused(&engine, alert("original").with_original(&[b'x'; 1_000])).await;
    assert!(what.ends_with("bytes; at most 1000 are taken"), "{what}");
    for which in [true, false] {
        let mut long = alert("optional").native();
        let (metric, action) = (&mut long.alert.metric, &mut long.alert.suggested_action);
        *(if which { metric } else { action }) = Some("x".repeat(1_000));
        let what = refused(&engine, long).await;
        assert!(what.ends_with("bytes; at most 1000 are taken"), "{what}");
    }
    let what = refused(&engine, labels(3).resolved(world.clock.now())).await;
    assert!(what.contains("at most 2"), "{what}");
    assert!(world.log.alert(&"labels".parse().unwrap()).await.unwrap().is_none(), "nothing was stored");
    accept(&engine, labels(2).native()).await;
    world.judge().await;
}

/// The times that such an engine writes would mislead every other one.
#[tokio::test(start_paused = true)]
async fn an_engine_whose_clock_is_off_accepts_nothing_until_it_is_right_again() {
    let world = World::new();
    let clock = TestClock::new();
    let log = MemoryLog::new(Arc::new(world.clock.clone()));
    let executor = world.executor(Policy::Rerun, Script::new());
    clock.advance(Duration::from_millis(1_500));
    let environment = redress_testkit::environment(&clock, &SequentialIds::default());
    let builder = Engine::builder(environment, Arc::new(log.clone())).check(world.check.clone());
    let engine = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    let error = engine.submit(alert("a").native()).await.unwrap_err();
    let SubmitError::Unavailable(why) = error else { panic!("{error:?}") };
    assert!(why.to_string().contains("clock is 1.5s off"), "{why}");
    assert!(engine.health().refuses.is_some());
    assert!(log.alert(&"a".parse().unwrap()).await.unwrap().is_none());
    clock.back(Duration::from_millis(1_500));
    // The clocks are compared whenever the lease is renewed.
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!(engine.health().refuses, None);
    accept(&engine, alert("a").native()).await;
}
