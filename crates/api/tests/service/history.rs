//! Operations and their logs.

use redress_api::Access;
use redress_engine::fsm::State;
use redress_engine::operation_log::{LateResult, OperationLog as _};
use redress_engine::types::{EffectKey, Epoch, Phase};
use redress_testkit::{Act, Do, Script};
use serde_json::{Value, json};

use crate::client::Ask;
use crate::openapi::has_the_fields_of;
use crate::world::World;

/// A service with so many operations, each on a target of its own; those of an odd number fail.
async fn with_operations(count: usize) -> World {
    let script = Script::by(|key, _| {
        let number = key.operation.0.as_u128() & 0xff;
        if number % 2 == 1 { Do::Fail } else { Do::Succeed }
    });
    let mut world = World::running(script, |service| service).await;
    for n in 0..count {
        let body = json!({"id": format!("alert-{n}"), "service": format!("service-{n}"),
                          "alert_since": "2025-12-31T23:59:00Z", "title": "down"});
        assert_eq!(world.post("/v1/alerts", body.to_string()).await.status, 202);
        world.until(if n % 2 == 0 { State::Failed } else { State::Restored }).await;
    }
    world
}

fn names(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_follow_each_other_and_end() {
    let world = with_operations(5).await;
    let all = names(&world.get("/v1/operations").await.json());
    assert_eq!(all.len(), 5);
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = world.get(format!("/v1/operations?limit=2&cursor={cursor}")).await;
        assert_eq!(page.status, 200);
        let page = page.json();
        paged.extend(names(&page));
        page["items"].as_array().unwrap().iter().for_each(|item| has_the_fields_of("Operation", item));
        cursor = page["next"].as_str().unwrap().to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all, "newest first, none twice, none missing");
}

#[tokio::test]
async fn filters_narrow_the_list() {
    let world = with_operations(4).await;
    let count = async |query: &str| {
        let page = world.get(format!("/v1/operations?{query}")).await;
        assert_eq!(page.status, 200, "{query}: {}", page.body);
        names(&page.json()).len()
    };
    assert_eq!(count("state=failed").await, 2);
    assert_eq!(count("state=failed,restored").await, 4);
    assert_eq!(count("state=failed&state=restored").await, 4);
    assert_eq!(count("state=blocked").await, 0);
    assert_eq!(count("service=service-1").await, 1);
    assert_eq!(count("service=service-1&state=failed").await, 0);
    assert_eq!(count("service=%27%3B%20DROP%20TABLE").await, 0);
    assert_eq!(count("since=2020-01-01T00:00:00Z").await, 4);
    assert_eq!(count("since=2030-01-01T00:00:00%2B02:00").await, 0);
    assert_eq!(count("since=1h").await, 4);
}

#[tokio::test]
async fn a_bad_query_is_refused_by_name() {
    let world = World::new().await;
    let cases = [
        ("/v1/operations?limit=0", "limit"),
        ("/v1/operations?limit=101", "limit"),
        ("/v1/operations?limit=-1", "limit"),
        ("/v1/operations?limit=99999999999999999999", "limit"),
        ("/v1/operations?limit=1&limit=2", "limit"),
        ("/v1/operations?state=broken", "state"),
        ("/v1/operations?state=failed,", "state"),
        ("/v1/operations?cursor=abc", "cursor"),
        ("/v1/operations?since=soon", "since"),
        ("/v1/operations?nonsense=1", "nonsense"),
        ("/v1/operations?service=a%00b", "service"),
        ("/v1/operations?service=%ff", "service"),
        ("/v1/operations/x?state=failed", "state"),
        ("/v1/operations/a%00b", "id"),
        ("/v1/operations/%ff", "id"),
        ("/v1/operations/x/log?limit=x", "limit"),
        ("/readyz?verbose=1", "verbose"),
        ("/openapi.json?v=1", "v"),
    ];
    for (path, named) in cases {
        let answer = world.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "INVALID_PARAMETER"), "{path}");
        let field = &answer.json()["error"]["details"]["problems"][0]["field"];
        assert!(field.as_str().unwrap().contains(named), "{path}: {field}");
    }
    let long = format!("/v1/operations?service={}", "x".repeat(600));
    assert_eq!(world.get(long).await.status, 400);
}

#[tokio::test]
async fn an_operation_is_found_by_every_name_it_has() {
    let world = with_operations(3).await;
    let head = &world.operations().await[0];
    let (id, name) = (head.id.to_string(), &head.name);
    let beginning = &name[..name.len() - 2];
    for text in [&id, name, beginning, &id[30..], "alert-2", &id.to_uppercase()] {
        let answer = world.get(format!("/v1/operations/{text}")).await;
        assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(id)), "{text}");
    }
    for text in ["rr-", "0000", "rr"] {
        let answer = world.get(format!("/v1/operations/{text}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (409, "CONFLICT"), "{text}");
        let candidates = &answer.json()["error"]["details"]["candidates"];
        assert_eq!(candidates.as_array().unwrap().len(), 3);
        assert!(candidates[0]["name"].as_str().unwrap().starts_with("rr-"));
    }
    let elsewhere = "11111111-2222-7333-8444-555555555555";
    for text in [elsewhere, "rr-nonsense", "%25", "_", "..%2F..%2Fetc", "a%20b", "%F0%9F%94%A5"] {
        for rest in ["", "/log"] {
            let answer = world.get(format!("/v1/operations/{text}{rest}")).await;
            assert_eq!((answer.status, answer.code().as_str()), (404, "NOT_FOUND"), "{text}");
        }
    }
}

#[tokio::test]
async fn an_alert_of_any_name_leads_to_its_operation() {
    let world = World::new().await;
    for (id, encoded) in [
        ("a/../b?c#d", "a%2F..%2Fb%3Fc%23d"),
        ("line\nfeed \u{1F525}", "line%0Afeed%20%F0%9F%94%A5"),
        ("50%25\u{fffd}", "50%2525%EF%BF%BD"),
        ("'; DROP TABLE x; --", "'%3B%20DROP%20TABLE%20x%3B%20--"),
    ] {
        let body = json!({"id": id, "service": encoded, "alert_since": "2025-12-31T23:59:00Z"});
        assert_eq!(world.post("/v1/alerts", body.to_string()).await.status, 202);
        let shown = world.get(format!("/v1/operations/{encoded}")).await;
        assert_eq!((shown.status, &shown.json()["alerts"][0]["id"]), (200, &json!(id)), "{id}");
    }
}

#[tokio::test]
async fn one_operation_and_its_log() {
    let world = with_operations(2).await;
    let head = &world.operations().await[0];
    let shown = world.get(format!("/v1/operations/{}", head.id)).await;
    let shown = shown.json();
    has_the_fields_of("OperationDetail", &shown);
    assert_eq!((&shown["state"], &shown["outcome"]), (&json!("restored"), &json!("success")));
    assert_eq!(shown["path"][0]["state"], "received");
    assert_eq!(shown["steps"][0]["result"], "succeeded");
    assert!(shown["accepted_at"].as_str().unwrap().ends_with('Z'));

    let log = world.get(format!("/v1/operations/{}/log", head.name)).await.json();
    let items = log["items"].as_array().unwrap();
    assert_eq!((items.len() as u64, &log["next"]), (head.seq, &json!("")));
    items.iter().for_each(|item| has_the_fields_of("Entry", item));
    assert_eq!(items.last().unwrap()["hash"], json!(head.hash));
    let mut seqs = Vec::new();
    let mut cursor = "0".to_owned();
    while !cursor.is_empty() {
        let page = world.get(format!("/v1/operations/{}/log?limit=1&cursor={cursor}", head.id)).await.json();
        seqs.extend(page["items"].as_array().unwrap().iter().map(|item| item["seq"].as_u64().unwrap()));
        cursor = page["next"].as_str().unwrap().to_owned();
    }
    assert_eq!(seqs, (1..=head.seq).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_is_at_work_and_what_came_too_late_is_shown() {
    let script = Script::by(|_, _| Do::when_stopped(Do::Succeed));
    let world = World::running(script, |service| service).await;
    let body = json!({"id": "a", "service": "s", "alert_since": "2025-12-31T23:59:00Z"}).to_string();
    assert_eq!(world.post("/v1/alerts", body).await.status, 202);
    let operation = world.operations().await[0].id;
    let path = format!("/v1/operations/{operation}");
    let shown = world.get(&path).await.json();
    assert_eq!((&shown["attended"], &shown["late_results"]), (&json!(true), &json!([])));
    let key = EffectKey { operation, phase: Phase::Rollback, attempt: 1, step: 0 };
    let at = "2026-01-31T12:00:00Z".parse().unwrap();
    let late = LateResult { key, epoch: Epoch(1), at, said: "done".into(), reason: "settled before".into() };
    world.log.keep_late(late).await.unwrap();
    let shown = world.get(&path).await.json();
    let expected = json!([{"key": key.to_string(), "epoch": 1, "at": "2026-01-31T12:00:00Z", "said": "done",
                           "reason": "settled before"}]);
    assert_eq!(shown["late_results"], expected);
    world.engine.shutdown().await;
    assert_eq!(world.get(&path).await.json()["attended"], json!(false));
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_503_without_its_cause() {
    let world = with_operations(1).await;
    let id = world.operations().await[0].id;
    world.log.hook(|moment| if moment.method.starts_with("operation") { Act::Fail } else { Act::GoOn });
    for path in
        ["/v1/operations".to_owned(), format!("/v1/operations/{id}"), format!("/v1/operations/{id}/log")]
    {
        let answer = world.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"));
        assert!(!answer.body.contains("as the test wants"), "causes are for the log: {}", answer.body);
    }
}

#[tokio::test]
async fn addresses_and_methods_that_do_not_exist() {
    let world = World::new().await;
    for path in
        ["/", "/v1", "/v2/alerts", "/v1/operations/a/b/c", "/V1/operations", "/v1/operations/", "//healthz"]
    {
        let answer = world.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "NOT_FOUND"), "{path}");
    }
    let cases = [
        ("POST", "/v1/operations", "GET,HEAD"),
        ("DELETE", "/v1/alerts", "POST"),
        ("PUT", "/healthz", "GET,HEAD"),
    ];
    for (method, path, allowed) in cases {
        let answer = world.ask(Ask::new(method, path)).await;
        assert_eq!((answer.status, answer.code().as_str()), (405, "METHOD_NOT_ALLOWED"), "{path}");
        assert_eq!(answer.header("allow"), allowed, "{path}");
    }
    assert_eq!(world.ask(Ask::new("HEAD", "/v1/operations")).await.status, 200);
}

#[tokio::test]
async fn reading_can_ask_for_credentials_and_health_never_does() {
    let access = Access::open().bearer("t0ken").unwrap();
    let world = World::with(|service| service.reading_access(access)).await;
    for path in ["/v1/operations", "/v1/operations/x", "/v1/operations/x/log", "/v1/issues", "/v1/issues/x"] {
        assert_eq!(world.get(path).await.status, 401, "{path}");
    }
    let ask = Ask::get("/v1/operations").header("authorization", "Bearer t0ken");
    assert_eq!(world.ask(ask).await.status, 200);
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(world.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_request_id_is_kept_when_it_is_sane_and_made_otherwise() {
    let world = World::new().await;
    let id = async |sent: &str| {
        world.ask(Ask::get("/healthz").header("x-request-id", sent)).await.header("x-request-id").to_owned()
    };
    assert_eq!(id("abc-123.X_:").await, "abc-123.X_:");
    let long = "x".repeat(65);
    for insane in ["a b", "a\"b", &long, "é", ""] {
        assert_ne!(id(insane).await, insane);
    }
    let (one, other) = (world.get("/healthz").await, world.get("/nowhere").await);
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
}
