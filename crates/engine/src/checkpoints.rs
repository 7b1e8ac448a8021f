//! Writes checkpoints over the log: now and then while something is appended, and when the engine stops.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::shared::Shared;

/// The shortest time between two checkpoints.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// Writes checkpoints until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let every = shared.config.checkpoint_every.max(EVERY_MIN);
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => write(&shared).await,
            () = shared.stopping.cancelled() => return,
            () = shared.lost.cancelled() => return,
        }
    }
}

/// Writes one over everything appended so far, unless this engine has appended nothing since its last one.
pub(crate) async fn write(shared: &Shared) {
    let appended = shared.appended.load(Ordering::Relaxed);
    if appended <= shared.covered.load(Ordering::Relaxed) {
        return;
    }
    let key = shared.config.checkpoint_key.clone();
    match shared.log.checkpoint(shared.now(), key.as_deref()).await {
        Ok(checkpoint) => {
            shared.covered.fetch_max(checkpoint.position, Ordering::Relaxed);
            tracing::debug!(number = checkpoint.number, position = checkpoint.position, "checkpoint");
        }
        // The next one covers what this one would have.
        Err(error) => tracing::warn!(%error, "a checkpoint could not be written"),
    }
}
