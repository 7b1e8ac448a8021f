//! While the checks run.

use super::*;

#[test]
fn guards_of_the_verification() {
    let mut late = verifying(0, 2);
    late.now = late.now.plus(Duration::from_secs(20));
    late.write(vec![Event::DeadlinePassed]);
    check_each(
        &[
            ("an attempt remains", verifying(1, 2)),
            ("no attempt remains", verifying(1, 1)),
            ("no attempt remains, and there is no plan", verifying(0, 1)),
            ("the deadline passed", late),
        ],
        expect![[r#"
            verifying
              cancelled: NO, nobody asked for it
              paused: verifying
              unpaused: NO, it is not paused
              observed: verifying
              passed, too few looks: NO, too few healthy looks in a row
              passed, too early: NO, the settle time is not over
              next attempt but one: NO, attempts are counted one by one
              suspended: suspended
            an attempt remains
              deadline: NO, the deadline has not come, or time stands still
              passed: restored
              next attempt: rolling_back
              compensate, owes failed: NO, an attempt remains
              compensate, owes timed out: NO, the deadline has not passed
              compensate, owes cancelled: NO, nobody asked to cancel it
              failed: NO, an attempt remains
              timed out: NO, the deadline has not passed
            no attempt remains
              deadline: NO, the deadline has not come, or time stands still
              passed: restored
              next attempt: NO, no attempt remains
              compensate, owes failed: compensating
              compensate, owes timed out: NO, the deadline has not passed
              compensate, owes cancelled: NO, nobody asked to cancel it
              failed: NO, a compensation plan is to be run first
              timed out: NO, the deadline has not passed
            no attempt remains, and there is no plan
              deadline: NO, the deadline has not come, or time stands still
              passed: restored
              next attempt: NO, no attempt remains
              compensate, owes failed: NO, there is no compensation plan
              compensate, owes timed out: NO, there is no compensation plan
              compensate, owes cancelled: NO, there is no compensation plan
              failed: failed
              timed out: NO, the deadline has not passed
            the deadline passed
              deadline: verifying
              passed: NO, the deadline passed
              next attempt: NO, the deadline passed
              compensate, owes failed: NO, there is no compensation plan
              compensate, owes timed out: NO, there is no compensation plan
              compensate, owes cancelled: NO, there is no compensation plan
              failed: NO, an attempt remains
              timed out: timed_out
        "#]],
    );
}
