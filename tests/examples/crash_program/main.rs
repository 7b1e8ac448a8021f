//! A program on the public library that kills itself where it is told: `tests/crash.rs` and `tests/crash_postgres.rs`
//! run it.
//!
//! `crash_program DB ADDRESS STRATEGY N [REDIS]` opens the log DB, a SQLite file or `postgres://…`, remediates alert
//! number N by a strategy of this program (`ok`, `rerun`, `probe` or `halt`; its steps speak to the recording server at
//! ADDRESS), and ends when the operation has ended and nothing is owed, or it waits for a person. With REDIS it has the
//! persistence step: tables in DB, the cache there. Before and after every write to the log, every call of an executor,
//! probe or check, every delivery of the outbox, and every commit and script of the persistence step lies a *point*;
//! each is printed as it is passed. With `CRASH_AT` (a point's name, or its number) the process kills itself there, as
//! `kill -9` does. `CLOCK_AHEAD` moves the clocks of log and engine so many seconds on.
//!
//! The last line is a JSON object: how many points there were, the state, whether it is paused, and whether the session
//! was lost (a machine may be that slow), after which the program did nothing more.

mod points;
mod steps;
mod wire;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use redress_engine::fsm::State;
use redress_engine::operation_log::{Head, Operation, OperationHistory, OperationLog};
use redress_engine::types::{Alert, Clock, Delivery, Level, OperationId, SystemClock, Timestamp};
use redress_engine::{Builder, Config, Engine, Environment, SystemIds};
use redress_operation_log_postgres::{Options as PostgresOptions, PostgresLog};
use redress_operation_log_sqlite::{Options as SqliteOptions, SqliteLog};
use redress_persistence::{CacheSettings, Persistence, Settings, TablesSettings};
use redress_testkit::FaultyLog;
use redress_tests::client::{Halt, Healthy, Probing, Rerun, Server};
use serde_json::json;

use crate::points::{Points, say};

/// Where several engines may share a log, nobody gets a killed one's operations before its lease is over: then the
/// clocks are moved on. A busy machine does not lose one of this length.
const LEASE: Duration = Duration::from_secs(30);
/// How long the whole program may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The machine's clock, moved on.
#[derive(Clone, Copy)]
struct Ahead(Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus(self.0)
    }
}

/// What a program writes to, and the executors that write.
struct World {
    log: Arc<dyn OperationLog>,
    persistence: Option<Persistence>,
}

impl World {
    async fn open(
        db: &str,
        redis: Option<&str>,
        ahead: Option<Ahead>,
        points: &Points,
    ) -> Result<Self, Box<dyn Error>> {
        let log: Arc<dyn OperationLog> = if db.starts_with("postgres://") {
            let clock = ahead.map(|ahead| Arc::new(ahead) as Arc<dyn Clock>);
            // Few connections: many of these programs run at a time, and a connection costs the server a process.
            let options = PostgresOptions { connections: 1, clock, ..PostgresOptions::default() };
            Arc::new(PostgresLog::open(db, &options).await?)
        } else {
            let mut options = SqliteOptions::default();
            if let Some(ahead) = ahead {
                options.clock = Arc::new(ahead);
            }
            Arc::new(SqliteLog::open(db, &options)?)
        };
        let persistence = match redis {
            None => None,
            Some(redis) => {
                let tables = wire::through(db, points, wire::COMMIT).await?;
                let cache = wire::through(redis, points, wire::SCRIPT).await?;
                let cache = Some(CacheSettings::from_url("REDIS", &cache)?);
                let settings = Settings { cache, ..Settings::new(TablesSettings::from_url("DB", &tables)?) };
                let history = Arc::clone(&log) as Arc<dyn OperationHistory>;
                Some(Persistence::open(settings, history, Arc::new(SystemClock)).await?)
            }
        };
        Ok(Self { log, persistence })
    }

    /// An engine over it, with points in all that it writes.
    fn engine(&self, environment: Environment, points: &Points) -> Builder {
        let log = FaultyLog::new(Arc::clone(&self.log));
        log.hook({
            let points = points.clone();
            move |moment| points.pass_write(moment)
        });
        let mut builder = Engine::builder(environment, Arc::new(log));
        if let Some(persistence) = &self.persistence {
            let config = Config { lease: LEASE, poll: Duration::from_millis(100), ..Config::default() };
            builder = builder.config(config).obligations(persistence.obligations());
            for by in persistence.executors() {
                builder = builder.executor(points::Delivery { by, points: points.clone() });
            }
        }
        builder
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (db, address, name, number, redis) = match arguments.as_slice() {
        [db, address, name, number] => (db, address, name, number, None),
        [db, address, name, number, redis] => (db, address, name, number, Some(redis.as_str())),
        _ => return Err("usage: crash_program DB ADDRESS STRATEGY N [REDIS]".into()),
    };
    let ahead = match std::env::var("CLOCK_AHEAD") {
        Ok(seconds) => Some(Ahead(Duration::from_secs(seconds.parse()?))),
        Err(_) => None,
    };
    let points = Points::new(std::env::var("CRASH_AT").ok());
    let server = Server::new(address.parse()?, points.clone());
    let world = World::open(db, redis, ahead, &points).await?;
    let environment =
        Environment { clock: Arc::new(ahead.unwrap_or(Ahead(Duration::ZERO))), ids: Arc::new(SystemIds) };
    let engine = world
        .engine(environment, &points)
        .executor(Rerun(server.clone()))
        .executor(Probing(server.clone()))
        .executor(Halt(server.clone()))
        .check(Healthy(server.clone()))
        .strategy(steps::strategy(name, &server)?)
        .start()
        .await?;
    let work = async {
        tokio::select! {
            worked = work(&engine, &points, number) => worked.map(Some),
            () = engine.lost() => Ok(None),
        }
    };
    let settled = tokio::time::timeout(LIMIT, work).await.map_err(|_| "it hangs")??;
    engine.shutdown().await;
    if let Some(persistence) = &world.persistence {
        persistence.close().await;
    }
    let passed = *points.passed().borrow();
    let last = match settled {
        Some((head, paused)) => json!({"points": passed, "state": head.state, "paused": paused}),
        None => json!({"points": passed, "lost": true}),
    };
    say(&last.to_string());
    Ok(())
}

/// Submits the alert and waits until its operation has settled. Whether it is paused then.
async fn work(engine: &Engine, points: &Points, number: &str) -> Result<(Head, bool), Box<dyn Error>> {
    // Always the same alert: a program that is started again submits it again.
    let since = Timestamp::from_micros(1_700_000_000_000_000);
    let mut alert =
        Alert::new(format!("crash-{number}").parse()?, &format!("shop-{number}"), "it is broken", since);
    alert.version = "v1".to_owned();
    alert.level = Level::P0;
    let receipt = match engine.submit(Delivery::firing(alert)).await {
        Ok(receipt) => receipt,
        // The session is over, and whoever watches it says so.
        Err(_) if !engine.health().acts => std::future::pending().await,
        Err(error) => return Err(error.into()),
    };
    let operation = receipt.operation.ok_or("the alert led to no operation")?;
    let mut passed = points.passed();
    loop {
        // What is looked at changes by writes alone, and each write passes a point.
        passed.borrow_and_update();
        if let Some(settled) = settled(&*engine.history(), operation).await? {
            return Ok(settled);
        }
        passed.changed().await?;
    }
}

/// It has ended, or waits for a person with nothing in its inbox, and owes nothing.
async fn settled(
    history: &dyn OperationHistory,
    operation: OperationId,
) -> Result<Option<(Head, bool)>, Box<dyn Error>> {
    let head = history.operation(operation).await?.ok_or("the operation is gone")?;
    let folded = head.inbox == head.folded_request;
    let waits = head.state == State::Suspended && folded;
    let paused = !head.state.is_ended() && folded && is_paused(history, &head).await?;
    let settled = head.state.is_ended() || waits || paused;
    Ok((settled && history.status().await?.owed == 0).then_some((head, paused)))
}

/// A switch holds it, and is off still: it stays where it is, also with a step in doubt.
async fn is_paused(history: &dyn OperationHistory, head: &Head) -> Result<bool, Box<dyn Error>> {
    let Some(plan) = head.plan else { return Ok(false) };
    let plan = history.plan(plan).await?;
    let entries = history.entries(head.id, 0, 1000).await?;
    let operation = Operation::replay(&entries, plan)?;
    Ok(operation.paused.is_some() && !history.switches().await?.is_empty())
}
