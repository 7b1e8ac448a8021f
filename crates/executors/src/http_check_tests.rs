//! The check against a real server.

use serde_json::json;

use super::*;
use crate::testing::call_with;
use crate::testing::server::{Answer, Server};

async fn look(answer: Answer, more: Value) -> Observation {
    let server = Server::start(move |_| answer.clone()).await;
    let mut configuration = json!({ "url": format!("http://127.0.0.1:{}/health?token=abc", server.port) });
    for (key, value) in more.as_object().unwrap() {
        configuration[key] = value.clone();
    }
    let check = HttpCheck::new("http://127.0.0.1/", Egress::new(["127.0.0.1"]).unwrap()).unwrap();
    let seen = check.check(&call_with(configuration)).await;
    let requests = server.seen();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("GET", "/health?token=abc"));
    seen
}

fn word(seen: &Observation) -> &'static str {
    match seen {
        Observation::Healthy { detail }
        | Observation::Unhealthy { detail }
        | Observation::Inconclusive { detail }
            if detail.contains("token") =>
        {
            panic!("the query is shown: {detail}")
        }
        Observation::Healthy { .. } => "healthy",
        Observation::Unhealthy { .. } => "unhealthy",
        Observation::Inconclusive { .. } => "inconclusive",
    }
}

#[tokio::test]
async fn what_each_answer_means() {
    let redirect = Answer::With(302, &[("location", "/elsewhere")], json!({}));
    let cases = [
        (Answer::Json(200, json!({})), json!({}), "healthy"),
        (Answer::Json(299, json!({})), json!({}), "healthy"),
        (Answer::Json(300, json!({})), json!({}), "unhealthy"),
        (redirect, json!({}), "unhealthy"),
        (Answer::Json(404, json!({})), json!({}), "unhealthy"),
        (Answer::Json(503, json!({})), json!({}), "unhealthy"),
        (Answer::Json(404, json!({})), json!({ "status": [404, 404] }), "healthy"),
        (Answer::Json(200, json!({})), json!({ "status": [404, 404] }), "unhealthy"),
        (Answer::Json(200, json!({})), json!({ "max_latency_ms": 60_000 }), "healthy"),
        (Answer::Json(200, json!({})), json!({ "max_latency_ms": 0 }), "unhealthy"),
        (Answer::Drop, json!({}), "inconclusive"),
        (Answer::Raw(b"nonsense\r\n\r\n".to_vec()), json!({}), "inconclusive"),
    ];
    for (answer, more, expected) in cases {
        let seen = look(answer.clone(), more.clone()).await;
        assert_eq!(word(&seen), expected, "{answer:?} {more}: {seen:?}");
    }
}

#[tokio::test]
async fn silence_is_inconclusive_and_a_refused_connection_is_unhealthy() {
    let server = Server::start(|_| Answer::Hang).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let check = HttpCheck::new(&url, Egress::new(["127.0.0.1"]).unwrap()).unwrap();
    let call = call_with(check.configuration());
    let running = tokio::spawn({
        let (check, call) = (check.clone(), call.clone());
        async move { check.check(&call).await }
    });
    server.arrived(1).await;
    tokio::time::pause();
    tokio::time::advance(call.timeout).await;
    tokio::time::resume();
    assert_eq!(word(&running.await.unwrap()), "inconclusive");

    server.stop().await;
    let seen = check.check(&call).await;
    assert_eq!(word(&seen), "unhealthy", "{seen:?}");
    call.cancel.cancel();
    assert_eq!(word(&check.check(&call).await), "inconclusive");
}

#[tokio::test]
async fn what_may_not_be_called_is_inconclusive() {
    let egress = Egress::new(["127.0.0.1", "169.254.169.254"]).unwrap();
    let check = HttpCheck::new("http://127.0.0.1/", egress).unwrap();
    assert!(check.independent());
    for url in ["http://10.0.0.1/", "http://169.254.169.254/latest/meta-data", "http://a:b@127.0.0.1/", "x"] {
        let configuration = json!({ "url": url });
        assert!(check.accepts(&configuration).is_err(), "{url}");
        assert_eq!(word(&check.check(&call_with(configuration)).await), "inconclusive", "{url}");
    }
    assert!(check.accepts(&json!({ "url": "http://127.0.0.1/", "status": [300, 200] })).is_err());
    assert!(check.accepts(&json!({ "url": "http://127.0.0.1/", "surprise": 1 })).is_err());
}

#[test]
fn what_is_frozen() {
    let egress = || Egress::new(["h"]).unwrap();
    let check = HttpCheck::new("http://h/health", egress()).unwrap();
    assert_eq!(check.configuration(), json!({ "url": "http://h/health" }));
    let check = check.within(Duration::from_millis(250)).expecting(200..=204);
    let frozen = json!({ "url": "http://h/health", "max_latency_ms": 250, "status": [200, 204] });
    assert_eq!(check.configuration(), frozen);
    assert!(check.accepts(&frozen).is_ok());
    assert!(HttpCheck::new("http://other/", egress()).is_err());
}
