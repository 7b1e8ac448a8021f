//! [`Observed`]: what watchers see, after the commit. They never delay or fail an operation.

use std::sync::Arc;

use redress_fsm::State;
use redress_operation_log::{Entry, Operation};

/// One committed entry and the operation after it.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The operation after the entry.
    pub operation: Arc<Operation>,
    /// The entry.
    pub entry: Arc<Entry>,
}

impl Observed {
    /// Where it stands now.
    pub fn state(&self) -> State {
        self.operation.state
    }
}
