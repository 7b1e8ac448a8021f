//! [`State`]: where an operation stands. Carries no data, so the grid stays finite.

use serde::{Deserialize, Serialize};

/// Where an operation stands. The words are the same in the database, in JSON and on the page.
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
pub enum State {
    /// Accepted and durable; about to be admitted.
    Received,
    /// Waits for something outside; the log says for what and until when.
    Blocked,
    /// The cause is being looked for.
    Diagnosing,
    /// Waits for people.
    AwaitingApproval,
    /// The steps of the strategy are being run.
    RollingBack,
    /// The steps are done; the checks decide.
    Verifying,
    /// The compensation plan is being run; the outcome it owes is already decided.
    Compensating,
    /// The engine cannot know or may not decide; a person is called.
    Suspended,
    /// Healthy again, and verified.
    Restored,
    /// It could not be restored; the log says why.
    Failed,
    /// A limit in time was reached.
    TimedOut,
    /// Nothing was to be done; the log says why.
    Skipped,
    /// A person stopped it.
    Cancelled,
}

impl State {
    /// An ended operation refuses every event.
    pub const fn is_ended(self) -> bool {
        match self {
            Self::Restored | Self::Failed | Self::TimedOut | Self::Skipped | Self::Cancelled => true,
            Self::Received
            | Self::Blocked
            | Self::Diagnosing
            | Self::AwaitingApproval
            | Self::RollingBack
            | Self::Verifying
            | Self::Compensating
            | Self::Suspended => false,
        }
    }

    /// The world may have been changed and the operation has not ended: it holds its target's slot.
    pub const fn is_acting(self) -> bool {
        match self {
            Self::RollingBack | Self::Verifying | Self::Compensating | Self::Suspended => true,
            Self::Received
            | Self::Blocked
            | Self::Diagnosing
            | Self::AwaitingApproval
            | Self::Restored
            | Self::Failed
            | Self::TimedOut
            | Self::Skipped
            | Self::Cancelled => false,
        }
    }
}
