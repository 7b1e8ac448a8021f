//! [`Unanswered`]: rollback requests that were sent and got no answer. Nobody took them back: the target may still be
//! carrying one out, so that it says "not yet" for a while means nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redress_types::EffectKey;
use tokio::time::Instant;

/// So long after we gave a request up, the target may still be at it.
pub(super) const MAY_RUN: Duration = Duration::from_secs(10);

/// Those of the last [`MAY_RUN`], of this process: an earlier one took what it knew with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Unanswered(Arc<Mutex<HashMap<EffectKey, Instant>>>);

impl Unanswered {
    /// A request is about to be sent. Dropped before it is [`answered`](Sent::answered), it may still run.
    pub fn sending(&self, key: EffectKey) -> Sent<'_> {
        Sent { unanswered: self, key, is_answered: false }
    }

    /// Whether the target may be carrying out a request under this key.
    pub fn may_run(&self, key: EffectKey) -> bool {
        self.keys().get(&key).is_some_and(|given_up| given_up.elapsed() < MAY_RUN)
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<EffectKey, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request on its way.
pub(super) struct Sent<'a> {
    unanswered: &'a Unanswered,
    key: EffectKey,
    is_answered: bool,
}

impl Sent<'_> {
    /// The target is done with it, or never had it.
    pub fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            let now = Instant::now();
            let mut keys = self.unanswered.keys();
            keys.retain(|_, given_up| *given_up + MAY_RUN > now);
            keys.insert(self.key, now);
        }
    }
}
