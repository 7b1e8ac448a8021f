//! Whether tables and cache can be used, for `/readyz`.

use std::sync::Arc;

use async_trait::async_trait;
use redress_api::{Condition, Dependency};
use redress_persistence::Persistence;

/// The persistence step. Tables that do not answer and a cache that is behind leave the service ready: alerts are
/// taken and remediated, and the outbox repairs the rest later.
pub(super) struct NeighbourHealth(pub Arc<Persistence>);

#[async_trait]
impl Dependency for NeighbourHealth {
    fn name(&self) -> &str {
        "persistence"
    }

    async fn check(&self) -> Condition {
        let readiness = self.0.readiness().await;
        let cache = readiness.cache.as_ref();
        let behind = cache.is_some_and(|cache| !cache.connected || cache.behind.is_some());
        let condition = match (&readiness.tables, &readiness.cache_error, behind) {
            (Some(why), _, _) => Condition::degraded(format!("the alert tables: {why}")),
            (None, Some(why), _) => Condition::degraded(format!("the cache: {why}; the outbox repairs it")),
            (None, None, true) => Condition::degraded("the cache is behind; the outbox repairs it"),
            (None, None, false) => Condition::up(),
        };
        condition
            .with("cache", serde_json::to_value(&readiness.cache).unwrap_or_default())
            .with("drift", readiness.drift)
    }
}
