//! What an alert leads to: an operation, a join, a count, a refusal, or nothing with a reason.

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::OperationHistory as _;
use redress_engine::types::Severity;
use redress_engine::{Disposition, SubmitError};
use redress_testkit::{Act, Do, FaultyLog, Gate, Script, ScriptedCheck, See, When, alert::alert};

use crate::world::{HOUR, MINUTE, SECOND, World, accept, step, submit};

#[tokio::test(start_paused = true)]
async fn the_same_id_at_the_same_time_is_one_operation() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let all = (0..20).map(|_| submit(&engine, alert("a").native()));
    let receipts = futures_util::future::join_all(all).await;
    let accepted = receipts.iter().filter(|r| matches!(r.disposition, Disposition::Accepted(_))).count();
    let repeated = receipts.iter().filter(|r| r.disposition == Disposition::Repeated).count();
    assert_eq!((accepted, repeated), (1, 19));
    let id = receipts[0].operation.unwrap();
    assert!(receipts.iter().all(|receipt| receipt.operation == Some(id)));
    world.until_ended(id).await;
    let record = world.log.alert(&"a".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(record.count, 20);
    assert_eq!(world.effects(id, 1, 0), 1);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn two_engines_that_get_the_same_alert_make_one_operation() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let one = world.engine(&executor, world.strategy(&executor, 1)).await;
    let two = world.engine(&executor, world.strategy(&executor, 1)).await;
    let (a, b) = tokio::join!(submit(&one, alert("a").native()), submit(&two, alert("a").native()));
    assert_eq!(a.operation, b.operation);
    world.until_ended(a.operation.unwrap()).await;
    assert_eq!(world.effects(a.operation.unwrap(), 1, 0), 1);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn the_same_problem_and_the_same_remedy_join() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let first = accept(&engine, alert("a").problem("p").native()).await;
    let same_problem = submit(&engine, alert("b").problem("p").service("elsewhere").native()).await;
    assert_eq!((same_problem.disposition, same_problem.operation), (Disposition::Joined, Some(first)));
    let same_remedy = submit(&engine, alert("c").problem("q").native()).await;
    assert_eq!((same_remedy.disposition, same_remedy.operation), (Disposition::Joined, Some(first)));
    // What joined brought its fingerprint along.
    let by_joined = submit(&engine, alert("d").problem("q").service("far away").native()).await;
    assert_eq!((by_joined.disposition, by_joined.operation), (Disposition::Joined, Some(first)));
    gate.open();
    world.until_ended(first).await;
    assert_eq!(world.fold(first).await.alerts.len(), 4);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn the_problem_decides_before_the_remedy() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let shop = accept(&engine, alert("a").problem("p").native()).await;
    let cart = accept(&engine, alert("b").problem("q").service("cart").native()).await;
    // The problem of `cart`, the remedy of `shop`.
    let joined = submit(&engine, alert("c").problem("q").native()).await;
    assert_eq!((joined.disposition, joined.operation), (Disposition::Joined, Some(cart)));
    gate.open();
    world.until_ended(shop).await;
    world.until_ended(cart).await;
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn an_id_with_another_start_is_refused_natively_and_recorded_from_a_webhook() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    let later = world.log_now();
    let error = engine.submit(alert("a").since(later).native()).await.unwrap_err();
    assert!(matches!(error, SubmitError::Conflict { .. }), "{error}");
    let error = engine.submit(alert("a").service("other").native()).await.unwrap_err();
    assert!(error.to_string().contains("shop") && error.to_string().contains("other"), "{error}");
    let told = submit(&engine, alert("a").since(later).webhook(MINUTE)).await;
    assert_eq!((told.disposition, told.operation), (Disposition::Conflicting, Some(id)));
    let record = world.log.alert(&"a".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((record.count, record.conflicts), (1, 3));
    world.until_ended(id).await;
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn what_starts_nothing_says_why() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy =
        world.strategy(&executor, 1).trigger(redress_engine::strategy::Trigger::Service("shop".into()));
    let engine = world.engine(&executor, strategy).await;
    let rows = [
        (alert("a").service(""), "the alert names no service"),
        (alert("b").severity(Severity::Info), "severity info starts nothing"),
        (
            alert("c").label("alertname", "Watchdog"),
            "Watchdog watches the monitoring itself and starts nothing",
        ),
        (
            alert("h").label("alertname", "DeadMansSwitch"),
            "DeadMansSwitch watches the monitoring itself and starts nothing",
        ),
        (
            alert("i").label("alertname", "InfoInhibitor"),
            "InfoInhibitor watches the monitoring itself and starts nothing",
        ),
        (alert("d").service("other"), "no strategy applies to it"),
    ];
    for (given, why) in rows {
        let receipt = submit(&engine, given.native()).await;
        assert_eq!(receipt.disposition, Disposition::Accepted(State::Skipped));
        let head = receipt.settled().await.unwrap().unwrap();
        assert_eq!((head.state, head.reason.as_deref()), (State::Skipped, Some(why)));
    }
    assert!(world.target.all().is_empty());
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_free_place_it_is_accepted_and_waits() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let config = redress_engine::Config { operations_at_work_max: 1, ..Default::default() };
    let builder = world.builder().config(config);
    let engine = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    let first = accept(&engine, alert("a").native()).await;
    let mut waiting = Vec::new();
    for n in 0..5 {
        let receipt = submit(&engine, alert(&format!("w{n}")).service(&format!("s{n}")).native()).await;
        assert_eq!(receipt.disposition, Disposition::Accepted(State::Received));
        waiting.push(receipt.operation.unwrap());
    }
    assert!(world.log.stuck().await.unwrap().is_empty());
    gate.open();
    world.until_ended(first).await;
    for id in waiting {
        assert_eq!(world.until_ended(id).await, State::Restored);
    }
    assert!(engine.at_work().is_empty());
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn resolved_before_acting_is_skipped_and_later_is_one_vote() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let acting = accept(&engine, alert("a").native()).await;
    let waiting = accept(&engine, alert("b").label("deploy_id", "2").native()).await;
    accept(&engine, alert("c").label("deploy_id", "2").native()).await;
    let resolved = submit(&engine, alert("b").resolved(world.log_now())).await;
    assert_eq!((resolved.disposition, resolved.operation), (Disposition::Resolved, Some(waiting)));
    world.until(waiting, "folded both", |head| head.folded_request == 2).await;
    assert_eq!(world.state(waiting).await, State::Blocked, "one of its two alerts still fires");
    submit(&engine, alert("c").resolved(world.log_now())).await;
    assert_eq!(world.until_ended(waiting).await, State::Skipped);
    submit(&engine, alert("a").resolved(world.log_now())).await;
    world.until(acting, "folded the vote", |head| head.folded_request == 1).await;
    assert_eq!(world.state(acting).await, State::RollingBack);
    gate.open();
    assert_eq!(world.until_ended(acting).await, State::Restored);
    let nothing = submit(&engine, alert("never seen").resolved(world.log_now())).await;
    assert_eq!((nothing.disposition, nothing.operation), (Disposition::Ignored, None));
    let ended = submit(&engine, alert("a").resolved(world.log_now())).await;
    assert_eq!(ended.disposition, Disposition::Ignored);
    world.judge().await;
}

/// An alert of the same problem arrives while the ending is being written: it is on exactly one operation, and
/// that one has either counted it before its end, or was begun for it.
#[tokio::test(start_paused = true)]
async fn a_join_that_races_with_the_ending_is_counted_once() {
    for when in [When::Before, When::After] {
        for method in ["append", "join"] {
            let world = World::new();
            let executor = world.executor(Policy::Rerun, Script::new());
            let (one, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
            let (gate, other_gate) = (Gate::new(), Gate::new());
            // The third append ends the first operation.
            log.once("append", 3, when, Act::Wait(gate.clone()));
            let first = accept(&one, alert("a").problem("p").native()).await;
            gate.reached().await;
            let other = FaultyLog::new(std::sync::Arc::new(world.log.clone()));
            other.once(method, 1, When::Before, Act::Wait(other_gate.clone()));
            let builder = world.builder_on(std::sync::Arc::new(other));
            let two = world.start(builder, &executor, world.strategy(&executor, 1)).await;
            let sent =
                tokio::spawn(async move { (submit(&two, alert("b").problem("p").native()).await, two) });
            if method == "append" || when == When::Before {
                other_gate.reached().await;
            }
            gate.open();
            world.until_ended(first).await;
            other_gate.open();
            let (receipt, _two) = sent.await.unwrap();
            let got = receipt.operation.unwrap();
            assert_eq!(world.until_ended(got).await, State::Restored);
            assert_ne!(got, first, "the first had ended before");
            assert_eq!(world.fold(first).await.alerts.len(), 1);
            assert_eq!(world.fold(got).await.alerts.len(), 1);
            world.judge().await;
        }
    }
}

/// One that joins while the checks are looking is not swept along by what they saw before it came.
#[tokio::test(start_paused = true)]
async fn a_join_during_the_last_look_starts_the_settling_again() {
    let gate = Gate::new();
    let series = [See::Healthy, See::behind(&gate, See::Healthy), See::Unhealthy];
    let world = World::seeing(ScriptedCheck::series("check", series));
    let executor = world.executor(Policy::Rerun, Script::new());
    let strategy = world.strategy(&executor, 1).check_interval(SECOND).verification(MINUTE, SECOND, 2);
    let engine = world.engine(&executor, strategy).await;
    let id = accept(&engine, alert("a").problem("p").native()).await;
    gate.reached().await;
    assert_eq!(accept(&engine, alert("b").problem("p").native()).await, id);
    gate.open();
    // Every look after the join is bad.
    assert_eq!(world.until_ended(id).await, State::Failed, "{}", world.story(id).await);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_goes_away_loses_nothing() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let (engine, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
    let gate = Gate::new();
    log.once("append", 1, When::Before, Act::Wait(gate.clone()));
    {
        let submitted = engine.submit(alert("a").native());
        tokio::pin!(submitted);
        tokio::select! {
            _ = &mut submitted => panic!("it was answered"),
            () = gate.reached() => {}
        }
    }
    gate.open();
    let receipt = submit(&engine, alert("a").native()).await;
    assert_eq!(world.until_ended(receipt.operation.unwrap()).await, State::Restored);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_does_not_answer_is_told_to_the_sender_in_time() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let (engine, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
    log.hook(|now| if now.method == "append" { Act::Fail } else { Act::GoOn });
    let error = engine.submit(alert("a").native()).await.unwrap_err();
    assert!(matches!(error, SubmitError::Unavailable(_)), "{error}");
    log.hook(|_| Act::GoOn);
    let receipt = submit(&engine, alert("a").native()).await;
    assert_eq!(world.until_ended(receipt.operation.unwrap()).await, State::Restored);
    assert_eq!(world.target.all().values().map(|seen| seen.effects).sum::<u32>(), 1);
    world.judge().await;
}

/// Also when something of the same problem is at work: it is no part of that.
#[tokio::test(start_paused = true)]
async fn what_starts_nothing_joins_nothing() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let acting = accept(&engine, alert("a").problem("p").native()).await;
    let info = submit(&engine, alert("b").problem("p").severity(Severity::Info).native()).await;
    assert_eq!(info.disposition, Disposition::Accepted(State::Skipped));
    assert_ne!(info.operation, Some(acting));
    gate.open();
    world.until_ended(acting).await;
    assert_eq!(world.fold(acting).await.alerts.len(), 1);
    world.judge().await;
}

/// Both found the problem at work. One that says the same is the same join; one that says something else is counted.
#[tokio::test(start_paused = true)]
async fn two_deliveries_at_once_of_an_alert_that_joins_are_one_join() {
    for (value, joined, count) in [("x", 2, 1), ("y", 1, 2)] {
        let world = World::new();
        let gate = Gate::new();
        let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
        let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
        let id = accept(&engine, alert("a").problem("p").native()).await;
        let send = |value| submit(&engine, alert("b").problem("p").label("says", value).native());
        let (one, two) = tokio::join!(send("x"), send(value));
        let both = [one.disposition, two.disposition];
        assert_eq!(both.iter().filter(|one| **one == Disposition::Joined).count(), joined, "{both:?}");
        assert_eq!(both.iter().filter(|one| **one == Disposition::Repeated).count(), 2 - joined, "{both:?}");
        assert_eq!((one.operation, two.operation), (Some(id), Some(id)));
        assert_eq!(world.log.alert(&"b".parse().unwrap()).await.unwrap().unwrap().count, count);
        gate.open();
        world.until_ended(id).await;
        assert_eq!(world.fold(id).await.alerts.len(), 2);
        world.judge().await;
    }
}

/// The remedy is at work for `shop` when it comes; before it joins there, its problem is begun for `cart`.
#[tokio::test(start_paused = true)]
async fn what_would_join_while_its_problem_begins_elsewhere_joins_there() {
    let world = World::new();
    let (gate, joins) = (Gate::new(), Gate::new());
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let one = world.engine(&executor, world.strategy(&executor, 1)).await;
    let (two, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
    let shop = accept(&one, alert("a").problem("p").native()).await;
    log.once("join", 1, When::Before, Act::Wait(joins.clone()));
    let sent = async { submit(&two, alert("b").problem("q").native()).await };
    let begun = async {
        joins.reached().await;
        let cart = accept(&one, alert("c").problem("q").service("cart").native()).await;
        joins.open();
        cart
    };
    let (joined, cart) = tokio::join!(sent, begun);
    assert_eq!((joined.disposition, joined.operation), (Disposition::Joined, Some(cart)));
    gate.open();
    for (id, alerts) in [(shop, 1), (cart, 2)] {
        assert_eq!(world.until_ended(id).await, State::Restored);
        assert_eq!(world.fold(id).await.alerts.len(), alerts);
    }
    world.judge().await;
}

/// Alerts of one operation that are over at the same moment are a vote each.
#[tokio::test(start_paused = true)]
async fn two_alerts_that_are_resolved_at_the_same_moment_are_two_votes() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    world.pause("engine").await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(accept(&engine, alert("b").native()).await, id);
    let at = world.log_now();
    for name in ["a", "b"] {
        let resolved = submit(&engine, alert(name).resolved(at)).await;
        assert_eq!(resolved.disposition, Disposition::Resolved, "{name}");
    }
    assert_eq!(world.until_ended(id).await, State::Skipped, "{}", world.story(id).await);
    world.judge().await;
}

/// It fired again after it was said to be over, and then it was over again.
#[tokio::test(start_paused = true)]
async fn a_later_word_that_it_is_over_is_another_one() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    for minutes in [1, 2] {
        let ends_at = world.log_now().plus(minutes * MINUTE);
        let resolved = submit(&engine, alert("a").resolved(ends_at)).await;
        assert_eq!(resolved.disposition, Disposition::Resolved, "{minutes}");
    }
    world.until(id, "folded both", |head| head.folded_request == 2).await;
    gate.open();
    world.until_ended(id).await;
    world.judge().await;
}

/// What waits for a slot is not tried again and again meanwhile; how long it waits at most is on record.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_busy_target_rests_until_it_is_free() {
    let world = World::new();
    let gate = Gate::new();
    let executor = world.executor(Policy::Rerun, Script::new().step(0, [Do::behind(&gate, Do::Succeed)]));
    let strategy = world.strategy(&executor, 0).step(step(&executor, 0).timeout(30 * MINUTE));
    let engine = world.engine(&executor, strategy).await;
    let acting = accept(&engine, alert("a").native()).await;
    let waits = accept(&engine, alert("b").label("deploy_id", "2").native()).await;
    tokio::time::sleep(10 * MINUTE).await;
    let (head, operation) = (world.head(waits).await, world.fold(waits).await);
    assert_eq!((head.state, head.seq), (State::Blocked, 1));
    assert_eq!(operation.hold.map(|hold| hold.until), head.wake_at);
    assert_eq!(head.wake_at, Some(head.accepted_at.plus(24 * HOUR)), "its waiting limit");
    gate.open();
    world.until_ended(acting).await;
    assert_eq!(world.until_ended(waits).await, State::Restored);
    world.judge().await;
}

/// The bytes in which it came stand beside the first entry, which has their hash.
#[tokio::test(start_paused = true)]
async fn the_original_of_an_alert_is_kept_beside_its_entry() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let engine = world.engine(&executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").with_original(b"as it came")).await;
    world.until_ended(id).await;
    let kept = world.log.payloads(id).await.unwrap();
    let [(1, payload)] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!(&*payload.bytes, b"as it came");
    let entries = redress_testkit::judge::entries(&world.log, id).await.unwrap();
    assert_eq!(entries[0].payloads, [payload.hash()]);
    world.judge().await;
}

/// Whoever sends is told, by an engine that stops or whose lease is over, to go elsewhere.
#[tokio::test(start_paused = true)]
async fn an_engine_that_stops_or_is_over_accepts_nothing() {
    let world = World::new();
    let script = Script::new().step(0, [Do::when_stopped(Do::slowly(SECOND / 2, Do::Succeed))]);
    let executor = world.executor(Policy::Rerun, script);
    let (engine, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
    let acting = accept(&engine, alert("a").native()).await;
    world.until(acting, "was called", |_| world.calls(acting, 1, 0) == 1).await;
    let mut stopping = std::pin::pin!(engine.shutdown());
    assert!(futures_util::poll!(stopping.as_mut()).is_pending());
    let refused = engine.submit(alert("b").service("other").native()).await.unwrap_err();
    assert!(matches!(refused, SubmitError::Stopping), "{refused:?}");
    stopping.await;
    assert_eq!(log.count("append"), 2, "what it was told by the one that was called, and no more");
    let (lost, log) = world.faulty(&executor, world.strategy(&executor, 1)).await;
    log.hook(|moment| if moment.method == "renew_session" { Act::Fail } else { Act::GoOn });
    lost.lost().await;
    let refused = lost.submit(alert("b").service("other").native()).await.unwrap_err();
    assert!(matches!(refused, SubmitError::Stopping), "{refused:?}");
    assert!(world.log.alert(&"b".parse().unwrap()).await.unwrap().is_none());
    world.judge().await;
}

/// While the log is away, so many alerts wait for it and no more; whoever comes then is told at once to come back.
#[tokio::test(start_paused = true)]
async fn only_so_many_alerts_wait_for_a_log_that_does_not_answer() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let log = FaultyLog::new(std::sync::Arc::new(world.log.clone()));
    let config = redress_engine::Config { channel_capacity: 2, ..Default::default() };
    let builder = world.builder_on(std::sync::Arc::new(log.clone())).config(config);
    let engine = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    let send = |n: u32| engine.submit(alert(&format!("{n}")).service(&format!("s{n}")).native());
    // As many as may wait, twice: a place that was used is free again.
    for n in [0, 2] {
        let gate = Gate::new();
        let away = gate.clone();
        log.hook(move |moment| match (moment.method, moment.when) {
            ("append", When::Before) => Act::Wait(away.clone()),
            _ => Act::GoOn,
        });
        let one_more = async {
            tokio::time::timeout(MINUTE, gate.reached_times(2)).await.unwrap();
            let refused = send(100).await.unwrap_err();
            gate.open();
            refused
        };
        let (one, two, refused) = tokio::join!(send(n), send(n + 1), one_more);
        let SubmitError::Unavailable(why) = refused else { panic!("{refused:?}") };
        assert!(why.to_string().contains("too many alerts wait"), "{why}");
        for taken in [one, two] {
            world.until_ended(taken.unwrap().operation.unwrap()).await;
        }
    }
    world.judge().await;
}
