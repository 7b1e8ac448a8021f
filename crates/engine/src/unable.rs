//! An operation whose plan this engine cannot run, and no other engine has taken: an executor or a check is missing,
//! or declares something else than the plan was made with.
//!
//! It still hears what is asked of it, and its limits still hold: that needs no executor. Before it acts it is Blocked
//! with what it waits for. While it acts it keeps its slot, and after [`PATIENCE`] it is Suspended with what it waits
//! for, which calls a person. An engine that has the part takes a waiting operation at once.

use std::time::Duration;

use redress_fsm::State;
use redress_operation_log::event::HoldReason;

use crate::decide::Input;
use crate::driver::{Driver, Stop};

/// How long an operation that acts waits for an engine that can run its plan, before a person is called.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// What an operation waits for.
pub(crate) struct WaitsFor {
    /// The part of its plan that this engine lacks.
    pub missing: String,
    /// It has waited longer than [`PATIENCE`].
    pub long: bool,
}

impl Driver {
    /// Folds what is asked, carries out what needs no part of the plan, records what it waits for, and lets go. True:
    /// it waits for nothing any more, or for a person.
    pub(crate) async fn go_on_without(mut self, waits_for: WaitsFor) -> bool {
        let settled = self.settle_without(waits_for).await;
        if let Err(stop) = &settled {
            tracing::warn!(operation = %self.operation.id, ?stop, "what it waits for could not be recorded");
        }
        // What an entry has let go of is held by nobody already.
        if self.holds() && !matches!(settled, Err(Stop::Lost)) {
            self.give_up(self.operation.id).await;
        }
        let state = self.operation.state;
        settled.is_ok() && (state.is_ended() || state == State::Suspended)
    }

    async fn settle_without(&mut self, waits_for: WaitsFor) -> Result<(), Stop> {
        let WaitsFor { missing, long } = waits_for;
        let rows = self.inbox_now().await.unwrap_or_default();
        // Rest: nothing is to be begun that this engine could not go on with.
        self.record_all(vec![Input::Requests(&rows), Input::Rest]).await?;
        if !self.holds() || self.operation.state.is_ended() || self.operation.state == State::Suspended {
            return Ok(());
        }
        if self.operation.state.is_acting() {
            if !long {
                return Ok(());
            }
            let why = format!(
                "no engine at work has {missing}, which it needs to go on; start one that has, then decide"
            );
            return self.record_all(vec![Input::Doubt(&why)]).await;
        }
        let reason = HoldReason::Missing { what: missing };
        if self.operation.hold.as_ref().is_some_and(|hold| hold.reason == reason) {
            return Ok(());
        }
        // Due again soon, for an engine that can run it.
        let until = self.shared.now().plus(self.shared.config.lease);
        self.record_all(vec![Input::Held(reason, until)]).await
    }
}
