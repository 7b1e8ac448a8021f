//! The verifier against every way of tampering with a log. The log that can be tampered with is here, the tests beside it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what a helper cannot do fails the test")]

mod chain;
mod checkpoints;
mod heads;
mod real;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use expect_test::{Expect, expect};
use redress_operation_log::event::{KnownBy, Owed};
use redress_operation_log::verify::report::Check;
use redress_operation_log::verify::{Options, Report, checkpoint, verify};
use redress_operation_log::{
    Actor, AlertRecord, Append, Audit, Begin, Checkpoint, Claim, Conditions, Cursor, Decision, Ending, Entry,
    Error, Event, Filter, Head, InboxRow, Join, LateResult, LogStatus, MemoryLog, NewAlert, Operation,
    OperationHistory, OperationLog, OutboxRow, Page, Payload, Post, Request, Standing, StoredEntry, Sum,
    Switch, Versions,
};
use redress_strategy::{OnError, PlanHash, StoredPlan};
use redress_types::{Alert, AlertId, Hash, OperationId, Phase, Timestamp};
use support::*;

/// A log that keeps whatever it is told, so that it can be tampered with.
#[derive(Clone, Default)]
struct Kept {
    entries: Vec<StoredEntry>,
    audit: Audit,
    plans: BTreeMap<PlanHash, Arc<StoredPlan>>,
    inbox: BTreeMap<OperationId, Vec<InboxRow>>,
    stuck: Vec<OperationId>,
    payloads: Vec<(u64, Payload)>,
    /// What the next audits answer, the last first; then the one above.
    audits: Arc<Mutex<Vec<Audit>>>,
}

#[async_trait]
impl OperationHistory for Kept {
    async fn operation(&self, id: OperationId) -> Result<Option<Head>, Error> {
        Ok(self.audit.heads.iter().find(|head| head.id == id).cloned())
    }
    async fn find(&self, _: &str, _: usize) -> Result<Vec<Head>, Error> {
        Ok(Vec::new())
    }
    async fn operations(&self, _: &Filter, _: Option<Cursor>, _: usize) -> Result<Page, Error> {
        Ok(Page::default())
    }
    async fn entries(&self, id: OperationId, after: u64, limit: usize) -> Result<Vec<StoredEntry>, Error> {
        let of = self.entries.iter().filter(|stored| stored.operation == id && stored.seq > after);
        Ok(of.take(limit).cloned().collect())
    }
    async fn plan(&self, hash: PlanHash) -> Result<Option<Arc<StoredPlan>>, Error> {
        Ok(self.plans.get(&hash).cloned())
    }
    async fn alert(&self, _: &AlertId) -> Result<Option<AlertRecord>, Error> {
        Ok(None)
    }
    async fn alerts_of(&self, _: OperationId) -> Result<Vec<AlertRecord>, Error> {
        Ok(Vec::new())
    }
    async fn by_fingerprint(&self, _: &str) -> Result<Option<OperationId>, Error> {
        Ok(None)
    }
    async fn inbox(&self, id: OperationId, after: u64) -> Result<Vec<InboxRow>, Error> {
        let rows = self.inbox.get(&id).into_iter().flatten();
        Ok(rows.filter(|row| row.seq > after).cloned().collect())
    }
    async fn outbox_of(&self, _: OperationId) -> Result<Vec<OutboxRow>, Error> {
        Ok(Vec::new())
    }

    async fn outbox_owed(&self, _: usize) -> Result<Vec<OutboxRow>, Error> {
        Ok(Vec::new())
    }

    async fn status(&self) -> Result<LogStatus, Error> {
        let position = self.audit.position;
        let (log_now, sessions) = (Timestamp::EPOCH, Vec::new());
        Ok(LogStatus { log_now, position, sessions, owed: 0, handed: 0, owed_since: None })
    }
    async fn late_results(&self, _: OperationId) -> Result<Vec<LateResult>, Error> {
        Ok(Vec::new())
    }
    async fn payloads(&self, _: OperationId) -> Result<Vec<(u64, Payload)>, Error> {
        Ok(self.payloads.clone())
    }
    async fn switches(&self) -> Result<Vec<Switch>, Error> {
        Ok(Vec::new())
    }
    async fn follow(&self, after: u64, limit: usize) -> Result<Vec<StoredEntry>, Error> {
        // Pages of three, so that paging is part of every case.
        let after = self.entries.iter().filter(|stored| stored.position > after);
        Ok(after.take(limit.min(3)).cloned().collect())
    }
    async fn audit(&self) -> Result<Audit, Error> {
        let next = self.audits.lock().unwrap().pop();
        Ok(next.unwrap_or_else(|| self.audit.clone()))
    }
    async fn stuck(&self) -> Result<Vec<OperationId>, Error> {
        Ok(self.stuck.clone())
    }
}

impl Kept {
    /// A sound log of these operations, their entries taking turns, with a checkpoint in the middle and one at
    /// the end.
    fn of(stories: &[Story]) -> Self {
        let mut kept = Self::default();
        let longest = stories.iter().map(|story| story.entries.len()).max().unwrap();
        for turn in 0..longest {
            for stored in stories.iter().filter_map(|story| story.entries.get(turn)) {
                // Positions have gaps.
                kept.audit.position += 2;
                kept.entries.push(StoredEntry { position: kept.audit.position, ..stored.clone() });
            }
            if turn == 1 {
                kept.seal(None);
            }
        }
        for story in stories {
            kept.plans.extend(story.plan.iter().map(|plan| (plan.hash, Arc::clone(plan))));
            let position = kept.at(story.id, 1).position;
            kept.audit.heads.push(head(story, position));
            kept.audit.claims.extend(claims(story).into_iter().map(|claim| (claim, story.id)));
        }
        kept.sum_up();
        kept.seal(None);
        kept
    }

    fn index(&self, id: OperationId, seq: u64) -> usize {
        self.entries.iter().position(|stored| stored.operation == id && stored.seq == seq).unwrap()
    }

    fn at(&mut self, id: OperationId, seq: u64) -> &mut StoredEntry {
        let index = self.index(id, seq);
        &mut self.entries[index]
    }

    fn head(&mut self, id: OperationId) -> &mut Head {
        self.audit.heads.iter_mut().find(|head| head.id == id).unwrap()
    }

    fn sum_up(&mut self) {
        let mut sums = BTreeMap::new();
        for stored in &self.entries {
            let session = stored.read().unwrap().session;
            let sum = sums.entry(session).or_insert_with(|| Sum { session, ..Sum::default() });
            sum.entries += 1;
            sum.operations += u64::from(stored.seq == 1);
            sum.digest.combine(&stored.hash);
        }
        self.audit.sums = sums.into_values().collect();
    }

    fn seal(&mut self, key: Option<&[u8]>) {
        let mut digest = Hash::ZERO;
        self.entries.iter().for_each(|stored| digest.combine(&stored.hash));
        let last = self.audit.checkpoints.last();
        let mut sealed = Checkpoint {
            number: last.map_or(1, |last| last.number + 1),
            position: self.audit.position,
            entries: self.entries.len() as u64,
            operations: self.entries.iter().filter(|stored| stored.seq == 1).count() as u64,
            digest,
            previous: last.map_or(Hash::ZERO, |last| last.hash),
            at: Timestamp::EPOCH,
            hash: Hash::ZERO,
            signature: None,
        };
        sealed.hash = checkpoint::hash(&sealed);
        sealed.signature = key.map(|key| checkpoint::sign(key, &sealed.hash));
        self.audit.checkpoints.push(sealed);
    }

    /// Writes other events into an entry and chains it and everything after it anew.
    fn rewrite(&mut self, id: OperationId, seq: u64, change: impl FnOnce(&mut Entry)) {
        let mut entry = self.at(id, seq).read().unwrap();
        change(&mut entry);
        let previous = if seq == 1 { Hash::ZERO } else { self.at(id, seq - 1).hash };
        let (body, mut hash) = entry.seal(&previous).unwrap();
        *self.at(id, seq) = StoredEntry { body, hash, ..self.at(id, seq).clone() };
        let last = self.entries.iter().filter(|stored| stored.operation == id).count() as u64;
        for seq in seq + 1..=last {
            let stored = self.at(id, seq);
            stored.hash = redress_operation_log::entry::link(&hash, &stored.body);
            hash = stored.hash;
        }
        self.head(id).hash = hash;
        self.sum_up();
        self.audit.checkpoints.clear();
    }

    fn remove_entries(&mut self, id: OperationId) {
        self.entries.retain(|stored| stored.operation != id);
    }
}

fn head(story: &Story, position: u64) -> Head {
    let operation = &story.operation;
    Head {
        id: story.id,
        name: story.id.name(&operation.alert.fingerprint),
        seq: operation.seq,
        hash: operation.hash,
        versions: Versions::CURRENT,
        state: operation.state,
        epoch: operation.epoch,
        session: None,
        wake_at: None,
        waits_on: None,
        inbox: operation.folded_request,
        folded_request: operation.folded_request,
        target: operation.target.clone(),
        strategy: operation.strategy.clone(),
        plan: operation.plan.as_ref().map(|plan| plan.hash),
        fingerprint: operation.alert.fingerprint.clone(),
        level: operation.alert.level,
        title: operation.alert.title.clone(),
        reason: operation.reason.clone(),
        accepted_at: operation.accepted_at,
        updated_at: operation.updated_at,
        ended_at: operation.ended_at,
        position,
        owed: 0,
    }
}

fn claims(story: &Story) -> Vec<Claim> {
    let operation = &story.operation;
    if operation.state.is_ended() {
        return Vec::new();
    }
    let mut claims: Vec<Claim> = operation
        .alerts
        .iter()
        .map(|counted| Claim::Fingerprint(counted.alert.fingerprint.to_string()))
        .collect();
    claims.extend(operation.sameness.clone().map(Claim::Sameness));
    if operation.state.is_acting() {
        claims.push(Claim::Slot(operation.target.to_string()));
    }
    claims
}

/// Restored: two steps, the first with a retry, and a takeover in between.
fn restored() -> Story {
    let plan = plan(&[OnError::Rollback, OnError::Abort], 1, 2);
    let mut story = Story::begin(1, "web", Some(plan), vec![ADMITTED]);
    let first = story.next();
    story.write(vec![started(first)]).write(vec![tried(first, 1)]);
    story.taken_over().write(vec![resumed(first)]).write(vec![succeeded(first, KnownBy::Probe)]);
    let second = story.next();
    story.write(vec![started(second)]);
    story.write(vec![succeeded(second, KnownBy::Answer), Event::VerificationStarted]);
    story.write(vec![passed(2, 50)]);
    story
}

/// Failed, after its compensation.
fn compensated() -> Story {
    let plan = plan(&[OnError::Rollback], 1, 1);
    let mut story = Story::begin(2, "db", Some(plan), vec![]);
    let step = story.key(Phase::Rollback, 1, 0);
    let undo = story.key(Phase::Compensation, 1, 0);
    story.write(vec![ADMITTED, started(step)]);
    story.write(vec![failed(step, KnownBy::Answer), compensate(Owed::Failed), started(undo)]);
    story.write(vec![succeeded(undo, KnownBy::Answer), Event::CompensatedToFailed]);
    story
}

/// In doubt, settled by a person, and under way again.
fn resolved() -> Story {
    let plan = plan(&[OnError::Rollback, OnError::Rollback], 0, 1);
    let mut story = Story::begin(3, "api", Some(plan), vec![ADMITTED]);
    let step = story.next();
    story.write(vec![started(step)]).write(vec![suspended()]);
    let resumed = Event::ResumedRollingBack { verdict: verdict(1, Decision::Happened) };
    story.write(vec![resumed, succeeded(step, KnownBy::Verdict)]);
    let next = story.next();
    story.write(vec![started(next)]);
    story
}

/// Waits, with a second alert counted.
fn joined() -> Story {
    let mut story = Story::begin(4, "cache", Some(plan(&[OnError::Rollback], 0, 1)), vec![]);
    let reason = redress_operation_log::event::HoldReason::Cooldown { key: "k".into() };
    story.write(vec![Event::Held { reason, until: Timestamp::MAX }]);
    story.write(vec![Event::AlertJoined { request: 1, alert: alert("alert-4b", "cache") }]);
    story
}

fn sound() -> Kept {
    Kept::of(&[restored(), compensated(), resolved(), joined()])
}

fn id(n: u64) -> OperationId {
    format!("00000000-0000-7000-8000-{n:012}").parse().unwrap()
}

fn run(kept: &Kept, options: &Options) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(verify(kept, options)).unwrap()
}

/// The findings, one a line, ids and hashes cut short.
fn found(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        writeln!(text, "{}", short(&finding.to_string())).unwrap();
    }
    text
}

fn short(text: &str) -> String {
    let words = text.replace("00000000-0000-7000-8000-00000000000", "#");
    let cut = |word: &str| {
        let end = word.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        if word.len() - end.len() == 64 { format!("{}…{end}", &word[..4]) } else { word.to_owned() }
    };
    words.split(' ').map(cut).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn tampered(tamper: impl FnOnce(&mut Kept), expected: Expect) {
    let mut kept = sound();
    tamper(&mut kept);
    let report = run(&kept, &Options::default());
    assert!(!report.is_clean(), "nothing was found");
    expected.assert_eq(&found(&report));
}
