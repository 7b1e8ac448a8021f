//! A crash at every point beside real neighbours: the log on Postgres, the persistence step with its tables there and
//! its cache in Redis. What the embedded sweep demands must hold here too; and whatever was killed, between a commit
//! and its answer or between the tables and the cache, the issue, its one comment, the state of its service and every
//! key of the cache are what they must be.
//!
//! The strategy `ok` crashes at every point that differs from the next one; `probe`, which ends otherwise, at each of
//! those that are its own: its steps, and all from its end on; the others at a sample that `REDRESS_SEED` chooses, of
//! `REDRESS_CRASH_SAMPLE` points each; `REDRESS_CRASH_ALL=1` takes all, and pairs of crashes too.
//! `REDRESS_CRASH_WORKERS` says how many cases run at a time; two for each processor otherwise.

mod crash_sweep;

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redress_engine::operation_log::{Head, OperationHistory, OperationLog};
use redress_engine::types::SystemClock;
use redress_operation_log_postgres::{Options, PostgresLog};
use redress_persistence::{CacheSettings, Persistence, Scope, Settings, TablesSettings};
use redress_testkit::servers::{Postgres, Process, free_address, redis};
use redress_tests::chance::number_from;
use redress_tests::neighbours::{Redis, psql};
use serde_json::Value;
use tokio::runtime::Runtime;

use crash_sweep::strategies::{HALT, OK, PROBE, RERUN};
use crash_sweep::{Fate, Outcome, Place, Sweep, World, hold};

/// A little more than the program's.
const LEASE: Duration = Duration::from_secs(31);

/// Redis has sixteen databases; each worker has one.
const WORKERS_MAX: usize = 16;

/// What the program passes only here.
const PASSES: &[&str] = &[
    "after deliver persistence ",
    "after deliver persistence_cache ",
    "after outbox_settle 4",
    "before commit ",
    "before script ",
];

#[test]
#[ignore = "needs Postgres and Redis: ./test runs it"]
fn tables_and_cache_survive_a_crash_at_every_point() -> Outcome {
    let world = Neighbours::start()?;
    let all = number_from("REDRESS_CRASH_ALL", 0)? > 0;
    let count = usize::try_from(number_from("REDRESS_CRASH_SAMPLE", 8)?)?;
    let mut fates = Vec::new();
    for strategy in [&OK, &PROBE, &RERUN, &HALT] {
        let mut sweep = Sweep::new(&world, strategy)?;
        let mut own = if all {
            sweep.every_point()
        } else if strategy.name == OK.name {
            different(&sweep.points).into_iter().filter(|at| !looks(at)).map(Fate::crash).collect()
        } else if strategy.name == PROBE.name {
            let points = different(&sweep.points).into_iter().filter(|at| !looks(at));
            let (before, ending) = points.partition::<Vec<_>, _>(before_the_ending(&sweep.points));
            let own = before.into_iter().filter(|at| is_of_steps(at)).chain(ending);
            own.map(Fate::crash).collect()
        } else {
            sweep.sample(0..sweep.points.len(), count)
        };
        own.extend(sweep.interrupted(if all { count } else { 1 }));
        own.extend(sweep.pairs(if all { 24 } else { 2 })?);
        fates.extend(own.into_iter().map(|fate| (strategy, fate)));
    }
    println!("{} cases", fates.len());
    hold(&world, &fates);
    Ok(())
}

/// The points without those after which nothing happens until the next one begins something: a crash there leaves the
/// same behind as one there.
fn different(points: &[String]) -> Vec<&str> {
    let next = points.iter().skip(1).map(String::as_str).chain([""]);
    let pairs = points.iter().map(String::as_str).zip(next);
    pairs
        .filter(|(at, next)| !(at.starts_with("after ") && next.starts_with("before ")))
        .map(|(at, _)| at)
        .collect()
}

/// Whether a point comes before the delivery of what the ending entry owes.
fn before_the_ending(points: &[String]) -> impl FnMut(&&str) -> bool {
    let deliveries = |point: &String| point.starts_with("before deliver persistence ");
    let ending = points.iter().rposition(deliveries).unwrap_or(0);
    let before: Vec<&str> = points.iter().take(ending).map(String::as_str).collect();
    move |point| before.contains(point)
}

/// What a strategy does itself: the session, and what the accepting entry owes, are everybody's.
fn is_of_steps(point: &str) -> bool {
    ["call", "probe", "check", "append"].iter().any(|kind| point.split(' ').nth(1) == Some(kind))
}

/// One of the many looks for something to do, after the first ones.
fn looks(point: &str) -> bool {
    let (kind, call) = point.rsplit_once(' ').unwrap_or_default();
    let looks = ["claim", "outbox_due", "renew_session"].iter().any(|look| kind.ends_with(look));
    looks && call.parse().is_ok_and(|call: u32| call > 2)
}

/// A Postgres and a Redis of this test's own.
struct Neighbours {
    postgres: Postgres,
    redis: Process,
    runtime: Runtime,
    rooms: Vec<Mutex<Option<Room>>>,
    cases: AtomicU64,
}

impl Neighbours {
    fn start() -> Outcome<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = number_from("REDRESS_CRASH_WORKERS", 2 * cores as u64)?;
        let workers = usize::try_from(workers)?.clamp(1, WORKERS_MAX);
        Ok(Self {
            postgres: Postgres::start()?,
            redis: redis(free_address()?, &[])?,
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?,
            rooms: (0..workers).map(|_| Mutex::new(None)).collect(),
            cases: AtomicU64::new(1),
        })
    }

    /// An empty schema, and the worker's database of Redis, emptied.
    fn furnish(&self, worker: usize, number: u64) -> Outcome<Room> {
        let url = self.postgres.url();
        psql(&url, &format!("create schema case_{number}"))?;
        let mut keys = Redis::connect(self.redis.address())?;
        keys.ask(&["SELECT", &worker.to_string()])?;
        keys.ask(&["FLUSHDB"])?;
        let redis = format!("redis://{}/{worker}", self.redis.address());
        let db = format!("{url}?options=-c%20search_path%3Dcase_{number}&sslmode=disable");
        let (log, persistence) = self.runtime.block_on(open(&db, &redis))?;
        Ok(Room { db, redis, log, persistence, keys: RefCell::new(keys), ahead: Cell::default() })
    }
}

async fn open(db: &str, redis: &str) -> Outcome<(Arc<PostgresLog>, Persistence)> {
    let options = Options { connections: 1, ..Options::default() };
    let log = Arc::new(PostgresLog::open(db, &options).await?);
    let cache = Some(CacheSettings::from_url("REDIS", redis)?);
    let settings = Settings { cache, ..Settings::new(TablesSettings::from_url("DB", db)?) };
    let history = Arc::clone(&log) as Arc<dyn OperationHistory>;
    Ok((log, Persistence::open(settings, history, Arc::new(SystemClock)).await?))
}

impl World for Neighbours {
    fn place(&self, worker: usize) -> Outcome<Box<dyn Place + '_>> {
        let number = self.cases.fetch_add(1, Ordering::Relaxed);
        let kept = lock(&self.rooms[worker]).take();
        let room = kept.map_or_else(|| self.furnish(worker, number), Ok)?;
        Ok(Box::new(Stay { world: self, worker, number, room: Some(room), clean: Cell::new(false) }))
    }

    fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn workers(&self) -> usize {
        self.rooms.len()
    }

    fn passes(&self) -> &'static [&'static str] {
        PASSES
    }
}

/// A schema and a database of Redis. A worker's cases use it one after the other: another schema would take longer
/// than a case.
struct Room {
    db: String,
    redis: String,
    log: Arc<PostgresLog>,
    persistence: Persistence,
    keys: RefCell<Redis>,
    /// How far its clocks are ahead: what one case leaves behind lies in the past of the next one.
    ahead: Cell<Duration>,
}

/// A case in a room.
struct Stay<'a> {
    world: &'a Neighbours,
    worker: usize,
    number: u64,
    /// None once it was handed on.
    room: Option<Room>,
    /// It left nothing behind that the next case could stumble over.
    clean: Cell<bool>,
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        if self.clean.get() {
            *lock(&self.world.rooms[self.worker]) = self.room.take();
        }
    }
}

fn lock(room: &Mutex<Option<Room>>) -> MutexGuard<'_, Option<Room>> {
    room.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stay<'_> {
    fn room(&self) -> Outcome<&Room> {
        Ok(self.room.as_ref().ok_or("the room is another's")?)
    }
}

impl Place for Stay<'_> {
    fn number(&self) -> u64 {
        self.number
    }

    fn db(&self) -> String {
        self.room.as_ref().map(|room| room.db.clone()).unwrap_or_default()
    }

    fn redis(&self) -> Option<String> {
        self.room.as_ref().map(|room| room.redis.clone())
    }

    fn lease(&self) -> Option<Duration> {
        Some(LEASE)
    }

    fn ahead(&self) -> Duration {
        self.room.as_ref().map(|room| room.ahead.get()).unwrap_or_default()
    }

    fn move_on(&self, by: Duration) {
        if let Some(room) = &self.room {
            room.ahead.set(room.ahead.get() + by);
        }
    }

    fn log(&self) -> Outcome<Arc<dyn OperationLog>> {
        Ok(Arc::clone(&self.room()?.log) as Arc<dyn OperationLog>)
    }

    fn judge(&self, head: &Head) -> Outcome<Vec<String>> {
        let expected = Expected { number: self.number, restored: head.state.to_string() == "restored" };
        let (room, mut wrong) = (self.room()?, Vec::new());
        let (tables, expect) = (psql(&room.db, &expected.query())?, expected.tables());
        if tables != expect {
            wrong.push(format!("the tables hold {tables:#?}, and not {expect:#?}"));
        }
        expected.judge_cache(&mut room.keys.borrow_mut(), &mut wrong)?;
        self.world.runtime.block_on(room.judge_log(head, &mut wrong))?;
        self.clean.set(wrong.is_empty());
        Ok(wrong)
    }
}

impl Room {
    /// Nothing is owed, nobody has anything to do, and tables and cache are what the log says.
    async fn judge_log(&self, head: &Head, wrong: &mut Vec<String>) -> Outcome {
        if self.log.status().await?.owed > 0 {
            wrong.push(format!("owed: {:#?}", self.log.outbox_of(head.id).await?));
        }
        // Earlier cases of this room were compared before.
        let scope = Scope { dry_run: true, since: Some(head.accepted_at), ..Scope::default() };
        let report = self.persistence.reconcile(scope).await?;
        if !report.is_clean() || (report.operations, report.issues) != (1, 1) {
            wrong.push(format!("reconcile: {report:#?}"));
        }
        Ok(())
    }
}

/// What tables and cache must hold in the end.
struct Expected {
    number: u64,
    restored: bool,
}

impl Expected {
    fn issue_state(&self) -> (&'static str, &'static str) {
        if self.restored { ("Closed", "Restored") } else { ("Open", "InProcessing") }
    }

    fn health(&self) -> &'static str {
        if self.restored { "Normal" } else { "Error" }
    }

    /// Everything in the tables about the case.
    fn query(&self) -> String {
        let n = self.number;
        format!(
            "select format('issue %s %s %s %s', id, level, state, alert_state) from alert_issues where id like '%-{n}'
             union all
             select format('comment on %s', issue_id) from alert_issue_comments
             where issue_id like '%-{n}' and content like '## %'
             union all
             select format('service %s %s %s %s, resolved %s', service, version, health_state, alert_issue_ids,
                 resolved_at is not null)
             from service_states where service like '%-{n}' order by 1"
        )
    }

    /// What it answers.
    fn tables(&self) -> Vec<String> {
        let (state, alert_state) = self.issue_state();
        let (n, health, resolved) = (self.number, self.health(), if self.restored { "t" } else { "f" });
        vec![
            format!("comment on crash-{n}"),
            format!("issue crash-{n} P0 {state} {alert_state}"),
            format!("service shop-{n} v1 {health} {{crash-{n}}}, resolved {resolved}"),
        ]
    }

    /// Values of the case, and every set that it is in.
    fn judge_cache(&self, redis: &mut Redis, wrong: &mut Vec<String>) -> Outcome {
        let issue_key = format!("alert:issue:crash-{}", self.number);
        let service_key = format!("service_state:shop-{}:v1", self.number);
        let (issue, service) = (read(redis, &issue_key)?, read(redis, &service_key)?);
        let (state, alert_state) = self.issue_state();
        if issue["state"] != state || issue["alertState"] != alert_state || issue["level"] != "P0" {
            wrong.push(format!("{issue_key} is {issue}"));
        }
        if service["health_state"] != self.health() || service["resolved_at"].is_null() == self.restored {
            wrong.push(format!("{service_key} is {service}"));
        }
        let mut places = Vec::new();
        let sets: Vec<String> = serde_json::from_value(redis.ask(&["KEYS", "*:index:*"])?)?;
        for set in sets {
            for member in [&service_key, &format!("crash-{}", self.number)] {
                if redis.ask(&["SISMEMBER", &set, member])? == 1 {
                    places.push(format!("{member} in {set}"));
                }
            }
        }
        places.sort_unstable();
        let expected = self.places(&service_key);
        if places != expected {
            wrong.push(format!("the index sets have {places:#?}, and not {expected:#?}"));
        }
        Ok(())
    }

    /// The index sets that it must be in, and no other, in order.
    fn places(&self, service_key: &str) -> Vec<String> {
        let n = self.number;
        let (_, alert_state) = self.issue_state();
        let mut places = vec![
            format!("{service_key} in service_state:index:health:{}", self.health()),
            format!("crash-{n} in alert:index:alert_state:{alert_state}"),
        ];
        if !self.restored {
            places.push(format!("crash-{n} in alert:index:open"));
            places.push(format!("crash-{n} in alert:index:svc:shop-{n}:open"));
        }
        places.sort_unstable();
        places
    }
}

fn read(redis: &mut Redis, key: &str) -> Outcome<Value> {
    Ok(serde_json::from_str(redis.ask(&["GET", key])?.as_str().unwrap_or("null"))?)
}
