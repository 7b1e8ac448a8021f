//! The walk of the first seed document, from end to end (requirement Z14): a real Alertmanager sends to `redress
//! serve`, and the alert goes Pending, InProcessing, Restored in Postgres tables that others made, in a real Redis, and
//! at `/v1/issues`. What the states were on the way is recorded by a trigger in Postgres and by Redis's MONITOR.
//! Then what a real Alertmanager does besides: it repeats, resolves, flaps, mixes, cuts, and sends twice.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redress_testkit::servers::{Postgres, Process, free_address, redis};
use redress_testkit::until;
use redress_tests::neighbours::{ALERT_TABLES, Redis, alertmanager, http, psql};
use redress_tests::processes::Program;
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long anything that must come may take.
const LIMIT: Duration = Duration::from_secs(40);

/// Records each state of an issue.
const SEE: &str = "
create table seen (number bigserial primary key, id text not null, state text not null, alert_state text not null);
create function see() returns trigger language plpgsql as $$ begin
    if tg_op = 'INSERT' or old.alert_state <> new.alert_state or old.state <> new.state then
        insert into seen (id, state, alert_state) values (new.id, new.state, new.alert_state);
    end if;
    return new; end $$;
create trigger see after insert or update on alert_issues for each row execute function see();
";

/// The service and its neighbours. Dropped in this order.
struct World {
    service: Option<Process>,
    listen: SocketAddr,
    redis: Process,
    monitored: Arc<Mutex<Vec<String>>>,
    postgres: Postgres,
}

impl World {
    fn start(options: &[&str]) -> Outcome<Self> {
        let postgres = Postgres::start()?;
        psql(&postgres.url(), ALERT_TABLES)?;
        psql(&postgres.url(), SEE)?;
        let redis = redis(free_address()?, &[])?;
        let monitored = monitor(redis.address())?;
        let listen = free_address()?;
        let mut world = Self { service: None, listen, redis, monitored, postgres };
        world.service = Some(world.serve(options)?);
        Ok(world)
    }

    fn serve(&self, options: &[&str]) -> Outcome<Process> {
        let mut command = Command::new(Program::Binary("redress").path()?);
        command
            .args(["serve", "--listen", &self.listen.to_string(), "--db", &self.postgres.url()])
            .args(["--redis", &format!("redis://{}", self.redis.address())])
            .args(["--rollback-sleep", "1s", "--settle", "0s", "--cooldown", "1s"])
            .args(options);
        Ok(Process::start(command, self.listen, tempfile::tempdir()?)?)
    }

    fn webhook(&self) -> String {
        format!("http://{}/v1/integrations/alertmanager/webhook", self.listen)
    }

    fn get(&self, path: &str) -> Outcome<Value> {
        let (status, body) = http(self.listen, "GET", path, &[], "")?;
        if status == 200 { Ok(body) } else { Err(format!("GET {path}: {status} {body}").into()) }
    }

    /// Every issue, oldest first.
    fn issues(&self) -> Outcome<Vec<Value>> {
        let page = self.get("/v1/issues?limit=100")?;
        let mut issues = page["items"].as_array().cloned().unwrap_or_default();
        issues.reverse();
        Ok(issues)
    }

    fn operations(&self) -> Outcome<usize> {
        let page = self.get("/v1/operations?limit=100")?;
        page["items"].as_array().map(Vec::len).ok_or_else(|| format!("{page}").into())
    }

    /// Waits until so many issues are in this state.
    fn until_issues(&self, count: usize, alert_state: &str) -> Outcome<Vec<Value>> {
        until(LIMIT, &format!("{count} issues {alert_state}"), || {
            let issues = self.issues()?;
            let there = issues.iter().filter(|issue| issue["alertState"] == alert_state).count();
            if there == count { Ok(Some(issues)) } else { Err(format!("{issues:?}").into()) }
        })
    }

    fn sql(&self, sql: &str) -> Outcome<Vec<String>> {
        psql(&self.postgres.url(), sql)
    }

    /// The states of an issue, as the trigger saw them.
    fn seen(&self, id: &str) -> Outcome<Vec<String>> {
        self.sql(&format!("select state || '/' || alert_state from seen where id = '{id}' order by number"))
    }
}

/// Records every command that Redis carries out, those of scripts included.
fn monitor(address: SocketAddr) -> Outcome<Arc<Mutex<Vec<String>>>> {
    let mut redis = Redis::connect(address)?;
    redis.ask(&["MONITOR"])?;
    let lines = Arc::new(Mutex::new(Vec::new()));
    std::thread::spawn({
        let lines = Arc::clone(&lines);
        move || {
            while let Ok(line) = redis.line() {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        }
    });
    Ok(lines)
}

/// An Alertmanager's configuration that sends everything at once, and again soon.
fn configuration(webhook: &str, more: &str) -> String {
    format!(
        "route:\n  receiver: redress\n  group_by: [service]\n  group_wait: 100ms\n  group_interval: 1s\n  \
         repeat_interval: 1s\nreceivers:\n- name: redress\n  webhook_configs:\n  - url: {webhook}\n    \
         send_resolved: true\n{more}"
    )
}

/// An alert as Prometheus sends it.
fn alert(name: &str, service: &str, starts_at: &str, ends_at: Option<&str>) -> Value {
    let mut alert = json!({
        "labels": {"alertname": name, "service": service, "service_version": "v1.4.2", "severity": "P0"},
        "annotations": {"summary": format!("{name} on {service}")},
        "startsAt": starts_at,
    });
    if let Some(ends_at) = ends_at {
        alert["endsAt"] = ends_at.into();
    }
    alert
}

fn post(alertmanager: &Process, alerts: &[Value]) -> Outcome {
    let json = [("content-type", "application/json")];
    let body = Value::from(alerts).to_string();
    let (status, answer) = http(alertmanager.address(), "POST", "/api/v2/alerts", &json, &body)?;
    if status == 200 { Ok(()) } else { Err(format!("Alertmanager answers {status} {answer}").into()) }
}

const EARLY: &str = "2026-11-21T08:00:00.000Z";
const LATER: &str = "2026-11-21T09:00:00.000Z";
const FAR: &str = "2099-01-01T00:00:00.000Z";

#[test]
#[ignore = "needs Postgres, Redis and Alertmanager: ./test runs it"]
fn an_alert_walks_from_alertmanager_to_restored_in_tables_cache_and_api() -> Outcome {
    let world = World::start(&[])?;
    let alertmanager = alertmanager(free_address()?, &configuration(&world.webhook(), ""), &[])?;
    post(&alertmanager, &[alert("HighErrorRate", "shop", EARLY, Some(FAR))])?;
    let issues = world.until_issues(1, "Restored")?;
    let id = issues[0]["id"].as_str().ok_or("no id")?.to_owned();
    // Its id is made of what Alertmanager says.
    assert!(id.ends_with("-1795248000000"), "{id}");
    assert_eq!(world.seen(&id)?, ["Open/Pending", "Open/InProcessing", "Closed/Restored"]);
    let one = world.get(&format!("/v1/issues/{id}"))?;
    assert_eq!(
        (&one["state"], &one["level"], &one["alertState"], &one["title"], &one["alertSince"]),
        (&json!("Closed"), &json!("P0"), &json!("Restored"), &json!("HighErrorRate on shop"), &json!(EARLY)),
        "{one}"
    );
    let comments = one["comments"].as_array().ok_or("no comments")?;
    assert_eq!(comments.len(), 1, "{one}");
    let comment = comments[0]["content"].as_str().unwrap_or_default();
    let headings = ["## AI分析结果", "**问题类型**", "**根因分析**", "**处理建议**", "**执行状态**"];
    assert!(headings.iter().all(|heading| comment.contains(heading)), "{comment}");
    let state =
        world.sql("select service, version, health_state, resolved_at is not null from service_states")?;
    assert_eq!(state, ["shop|v1.4.2|Normal|t"]);
    cache_holds_it(&world, &id)?;
    repeats_and_its_end_change_nothing(&world, &alertmanager, &id)?;
    a_flap_is_a_new_alert(&world, &alertmanager, &id)?;
    ready_and_proven(world)
}

/// Value, index sets, and what they were on the way.
fn cache_holds_it(world: &World, id: &str) -> Outcome {
    let mut redis = Redis::connect(world.redis.address())?;
    let value = redis.ask(&["GET", &format!("alert:issue:{id}")])?;
    let value: Value = serde_json::from_str(value.as_str().unwrap_or_default())?;
    assert_eq!((&value["alertState"], &value["state"]), (&json!("Restored"), &json!("Closed")), "{value}");
    let ttl = redis.ask(&["TTL", &format!("alert:issue:{id}")])?;
    assert!((1..=259_200).contains(&ttl.as_i64().unwrap_or(0)), "{ttl}");
    for (set, expected) in [
        ("alert:index:alert_state:Restored", 1),
        ("alert:index:alert_state:Pending", 0),
        ("alert:index:alert_state:InProcessing", 0),
        ("alert:index:open", 0),
        ("alert:index:svc:shop:open", 0),
    ] {
        assert_eq!(redis.ask(&["SISMEMBER", set, id])?, json!(expected), "{set}");
    }
    let service = "service_state:shop:v1.4.2";
    let value = redis.ask(&["GET", service])?;
    let value: Value = serde_json::from_str(value.as_str().unwrap_or_default())?;
    assert_eq!(value["health_state"], "Normal", "{value}");
    assert!(value["resolved_at"].is_string(), "{value}");
    for (set, expected) in [("Normal", 1), ("Warning", 0), ("Error", 0)] {
        let set = format!("service_state:index:health:{set}");
        assert_eq!(redis.ask(&["SISMEMBER", &set, service])?, json!(expected), "{set}");
    }
    let lines = world.monitored.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let added = |state: &str| {
        let set = format!("\"alert:index:alert_state:{state}\"");
        lines.iter().position(|line| line.to_lowercase().contains("\"sadd\"") && line.contains(&set))
    };
    let order = [added("Pending"), added("InProcessing"), added("Restored")];
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}: {lines:#?}");
    Ok(())
}

/// Alertmanager says it again every second, and then that it is over.
fn repeats_and_its_end_change_nothing(world: &World, alertmanager: &Process, id: &str) -> Outcome {
    let count = || -> Outcome<u64> {
        let operation = &world.get("/v1/operations")?["items"][0];
        let name = operation["name"].as_str().ok_or("no name")?;
        let shown = world.get(&format!("/v1/operations/{name}"))?;
        shown["alerts"][0]["count"].as_u64().ok_or_else(|| format!("{shown}").into())
    };
    until(LIMIT, "three deliveries", || Ok((count()? >= 3).then_some(())))?;
    post(alertmanager, &[alert("HighErrorRate", "shop", EARLY, Some("2026-11-21T08:30:00.000Z"))])?;
    // The resolved notice comes after the next interval; then nothing more is sent.
    until(LIMIT, "the resolved notice was sent", || {
        let (_, groups) = http(alertmanager.address(), "GET", "/api/v2/alerts", &[], "")?;
        Ok(groups.as_array().is_some_and(Vec::is_empty).then_some(()))
    })?;
    assert_eq!(world.operations()?, 1);
    assert_eq!(world.seen(id)?.len(), 3);
    Ok(())
}

/// The same problem again with another start.
fn a_flap_is_a_new_alert(world: &World, alertmanager: &Process, id: &str) -> Outcome {
    post(alertmanager, &[alert("HighErrorRate", "shop", LATER, Some(FAR))])?;
    let issues = world.until_issues(2, "Restored")?;
    let ids: Vec<&str> = issues.iter().filter_map(|issue| issue["id"].as_str()).collect();
    assert!(ids.contains(&id) && ids.iter().any(|id| id.ends_with("-1795251600000")), "{ids:?}");
    assert_eq!(world.operations()?, 2);
    Ok(())
}

/// It is ready, owes nothing, stops when asked, and its log proves itself.
fn ready_and_proven(mut world: World) -> Outcome {
    until(LIMIT, "nothing is owed", || {
        let ready = world.get("/readyz")?;
        let owed = &ready["dependencies"]["log"]["details"]["owed"];
        if ready["status"] == "ready" && *owed == 0 { Ok(Some(())) } else { Err(format!("{ready}").into()) }
    })?;
    if let Some(service) = world.service.take() {
        service.stop()?;
    }
    let redress = |arguments: &[&str]| -> Outcome<String> {
        let redis = format!("redis://{}", world.redis.address());
        let mut command = Command::new(Program::Binary("redress").path()?);
        command.args(arguments).args(["--db", &world.postgres.url()]);
        if arguments.contains(&"reconcile") {
            command.args(["--redis", &redis]);
        }
        let output = command.output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if output.status.success() { Ok(said) } else { Err(format!("{arguments:?}: {said}").into()) }
    };
    redress(&["verify"])?;
    redress(&["reconcile", "--dry-run"])?;
    Ok(())
}

#[test]
#[ignore = "needs Postgres, Redis and Alertmanager: ./test runs it"]
fn a_group_of_both_acts_on_what_fires_and_what_is_cut_is_fetched() -> Outcome {
    let address = free_address()?;
    let world = World::start(&["--alertmanager-url", &format!("http://{address}")])?;
    let configuration = configuration(&world.webhook(), "    max_alerts: 2\n");
    let alertmanager = alertmanager(address, &configuration, &[])?;
    let mut alerts: Vec<Value> =
        (1..=5).map(|n| alert(&format!("Alert{n}"), "shop", EARLY, Some(FAR))).collect();
    alerts.push(alert("Over", "shop", EARLY, Some("2026-11-21T08:30:00.000Z")));
    post(&alertmanager, &alerts)?;
    let issues = world.until_issues(5, "Restored")?;
    let over =
        issues.iter().filter(|issue| issue["title"].as_str().is_some_and(|title| title.contains("Over")));
    assert_eq!(over.count(), 0, "{issues:?}");
    ready_and_proven(world)
}

#[test]
#[ignore = "needs Postgres, Redis and Alertmanager: ./test runs it"]
fn two_alertmanagers_of_a_cluster_deliver_twice_and_it_runs_once() -> Outcome {
    let world = World::start(&[])?;
    let peers = [free_address()?, free_address()?];
    let configuration = configuration(&world.webhook(), "");
    let one = alertmanager(free_address()?, &configuration, &[peers[0], peers[1]])?;
    let other = alertmanager(free_address()?, &configuration, &[peers[1], peers[0]])?;
    let alerts: Vec<Value> = (1..=5).map(|n| alert("Down", &format!("shop-{n}"), EARLY, Some(FAR))).collect();
    // As Prometheus does: to each of them.
    std::thread::scope(|scope| {
        let posts = [&one, &other].map(|alertmanager| scope.spawn(|| post(alertmanager, &alerts)));
        posts.into_iter().try_for_each(|post| post.join().unwrap_or_else(|_| Err("it panicked".into())))
    })?;
    let issues = world.until_issues(5, "Restored")?;
    assert_eq!((issues.len(), world.operations()?), (5, 5));
    let comments = world.sql("select count(*) from alert_issue_comments")?;
    assert_eq!(comments, ["5"]);
    ready_and_proven(world)
}
