//! While the checks run.

use super::*;

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
