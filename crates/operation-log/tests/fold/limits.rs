//! Order, deadlines, and how often a step is tried.

use super::*;

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
