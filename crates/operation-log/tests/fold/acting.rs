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
              cancelled: NO, nobody asked for it
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
              cancelled: cancelled
        "#]],
    );
}

#[test]
fn guards_of_a_step() {
    let mut paused = acting(&[OnError::Abort], 0, 1);
    paused.write(vec![Event::Paused { switch: "engine".into() }]);
    check_each(
        &[("before the step", acting(&[OnError::Abort], 0, 1)), ("paused", paused)],
        expect![[r#"
        rolling_back
          cancelled: NO, nobody asked for it
          deadline: NO, no step has begun
          started, a stray key: NO, it is not the next step
          succeeded, a stray key: NO, there is no open intent of this key
          verification started: NO, a step has not run
          compensate, owes failed: NO, there is no compensation plan
          compensate, owes timed out: NO, there is no compensation plan
          compensate, owes cancelled: NO, there is no compensation plan
          failed: NO, no step failed for good
          timed out: NO, the deadline has not passed
          suspended: suspended
        before the step
          paused: rolling_back
          unpaused: NO, it is not paused
          started: rolling_back
        paused
          paused: NO, it is paused already
          unpaused: rolling_back
          started: NO, it is paused
    "#]],
    );
    let mut taken = stepping(OnError::Rollback, 1, 1);
    taken.taken_over();
    check_each(
        &[("in the step", stepping(OnError::Rollback, 1, 1)), ("in the step of another epoch", taken)],
        expect![[r#"
            rolling_back
              cancelled: NO, a step has no result yet
              paused: rolling_back
              unpaused: NO, it is not paused
              deadline: NO, the deadline has not come, or time stands still
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
              succeeded, says a person: NO, no verdict stands in this entry
            in the step
              tried: rolling_back
              tried, counted down: rolling_back
              succeeded: rolling_back
              step failed: rolling_back
              withdrawn: rolling_back
            in the step of another epoch
              tried: NO, the intent belongs to another epoch; resume it first
              tried, counted down: NO, the intent belongs to another epoch; resume it first
              succeeded: NO, the intent belongs to another epoch; resume it first
              step failed: NO, the intent belongs to another epoch; resume it first
              withdrawn: NO, the intent belongs to another epoch; resume it first
        "#]],
    );
}
