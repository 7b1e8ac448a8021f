//! The values every part of Redress speaks: time, ids, alerts, targets and keys.
//!
//! Nothing here decides anything. Read [`alert`] for what a source tells us, [`id`] for names that must be
//! unique, [`issue`] for a problem as people see it, [`key`] for what travels with every effect, [`time`] for the one
//! timestamp type, [`causes`] for how an error is told.

pub mod alert;
pub mod causes;
pub mod clock;
pub mod delivery;
pub mod hash;
pub mod id;
pub mod issue;
pub mod key;
pub mod time;
pub mod url;

pub use alert::{Alert, Labels, Level, Severity, Target};
pub use causes::WithCauses;
pub use clock::{Clock, SystemClock};
pub use delivery::{Delivery, Source, Status};
pub use hash::Hash;
pub use id::{AlertId, Fingerprint, InvalidId, OperationId};
pub use issue::{Comment, Issue, IssueDetail, IssueState};
pub use key::{EffectKey, Epoch, FencingToken, Incarnation, Phase};
pub use time::{Timestamp, parse_duration, show_duration};
