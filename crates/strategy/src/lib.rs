//! Strategies as data. Pure.
//!
//! A [`Strategy`] says when it applies and what to do; [`Plan`] is the part of it that is frozen into every
//! operation, stored once under the hash of its content. Editing a strategy never changes an operation that
//! runs. Read [`plan`] next, then [`builder`] for how code makes one, then [`backoff`].

pub mod backoff;
pub mod builder;
pub mod plan;
pub mod trigger;

pub use builder::{Builder, Invalid, Step, Strategy};
pub use plan::{Limits, OnError, Plan, PlanCheck, PlanHash, PlanStep, Rate, StoredPlan, Tries};
pub use redress_action::OnFailure;
pub use trigger::Trigger;
