//! What must be true when a case is over.

use std::collections::BTreeSet;

use redress_engine::operation_log::fold::StepResult;
use redress_engine::operation_log::verify::{Options, verify};
use redress_engine::operation_log::{Head, OperationHistory};
use redress_tests::recorder::Ledger;

use super::between::Interrupted;
use super::case::{Case, replay, under_way};
use super::strategies::HALT;
use super::{Outcome, only_operation};

impl Case<'_> {
    /// The end, the effects, a log that proves itself, and what else was written.
    pub fn judge(&self) -> Outcome {
        let log = self.place.log()?;
        let head = self.runtime.block_on(judge_log(&*log, self.place.number()))?;
        let ledger = self.recorder.ledger();
        let mut wrong = ledger.complaints().to_vec();
        let expected = self.interrupted.as_ref().map_or(self.strategy.state, |by| by.end(self.strategy));
        if head.state.to_string() != expected {
            wrong.push(format!("it ended as {} and not {expected}: {:?}", head.state, head.reason));
        }
        if self.leaves_doubt().is_some_and(|doubt| doubt != (self.verdicts > 0)) {
            wrong.push(format!("a person was asked {} times", self.verdicts));
        }
        match &self.interrupted {
            Some(by) if !by.changes_nothing() => {
                let done = self.runtime.block_on(done(&*log, &head))?;
                judge_interrupted(by, &ledger, &done, &mut wrong);
            }
            Some(_) | None => self.judge_effects(&head, &ledger, &mut wrong),
        }
        if self.interrupted.as_ref().is_some_and(|by| by.must_stand_still() && !by.stood_still) {
            wrong.push("the pause was not seen".to_owned());
        }
        wrong.extend(self.place.judge(&head)?);
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!("{}\n{:?}\n{:#?}", wrong.join("\n"), self.interrupted, self.crashed).into())
    }

    /// Whether a crash leaves a step in doubt that must not be repeated: from the entry that begins it to the one that
    /// has its result. `None`: nobody can say.
    fn leaves_doubt(&self) -> Option<bool> {
        if let Some(interrupted) = &self.interrupted {
            return Some(interrupted.leaves_doubt(self.strategy));
        }
        let appended = match self.crashed.as_slice() {
            [] => 0,
            [points] if under_way(points, "append") => return None,
            [points] => points.iter().filter(|point| point.starts_with("after append ")).count(),
            _ => return None,
        };
        Some(self.strategy.name == HALT.name && (1..=3).contains(&appended))
    }

    /// Those of the baseline, and what a crash may have added to the calls.
    fn judge_effects(&self, head: &Head, ledger: &Ledger, wrong: &mut Vec<String>) {
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
    }
}

/// Nothing was begun any more but the compensation, which ran to its end; and the log says of each step what the target
/// says.
fn judge_interrupted(by: &Interrupted, ledger: &Ledger, done: &BTreeSet<String>, wrong: &mut Vec<String>) {
    for (key, effect) in ledger.effects() {
        if !by.may_begin(key) {
            wrong.push(format!("{key} was begun after it"));
        }
        if effect.applied != u64::from(done.contains(key)) {
            wrong.push(format!("{key}: {effect:?}, done by the log: {}", done.contains(key)));
        }
    }
    let compensated = done.iter().filter(|key| key.contains(":compensation:")).count();
    if compensated != 2 || done.iter().any(|key| ledger.effect(key).applied == 0) {
        wrong.push(format!("done by the log: {done:?}"));
    }
}

/// The keys that were done, by the log.
async fn done(log: &dyn OperationHistory, head: &Head) -> Outcome<BTreeSet<String>> {
    let operation = replay(log, head).await?;
    let done = operation.steps.iter().filter(|step| matches!(step.result, Some(StepResult::Succeeded(_))));
    Ok(done.map(|step| step.key.to_string()).collect())
}

/// One operation, nothing stuck, and a log that proves itself.
async fn judge_log(log: &dyn OperationHistory, number: u64) -> Outcome<Head> {
    let head = only_operation(log, number).await?.ok_or("no operation")?;
    let stuck = log.stuck().await?;
    if !stuck.is_empty() {
        return Err(format!("stuck: {stuck:?}").into());
    }
    let report = verify(log, &Options::default()).await?;
    if !report.is_clean() {
        return Err(format!("verify: {report:#?}").into());
    }
    Ok(head)
}
