//! The verifier against every way of tampering with a log.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what a helper cannot do fails the test")]

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
    Error, Event, Filter, Head, InboxRow, Join, LateResult, MemoryLog, NewAlert, Operation, OperationHistory,
    OperationLog, OutboxRow, Page, Payload, Post, Request, Standing, StoredEntry, Sum, Switch,
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

#[test]
fn a_sound_log_is_clean_and_everything_in_it_is_counted() {
    let report = run(&sound(), &Options::default());
    expect![[""]].assert_eq(&found(&report));
    assert!(report.is_clean());
    expect![[r#"
        entries       20 of 4 operations, each chain from its first
        plans         4
        heads         4 compared with the fold
        sessions      2 sums compared
        archived      0 entries of 0 operations
        claims        6
        checkpoints   2, 2 recomputed in full, 0 signed, 0 signatures right; the last is 2:b4f72f0950c06dac4243b3ffbd334061d0287e05ec328de6144b808c18e272a6; 0 entries after it
        invariant 1   holds, checked on 5: at most one accepted result per effect key
        invariant 2   holds, checked on 6: no effect without its intent durable under its epoch
        invariant 3   holds, checked on 28: every transition is one that the table and the guards allow
        invariant 4   holds, checked on 2: an ended operation never changes
        invariant 5   holds, checked on 2: whatever is not ended or not delivered has a next wake-up

        nothing is wrong

        what this cannot tell: Whoever can write to the log's file can rewrite all of it, sums and unsigned checkpoints included, so that it agrees with itself. Only what cannot be rewritten there tells: a checkpoint signed with a key that is kept elsewhere, or one whose number and hash were noted elsewhere (give it with --checkpoint). What was added or changed after the last such checkpoint, or never reached the log, cannot be detected; nor can the log being put back, whole, to an older state. What archiving removed is counted in a sum that nobody signs: a removal dressed up as archiving shows only to who kept the archive file, or a checkpoint noted elsewhere before it. The sums are XORs of hashes: they show accidents and casual edits, not the work of somebody who can compute collisions."#]].assert_eq(&short(&report.to_string()));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["invariants"][0]["checked"], 5);
    assert_eq!(json["entries"], 20);
}

#[test]
fn a_log_without_entries_is_clean() {
    let report = run(&Kept::default(), &Options::default());
    assert!(report.is_clean());
    assert_eq!((report.entries, report.operations, report.checkpoints.count), (0, 0, 0));
}

#[test]
fn a_byte_of_a_body_is_changed() {
    tampered(
        |kept| {
            let stored = kept.at(id(1), 3);
            let text = String::from_utf8(stored.body.to_vec()).unwrap().replace("503", "504");
            stored.body = text.into_bytes().into();
        },
        expect![[r#"
            chain: operation #1, entry 3 (position 18): the link is broken: over entry 2 and its own bytes its hash is f18d…, not 9ef6…
        "#]],
    );
}

#[test]
fn a_body_is_made_unreadable_and_hashed_again() {
    tampered(
        |kept| {
            let previous = kept.at(id(2), 3).hash;
            let stored = kept.at(id(2), 4);
            stored.body = b"{}".as_slice().into();
            stored.hash = redress_operation_log::entry::link(&previous, &stored.body);
        },
        expect![[r#"
            chain: operation #2, entry 4 (position 28): entry 4 of operation #2 cannot be read: missing field `format` at line 1 column 2
            sums: session 1: 1 of 15 entries are missing
            checkpoints: checkpoint 2: 20 entries are there, as many as were appended, but not the same
        "#]],
    );
}

#[test]
fn one_entry_is_changed_and_hashed_again() {
    let change = |kept: &mut Kept, seq: u64| {
        let previous = kept.at(id(1), seq - 1).hash;
        let mut entry = kept.at(id(1), seq).read().unwrap();
        entry.recorded_at = entry.recorded_at.plus(std::time::Duration::from_secs(1));
        let (body, hash) = entry.seal(&previous).unwrap();
        *kept.at(id(1), seq) = StoredEntry { body, hash, ..kept.at(id(1), seq).clone() };
    };
    tampered(
        |kept| change(kept, 3),
        expect![[r#"
        chain: operation #1, entry 4 (position 26): the link is broken: over entry 3 and its own bytes its hash is 79d1…, not 1323…
        sums: session 1: 15 entries are there, as many as were appended, but not the same
        checkpoints: checkpoint 2: 20 entries are there, as many as were appended, but not the same
    "#]],
    );
    // The last one has no link after it.
    tampered(
        |kept| change(kept, 8),
        expect![[r#"
        head: operation #1: the head's hash is 5ac5…, that of entry 8 is 7a7f…
        sums: session 2: 5 entries are there, as many as were appended, but not the same
        checkpoints: checkpoint 2: 20 entries are there, as many as were appended, but not the same
    "#]],
    );
}

#[test]
fn the_bodies_of_two_entries_are_swapped() {
    tampered(
        |kept| {
            let (a, b) = (kept.at(id(1), 2).body.clone(), kept.at(id(1), 3).body.clone());
            kept.at(id(1), 2).body = b;
            kept.at(id(1), 3).body = a;
        },
        expect![[r#"
            chain: operation #1, entry 2 (position 10): the link is broken: over entry 1 and its own bytes its hash is d49d…, not 0388…
        "#]],
    );
}

#[test]
fn two_rows_change_places() {
    tampered(
        |kept| {
            let (a, b) = (kept.index(id(1), 2), kept.index(id(1), 3));
            let (at_a, at_b) = (kept.entries[a].position, kept.entries[b].position);
            kept.entries.swap(a, b);
            kept.entries[a].position = at_a;
            kept.entries[b].position = at_b;
        },
        expect![[r#"
            chain: operation #1, entry 3 (position 10): entry 2 is missing before it
            checkpoints: checkpoint 1: 8 entries are there, as many as were appended, but not the same
        "#]],
    );
}

#[test]
fn an_entry_of_another_operation_takes_the_place() {
    tampered(
        |kept| {
            let stored = kept.at(id(4), 1).clone();
            *kept.at(id(2), 1) =
                StoredEntry { operation: id(2), position: kept.at(id(2), 1).position, ..stored };
        },
        expect![[r#"
            chain: operation #2, entry 1 (position 4): its bytes are those of entry 1 of operation #4
            sums: session 1: 15 entries are there, as many as were appended, but not the same
            checkpoints: checkpoint 1: 8 entries are there, as many as were appended, but not the same
            checkpoints: checkpoint 2: 20 entries are there, as many as were appended, but not the same
        "#]],
    );
}

/// Adds an entry that is chained as it should be.
fn add(kept: &mut Kept, story: &Story, events: Vec<Event>) {
    let entry = story.entry(events);
    let (body, hash) = entry.seal(&story.operation.hash).unwrap();
    kept.audit.position += 1;
    let (position, operation, seq) = (kept.audit.position, story.id, entry.seq);
    kept.entries.push(StoredEntry { position, operation, seq, body, hash });
}

#[test]
fn an_entry_is_added() {
    tampered(
        |kept| {
            let story = resolved();
            let open = story.operation.open.as_ref().unwrap().key;
            add(kept, &story, vec![succeeded(open, KnownBy::Answer)]);
        },
        expect![[r#"
            head: operation #3: the head stands at entry 5, the entries go on to 6
            sums: session 1: 16 entries are there, 1 too many
        "#]],
    );
}

#[test]
fn an_entry_is_added_to_an_ended_operation_and_everything_else_is_made_to_agree() {
    tampered(
        |kept| {
            add(kept, &restored(), vec![end_failed()]);
            let hash = kept.at(id(1), 9).hash;
            kept.head(id(1)).seq = 9;
            kept.head(id(1)).hash = hash;
            kept.sum_up();
        },
        expect![[r#"
            invariant 4: operation #1, entry 9 (position 41): it comes after the operation ended
        "#]],
    );
}

#[test]
fn a_row_stands_beyond_what_the_log_has_given_out() {
    tampered(
        |kept| {
            let last = kept.audit.position;
            add(kept, &joined(), vec![Event::Released]);
            kept.audit.position = last;
        },
        expect![[r#"
            sums: it stands at position 41; the log has given out 40 so far
        "#]],
    );
}

#[test]
fn a_row_is_removed() {
    let remove = |kept: &mut Kept, seq: u64| {
        let index = kept.index(id(1), seq);
        kept.entries.remove(index);
    };
    tampered(
        |kept| remove(kept, 1),
        expect![[r#"
        chain: operation #1, entry 2 (position 10): entry 1 is missing before it
        sums: session 1: 1 of 15 entries are missing, 1 of 4 operations are missing
        checkpoints: checkpoint 1: 1 of 8 entries are missing, 1 of 4 operations are missing
        checkpoints: checkpoint 2: 1 of 20 entries are missing, 1 of 4 operations are missing
    "#]],
    );
    tampered(
        |kept| remove(kept, 4),
        expect![[r#"
        chain: operation #1, entry 5 (position 32): entry 4 is missing before it
        sums: session 2: 1 of 5 entries are missing
        checkpoints: checkpoint 2: 1 of 20 entries are missing
    "#]],
    );
}

#[test]
fn the_tail_is_cut() {
    let cut = |kept: &mut Kept| {
        let index = kept.index(id(3), 5);
        kept.entries.remove(index);
    };
    tampered(
        cut,
        expect![[r#"
        head: operation #3: the head stands at entry 5, the entries end at 4: the tail was cut
        sums: session 1: 1 of 15 entries are missing
        checkpoints: checkpoint 2: 1 of 20 entries are missing
    "#]],
    );
    // And the head is made to agree.
    tampered(
        |kept| {
            cut(kept);
            let hash = kept.at(id(3), 4).hash;
            let head = kept.head(id(3));
            (head.seq, head.hash) = (4, hash);
            head.updated_at = Timestamp::from_micros(4_000_000);
        },
        expect![[r#"
            sums: session 1: 1 of 15 entries are missing
            checkpoints: checkpoint 2: 1 of 20 entries are missing
        "#]],
    );
}

#[test]
fn an_operation_is_removed() {
    tampered(
        |kept| kept.remove_entries(id(2)),
        expect![[r#"
        head: operation #2: the head has no entries: the operation was removed
        sums: session 1: 4 of 15 entries are missing, 1 of 4 operations are missing
        checkpoints: checkpoint 1: 2 of 8 entries are missing, 1 of 4 operations are missing
        checkpoints: checkpoint 2: 4 of 20 entries are missing, 1 of 4 operations are missing
    "#]],
    );
    // And its head; what stays is the alert id.
    tampered(
        |kept| {
            kept.remove_entries(id(2));
            kept.audit.heads.retain(|head| head.id != id(2));
            kept.audit.orphans.push("alert-2".parse().unwrap());
        },
        expect![[r#"
            sums: session 1: 4 of 15 entries are missing, 1 of 4 operations are missing
            checkpoints: checkpoint 1: 2 of 8 entries are missing, 1 of 4 operations are missing
            checkpoints: checkpoint 2: 4 of 20 entries are missing, 1 of 4 operations are missing
            alerts: alert alert-2 led to an operation that is neither in the log nor archived
        "#]],
    );
    tampered(
        |kept| kept.audit.heads.retain(|head| head.id != id(2)),
        expect![[r#"
        head: operation #2: its entries have no head
    "#]],
    );
}

#[test]
fn a_head_is_changed() {
    use redress_fsm::State;
    tampered(
        |kept| kept.head(id(1)).state = State::Failed,
        expect![[r#"
        head: operation #1: the head's state is failed, the entries say restored
    "#]],
    );
    tampered(
        |kept| kept.head(id(3)).state = State::Suspended,
        expect![[r#"
        head: operation #3: the head's state is suspended, the entries say rolling_back
    "#]],
    );
    tampered(
        |kept| kept.head(id(1)).hash = Hash::ZERO,
        expect![[r#"
        head: operation #1: the head's hash is 0000…, that of entry 8 is 5ac5…
    "#]],
    );
    tampered(
        |kept| kept.head(id(1)).seq = 7,
        expect![[r#"
        head: operation #1: the head stands at entry 7, the entries go on to 8
    "#]],
    );
    tampered(
        |kept| kept.head(id(1)).ended_at = None,
        expect![[r#"
        head: operation #1: the head's ended_at is none, the entries say 1970-01-01T00:00:08Z
    "#]],
    );
    tampered(
        |kept| kept.head(id(2)).reason = Some("all is well".into()),
        expect![[r#"
        head: operation #2: the head's reason is all is well, the entries say it did not work
    "#]],
    );
    tampered(
        |kept| kept.head(id(3)).folded_request = 0,
        expect![[r#"
        head: operation #3: the head's last folded request is 0, the entries say 1
    "#]],
    );
    tampered(
        |kept| kept.head(id(3)).plan = None,
        expect![[r#"
        head: operation #3: the head's plan is none, the entries say 7a07…
    "#]],
    );
    tampered(
        |kept| kept.head(id(3)).target.service = "other".into(),
        expect![[r#"
        head: operation #3: the head's target is default/other, the entries say default/api
    "#]],
    );
    tampered(
        |kept| kept.head(id(1)).epoch = redress_types::Epoch(1),
        expect![[r#"
        head: operation #1: the head's epoch is 1, the entries say 2
    "#]],
    );
}

#[test]
fn a_plan_is_changed_or_missing() {
    tampered(
        |kept| {
            let hash = kept.head(id(2)).plan.unwrap();
            let other = kept.plans.values().find(|plan| plan.hash != hash).unwrap();
            let other = StoredPlan { hash, ..StoredPlan::clone(other) };
            kept.plans.insert(hash, Arc::new(other));
        },
        expect![[r#"
            plan: operation #2, entry 1 (position 4): plan 52d1… was changed: its bytes have the hash 448a…
        "#]],
    );
    tampered(
        |kept| {
            let hash = kept.head(id(2)).plan.unwrap();
            kept.plans.remove(&hash);
        },
        expect![[r#"
            plan: operation #2, entry 1 (position 4): plan 52d1… is not stored
        "#]],
    );
}

#[test]
fn claims_are_added_dropped_or_moved() {
    tampered(
        |kept| kept.audit.claims.push((Claim::Slot("default/web".into()), id(1))),
        expect![[r#"
        claims: operation #1: has slot default/web, which it must not have
    "#]],
    );
    tampered(
        |kept| kept.audit.claims.retain(|(_, holder)| *holder != id(4)),
        expect![[r#"
        claims: operation #4: fingerprint 4e34… is missing
        claims: operation #4: fingerprint 82f4… is missing
        claims: operation #4: sameness same-4 is missing
    "#]],
    );
    tampered(
        |kept| {
            for (claim, holder) in &mut kept.audit.claims {
                if claim.kind() == "slot" {
                    *holder = id(4);
                }
            }
        },
        expect![[r#"
            claims: operation #4: has slot default/api, which belongs to operation #3
        "#]],
    );
}

#[test]
fn an_alert_in_the_inbox_has_its_claim_before_it_is_folded() {
    let mut kept = sound();
    let other = alert("alert-3b", "api");
    let claim = Claim::Fingerprint(other.fingerprint.to_string());
    let actor = Actor("webhook".into());
    let request = Request::Join { alert: other };
    let row = InboxRow { seq: 2, key: "k".into(), request, actor, at: Timestamp::EPOCH };
    kept.inbox.insert(id(3), vec![row]);
    kept.head(id(3)).inbox = 2;
    expect![[r#"
        claims: operation #3: fingerprint 7688… is missing
    "#]]
    .assert_eq(&found(&run(&kept, &Options::default())));
    kept.audit.claims.push((claim, id(3)));
    assert!(run(&kept, &Options::default()).is_clean());
}

#[test]
fn sums_are_wrong() {
    tampered(
        |kept| kept.audit.sums[0].entries += 1,
        expect![[r#"
        sums: session 1: 1 of 16 entries are missing
    "#]],
    );
    tampered(
        |kept| kept.audit.sums[1].entries -= 1,
        expect![[r#"
        sums: session 2: 5 entries are there, 1 too many
    "#]],
    );
    tampered(
        |kept| kept.audit.sums[0].digest = Hash::ZERO,
        expect![[r#"
        sums: session 1: 15 entries are there, as many as were appended, but not the same
    "#]],
    );
    tampered(
        |kept| kept.audit.sums.truncate(1),
        expect![[r#"
        sums: session 2 has entries but no sum
    "#]],
    );
    tampered(
        |kept| kept.audit.archived.entries = 3,
        expect![[r#"
        sums: log and archive together: 23 entries are there, 3 too many
    "#]],
    );
}

/// Takes an ended operation out of the log as archiving does.
fn archive(kept: &mut Kept, id: OperationId) {
    for stored in kept.entries.iter().filter(|stored| stored.operation == id) {
        kept.audit.archived.entries += 1;
        kept.audit.archived.operations += u64::from(stored.seq == 1);
        kept.audit.archived.digest.combine(&stored.hash);
    }
    kept.remove_entries(id);
    kept.audit.heads.retain(|head| head.id != id);
}

#[test]
fn what_was_archived_is_no_gap_and_hides_none() {
    let mut kept = sound();
    archive(&mut kept, id(2));
    let report = run(&kept, &Options::default());
    expect![[""]].assert_eq(&found(&report));
    assert_eq!((report.archived_operations, report.checkpoints.recomputed), (1, 1));
    tampered(
        |kept| {
            archive(kept, id(2));
            kept.remove_entries(id(1));
            kept.audit.heads.retain(|head| head.id != id(1));
        },
        expect![[r#"
            sums: log and archive together: 8 of 20 entries are missing, 1 of 4 operations are missing
            checkpoints: checkpoint 1: 1 of 4 operations are missing
            checkpoints: checkpoint 2: 8 of 20 entries are missing, 1 of 4 operations are missing
        "#]],
    );
}

#[test]
fn checkpoints_are_rewritten() {
    tampered(
        |kept| kept.audit.checkpoints[0].entries -= 1,
        expect![[r#"
        checkpoints: checkpoint 1: it was changed: its hash is dc53…, it says faf4…
        checkpoints: checkpoint 1: 8 entries are there, 1 too many
    "#]],
    );
    tampered(
        |kept| kept.audit.checkpoints.retain(|checkpoint| checkpoint.number > 1),
        expect![[r#"
        checkpoints: checkpoint 2: it follows checkpoint 0
        checkpoints: checkpoint 2: it names faf4… as the one before, which has 0000…
    "#]],
    );
    tampered(
        |kept| {
            let last = kept.audit.checkpoints.last_mut().unwrap();
            last.digest = Hash::ZERO;
            last.hash = checkpoint::hash(last);
        },
        expect![[r#"
            checkpoints: checkpoint 2: 20 entries are there, as many as were appended, but not the same
        "#]],
    );
    tampered(
        |kept| {
            kept.audit.checkpoints.swap(0, 1);
        },
        expect![[r#"
            checkpoints: checkpoint 2: it follows checkpoint 0
            checkpoints: checkpoint 2: it names faf4… as the one before, which has 0000…
            checkpoints: checkpoint 1: it follows checkpoint 2
            checkpoints: checkpoint 1: it names 0000… as the one before, which has b4f7…
            checkpoints: checkpoint 1: it covers less than the one before
        "#]],
    );
}

/// Everything is rewritten so that it agrees with itself: only what was noted or signed elsewhere tells.
#[test]
fn a_log_that_was_rewritten_whole_is_told_by_what_its_writer_did_not_have() {
    let honest = sound();
    let noted = honest.audit.checkpoints[1].clone();
    let forged = Kept::of(&[restored(), resolved(), joined()]);
    assert!(run(&forged, &Options::default()).is_clean(), "nothing inside the log can tell");

    let expect_noted = Options { expect: Some((2, noted.hash)), ..Options::default() };
    assert!(run(&honest, &expect_noted).is_clean());
    expect![[r#"
        checkpoints: checkpoint 2 has the hash d6b5…, b4f7… was expected
    "#]]
    .assert_eq(&found(&run(&forged, &expect_noted)));
    let later = Options { expect: Some((7, noted.hash)), ..Options::default() };
    expect![[r#"
        checkpoints: checkpoint 7, noted with the hash b4f7…, is not there
    "#]]
    .assert_eq(&found(&run(&forged, &later)));
}

#[test]
fn signatures_are_right_missing_or_of_another_key() {
    let mut kept = sound();
    kept.audit.checkpoints.clear();
    kept.seal(Some(b"key"));
    kept.seal(None);
    let with = |key: &[u8]| Options { key: Some(key.to_vec()), expect: None };
    let report = run(&kept, &with(b"key"));
    assert_eq!((report.checkpoints.signed, report.checkpoints.signatures_right), (1, 1));
    expect![[r#"
        checkpoints: checkpoint 2: it is not signed
    "#]]
    .assert_eq(&found(&report));
    expect![[r#"
        checkpoints: checkpoint 1: its signature is not of this key
        checkpoints: checkpoint 2: it is not signed
    "#]]
    .assert_eq(&found(&run(&kept, &with(b"other"))));
    assert!(run(&kept, &Options::default()).is_clean(), "without a key signatures are not looked at");
    assert!(!format!("{:?}", with(b"hunter2")).contains("hunter2"));
}

/// The chain, the heads and the sums agree; what was written was never allowed.
#[test]
fn the_invariants_are_checked_apart_from_the_chain() {
    // 1: a second result of one effect.
    tampered(
        |kept| {
            kept.rewrite(id(1), 5, |entry| entry.events.push(entry.events[0].clone()));
        },
        expect![[r#"
            invariant 1: operation #1, entry 5 (position 32): effect #1:rollback:1:0 has a result already
            invariant 3: operation #1, entry 5 (position 32): step_succeeded in state rolling_back: there is no open intent of this key
        "#]],
    );
    // 2: a result in the commit of its intent.
    tampered(
        |kept| {
            kept.rewrite(id(3), 5, |entry| {
                let Event::StepStarted { key, .. } = entry.events[0] else { panic!("a step starts") };
                entry.events.push(succeeded(key, KnownBy::Answer));
            });
        },
        expect![[r#"
            invariant 2: operation #3, entry 5 (position 34): step_succeeded of #3:rollback:1:1 has no intent in an earlier entry under epoch 1
        "#]],
    );
    // 2: a result under an epoch that never wrote the intent.
    tampered(
        |kept| kept.rewrite(id(1), 4, |entry| entry.epoch = redress_types::Epoch(1)),
        expect![[r#"
            invariant 2: operation #1, entry 5 (position 32): step_succeeded of #1:rollback:1:0 has no intent in an earlier entry under epoch 2
            invariant 3: operation #1, entry 5 (position 32): step_succeeded in state rolling_back: the intent belongs to another epoch; resume it first
        "#]],
    );
    // 3: a guard refuses (too few healthy looks), then the table.
    tampered(
        |kept| kept.rewrite(id(1), 8, |entry| entry.events = vec![passed(1, 50)]),
        expect![[r#"
        invariant 3: operation #1, entry 8 (position 40): verification_passed in state verifying: too few healthy looks in a row
    "#]],
    );
    tampered(
        |kept| kept.rewrite(id(4), 3, |entry| entry.events = vec![end_failed()]),
        expect![[r#"
        invariant 3: operation #4, entry 3 (position 24): failed is not possible in state blocked
    "#]],
    );
    // 5: nothing will wake it.
    tampered(
        |kept| kept.stuck.push(id(4)),
        expect![[r#"
        invariant 5: operation #4: it is not ended or not delivered, and nothing will wake it
    "#]],
    );
}

#[test]
fn a_report_lists_a_hundred_findings_and_counts_the_rest() {
    let stories: Vec<Story> = (0..150).map(|n| Story::begin(n, "web", None, vec![])).collect();
    let mut kept = Kept::of(&stories);
    kept.audit.heads.iter_mut().for_each(|head| head.title.clear());
    kept.audit.claims.clear();
    let report = run(&kept, &Options::default());
    assert_eq!((report.findings.len(), report.found), (100, 300));
    assert!(report.to_string().contains("  and 200 more\n"));
    assert!(report.findings.iter().all(|finding| finding.check == Check::Head));
}

/// What was archived between the two looks is no finding; a log that is archived all the time is not judged.
#[test]
fn a_log_that_is_archived_meanwhile_is_read_again() {
    let before = sound().audit;
    let mut kept = sound();
    archive(&mut kept, id(2));
    kept.audits = Arc::new(Mutex::new(vec![kept.audit.clone(), before.clone()]));
    assert!(run(&kept, &Options::default()).is_clean());

    let moving = |n| {
        let mut audit = before.clone();
        audit.archived.entries = n;
        audit
    };
    kept.audits = Arc::new(Mutex::new((1..10).map(moving).collect()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(verify(&kept, &Options::default())).unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

/// The first of the clocks that a log needs, standing still.
struct Still;

impl redress_types::Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_000_000)
    }
}

/// What an engine appends for the entry of a story that leads to where `operation` stands.
fn append(story: &Story, stored: &StoredEntry, operation: &Operation) -> Append {
    let entry = stored.read().unwrap();
    let alert = &story.operation.alert;
    let begin = Begin {
        name: story.id.name(&alert.fingerprint),
        alert: new_alert(alert),
        target: operation.target.clone(),
        strategy: operation.strategy.clone(),
        plan: operation.plan.clone(),
        level: alert.level,
        title: alert.title.clone(),
    };
    let ends = operation.state.is_ended();
    let standing = Standing {
        state: operation.state,
        held: !ends,
        wake_at: (!ends).then_some(Timestamp::MAX),
        waits_on: None,
        folded_request: operation.folded_request,
        reason: operation.reason.clone(),
    };
    let now_at = Story { operation: operation.clone(), ..story.clone() };
    Append {
        session: entry.session,
        epoch: entry.epoch,
        operation: story.id,
        expected_seq: entry.seq - 1,
        body: stored.body.clone(),
        hash: stored.hash,
        now: entry.recorded_at,
        standing,
        begin: (entry.seq == 1).then(|| Box::new(begin)),
        claims: claims(&now_at),
        conditions: Conditions::default(),
        ends: ends.then_some(Ending { hold: None, refund: false }),
        outbox: Vec::new(),
        payloads: Vec::new(),
    }
}

fn new_alert(alert: &Alert) -> NewAlert {
    NewAlert {
        id: alert.id.clone(),
        base: alert.id.clone(),
        n: 1,
        fingerprint: alert.fingerprint.clone(),
        service: alert.service.clone(),
        alert_since: alert.alert_since,
        seen_at: Timestamp::EPOCH,
    }
}

/// Brings the inbox rows that a story's entry answers.
async fn bring(log: &MemoryLog, story: &Story, stored: &StoredEntry) {
    let actor = Actor("anna".into());
    for event in stored.read().unwrap().events {
        if let Event::AlertJoined { alert, .. } = &event {
            let (operation, content) = (story.id, Arc::clone(alert));
            log.join(Join { operation, alert: new_alert(alert), content, actor: actor.clone() })
                .await
                .unwrap();
        }
        if let Event::ResumedRollingBack { verdict } = event {
            let request = Request::Verdict { decision: verdict.decision, reason: verdict.reason };
            let (operation, key, at) = (story.id, "k".into(), Timestamp::EPOCH);
            log.post(Post { operation, key, request, actor: actor.clone(), at }).await.unwrap();
        }
    }
}

/// The log in memory, after every append, with a checkpoint here and there, and after archiving.
#[tokio::test]
async fn a_real_log_is_clean_at_every_point() {
    let log = MemoryLog::new(Arc::new(Still));
    log.open_session("test", std::time::Duration::from_secs(30)).await.unwrap();
    let with_key = Options { key: Some(b"key".to_vec()), expect: None };
    for story in [compensated(), resolved(), joined()] {
        for n in 1..=story.entries.len() {
            let operation = Operation::replay(&story.entries[..n], story.plan.clone()).unwrap();
            let stored = &story.entries[n - 1];
            bring(&log, &story, stored).await;
            log.append(append(&story, stored, &operation)).await.unwrap();
            if n == 2 {
                log.checkpoint(Timestamp::EPOCH, Some(b"key")).await.unwrap();
            }
            let report = verify(&log, &with_key).await.unwrap();
            assert!(report.is_clean(), "after entry {n} of {}: {report}", story.id);
        }
    }
    let ended = log.archivable(Timestamp::MAX, 10).await.unwrap();
    let removed: Vec<_> = ended.iter().map(|archived| (archived.head.id, archived.head.hash)).collect();
    assert_eq!(log.remove_archived(&removed).await.unwrap(), 1);
    let report = verify(&log, &with_key).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.archived_operations, report.checkpoints.signatures_right), (1, 3));
}

#[test]
fn a_summary_says_how_it_went_and_what_it_waits_for() {
    use redress_operation_log::summary::{Summary, path};
    let mut text = String::new();
    for story in [restored(), resolved(), joined()] {
        let entries: Vec<Entry> = story.entries.iter().map(|stored| stored.read().unwrap()).collect();
        let summary = Summary::new(&story.operation, &head(&story, 1), &[], path(&entries));
        let json = serde_json::to_value(&summary).unwrap();
        for field in ["state", "outcome", "waits", "verified", "alerts", "attempt", "ended_at"] {
            writeln!(text, "{field}: {}", json[field]).unwrap();
        }
        for step in &summary.steps {
            let (known_by, result) = (step.known_by, step.result);
            writeln!(text, "step {}: {} tries, {result:?} by {known_by:?}", step.step, step.tries).unwrap();
        }
    }
    expect![[r#"
        state: "restored"
        outcome: "success"
        waits: null
        verified: "verified by a check of the service itself"
        alerts: [{"count":1,"id":"alert-1","resolved_at":null,"title":"web is down"}]
        attempt: 1
        ended_at: "1970-01-01T00:00:08Z"
        step step-0: 1 tries, Some("succeeded") by Some(Probe)
        step step-1: 1 tries, Some("succeeded") by Some(Answer)
        state: "rolling_back"
        outcome: null
        waits: {"on":"the answer of step step-1","since":"1970-01-01T00:00:05Z","until":null}
        verified: null
        alerts: [{"count":1,"id":"alert-3","resolved_at":null,"title":"api is down"}]
        attempt: 1
        ended_at: null
        step step-0: 0 tries, Some("succeeded") by Some(Verdict)
        step step-1: 0 tries, None by None
        state: "blocked"
        outcome: null
        waits: {"on":"cooldown after the last operation on this target","since":"1970-01-01T00:00:02Z","until":"9999-12-30T22:00:00Z"}
        verified: null
        alerts: [{"count":1,"id":"alert-4","resolved_at":null,"title":"cache is down"},{"count":1,"id":"alert-4b","resolved_at":null,"title":"cache is down"}]
        attempt: 0
        ended_at: null
    "#]].assert_eq(&text);
}

#[tokio::test]
async fn payloads_are_compared_with_the_hashes_that_their_entry_names() {
    let payload = |bytes: &[u8]| Payload { salt: [7; 16], bytes: bytes.into() };
    let kept = [payload(b"first"), payload(b"second")];
    let mut story = Story::begin(1, "web", Some(plan(&[OnError::Abort], 0, 1)), vec![]);
    let mut entry = story.entry(vec![Event::DiagnosisStarted]);
    entry.payloads = kept.iter().map(Payload::hash).collect();
    let (body, hash) = entry.seal(&story.operation.hash).unwrap();
    story.operation = story.operation.with(&entry, hash).unwrap();
    story.now = entry.recorded_at;
    story.entries.push(StoredEntry { position: 0, operation: story.id, seq: 2, body, hash });
    let mut log = Kept::of(&[story]);
    let mut counts = async |payloads: &[(u64, &Payload)]| {
        log.payloads = payloads.iter().map(|(seq, payload)| (*seq, (*payload).clone())).collect();
        let report = verify(&log, &Options::default()).await.unwrap();
        assert!(report.findings.iter().all(|finding| finding.check == Check::Payloads), "{report}");
        (report.payloads, report.payloads_erased, report.found)
    };
    let [first, second] = &kept;
    let changed = payload(b"secon!");
    let salted = Payload { salt: [8; 16], ..second.clone() };
    assert_eq!(counts(&[(2, first), (2, second)]).await, (2, 0, 0));
    assert_eq!(counts(&[(2, second)]).await, (1, 1, 0), "erased");
    assert_eq!(counts(&[]).await, (0, 2, 0), "erased");
    for wrong in [(2, &changed), (2, &salted), (1, second)] {
        assert_eq!(counts(&[(2, first), wrong]).await, (1, 0, 1), "{wrong:?}");
    }
    assert_eq!(counts(&[(2, first), (2, second), (2, second)]).await, (2, 0, 1), "one too many");
    assert_eq!(counts(&[(2, first), (2, second), (3, &changed)]).await, (2, 0, 0), "written meanwhile");
}
