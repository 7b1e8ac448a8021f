//! A crash at every point: `examples/crash_program` is killed before and after every write to its log and every call of
//! an executor, a probe and a check, and started again. Effects are counted at the server it calls. What must come of
//! it stands in [`crash_sweep`]; `crash_postgres.rs` does the same beside real neighbours.
//!
//! `REDRESS_SEED` chooses the pairs of crashes and where somebody comes between a crash and the next start,
//! `REDRESS_CRASH_PAIRS` and `REDRESS_CRASH_BETWEEN` how many of them.

mod crash_sweep;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use redress_engine::operation_log::{Head, OperationLog};
use redress_operation_log_sqlite::{Options, SqliteLog};
use redress_tests::chance::number_from;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crash_sweep::strategies::{HALT, OK, PROBE, RERUN, Strategy};
use crash_sweep::{Outcome, Place, Sweep, World, hold};

#[test]
#[ignore = "takes 10 s: ./test runs it"]
fn a_restored_operation_survives_a_crash_at_every_point() -> Outcome {
    sweep(&OK)
}

#[test]
#[ignore = "takes 10 s: ./test runs it"]
fn steps_that_may_be_repeated_survive_a_crash_at_every_point() -> Outcome {
    sweep(&RERUN)
}

#[test]
#[ignore = "takes 10 s: ./test runs it"]
fn steps_that_are_probed_survive_a_crash_at_every_point() -> Outcome {
    sweep(&PROBE)
}

#[test]
#[ignore = "takes 10 s: ./test runs it"]
fn steps_that_must_not_be_repeated_survive_a_crash_at_every_point() -> Outcome {
    sweep(&HALT)
}

/// A cancel, the deadline, a pause.
#[test]
#[ignore = "takes 10 s: ./test runs it"]
fn what_comes_between_a_crash_and_the_next_start_is_carried_out() -> Outcome {
    let count = usize::try_from(number_from("REDRESS_CRASH_BETWEEN", 6)?)?;
    let (world, mut fates) = (Embedded::new()?, Vec::new());
    for strategy in [&OK, &RERUN, &PROBE, &HALT] {
        let interrupted = Sweep::new(&world, strategy)?.interrupted(count);
        fates.extend(interrupted.into_iter().map(|fate| (strategy, fate)));
    }
    hold(&world, &fates);
    Ok(())
}

/// Every point by itself, then a sample of two crashes.
fn sweep(strategy: &'static Strategy) -> Outcome {
    let world = Embedded::new()?;
    let mut sweep = Sweep::new(&world, strategy)?;
    let mut fates = sweep.every_point();
    fates.extend(sweep.pairs(number_from("REDRESS_CRASH_PAIRS", 24)?)?);
    let fates: Vec<_> = fates.into_iter().map(|fate| (strategy, fate)).collect();
    hold(&world, &fates);
    Ok(())
}

/// The embedded core: a file each.
struct Embedded(Runtime);

impl Embedded {
    fn new() -> Outcome<Self> {
        Ok(Self(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?))
    }
}

impl World for Embedded {
    fn place(&self, _: usize) -> Outcome<Box<dyn Place + '_>> {
        Ok(Box::new(Folder { folder: tempfile::tempdir()?, ahead: Cell::default() }))
    }

    fn runtime(&self) -> &Runtime {
        &self.0
    }

    fn workers(&self) -> usize {
        2
    }

    fn passes(&self) -> &'static [&'static str] {
        &[]
    }
}

struct Folder {
    folder: TempDir,
    ahead: Cell<Duration>,
}

impl Place for Folder {
    fn number(&self) -> u64 {
        1
    }

    fn db(&self) -> String {
        self.folder.path().join("log.db").to_string_lossy().into_owned()
    }

    fn redis(&self) -> Option<String> {
        None
    }

    /// Whoever opens the file next has it.
    fn lease(&self) -> Option<Duration> {
        None
    }

    fn ahead(&self) -> Duration {
        self.ahead.get()
    }

    fn move_on(&self, by: Duration) {
        self.ahead.set(self.ahead.get() + by);
    }

    fn log(&self) -> Outcome<Arc<dyn OperationLog>> {
        Ok(Arc::new(SqliteLog::open(&self.db(), &Options::default())?))
    }

    /// There is nothing else.
    fn judge(&self, _: &Head) -> Outcome<Vec<String>> {
        Ok(Vec::new())
    }
}
