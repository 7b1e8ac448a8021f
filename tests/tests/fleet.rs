//! Three engines, one Postgres, and everything that can go wrong at once.
//!
//! 500 alerts on 100 targets are submitted, some to two engines at the same moment, while engines are killed, stopped
//! for longer than their lease and woken again, and Postgres crashes and recovers, at times that a seed chooses. What
//! the targets saw is then held against the log: every alert on one operation, every operation ended once, every key
//! with one effect, no two operations at work on one target, and a log that proves itself. How long a takeover took
//! is printed.
//!
//! `REDRESS_SEED` chooses the times, `REDRESS_FLEET_SECONDS` how long it goes on, `REDRESS_FLEET_ENGINES` how many.

#![allow(clippy::disallowed_methods, reason = "real processes know nothing of a paused clock")]
#![allow(clippy::print_stdout, reason = "it prints how long takeovers took")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use redress_engine::operation_log::verify::{Options as Verify, verify};
use redress_engine::operation_log::{Filter, Head, Operation, OperationHistory};
use redress_engine::types::{AlertId, Clock as _, SystemClock, Timestamp};
use redress_operation_log_postgres::{Options, PostgresLog};
use redress_persistence::{CacheSettings, Persistence, Report, Scope, Settings, TablesSettings};
use redress_testkit::servers::{Postgres, Process, free_address, redis};
use redress_tests::chance::{Chance, number_from};
use redress_tests::processes::Program;
use redress_tests::recorder::Recorder;
use redress_tests::recorder_fleet::Fleet;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const ALERTS: u64 = 500;
/// How long everything may take after the last fault.
const LIMIT: Duration = Duration::from_secs(120);
/// Longer than the program's lease of 3 s.
const STOPPED: Duration = Duration::from_millis(4_500);

/// An engine's process, and what is known of it.
struct Engine {
    name: String,
    child: Child,
    input: ChildStdin,
    /// Lines of earlier processes of this place are not its own.
    generation: u64,
    stopped: bool,
}

/// Lines of all engines: whose, of which process, and what.
type Line = (usize, u64, Option<String>);

/// What is to be done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill(usize),
    Restart(usize),
    Stop(usize),
    Wake(usize),
    CrashPostgres,
    StartPostgres,
}

struct World {
    postgres: Postgres,
    redis: Process,
    recorder: Recorder,
    fleet: Fleet,
    engines: Vec<Option<Engine>>,
    tell: Sender<Line>,
    lines: Receiver<Line>,
    generation: u64,
    acknowledged: BTreeSet<u64>,
    /// Which engine has an alert that it has not acknowledged.
    asked: BTreeMap<u64, BTreeSet<usize>>,
    chance: Chance,
    /// When engines were killed or stopped, by name.
    faults: Vec<(String, Timestamp)>,
}

#[test]
#[ignore = "needs Postgres and Redis: ./test runs it"]
fn nothing_is_lost_and_nothing_is_done_twice_whatever_happens_to_engines_and_database() -> Outcome {
    let seed = number_from("REDRESS_SEED", 11)?;
    let seconds = number_from("REDRESS_FLEET_SECONDS", 35)?;
    let engines = usize::try_from(number_from("REDRESS_FLEET_ENGINES", 3)?)?;
    println!("seed {seed}, {seconds} s, {engines} engines");
    let mut world = World::new(seed, engines)?;
    world.storm(Duration::from_secs(seconds))?;
    world.settle()?;
    world.judge()
}

impl World {
    fn new(seed: u64, engines: usize) -> Outcome<Self> {
        let fleet = Fleet::default();
        let (tell, lines) = channel();
        let mut world = Self {
            postgres: Postgres::start()?,
            redis: redis(free_address()?, &[])?,
            recorder: Recorder::start(fleet.clone())?,
            fleet,
            engines: Vec::new(),
            tell,
            lines,
            generation: 0,
            acknowledged: BTreeSet::new(),
            asked: BTreeMap::new(),
            chance: Chance(seed),
            faults: Vec::new(),
        };
        for place in 0..engines {
            world.engines.push(None);
            world.start(place)?;
        }
        Ok(world)
    }

    fn start(&mut self, place: usize) -> Outcome {
        self.generation += 1;
        let name = format!("engine-{place}.{}", self.generation);
        let mut child = Command::new(Program::Example("fleet_program").path()?)
            .args([&self.postgres.url(), &self.redis_url(), &self.recorder.address().to_string(), &name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = child.stdout.take().ok_or("no output")?;
        let (tell, generation) = (self.tell.clone(), self.generation);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // A test that is over reads no more.
                let _ = tell.send((place, generation, Some(line)));
            }
            let _ = tell.send((place, generation, None));
        });
        self.engines[place] = Some(Engine { name, child, input, generation, stopped: false });
        Ok(())
    }

    fn redis_url(&self) -> String {
        format!("redis://{}", self.redis.address())
    }

    /// Alerts at an even pace, and faults at times that the seed chose.
    fn storm(&mut self, length: Duration) -> Outcome {
        let began = Instant::now();
        let mut faults = self.schedule(length);
        let pace = length.mul_f64(0.8) / u32::try_from(ALERTS)?;
        let mut next_alert = 0;
        while began.elapsed() < length || next_alert < ALERTS {
            let due = |at: Duration| began.elapsed() >= at;
            while next_alert < ALERTS && due(pace * u32::try_from(next_alert)?) {
                self.submit(next_alert);
                next_alert += 1;
            }
            while faults.first().is_some_and(|(at, _)| due(*at)) {
                let (_, fault) = faults.remove(0);
                self.commit(fault)?;
            }
            self.read(pace)?;
        }
        for (_, fault) in faults {
            self.commit(fault)?;
        }
        Ok(())
    }

    /// Faults and what ends each of them, in order of time.
    fn schedule(&mut self, length: Duration) -> Vec<(Duration, Fault)> {
        let mut faults = Vec::new();
        // When each engine, and at the end Postgres, is well again: a fault hits only who is.
        let mut well = vec![Duration::from_secs(2); self.engines.len() + 1];
        let mut at = Duration::from_secs(2);
        while at < length {
            let hit = self.chance.below(well.len());
            if well[hit] <= at {
                let (kind, rest) =
                    (self.chance.below(2), Duration::from_millis(300 + self.chance.below(1500) as u64));
                let (fault, end, rest) = match (hit == self.engines.len(), kind) {
                    (true, _) => (Fault::CrashPostgres, Fault::StartPostgres, rest / 4),
                    (false, 0) => (Fault::Kill(hit), Fault::Restart(hit), rest),
                    (false, _) => (Fault::Stop(hit), Fault::Wake(hit), STOPPED),
                };
                faults.extend([(at, fault), (at + rest, end)]);
                // Postgres is left alone for a while: otherwise nothing else gets done.
                well[hit] = at + rest + Duration::from_secs(if hit == self.engines.len() { 8 } else { 1 });
            }
            at += Duration::from_millis(300 + self.chance.below(1200) as u64);
        }
        faults.sort_by_key(|(at, _)| *at);
        faults
    }

    fn commit(&mut self, fault: Fault) -> Outcome {
        match fault {
            Fault::Kill(place) => {
                if let Some(mut engine) = self.engines[place].take() {
                    self.faults.push((engine.name.clone(), SystemClock.now()));
                    engine.child.kill()?;
                    engine.child.wait()?;
                }
                self.submit_again(place);
            }
            Fault::Restart(place) => self.start(place)?,
            Fault::Stop(place) => self.signal(place, "STOP")?,
            Fault::Wake(place) => self.signal(place, "CONT")?,
            Fault::CrashPostgres => self.postgres.crash()?,
            Fault::StartPostgres => self.postgres.up()?,
        }
        Ok(())
    }

    fn signal(&mut self, place: usize, name: &str) -> Outcome {
        let Some(engine) = &mut self.engines[place] else { return Ok(()) };
        engine.stopped = name == "STOP";
        let sent =
            Command::new("kill").args([&format!("-{name}"), &engine.child.id().to_string()]).status()?;
        if !sent.success() {
            return Err(format!("{} could not be sent {name}", engine.name).into());
        }
        if engine.stopped {
            self.faults.push((engine.name.clone(), SystemClock.now()));
            self.submit_again(place);
        }
        Ok(())
    }

    /// To one engine, or to two at the same moment.
    fn submit(&mut self, alert: u64) {
        let both = self.chance.below(4) == 0;
        for _ in 0..=u8::from(both) {
            let place = self.chance.below(self.engines.len());
            self.submit_to(place, alert);
        }
    }

    fn submit_to(&mut self, place: usize, alert: u64) {
        // One that is gone or asleep: whoever sends alerts does not know. It is sent again once that shows.
        self.asked.entry(alert).or_default().insert(place);
        if let Some(engine) = &mut self.engines[place] {
            let _ = writeln!(engine.input, "alert {alert}").and_then(|()| engine.input.flush());
        }
    }

    /// What an engine that went away had not acknowledged goes to another one.
    fn submit_again(&mut self, gone: usize) {
        let open: Vec<u64> =
            self.asked.iter().filter(|(_, asked)| asked.contains(&gone)).map(|(alert, _)| *alert).collect();
        for alert in open {
            if let Some(asked) = self.asked.get_mut(&alert) {
                asked.remove(&gone);
            }
            let other = (gone + 1 + self.chance.below(self.engines.len() - 1)) % self.engines.len();
            self.submit_to(other, alert);
        }
    }

    /// Reads what the engines say for so long.
    fn read(&mut self, limit: Duration) -> Outcome {
        let until = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((place, generation, line)) => self.heard(place, generation, line)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err("no engine is left".into()),
            }
        }
    }

    fn heard(&mut self, place: usize, generation: u64, line: Option<String>) -> Outcome {
        if let Some(alert) = line.as_deref().and_then(|line| line.strip_prefix("ack ")) {
            let alert = alert.parse()?;
            self.acknowledged.insert(alert);
            self.asked.remove(&alert);
        }
        let own = self.engines[place].as_ref().is_some_and(|engine| engine.generation == generation);
        if line.is_none() && own {
            return Err(format!("engine {place} ended by itself").into());
        }
        Ok(())
    }

    /// Everybody is well again: waits until all is acknowledged and ended.
    fn settle(&mut self) -> Outcome {
        for place in 0..self.engines.len() {
            if self.engines[place].is_none() {
                self.start(place)?;
            }
            self.submit_again(place);
        }
        for alert in 0..ALERTS {
            if !self.acknowledged.contains(&alert) && !self.asked.contains_key(&alert) {
                self.submit(alert);
            }
        }
        let until = Instant::now() + LIMIT;
        let runtime = runtime()?;
        let log = runtime.block_on(PostgresLog::open(&self.postgres.url(), &Options::default()))?;
        loop {
            self.read(Duration::from_millis(200))?;
            let open: Vec<Head> =
                runtime.block_on(heads(&log))?.into_iter().filter(|head| !head.state.is_ended()).collect();
            let owed = runtime.block_on(log.status())?.owed;
            if self.acknowledged.len() as u64 == ALERTS && open.is_empty() && owed == 0 {
                break;
            }
            if Instant::now() > until {
                let missing: Vec<u64> =
                    (0..ALERTS).filter(|alert| !self.acknowledged.contains(alert)).collect();
                let open: Vec<String> = open
                    .iter()
                    .map(|head| format!("{} {} {:?}", head.name, head.state, head.reason))
                    .collect();
                return Err(format!(
                    "not settled: not acknowledged {missing:?}, not ended {open:#?}, owed {owed}"
                )
                .into());
            }
        }
        for engine in self.engines.iter_mut().filter_map(Option::take) {
            stop(engine)?;
        }
        Ok(())
    }

    fn judge(&self) -> Outcome {
        let runtime = runtime()?;
        let mut wrong = self.fleet.seen().interleaved();
        runtime.block_on(async {
            let log = Arc::new(PostgresLog::open(&self.postgres.url(), &Options::default()).await?);
            let heads = heads(&log).await?;
            println!("{} alerts, {} operations", ALERTS, heads.len());
            for alert in 0..ALERTS {
                let id: AlertId = format!("fleet-{alert}").parse()?;
                let record = log.alert(&id).await?;
                let counted = match record {
                    Some(record) => log.alerts_of(record.operation).await?.iter().any(|one| one.id == id),
                    None => false,
                };
                if !counted {
                    wrong.push(format!("alert {alert} is on no operation"));
                }
            }
            let unhappy = heads.iter().filter(|head| head.state.to_string() != "restored");
            wrong.extend(
                unhappy.map(|head| format!("{} ended as {}: {:?}", head.name, head.state, head.reason)),
            );
            self.judge_effects(&heads, &mut wrong);
            let stuck = log.stuck().await?;
            if !stuck.is_empty() {
                wrong.push(format!("stuck: {stuck:?}"));
            }
            let drift = self.reconcile(Arc::clone(&log)).await?;
            if !drift.is_clean() {
                wrong.push(format!("reconcile: {drift:#?}"));
            }
            let report = verify(&*log, &Verify::default()).await?;
            if !report.is_clean() {
                wrong.push(format!("verify: {report:#?}"));
            }
            self.print_takeovers(&log, &heads).await
        })?;
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
    }

    /// What tables and cache hold that the log does not say.
    async fn reconcile(&self, log: Arc<PostgresLog>) -> Outcome<Report> {
        let tables = TablesSettings::from_url("DB", &self.postgres.url())?;
        let cache = Some(CacheSettings::from_url("REDIS", &self.redis_url())?);
        let settings = Settings { cache, ..Settings::new(tables) };
        let persistence = Persistence::open(settings, log, Arc::new(SystemClock)).await?;
        Ok(persistence.reconcile(Scope { dry_run: true, ..Scope::default() }).await?)
    }

    /// Each key was done once, and nothing else was done.
    fn judge_effects(&self, heads: &[Head], wrong: &mut Vec<String>) {
        let ledger = self.recorder.ledger();
        let expected: BTreeSet<String> = heads
            .iter()
            .flat_map(|head| (0..3).map(|step| format!("{}:rollback:1:{step}", head.id)))
            .collect();
        let seen: BTreeSet<String> = ledger.effects().keys().cloned().collect();
        wrong.extend(
            expected.symmetric_difference(&seen).map(|key| format!("{key} was called, or not, as it should")),
        );
        let twice = ledger.effects().iter().filter(|(_, effect)| effect.applied != 1);
        wrong.extend(twice.map(|(key, effect)| format!("{key} was done {} times", effect.applied)));
    }

    /// From a kill or a stop until another engine wrote the next entry of an operation that was held. What only
    /// waited was held by nobody, and is taken over by nobody.
    async fn print_takeovers(&self, log: &PostgresLog, heads: &[Head]) -> Outcome {
        let mut took = Vec::new();
        for head in heads {
            let plan = log.plan(head.plan.ok_or("no plan")?).await?;
            let entries = log.entries(head.id, 0, 1000).await?;
            for (index, stored) in entries.iter().enumerate().skip(1) {
                let (before, entry) = (entries[index - 1].read()?, stored.read()?);
                let held = Operation::replay(&entries[..index], plan.clone())?.state.is_acting();
                if !held || before.session == entry.session {
                    continue;
                }
                let fault =
                    self.faults.iter().rev().find(|(name, at)| {
                        before.actor.0 == format!("engine:{name}") && *at < entry.recorded_at
                    });
                took.extend(fault.map(|(_, at)| entry.recorded_at.since(*at)));
            }
        }
        took.sort_unstable();
        let at = |part: usize| took.get((took.len() * part / 100).min(took.len().saturating_sub(1))).copied();
        println!(
            "{} faults, {} takeovers, p50 {:?}, p99 {:?} (lease 3 s); stale requests refused by targets: {}",
            self.faults.len(),
            took.len(),
            at(50).unwrap_or_default(),
            at(99).unwrap_or_default(),
            self.fleet.seen().stale
        );
        if took.is_empty() { Err("no takeover was seen: the test tested nothing".into()) } else { Ok(()) }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for engine in self.engines.iter_mut().flatten() {
            // It may have ended; one that is stopped can be killed all the same.
            let _ = engine.child.kill();
            let _ = engine.child.wait();
        }
    }
}

/// The end of its input stops an engine; it then gives up what it holds.
fn stop(engine: Engine) -> Outcome {
    let Engine { mut child, input, name, .. } = engine;
    drop(input);
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}").into()) }
}

async fn heads(log: &PostgresLog) -> Outcome<Vec<Head>> {
    let (mut heads, mut after) = (Vec::new(), None);
    loop {
        let page = log.operations(&Filter::default(), after, 1000).await?;
        heads.extend(page.operations);
        after = page.next;
        if after.is_none() {
            return Ok(heads);
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
