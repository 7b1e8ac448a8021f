//! "Restored" means verified: a strategy that names no check has the engine's, or is refused.

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::strategy::Strategy;
use redress_engine::{Engine, StartError};
use redress_testkit::{Script, ScriptedCheck, ScriptedExecutor, See, alert::alert};

use crate::world::{World, accept, step};

fn without_a_check(executor: &ScriptedExecutor) -> Strategy {
    Strategy::builder("fix").step(step(executor, 0)).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_engines_check_is_frozen_into_a_plan_that_has_none() {
    for (sees, ends) in [(See::Healthy, State::Restored), (See::Unhealthy, State::Failed)] {
        let world = World::new();
        let executor = world.executor(Policy::Rerun, Script::new());
        let check = ScriptedCheck::always("ours", sees);
        let builder = world.builder().default_check(check.clone()).executor(executor.clone());
        let engine = builder.strategy(without_a_check(&executor)).start().await.unwrap();
        let id = accept(&engine, alert("a").native()).await;
        assert_eq!(world.until_ended(id).await, ends);
        assert!(check.looks() > 0);
        let plan = world.fold(id).await.plan.unwrap();
        assert_eq!(plan.plan.checks.len(), 1);
        assert_eq!((plan.plan.checks[0].check.as_str(), plan.plan.checks[0].timeout_ms), ("ours", 30_000));
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_strategy_with_a_check_keeps_it_alone() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let ours = ScriptedCheck::healthy("ours");
    let builder = world.builder().default_check(ours.clone());
    let engine = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(world.until_ended(id).await, State::Restored);
    assert_eq!(ours.looks(), 0);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn without_either_the_engine_does_not_start_and_says_both_ways() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let builder = world.builder().executor(executor.clone()).strategy(without_a_check(&executor));
    let refused: Result<Engine, StartError> = builder.start().await;
    let Err(error @ StartError::NoCheck { .. }) = refused else { panic!("it started") };
    let text = error.to_string();
    assert!(text.contains(".check(") && text.contains(".default_check("), "{text}");
}
