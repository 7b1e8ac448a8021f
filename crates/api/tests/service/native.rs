//! The native intake: alert messages in, what became of each out.

use redress_engine::operation_log::OperationHistory as _;
use redress_testkit::{Act, Do, Gate, Script};
use serde_json::{Value, json};

use crate::client::{Ask, Connection};
use crate::openapi::has_the_fields_of;
use crate::world::World;

const ALERTS: &str = "/v1/alerts";

fn message(id: &str, service: &str) -> Value {
    json!({"id": id, "service": service, "alert_since": "2025-12-31T23:59:00Z", "title": "it is down",
           "labels": {"alertname": id}})
}

#[tokio::test]
async fn the_answer_says_what_became_of_it() {
    let gate = Gate::new();
    let world = World::running(Script::always(Do::behind(&gate, Do::Succeed)), |service| service).await;
    let first = world.post(ALERTS, message("a", "shop").to_string()).await;
    assert_eq!(first.status, 202);
    let first = &first.json()["alerts"][0];
    has_the_fields_of("AlertTaken", first);
    assert_eq!(
        (&first["id"], &first["status"], &first["count"]),
        (&json!("a"), &json!("accepted"), &json!(1))
    );
    assert_eq!(first["first_seen"], first["last_seen"]);
    assert!(first["first_seen"].as_str().unwrap().ends_with('Z'));
    let head = &world.operations().await[0];
    assert_eq!(
        (&first["operation"]["id"], &first["operation"]["name"]),
        (&json!(head.id), &json!(head.name))
    );

    world.clock.advance(std::time::Duration::from_secs(5));
    let again = world.post(ALERTS, message("a", "shop").to_string()).await;
    let again = &again.json()["alerts"][0];
    assert_eq!((&again["status"], &again["count"]), (&json!("repeated"), &json!(2)));
    assert_eq!((&again["operation"]["id"], &again["first_seen"]), (&json!(head.id), &first["first_seen"]));
    assert!(again["last_seen"].as_str() > first["last_seen"].as_str());

    // Another alert of the same remedy joins, and hears the name of the operation that it joined.
    let other = world.post(ALERTS, message("b", "shop").to_string()).await;
    let other = &other.json()["alerts"][0];
    assert_eq!((&other["status"], &other["count"]), (&json!("joined"), &json!(1)));
    assert_eq!(
        (&other["operation"]["id"], &other["operation"]["name"]),
        (&json!(head.id), &json!(head.name))
    );
    gate.open();
}

#[tokio::test]
async fn a_list_is_answered_in_its_order() {
    let world = World::new().await;
    let list = json!([message("a", "s1"), message("b", "s2"), message("a", "s1"), message("c", "")]);
    let answer = world.post(ALERTS, list.to_string()).await;
    assert_eq!(answer.status, 202);
    let alerts = answer.json()["alerts"].as_array().unwrap().clone();
    let ids: Vec<_> = alerts.iter().map(|alert| alert["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b", "a", "c"]);
    assert_eq!((&alerts[0]["status"], &alerts[2]["status"]), (&json!("accepted"), &json!("repeated")));
    assert_eq!(alerts[3]["operation"]["state"], "skipped");
    let none = world.post(ALERTS, "[]").await;
    assert_eq!((none.status, none.json()), (202, json!({"alerts": []})));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_id_the_first_in_the_list_is_the_alert() {
    let world = World::new().await;
    for round in 0..20 {
        let (id, other) = (format!("a{round}"), format!("b{round}"));
        let list = [
            message(&id, &format!("first{round}")),
            message(&other, &format!("other{round}")),
            message(&id, &format!("second{round}")),
            message(&id, &format!("first{round}")),
            message(&id, &format!("first{round}")),
        ];
        let answer = world.post(ALERTS, json!(list).to_string()).await;
        assert_eq!(answer.status, 409);
        let alerts = answer.json()["error"]["details"]["alerts"].as_array().unwrap().clone();
        let became: Vec<_> = alerts.iter().map(|alert| (&alert["status"], &alert["count"])).collect();
        let (accepted, repeated) = (json!("accepted"), json!("repeated"));
        assert_eq!(
            became,
            [
                (&accepted, &json!(1)),
                (&accepted, &json!(1)),
                (&json!("conflict"), &Value::Null),
                (&repeated, &json!(2)),
                (&repeated, &json!(3)),
            ],
            "round {round}"
        );
        assert_eq!(alerts[2]["known"]["service"], format!("first{round}"));
    }
}

#[tokio::test]
async fn bad_messages_are_refused_whole_and_name_field_and_index() {
    let world = World::new().await;
    let list = json!([message("a", "shop"), {"id": "", "service": 3, "alert_since": "2026-01-01T00:00:00Z"}]);
    let answer = world.post(ALERTS, list.to_string()).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "INVALID_PARAMETER"));
    let details = &answer.json()["error"]["details"];
    assert_eq!(details["count"], 2);
    assert_eq!(
        (&details["problems"][0]["field"], &details["problems"][0]["index"]),
        (&json!("[1].id"), &json!(1))
    );
    let single = world.post(ALERTS, json!({"id": "a"}).to_string()).await;
    let problem = &single.json()["error"]["details"]["problems"][0];
    assert_eq!((&problem["field"], &problem["index"]), (&json!("alert_since"), &Value::Null));
    let long = "x".repeat(65);
    let cases = [
        message(&long, "shop").to_string(),
        message("a\0b", "shop").to_string(),
        json!({"version": "4", "alerts": []}).to_string(),
        "\"text\"".to_owned(),
        "<alert/>".to_owned(),
        "[".repeat(100_000),
        format!("[{}", "1,".repeat(50_000)),
    ];
    for body in cases {
        let answer = world.post(ALERTS, &body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "INVALID_PARAMETER"), "{body:.80}");
        assert!(answer.body.len() < 4_096, "an answer never repeats what was sent at length");
    }
    assert!(world.operations().await.is_empty(), "nothing of a refused payload is stored");
}

#[tokio::test]
async fn a_query_is_refused_and_nothing_is_taken() {
    let world = World::new().await;
    let mut connection = Connection::open(world.address).await;
    let padded = format!("{}{}", message("a", "shop"), " ".repeat(1_000_000));
    let answer = connection.ask(&Ask::post(format!("{ALERTS}?dry_run=1"), padded)).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "INVALID_PARAMETER"));
    assert!(answer.message().contains("dry_run"), "{}", answer.message());
    assert!(world.operations().await.is_empty());
    let answer = connection.ask(&Ask::post(format!("{ALERTS}?"), message("a", "shop").to_string())).await;
    assert_eq!(answer.status, 202, "on the same connection");
}

#[tokio::test]
async fn hostile_texts_are_kept_as_they_are() {
    let world = World::new().await;
    let text = "../../etc/passwd %2e%2e '\" ; DROP TABLE x; <script>\u{1F525}\u{202e}\n\u{7f}";
    let mut message = message(text, "a/b%2F..");
    message["title"] = json!(text);
    let answer = world.post(ALERTS, message.to_string()).await;
    assert_eq!((answer.status, &answer.json()["alerts"][0]["id"]), (202, &json!(text)));
    let head = &world.operations().await[0];
    assert_eq!((head.title.as_str(), head.target.service.as_str()), (text, "a/b%2F.."));
    let shown = world.get(format!("/v1/operations/{}", head.id)).await;
    assert_eq!(shown.json()["alerts"][0]["title"], text);
}

#[tokio::test]
async fn a_conflict_is_409_and_says_what_the_id_stands_for() {
    let world = World::new().await;
    world.post(ALERTS, message("a", "shop").to_string()).await;
    let list = json!([message("a", "till"), message("b", "cart")]);
    let answer = world.post(ALERTS, list.to_string()).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "CONFLICT"));
    assert!(answer.message().contains("\"shop\""), "{}", answer.message());
    let alerts = &answer.json()["error"]["details"]["alerts"];
    assert_eq!(alerts[0]["status"], "conflict");
    assert_eq!(alerts[0]["known"], json!({"service": "shop", "alert_since": "2025-12-31T23:59:00Z"}));
    assert!(alerts[0]["operation"]["id"].is_string());
    assert_eq!(alerts[1]["status"], "accepted");
    assert_eq!(world.operations().await.len(), 2);
    let record = world.log.alert(&"a".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((record.count, record.service.as_str()), (1, "shop"));
}

#[tokio::test]
async fn what_cannot_be_made_durable_is_503_and_may_be_sent_again() {
    let world = World::new().await;
    world.log.hook(|moment| if moment.method == "append" { Act::Fail } else { Act::GoOn });
    let list = json!([message("a", "s1"), message("b", "s2")]).to_string();
    let answer = world.post(ALERTS, &list).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.json()["error"]["details"]["alerts"], 2);
    world.log.hook(|_| Act::GoOn);
    let answer = world.post(ALERTS, &list).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(world.operations().await.len(), 2);
}

#[tokio::test]
async fn an_operation_whose_state_cannot_be_read_is_acknowledged_all_the_same() {
    let world = World::new().await;
    world.log.hook(|moment| if moment.method == "operation" { Act::Fail } else { Act::GoOn });
    let answer = world.post(ALERTS, message("a", "shop").to_string()).await;
    assert_eq!(answer.status, 202);
    assert!(answer.json()["alerts"][0]["operation"]["id"].is_string());
}

#[tokio::test]
async fn the_bytes_of_each_alert_are_kept() {
    let world = World::new().await;
    let sent = message("a", "shop").to_string();
    world.post(ALERTS, format!(" [ {sent} ] ")).await;
    let payloads = world.log.payloads(world.operations().await[0].id).await.unwrap();
    assert_eq!(&*payloads[0].1.bytes, sent.as_bytes());
}

#[tokio::test]
async fn it_can_ask_for_credentials() {
    let access = redress_api::Access::open().bearer("t0ken").unwrap();
    let world = World::with(|service| service.alerts_access(access)).await;
    let answer = world.post(ALERTS, "[]").await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHORIZED"));
    let ask = Ask::post(ALERTS, "[]").header("authorization", "Bearer t0ken");
    assert_eq!(world.ask(ask).await.status, 202);
}
