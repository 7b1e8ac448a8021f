//! Alertmanager's webhook (contracts §2).

use std::sync::Arc;

use async_trait::async_trait;
use redress_api::{Access, Pull, PullError};
use redress_engine::fsm::State;
use redress_engine::operation_log::{MemoryLog, OperationHistory as _};
use redress_testkit::{Act, Do, Gate, Moment, Script, SequentialIds, TestClock, When};
use serde_json::{Value, json};

use crate::client::{Ask, Connection};
use crate::world::{WEBHOOK, World};

const CASES: [(&str, &str); 4] = [
    ("firing", include_str!("../../../../examples/alerts/alertmanager-firing.json")),
    ("mixed", include_str!("../../../../examples/alerts/alertmanager-mixed.json")),
    ("resolved", include_str!("../../../../examples/alerts/alertmanager-resolved.json")),
    ("truncated", include_str!("../../../../examples/alerts/alertmanager-truncated.json")),
];

fn case(name: &str) -> &'static str {
    CASES.iter().find(|(case, _)| *case == name).map(|(_, body)| *body).unwrap()
}

/// A body with these alerts: name, fingerprint's last digit, status.
pub fn body(alerts: &[(&str, u8, &str)]) -> Value {
    let alerts = alerts.iter().map(|(service, digit, status)| {
        let ends_at = if *status == "firing" { "0001-01-01T00:00:00Z" } else { "2026-01-01T00:00:00Z" };
        json!({"status": status, "labels": {"alertname": "Down", "service": service, "instance": digit.to_string()},
               "annotations": {}, "startsAt": "2025-12-31T23:59:00Z", "endsAt": ends_at,
               "fingerprint": format!("b0f25eccdaefc0{digit:02x}")})
    });
    json!({"version": "4", "groupKey": "k", "receiver": "redress", "status": "firing",
           "groupLabels": {"alertname": "Down"}, "alerts": alerts.collect::<Vec<_>>()})
}

#[tokio::test]
async fn what_a_real_alertmanager_sent_is_taken_once() {
    let gate = Gate::new();
    let world = World::running(Script::always(Do::behind(&gate, Do::Succeed)), |service| service).await;
    let first = world.post(WEBHOOK, case("firing")).await;
    assert_eq!((first.status, first.json()), (200, json!({"ok": true, "created": 3})));
    let again = world.post(WEBHOOK, case("firing")).await;
    assert_eq!((again.status, again.json()), (200, json!({"ok": true, "created": 0})));
    let operations = world.operations().await;
    assert_eq!(operations.len(), 1, "one problem of one service: {operations:#?}");
    let alerts = world.log.alerts_of(operations[0].id).await.unwrap();
    assert_eq!(alerts.iter().map(|alert| alert.count).collect::<Vec<_>>(), [2, 2, 2]);
    gate.open();
}

#[tokio::test]
async fn a_query_loses_no_alert_and_no_probe() {
    let world = World::new().await;
    let asked = format!("{WEBHOOK}?team=shop&%ff");
    let answer = world.post(&asked, body(&[("shop", 1, "firing")]).to_string()).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"ok": true, "created": 1})));
    assert_eq!(world.get("/healthz?from=balancer").await.status, 200);
}

#[tokio::test]
async fn each_alert_counts_by_its_own_status() {
    let world = World::new().await;
    let answer = world.post(WEBHOOK, case("mixed")).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"ok": true, "created": 3})));
    let world = World::new().await;
    let answer = world.post(WEBHOOK, case("resolved")).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"ok": true, "msg": "ignored (not firing)"})));
    assert!(world.operations().await.is_empty());
    let answer = world.post(WEBHOOK, body(&[]).to_string()).await;
    assert_eq!(answer.json(), json!({"ok": true, "msg": "ignored (not firing)"}));
}

#[tokio::test]
async fn a_resolved_that_concerns_an_operation_is_not_ignored() {
    let gate = Gate::new();
    let script = Script::always(Do::behind(&gate, Do::Succeed));
    let mut world = World::running(script, |service| service).await;
    world.post(WEBHOOK, body(&[("shop", 1, "firing")]).to_string()).await;
    world.until(State::RollingBack).await;
    let answer = world.post(WEBHOOK, body(&[("shop", 1, "resolved")]).to_string()).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"ok": true, "created": 0})));
    gate.open();
    world.until(State::Restored).await;
    assert_eq!(world.target.all().len(), 1);
}

#[tokio::test]
async fn an_alert_without_a_service_fails_nothing_else() {
    let world = World::new().await;
    let answer = world.post(WEBHOOK, body(&[("", 1, "firing"), ("shop", 2, "firing")]).to_string()).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"ok": true, "created": 2})));
    let states: Vec<_> = world.operations().await.into_iter().map(|head| head.service_and_state()).collect();
    assert!(states.contains(&(String::new(), State::Skipped)), "{states:?}");
}

trait ServiceAndState {
    fn service_and_state(self) -> (String, State);
}

impl ServiceAndState for redress_engine::operation_log::Head {
    fn service_and_state(self) -> (String, State) {
        (self.target.service, self.state)
    }
}

#[tokio::test]
async fn malformed_bodies_are_refused_whole_and_name_the_field() {
    let world = World::new().await;
    let mut bad = body(&[("shop", 1, "firing"), ("shop", 2, "firing")]);
    bad["alerts"][1]["startsAt"] = json!("yesterday");
    let cases = [
        (bad.to_string(), "alerts[1].startsAt"),
        (json!({"version": "3", "alerts": []}).to_string(), "version"),
        (json!({"version": "4", "alerts": {}}).to_string(), "alerts"),
        (json!([{"id": "a", "alert_since": "2026-01-01T00:00:00Z"}]).to_string(), "alerts"),
        ("{".to_owned(), "the payload is not JSON"),
        (String::new(), "the payload is not JSON"),
        ("null".to_owned(), "the payload"),
    ];
    for (body, named) in cases {
        let answer = world.post(WEBHOOK, &body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "INVALID_PARAMETER"), "{body}");
        assert!(answer.message().contains(named), "{}", answer.message());
    }
    let answer = world.post(WEBHOOK, bad.to_string()).await;
    let problem = &answer.json()["error"]["details"]["problems"][0];
    assert_eq!((&problem["field"], &problem["index"]), (&json!("alerts[1].startsAt"), &json!(1)));
    let not_text = world.post(WEBHOOK, b"\xff\xfe").await;
    assert_eq!(not_text.status, 400);
    assert!(world.operations().await.is_empty(), "nothing of a refused payload is stored");
}

#[tokio::test]
async fn a_conflict_is_recorded_and_answered_200() {
    let world = World::new().await;
    world.post(WEBHOOK, body(&[("shop", 1, "firing")]).to_string()).await;
    let answer = world.post(WEBHOOK, body(&[("till", 1, "firing")]).to_string()).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"ok": true, "created": 0})));
    let head = &world.operations().await[0];
    assert_eq!(world.log.alerts_of(head.id).await.unwrap()[0].conflicts, 1);
    assert_eq!(world.get("/readyz").await.json()["intake"]["conflicts"], 1);
}

#[tokio::test]
async fn what_cannot_be_made_durable_is_503_and_the_same_again_is_one_operation() {
    let world = World::new().await;
    world.log.hook(|moment| if moment.method == "append" { Act::Fail } else { Act::GoOn });
    let sent = body(&[("shop", 1, "firing"), ("till", 2, "firing")]).to_string();
    let answer = world.post(WEBHOOK, &sent).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"));
    world.log.hook(|_| Act::GoOn);
    let answer = world.post(WEBHOOK, &sent).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let operations = world.operations().await;
    assert_eq!(operations.len(), 2, "{operations:#?}");
}

#[tokio::test]
async fn without_an_engine_it_is_503() {
    let world = World::new().await;
    world.door.close();
    let answer = world.post(WEBHOOK, body(&[("shop", 1, "firing")]).to_string()).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"));
    world.door.open(Arc::clone(&world.engine));
    let answer = world.post(WEBHOOK, body(&[("shop", 1, "firing")]).to_string()).await;
    assert_eq!(answer.json()["created"], 1);
    world.engine.shutdown().await;
    let answer = world.post(WEBHOOK, body(&[("shop", 2, "firing")]).to_string()).await;
    assert_eq!(answer.status, 503);
}

#[tokio::test]
async fn two_deliveries_at_the_same_moment_are_one_operation_and_two_good_answers() {
    let world = World::new().await;
    let gate = Gate::new();
    let at = gate.clone();
    let first = |moment: Moment| moment.method == "append" && moment.call <= 2 && moment.when == When::Before;
    // The engine's first two appends are those of the two deliveries: both are under way before either is written.
    world.log.hook(move |moment| if first(moment) { Act::Wait(at.clone()) } else { Act::GoOn });
    let ask = Ask::post(WEBHOOK, body(&[("shop", 1, "firing")]).to_string());
    let (mut one, mut other) = (Connection::open(world.address).await, Connection::open(world.address).await);
    let both = async { tokio::join!(one.ask(&ask), other.ask(&ask)) };
    let open = async {
        gate.reached_times(2).await;
        gate.open();
    };
    let ((one, other), ()) = tokio::join!(both, open);
    assert_eq!((one.status, other.status), (200, 200));
    let created = one.json()["created"].as_u64().unwrap() + other.json()["created"].as_u64().unwrap();
    assert_eq!(created, 1);
    let operations = world.operations().await;
    assert_eq!(operations.len(), 1);
    assert_eq!(world.log.alerts_of(operations[0].id).await.unwrap()[0].count, 2);
}

#[tokio::test]
async fn two_engines_that_get_it_at_the_same_moment_begin_one_operation() {
    let clock = TestClock::new();
    let memory = MemoryLog::new(Arc::new(clock.clone()));
    let ids = SequentialIds::default();
    let one = World::on(&memory, &clock, &ids, Script::default(), |service| service).await;
    let other = World::on(&memory, &clock, &ids, Script::default(), |service| service).await;
    let gate = Gate::new();
    for world in [&one, &other] {
        let at = gate.clone();
        let first = Moment { method: "append", call: 1, when: When::Before };
        world.log.hook(move |moment| if moment == first { Act::Wait(at.clone()) } else { Act::GoOn });
    }
    let sent = body(&[("shop", 1, "firing")]).to_string();
    let both = async { tokio::join!(one.post(WEBHOOK, &sent), other.post(WEBHOOK, &sent)) };
    let open = async {
        gate.reached_times(2).await;
        gate.open();
    };
    let ((a, b), ()) = tokio::join!(both, open);
    assert_eq!((a.status, b.status), (200, 200));
    assert_eq!(a.json()["created"].as_u64().unwrap() + b.json()["created"].as_u64().unwrap(), 1);
    assert_eq!(one.operations().await.len(), 1);
    assert_eq!(other.operations().await.len(), 1);
}

#[tokio::test]
async fn a_full_payload_is_taken() {
    let world = World::new().await;
    let alerts: Vec<Value> = (0..1000)
        .map(|n| {
            json!({"status": "firing", "labels": {"alertname": "Down", "service": format!("s{n}")},
                   "startsAt": "2025-12-31T23:59:00Z", "endsAt": "0001-01-01T00:00:00Z",
                   "fingerprint": format!("{n:016x}")})
        })
        .collect();
    let body = json!({"version": "4", "alerts": alerts}).to_string();
    let answer = world.post(WEBHOOK, body).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"ok": true, "created": 1000})), "{answer:?}");
}

// --- who may call ----------------------------------------------------------------------------------------

#[tokio::test]
async fn with_credentials_configured_others_are_refused_before_anything_is_read() {
    let access = Access::open().basic("am", "hunter2").unwrap().bearer("t0ken").unwrap();
    let world = World::with(|service| service.webhook_access(access)).await;
    let sent = || Ask::post(WEBHOOK, body(&[("shop", 1, "firing")]).to_string());
    let cases = [
        (sent(), 401),
        (sent().header("authorization", "Bearer wrong"), 401),
        (sent().header("authorization", "Basic YW06d3Jvbmc="), 401),
        (sent().header("authorization", "nonsense"), 401),
        (sent().header("authorization", "Bearer t0ken"), 200),
        (sent().header("authorization", "Basic YW06aHVudGVyMg=="), 200),
    ];
    for (ask, status) in cases {
        let answer = world.ask(ask).await;
        assert_eq!(answer.status, status);
        if status == 401 {
            assert_eq!(answer.code(), "UNAUTHORIZED");
            let challenges = &answer.headers["www-authenticate"];
            assert!(challenges[0].starts_with("Basic ") && challenges[1].starts_with("Bearer "));
            assert!(!answer.body.contains("hunter2") && !answer.body.contains("t0ken"));
        }
    }
    assert_eq!(world.operations().await.len(), 1);
    // The native intake has credentials of its own: none here.
    assert_eq!(world.post("/v1/alerts", "[]").await.status, 202);
}

#[tokio::test]
async fn web_pages_are_refused() {
    let world = World::new().await;
    for path in [WEBHOOK, "/v1/alerts"] {
        let answer = world.ask(Ask::post(path, "[]").header("origin", "https://evil.example")).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "FORBIDDEN"));
    }
}

// --- truncated -------------------------------------------------------------------------------------------

struct Alertmanager(Result<String, String>);

#[async_trait]
impl Pull for Alertmanager {
    async fn alerts(&self, receiver: &str) -> Result<Vec<u8>, PullError> {
        assert_eq!(receiver, "redress");
        self.0.clone().map(String::into_bytes).map_err(PullError)
    }
}

/// As `GET /api/v2/alerts` shows the alert of [`body`] with this digit.
fn listed(service: &str, digit: u8) -> Value {
    let mut alert = body(&[(service, digit, "firing")])["alerts"][0].clone();
    alert["status"] = json!({"state": "active", "silencedBy": [], "inhibitedBy": []});
    alert["receivers"] = json!([{"name": "redress"}]);
    alert["endsAt"] = json!("2026-01-01T00:05:00Z");
    alert
}

fn truncated(alerts: &[(&str, u8, &str)], by: u32) -> String {
    let mut body = body(alerts);
    body["truncatedAlerts"] = json!(by);
    body.to_string()
}

#[tokio::test]
async fn what_a_webhook_left_out_is_pulled() {
    let list = json!([listed("shop", 1), listed("till", 2), listed("cart", 3)]).to_string();
    let world = World::with(|service| service.pull(Arc::new(Alertmanager(Ok(list))))).await;
    let sent = truncated(&[("shop", 1, "firing")], 2);
    let answer = world.post(WEBHOOK, &sent).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"ok": true, "created": 3})));
    assert_eq!(world.operations().await.len(), 3);
    let intake = &world.get("/readyz").await.json()["intake"];
    assert_eq!((&intake["truncated_alerts"], &intake["pulled_alerts"]), (&json!(2), &json!(2)));
    // The one that the webhook carried was delivered once, not twice.
    let record = world.log.alert(&"b0f25eccdaefc001-1767225540000".parse().unwrap()).await.unwrap();
    assert_eq!(record.unwrap().count, 1);
}

#[tokio::test]
async fn what_cannot_be_pulled_is_counted_and_fails_nothing() {
    for pull in [Err("down".to_owned()), Ok("<html>".to_owned()), Ok("{}".to_owned())] {
        let world = World::with(|service| service.pull(Arc::new(Alertmanager(pull)))).await;
        let answer = world.post(WEBHOOK, truncated(&[("shop", 1, "firing")], 2)).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"ok": true, "created": 1})));
        assert_eq!(world.get("/readyz").await.json()["intake"]["pulls_failed"], 1);
    }
    let world = World::new().await;
    let answer = world.post(WEBHOOK, case("truncated")).await;
    assert_eq!((answer.status, answer.json()["created"].as_u64()), (200, Some(2)));
    let intake = &world.get("/readyz").await.json()["intake"];
    assert_eq!((&intake["truncated_alerts"], &intake["pulls_failed"]), (&json!(3), &json!(0)));
}
