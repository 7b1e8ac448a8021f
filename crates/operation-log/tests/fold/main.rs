//! The fold and its guards: what follows what, by example and by chance. The helpers are here, the tests beside it, by phase.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what a helper cannot do fails the test")]

mod acting;
mod chance;
mod compensating;
mod facts;
mod failing;
mod limits;
#[path = "../support/mod.rs"]
mod support;
mod verifying;

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

/// A candidate, and what it is answered.
type Answer = (String, String);

/// What each candidate is answered. Left out is what the table alone refuses, `fsm` lists it; and of the [`OUTSIDE`]
/// facts, what they are answered as usual.
fn answers(story: &Story) -> Vec<Answer> {
    let mut answers = Vec::new();
    for (name, event) in candidates(story) {
        let mut name = name.to_owned();
        if let Event::ResumedRollingBack { verdict }
        | Event::ResumedVerifying { verdict }
        | Event::ResumedCompensating { verdict } = &event
        {
            write!(name, " ({})", verdict.decision).unwrap();
        }
        let mut after = story.clone();
        let usual = OUTSIDE.iter().find(|(fact, _)| *fact == name).map(|(_, usual)| *usual);
        let answer = match after.try_write(vec![event]) {
            Ok(()) => after.operation.state.to_string(),
            Err(Refused::Guard { why, .. }) => format!("NO, {why}"),
            Err(Refused::Table(_)) if usual.is_none() => continue,
            Err(Refused::Table(_)) => "not in the table".to_owned(),
            Err(Refused::Order { why, .. }) => panic!("{why}"),
        };
        let stays = answer == story.operation.state.to_string();
        if usual != Some(if stays { STAYS } else { &answer }) {
            answers.push((name, answer));
        }
    }
    answers
}

/// The answer that leaves the state as it is.
const STAYS: &str = "stays";

/// Facts from outside, and what they are answered wherever an operation stands that has not ended.
const OUTSIDE: [(&str, &str); 7] = [
    ("cancel", STAYS),
    ("cancel, a row too far", "NO, inbox rows are answered in order, each once"),
    ("joins", STAYS),
    ("joins twice", "NO, the alert is counted already"),
    ("resolved", STAYS),
    ("a stranger resolved", "NO, the alert is not counted here"),
    ("request refused", STAYS),
];

fn lines(head: &str, answers: &[Answer]) -> String {
    let lines = answers.iter().map(|(name, answer)| format!("  {name}: {answer}\n"));
    std::iter::once(format!("{head}\n")).chain(lines).collect()
}

#[track_caller]
fn check(story: &Story, expected: Expect) {
    expected.assert_eq(&lines(&story.operation.state.to_string(), &answers(story)));
}

/// Checks operations that stand in one state: first what all of them answer alike, then each one's own answers.
#[track_caller]
fn check_each(stories: &[(&str, Story)], expected: Expect) {
    let all: Vec<(&str, Vec<Answer>)> = stories.iter().map(|(name, story)| (*name, answers(story))).collect();
    let is_common = |answer: &Answer| all.iter().all(|(_, answers)| answers.contains(answer));
    let state = stories[0].1.operation.state;
    assert!(stories.iter().all(|(_, story)| story.operation.state == state));
    let common: Vec<Answer> = all[0].1.iter().filter(|answer| is_common(answer)).cloned().collect();
    let mut text = lines(&state.to_string(), &common);
    for (name, answers) in &all {
        let own: Vec<Answer> = answers.iter().filter(|answer| !is_common(answer)).cloned().collect();
        text.push_str(&lines(name, &own));
    }
    expected.assert_eq(&text);
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
