//! Keeps the session's lease: renews it at a third, and stops the engine from acting before it may have ended.

use std::sync::Arc;

use redress_operation_log::Error;
use tokio::time::Instant;

use crate::shared::Shared;

/// Renews the lease until the session is over, or until the engine is let go of. `counted_from` is when it was asked
/// for.
///
/// A renewal that fails or does not answer is tried again, quickly, for as long as the lease surely lasts: a database
/// that is started anew in the meantime is no reason to let go.
pub(crate) async fn keep(shared: Arc<Shared>, mut counted_from: Instant) {
    let lease = shared.session.lease;
    let mut next = counted_from + lease / 3;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = shared.let_go.cancelled() => {
                // What is under way may be settled for as long as the lease surely lasts.
                tokio::time::sleep_until(counted_from + lease - lease / 6).await;
                break;
            }
        }
        let (asked, asked_at) = (Instant::now(), shared.now());
        // The answer must come while the lease surely lasts.
        let end = counted_from + lease - lease / 6;
        if asked >= end {
            tracing::error!("the lease could not be renewed in time: nothing more is done");
            break;
        }
        // One that hangs is not waited for to the end: its connection may be gone.
        let patience = end.min(asked + lease / 6);
        let renewing = shared.log.renew_session(shared.session_id());
        match tokio::time::timeout_at(patience, renewing).await {
            Ok(Ok(log_now)) => {
                shared.note_clock(asked_at, log_now);
                *shared.lease_end() = asked + lease;
                counted_from = asked;
                next = asked + lease / 3;
                continue;
            }
            Ok(Err(error @ Error::Stale { .. })) => {
                tracing::error!(%error, "the session is over: another engine goes on");
                break;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the lease could not be renewed"),
            Err(_) => tracing::warn!("the log does not answer: the lease could not be renewed"),
        }
        next = (Instant::now() + lease / 30).min(end);
    }
    shared.lost.cancel();
}
