//! [`EventKind`]: what can be written into the log. Each kind names a decision, so each has one next state.

use serde::{Deserialize, Serialize};

/// The kind of a fact in the operation log. Carries no data; what belongs to it travels beside it.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::EnumIter,
    strum::EnumCount,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EventKind {
    /// An alert became an operation. The first event of every operation and of nothing else.
    Accepted,
    /// Another alert of the same problem is counted on this operation.
    AlertJoined,
    /// The source says that a counted alert is over: a vote, not proof.
    AlertResolved,
    /// Something outside must change first.
    Held,
    /// What held it is gone.
    Released,
    /// The strategy asks for a diagnosis.
    DiagnosisStarted,
    /// The diagnosis is recorded, "unknown" included.
    Diagnosed,
    /// The strategy asks people.
    ApprovalRequested,
    /// One person agreed.
    ApprovalGiven,
    /// A person refused.
    Rejected,
    /// Nobody decided in time.
    ApprovalExpired,
    /// It may act: the target's slot is taken.
    Admitted,
    /// There is nothing to do.
    Skipped,
    /// It waited as long as it may before acting.
    WaitingLimitReached,
    /// A person wants it stopped; takes effect once the step under way is settled.
    CancelRequested,
    /// Stopped, nothing to compensate.
    Cancelled,
    /// The engine, the strategy or the target is paused; time stands still.
    Paused,
    /// The pause is over.
    Unpaused,
    /// The deadline passed; takes effect once the step under way is settled.
    DeadlinePassed,
    /// A fact from the inbox that does not fit where the operation stands.
    RequestRefused,
    /// The intent: written before the executor is called.
    StepStarted,
    /// The same intent under a new epoch, after a takeover or a verdict.
    StepResumed,
    /// One try went wrong or nobody knows; the step goes on.
    TryFailed,
    /// The step's one accepted result: it happened.
    StepSucceeded,
    /// The step's one accepted result: it did not, and is not tried again.
    StepFailed,
    /// The intent was never sent.
    StepWithdrawn,
    /// A person gave up on a step in doubt.
    StepAbandoned,
    /// A step of the compensation plan that its limit left no time for.
    StepNotRun,
    /// Every step is done; the checks begin.
    VerificationStarted,
    /// What the checks see has changed.
    ChecksObserved,
    /// Every check held for the settle time.
    VerificationPassed,
    /// The checks failed and an attempt remains.
    NextAttemptStarted,
    /// The compensation plan is to be run, and the outcome it owes is decided.
    CompensationStarted,
    /// The plan has run; the outcome owed was Failed.
    CompensatedToFailed,
    /// The plan has run; the outcome owed was TimedOut.
    CompensatedToTimedOut,
    /// The plan has run; the outcome owed was Cancelled.
    CompensatedToCancelled,
    /// It could not be restored, and there is no plan to run.
    Failed,
    /// The deadline passed, and there is no plan to run.
    TimedOut,
    /// The engine cannot know or may not decide.
    Suspended,
    /// A person decided: back to the steps.
    ResumedRollingBack,
    /// A person decided: back to the checks.
    ResumedVerifying,
    /// A person decided: back to the compensation plan.
    ResumedCompensating,
    /// A person decided: it is over.
    GivenUp,
}
