//! Whether it lives, and whether it can do its work.

use std::sync::Arc;

use async_trait::async_trait;
use redress_api::{Condition, Dependency, Door, EngineHealth, Limits, Service};
use redress_engine::operation_log::{MemoryLog, OperationHistory};
use redress_testkit::{Act, TestClock};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::client::{Ask, Connection};
use crate::openapi::has_the_fields_of;
use crate::webhook::body;
use crate::world::{WEBHOOK, World};

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
    assert_eq!(answer.json()["dependencies"]["engine"]["message"], "no engine is at work here now");
}

#[tokio::test]
async fn before_the_first_engine_it_says_that_it_is_starting() {
    let clock = TestClock::new();
    let history: Arc<dyn OperationHistory> = Arc::new(MemoryLog::new(Arc::new(clock.clone())));
    let door = Door::closed();
    let engine = EngineHealth::new(door.clone(), Arc::clone(&history));
    let service = Service::new(door.clone(), history, Arc::new(clock)).dependency(Arc::new(engine));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut connection = Connection::open(listener.local_addr().unwrap()).await;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(service.serve(listener, stop.clone()));
    let alert = r#"{"id":"a","service":"s","alert_since":"2026-01-01T00:00:00Z"}"#;
    let webhook = body(&[("shop", 1, "firing")]).to_string();
    for (path, body) in [("/v1/alerts", alert), (WEBHOOK, &webhook)] {
        let answer = connection.ask(&Ask::post(path, body)).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"));
        assert_eq!(
            answer.message(),
            "the service is starting: no engine is at work here yet; send the whole request again"
        );
        assert_eq!(answer.json()["error"]["details"]["not_durable"], 1);
    }
    let ready = connection.ask(&Ask::get("/readyz")).await.json();
    let said = &ready["dependencies"]["engine"]["message"];
    assert_eq!(said, "the service is starting: no engine is at work here yet");
    assert_eq!(ready["intake"]["unavailable"], 2);
    // Later it is not starting any more, whatever became of its engine.
    door.close();
    let answer = connection.ask(&Ask::post("/v1/alerts", alert)).await;
    assert_eq!(answer.message(), "no engine is at work here now; send the whole request again");
    stop.cancel();
    serving.await.unwrap();
}
