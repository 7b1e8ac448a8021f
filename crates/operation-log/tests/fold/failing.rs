//! After a step failed, by what the step says that means.

use super::*;

#[test]
fn guards_after_a_failure_by_what_it_means() {
    check_each(
        &[
            ("on_error: continue", step_failed(OnError::Continue, 1)),
            ("on_error: abort", step_failed(OnError::Abort, 1)),
            ("on_error: rollback", step_failed(OnError::Rollback, 1)),
            ("on_error: rollback, without a plan", step_failed(OnError::Rollback, 0)),
            ("on_error: suspend", step_failed(OnError::Suspend, 1)),
        ],
        expect![[r#"
            rolling_back
              cancelled: NO, nobody asked for it
              paused: rolling_back
              unpaused: NO, it is not paused
              deadline: NO, the deadline has not come, or time stands still
              started, a stray key: NO, it is not the next step
              succeeded, a stray key: NO, there is no open intent of this key
              timed out: NO, the deadline has not passed
              suspended: suspended
            on_error: continue
              verification started: verifying
              compensate, owes failed: NO, no step failed with on_error: rollback
              compensate, owes timed out: NO, the deadline has not passed
              compensate, owes cancelled: NO, nobody asked to cancel it
              failed: NO, no step failed for good
            on_error: abort
              verification started: NO, a step has not run
              compensate, owes failed: NO, no step failed with on_error: rollback
              compensate, owes timed out: NO, the deadline has not passed
              compensate, owes cancelled: NO, nobody asked to cancel it
              failed: failed
              started: NO, a step failed for good
            on_error: rollback
              verification started: NO, a step has not run
              compensate, owes failed: compensating
              compensate, owes timed out: NO, the deadline has not passed
              compensate, owes cancelled: NO, nobody asked to cancel it
              failed: NO, a compensation plan is to be run first
              started: NO, a step failed for good
            on_error: rollback, without a plan
              verification started: NO, a step has not run
              compensate, owes failed: NO, there is no compensation plan
              compensate, owes timed out: NO, there is no compensation plan
              compensate, owes cancelled: NO, there is no compensation plan
              failed: failed
              started: NO, a step failed for good
            on_error: suspend
              verification started: NO, a step has not run
              compensate, owes failed: NO, no step failed with on_error: rollback
              compensate, owes timed out: NO, the deadline has not passed
              compensate, owes cancelled: NO, nobody asked to cancel it
              failed: NO, a person is to decide
              started: NO, a step failed for good
        "#]],
    );
}
