//! The table. One row a line: from, event, to, why. [`next`] is the only way from one state to another.

use strum::{EnumCount as _, IntoEnumIterator as _};

use crate::event_kind::{EventKind, EventKind as E};
use crate::state::{State, State as S};

/// Before anything was done to the world.
const WAITING: &[State] = &[S::Received, S::Blocked, S::Diagnosing, S::AwaitingApproval];
/// The engine is at work.
const WORKING: &[State] = &[S::RollingBack, S::Verifying, S::Compensating];
/// Where steps run.
const STEPPING: &[State] = &[S::RollingBack, S::Compensating];
/// Everything that has not ended.
const OPEN: &[State] = &[
    S::Received,
    S::Blocked,
    S::Diagnosing,
    S::AwaitingApproval,
    S::RollingBack,
    S::Verifying,
    S::Compensating,
    S::Suspended,
];

/// The machine. Two rows for one (state, event) do not compile.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    // Facts that arrive while it goes on.
    stay(OPEN,     E::AlertJoined,         "another alert of the same problem is counted here"),
    stay(OPEN,     E::AlertResolved,       "the source's word is one vote"),
    stay(OPEN,     E::RequestRefused,      "every request is answered on record, also the one that cannot be met"),

    // Before acting.
    go(&[S::Received, S::Diagnosing, S::AwaitingApproval], E::Held, S::Blocked, "cooldown, busy target, limit, storm, window, pause, or condition unknown"),
    stay(&[S::Blocked], E::Held,                "held for another reason, or looked again too early"),
    go(&[S::Blocked], E::Released, S::Received,    "what held it is gone: every condition is looked at again"),
    go(&[S::Received], E::DiagnosisStarted, S::Diagnosing, "the strategy asks for a diagnosis"),
    stay(&[S::Diagnosing], E::Diagnosed,           "recorded; a diagnosis that failed is unknown, confidence 0"),
    go(&[S::Received, S::Diagnosing], E::ApprovalRequested, S::AwaitingApproval, "the strategy asks people"),
    stay(&[S::AwaitingApproval], E::ApprovalGiven, "one of the approvals it needs"),
    go(&[S::AwaitingApproval], E::Rejected, S::Cancelled, "a person refused"),
    go(&[S::AwaitingApproval], E::ApprovalExpired, S::TimedOut, "nobody decided in time"),
    go(&[S::Received, S::Diagnosing, S::AwaitingApproval], E::Admitted, S::RollingBack, "nothing holds it, and it has its target's slot"),
    go(WAITING, E::Skipped, S::Skipped, "no strategy, observe only, or no longer true"),
    go(WAITING, E::WaitingLimitReached, S::TimedOut, "it waited as long as it may"),

    // Stopping and standing still.
    stay(OPEN,     E::CancelRequested,     "at once before acting; else the step under way, or the verdict, comes first; while compensating it changes nothing"),
    go(WAITING, E::Cancelled, S::Cancelled, "a person stopped it before anything was done"),
    go(&[S::RollingBack, S::Verifying], E::Cancelled, S::Cancelled, "a person stopped it, and there is no plan to run"),
    stay(WORKING, E::Paused,              "time stands still until the pause is over"),
    stay(WORKING, E::Unpaused,            "time goes on"),
    stay(WORKING, E::DeadlinePassed,      "the step under way is settled first; while compensating it changes nothing"),

    // Steps: the intent before the effect, one result after it.
    stay(STEPPING, E::StepStarted,         "the intent is durable before the call"),
    stay(STEPPING, E::StepResumed,         "the same key under a new epoch"),
    stay(STEPPING, E::TryFailed,           "the step goes on: another try, or a look at the target"),
    stay(STEPPING, E::StepSucceeded,       "it happened"),
    stay(STEPPING, E::StepFailed,          "it did not, for good"),
    stay(STEPPING, E::StepWithdrawn,       "the intent was never sent"),
    stay(&[S::Suspended], E::StepAbandoned,       "a person gave up on what nobody knows"),
    stay(&[S::Compensating], E::StepNotRun,          "the plan's own limit left no time for it"),

    // Did it work?
    go(&[S::RollingBack], E::VerificationStarted, S::Verifying, "every step is done"),
    stay(&[S::Verifying], E::ChecksObserved,      "what the checks see has changed"),
    go(&[S::Verifying], E::VerificationPassed, S::Restored, "every check held for the settle time"),
    go(&[S::Verifying], E::NextAttemptStarted, S::RollingBack, "the checks failed and an attempt remains"),

    // It did not.
    go(&[S::RollingBack, S::Verifying], E::CompensationStarted, S::Compensating, "on_error: rollback, no attempt left, cancel or deadline, with a plan"),
    go(&[S::Compensating], E::CompensatedToFailed, S::Failed, "the outcome it owes"),
    go(&[S::Compensating], E::CompensatedToTimedOut, S::TimedOut, "the outcome it owes"),
    go(&[S::Compensating], E::CompensatedToCancelled, S::Cancelled, "the outcome it owes"),
    go(&[S::RollingBack, S::Verifying], E::Failed, S::Failed, "on_error: abort, or no plan to run"),
    go(&[S::RollingBack, S::Verifying], E::TimedOut, S::TimedOut, "the deadline passed, and there is no plan to run"),

    // Nobody knows.
    go(WORKING, E::Suspended, S::Suspended, "in doubt and not to be repeated, or not to be decided by a machine"),
    go(&[S::Suspended], E::ResumedRollingBack, S::RollingBack, "a person's verdict"),
    go(&[S::Suspended], E::ResumedVerifying, S::Verifying, "a person's verdict"),
    go(&[S::Suspended], E::ResumedCompensating, S::Compensating, "a person's verdict"),
    go(&[S::Suspended], E::GivenUp, S::Failed, "a person gave up; no plan is run"),
];

/// Where every operation begins: the state after [`EventKind::Accepted`], which no state accepts again.
pub const INITIAL: State = S::Received;

/// One row of [`TABLE`].
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The states it holds for.
    pub from: &'static [State],
    /// What happened.
    pub event: EventKind,
    /// Where it leads; `None`: the state stays.
    pub to: Option<State>,
    /// Why the row is there.
    pub why: &'static str,
}

/// An event that the table does not allow where the operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} is not possible in state {state}")]
pub struct Refusal {
    /// Where it stands.
    pub state: State,
    /// What was to be recorded.
    pub event: EventKind,
}

/// The next state, or the refusal. The same function live and in replay.
pub const fn next(state: State, event: EventKind) -> Result<State, Refusal> {
    match GRID[state as usize][event as usize] {
        Some(next) => Ok(next),
        None => Err(Refusal { state, event }),
    }
}

/// The pairs that the table allows, as (from, event, to, why), in the order of the table.
pub fn transitions() -> impl Iterator<Item = (State, EventKind, State, &'static str)> {
    TABLE
        .iter()
        .flat_map(|row| row.from.iter().map(move |from| (*from, row.event, row.to.unwrap_or(*from), row.why)))
}

/// The events that a state accepts.
pub fn accepted_by(state: State) -> impl Iterator<Item = EventKind> {
    EventKind::iter().filter(move |event| next(state, *event).is_ok())
}

const fn go(from: &'static [State], event: EventKind, to: State, why: &'static str) -> Row {
    Row { from, event, to: Some(to), why }
}

const fn stay(from: &'static [State], event: EventKind, why: &'static str) -> Row {
    Row { from, event, to: None, why }
}

/// The table spread out, so that [`next`] is one look-up. Built by the compiler, which also refuses a pair
/// that stands twice and a way out of an ended state.
const GRID: [[Option<State>; EventKind::COUNT]; State::COUNT] = {
    let mut grid = [[None; EventKind::COUNT]; State::COUNT];
    let mut r = 0;
    while r < TABLE.len() {
        let row = &TABLE[r];
        let mut f = 0;
        while f < row.from.len() {
            let from = row.from[f];
            let cell = &mut grid[from as usize][row.event as usize];
            assert!(cell.is_none(), "a (state, event) pair stands twice in the table");
            assert!(!from.is_ended(), "an ended operation refuses every event");
            *cell = Some(match row.to {
                Some(to) => to,
                None => from,
            });
            f += 1;
        }
        r += 1;
    }
    grid
};
