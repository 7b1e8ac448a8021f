//! While compensating, and when a person has to decide.

use super::*;

#[test]
fn guards_of_a_compensation() {
    let mut story = verifying(2, 1);
    story.write(vec![compensate(Owed::Failed)]);
    check(
        &story,
        expect![[r#"
            compensating
              paused: compensating
              unpaused: NO, it is not paused
              deadline: compensating
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
              paused: compensating
              unpaused: NO, it is not paused
              deadline: compensating
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
