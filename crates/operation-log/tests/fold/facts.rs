//! What single facts mean, and how they read.

use super::*;

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
