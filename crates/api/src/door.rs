//! [`Door`]: the way into whatever engine is at work in this process.

use std::sync::{Arc, PoisonError, RwLock};

use redress_engine::{Engine, Health, Receipt, SendError, SubmitError};
use redress_types::Delivery;

/// The way into the engine of this process. Clones are the same door.
///
/// An engine that lost its session does nothing any more and another one is built; the service stays. While the
/// door is closed, alerts are answered 503 and the service says that it is not ready.
#[derive(Clone)]
pub struct Door(Arc<RwLock<Result<Arc<Engine>, Nowhere>>>);

/// Why a door leads into no engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Nowhere {
    /// It was never opened.
    #[error("the service is starting: no engine is at work here yet")]
    Yet,
    /// It was open once.
    #[error("no engine is at work here now")]
    Now,
}

impl Door {
    /// A door that is closed, before the first engine.
    pub fn closed() -> Self {
        Self(Arc::new(RwLock::new(Err(Nowhere::Yet))))
    }

    /// Leads into this engine from now on.
    pub fn open(&self, engine: Arc<Engine>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Ok(engine);
    }

    /// Leads nowhere from now on. What was sent is answered.
    pub fn close(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Err(Nowhere::Now);
    }

    /// How the engine stands; `None`: it leads into none.
    pub fn health(&self) -> Option<Health> {
        self.engine().ok().map(|engine| engine.health())
    }

    /// The engine behind it.
    pub(crate) fn engine(&self) -> Result<Arc<Engine>, Nowhere> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Submits an alert and waits until it is durable.
///
/// Cancellation safety: dropped, the alert may or may not have been taken; what was taken is carried out.
pub(crate) async fn submit(engine: &Engine, delivery: Delivery) -> Result<Receipt, SubmitError> {
    engine.sender().send(delivery).await.map_err(|error| match error {
        SendError::Closed(_) => SubmitError::Stopping,
        SendError::Refused(error) => error,
    })
}
