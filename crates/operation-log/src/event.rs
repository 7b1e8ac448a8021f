//! [`Event`]: a fact in the log. Its kind is a row of the machine; what the kind needs travels beside it here.

use std::sync::Arc;

use redress_fsm::{EventKind, State};
use redress_strategy::PlanHash;
use redress_types::{Alert, AlertId, EffectKey, Target, Timestamp};
use serde::{Deserialize, Serialize};

/// A fact: what was decided, or what happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// An alert became an operation.
    Accepted {
        /// The alert.
        alert: Arc<Alert>,
        /// What would be acted on.
        target: Target,
        /// The strategy that matched; `None`: none did.
        strategy: Option<String>,
        /// The plan frozen with it.
        plan: Option<PlanHash>,
        /// Strategy, target and parameters as one value; see `Strategy::sameness`.
        sameness: Option<String>,
    },
    /// Another alert of the same problem is counted here.
    AlertJoined {
        /// The inbox row that brought it.
        request: u64,
        /// The alert.
        alert: Arc<Alert>,
    },
    /// The source says that a counted alert is over.
    AlertResolved {
        /// The inbox row that brought it.
        request: u64,
        /// Which one.
        alert: AlertId,
        /// When the source says it ended.
        ends_at: Timestamp,
    },
    /// Something outside must change first.
    Held {
        /// What, in a form the engine can look at again.
        reason: HoldReason,
        /// When it looks again, at the latest.
        until: Timestamp,
    },
    /// What held it is gone.
    Released,
    /// The strategy asks for a diagnosis.
    DiagnosisStarted,
    /// The diagnosis.
    Diagnosed {
        /// The cause in a word.
        cause: String,
        /// From 0 to 1; 0 for "unknown".
        confidence: f64,
    },
    /// The strategy asks people.
    ApprovalRequested {
        /// When it expires.
        expires_at: Timestamp,
    },
    /// One person agreed.
    ApprovalGiven {
        /// Who.
        by: Actor,
    },
    /// A person refused.
    Rejected {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Nobody decided in time.
    ApprovalExpired,
    /// It may act.
    Admitted {
        /// The attempt that begins: 1.
        attempt: u32,
    },
    /// There is nothing to do.
    Skipped {
        /// Why nothing happened (safety rule 25).
        reason: String,
    },
    /// It waited as long as it may.
    WaitingLimitReached,
    /// A person wants it stopped.
    CancelRequested {
        /// The inbox row.
        request: u64,
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Stopped, nothing to compensate.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// Paused; time stands still.
    Paused {
        /// By which switch.
        switch: String,
    },
    /// The pause is over.
    Unpaused,
    /// The deadline passed.
    DeadlinePassed,
    /// A request that does not fit where the operation stands.
    RequestRefused {
        /// The inbox row.
        request: u64,
        /// Why.
        reason: String,
    },
    /// The intent.
    StepStarted {
        /// The effect's idempotency key.
        key: EffectKey,
        /// The step's name, for readers.
        step: String,
    },
    /// The same intent under the epoch of this entry.
    StepResumed {
        /// The effect's key.
        key: EffectKey,
        /// The inbox row of the verdict that resumed it, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<u64>,
    },
    /// One try went wrong, or nobody knows.
    TryFailed {
        /// The effect's key.
        key: EffectKey,
        /// Which try, from 1.
        try_number: u32,
        /// What went wrong.
        error: String,
        /// Nobody knows whether it happened.
        unknown: bool,
        /// When the step goes on.
        next_at: Timestamp,
    },
    /// It happened.
    StepSucceeded {
        /// The effect's key.
        key: EffectKey,
        /// What it left behind.
        output: String,
        /// How that is known.
        known_by: KnownBy,
        /// From the (first) call to the result, by this engine's monotonic clock, in milliseconds.
        took_ms: u64,
    },
    /// It did not, for good.
    StepFailed {
        /// The effect's key.
        key: EffectKey,
        /// What went wrong.
        error: String,
        /// How that is known.
        known_by: KnownBy,
        /// From the (first) call to the result, in milliseconds.
        took_ms: u64,
    },
    /// The intent was never sent.
    StepWithdrawn {
        /// The effect's key.
        key: EffectKey,
        /// Why.
        reason: String,
    },
    /// A person gave up on what nobody knows.
    StepAbandoned {
        /// The effect's key.
        key: EffectKey,
    },
    /// The compensation's limit left no time for it.
    StepNotRun {
        /// Its place in the compensation plan.
        step: u32,
    },
    /// The checks begin.
    VerificationStarted,
    /// What the checks see has changed.
    ChecksObserved {
        /// The overall verdict now.
        saw: Saw,
        /// What each check saw, one line.
        detail: String,
    },
    /// Every check held.
    VerificationPassed {
        /// Healthy looks in a row.
        passes: u32,
        /// How long they held, by the engine's monotonic clock, in milliseconds.
        held_ms: u64,
        /// At least one check looked at the service itself.
        independent: bool,
        /// What each check saw, one line.
        detail: String,
    },
    /// The next attempt begins.
    NextAttemptStarted {
        /// Its number.
        attempt: u32,
    },
    /// The compensation plan is to be run.
    CompensationStarted {
        /// The outcome that follows it.
        owes: Owed,
        /// Why it came to this.
        reason: String,
    },
    /// The outcome owed was Failed.
    CompensatedToFailed,
    /// The outcome owed was TimedOut.
    CompensatedToTimedOut,
    /// The outcome owed was Cancelled.
    CompensatedToCancelled,
    /// It could not be restored.
    Failed {
        /// Why.
        reason: String,
    },
    /// The deadline passed.
    TimedOut,
    /// The engine cannot know or may not decide.
    Suspended {
        /// What a person must find out or decide.
        reason: String,
    },
    /// A person decided: back to the steps.
    ResumedRollingBack {
        /// The decision.
        verdict: Verdict,
    },
    /// A person decided: back to the checks.
    ResumedVerifying {
        /// The decision.
        verdict: Verdict,
    },
    /// A person decided: back to the compensation.
    ResumedCompensating {
        /// The decision.
        verdict: Verdict,
    },
    /// A person decided: it is over.
    GivenUp {
        /// The decision.
        verdict: Verdict,
    },
}

/// Who did or said something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actor(pub String);

impl Actor {
    /// An engine, by its name.
    pub fn engine(name: &str) -> Self {
        Self(format!("engine:{name}"))
    }

    /// Who acts directly on the database of this machine. No approval.
    pub fn local(uid: u32) -> Self {
        Self(format!("local:{uid}"))
    }
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// What holds an operation before it acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case")]
pub enum HoldReason {
    /// The strategy leaves this target alone for a while after its last operation.
    Cooldown {
        /// The hold's key.
        key: String,
    },
    /// Another operation acts on the target.
    TargetBusy {
        /// The slot's key.
        slot: String,
        /// Which operation.
        holder: redress_types::OperationId,
    },
    /// A rate budget is used up.
    Budget {
        /// Its key.
        key: String,
        /// How many are allowed.
        most: u32,
    },
    /// A switch is off.
    Paused {
        /// Its key.
        switch: String,
    },
    /// No engine at work can run its plan.
    Missing {
        /// What they lack: an executor or a check, or what one of them must accept.
        what: String,
    },
}

impl std::fmt::Display for HoldReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cooldown { .. } => write!(f, "cooldown after the last operation on this target"),
            Self::TargetBusy { slot, holder } => write!(f, "operation {holder} is at work on {slot}"),
            Self::Budget { key, most } => write!(f, "the budget {key} of {most} is used up"),
            Self::Paused { switch } => write!(f, "{switch} is paused"),
            Self::Missing { what } => write!(f, "no engine at work has {what}"),
        }
    }
}

/// How a step's result is known.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum KnownBy {
    /// The executor answered.
    Answer,
    /// The target was asked.
    Probe,
    /// A person said so.
    Verdict,
}

/// What all checks together saw.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Saw {
    /// Every check was healthy.
    Healthy,
    /// At least one was not.
    Unhealthy,
    /// None was unhealthy, at least one saw nothing.
    Inconclusive,
}

/// The outcome that follows a compensation.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Owed {
    /// Failed.
    Failed,
    /// TimedOut.
    TimedOut,
    /// Cancelled.
    Cancelled,
}

/// A person's decision on a suspended operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The inbox row that brought it.
    pub request: u64,
    /// What was decided.
    pub decision: Decision,
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
}

/// What a person can decide on a suspended operation.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Decision {
    /// The step in doubt happened: it succeeded.
    Happened,
    /// The step in doubt did not happen: it is called again under its key.
    DidNotHappen,
    /// The failed step, or the verification, again under a new attempt number.
    GoOn,
    /// It is over: Failed, and no plan is run.
    GiveUp,
}

impl Event {
    /// The row of the machine.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Accepted { .. } => EventKind::Accepted,
            Self::AlertJoined { .. } => EventKind::AlertJoined,
            Self::AlertResolved { .. } => EventKind::AlertResolved,
            Self::Held { .. } => EventKind::Held,
            Self::Released => EventKind::Released,
            Self::DiagnosisStarted => EventKind::DiagnosisStarted,
            Self::Diagnosed { .. } => EventKind::Diagnosed,
            Self::ApprovalRequested { .. } => EventKind::ApprovalRequested,
            Self::ApprovalGiven { .. } => EventKind::ApprovalGiven,
            Self::Rejected { .. } => EventKind::Rejected,
            Self::ApprovalExpired => EventKind::ApprovalExpired,
            Self::Admitted { .. } => EventKind::Admitted,
            Self::Skipped { .. } => EventKind::Skipped,
            Self::WaitingLimitReached => EventKind::WaitingLimitReached,
            Self::CancelRequested { .. } => EventKind::CancelRequested,
            Self::Cancelled { .. } => EventKind::Cancelled,
            Self::Paused { .. } => EventKind::Paused,
            Self::Unpaused => EventKind::Unpaused,
            Self::DeadlinePassed => EventKind::DeadlinePassed,
            Self::RequestRefused { .. } => EventKind::RequestRefused,
            Self::StepStarted { .. } => EventKind::StepStarted,
            Self::StepResumed { .. } => EventKind::StepResumed,
            Self::TryFailed { .. } => EventKind::TryFailed,
            Self::StepSucceeded { .. } => EventKind::StepSucceeded,
            Self::StepFailed { .. } => EventKind::StepFailed,
            Self::StepWithdrawn { .. } => EventKind::StepWithdrawn,
            Self::StepAbandoned { .. } => EventKind::StepAbandoned,
            Self::StepNotRun { .. } => EventKind::StepNotRun,
            Self::VerificationStarted => EventKind::VerificationStarted,
            Self::ChecksObserved { .. } => EventKind::ChecksObserved,
            Self::VerificationPassed { .. } => EventKind::VerificationPassed,
            Self::NextAttemptStarted { .. } => EventKind::NextAttemptStarted,
            Self::CompensationStarted { .. } => EventKind::CompensationStarted,
            Self::CompensatedToFailed => EventKind::CompensatedToFailed,
            Self::CompensatedToTimedOut => EventKind::CompensatedToTimedOut,
            Self::CompensatedToCancelled => EventKind::CompensatedToCancelled,
            Self::Failed { .. } => EventKind::Failed,
            Self::TimedOut => EventKind::TimedOut,
            Self::Suspended { .. } => EventKind::Suspended,
            Self::ResumedRollingBack { .. } => EventKind::ResumedRollingBack,
            Self::ResumedVerifying { .. } => EventKind::ResumedVerifying,
            Self::ResumedCompensating { .. } => EventKind::ResumedCompensating,
            Self::GivenUp { .. } => EventKind::GivenUp,
        }
    }

    /// The inbox row that this event answers, if it answers one.
    pub const fn answers(&self) -> Option<u64> {
        match self {
            Self::AlertJoined { request, .. }
            | Self::AlertResolved { request, .. }
            | Self::CancelRequested { request, .. }
            | Self::RequestRefused { request, .. } => Some(*request),
            Self::ResumedRollingBack { verdict }
            | Self::ResumedVerifying { verdict }
            | Self::ResumedCompensating { verdict }
            | Self::GivenUp { verdict } => Some(verdict.request),
            Self::Accepted { .. }
            | Self::Held { .. }
            | Self::Released
            | Self::DiagnosisStarted
            | Self::Diagnosed { .. }
            | Self::ApprovalRequested { .. }
            | Self::ApprovalGiven { .. }
            | Self::Rejected { .. }
            | Self::ApprovalExpired
            | Self::Admitted { .. }
            | Self::Skipped { .. }
            | Self::WaitingLimitReached
            | Self::Cancelled { .. }
            | Self::Paused { .. }
            | Self::Unpaused
            | Self::DeadlinePassed
            | Self::StepStarted { .. }
            | Self::StepResumed { .. }
            | Self::TryFailed { .. }
            | Self::StepSucceeded { .. }
            | Self::StepFailed { .. }
            | Self::StepWithdrawn { .. }
            | Self::StepAbandoned { .. }
            | Self::StepNotRun { .. }
            | Self::VerificationStarted
            | Self::ChecksObserved { .. }
            | Self::VerificationPassed { .. }
            | Self::NextAttemptStarted { .. }
            | Self::CompensationStarted { .. }
            | Self::CompensatedToFailed
            | Self::CompensatedToTimedOut
            | Self::CompensatedToCancelled
            | Self::Failed { .. }
            | Self::TimedOut
            | Self::Suspended { .. } => None,
        }
    }
}

impl Owed {
    /// The event that ends a compensation with this outcome.
    pub const fn settled(self) -> Event {
        match self {
            Self::Failed => Event::CompensatedToFailed,
            Self::TimedOut => Event::CompensatedToTimedOut,
            Self::Cancelled => Event::CompensatedToCancelled,
        }
    }

    /// The state it leads to.
    pub const fn state(self) -> State {
        match self {
            Self::Failed => State::Failed,
            Self::TimedOut => State::TimedOut,
            Self::Cancelled => State::Cancelled,
        }
    }
}
