//! The fold and its guards: what follows what, by example and by chance.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what a helper cannot do fails the test")]

mod support;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use redress_fsm::State;
use redress_operation_log::event::{HoldReason, KnownBy, Owed, Saw};
use redress_operation_log::fold::{Draft, Refused, StepResult, Writer};
use redress_operation_log::summary::{self, Outcome};
use redress_operation_log::{Actor, Decision, Event, Operation};
use redress_strategy::{OnError, StoredPlan};
use redress_types::{Epoch, Phase, Timestamp};
use support::*;

/// Every kind of event with what fits where the operation stands, and with what nearly fits.
fn candidates(story: &Story) -> Vec<(&'static str, Event)> {
    let operation = &story.operation;
    let request = operation.folded_request + 1;
    let open = operation.open.as_ref().map(|intent| intent.key);
    let next = operation.next_key();
    let stray = story.key(Phase::Rollback, 9, 9);
    let tries = operation.open.as_ref().map_or(0, |intent| intent.tries);
    let hold = HoldReason::Cooldown { key: "k".into() };
    let by = || Actor("anna".into());
    let mut all = vec![
        ("held", Event::Held { reason: hold, until: Timestamp::MAX }),
        ("released", Event::Released),
        ("diagnosis started", Event::DiagnosisStarted),
        ("diagnosed", Event::Diagnosed { cause: "c".into(), confidence: 0.5 }),
        ("approval requested", Event::ApprovalRequested { expires_at: Timestamp::MAX }),
        ("approval given", Event::ApprovalGiven { by: by() }),
        ("rejected", Event::Rejected { by: by(), reason: "no".into() }),
        ("approval expired", Event::ApprovalExpired),
        ("admitted", ADMITTED),
        ("admitted, attempt 2", Event::Admitted { attempt: 2 }),
        ("skipped", Event::Skipped { reason: "nothing".into() }),
        ("waiting limit", Event::WaitingLimitReached),
        ("cancel", cancel(request)),
        ("cancel, a row too far", cancel(request + 1)),
        ("cancelled", Event::Cancelled { reason: "so".into() }),
        ("paused", Event::Paused { switch: "engine".into() }),
        ("unpaused", Event::Unpaused),
        ("deadline", Event::DeadlinePassed),
        ("joins", Event::AlertJoined { request, alert: alert(&format!("joins-{request}"), "web") }),
        ("joins twice", Event::AlertJoined { request, alert: Arc::clone(&operation.alert) }),
        ("resolved", Event::AlertResolved { request, alert: operation.alert.id.clone(), ends_at: story.now }),
        (
            "a stranger resolved",
            Event::AlertResolved { request, alert: "stranger".parse().unwrap(), ends_at: story.now },
        ),
        ("request refused", Event::RequestRefused { request, reason: "no".into() }),
        ("started, a stray key", started(stray)),
        ("succeeded, a stray key", succeeded(stray, KnownBy::Answer)),
        ("verification started", Event::VerificationStarted),
        ("observed", Event::ChecksObserved { saw: Saw::Unhealthy, detail: "http: 500".into() }),
        ("passed", passed(2, 50)),
        ("passed, too few looks", passed(1, 50)),
        ("passed, too early", passed(2, 49)),
        ("next attempt", Event::NextAttemptStarted { attempt: operation.attempt + 1 }),
        ("next attempt but one", Event::NextAttemptStarted { attempt: operation.attempt + 2 }),
        ("compensate, owes failed", compensate(Owed::Failed)),
        ("compensate, owes timed out", compensate(Owed::TimedOut)),
        ("compensate, owes cancelled", compensate(Owed::Cancelled)),
        ("compensated to failed", Event::CompensatedToFailed),
        ("compensated to timed out", Event::CompensatedToTimedOut),
        ("compensated to cancelled", Event::CompensatedToCancelled),
        ("failed", end_failed()),
        ("timed out", Event::TimedOut),
        ("suspended", suspended()),
        ("not run", Event::StepNotRun { step: operation.next_step }),
        ("given up", Event::GivenUp { verdict: verdict(request, Decision::GiveUp) }),
        ("given up by go on", Event::GivenUp { verdict: verdict(request, Decision::GoOn) }),
    ];
    for decision in [Decision::Happened, Decision::DidNotHappen, Decision::GoOn, Decision::GiveUp] {
        let verdict = || verdict(request, decision);
        all.push(("back to rolling back", Event::ResumedRollingBack { verdict: verdict() }));
        all.push(("back to verifying", Event::ResumedVerifying { verdict: verdict() }));
        all.push(("back to compensating", Event::ResumedCompensating { verdict: verdict() }));
    }
    if let Some(key) = next {
        all.push(("started", started(key)));
    }
    if let Some(key) = open {
        all.extend([
            ("resumed", resumed(key)),
            ("tried", tried(key, tries + 1)),
            ("tried, counted down", tried(key, tries.saturating_sub(1))),
            ("succeeded", succeeded(key, KnownBy::Answer)),
            ("succeeded, says a person", succeeded(key, KnownBy::Verdict)),
            ("step failed", failed(key, KnownBy::Probe)),
            ("withdrawn", Event::StepWithdrawn { key, reason: "shutdown".into() }),
            ("abandoned", Event::StepAbandoned { key }),
        ]);
    }
    all
}

/// What each candidate is answered; what the table alone refuses is left out, `fsm` lists it.
fn answers(story: &Story) -> String {
    let mut text = format!("{}\n", story.operation.state);
    for (name, event) in candidates(story) {
        let mut story = story.clone();
        let mut decision = String::new();
        if let Event::ResumedRollingBack { verdict }
        | Event::ResumedVerifying { verdict }
        | Event::ResumedCompensating { verdict } = &event
        {
            decision = format!(" ({})", verdict.decision);
        }
        match story.try_write(vec![event]) {
            Ok(()) => writeln!(text, "  {name}{decision}: {}", story.operation.state).unwrap(),
            Err(Refused::Guard { why, .. }) => writeln!(text, "  {name}{decision}: NO, {why}").unwrap(),
            Err(Refused::Table(_)) => {}
            Err(Refused::Order { why, .. }) => panic!("{why}"),
        }
    }
    text
}

#[track_caller]
fn check(story: &Story, expected: Expect) {
    expected.assert_eq(&answers(story));
}

/// Admitted, with a plan of these steps.
fn acting(steps: &[OnError], compensation: usize, attempts: u32) -> Story {
    Story::begin(1, "web", Some(plan(steps, compensation, attempts)), vec![ADMITTED])
}

/// In its first step.
fn stepping(on_error: OnError, compensation: usize, attempts: u32) -> Story {
    let mut story = acting(&[on_error, OnError::Rollback], compensation, attempts);
    story.write(vec![started(story.next())]);
    story
}

/// Its one step is done, its checks run.
fn verifying(compensation: usize, attempts: u32) -> Story {
    let mut story = acting(&[OnError::Rollback], compensation, attempts);
    let key = story.next();
    story.write(vec![started(key)]);
    story.write(vec![succeeded(key, KnownBy::Answer), Event::VerificationStarted]);
    story
}

/// Its one step failed for good.
fn step_failed(on_error: OnError, compensation: usize) -> Story {
    let mut story = acting(&[on_error], compensation, 1);
    let key = story.next();
    story.write(vec![started(key)]).write(vec![failed(key, KnownBy::Answer)]);
    story
}

#[test]
fn guards_before_acting() {
    check(
        &Story::begin(1, "web", None, vec![]),
        expect![[r#"
        received
          held: blocked
          diagnosis started: diagnosing
          approval requested: awaiting_approval
          admitted: NO, there is no plan
          admitted, attempt 2: NO, there is no plan
          skipped: skipped
          waiting limit: timed_out
          cancel: received
          cancel, a row too far: NO, inbox rows are answered in order, each once
          cancelled: NO, nobody asked for it
          joins: received
          joins twice: NO, the alert is counted already
          resolved: received
          a stranger resolved: NO, the alert is not counted here
          request refused: received
    "#]],
    );
    let mut cancelled = Story::begin(1, "web", Some(plan(&[OnError::Abort], 0, 1)), vec![]);
    cancelled.write(vec![cancel(1)]);
    check(
        &cancelled,
        expect![[r#"
        received
          held: blocked
          diagnosis started: diagnosing
          approval requested: awaiting_approval
          admitted: NO, it is to be cancelled
          admitted, attempt 2: NO, it is to be cancelled
          skipped: skipped
          waiting limit: NO, it may wait longer
          cancel: received
          cancel, a row too far: NO, inbox rows are answered in order, each once
          cancelled: cancelled
          joins: received
          joins twice: NO, the alert is counted already
          resolved: received
          a stranger resolved: NO, the alert is not counted here
          request refused: received
    "#]],
    );
}

#[test]
fn guards_of_a_step() {
    check(
        &acting(&[OnError::Abort], 0, 1),
        expect![[r#"
        rolling_back
          cancel: rolling_back
          cancel, a row too far: NO, inbox rows are answered in order, each once
          cancelled: NO, nobody asked for it
          paused: rolling_back
          unpaused: NO, it is not paused
          deadline: NO, no step has begun
          joins: rolling_back
          joins twice: NO, the alert is counted already
          resolved: rolling_back
          a stranger resolved: NO, the alert is not counted here
          request refused: rolling_back
          started, a stray key: NO, it is not the next step
          succeeded, a stray key: NO, there is no open intent of this key
          verification started: NO, a step has not run
          compensate, owes failed: NO, there is no compensation plan
          compensate, owes timed out: NO, there is no compensation plan
          compensate, owes cancelled: NO, there is no compensation plan
          failed: NO, no step failed for good
          timed out: NO, the deadline has not passed
          suspended: suspended
          started: rolling_back
    "#]],
    );
    check(
        &stepping(OnError::Rollback, 1, 1),
        expect![[r#"
            rolling_back
              cancel: rolling_back
              cancel, a row too far: NO, inbox rows are answered in order, each once
              cancelled: NO, a step has no result yet
              paused: rolling_back
              unpaused: NO, it is not paused
              deadline: NO, the deadline has not come, or time stands still
              joins: rolling_back
              joins twice: NO, the alert is counted already
              resolved: rolling_back
              a stranger resolved: NO, the alert is not counted here
              request refused: rolling_back
              started, a stray key: NO, a step has no result yet
              succeeded, a stray key: NO, there is no open intent of this key
              verification started: NO, a step has no result yet
              compensate, owes failed: NO, a step has no result yet
              compensate, owes timed out: NO, a step has no result yet
              compensate, owes cancelled: NO, a step has no result yet
              failed: NO, a step has no result yet
              timed out: NO, a step has no result yet
              suspended: suspended
              started: NO, a step has no result yet
              resumed: rolling_back
              tried: rolling_back
              tried, counted down: rolling_back
              succeeded: rolling_back
              succeeded, says a person: NO, no verdict stands in this entry
              step failed: rolling_back
              withdrawn: rolling_back
        "#]],
    );
    let mut taken = stepping(OnError::Rollback, 1, 1);
    taken.taken_over();
    check(
        &taken,
        expect![[r#"
            rolling_back
              cancel: rolling_back
              cancel, a row too far: NO, inbox rows are answered in order, each once
              cancelled: NO, a step has no result yet
              paused: rolling_back
              unpaused: NO, it is not paused
              deadline: NO, the deadline has not come, or time stands still
              joins: rolling_back
              joins twice: NO, the alert is counted already
              resolved: rolling_back
              a stranger resolved: NO, the alert is not counted here
              request refused: rolling_back
              started, a stray key: NO, a step has no result yet
              succeeded, a stray key: NO, there is no open intent of this key
              verification started: NO, a step has no result yet
              compensate, owes failed: NO, a step has no result yet
              compensate, owes timed out: NO, a step has no result yet
              compensate, owes cancelled: NO, a step has no result yet
              failed: NO, a step has no result yet
              timed out: NO, a step has no result yet
              suspended: suspended
              started: NO, a step has no result yet
              resumed: rolling_back
              tried: NO, the intent belongs to another epoch; resume it first
              tried, counted down: NO, the intent belongs to another epoch; resume it first
              succeeded: NO, the intent belongs to another epoch; resume it first
              succeeded, says a person: NO, no verdict stands in this entry
              step failed: NO, the intent belongs to another epoch; resume it first
              withdrawn: NO, the intent belongs to another epoch; resume it first
        "#]],
    );
}

#[test]
fn guards_of_a_pause() {
    let mut story = acting(&[OnError::Abort], 0, 1);
    story.write(vec![Event::Paused { switch: "engine".into() }]);
    check(
        &story,
        expect![[r#"
        rolling_back
          cancel: rolling_back
          cancel, a row too far: NO, inbox rows are answered in order, each once
          cancelled: NO, nobody asked for it
          paused: NO, it is paused already
          unpaused: rolling_back
          deadline: NO, no step has begun
          joins: rolling_back
          joins twice: NO, the alert is counted already
          resolved: rolling_back
          a stranger resolved: NO, the alert is not counted here
          request refused: rolling_back
          started, a stray key: NO, it is not the next step
          succeeded, a stray key: NO, there is no open intent of this key
          verification started: NO, a step has not run
          compensate, owes failed: NO, there is no compensation plan
          compensate, owes timed out: NO, there is no compensation plan
          compensate, owes cancelled: NO, there is no compensation plan
          failed: NO, no step failed for good
          timed out: NO, the deadline has not passed
          suspended: suspended
          started: NO, it is paused
    "#]],
    );
}

#[test]
fn guards_after_a_failure_by_what_it_means() {
    check(
        &step_failed(OnError::Continue, 1),
        expect![[r#"
        rolling_back
          cancel: rolling_back
          cancel, a row too far: NO, inbox rows are answered in order, each once
          cancelled: NO, nobody asked for it
          paused: rolling_back
          unpaused: NO, it is not paused
          deadline: NO, the deadline has not come, or time stands still
          joins: rolling_back
          joins twice: NO, the alert is counted already
          resolved: rolling_back
          a stranger resolved: NO, the alert is not counted here
          request refused: rolling_back
          started, a stray key: NO, it is not the next step
          succeeded, a stray key: NO, there is no open intent of this key
          verification started: verifying
          compensate, owes failed: NO, no step failed with on_error: rollback
          compensate, owes timed out: NO, the deadline has not passed
          compensate, owes cancelled: NO, nobody asked to cancel it
          failed: NO, no step failed for good
          timed out: NO, the deadline has not passed
          suspended: suspended
    "#]],
    );
    check(
        &step_failed(OnError::Abort, 1),
        expect![[r#"
        rolling_back
          cancel: rolling_back
          cancel, a row too far: NO, inbox rows are answered in order, each once
          cancelled: NO, nobody asked for it
          paused: rolling_back
          unpaused: NO, it is not paused
          deadline: NO, the deadline has not come, or time stands still
          joins: rolling_back
          joins twice: NO, the alert is counted already
          resolved: rolling_back
          a stranger resolved: NO, the alert is not counted here
          request refused: rolling_back
          started, a stray key: NO, it is not the next step
          succeeded, a stray key: NO, there is no open intent of this key
          verification started: NO, a step has not run
          compensate, owes failed: NO, no step failed with on_error: rollback
          compensate, owes timed out: NO, the deadline has not passed
          compensate, owes cancelled: NO, nobody asked to cancel it
          failed: failed
          timed out: NO, the deadline has not passed
          suspended: suspended
          started: NO, a step failed for good
    "#]],
    );
    check(
        &step_failed(OnError::Rollback, 1),
        expect![[r#"
        rolling_back
          cancel: rolling_back
          cancel, a row too far: NO, inbox rows are answered in order, each once
          cancelled: NO, nobody asked for it
          paused: rolling_back
          unpaused: NO, it is not paused
          deadline: NO, the deadline has not come, or time stands still
          joins: rolling_back
          joins twice: NO, the alert is counted already
          resolved: rolling_back
          a stranger resolved: NO, the alert is not counted here
          request refused: rolling_back
          started, a stray key: NO, it is not the next step
          succeeded, a stray key: NO, there is no open intent of this key
          verification started: NO, a step has not run
          compensate, owes failed: compensating
          compensate, owes timed out: NO, the deadline has not passed
          compensate, owes cancelled: NO, nobody asked to cancel it
          failed: NO, a compensation plan is to be run first
          timed out: NO, the deadline has not passed
          suspended: suspended
          started: NO, a step failed for good
    "#]],
    );
    check(
        &step_failed(OnError::Rollback, 0),
        expect![[r#"
        rolling_back
          cancel: rolling_back
          cancel, a row too far: NO, inbox rows are answered in order, each once
          cancelled: NO, nobody asked for it
          paused: rolling_back
          unpaused: NO, it is not paused
          deadline: NO, the deadline has not come, or time stands still
          joins: rolling_back
          joins twice: NO, the alert is counted already
          resolved: rolling_back
          a stranger resolved: NO, the alert is not counted here
          request refused: rolling_back
          started, a stray key: NO, it is not the next step
          succeeded, a stray key: NO, there is no open intent of this key
          verification started: NO, a step has not run
          compensate, owes failed: NO, there is no compensation plan
          compensate, owes timed out: NO, there is no compensation plan
          compensate, owes cancelled: NO, there is no compensation plan
          failed: failed
          timed out: NO, the deadline has not passed
          suspended: suspended
          started: NO, a step failed for good
    "#]],
    );
    check(
        &step_failed(OnError::Suspend, 1),
        expect![[r#"
        rolling_back
          cancel: rolling_back
          cancel, a row too far: NO, inbox rows are answered in order, each once
          cancelled: NO, nobody asked for it
          paused: rolling_back
          unpaused: NO, it is not paused
          deadline: NO, the deadline has not come, or time stands still
          joins: rolling_back
          joins twice: NO, the alert is counted already
          resolved: rolling_back
          a stranger resolved: NO, the alert is not counted here
          request refused: rolling_back
          started, a stray key: NO, it is not the next step
          succeeded, a stray key: NO, there is no open intent of this key
          verification started: NO, a step has not run
          compensate, owes failed: NO, no step failed with on_error: rollback
          compensate, owes timed out: NO, the deadline has not passed
          compensate, owes cancelled: NO, nobody asked to cancel it
          failed: NO, a person is to decide
          timed out: NO, the deadline has not passed
          suspended: suspended
          started: NO, a step failed for good
    "#]],
    );
}

#[test]
fn guards_of_the_verification() {
    check(
        &verifying(1, 2),
        expect![[r#"
        verifying
          cancel: verifying
          cancel, a row too far: NO, inbox rows are answered in order, each once
          cancelled: NO, nobody asked for it
          paused: verifying
          unpaused: NO, it is not paused
          deadline: NO, the deadline has not come, or time stands still
          joins: verifying
          joins twice: NO, the alert is counted already
          resolved: verifying
          a stranger resolved: NO, the alert is not counted here
          request refused: verifying
          observed: verifying
          passed: restored
          passed, too few looks: NO, too few healthy looks in a row
          passed, too early: NO, the settle time is not over
          next attempt: rolling_back
          next attempt but one: NO, attempts are counted one by one
          compensate, owes failed: NO, an attempt remains
          compensate, owes timed out: NO, the deadline has not passed
          compensate, owes cancelled: NO, nobody asked to cancel it
          failed: NO, an attempt remains
          timed out: NO, the deadline has not passed
          suspended: suspended
    "#]],
    );
    check(
        &verifying(1, 1),
        expect![[r#"
        verifying
          cancel: verifying
          cancel, a row too far: NO, inbox rows are answered in order, each once
          cancelled: NO, nobody asked for it
          paused: verifying
          unpaused: NO, it is not paused
          deadline: NO, the deadline has not come, or time stands still
          joins: verifying
          joins twice: NO, the alert is counted already
          resolved: verifying
          a stranger resolved: NO, the alert is not counted here
          request refused: verifying
          observed: verifying
          passed: restored
          passed, too few looks: NO, too few healthy looks in a row
          passed, too early: NO, the settle time is not over
          next attempt: NO, no attempt remains
          next attempt but one: NO, attempts are counted one by one
          compensate, owes failed: compensating
          compensate, owes timed out: NO, the deadline has not passed
          compensate, owes cancelled: NO, nobody asked to cancel it
          failed: NO, a compensation plan is to be run first
          timed out: NO, the deadline has not passed
          suspended: suspended
    "#]],
    );
    check(
        &verifying(0, 1),
        expect![[r#"
        verifying
          cancel: verifying
          cancel, a row too far: NO, inbox rows are answered in order, each once
          cancelled: NO, nobody asked for it
          paused: verifying
          unpaused: NO, it is not paused
          deadline: NO, the deadline has not come, or time stands still
          joins: verifying
          joins twice: NO, the alert is counted already
          resolved: verifying
          a stranger resolved: NO, the alert is not counted here
          request refused: verifying
          observed: verifying
          passed: restored
          passed, too few looks: NO, too few healthy looks in a row
          passed, too early: NO, the settle time is not over
          next attempt: NO, no attempt remains
          next attempt but one: NO, attempts are counted one by one
          compensate, owes failed: NO, there is no compensation plan
          compensate, owes timed out: NO, there is no compensation plan
          compensate, owes cancelled: NO, there is no compensation plan
          failed: failed
          timed out: NO, the deadline has not passed
          suspended: suspended
    "#]],
    );
    let mut late = verifying(0, 2);
    late.now = late.now.plus(Duration::from_secs(20));
    late.write(vec![Event::DeadlinePassed]);
    check(
        &late,
        expect![[r#"
        verifying
          cancel: verifying
          cancel, a row too far: NO, inbox rows are answered in order, each once
          cancelled: NO, nobody asked for it
          paused: verifying
          unpaused: NO, it is not paused
          deadline: verifying
          joins: verifying
          joins twice: NO, the alert is counted already
          resolved: verifying
          a stranger resolved: NO, the alert is not counted here
          request refused: verifying
          observed: verifying
          passed: NO, the deadline passed
          passed, too few looks: NO, too few healthy looks in a row
          passed, too early: NO, the settle time is not over
          next attempt: NO, the deadline passed
          next attempt but one: NO, attempts are counted one by one
          compensate, owes failed: NO, there is no compensation plan
          compensate, owes timed out: NO, there is no compensation plan
          compensate, owes cancelled: NO, there is no compensation plan
          failed: NO, an attempt remains
          timed out: timed_out
          suspended: suspended
    "#]],
    );
}

#[test]
fn guards_of_a_compensation() {
    let mut story = verifying(2, 1);
    story.write(vec![compensate(Owed::Failed)]);
    check(
        &story,
        expect![[r#"
        compensating
          cancel: compensating
          cancel, a row too far: NO, inbox rows are answered in order, each once
          paused: compensating
          unpaused: NO, it is not paused
          deadline: compensating
          joins: compensating
          joins twice: NO, the alert is counted already
          resolved: compensating
          a stranger resolved: NO, the alert is not counted here
          request refused: compensating
          started, a stray key: NO, it is not the next step
          succeeded, a stray key: NO, there is no open intent of this key
          compensated to failed: NO, a compensation step has not run
          compensated to timed out: NO, it owes another outcome
          compensated to cancelled: NO, it owes another outcome
          suspended: suspended
          not run: NO, the limit leaves time for it
          started: compensating
    "#]],
    );
    // Its limit is 5 s; the entry is a second later than the last.
    story.now = story.now.plus(Duration::from_secs(4));
    for _ in 0..2 {
        let step = story.operation.next_step;
        story.write(vec![Event::StepNotRun { step }]);
    }
    check(
        &story,
        expect![[r#"
        compensating
          cancel: compensating
          cancel, a row too far: NO, inbox rows are answered in order, each once
          paused: compensating
          unpaused: NO, it is not paused
          deadline: compensating
          joins: compensating
          joins twice: NO, the alert is counted already
          resolved: compensating
          a stranger resolved: NO, the alert is not counted here
          request refused: compensating
          started, a stray key: NO, it is not the next step
          succeeded, a stray key: NO, there is no open intent of this key
          compensated to failed: failed
          compensated to timed out: NO, it owes another outcome
          compensated to cancelled: NO, it owes another outcome
          suspended: suspended
          not run: NO, it is not the next step
    "#]],
    );
}

#[test]
fn guards_of_a_verdict() {
    let mut in_doubt = stepping(OnError::Rollback, 1, 1);
    in_doubt.write(vec![suspended()]);
    check(
        &in_doubt,
        expect![[r#"
        suspended
          cancel: suspended
          cancel, a row too far: NO, inbox rows are answered in order, each once
          joins: suspended
          joins twice: NO, the alert is counted already
          resolved: suspended
          a stranger resolved: NO, the alert is not counted here
          request refused: suspended
          given up: NO, a step has no result yet
          given up by go on: NO, a step has no result yet
          back to rolling back (happened): rolling_back
          back to verifying (happened): NO, it came from another state
          back to compensating (happened): NO, it came from another state
          back to rolling back (did_not_happen): rolling_back
          back to verifying (did_not_happen): NO, it came from another state
          back to compensating (did_not_happen): NO, it came from another state
          back to rolling back (go_on): NO, a step is in doubt; decide happened, did_not_happen or give_up
          back to verifying (go_on): NO, it came from another state
          back to compensating (go_on): NO, it came from another state
          back to rolling back (give_up): NO, given up ends it
          back to verifying (give_up): NO, it came from another state
          back to compensating (give_up): NO, it came from another state
          abandoned: suspended
    "#]],
    );
    let mut undecided = verifying(1, 1);
    undecided.write(vec![suspended()]);
    check(
        &undecided,
        expect![[r#"
        suspended
          cancel: suspended
          cancel, a row too far: NO, inbox rows are answered in order, each once
          joins: suspended
          joins twice: NO, the alert is counted already
          resolved: suspended
          a stranger resolved: NO, the alert is not counted here
          request refused: suspended
          given up: failed
          given up by go on: NO, the verdict is another
          back to rolling back (happened): NO, it came from another state
          back to verifying (happened): NO, no step is in doubt; decide go_on or give_up
          back to compensating (happened): NO, it came from another state
          back to rolling back (did_not_happen): NO, it came from another state
          back to verifying (did_not_happen): NO, no step is in doubt; decide go_on or give_up
          back to compensating (did_not_happen): NO, it came from another state
          back to rolling back (go_on): NO, it came from another state
          back to verifying (go_on): verifying
          back to compensating (go_on): NO, it came from another state
          back to rolling back (give_up): NO, it came from another state
          back to verifying (give_up): NO, given up ends it
          back to compensating (give_up): NO, it came from another state
    "#]],
    );
}

#[test]
fn an_entry_must_be_the_next() {
    let story = acting(&[OnError::Abort], 0, 1);
    let mut refusals = String::new();
    let mut refused = |change: fn(&mut redress_operation_log::Entry)| {
        let mut entry = story.entry(vec![Event::DeadlinePassed]);
        change(&mut entry);
        let refusal = story.operation.with(&entry, story.operation.hash).unwrap_err();
        let text = refusal.to_string().replace(&story.id.to_string(), "#");
        writeln!(refusals, "{text}").unwrap();
    };
    refused(|entry| entry.seq += 1);
    refused(|entry| entry.seq -= 1);
    refused(|entry| entry.epoch = Epoch(0));
    refused(|entry| entry.events.clear());
    refused(|entry| entry.operation = redress_types::OperationId(Default::default()));
    expect![[r#"
        entry 3 of operation # cannot follow entry 1: seq must grow by one
        entry 1 of operation # cannot follow entry 1: seq must grow by one
        entry 2 of operation # cannot follow entry 1: its epoch is older
        entry 2 of operation # cannot follow entry 1: it holds no event
        entry 2 of operation # cannot follow entry 1: it belongs to another operation
    "#]]
    .assert_eq(&refusals);
    let entry = story.entry(vec![ADMITTED]);
    assert!(Operation::begin(&entry, story.operation.hash, None).is_err());
    let first = story.entries[0].read().unwrap();
    assert!(Operation::begin(&first, story.operation.hash, None).is_err(), "another plan than it names");
}

#[test]
fn the_deadline_stands_still_while_suspended_or_paused_and_once_when_both() {
    let mut story = stepping(OnError::Rollback, 1, 1);
    let key = story.operation.open.as_ref().unwrap().key;
    let limit = Duration::from_secs(10);
    let began = story.now;
    assert_eq!(story.operation.deadline_at(), Some(began.plus(limit)));

    // Paused for 1 s, both for 2 s, still suspended (or paused) for 1 s: it stood for 4 s in all.
    story.write(vec![Event::Paused { switch: "engine".into() }]);
    assert_eq!(story.operation.deadline_at(), None);
    story.write(vec![suspended()]);
    story.write(vec![cancel(1)]);
    story
        .write(vec![Event::ResumedRollingBack { verdict: verdict(2, Decision::DidNotHappen) }, resumed(key)]);
    assert_eq!(story.operation.deadline_at(), None, "the pause is not over");
    story.write(vec![Event::Unpaused]);
    assert_eq!(story.operation.clock.stood, Duration::from_secs(4));
    assert_eq!(story.operation.deadline_at(), Some(began.plus(limit).plus(Duration::from_secs(4))));

    // The other order: a pause cannot be lifted while suspended, so each interval counts by itself.
    story.write(vec![suspended()]);
    story
        .write(vec![Event::ResumedRollingBack { verdict: verdict(3, Decision::DidNotHappen) }, resumed(key)]);
    assert_eq!(story.operation.clock.stood, Duration::from_secs(5));
}

#[test]
fn the_compensations_limit_stands_still_while_suspended_or_paused() {
    let mut story = verifying(1, 1);
    // Paused before it began: only what stands still since counts for it.
    story.write(vec![Event::Paused { switch: "engine".into() }]);
    story.write(vec![compensate(Owed::Failed)]);
    let began = story.now;
    assert_eq!(story.operation.compensating_since, Some(began));
    assert_eq!(story.operation.compensation_until(), None, "it stands still");
    story.write(vec![Event::Unpaused]);
    let limit = Duration::from_secs(5);
    let stood = |seconds| Some(began.plus(limit).plus(Duration::from_secs(seconds)));
    assert_eq!(story.operation.compensation_until(), stood(1));
    story.write(vec![suspended()]);
    story.now = story.now.plus(Duration::from_secs(100));
    story.write(vec![Event::ResumedCompensating { verdict: verdict(1, Decision::GoOn) }]);
    assert_eq!(story.operation.compensation_until(), stood(102));
    let step = story.operation.next_step;
    story.now = stood(100).unwrap();
    assert!(story.try_write(vec![Event::StepNotRun { step }]).is_err(), "a second is left");
    story.now = stood(101).unwrap();
    story.write(vec![Event::StepNotRun { step }]);
}

#[test]
fn only_a_verdict_resumes_what_may_have_happened_and_must_not_be_repeated() {
    let mut plan = plan(&[OnError::Abort], 0, 1).plan.clone();
    plan.steps[0].in_doubt = redress_action::Policy::Halt;
    let plan = Arc::new(StoredPlan::freeze(plan).unwrap());
    let mut story = Story::begin(1, "web", Some(plan), vec![]);
    story.write(vec![ADMITTED]);
    let key = story.next();
    story.write(vec![started(key)]).taken_over();
    assert!(story.try_write(vec![resumed(key)]).is_err(), "it may be on its way");
    story.write(vec![suspended()]);
    let by = |request| Event::StepResumed { key, request: Some(request) };
    let back = |decision| Event::ResumedRollingBack { verdict: verdict(1, decision) };
    for events in [
        vec![back(Decision::Happened), by(1)],
        vec![back(Decision::DidNotHappen), by(2)],
        vec![back(Decision::DidNotHappen), resumed(key)],
        vec![back(Decision::DidNotHappen), succeeded(key, KnownBy::Verdict)],
        vec![back(Decision::Happened), failed(key, KnownBy::Verdict)],
    ] {
        assert!(story.clone().try_write(events.clone()).is_err(), "{events:?}");
    }
    story.clone().write(vec![back(Decision::Happened), succeeded(key, KnownBy::Verdict)]);
    story.clone().write(vec![back(Decision::DidNotHappen), failed(key, KnownBy::Verdict)]);
    story.write(vec![back(Decision::DidNotHappen), by(1)]);
    // A try that certainly did not happen leaves no doubt.
    story.write(vec![tried(key, 1)]).taken_over().write(vec![resumed(key)]);
}

#[test]
fn tries_are_bounded_and_a_verdict_begins_them_anew() {
    let mut story = stepping(OnError::Rollback, 0, 1);
    let key = story.operation.open.as_ref().unwrap().key;
    assert!(story.try_write(vec![tried(key, 7)]).is_err(), "twice 3 tries are the most");
    story.write(vec![tried(key, 6), suspended()]);
    let back = Event::ResumedRollingBack { verdict: verdict(1, Decision::DidNotHappen) };
    story.write(vec![back, Event::StepResumed { key, request: Some(1) }]);
    assert!(story.try_write(vec![tried(key, 13)]).is_err());
    story.write(vec![tried(key, 12)]);
}

#[test]
fn limits_pass_only_when_their_time_has_come() {
    let mut waits = Story::begin(1, "web", Some(plan(&[OnError::Abort], 0, 1)), vec![]);
    let accepted = waits.now;
    waits.now = accepted.plus(Duration::from_secs(58));
    assert!(waits.try_write(vec![Event::WaitingLimitReached]).is_err(), "a second is left");
    waits.now = accepted.plus(Duration::from_secs(59));
    waits.write(vec![Event::WaitingLimitReached]);

    let mut acts = stepping(OnError::Rollback, 0, 1);
    let began = acts.now;
    acts.now = began.plus(Duration::from_secs(8));
    assert!(acts.try_write(vec![Event::DeadlinePassed]).is_err(), "a second is left");
    acts.now = began.plus(Duration::from_secs(9));
    acts.write(vec![Event::DeadlinePassed]);
}

#[test]
fn the_deadline_counts_from_the_first_step() {
    let mut story = acting(&[OnError::Rollback], 0, 1);
    assert_eq!(story.operation.deadline_at(), None);
    story.write(vec![started(story.next())]);
    assert_eq!(story.operation.clock.started, Some(story.now));
}

#[test]
fn an_alert_that_joins_is_counted_once_and_its_end_is_noted() {
    let mut story = verifying(0, 1);
    let other = alert("other", "web");
    story.write(vec![Event::AlertJoined { request: 1, alert: Arc::clone(&other) }]);
    assert!(story.operation.counts(&other.id));
    assert_eq!(story.operation.alerts.len(), 2);
    let again = story.try_write(vec![Event::AlertJoined { request: 2, alert: Arc::clone(&other) }]);
    assert!(matches!(again, Err(Refused::Guard { .. })));
    let first = story.operation.alert.id.clone();
    let ends_at = story.now;
    story.write(vec![Event::AlertResolved { request: 2, alert: other.id.clone(), ends_at }]);
    assert!(!story.operation.all_resolved());
    story.write(vec![Event::AlertResolved { request: 3, alert: first, ends_at }]);
    assert!(story.operation.all_resolved());
    assert_eq!(story.operation.folded_request, 3);
    assert_eq!(story.operation.state, State::Verifying, "it is a vote, not proof");
}

#[test]
fn go_on_repeats_the_failed_step_under_a_new_attempt_number() {
    let mut story = step_failed(OnError::Suspend, 1);
    let before = story.key(Phase::Rollback, 1, 0);
    story.write(vec![suspended()]);
    story.write(vec![Event::ResumedRollingBack { verdict: verdict(1, Decision::GoOn) }]);
    assert_eq!(story.next(), story.key(Phase::Rollback, 2, 0));
    assert_ne!(story.next(), before, "a new key: the old one has its result");
    assert_eq!(story.operation.failure, None);

    let mut story = verifying(0, 1);
    story.write(vec![suspended()]);
    story.write(vec![Event::ResumedVerifying { verdict: verdict(1, Decision::GoOn) }]);
    assert_eq!((story.operation.state, story.operation.attempt), (State::Verifying, 2));
    assert_eq!(story.operation.verifying_since, Some(story.now), "the verification begins again");
}

#[test]
fn a_withdrawn_step_was_not_attempted_and_starts_again_under_its_key() {
    let mut story = stepping(OnError::Rollback, 1, 1);
    let key = story.operation.open.as_ref().unwrap().key;
    story.write(vec![Event::StepWithdrawn { key, reason: "paused".into() }]);
    assert!(!story.operation.attempted());
    assert_eq!(story.next(), key);
    story.write(vec![started(key)]).write(vec![tried(key, 1)]);
    assert!(story.operation.attempted());
    story.write(vec![Event::StepWithdrawn { key, reason: "paused".into() }]);
    assert!(story.operation.attempted(), "an earlier try was sent");
    let results: Vec<_> = story.operation.steps.iter().map(|step| step.result).collect();
    assert_eq!(results, [Some(StepResult::Withdrawn), Some(StepResult::Withdrawn)]);
    story.write(vec![started(key)]).write(vec![Event::TryFailed {
        key,
        try_number: 1,
        error: "no answer".into(),
        unknown: true,
        next_at: Timestamp::from_micros(9_000_000),
    }]);
    let doubtful = story.try_write(vec![Event::StepWithdrawn { key, reason: "paused".into() }]);
    assert!(doubtful.is_err(), "a try that may have happened cannot be withdrawn");
}

#[test]
fn a_failure_means_what_the_step_says() {
    let story = step_failed(OnError::Continue, 0);
    assert_eq!((&story.operation.failure, story.operation.next_step), (&None, 1));
    for on_error in [OnError::Abort, OnError::Rollback, OnError::Suspend] {
        let story = step_failed(on_error, 1);
        let failure = story.operation.failure.as_ref().unwrap();
        assert_eq!((failure.on_error, story.operation.next_step), (on_error, 0));
        assert_eq!(failure.step, "step-0");
    }
    // While compensating it is noted, and the plan goes on.
    let mut story = verifying(2, 1);
    story.write(vec![compensate(Owed::Failed)]);
    let undo = story.next();
    story.write(vec![started(undo)]).write(vec![failed(undo, KnownBy::Answer)]);
    assert_eq!(story.next().step, 1);
    assert_eq!(story.operation.failure, None);
}

#[test]
fn a_cancel_while_compensating_changes_nothing() {
    let mut story = verifying(1, 1);
    story.write(vec![compensate(Owed::Failed)]).write(vec![cancel(1), Event::DeadlinePassed]);
    assert_eq!(story.operation.cancel, None);
    assert!(!story.operation.clock.passed);
}

#[test]
fn tries_are_counted_with_the_answer_that_settles_the_step() {
    let mut story = stepping(OnError::Rollback, 1, 1);
    let key = story.operation.open.as_ref().unwrap().key;
    story.write(vec![tried(key, 1)]).write(vec![tried(key, 2)]);
    let mut probed = story.clone();
    story.write(vec![succeeded(key, KnownBy::Answer)]);
    assert_eq!(story.operation.steps[0].tries, 3);
    probed.write(vec![succeeded(key, KnownBy::Probe)]);
    assert_eq!(probed.operation.steps[0].tries, 2, "a probe is no try");
}

#[test]
fn every_way_of_ending_reads_as_one_of_three_words() {
    use strum::IntoEnumIterator as _;
    let words: Vec<String> = State::iter()
        .filter_map(|state| summary::outcome(state).map(|outcome| format!("{state}: {outcome}")))
        .collect();
    assert_eq!(
        words,
        ["restored: success", "failed: failed", "timed_out: failed", "skipped: skipped", "cancelled: failed"]
    );
    assert!(State::iter().all(|state| summary::outcome(state).is_some() == state.is_ended()));
    assert_eq!(summary::outcome(State::Restored), Some(Outcome::Success));
    assert_eq!(summary::verified(false), "verified by the executor's API only");
}

#[test]
fn the_path_names_each_state_once_with_its_event() {
    let mut story = verifying(1, 1);
    story.write(vec![Event::ChecksObserved { saw: Saw::Unhealthy, detail: "500".into() }]);
    story.write(vec![compensate(Owed::Failed)]);
    let undo = story.next();
    story.write(vec![started(undo)]);
    story.write(vec![succeeded(undo, KnownBy::Answer), Event::CompensatedToFailed]);
    let entries: Vec<_> = story.entries.iter().map(|stored| stored.read().unwrap()).collect();
    let path: Vec<String> = summary::path(&entries)
        .iter()
        .map(|passage| format!("{} {} {}", passage.at.as_millis() / 1_000, passage.state, passage.by))
        .collect();
    expect![[r#"
        1 received accepted
        1 rolling_back admitted
        3 verifying verification_started
        5 compensating compensation_started
        7 failed compensated_to_failed"#]]
    .assert_eq(&path.join("\n"));
}

/// Tries what leads nearest to the end first; answers how many entries it took.
fn drive_to_the_end(story: &mut Story) -> Option<usize> {
    const ORDER: &[&str] = &[
        "passed",
        "failed",
        "compensated to failed",
        "compensated to timed out",
        "compensated to cancelled",
        "cancelled",
        "timed out",
        "skipped",
        "given up",
        "abandoned",
        "succeeded",
        "resumed",
        "started",
        "not run",
        "verification started",
        "compensate, owes failed",
        "compensate, owes timed out",
        "compensate, owes cancelled",
        "unpaused",
        "suspended",
    ];
    (0..100).find(|_| {
        let candidates = candidates(story);
        let fits = ORDER.iter().find_map(|name| {
            let (_, event) = candidates.iter().find(|(candidate, _)| candidate == name)?;
            let mut next = story.clone();
            next.try_write(vec![event.clone()]).ok().map(|()| next)
        });
        if let Some(next) = fits {
            *story = next;
        }
        story.operation.state.is_ended()
    })
}

fn any_plan() -> impl Strategy<Value = Option<Arc<StoredPlan>>> {
    let on_error =
        prop::sample::select(vec![OnError::Continue, OnError::Abort, OnError::Rollback, OnError::Suspend]);
    let some = (prop::collection::vec(on_error, 1..4), 0..3_usize, 1..3_u32);
    prop_oneof![1 => Just(None), 9 => some.prop_map(|(steps, undo, attempts)| Some(plan(&steps, undo, attempts)))]
}

/// Which candidate of each entry, and whether another engine takes the operation before it.
type Chances = Vec<(Vec<prop::sample::Index>, bool)>;

fn any_chances() -> impl Strategy<Value = Chances> {
    let events = prop::collection::vec(any::<prop::sample::Index>(), 1..12);
    prop::collection::vec((events, prop::bool::weighted(0.1)), 0..40)
}

/// Writes what chance proposes and the fold accepts, as a draft does, and checks each refusal on the way.
fn by_chance(plan: Option<Arc<StoredPlan>>, chances: Chances) -> Story {
    let mut story = Story::begin(1, "web", plan, vec![]);
    for (picks, takeover) in chances {
        if takeover {
            story.taken_over();
        }
        let now = story.now.plus(Duration::from_secs(1));
        let (session, epoch) = (story.session, story.epoch);
        let writer = Writer { session, epoch, actor: Actor::engine("test"), now };
        let mut draft = Draft::on(&story.operation, writer);
        for pick in picks {
            // What fits is proposed from where the draft stands, not from where the entry began.
            let here = Story { operation: draft.operation().clone(), ..story.clone() };
            let (_, event) = pick.get(&candidates(&here)).clone();
            let before = (draft.operation().clone(), draft.events().len());
            if draft.push(event).is_err() {
                assert_eq!((draft.operation(), draft.events().len()), (&before.0, before.1));
            }
        }
        let events = draft.events().to_vec();
        if events.is_empty() {
            continue;
        }
        let sealed = draft.seal().unwrap();
        story.write(events);
        assert_eq!(sealed.operation, story.operation, "a draft says what the entry will mean");
    }
    story
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_was_accepted_replays_to_an_equal_operation(plan in any_plan(), chances in any_chances()) {
        let story = by_chance(plan, chances);
        let replayed = Operation::replay(&story.entries, story.plan.clone()).unwrap();
        prop_assert_eq!(&replayed, &story.operation);
    }

    #[test]
    fn from_everywhere_there_is_a_way_to_an_end_which_refuses_everything(
        plan in any_plan(),
        chances in any_chances(),
    ) {
        let mut story = by_chance(plan, chances);
        let stood = story.operation.clone();
        prop_assert!(
            story.operation.state.is_ended() || drive_to_the_end(&mut story).is_some(),
            "no way out of {:?}, stuck in {:?}", stood, story.operation
        );
        prop_assert!(story.operation.open.is_none(), "nothing ends with an open intent");
        prop_assert!(story.operation.ended_at.is_some());
        for (name, event) in candidates(&story) {
            let before = story.operation.clone();
            prop_assert!(story.try_write(vec![event]).is_err(), "{} was accepted", name);
            prop_assert_eq!(&story.operation, &before);
        }
    }
}
