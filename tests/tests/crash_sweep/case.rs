//! One case: a fresh log, a fresh target, and the program started until its operation has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use redress_engine::operation_log::{Actor, Decision, Head, Operation, OperationHistory, Post, Request};
use redress_engine::types::{Clock as _, SystemClock};
use redress_tests::processes::{Ended, Running};
use redress_tests::recorder::Recorder;
use redress_tests::recorder_steps::Steps;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::between::{Between, Interrupted};
use super::strategies::Strategy;
use super::{Fate, Outcome, Place, World, command, only_operation, program};

/// How long a program may take until its next line.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a program is started again at most. Each verdict takes one start, as does a session that was lost: on a
/// busy machine that may happen again and again.
const STARTS_MAX: usize = 40;

/// Points that not every run passes: they come when it is time, as often as somebody looks, or when there is something
/// left to write.
const NOT_ALWAYS: [&str; 6] =
    [" claim ", " outbox_due ", " renew_session ", " hold_until ", " commit ", " script "];

/// One fresh log, one fresh target.
pub struct Case<'a> {
    pub strategy: &'static Strategy,
    pub place: Box<dyn Place + 'a>,
    pub recorder: Recorder,
    pub runtime: &'a Runtime,
    passes: &'static [&'static str],
    program: PathBuf,
    /// The points that each start passed which ended before its time.
    pub crashed: Vec<Vec<String>>,
    /// By key: answers that a crash surely kept from the log, and those that it may have.
    pub lost: BTreeMap<String, (u64, u64)>,
    pub verdicts: u64,
    pub interrupted: Option<Interrupted>,
}

impl<'a> Case<'a> {
    pub fn new(world: &'a dyn World, strategy: &'static Strategy, worker: usize) -> Outcome<Self> {
        Ok(Self {
            strategy,
            place: world.place(worker)?,
            recorder: Recorder::start(Steps::new(strategy.script))?,
            runtime: world.runtime(),
            passes: world.passes(),
            program: program()?,
            crashed: Vec::new(),
            lost: BTreeMap::new(),
            verdicts: 0,
            interrupted: None,
        })
    }

    /// Runs with these crashes, one a start, then without until it has ended; judges. Answers the points that
    /// the first start without a crash passed.
    pub fn run(&mut self, fate: &Fate) -> Outcome<Vec<String>> {
        for (index, at) in fate.crashes.iter().enumerate() {
            let ended = self.start(Some(at))?;
            if ended.was_killed() || was_lost(&ended)? {
                self.note_crash(points(&ended));
                if let (Some(between), None) = (fate.between, &self.interrupted) {
                    self.interrupt(between)?;
                }
                continue;
            }
            // A run that goes on where another crashed may have fewer points.
            let may_pass = index > 0 || not_always(at);
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
            if was_lost(&ended)? {
                self.note_crash(points);
                continue;
            }
            // Only of a start that had everything before it: one that passed its crash has left nothing to do.
            if fate.crashes.is_empty() && self.crashed.is_empty() && first.is_none() {
                self.judge_points(&ended, &points)?;
            }
            let points = first.get_or_insert(points);
            if !self.decide_if_suspended(&ended)? && !self.go_on_if_paused(&ended)? {
                self.judge()?;
                return Ok(points.clone());
            }
        }
        Err(format!("not ended after {STARTS_MAX} starts").into())
    }

    fn start(&self, crash_at: Option<&str>) -> Outcome<Ended> {
        let recorder = self.recorder.address().to_string();
        let mut command = command(&self.program, &*self.place, &recorder, self.strategy);
        command.envs(crash_at.map(|at| ("CRASH_AT", at)));
        let ended = Running::start(&mut command)?.wait(LIMIT)?;
        // What was sent just before a crash arrives all the same; it is over before the next start.
        self.recorder.settle()?;
        Ok(ended)
    }

    fn note_crash(&mut self, points: Vec<String>) {
        self.note_lost(&points);
        self.crashed.push(points);
        if let Some(lease) = self.place.lease() {
            self.place.move_on(lease);
        }
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

    /// The keys that the target has seen.
    pub fn keys(&self) -> BTreeSet<String> {
        self.recorder.ledger().effects().keys().cloned().collect()
    }

    fn interrupt(&mut self, between: Between) -> Outcome {
        let log = self.place.log()?;
        self.interrupted = self.runtime.block_on(between.come(&*log, &*self.place, self.keys()))?;
        Ok(())
    }

    /// Ends the pause. False: it was not paused.
    fn go_on_if_paused(&mut self, ended: &Ended) -> Outcome<bool> {
        if last(ended)?["paused"] != true {
            return Ok(false);
        }
        let (log, keys) = (self.place.log()?, self.keys());
        let interrupted = self.interrupted.as_mut().ok_or("nobody paused it")?;
        self.runtime.block_on(interrupted.go_on(&*log, &keys))?;
        Ok(true)
    }

    /// Tells a suspended operation the truth, as the target knows it. False: it was not suspended.
    fn decide_if_suspended(&mut self, ended: &Ended) -> Outcome<bool> {
        if last(ended)?["state"] != "suspended" {
            return Ok(false);
        }
        self.verdicts += 1;
        let key = format!("verdict-{}", self.verdicts);
        let (ledger, log, number) = (self.recorder.ledger(), self.place.log()?, self.place.number());
        self.runtime.block_on(async {
            let head = only_operation(&*log, number).await?.ok_or("no operation")?;
            let operation = replay(&*log, &head).await?;
            let intent = operation.open.ok_or("suspended without a step in doubt")?;
            let happened = ledger.effect(&intent.key.to_string()).applied > 0;
            let decision = if happened { Decision::Happened } else { Decision::DidNotHappen };
            let request = Request::Verdict { decision, reason: "the target says so".into() };
            let at = SystemClock.now().plus(self.place.ahead());
            let (operation, actor) = (head.id, Actor::local(0));
            log.post(Post { operation, key, request, actor, at }).await?;
            Ok(true)
        })
    }

    /// Every write and call has a point before and one after it, and none is missing.
    fn judge_points(&self, ended: &Ended, points: &[String]) -> Outcome {
        let passed = |start: &str| points.iter().any(|point| point.starts_with(start));
        let passes = self.strategy.passes.iter().chain(self.passes);
        let missing: Vec<_> = passes.filter(|pass| !passed(pass)).collect();
        let counted = last(ended)?["points"].as_u64() == Some(points.len() as u64);
        // Those may be under way when the program ends.
        let count =
            |when: &str| points.iter().filter(|point| point.starts_with(when) && !not_always(point)).count();
        if !counted || count("before ") != count("after ") || !missing.is_empty() {
            return Err(format!("points are missing {missing:?}: {points:#?}").into());
        }
        Ok(())
    }
}

fn not_always(point: &str) -> bool {
    NOT_ALWAYS.iter().any(|kind| point.contains(kind))
}

/// An append or a call was on its way while the crash came at some other point: it may have arrived.
pub fn under_way(points: &[String], what: &str) -> bool {
    let last = |when: &str| points.iter().rposition(|point| point.starts_with(&format!("{when} {what} ")));
    let begun = last("before");
    begun > last("after") && begun.map(|index| index + 1) != Some(points.len())
}

/// The operation, folded from the log.
pub async fn replay(log: &dyn OperationHistory, head: &Head) -> Outcome<Operation> {
    let plan = log.plan(head.plan.ok_or("no plan")?).await?;
    Ok(Operation::replay(&log.entries(head.id, 0, 1000).await?, plan)?)
}

fn last(ended: &Ended) -> Outcome<Value> {
    serde_json::from_str(ended.last()).map_err(|error| format!("{error}: {ended:#?}").into())
}

/// The machine was too slow for the lease: the program stopped where it was, which is as good as a crash.
fn was_lost(ended: &Ended) -> Outcome<bool> {
    Ok(ended.status.success() && last(ended)?["lost"] == true)
}

/// The names of the points that were passed.
fn points(ended: &Ended) -> Vec<String> {
    let numbered = ended.lines.iter().filter_map(|line| line.strip_prefix("point "));
    numbered.filter_map(|point| point.split_once(' ')).map(|(_, name)| name.to_owned()).collect()
}
