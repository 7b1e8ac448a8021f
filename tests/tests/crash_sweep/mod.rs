//! A sweep of crashes, whatever the log: `crash.rs` runs it on SQLite, `crash_postgres.rs` on Postgres with the
//! persistence step.
//!
//! Each strategy has a baseline: its end, and for each idempotency key how many POSTs it takes and how often it is
//! done. A crash may change exactly one thing: what was answered, and whose result was not recorded yet, is called
//! again by a Rerun step (the target dedupes), and by a Probe step only when the target says that it did not happen.
//! A Halt step is never called again: a person decides, here by what the server saw.
//!
//! Time goes by between a crash and the next start, as far as a lease that has to end: the clocks of log and engine are
//! moved on, so nobody waits for it, and it may be long enough for a busy machine.
//!
//! [`case`] runs the program with its crashes, [`judge`] says what must be true then, [`between`] is what people do
//! and what time does between a crash and the next start.

pub mod between;
pub mod case;
pub mod judge;
pub mod strategies;

use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redress_engine::operation_log::{Filter, Head, OperationHistory, OperationLog};
use redress_tests::chance::{Chance, number_from};
use redress_tests::processes::Program;
use tokio::runtime::Runtime;

use between::Between;
use case::Case;
use strategies::{HALT, Strategy};

pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The name of no point.
const NO_CRASH: &str = "never";

/// Where the programs of a sweep keep what they write.
pub trait World: Sync {
    /// A place for one case. `worker`: who runs it, from 0; one case of a worker follows the other.
    fn place(&self, worker: usize) -> Outcome<Box<dyn Place + '_>>;

    /// What the places' connections live on.
    fn runtime(&self) -> &Runtime;

    /// How many cases run at the same time.
    fn workers(&self) -> usize;

    /// Points that every uninterrupted run must have passed here, whatever the strategy.
    fn passes(&self) -> &'static [&'static str];
}

/// A log, and what else there is. It may hold other operations, ended ones, of other alerts and services.
pub trait Place {
    /// The number of the alert: its id is `crash-{number}`, its service `shop-{number}`.
    fn number(&self) -> u64;

    /// The program's argument DB.
    fn db(&self) -> String;

    /// The program's argument REDIS, if it has one.
    fn redis(&self) -> Option<String>;

    /// How long the program's lease may outlive it: until then nobody gets what it held. `None`: the next program has
    /// everything at once.
    fn lease(&self) -> Option<Duration>;

    /// How far the program's clocks are ahead of the machine's. What was written by them stays, so they never go back.
    fn ahead(&self) -> Duration;

    /// Lets time go by, for the programs that start from then on.
    fn move_on(&self, by: Duration);

    /// The log, beside the program.
    fn log(&self) -> Outcome<Arc<dyn OperationLog>>;

    /// What else was written must fit the ended operation. Answers what does not.
    fn judge(&self, head: &Head) -> Outcome<Vec<String>>;
}

/// Crashes, one a start, and what comes after the first of them.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    pub crashes: Vec<String>,
    pub between: Option<Between>,
}

impl Fate {
    /// A single crash.
    pub fn crash(at: &str) -> Self {
        Self { crashes: vec![at.to_owned()], between: None }
    }
}

/// A strategy, and the points that an undisturbed run passes on a world.
pub struct Sweep {
    pub strategy: &'static Strategy,
    pub points: Vec<String>,
    chance: Chance,
}

impl Sweep {
    /// Runs it undisturbed once.
    pub fn new(world: &dyn World, strategy: &'static Strategy) -> Outcome<Self> {
        let points = Case::new(world, strategy, 0)?.run(&Fate::default())?;
        let chance = Chance(number_from("REDRESS_SEED", 7)? ^ strategy.name.len() as u64);
        Ok(Self { strategy, points, chance })
    }

    /// A crash at every point.
    pub fn every_point(&self) -> Vec<Fate> {
        self.points.iter().map(|at| Fate::crash(at)).collect()
    }

    /// A crash at some of the points between these: in each of `count` stretches of equal length, one.
    pub fn sample(&mut self, between: Range<usize>, count: usize) -> Vec<Fate> {
        let stretch = |n: usize| between.start + n * between.len() / count.max(1);
        let mut fates = Vec::new();
        for n in 0..count {
            let at = stretch(n) + self.chance.below(stretch(n + 1) - stretch(n));
            fates.extend(self.points.get(at).map(|at| Fate::crash(at)));
        }
        fates
    }

    /// Pairs of crashes.
    pub fn pairs(&mut self, count: u64) -> Outcome<Vec<Fate>> {
        let mut fates = Vec::new();
        for _ in 0..count {
            let first = self.points.get(self.chance.below(self.points.len())).ok_or("no point")?;
            // The second run has fewer points when the first one came far, so the second crash comes early.
            let second = (1 + self.chance.below(self.points.len() / 2)).to_string();
            let pair = |crashes: &[&String]| Fate {
                crashes: crashes.iter().map(|at| (*at).clone()).collect(),
                between: None,
            };
            fates.push(pair(&[first, &second]));
            if self.strategy.name == HALT.name {
                // The second crash while a person's verdict is carried out.
                fates.push(pair(&[first, &NO_CRASH.to_owned(), &second]));
            }
        }
        Ok(fates)
    }

    /// Crashes after which somebody or something comes between, each kind `count` times: while there is an operation
    /// and it has not ended.
    pub fn interrupted(&mut self, count: usize) -> Vec<Fate> {
        let appended = |point: &String| point.starts_with("after append ");
        let first = self.points.iter().position(appended).map_or(0, |at| at + 1);
        let last = self.points.iter().rposition(appended).unwrap_or(first);
        let mut fates = Vec::new();
        for between in Between::ALL {
            let crashes = self.sample(first..last, count);
            fates.extend(crashes.into_iter().map(|crash| Fate { between: Some(between), ..crash }));
        }
        fates
    }
}

/// Runs each fate on its strategy; says what goes wrong as it does, for a sweep is long, and panics at the end.
pub fn hold(world: &dyn World, fates: &[(&'static Strategy, Fate)]) {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = |worker: usize| {
        while let Some((strategy, fate)) = fates.get(next.fetch_add(1, Ordering::Relaxed)) {
            let ran = Case::new(world, strategy, worker).and_then(|mut case| case.run(fate));
            if let Err(error) = ran {
                failed.fetch_add(1, Ordering::Relaxed);
                eprintln!("strategy {}, {fate:?}: {error}", strategy.name);
            }
        }
    };
    std::thread::scope(|scope| {
        for worker in 0..world.workers() {
            let work = &work;
            scope.spawn(move || work(worker));
        }
    });
    let failed = failed.into_inner();
    assert_eq!(failed, 0, "of {} cases; what went wrong stands above", fates.len());
}

/// The program that crashes.
fn program() -> Outcome<PathBuf> {
    Program::Example("crash_program").path()
}

fn command(program: &PathBuf, place: &dyn Place, recorder: &str, strategy: &Strategy) -> Command {
    let mut command = Command::new(program);
    command.arg(place.db()).arg(recorder).arg(strategy.name);
    command.arg(place.number().to_string()).args(place.redis());
    command.env_remove("CRASH_AT").env_remove("CLOCK_AHEAD");
    if !place.ahead().is_zero() {
        command.env("CLOCK_AHEAD", place.ahead().as_secs().to_string());
    }
    command
}

/// The operation of a case; `None`: nothing was accepted yet.
async fn only_operation(log: &dyn OperationHistory, number: u64) -> Outcome<Option<Head>> {
    let filter = Filter { service: Some(format!("shop-{number}")), ..Filter::default() };
    let mut page = log.operations(&filter, None, 10).await?;
    match (page.operations.pop(), page.operations.len()) {
        (one, 0) => Ok(one),
        (_, more) => Err(format!("{} operations", more + 1).into()),
    }
}
