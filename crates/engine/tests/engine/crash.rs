//! The engine ends suddenly at every point that makes a difference: before and after each append and each
//! effect. The next one goes on, and the effects are counted at the target.

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::event::Decision;
use redress_engine::operation_log::{OperationLog as _, SessionId};
use redress_engine::types::OperationId;
use redress_testkit::{
    Crash, Do, Gate, Script, ScriptedCheck, ScriptedExecutor, See, SequentialIds, alert::alert,
};

use crate::world::{MINUTE, SECOND, World, accept, step};

/// What is run, and how it must end.
struct Case {
    policy: Policy,
    script: Script,
    sees: See,
    ends: State,
}

fn cases() -> Vec<Case> {
    let policies = [Policy::Rerun, Policy::Probe, Policy::Halt];
    let mut cases = Vec::new();
    for policy in policies {
        let retry = Script::new().step(1, [Do::Retry(None), Do::Succeed]);
        cases.push(Case { policy, script: retry, sees: See::Healthy, ends: State::Restored });
        let fails = Script::new().step(2, [Do::Fail]).compensation(0, [Do::Retry(None), Do::Succeed]);
        cases.push(Case { policy, script: fails, sees: See::Healthy, ends: State::Failed });
        cases.push(Case { policy, script: Script::new(), sees: See::Unhealthy, ends: State::Failed });
        let lost = Script::new().step(0, [Do::LoseReply, Do::Succeed]);
        let ends = State::Restored;
        cases.push(Case { policy, script: lost, sees: See::Healthy, ends });
    }
    cases
}

#[tokio::test(start_paused = true)]
#[ignore = "takes 5 s: ./test runs it"]
async fn at_every_point() {
    let mut points = 0;
    for (number, case) in cases().into_iter().enumerate() {
        for point in 0.. {
            let crash = Crash::at(point);
            run(&case, &crash, number).await;
            if !crash.has_happened() {
                break;
            }
            points += 1;
        }
    }
    assert!(points > 150, "{points} points");
}

async fn run(case: &Case, crash: &Crash, number: usize) {
    let world = World::seeing(ScriptedCheck::always("check", case.sees.clone()));
    let executor = world.executor(case.policy, case.script.clone());
    let strategy = || world.strategy(&executor, 3).attempts(2).compensate(step(&executor, 0));
    let first = world.mortal(crash, &executor, strategy()).await;
    let sender = first.sender();
    let sent = tokio::spawn(async move { sender.send(alert("a").native()).await });
    let id = SequentialIds::nth(1);
    tokio::select! {
        () = crash.happened() => {}
        () = tokio::time::sleep(3 * MINUTE) => {}
    }
    // Of what crashes inside a process nothing is left; its session is over when its lease is, or at once where
    // one engine has the file.
    world.log.close_session(SessionId(1)).await.unwrap();
    sent.abort();
    let second = world.engine(&executor, strategy()).await;
    // Whoever sent the alert had no answer, and sends it again.
    let again = second.submit(alert("a").native()).await.unwrap().operation.unwrap();
    let at = format!("case {number}, crash at {:?}", crash.passed().last());
    finish(&world, again, &at).await;
    let ended = world.state(again).await;
    assert_eq!(ended, case.ends, "{at}: {}", world.story(again).await);
    let first_or_second = [id, SequentialIds::nth(2), SequentialIds::nth(3)];
    assert!(first_or_second.contains(&again), "{at}");
    for (key, seen) in world.target.of(again) {
        if case.policy == Policy::Probe {
            assert!(seen.effects <= 1, "{at}: {key} was done {} times", seen.effects);
        }
    }
    world.judge().await;
    second.shutdown().await;
}

/// A person answers whatever asks for one, by what the target knows.
async fn finish(world: &World, id: OperationId, at: &str) {
    for _ in 0..20 {
        let head = world.until(id, at, |head| head.state.is_ended() || head.state == State::Suspended).await;
        if head.state.is_ended() {
            return;
        }
        let Some(intent) = world.fold(id).await.open else {
            panic!("{at}: suspended without a step in doubt: {}", world.story(id).await);
        };
        let done = world.target.seen(intent.key).effects > 0;
        let decision = if done { Decision::Happened } else { Decision::DidNotHappen };
        let folded = head.folded_request;
        world.decide(id, decision).await;
        world.until(id, "answered the verdict", |head| head.folded_request > folded).await;
        tokio::time::sleep(SECOND).await;
    }
    panic!("{at}: it asks for ever: {}", world.story(id).await);
}

/// Where each policy must stand after a crash between intent and result, with nobody to help.
#[tokio::test(start_paused = true)]
async fn between_intent_and_result_each_policy_does_what_it_declares() {
    // (policy, crash before the effect, state, calls, effects)
    let rows = [
        (Policy::Rerun, true, State::Restored, 2, 1),
        (Policy::Rerun, false, State::Restored, 2, 2),
        (Policy::Probe, true, State::Restored, 2, 1),
        (Policy::Probe, false, State::Restored, 1, 1),
        (Policy::Halt, true, State::Suspended, 1, 0),
        (Policy::Halt, false, State::Suspended, 1, 1),
    ];
    for (policy, before, state, calls, effects) in rows {
        let world = World::new();
        // Points: before and after the accepting append, before and after the effect.
        let crash = Crash::at(if before { 2 } else { 3 });
        let executor = world.executor(policy, Script::new());
        let first = world.mortal(&crash, &executor, world.strategy(&executor, 1)).await;
        let sender = first.sender();
        tokio::spawn(async move { sender.send(alert("a").native()).await });
        crash.happened().await;
        let id = SequentialIds::nth(1);
        // The lease of the dead engine runs out by itself.
        let _second = world.engine(&executor, world.strategy(&executor, 1)).await;
        let head = world.until(id, "came to rest", |head| head.wake_at.is_none()).await;
        assert_eq!(head.state, state, "{policy} {:?}: {}", crash.passed().last(), world.story(id).await);
        assert_eq!((world.calls(id, 1, 0), world.effects(id, 1, 0)), (calls, effects), "{policy}");
        assert_eq!(head.epoch.0, 2);
        world.judge().await;
    }
}

/// An engine that was only slow, and whose operation another one has taken, writes nothing more.
#[tokio::test(start_paused = true)]
async fn an_engine_that_lost_its_lease_changes_nothing() {
    let world = World::new();
    let gate = redress_testkit::Gate::new();
    let script = Script::new().step(0, [Do::behind(&gate, Do::Succeed), Do::Succeed]);
    let executor: ScriptedExecutor = world.executor(Policy::Rerun, script);
    let strategy = world.strategy(&executor, 2);
    let strategy = strategy.deadline(60 * MINUTE);
    let one = world.engine(&executor, strategy.clone()).await;
    let id = crate::world::accept(&one, alert("a").native()).await;
    gate.reached().await;
    world.log.close_session(SessionId(1)).await.unwrap();
    let _two = world.engine(&executor, strategy).await;
    assert_eq!(world.until_ended(id).await, State::Restored);
    gate.open();
    one.lost().await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(world.head(id).await.epoch.0, 2);
    let report =
        redress_engine::operation_log::verify::verify(&world.log, &Default::default()).await.unwrap();
    assert!(report.is_clean());
}

/// A takeover reads an operation's entries a page at a time, and what it goes on with stands in the last.
#[tokio::test(start_paused = true)]
async fn an_operation_with_a_long_history_is_folded_whole() {
    const JOINED: u64 = 1_010;
    let world = World::new();
    let (crash, gate) = (Crash::never(), Gate::new());
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let first = world.mortal(&crash, &executor, world.strategy(&executor, 2)).await;
    let id = accept(&first, alert("a").native()).await;
    for n in 1..=JOINED {
        let joined = accept(&first, alert(&format!("a{n}")).native()).await;
        assert_eq!(joined, id);
        // One entry each.
        world.until(id, "folded it", |head| head.seq > n).await;
    }
    crash.now();
    gate.open();
    let second = world.engine(&executor, world.strategy(&executor, 2)).await;
    assert_eq!(world.until_ended(id).await, State::Restored, "{}", world.story(id).await);
    assert_eq!(world.fold(id).await.alerts.len() as u64, JOINED + 1);
    world.judge().await;
    second.shutdown().await;
}
