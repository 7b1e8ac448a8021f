//! `redress serve` on the embedded default: one process, a SQLite file and nothing else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use redress_testkit::servers::free_address;
use redress_testkit::until;
use redress_types::Timestamp;
use serde_json::{Value, json};
use support::target::Target;
use support::{Place, Started, example};

const SERVES: &str = "redress serves on http://";

/// One healthy look is enough.
const ONE_LOOK: [&str; 4] = ["--settle", "0s", "--passes", "1"];

/// A service on a free port.
struct Service {
    started: Started,
    address: String,
}

fn serve(place: &Place, options: &[&str]) -> Service {
    serve_as(place, &[&ONE_LOOK, options].concat())
}

fn serve_as(place: &Place, options: &[&str]) -> Service {
    // Somebody may take the port before the service does; then it says so, and the test fails with that.
    let address = free_address().unwrap().to_string();
    let mut arguments = vec!["serve", "--listen", &address];
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

    /// Looks until this is true.
    fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let look = || {
            let body = self.get(path);
            if holds(&body) { Ok(Some(body)) } else { Err(body.to_string().into()) }
        };
        until(Duration::from_secs(30), path, look).unwrap()
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
    the_command_line_prints_what_the_service_answers(&place, &service);
    // Beside the service: reading, and a second engine that says who holds the file.
    place.run(&["verify"]).expect_code(0);
    let held = place.run(&["run", &example("message.json")]).expect_code(2);
    assert!(held.err.contains("only one engine at a time"), "{}", held.all());
    service.started.signal("TERM");
    service.started.end().expect_code(0);
    // A run on the same log tells the service's tables too.
    let other = message().replace("checkout", "billing");
    place.run_with_input(&["run", "-", "--rollback-sleep", "0s"], other.as_bytes()).expect_code(0);
    let clean = place.run(&["reconcile", "--dry-run"]).expect_code(0);
    assert!(clean.out.contains("2 operations, 2 issues; no cache; 0 differences found"), "{}", clean.all());
}

fn the_command_line_prints_what_the_service_answers(place: &Place, service: &Service) {
    let printed =
        |words: &[&str]| place.run(&[&["operations"], words, &["--json"]].concat()).expect_code(0).json();
    assert_eq!(printed(&["list"])[..1], service.get("/v1/operations")["items"].as_array().unwrap()[..]);
    let shown = service.get("/v1/operations/rr-");
    assert_eq!(printed(&["show", "rr-"])[0], shown);
    assert!(!shown["owes"].as_array().unwrap().is_empty(), "{shown}");
    let log = service.get("/v1/operations/rr-/log");
    assert_eq!(&printed(&["log", "rr-"]), log["items"].as_array().unwrap());
}

#[test]
#[ignore = "takes 3 s: ./test runs it"]
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
    let address = free_address().unwrap().to_string();
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
    assert_eq!(service.ask("POST", "/v1/alerts", "", &message()).0, 401);
    assert_eq!(service.ask("GET", "/v1/operations", "authorization: Bearer two\r\n", "").0, 200);
    service.get("/healthz");
}

#[test]
fn whom_it_is_told_to_call_is_called_with_the_credentials_for_it() {
    let place = Place::new();
    let target = Target::new(|line| match line {
        line if line.starts_with("GET /api/v2/alerts") => (200, "[]"),
        line if line.starts_with("POST /page") => (200, ""),
        _ => (404, "{}"),
    });
    let at = |path: &str| format!("http://{}{path}", target.address);
    let address = free_address().unwrap().to_string();
    let (rollback, page, alertmanager) = (at("/v1/deployments/%s/rollback"), at("/page"), at(""));
    let mut command = place.command(&["serve", "--listen", &address, "--rollback-url", &rollback]);
    command.args(["--escalation-url", &page, "--alertmanager-url", &alertmanager]);
    command.env("REDRESS_ROLLBACK_BEARER", "roll").env("REDRESS_ESCALATION_BEARER", "page");
    command.env("ALERT_WEBHOOK_BASIC_USER", "am").env("ALERT_WEBHOOK_BASIC_PASS", "word");
    let service = Service { started: place.started_until(command, SERVES), address };
    let webhook = "/v1/integrations/alertmanager/webhook";
    let body = std::fs::read_to_string(example("alertmanager-truncated.json")).unwrap();
    assert_eq!(service.ask("POST", webhook, "", &body).0, 401);
    // "am:word" in base64.
    let (status, answer) = service.ask("POST", webhook, "authorization: Basic YW06d29yZA==\r\n", &body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(service.ask("POST", "/v1/alerts", "", &message()).0, 202);
    let calls = [
        ("GET /api/v2/alerts", ""),
        ("GET /v1/deployments/dep-20261121-007 ", "authorization: Bearer roll\n"),
        ("POST /page", "authorization: Bearer page\n"),
    ];
    for (call, credentials) in calls {
        let look = || {
            let seen = target.seen();
            let found = seen.iter().any(|text| text.starts_with(call) && text.contains(credentials));
            if found { Ok(Some(())) } else { Err(format!("{call} is not in {seen:?}").into()) }
        };
        until(Duration::from_secs(30), call, look).unwrap();
    }
    service.until("/v1/operations?state=failed", |body| !body["items"].as_array().unwrap().is_empty());
}

/// An alert's operation until it is restored; how many looks proved it, and over how long.
fn proven(service: &Service, id: &str) -> (u64, u64) {
    let body = message().replace("checkout-5xx-20261121-0245", id);
    assert_eq!(service.ask("POST", "/v1/alerts", "", &body).0, 202);
    let path = format!("/v1/operations/{id}");
    service.until(&path, |body| body["state"] == "restored");
    let log = service.get(&format!("{path}/log"));
    let passed = &log["items"].as_array().unwrap().last().unwrap()["entry"]["events"][0];
    assert_eq!(passed["kind"], "verification_passed", "{log}");
    (passed["passes"].as_u64().unwrap(), passed["held_ms"].as_u64().unwrap())
}

#[test]
#[ignore = "takes 6 s: ./test runs it"]
fn verification_and_cooldown_are_as_asked() {
    let place = Place::new();
    let options = ["--rollback-sleep", "0s", "--passes", "1", "--settle", "1500ms", "--cooldown", "0s"];
    let service = serve_as(&place, &options);
    // With the usual cooldown the second would be Blocked for minutes.
    for id in ["first", "second"] {
        let (_, held_ms) = proven(&service, id);
        assert!(held_ms >= 1_500, "{held_ms}");
    }
    let read = |path: &str| service.get(path)["items"].as_array().unwrap().len();
    service.until("/v1/issues?state=Closed", |body| body["items"].as_array().unwrap().len() == 2);
    assert_eq!((read("/v1/issues?state=Open"), read("/v1/issues?limit=1")), (0, 1));
    let place = Place::new();
    let service = serve_as(&place, &["--rollback-sleep", "0s", "--passes", "4", "--settle", "0s"]);
    assert_eq!(proven(&service, "looks").0, 4);
}

#[test]
fn an_alert_that_fires_again_is_run_again_and_its_id_means_the_last_run() {
    let place = Place::new();
    let service = serve(&place, &["--rollback-sleep", "0s", "--cooldown", "0s"]);
    let alert = json!({"status": "firing", "fingerprint": "00000000000000aa", "startsAt": "2026-11-21T02:40:00Z",
                       "endsAt": "0001-01-01T00:00:00Z", "labels": {"alertname": "x", "service": "shop"}});
    let body = json!({"version": "4", "status": "firing", "groupKey": "g", "alerts": [alert]}).to_string();
    let start = "2026-11-21T02:40:00Z".parse::<Timestamp>().unwrap().as_micros() / 1_000;
    let id = format!("00000000000000aa-{start}");
    for run in [id.clone(), format!("{id}#2")] {
        let (status, answer) = service.ask("POST", "/v1/integrations/alertmanager/webhook", "", &body);
        assert_eq!((status, &answer["created"]), (200, &Value::from(1)), "{answer}");
        let of_run = |body: &Value| body["state"] == "restored" && body["alerts"][0]["id"] == *run;
        service.until(&format!("/v1/operations/{id}"), of_run);
    }
    service.until("/readyz", |body| body["dependencies"]["log"]["details"]["owed"] == 0);
    place.run(&["archive", "--to", "a.jsonl", "--older-than", "0s"]).expect_code(0);
    let (status, gone) = service.ask("GET", &format!("/v1/operations/{id}"), "", "");
    assert_eq!((status, &gone["error"]["details"]["state"]), (404, &Value::from("restored")), "{gone}");
    let said = place.run(&["operations", "show", &id]).expect_code(2);
    assert!(said.err.contains("was archived; it ended as restored"), "{}", said.all());
}

#[test]
fn what_it_was_doing_when_told_to_stop_is_given_up_for_the_next() {
    let place = Place::new();
    let service = serve(&place, &["--rollback-sleep", "60s"]);
    assert_eq!(service.ask("POST", "/v1/alerts", "", &message()).0, 202);
    service.until("/v1/operations/rr-", |body| body["steps"][0]["step"] == "rollback");
    service.started.signal("TERM");
    service.started.end().expect_code(0);
    let left = place.run(&["operations", "show", "rr-", "--json"]).expect_code(0).json().remove(0);
    let nobody = (&Value::from("rolling_back"), &Value::Null, &Value::from(false));
    assert_eq!((&left["state"], &left["held_by"], &left["attended"]), nobody, "{left}");
}

#[test]
fn a_dry_run_says_what_differs_and_writes_nothing() {
    let place = Place::new();
    place.run(&["run", &example("message.json"), "--rollback-sleep", "0s"]).expect_code(0);
    let refused = place.run(&["reconcile", "--dry-run", "--tables", "sqlite://t.db"]).expect_code(2);
    assert!(refused.err.contains("table alert_issues is missing"), "{}", refused.all());
    assert!(!place.path("t.db").exists());
    let kept = place.run(&["reconcile", "--keep-tables", "--tables", "sqlite://t.db"]).expect_code(2);
    assert!(kept.err.contains("table alert_issues is missing"), "{}", kept.all());
    for (word, code) in [("1", 2), ("", 0), ("0", 0)] {
        let mut command = place.command(&["reconcile", "--tables", "sqlite://kept.db"]);
        assert_eq!(
            command.env("REDRESS_KEEP_TABLES", word).output().unwrap().status.code(),
            Some(code),
            "{word:?}"
        );
    }
    let whole = ["reconcile", "--tables", "sqlite://t.db", "--since"];
    let later = place.run(&[&whole[..], &["2999-01-01T00:00:00Z"]].concat()).expect_code(0);
    assert!(later.out.contains("0 operations, 0 issues"), "{}", later.all());
    for _ in 0..2 {
        let dry = place.run(&["reconcile", "--dry-run", "--tables", "sqlite://t.db"]).expect_code(1);
        assert!(dry.out.contains("differs ") && dry.out.contains(" 0 repaired"), "{}", dry.all());
    }
    place.run(&[&whole[..], &["1h"]].concat()).expect_code(0);
    place.run(&["reconcile", "--dry-run", "--tables", "sqlite://t.db"]).expect_code(0);
}

#[test]
#[ignore = "takes 18 s: ./test runs it"]
fn tables_and_cache_are_named_by_the_environment_too() {
    let place = Place::new();
    place.run(&["run", &example("message.json"), "--rollback-sleep", "0s"]).expect_code(0);
    let reconcile = |named: &[(&str, &str)]| {
        let mut command = place.command(&["reconcile"]);
        command.envs(named.iter().copied());
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let tables = [
        ("DB_HOST", "127.0.0.1"),
        ("DB_PORT", "1"),
        ("DB_USER", "u"),
        ("DB_PASSWORD", "hunter2"),
        ("DB_NAME", "x"),
    ];
    let (code, said) = reconcile(&tables);
    assert!(code == Some(2) && said.contains("postgres://u@127.0.0.1:1/x"), "{code:?} {said}");
    let (code, other) = reconcile(&[("REDIS_ADDR", "127.0.0.1:1"), ("REDIS_PASSWORD", "hunter2")]);
    assert!(
        code == Some(1) && other.contains("the cache NOT compared: redis://127.0.0.1:1/0"),
        "{code:?} {other}"
    );
    assert!(!format!("{said}{other}").contains("hunter2"), "{said}{other}");
}

#[test]
fn tables_that_are_gone_are_503_until_they_are_back() {
    let place = Place::new();
    let service = serve(&place, &[]);
    service.get("/v1/issues");
    let tables = rusqlite::Connection::open(place.path("redress-issues.db")).unwrap();
    tables.execute_batch("alter table alert_issues rename to elsewhere").unwrap();
    for path in ["/v1/issues", "/v1/issues/a"] {
        let (status, body) = service.ask("GET", path, "", "");
        assert_eq!((status, &body["error"]["code"]), (503, &json!("UNAVAILABLE")), "{path}");
    }
    tables.execute_batch("alter table elsewhere rename to alert_issues").unwrap();
    service.get("/v1/issues");
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
    let memory = place.run(&["serve", "--listen", "127.0.0.1:0", "--db", "memory:"]).expect_code(2);
    assert!(memory.err.contains("a log that outlives it"), "{}", memory.all());
    let help = place.run(&["serve", "--help"]).expect_code(0);
    assert!(help.out.contains("`run` and `bench` also take memory:"), "{}", help.all());
}
