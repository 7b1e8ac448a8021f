//! [`Pager`]: somebody to be called, who remembers it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use redress_action::{Error, Escalate, Escalation};

/// Remembers every call, those that it fails too. Clones are the same person.
#[derive(Clone, Debug, Default)]
pub struct Pager(Arc<Mutex<Calls>>);

#[derive(Debug, Default)]
struct Calls {
    answers: VecDeque<Error>,
    calls: Vec<Escalation>,
}

impl Pager {
    /// Somebody who always answers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next calls fail so, in order; those after them are answered.
    #[must_use]
    pub fn failing(self, errors: impl IntoIterator<Item = Error>) -> Self {
        self.lock().answers.extend(errors);
        self
    }

    /// Every call so far, in order.
    pub fn calls(&self) -> Vec<Escalation> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Escalate for Pager {
    async fn escalate(&self, escalation: &Escalation) -> Result<(), Error> {
        let mut calls = self.lock();
        calls.calls.push(escalation.clone());
        calls.answers.pop_front().map_or(Ok(()), Err)
    }
}
