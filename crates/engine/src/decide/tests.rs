//! `decide` as tables: what happened so far, what is new, which events follow.

use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use redress_action::Policy;
use redress_operation_log::event::{Actor, Decision, KnownBy};
use redress_operation_log::fold::Writer;
use redress_operation_log::{InboxRow, Request, SessionId};
use redress_strategy::{Step, Strategy};
use redress_testkit::{Script, ScriptedCheck, ScriptedExecutor, Target, alert::alert};
use redress_types::{Epoch, OperationId, Phase, Timestamp};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// An operation of two steps of this policy and one try more, and the events of its last entry.
struct Case {
    operation: Operation,
    now: Timestamp,
    inbox: u64,
    kinds: String,
}

struct Shape {
    policy: Policy,
    on_error: OnError,
    attempts: u32,
    plan: bool,
}

const SHAPE: Shape = Shape { policy: Policy::Probe, on_error: OnError::Rollback, attempts: 1, plan: false };

impl Case {
    fn accepted(shape: &Shape) -> Self {
        let executor = ScriptedExecutor::new("do", shape.policy, &Target::new(), Script::new());
        let check = ScriptedCheck::healthy("check");
        let step = |name: &str| Step::new(name, &executor).tries(2, SECOND, SECOND).on_error(shape.on_error);
        let mut strategy = Strategy::builder("fix")
            .step(step("one"))
            .step(step("two"))
            .check(&check, SECOND)
            .attempts(shape.attempts)
            .deadline(60 * SECOND)
            .waiting_limit(600 * SECOND)
            .compensation_limit(30 * SECOND);
        if shape.plan {
            strategy = strategy.compensate(step("undo")).compensate(step("undo more"));
        }
        let strategy = strategy.build().unwrap();
        let alert = Arc::new(alert("a").build());
        let accepted = Event::Accepted {
            target: alert.target(),
            alert,
            strategy: Some("fix".into()),
            plan: Some(strategy.plan().hash),
            sameness: None,
        };
        let now = Timestamp::EPOCH;
        let plan = Some(Arc::clone(strategy.plan()));
        let id: OperationId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let sealed = Draft::begin(id, writer(now), accepted, plan).unwrap().seal().unwrap();
        Self { operation: sealed.operation, now, inbox: 0, kinds: "accepted".into() }
    }

    fn admitted(shape: &Shape) -> Self {
        Self::accepted(shape).then(&[Input::Admitted])
    }

    fn verifying(shape: &Shape) -> Self {
        Self::admitted(shape).succeeds().succeeds()
    }

    fn suspended(shape: Shape) -> Self {
        Self::admitted(&Shape { policy: Policy::Halt, ..shape }).unknown()
    }

    fn then(mut self, inputs: &[Input<'_>]) -> Self {
        let draft = decide(Draft::on(&self.operation, writer(self.now)), inputs).unwrap();
        let kinds: Vec<_> = draft.events().iter().map(|event| event.kind().to_string()).collect();
        self.kinds = kinds.join(" ");
        if !kinds.is_empty() {
            self.operation = draft.seal().unwrap().operation;
        }
        self
    }

    fn after(mut self, seconds: u32) -> Self {
        self.now = self.now.plus(SECOND * seconds);
        self
    }

    fn answers(self, said: Said) -> Self {
        let key = self.operation.open.as_ref().unwrap().key;
        self.then(&[Input::Answer(Answer { key, said, took_ms: 5 })])
    }

    fn succeeds(self) -> Self {
        self.answers(succeeded())
    }

    fn fails(self) -> Self {
        self.answers(Said::Failed { error: "no".into(), known_by: KnownBy::Answer })
    }

    fn again(self) -> Self {
        self.answers(Said::TryAgain { error: "later".into(), retry_after: None })
    }

    fn unknown(self) -> Self {
        self.answers(Said::Unknown { error: "lost".into(), retry_after: None })
    }

    fn asked(mut self, request: Request) -> Self {
        self.inbox += 1;
        let row = InboxRow {
            seq: self.inbox,
            key: self.inbox.to_string(),
            request,
            actor: Actor::local(1),
            at: self.now,
        };
        self.then(&[Input::Requests(&[row])])
    }

    fn cancel(self) -> Self {
        self.asked(Request::Cancel { reason: "stop".into() })
    }

    fn verdict(self, decision: Decision) -> Self {
        self.asked(Request::Verdict { decision, reason: "seen".into() })
    }

    fn checks(self, checks: Checks) -> Self {
        self.then(&[Input::Checks(checks)])
    }

    fn is(&self, expected: &Expect) {
        expected.assert_eq(&format!("{} [{}]", self.operation.state, self.kinds));
    }
}

fn succeeded() -> Said {
    Said::Succeeded { output: "done".into(), known_by: KnownBy::Answer }
}

fn writer(now: Timestamp) -> Writer {
    Writer { session: SessionId(1), epoch: Epoch(1), actor: Actor::engine("test"), now }
}

fn held() -> Checks {
    Checks::Held { passes: 1, held_ms: 0, independent: true, detail: "good".into() }
}

fn limit(saw: Saw) -> Checks {
    Checks::Limit { saw, detail: "seen".into() }
}

fn reason() -> HoldReason {
    HoldReason::Paused { switch: "engine".into() }
}

const PLAN: Shape = Shape { plan: true, ..SHAPE };

#[test]
fn before_acting() {
    let new = || Case::accepted(&SHAPE);
    new().then(&[Input::Look]).is(&expect!["received []"]);
    new().then(&[Input::Admitted]).is(&expect!["rolling_back [admitted step_started]"]);
    let until = Timestamp::EPOCH.plus(SECOND);
    let blocked = || new().then(&[Input::Held(reason(), until)]);
    blocked().is(&expect!["blocked [held]"]);
    blocked().then(&[Input::Held(reason(), until)]).is(&expect!["blocked [held]"]);
    blocked().then(&[Input::Admitted]).is(&expect!["rolling_back [released admitted step_started]"]);
    blocked().cancel().is(&expect!["cancelled [cancel_requested cancelled]"]);
    blocked().after(600).then(&[Input::Admitted]).is(&expect!["timed_out [waiting_limit_reached]"]);
    let id = "a".parse().unwrap();
    let resolved = Request::Resolved { alert: id, ends_at: Timestamp::EPOCH };
    blocked().asked(resolved).is(&expect!["skipped [alert_resolved skipped]"]);
    let unknown = Request::Resolved { alert: "b".parse().unwrap(), ends_at: Timestamp::EPOCH };
    blocked().asked(unknown).is(&expect!["blocked [request_refused]"]);
    blocked().verdict(Decision::GoOn).is(&expect!["blocked [request_refused]"]);
}

#[test]
fn the_spine() {
    let one = || Case::admitted(&SHAPE);
    one().succeeds().is(&expect!["rolling_back [step_succeeded step_started]"]);
    one().succeeds().succeeds().is(&expect!["verifying [step_succeeded verification_started]"]);
    Case::verifying(&SHAPE).checks(held()).is(&expect!["restored [verification_passed]"]);
}

#[test]
fn what_a_failure_means() {
    let with = |on_error, plan| Case::admitted(&Shape { on_error, plan, ..SHAPE }).fails();
    with(OnError::Continue, true).is(&expect!["rolling_back [step_failed step_started]"]);
    with(OnError::Abort, true).is(&expect!["failed [step_failed failed]"]);
    with(OnError::Rollback, true)
        .is(&expect!["compensating [step_failed compensation_started step_started]"]);
    with(OnError::Rollback, false).is(&expect!["failed [step_failed failed]"]);
    with(OnError::Suspend, true).is(&expect!["suspended [step_failed suspended]"]);
}

#[test]
fn what_doubt_means() {
    let with = |policy| Case::admitted(&Shape { policy, ..SHAPE });
    with(Policy::Rerun).unknown().is(&expect!["rolling_back [try_failed]"]);
    with(Policy::Rerun).unknown().unknown().is(&expect!["suspended [try_failed suspended]"]);
    with(Policy::Rerun).unknown().again().is(&expect!["suspended [try_failed suspended]"]);
    with(Policy::Probe).unknown().unknown().unknown().is(&expect!["rolling_back [try_failed]"]);
    with(Policy::Probe)
        .unknown()
        .unknown()
        .unknown()
        .unknown()
        .is(&expect!["suspended [try_failed suspended]"]);
    with(Policy::Probe).unknown().answers(Said::NotApplied).is(&expect!["rolling_back [try_failed]"]);
    with(Policy::Probe).answers(Said::NotApplied).is(&expect!["rolling_back []"]);
    with(Policy::Halt).unknown().is(&expect!["suspended [try_failed suspended]"]);
    with(Policy::Halt).again().is(&expect!["rolling_back [try_failed]"]);
    with(Policy::Halt).again().again().is(&expect!["failed [step_failed failed]"]);
    // In doubt goes before `on_error`.
    Case::admitted(&Shape { policy: Policy::Halt, on_error: OnError::Continue, ..SHAPE })
        .unknown()
        .is(&expect!["suspended [try_failed suspended]"]);
}

#[test]
fn stopping_settles_first() {
    let asked = |policy, plan| Case::admitted(&Shape { policy, plan, ..SHAPE }).cancel();
    asked(Policy::Probe, false).is(&expect!["rolling_back [cancel_requested]"]);
    asked(Policy::Probe, false).succeeds().is(&expect!["cancelled [step_succeeded cancelled]"]);
    asked(Policy::Probe, true)
        .fails()
        .is(&expect!["compensating [step_failed compensation_started step_started]"]);
    asked(Policy::Probe, false).again().is(&expect!["cancelled [step_failed cancelled]"]);
    asked(Policy::Probe, false).unknown().is(&expect!["rolling_back [try_failed]"]);
    asked(Policy::Probe, false).unknown().unknown().is(&expect!["suspended [try_failed suspended]"]);
    asked(Policy::Probe, false)
        .unknown()
        .answers(Said::NotApplied)
        .is(&expect!["cancelled [step_failed cancelled]"]);
    asked(Policy::Rerun, false).unknown().is(&expect!["suspended [try_failed suspended]"]);
    let late = |plan| Case::admitted(&Shape { plan, ..SHAPE }).after(61).then(&[Input::Look]);
    late(false).is(&expect!["rolling_back [deadline_passed]"]);
    late(false).then(&[Input::Look]).is(&expect!["rolling_back []"]);
    late(false).succeeds().is(&expect!["timed_out [step_succeeded timed_out]"]);
    late(true).succeeds().is(&expect!["compensating [step_succeeded compensation_started step_started]"]);
}

/// However well it looks: an engine that comes late finds the deadline first.
#[test]
fn checks_after_the_deadline_decide_nothing() {
    let late = |plan| Case::verifying(&Shape { plan, ..SHAPE }).after(61);
    late(false).checks(held()).is(&expect!["timed_out [deadline_passed timed_out]"]);
    late(false).checks(limit(Saw::Unhealthy)).is(&expect!["timed_out [deadline_passed timed_out]"]);
    late(true)
        .checks(held())
        .is(&expect!["compensating [deadline_passed compensation_started step_started]"]);
    Case::verifying(&SHAPE).after(59).checks(held()).is(&expect!["restored [verification_passed]"]);
}

#[test]
fn pauses_and_rests_begin_nothing() {
    let key = |case: &Case| case.operation.open.as_ref().unwrap().key;
    let answer = |case: &Case| Input::Answer(Answer { key: key(case), said: succeeded(), took_ms: 1 });
    let case = Case::admitted(&SHAPE);
    let inputs = [answer(&case), Input::Rest];
    case.then(&inputs).is(&expect!["rolling_back [step_succeeded]"]);
    let case = Case::admitted(&SHAPE);
    let inputs = [answer(&case), Input::Paused("engine")];
    let paused = case.then(&inputs);
    paused.is(&expect!["rolling_back [step_succeeded paused]"]);
    let paused = paused.after(3600).then(&[Input::Look]);
    paused.is(&expect!["rolling_back []"]);
    paused.then(&[Input::Unpaused]).is(&expect!["rolling_back [unpaused step_started]"]);
}

#[test]
fn what_checks_mean() {
    let twice = Shape { attempts: 2, ..SHAPE };
    Case::verifying(&twice)
        .checks(limit(Saw::Unhealthy))
        .is(&expect!["rolling_back [checks_observed next_attempt_started step_started]"]);
    Case::verifying(&SHAPE).checks(limit(Saw::Unhealthy)).is(&expect!["failed [checks_observed failed]"]);
    Case::verifying(&PLAN)
        .checks(limit(Saw::Unhealthy))
        .is(&expect!["compensating [checks_observed compensation_started step_started]"]);
    Case::verifying(&twice)
        .checks(limit(Saw::Inconclusive))
        .is(&expect!["suspended [checks_observed suspended]"]);
    let undecided = || Case::verifying(&twice).checks(limit(Saw::Inconclusive));
    undecided().verdict(Decision::GoOn).is(&expect!["verifying [resumed_verifying]"]);
    undecided().verdict(Decision::GiveUp).is(&expect!["failed [given_up]"]);
    Case::verifying(&SHAPE).cancel().is(&expect!["cancelled [cancel_requested cancelled]"]);
    Case::verifying(&SHAPE).cancel().checks(held()).is(&expect!["cancelled []"]);
}

#[test]
fn verdicts() {
    let doubt = || Case::suspended(SHAPE);
    doubt()
        .verdict(Decision::Happened)
        .is(&expect!["rolling_back [resumed_rolling_back step_succeeded step_started]"]);
    doubt().verdict(Decision::DidNotHappen).is(&expect!["rolling_back [resumed_rolling_back step_resumed]"]);
    doubt().verdict(Decision::GoOn).is(&expect!["suspended [request_refused]"]);
    doubt().verdict(Decision::GiveUp).is(&expect!["failed [step_abandoned given_up]"]);
    doubt().cancel().is(&expect!["suspended [cancel_requested]"]);
    doubt()
        .cancel()
        .verdict(Decision::Happened)
        .is(&expect!["cancelled [resumed_rolling_back step_succeeded cancelled]"]);
    doubt()
        .cancel()
        .verdict(Decision::DidNotHappen)
        .is(&expect!["cancelled [resumed_rolling_back step_failed cancelled]"]);
    doubt().after(3600).then(&[Input::Look]).is(&expect!["suspended []"]);
    let failed = || Case::admitted(&Shape { on_error: OnError::Suspend, ..SHAPE }).fails();
    failed().verdict(Decision::GoOn).is(&expect!["rolling_back [resumed_rolling_back step_started]"]);
    failed().verdict(Decision::Happened).is(&expect!["suspended [request_refused]"]);
}

#[test]
fn a_new_attempt_has_new_keys() {
    let failed = Case::admitted(&Shape { on_error: OnError::Suspend, ..SHAPE }).fails();
    let key = failed.verdict(Decision::GoOn).operation.open.unwrap().key;
    assert_eq!((key.phase, key.attempt, key.step), (Phase::Rollback, 2, 0));
}

#[test]
fn compensation_gives_what_it_owes_and_has_a_limit() {
    let failed = || Case::admitted(&PLAN).fails();
    failed().succeeds().is(&expect!["compensating [step_succeeded step_started]"]);
    failed().succeeds().succeeds().is(&expect!["failed [step_succeeded compensated_to_failed]"]);
    failed().fails().is(&expect!["compensating [step_failed step_started]"]);
    failed().cancel().is(&expect!["compensating [cancel_requested]"]);
    failed().cancel().succeeds().succeeds().is(&expect!["failed [step_succeeded compensated_to_failed]"]);
    failed().after(31).then(&[Input::Look]).is(&expect!["compensating []"]);
    failed().after(31).succeeds().is(&expect!["failed [step_succeeded step_not_run compensated_to_failed]"]);
    let cancelled = Case::admitted(&PLAN).cancel().succeeds();
    cancelled.succeeds().succeeds().is(&expect!["cancelled [step_succeeded compensated_to_cancelled]"]);
    let late = Case::admitted(&PLAN).after(61).then(&[Input::Look]).succeeds();
    late.succeeds().succeeds().is(&expect!["timed_out [step_succeeded compensated_to_timed_out]"]);
}
