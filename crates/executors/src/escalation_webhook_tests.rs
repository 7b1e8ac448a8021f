use redress_action::escalation::OnFailure;
use redress_types::{EffectKey, Phase};
use serde_json::{Value, json};

use super::*;
use crate::http::Secret;
use crate::testing::call_with;
use crate::testing::server::{Answer, Server};

fn escalation() -> Escalation {
    let call = call_with(Value::Null);
    let key = EffectKey { operation: call.key.operation, phase: Phase::Outbox, attempt: 4, step: 1 };
    let told = json!({
        "key": key.to_string(), "operation": key.operation, "name": "rr-abababababab-099a8057",
        "alert": call.alert.id, "level": "P0", "title": "checkout is down", "target": call.target,
        "strategy": "fix", "state": "suspended", "reason": "step roll back is in doubt",
        "safe_state": "maintain_isolation", "at": "2026-01-31T12:00:00Z",
    });
    serde_json::from_value(told).unwrap()
}

fn webhook(port: u16) -> EscalationWebhook {
    let egress = Egress::new(["127.0.0.1"]).unwrap();
    EscalationWebhook::new(&format!("http://127.0.0.1:{port}/page?team=shop"), egress).unwrap()
}

async fn answered(answer: Answer) -> Result<(), Error> {
    let server = Server::start(move |_| answer.clone()).await;
    webhook(server.port).escalate(&escalation()).await
}

#[tokio::test]
async fn what_is_sent() {
    let server = Server::start(|_| Answer::Json(202, json!({}))).await;
    let bearer = Authentication::Bearer(Secret::new("t0ken"));
    let webhook = webhook(server.port).authenticated(bearer).unwrap();
    webhook.escalate(&escalation()).await.unwrap();
    webhook.escalate(&escalation()).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    for request in seen {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/page?team=shop"));
        assert_eq!(request.headers["idempotency-key"], escalation().key.to_string());
        assert_eq!(request.headers["authorization"], "Bearer t0ken");
        assert_eq!(request.headers["content-type"], "application/json");
        let sent: Escalation = serde_json::from_str(&request.body).unwrap();
        assert_eq!(sent, escalation());
        assert_eq!(sent.safe_state, OnFailure::MaintainIsolation);
    }
}

#[tokio::test]
async fn what_a_reply_means() {
    for status in [200, 204, 299] {
        assert_eq!(answered(Answer::Json(status, json!({}))).await, Ok(()));
    }
    for status in [408, 425, 429] {
        let answer = answered(Answer::Json(status, json!({}))).await;
        assert!(matches!(answer, Err(Error::Retryable { .. })), "{status}: {answer:?}");
    }
    for status in [500, 502, 503, 599] {
        let answer = answered(Answer::Json(status, json!({}))).await;
        assert!(matches!(answer, Err(Error::Unknown { .. })), "{status}: {answer:?}");
    }
    for status in [301, 307, 400, 401, 404, 410, 422] {
        let answer = answered(Answer::Json(status, json!({}))).await;
        assert!(matches!(answer, Err(Error::Permanent { .. })), "{status}: {answer:?}");
    }
    let busy = answered(Answer::With(429, &[("retry-after", "7")], json!({}))).await;
    match busy {
        Err(Error::Retryable { retry_after, .. }) => assert_eq!(retry_after, Some(Duration::from_secs(7))),
        other => panic!("{other:?}"),
    }
    let lost = answered(Answer::Drop).await;
    assert!(matches!(lost, Err(Error::Unknown { .. })), "{lost:?}");
}

#[tokio::test]
async fn nobody_there_is_tried_again() {
    let server = Server::start(|_| Answer::Drop).await;
    let webhook = webhook(server.port);
    server.stop().await;
    let answer = webhook.escalate(&escalation()).await;
    assert!(matches!(answer, Err(Error::Retryable { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_receiver_that_repeats_the_secret_shows_nothing() {
    let answer = Answer::Json(401, json!({"message": "who is t0ken?\u{1b}[31m"}));
    let server = Server::start(move |_| answer.clone()).await;
    let bearer = Authentication::Bearer(Secret::new("t0ken"));
    let webhook = webhook(server.port).authenticated(bearer).unwrap();
    let error = webhook.escalate(&escalation()).await.unwrap_err().to_string();
    assert!(error.ends_with("/page: HTTP 401: who is ***? [31m"), "{error}");
    assert!(!error.contains("team="), "the query is nobody's business: {error}");
}

#[test]
fn what_cannot_be_called_is_refused_at_once() {
    let egress = || Egress::new(["pager.example"]).unwrap();
    assert!(EscalationWebhook::new("https://pager.example/x", egress()).is_ok());
    for bad in ["https://other.example/x", "pager.example", "https://me:hunter2@pager.example/"] {
        let error = EscalationWebhook::new(bad, egress()).unwrap_err();
        assert!(error.starts_with("escalation URL: ") && !error.contains("hunter2"), "{error}");
    }
    let empty = Authentication::Bearer(Secret::new(""));
    let webhook = EscalationWebhook::new("https://pager.example/x", egress()).unwrap();
    assert!(webhook.authenticated(empty).is_err());
}
