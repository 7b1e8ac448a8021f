//! Whether it lives, and whether it can do its work.

use std::sync::Arc;

use async_trait::async_trait;
use redress_api::{Condition, Dependency, Limits};
use redress_testkit::Act;
use serde_json::json;

use crate::openapi::has_the_fields_of;
use crate::world::World;

struct Redis(Condition);

#[async_trait]
impl Dependency for Redis {
    fn name(&self) -> &str {
        "redis"
    }

    async fn check(&self) -> Condition {
        self.0.clone()
    }
}

struct Silent;

#[async_trait]
impl Dependency for Silent {
    fn name(&self) -> &str {
        "tables"
    }

    async fn check(&self) -> Condition {
        std::future::pending().await
    }
}

#[tokio::test]
async fn ready_says_how_each_thing_is() {
    let world = World::new().await;
    assert_eq!(world.get("/healthz").await.json(), json!({"status": "ok"}));
    let answer = world.get("/readyz").await;
    assert_eq!(answer.status, 200);
    let json = answer.json();
    has_the_fields_of("Readiness", &json);
    assert_eq!(json["status"], "ready");
    let log = &json["dependencies"]["log"];
    assert_eq!((&log["status"], &log["details"]["owed"]), (&json!("up"), &json!(0)));
    assert!(log["details"]["durability"].is_string());
    let engine = &json["dependencies"]["engine"];
    assert_eq!((&engine["status"], &engine["details"]["acts"]), (&json!("up"), &json!(true)));
    assert!(engine["details"]["lease_left_ms"].as_u64().unwrap() > 1_000, "{engine}");
}

#[tokio::test]
async fn what_is_behind_degrades_and_what_is_down_is_not_ready() {
    let behind = Condition::degraded("down; the outbox repairs it later").with("behind", 3);
    let world = World::with(|service| service.dependency(Arc::new(Redis(behind)))).await;
    let answer = world.get("/readyz").await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("degraded")));
    assert_eq!(answer.json()["dependencies"]["redis"]["details"]["behind"], 3);

    let limits = Limits { check_timeout: std::time::Duration::from_millis(20), ..Limits::default() };
    let world = World::with(|service| service.limits(limits).dependency(Arc::new(Silent))).await;
    let answer = world.get("/readyz").await;
    assert_eq!((answer.status, &answer.json()["status"]), (503, &json!("unready")));
    assert_eq!(answer.json()["dependencies"]["tables"]["message"], "no answer in time");
}

#[tokio::test]
async fn a_log_that_does_not_answer_is_not_ready_and_the_process_lives() {
    let world = World::new().await;
    world.log.hook(|moment| if moment.method == "status" { Act::Fail } else { Act::GoOn });
    let answer = world.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["dependencies"]["log"]["status"], "down");
    assert!(!answer.body.contains("as the test wants"), "{}", answer.body);
    assert_eq!(world.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn an_engine_that_stopped_or_is_not_there_is_not_ready() {
    let world = World::new().await;
    world.engine.shutdown().await;
    let answer = world.get("/readyz").await;
    assert_eq!((answer.status, &answer.json()["dependencies"]["engine"]["status"]), (503, &json!("down")));
    world.door.close();
    let answer = world.get("/readyz").await;
    assert_eq!(answer.json()["dependencies"]["engine"]["message"], "no engine is at work here");
}
