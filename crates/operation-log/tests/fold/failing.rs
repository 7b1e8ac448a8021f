//! After a step failed, by what the step says that means.

use super::*;

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
