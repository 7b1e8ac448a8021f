//! A crash at every point: `examples/crash_program.rs` is killed before and after every write to its log and every
//! call of an executor, a probe and a check, and started again. Effects are counted at the server it calls.
//!
//! Each strategy has a baseline: its end, and for each idempotency key how many POSTs it takes and how often it is
//! done. A crash may change exactly one thing: what was answered, and whose result was not recorded yet, is called
//! again by a Rerun step (the target dedupes), and by a Probe step only when the target says that it did not happen.
//! A Halt step is never called again: a person decides, here by what the server saw.
//!
//! `REDRESS_SEED` chooses the pairs of crashes, `REDRESS_CRASH_PAIRS` how many of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redress_engine::operation_log::verify::{Options as Verify, verify};
use redress_engine::operation_log::{
    Actor, Decision, Filter, Head, Operation, OperationHistory as _, OperationLog as _, Post, Request,
};
use redress_engine::types::{Clock as _, SystemClock};
use redress_operation_log_sqlite::{Options, SqliteLog};
use redress_tests::processes::{Ended, Program, Running};
use redress_tests::recorder::Recorder;
use redress_tests::recorder_steps::{Answer, Steps};
use serde_json::Value;
use tempfile::TempDir;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long a program may take until its next line.
const LIMIT: Duration = Duration::from_secs(60);
/// The name of no point.
const NO_CRASH: &str = "never";
/// How often a program is started again at most. Each verdict takes one start.
const STARTS_MAX: usize = 8;

/// A strategy of the program, what its target answers, and what must come of it.
struct Strategy {
    name: &'static str,
    script: &'static [(&'static str, &'static [Answer])],
    state: &'static str,
    /// For each key, without the operation's id: POSTs, and how often it is done.
    effects: &'static [(&'static str, u64, u64)],
    /// Points that an uninterrupted run must have passed.
    passes: &'static [&'static str],
}

const COMPENSATED: &[(&str, u64, u64)] = &[
    ("rollback:1:0", 1, 1),
    ("rollback:1:1", 2, 1),
    ("rollback:1:2", 1, 0),
    ("compensation:1:0", 1, 1),
    ("compensation:1:1", 1, 1),
];
const DONE: &[(&str, u64, u64)] = &[("rollback:1:0", 1, 1), ("rollback:1:1", 1, 1), ("rollback:1:2", 1, 1)];

const OK: Strategy = Strategy {
    name: "ok",
    script: &[("second", &[Answer::Busy, Answer::Done])],
    state: "restored",
    effects: &[("rollback:1:0", 1, 1), ("rollback:1:1", 2, 1), ("rollback:1:2", 1, 1)],
    passes: &["before check", "after check", "after append 6"],
};

const RERUN: Strategy = Strategy {
    name: "rerun",
    script: &[("second", &[Answer::Busy, Answer::Done]), ("third", &[Answer::Refused])],
    state: "failed",
    effects: COMPENSATED,
    passes: &["after append 7"],
};

const PROBE: Strategy = Strategy {
    name: "probe",
    script: &[
        ("first", &[Answer::DoneAndLost]),
        ("second", &[Answer::Busy, Answer::Done]),
        ("third", &[Answer::Refused]),
    ],
    state: "failed",
    effects: COMPENSATED,
    passes: &["before probe", "after probe", "after append 8"],
};

const HALT: Strategy =
    Strategy { name: "halt", script: &[], state: "restored", effects: DONE, passes: &["after append 5"] };

#[test]
fn a_restored_operation_survives_a_crash_at_every_point() -> Outcome {
    sweep(&OK)
}

#[test]
fn steps_that_may_be_repeated_survive_a_crash_at_every_point() -> Outcome {
    sweep(&RERUN)
}

#[test]
fn steps_that_are_probed_survive_a_crash_at_every_point() -> Outcome {
    sweep(&PROBE)
}

#[test]
fn steps_that_must_not_be_repeated_survive_a_crash_at_every_point() -> Outcome {
    sweep(&HALT)
}

/// Every point by itself, then a sample of two crashes.
fn sweep(strategy: &'static Strategy) -> Outcome {
    let points = Case::new(strategy)?.run(&[])?;
    let mut crashes: Vec<Vec<String>> = points.iter().map(|at| vec![at.clone()]).collect();
    let seed = number_from("REDRESS_SEED", 7)?;
    let mut chance = Chance(seed ^ strategy.name.len() as u64);
    for _ in 0..number_from("REDRESS_CRASH_PAIRS", 24)? {
        let first = points.get(chance.below(points.len())).ok_or("no point")?;
        // The second run has fewer points when the first one came far, so the second crash comes early.
        let second = (1 + chance.below(points.len() / 2)).to_string();
        crashes.push(vec![first.clone(), second.clone()]);
        if strategy.name == HALT.name {
            // The second crash while a person's verdict is carried out.
            crashes.push(vec![first.clone(), NO_CRASH.to_owned(), second]);
        }
    }
    let failures =
        in_parallel(&crashes, |crashes| Case::new(strategy).and_then(|mut case| case.run(crashes)).map(drop));
    assert!(failures.is_empty(), "strategy {}, seed {seed}:\n{}", strategy.name, failures.join("\n"));
    Ok(())
}

/// One fresh log, one fresh target.
struct Case {
    strategy: &'static Strategy,
    program: PathBuf,
    folder: TempDir,
    recorder: Recorder,
    runtime: tokio::runtime::Runtime,
    /// By key: answers that a crash surely kept from the log, and those that it may have.
    lost: BTreeMap<String, (u64, u64)>,
    verdicts: u64,
}

impl Case {
    fn new(strategy: &'static Strategy) -> Outcome<Self> {
        Ok(Self {
            strategy,
            program: Program::Example("crash_program").path()?,
            folder: tempfile::tempdir()?,
            recorder: Recorder::start(Steps::new(strategy.script))?,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            lost: BTreeMap::new(),
            verdicts: 0,
        })
    }

    /// Runs with these crashes, one a start, then without until it has ended; judges. Answers the points that
    /// the first start without a crash passed.
    fn run(&mut self, crashes: &[String]) -> Outcome<Vec<String>> {
        let mut crashed = Vec::new();
        for (index, at) in crashes.iter().enumerate() {
            let ended = self.start(Some(at))?;
            if ended.was_killed() {
                let points = points(&ended);
                self.note_lost(&points);
                crashed.push(points);
                continue;
            }
            // A run that goes on where another crashed may have fewer points, and a claim comes when it is time.
            let may_pass = index > 0 || at.contains(" claim ");
            if !may_pass || !ended.status.success() {
                return Err(format!("it was not killed: {ended:#?}").into());
            }
            self.decide_if_suspended(&ended)?;
        }
        let mut first = None;
        for _ in 0..STARTS_MAX {
            let ended = self.start(None)?;
            if !ended.status.success() {
                return Err(format!("it did not end well: {ended:#?}").into());
            }
            let points = points(&ended);
            if first.is_none() && crashes.is_empty() {
                self.judge_points(&ended, &points)?;
            }
            let points = first.get_or_insert(points);
            if !self.decide_if_suspended(&ended)? {
                self.judge(&crashed)?;
                return Ok(points.clone());
            }
        }
        Err(format!("not ended after {STARTS_MAX} starts").into())
    }

    fn start(&self, crash_at: Option<&str>) -> Outcome<Ended> {
        let mut command = Command::new(&self.program);
        command.arg(self.folder.path().join("log.db"));
        command.arg(self.recorder.address().to_string()).arg(self.strategy.name);
        command.env_remove("CRASH_AT");
        if let Some(at) = crash_at {
            command.env("CRASH_AT", at);
        }
        let ended = Running::start(&mut command)?.wait(LIMIT)?;
        // What was sent just before a crash arrives all the same; it is over before the next start.
        self.recorder.settle()?;
        Ok(ended)
    }

    /// An answer after which nothing was appended is not on record. A try that did not happen is simply followed
    /// by the next one; what the reply was lost of is probed. The others are called again where that is allowed.
    fn note_lost(&mut self, points: &[String]) {
        let appended = points.iter().rposition(|point| point.starts_with("after append "));
        let since = points.get(appended.map_or(0, |index| index + 1)..).unwrap_or_default();
        let answer = since.iter().find_map(|point| point.strip_prefix("after call "));
        let call = since.iter().find_map(|point| point.strip_prefix("before call "));
        let (surely, words) = match (answer, call) {
            (Some(answer), _) => (!under_way(points, "append"), answer),
            // Some other point came while it was called: perhaps before the target had answered.
            (None, Some(call)) if under_way(points, "call") => (false, call),
            (None, _) => return,
        };
        let words: Vec<&str> = words.split(' ').collect();
        let again = match (self.strategy.name, words.as_slice()) {
            (_, [_, _, "not_done" | "lost"]) | ("halt", _) | ("probe", [_, _, "done"]) => 0,
            (_, _) => 1,
        };
        let key = words.first().copied().unwrap_or_default();
        let lost = self.lost.entry(key.to_owned()).or_default();
        *lost = (lost.0 + again * u64::from(surely), lost.1 + again);
    }

    /// Whether a crash leaves a step in doubt that must not be repeated: from the entry that begins it to the one that
    /// has its result. `None`: nobody can say.
    fn leaves_doubt(&self, crashed: &[Vec<String>]) -> Option<bool> {
        let appended = match crashed {
            [] => 0,
            [points] if under_way(points, "append") => return None,
            [points] => points.iter().filter(|point| point.starts_with("after append ")).count(),
            _ => return None,
        };
        Some(self.strategy.name == "halt" && (1..=3).contains(&appended))
    }

    /// Tells a suspended operation the truth, as the target knows it. False: it was not suspended.
    fn decide_if_suspended(&mut self, ended: &Ended) -> Outcome<bool> {
        if last(ended)?["state"] != "suspended" {
            return Ok(false);
        }
        self.verdicts += 1;
        let key = format!("verdict-{}", self.verdicts);
        let ledger = self.recorder.ledger();
        self.runtime.block_on(async {
            let log = self.log()?;
            let head = only_operation(&log).await?;
            let plan = log.plan(head.plan.ok_or("no plan")?).await?;
            let entries = log.entries(head.id, 0, 1000).await?;
            let operation = Operation::replay(&entries, plan)?;
            let intent = operation.open.ok_or("suspended without a step in doubt")?;
            let happened = ledger.effect(&intent.key.to_string()).applied > 0;
            let decision = if happened { Decision::Happened } else { Decision::DidNotHappen };
            let request = Request::Verdict { decision, reason: "the target says so".into() };
            let (operation, actor, at) = (head.id, Actor::local(0), SystemClock.now());
            log.post(Post { operation, key, request, actor, at }).await?;
            Ok(true)
        })
    }

    fn log(&self) -> Outcome<SqliteLog> {
        let path = self.folder.path().join("log.db");
        Ok(SqliteLog::open(&path.to_string_lossy(), &Options::default())?)
    }

    /// Every write and call has a point before and one after it, and none is missing.
    fn judge_points(&self, ended: &Ended, points: &[String]) -> Outcome {
        let count = |start: &str| points.iter().filter(|point| point.starts_with(start)).count();
        let missing: Vec<_> = self.strategy.passes.iter().filter(|pass| count(pass) == 0).collect();
        let counted = last(ended)?["points"].as_u64() == Some(points.len() as u64);
        if !counted || count("before ") != count("after ") || !missing.is_empty() {
            return Err(format!("points are missing {missing:?}: {points:#?}").into());
        }
        Ok(())
    }

    fn judge(&self, crashed: &[Vec<String>]) -> Outcome {
        let ledger = self.recorder.ledger();
        let head = self.runtime.block_on(judge_log(&self.log()?))?;
        let mut wrong = ledger.complaints().to_vec();
        if head.state.to_string() != self.strategy.state {
            wrong.push(format!("it ended as {}: {:?}", head.state, head.reason));
        }
        if self.leaves_doubt(crashed).is_some_and(|doubt| doubt != (self.verdicts > 0)) {
            wrong.push(format!("a person was asked {} times", self.verdicts));
        }
        let keys = self.strategy.effects.iter().map(|(key, _, _)| format!("{}:{key}", head.id));
        if !ledger.effects().keys().eq(keys.collect::<BTreeSet<_>>().iter()) {
            wrong.push(format!("other effects than expected: {:#?}", ledger.effects()));
        }
        for (key, posts, applied) in self.strategy.effects {
            let seen = ledger.effect(&format!("{}:{key}", head.id));
            let (surely, perhaps) = self.lost.get(*key).copied().unwrap_or_default();
            if seen.applied != *applied || !(posts + surely..=posts + perhaps).contains(&seen.posts) {
                wrong.push(format!("{key}: {seen:?}, after the answers lost ({surely}, {perhaps})"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("{}\n{crashed:#?}", wrong.join("\n")).into()) }
    }
}

/// An append or a call was on its way while the crash came at some other point: it may have arrived.
fn under_way(points: &[String], what: &str) -> bool {
    let last = |when: &str| points.iter().rposition(|point| point.starts_with(&format!("{when} {what} ")));
    let begun = last("before");
    begun > last("after") && begun.map(|index| index + 1) != Some(points.len())
}

/// One operation, nothing stuck, and a log that proves itself.
async fn judge_log(log: &SqliteLog) -> Outcome<Head> {
    let head = only_operation(log).await?;
    let stuck = log.stuck().await?;
    if !stuck.is_empty() {
        return Err(format!("stuck: {stuck:?}").into());
    }
    let report = verify(log, &Verify::default()).await?;
    if !report.is_clean() {
        return Err(format!("verify: {report:#?}").into());
    }
    Ok(head)
}

async fn only_operation(log: &SqliteLog) -> Outcome<Head> {
    let mut page = log.operations(&Filter::default(), None, 10).await?;
    match (page.operations.pop(), page.operations.len()) {
        (Some(head), 0) => Ok(head),
        (one, more) => Err(format!("{} operations", more + usize::from(one.is_some())).into()),
    }
}

fn last(ended: &Ended) -> Outcome<Value> {
    serde_json::from_str(ended.last()).map_err(|error| format!("{error}: {ended:#?}").into())
}

/// The names of the points that were passed.
fn points(ended: &Ended) -> Vec<String> {
    let numbered = ended.lines.iter().filter_map(|line| line.strip_prefix("point "));
    numbered.filter_map(|point| point.split_once(' ')).map(|(_, name)| name.to_owned()).collect()
}

fn number_from(variable: &str, otherwise: u64) -> Outcome<u64> {
    match std::env::var(variable) {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(otherwise),
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end.max(1) as u64).unwrap_or(0)
    }
}

/// Runs each case; answers what went wrong, by case.
fn in_parallel(cases: &[Vec<String>], run: impl Fn(&[String]) -> Outcome + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = run(case) {
                let failure = format!("crash at {case:?}: {error}");
                failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}
