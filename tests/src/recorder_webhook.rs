//! [`Webhook`]: where people are called, behind a [`crate::recorder::Recorder`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use crate::recorder::{Ledger, Reply, Target};
use crate::recorder_http::Request;

/// A webhook that remembers what it was told, each time. Clones hear the same.
#[derive(Clone, Debug, Default)]
pub struct Webhook(Arc<Mutex<Vec<Request>>>);

impl Webhook {
    fn lock(&self) -> MutexGuard<'_, Vec<Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each request, in order.
    #[must_use]
    pub fn told(&self) -> Vec<Request> {
        self.lock().clone()
    }

    /// The idempotency keys that it was called under.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<String> {
        self.lock().iter().map(|request| request.key().to_owned()).collect()
    }
}

impl Target for Webhook {
    fn answer(&mut self, request: &Request, _: &mut Ledger) -> Reply {
        self.lock().push(request.clone());
        Reply::Json(200, json!({ "ok": true }))
    }
}
