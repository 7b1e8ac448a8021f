//! `redress serve` on the embedded default: one process, a SQLite file and nothing else.

#![allow(clippy::disallowed_methods, reason = "real processes know nothing of a paused clock")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Place, Started, example};

const SERVES: &str = "redress serves on http://";

/// A service on a free port.
struct Service {
    started: Started,
    address: String,
}

fn serve(place: &Place, options: &[&str]) -> Service {
    // Somebody may take the port before the service does; then it says so, and the test fails with that.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let mut arguments = vec!["serve", "--listen", &address, "--settle", "0s", "--passes", "1"];
    arguments.extend(options);
    let started = place.start_until(&arguments, SERVES);
    Service { started, address }
}

impl Service {
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let text =
            format!("{method} {path} HTTP/1.0\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, "", "");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Looks until this is true, as one must across processes.
    fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let body = self.get(path);
            if holds(&body) {
                return body;
            }
            assert!(Instant::now() < end, "{path} stays {body}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn message() -> String {
    std::fs::read_to_string(example("message.json")).unwrap()
}

#[test]
fn an_alert_is_taken_remediated_and_shown_and_the_service_stops_when_asked() {
    let place = Place::new();
    let service = serve(&place, &["--rollback-sleep", "100ms"]);
    let (status, answer) = service.ask("POST", "/v1/alerts", "", &message());
    assert_eq!(status, 202, "{answer}");
    let issues = service.until("/v1/issues", |body| body["items"][0]["alertState"] == "Restored");
    assert_eq!(issues["items"][0]["state"], "Closed", "{issues}");
    let operations = service.get("/v1/operations");
    assert_eq!(operations["items"][0]["state"], "restored", "{operations}");
    let ready = service.until("/readyz", |body| body["dependencies"]["log"]["details"]["owed"] == 0);
    assert_eq!(ready["status"], "ready", "{ready}");
    // Beside the service: reading, and a second engine that says who holds the file.
    place.run(&["verify"]).expect_code(0);
    let held = place.run(&["run", &example("message.json")]).expect_code(2);
    assert!(held.err.contains("only one engine at a time"), "{}", held.all());
    service.started.signal("TERM");
    service.started.end().expect_code(0);
    let clean = place.run(&["reconcile", "--dry-run"]).expect_code(0);
    assert!(clean.out.contains("1 operation, 1 issue; no cache; 0 differences found"), "{}", clean.all());
}

#[test]
fn what_a_killed_service_was_doing_goes_on_with_the_next_and_a_broken_table_is_repaired() {
    let place = Place::new();
    let service = serve(&place, &["--rollback-sleep", "3s"]);
    let (status, _) = service.ask("POST", "/v1/alerts", "", &message());
    assert_eq!(status, 202);
    service.until("/v1/issues", |body| body["items"][0]["alertState"] == "InProcessing");
    let shown = place.run(&["operations", "show", "rr-"]).expect_code(0);
    assert!(!shown.out.contains("none is at work"), "{}", shown.all());
    service.started.kill();
    let shown = place.run(&["operations", "show", "rr-"]).expect_code(0);
    assert!(shown.out.contains("waits for an engine: none is at work on it"), "{}", shown.all());
    let service = serve(&place, &["--rollback-sleep", "3s"]);
    service.until("/v1/issues", |body| body["items"][0]["alertState"] == "Restored");
    service.until("/readyz", |body| body["dependencies"]["log"]["details"]["owed"] == 0);
    service.started.signal("INT");
    service.started.end().expect_code(0);
    let empty = place.run(&["reconcile", "--tables", "sqlite://elsewhere.db"]).expect_code(0);
    assert!(empty.out.contains("repaired"), "{}", empty.all());
    let clean = place.run(&["reconcile", "--dry-run", "--tables", "sqlite://elsewhere.db"]).expect_code(0);
    assert!(clean.out.contains("0 differences found"), "{}", clean.all());
}

#[test]
fn who_may_not_call_is_told_so() {
    let place = Place::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let mut command = place.command(&["serve", "--listen", &address, "--rollback-sleep", "0s"]);
    command.env("ALERT_WEBHOOK_BEARER", "one").env("REDRESS_API_BEARER", "two");
    let service = Service { started: place.started_until(command, SERVES), address };
    let webhook = "/v1/integrations/alertmanager/webhook";
    let body = std::fs::read_to_string(example("alertmanager-firing.json")).unwrap();
    assert_eq!(service.ask("POST", webhook, "", &body).0, 401);
    assert_eq!(service.ask("POST", webhook, "authorization: Bearer two\r\n", &body).0, 401);
    let (status, answer) = service.ask("POST", webhook, "authorization: Bearer one\r\n", &body);
    assert_eq!((status, &answer["created"]), (200, &Value::from(3)), "{answer}");
    assert_eq!(service.ask("GET", "/v1/operations", "", "").0, 401);
    assert_eq!(service.ask("GET", "/v1/operations", "authorization: Bearer two\r\n", "").0, 200);
    service.get("/healthz");
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_made() {
    let place = Place::new();
    for (options, said) in [
        (["--redis", "http://x"], "--redis"),
        (["--tables", "mysql://x"], "--tables"),
        (["--escalation-url", "ftp://x"], "--escalation-url"),
        (["--lease", "1h"], "--lease"),
        (["--language", "fr"], "--language"),
    ] {
        let refused =
            place.run(&[&["serve", "--listen", "127.0.0.1:0"], &options[..]].concat()).expect_code(2);
        assert!(refused.err.contains(said), "{options:?}: {}", refused.all());
    }
    assert!(!place.path("redress-issues.db").exists());
}
