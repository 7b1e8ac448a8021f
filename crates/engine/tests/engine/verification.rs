//! Restored means verified: so often in a row, for so long, and nothing seen is not healthy.

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::Request;
use redress_testkit::{Do, Script, ScriptedCheck, See, alert::alert};

use crate::world::{MINUTE, SECOND, World, accept, step, timed};

#[tokio::test(start_paused = true)]
async fn it_takes_so_many_in_a_row() {
    let series = [See::Healthy, See::Healthy, See::Unhealthy, See::Healthy, See::Nothing, See::Healthy];
    let world = World::seeing(ScriptedCheck::series("check", series));
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy = world.strategy(&executor, 1).verification(MINUTE, SECOND / 1000, 3);
    let engine = world.engine(&executor, strategy).await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(world.until_ended(id).await, State::Restored);
    assert_eq!(world.check.looks(), 8, "the sixth begins the three that count");
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn it_takes_the_whole_settle_time() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy = world.strategy(&executor, 1).verification(MINUTE, 20 * SECOND, 1);
    let engine = world.engine(&executor, strategy).await;
    let id = accept(&engine, alert("a").native()).await;
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Restored);
    assert!(took >= 20 * SECOND && took < 30 * SECOND, "{took:?}");
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn bad_checks_lead_to_the_next_attempt_under_new_keys() {
    let world = World::seeing(ScriptedCheck::always("check", See::Unhealthy));
    let executor = world.executor(Policy::Probe, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 2).attempts(3)).await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(world.until_ended(id).await, State::Failed);
    for attempt in 1..=3 {
        assert_eq!((world.effects(id, attempt, 0), world.effects(id, attempt, 1)), (1, 1));
    }
    assert_eq!(world.effects(id, 4, 0), 0);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn checks_that_turn_good_in_the_second_attempt_restore() {
    let world = World::seeing(ScriptedCheck::always("check", See::Unhealthy));
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1).attempts(2)).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until(id, "began its second attempt", |head| head.seq > 4).await;
    world.check.from_now_on(See::Healthy);
    assert_eq!(world.until_ended(id).await, State::Restored);
    assert_eq!(world.fold(id).await.attempt, 2);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_seen_is_neither_healthy_nor_broken() {
    for see in [See::Nothing, See::Hang, See::Panic] {
        let world = World::seeing(ScriptedCheck::always("check", see));
        let executor = world.executor(Policy::Rerun, Script::new());
        let engine = world.engine(&executor, world.strategy(&executor, 1).attempts(2)).await;
        let id = accept(&engine, alert("a").native()).await;
        let (_, took) = timed(world.until_state(id, State::Suspended)).await;
        assert!(took >= 30 * SECOND && took < 41 * SECOND, "{took:?}");
        assert_eq!(world.calls(id, 2, 0), 0);
        world.judge().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_join_while_verifying_starts_the_settling_again() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy = world.strategy(&executor, 1).verification(5 * MINUTE, 20 * SECOND, 1);
    let engine = world.engine(&executor, strategy).await;
    let id = accept(&engine, alert("a").problem("p").native()).await;
    tokio::time::sleep(15 * SECOND).await;
    assert_eq!(accept(&engine, alert("b").problem("p").native()).await, id);
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Restored);
    assert!(took >= 20 * SECOND, "{took:?}");
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_flaps_for_ever_ends() {
    let flapping = (0..500).map(|n| if n % 2 == 0 { See::Healthy } else { See::Unhealthy });
    let world = World::seeing(ScriptedCheck::series("check", flapping));
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy = world.strategy(&executor, 1).verification(MINUTE, 10 * SECOND, 2);
    let engine = world.engine(&executor, strategy).await;
    let id = accept(&engine, alert("a").native()).await;
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Failed);
    assert!(took < 2 * MINUTE, "{took:?}");
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_verification() {
    let world = World::seeing(ScriptedCheck::always("check", See::Nothing));
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy = world
        .strategy(&executor, 1)
        .verification(10 * MINUTE, SECOND, 1)
        .deadline(MINUTE)
        .compensate(step(&executor, 0));
    let engine = world.engine(&executor, strategy).await;
    let id = accept(&engine, alert("a").native()).await;
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::TimedOut);
    assert!(took < 2 * MINUTE, "{took:?}");
    assert_eq!(world.compensations(id, 0), 1);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn what_restored_rests_on_is_recorded() {
    for (check, independent) in
        [(ScriptedCheck::healthy("check"), true), (ScriptedCheck::healthy("check").dependent(), false)]
    {
        let world = World::seeing(check);
        let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::Succeed]));
        let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
        let id = accept(&engine, alert("a").native()).await;
        assert_eq!(world.until_ended(id).await, State::Restored);
        assert_eq!(world.fold(id).await.verified_independently, Some(independent));
        world.judge().await;
    }
}

/// An interval of nothing must not turn a wait into a loop that never lets time go on.
#[tokio::test(start_paused = true)]
async fn an_interval_of_zero_is_no_busy_loop() {
    let world = World::seeing(ScriptedCheck::always("check", See::Nothing));
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy = world.strategy(&executor, 1).check_interval(std::time::Duration::ZERO);
    let engine = world.engine(&executor, strategy).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_state(id, State::Suspended).await;
    assert!(world.check.looks() < 5000, "{} looks in 30 s", world.check.looks());
    world.judge().await;
}

/// A ring for something that changes nothing is no reason to look at the service sooner.
#[tokio::test(start_paused = true)]
async fn the_interval_between_looks_is_kept_when_it_is_rung() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy =
        world.strategy(&executor, 1).verification(10 * MINUTE, MINUTE, 1).check_interval(20 * SECOND);
    let engine = world.engine(&executor, strategy).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_state(id, State::Verifying).await;
    for n in 0..50 {
        let request = Request::Resolved { alert: format!("{n}").parse().unwrap(), ends_at: world.log_now() };
        world.post(id, &format!("{n}"), request).await;
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(world.until_ended(id).await, State::Restored);
    assert!(world.check.looks() <= 5, "{}", world.check.looks());
    world.judge().await;
}
