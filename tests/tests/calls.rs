//! A person is called, from end to end: an operation of `redress serve` fails, and a webhook receives one POST with
//! what that person must know, and nothing secret. A service that is killed between the end of the operation and the
//! answer of the webhook calls again when it is started again: under the same key, so that the receiver rings once.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use redress_testkit::servers::{Process, free_address};
use redress_testkit::until;
use redress_tests::neighbours::http;
use redress_tests::processes::Program;
use redress_tests::recorder::{Ledger, Moment, Recorder, Reply, Target};
use redress_tests::recorder_http::Request;
use redress_tests::recorder_webhook::Webhook;
use serde_json::{Value, json};
use tempfile::TempDir;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long anything that must come may take.
const LIMIT: Duration = Duration::from_secs(40);

/// What only the deployment system and the webhook may see.
const ROLLBACK_TOKEN: &str = "rollback-t0ken";
const CALL_TOKEN: &str = "call-t0ken";

/// A deployment system that lets nobody in, and repeats what it was sent.
struct Closed;

impl Target for Closed {
    fn answer(&mut self, request: &Request, _: &mut Ledger) -> Reply {
        let sent = request.headers.get("authorization").map_or("nothing", String::as_str);
        Reply::Json(403, json!({ "message": format!("{sent} may not do this") }))
    }
}

/// A service on the embedded default, and whom it speaks to.
struct World {
    folder: TempDir,
    listen: SocketAddr,
    deployments: Recorder,
    webhook: Webhook,
    calls: Recorder,
}

impl World {
    fn new() -> Outcome<Self> {
        let webhook = Webhook::default();
        Ok(Self {
            folder: tempfile::tempdir()?,
            listen: free_address()?,
            deployments: Recorder::start(Closed)?,
            calls: Recorder::start(webhook.clone())?,
            webhook,
        })
    }

    fn serve(&self) -> Outcome<Process> {
        let mut command = Command::new(Program::Binary("redress").path()?);
        let template = format!("http://{}/v1/deployments/%s/rollback", self.deployments.address());
        command
            .args(["serve", "--listen", &self.listen.to_string(), "--db", "sqlite://redress.db"])
            .args(["--rollback-url", &template])
            .args(["--escalation-url", &format!("http://{}/page", self.calls.address())])
            .env("REDRESS_ROLLBACK_BEARER", ROLLBACK_TOKEN)
            .env("REDRESS_ESCALATION_BEARER", CALL_TOKEN)
            .current_dir(self.folder.path());
        Ok(Process::start(command, self.listen, tempfile::tempdir()?)?)
    }

    /// Sends the alert. Refused until an engine has begun.
    fn fire(&self) -> Outcome {
        let alert = json!({
            "id": "shop-down", "service": "shop", "version": "v2", "level": "P0", "title": "shop is down",
            "alert_since": "2026-11-21T08:00:00Z", "labels": {"deploy_id": "d-1", "environment": "production"},
        });
        until(LIMIT, "the alert is taken", || {
            let (status, answer) = http(self.listen, "POST", "/v1/alerts", &[], &alert.to_string())?;
            if matches!(status, 200 | 202) { Ok(Some(())) } else { Err(format!("{status} {answer}").into()) }
        })
    }

    fn get(&self, path: &str) -> Outcome<Value> {
        let (status, body) = http(self.listen, "GET", path, &[], "")?;
        if status == 200 { Ok(body) } else { Err(format!("GET {path}: {status} {body}").into()) }
    }

    fn the_operation(&self) -> Outcome<Value> {
        let page = self.get("/v1/operations")?;
        let one = page["items"].as_array().is_some_and(|items| items.len() == 1);
        if one { Ok(page["items"][0].clone()) } else { Err(format!("{page}").into()) }
    }

    fn until_nothing_is_owed(&self) -> Outcome {
        until(LIMIT, "nothing is owed", || {
            let ready = self.get("/readyz")?;
            let owed = &ready["dependencies"]["log"]["details"]["owed"];
            if *owed == 0 && self.the_operation()?["state"] == "failed" {
                return Ok(Some(()));
            }
            Err(format!("{ready}").into())
        })
    }
}

#[test]
fn a_failed_operation_calls_a_person_once_and_tells_no_secret() -> Outcome {
    let world = World::new()?;
    let service = world.serve()?;
    world.fire()?;
    world.until_nothing_is_owed()?;
    let operation = world.the_operation()?;
    let told = world.webhook.told();
    assert_eq!((told.len(), world.calls.requests()), (1, 1), "{told:?}");
    let call = &told[0];
    assert_eq!((call.method.as_str(), call.path.as_str()), ("POST", "/page"));
    assert_eq!(call.headers.get("authorization"), Some(&format!("Bearer {CALL_TOKEN}")));
    let body: Value = serde_json::from_str(&call.body)?;
    assert_eq!(body["key"], call.key(), "{body}");
    assert!(call.key().starts_with(&format!("{}:outbox:", text(&operation["id"])?)), "{}", call.key());
    assert_eq!((&body["operation"], &body["name"]), (&operation["id"], &operation["name"]));
    assert_eq!((&body["state"], &body["safe_state"]), (&json!("failed"), &json!("escalate")), "{body}");
    assert_eq!((&body["alert"], &body["level"]), (&json!("shop-down"), &json!("P0")), "{body}");
    assert_eq!(body["target"], json!({"environment": "production", "service": "shop"}));
    // What was sent to the deployment system came back in its answer, and stands in the reason no more.
    let reason = text(&body["reason"])?;
    assert!(reason.contains("403") && reason.contains("***"), "{reason}");
    // Neither the same alert again nor another start is news.
    world.fire()?;
    let mut said = service.stop()?;
    let service = world.serve()?;
    world.fire()?;
    world.until_nothing_is_owed()?;
    assert_eq!(world.calls.requests(), 1);
    said.push_str(&service.stop()?);
    for secret in [ROLLBACK_TOKEN, CALL_TOKEN] {
        assert!(!call.body.contains(secret) && !said.contains(secret), "{}\n{said}", call.body);
    }
    Ok(())
}

#[test]
fn a_service_killed_between_the_end_and_the_call_calls_again_under_the_same_key() -> Outcome {
    for moment in Moment::ALL {
        let world = World::new()?;
        let service = world.serve()?;
        world.calls.stop_at(1, moment);
        world.fire()?;
        assert!(world.calls.wait_until_stopped(LIMIT), "nobody was called");
        assert_eq!(world.the_operation()?["state"], "failed", "{moment:?}: the call follows the end");
        // As `kill -9` does.
        drop(service);
        world.calls.release();
        let _service = world.serve()?;
        world.until_nothing_is_owed()?;
        let (told, keys) = (world.webhook.told(), world.webhook.keys());
        assert_eq!(keys.len(), 1, "{moment:?}: {told:?}");
        assert!(told.iter().all(|call| call.body == told[0].body), "{moment:?}: {told:?}");
        // The first one never got through, or its answer was lost, or was perhaps recorded.
        let times = match moment {
            Moment::Arrived => 1..=1,
            Moment::CarriedOut => 2..=2,
            Moment::Answered => 1..=2,
        };
        assert!(times.contains(&told.len()), "{moment:?}: {told:?}");
        assert!(moment == Moment::Answered || world.calls.requests() == 2, "{moment:?}");
    }
    Ok(())
}

fn text(value: &Value) -> Outcome<&str> {
    value.as_str().ok_or_else(|| format!("{value} is no text").into())
}
