//! A final write that keeps failing, from end to end (requirement Z7): `redress serve` may not write comments into the
//! alert tables of somebody else's Postgres. The remediation is not held up; nothing of its final write is there; the
//! write stays owed, raises an alert of Redress's own, and one person is called, once. When the right is given back, it
//! is made, once.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use redress_testkit::servers::{Postgres, Process, free_address};
use redress_testkit::until;
use redress_tests::neighbours::{ALERT_TABLES, http, psql};
use redress_tests::processes::Program;
use redress_tests::recorder::Recorder;
use redress_tests::recorder_webhook::Webhook;
use serde_json::{Value, json};
use tempfile::TempDir;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long anything that must come may take.
const LIMIT: Duration = Duration::from_secs(40);

/// From so many tries on a person is to know.
const MANY: u64 = 10;

/// Redress may use the tables, and no more.
const GUEST: &str = "create role guest login;
grant select, insert, update on alert_issues, alert_issue_comments, service_states to guest";

/// Only a final write has a comment.
const REVOKE: &str = "revoke insert on alert_issue_comments from guest";
const GRANT: &str = "grant insert on alert_issue_comments to guest";

/// The service, whom it calls, and the tables. Dropped in this order.
struct World {
    _service: Process,
    listen: SocketAddr,
    webhook: Webhook,
    calls: Recorder,
    postgres: Postgres,
    folder: TempDir,
}

impl World {
    fn start() -> Outcome<Self> {
        let (postgres, folder, listen) = (Postgres::start()?, tempfile::tempdir()?, free_address()?);
        psql(&postgres.url(), ALERT_TABLES)?;
        psql(&postgres.url(), GUEST)?;
        let webhook = Webhook::default();
        let calls = Recorder::start(webhook.clone())?;
        let mut command = redress(&folder)?;
        command
            .args(["serve", "--listen", &listen.to_string(), "--rollback-sleep", "100ms", "--settle", "0s"])
            .args(["--tables", &postgres.url().replace("//redress@", "//guest@"), "--keep-tables"])
            .args(["--escalation-url", &format!("http://{}/page", calls.address())]);
        let service = Process::start(command, listen, tempfile::tempdir()?)?;
        until(LIMIT, "it is ready", || {
            let answer = http(listen, "GET", "/readyz", &[], "");
            let ready = answer.as_ref().is_ok_and(|(status, _)| *status == 200);
            if ready { Ok(Some(())) } else { Err(format!("{answer:?}: {}", service.said()).into()) }
        })?;
        Ok(Self { _service: service, listen, webhook, calls, postgres, folder })
    }

    fn fire(&self, id: &str) -> Outcome {
        let alert = json!({
            "id": id, "service": "shop", "version": "v2", "level": "P0", "title": "shop is down",
            "alert_since": "2026-11-21T08:00:00Z", "labels": {},
        });
        let (status, answer) = http(self.listen, "POST", "/v1/alerts", &[], &alert.to_string())?;
        if status == 202 { Ok(()) } else { Err(format!("{status} {answer}").into()) }
    }

    /// The operations about a service, as the API shows them.
    fn operations(&self, service: &str) -> Outcome<Vec<Value>> {
        let (_, page) = http(self.listen, "GET", &format!("/v1/operations?service={service}"), &[], "")?;
        page["items"].as_array().cloned().ok_or_else(|| format!("{page}").into())
    }

    /// What is owed, oldest first.
    fn owed(&self) -> Outcome<Vec<Value>> {
        let output = redress(&self.folder)?.args(["outbox", "list", "--json"]).output()?;
        let lines = String::from_utf8(output.stdout)?;
        Ok(lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// Has what is owed tried now: nobody wants to wait for the next time that the service tries it.
    fn retry(&self, rows: &[Value]) -> Outcome {
        for row in rows {
            // A row that was delivered meanwhile is refused.
            let retry = ["outbox", "retry", text(&row["row"])?, "--reason", "looked at"];
            redress(&self.folder)?.args(retry).output()?;
        }
        Ok(())
    }

    fn sql(&self, sql: &str) -> Outcome<Vec<String>> {
        psql(&self.postgres.url(), sql)
    }

    fn issue(&self, id: &str) -> Outcome<Vec<String>> {
        self.sql(&format!("select state, alert_state from alert_issues where id = '{id}'"))
    }
}

fn redress(folder: &TempDir) -> Outcome<Command> {
    let mut command = Command::new(Program::Binary("redress").path()?);
    command.current_dir(folder.path());
    Ok(command)
}

fn text(value: &Value) -> Outcome<&str> {
    value.as_str().ok_or_else(|| format!("{value} is no text").into())
}

#[test]
#[ignore = "needs Postgres: ./test runs it"]
fn a_final_write_that_keeps_failing_calls_a_person_and_is_made_when_it_can_be() -> Outcome {
    let world = World::start()?;
    world.sql(REVOKE)?;
    world.fire("shop-down")?;
    let tries = |owed: &[Value]| owed.iter().filter_map(|row| row["tries"].as_u64()).max().unwrap_or(0);
    let owed = until(LIMIT, "the final write failed", || {
        let owed = world.owed()?;
        let restored = world.operations("shop")?.iter().any(|operation| operation["state"] == "restored");
        if restored && tries(&owed) > 0 { Ok(Some(owed)) } else { Err(format!("{owed:?}").into()) }
    })?;
    let [row] = owed.as_slice() else { return Err(format!("{owed:?}").into()) };
    assert!(text(&row["last_error"])?.contains("alert_issue_comments"), "{row}");
    // One transaction: without its comment nothing of it is there.
    assert_eq!(world.issue("shop-down")?, ["Open|InProcessing"]);
    assert_eq!(world.sql("select health_state from service_states where service = 'shop'")?, ["Error"]);

    until(LIMIT, "somebody is called", || {
        let owed = world.owed()?;
        let told = world.webhook.told();
        if !told.is_empty() {
            return Ok(Some(()));
        }
        world.retry(&owed)?;
        Err(format!("{owed:?}").into())
    })?;
    let told = world.webhook.told();
    let called: Value = serde_json::from_str(&told[0].body)?;
    assert!(tries(&world.owed()?) + 1 >= MANY, "called too early: {called}");
    let about = format!("{} {}", called["alert"], called["reason"]);
    for wanted in ["redress-owed-persistence-", "alert_issue_comments", text(&row["operation"])?] {
        assert!(about.contains(wanted), "{wanted}: {called}");
    }
    assert_eq!(world.issue("shop-down")?, ["Open|InProcessing"]);

    world.sql(GRANT)?;
    until(LIMIT, "nothing is owed", || {
        let owed = world.owed()?;
        world.retry(&owed)?;
        if owed.is_empty() { Ok(Some(())) } else { Err(format!("{owed:?}").into()) }
    })?;
    assert_eq!(world.issue("shop-down")?, ["Closed|Restored"]);
    assert_eq!(world.sql("select health_state from service_states where service = 'shop'")?, ["Normal"]);
    let written = "select (select count(*) from alert_issues), (select count(*) from alert_issue_comments)";
    assert_eq!(world.sql(written)?, ["1|1"], "one comment, and no issue about Redress itself");
    // The alert about it was recorded and called somebody; there is nothing to remediate, and nothing left to do.
    let own = world.operations("redress")?;
    let [own] = own.as_slice() else { return Err(format!("{own:?}").into()) };
    assert_eq!(
        (&own["state"], &own["owed"], &own["id"]),
        (&json!("skipped"), &json!(0), &called["operation"])
    );
    assert_eq!(world.calls.requests(), 1);
    Ok(())
}
