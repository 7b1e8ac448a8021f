//! Several engines over one log: each assumes nothing of an operation that another one has.

use std::time::Duration;

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::event::Decision;
use redress_engine::{Config, Disposition};
use redress_testkit::{Act, Crash, Do, Gate, Script, SequentialIds, When, alert::alert};

use crate::world::{HOUR, MINUTE, SECOND, World, accept, submit, timed};

const LEASE: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_gone_is_followed_when_its_lease_is_over() {
    let world = World::new();
    let crash = Crash::never();
    let executor = world.executor(Policy::Rerun, Script::new().step(1, [Do::Hang, Do::Succeed]));
    let one = world.mortal(&crash, &executor, world.strategy(&executor, 3)).await;
    let id = accept(&one, alert("a").native()).await;
    world.until(id, "came to step 1", |_| world.calls(id, 1, 1) == 1).await;
    let _two = world.engine(&executor, world.strategy(&executor, 3)).await;
    crash.now();
    let (ended, took) = timed(world.until_ended(id)).await;
    assert_eq!(ended, State::Restored, "{}", world.story(id).await);
    assert!(took <= LEASE + 6 * SECOND, "{took:?}");
    assert_eq!((world.effects(id, 1, 0), world.effects(id, 1, 1)), (1, 1));
    assert_eq!(world.head(id).await.epoch.0, 2);
    world.judge().await;
}

/// Stopped as by SIGSTOP between the durable intent and the call: when it goes on, no timer of it has run yet.
#[tokio::test(start_paused = true)]
async fn an_engine_that_stood_still_past_its_lease_calls_nothing_when_it_wakes() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let (one, log) = world.faulty(&executor, world.strategy(&executor, 2)).await;
    for (call, called) in [(1, 0), (2, 1)] {
        let gate = Gate::new();
        log.once("append", call, When::After, Act::Wait(gate.clone()));
        let name = format!("at append {call}");
        let sender = one.sender();
        let delivery = alert(&name).service(&name).native();
        let sent = tokio::spawn(async move { sender.send(delivery).await });
        gate.reached().await;
        // Its answer is there, and it is the first to run; the time that it slept through is over by then.
        gate.open();
        tokio::time::advance(if call == 1 { LEASE / 2 } else { 2 * LEASE }).await;
        let receipt = sent.await.unwrap();
        if call == 1 {
            // Within the lease it goes on.
            let id = receipt.unwrap().operation.unwrap();
            assert_eq!(world.until_ended(id).await, State::Restored);
            continue;
        }
        let id = SequentialIds::nth(2);
        tokio::time::sleep(SECOND).await;
        assert_eq!(world.calls(id, 1, 0), called, "what was called before");
        assert_eq!(world.calls(id, 1, 1), 0, "nothing after: {}", world.story(id).await);
        assert!(!one.health().acts);
        let _two = world.engine(&executor, world.strategy(&executor, 2)).await;
        assert_eq!(world.until_ended(id).await, State::Restored, "{}", world.story(id).await);
        assert_eq!((world.effects(id, 1, 0), world.effects(id, 1, 1)), (1, 1));
        assert_eq!(world.target.of(id).values().map(|seen| seen.stale).sum::<u32>(), 0);
    }
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn one_alert_at_two_engines_at_the_same_moment_is_one_operation_and_two_answers() {
    let world = World::new();
    let executor = world.executor(Policy::Halt, Script::always(Do::slowly(SECOND, Do::Succeed)));
    let one = world.engine(&executor, world.strategy(&executor, 2)).await;
    let two = world.engine(&executor, world.strategy(&executor, 2)).await;
    for n in 0..20 {
        let delivery = || alert(&format!("{n}")).service(&format!("s{n}")).webhook(5 * MINUTE);
        let (a, b) = tokio::join!(submit(&one, delivery()), submit(&two, delivery()));
        assert_eq!(a.operation, b.operation);
        let repeats = [&a, &b].iter().filter(|receipt| receipt.disposition == Disposition::Repeated).count();
        assert_eq!(repeats, 1);
        // Each can be waited for, wherever it is driven.
        let (a, b) = tokio::join!(a.settled(), b.settled());
        assert_eq!(a.unwrap().unwrap().state, State::Restored);
        assert_eq!(b.unwrap().unwrap().state, State::Restored);
    }
    world.judge().await;
}

/// Another alert of the same problem comes to the other engine: it is counted by the one that drives.
#[tokio::test(start_paused = true)]
async fn joins_requests_and_verdicts_reach_an_operation_that_another_engine_has() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Halt, Script::new().step(0, [Do::behind(&gate, Do::LoseReply)]));
    let one = world.engine(&executor, world.strategy(&executor, 1)).await;
    let two = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&one, alert("a").problem("p").native()).await;
    gate.reached().await;
    let joined = submit(&two, alert("b").problem("p").native()).await;
    assert_eq!((joined.disposition.clone(), joined.operation), (Disposition::Joined, Some(id)));
    let head = world.until(id, "has counted it", |head| head.folded_request == 1).await;
    assert_eq!(head.epoch.0, 1, "by its driver");
    assert_eq!(world.fold(id).await.alerts.len(), 2);
    gate.open();
    assert_eq!(joined.settled().await.unwrap().unwrap().state, State::Suspended);
    world.decide(id, Decision::Happened).await;
    assert_eq!(joined.settled().await.unwrap().unwrap().state, State::Restored);
    world.judge().await;
}

/// `settled` of an operation that nobody has yet waits until somebody had it.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_place_is_waited_for() {
    let world = World::new();
    let slow = Script::always(Do::slowly(5 * SECOND, Do::Succeed));
    let executor = world.executor(Policy::Halt, slow);
    let config = Config { operations_at_work_max: 1, ..Config::default() };
    let engine = world.start(world.builder().config(config), &executor, world.strategy(&executor, 1)).await;
    let _first = accept(&engine, alert("a").service("one").native()).await;
    let second = submit(&engine, alert("b").service("two").native()).await;
    assert_eq!(second.disposition, Disposition::Accepted(State::Received));
    assert_eq!(second.settled().await.unwrap().unwrap().state, State::Restored);
    world.judge().await;
}

/// The slot is freed by one engine, and the waiter was accepted by the other: whoever is first takes it.
#[tokio::test(start_paused = true)]
async fn a_freed_slot_wakes_a_waiter_whoever_accepted_it() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Halt, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let one = world.engine(&executor, world.strategy(&executor, 1)).await;
    let two = world.engine(&executor, world.strategy(&executor, 1)).await;
    let acting = accept(&one, alert("a").native()).await;
    let waits = accept(&two, alert("b").label("deploy_id", "2").native()).await;
    assert_eq!(world.state(waits).await, State::Blocked);
    gate.open();
    world.until_ended(acting).await;
    let (ended, took) = timed(world.until_ended(waits)).await;
    assert_eq!(ended, State::Restored);
    assert!(took < 5 * SECOND, "{took:?}");
    world.judge().await;
}

/// The database is started anew: renewals and appends fail or hang for most of a lease, and nothing is let go.
#[tokio::test(start_paused = true)]
async fn a_log_that_is_away_for_less_than_a_lease_costs_nothing() {
    for hangs in [false, true] {
        let world = World::new();
        let slow = Script::always(Do::slowly(3 * SECOND, Do::Succeed));
        let executor = world.executor(Policy::Halt, slow);
        let (engine, log) = world.faulty(&executor, world.strategy(&executor, 3)).await;
        let id = accept(&engine, alert("a").native()).await;
        tokio::time::sleep(SECOND).await;
        // From here to the end of the lease there are more than 20 s.
        let gate = Gate::new();
        let silent = gate.clone();
        log.hook(move |moment| match (hangs, moment.method) {
            // A connection that is gone never answers; only what is asked again does.
            (true, "renew_session") => Act::Wait(silent.clone()),
            (true, _) => Act::GoOn,
            (false, _) => Act::Fail,
        });
        tokio::time::sleep(20 * SECOND).await;
        log.hook(|_| Act::GoOn);
        tokio::time::sleep(LEASE).await;
        assert!(engine.health().acts, "hangs: {hangs}");
        assert_eq!(world.until_ended(id).await, State::Restored, "{}", world.story(id).await);
        assert_eq!(world.head(id).await.epoch.0, 1);
        world.judge().await;
    }
}

/// Much is due, and two engines take it: neither takes it all before the other has looked.
#[tokio::test(start_paused = true)]
async fn what_is_due_is_shared() {
    let world = World::new();
    let executor = world.executor(Policy::Halt, Script::always(Do::slowly(5 * SECOND, Do::Succeed)));
    let strategy = || world.strategy(&executor, 1).unlimited_per_fingerprint();
    let first = world.engine(&executor, strategy()).await;
    world.pause("engine").await;
    let mut ids = Vec::new();
    for n in 0..200 {
        ids.push(accept(&first, alert(&format!("{n}")).service(&format!("s{n}")).native()).await);
    }
    first.shutdown().await;
    let one = world.engine(&executor, strategy()).await;
    let two = world.engine(&executor, strategy()).await;
    tokio::time::sleep(SECOND).await;
    world.resume("engine").await;
    let mut of_one = 0;
    for id in &ids {
        tokio::time::timeout(HOUR, world.until_ended(*id)).await.unwrap();
        of_one += usize::from(world.fold(*id).await.session == one.health().session);
    }
    assert!((40..=160).contains(&of_one), "{of_one} of {}", ids.len());
    two.shutdown().await;
    world.judge().await;
}
