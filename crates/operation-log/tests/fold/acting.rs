//! Before acting, in a step, and paused.

use super::*;

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
