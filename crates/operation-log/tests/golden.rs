//! Stored formats stay readable: what stands in `golden/` was written once and must be read for ever, and is what
//! is written today. A format that is changed on purpose gets a new number and a new file beside the old one.
//!
//! `UPDATE_EXPECT=1 cargo test -p redress-operation-log --test golden` writes the files anew.

#![expect(clippy::unwrap_used, reason = "what cannot be read or written fails the test")]

use std::collections::BTreeSet;
use std::sync::Arc;

use expect_test::expect_file;
use redress_fsm::EventKind;
use redress_operation_log::conformance::fixture::{alert, operation_id, plan};
use redress_operation_log::event::{HoldReason, KnownBy, Owed, Saw, Verdict};
use redress_operation_log::{Actor, Checkpoint, Decision, Entry, Event, SessionId, StoredEntry, Sum};
use redress_strategy::StoredPlan;
use redress_types::{EffectKey, Epoch, Hash, Phase, Timestamp};
use serde::{Deserialize, Serialize};
use strum::IntoEnumIterator as _;

/// Stored bytes with the hash that they had: text, so that every byte shows.
#[derive(Serialize, Deserialize)]
struct Golden {
    hash: Hash,
    body: String,
}

fn pretty<T: Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000 + micros)
}

fn key() -> EffectKey {
    EffectKey { operation: operation_id(7), phase: Phase::Rollback, attempt: 1, step: 0 }
}

fn verdict(decision: Decision) -> Verdict {
    Verdict { request: 4, decision, by: ann(), reason: "looked at it".into() }
}

fn ann() -> Actor {
    Actor("person:ann".into())
}

/// One event of each kind, and of each form that a kind has.
fn events() -> Vec<Event> {
    let key = key();
    let mut full = alert("full");
    full.metric = Some("error_rate".into());
    (full.current, full.threshold) = (Some(0.25), Some(0.05));
    full.suggested_action = Some("roll back".into());
    full.title = "é \u{1f980} \"quoted\" \\ \n".into();
    let busy = HoldReason::TargetBusy { slot: "production/shop".into(), holder: operation_id(8) };
    vec![
        Event::Accepted {
            alert: Arc::new(full.clone()),
            target: full.target(),
            strategy: Some("restore".into()),
            plan: Some(plan("restore").hash),
            sameness: Some("same".into()),
        },
        Event::Accepted {
            alert: Arc::new(alert("bare")),
            target: alert("bare").target(),
            strategy: None,
            plan: None,
            sameness: None,
        },
        Event::AlertJoined { request: 1, alert: Arc::new(alert("second")) },
        Event::AlertResolved { request: 2, alert: alert("second").id, ends_at: at(-1) },
        Event::Held { reason: HoldReason::Cooldown { key: "restore production/shop".into() }, until: at(9) },
        Event::Held { reason: busy, until: at(9) },
        Event::Held { reason: HoldReason::Budget { key: "restore".into(), most: 3 }, until: at(9) },
        Event::Held { reason: HoldReason::Paused { switch: "engine".into() }, until: at(9) },
        Event::Released,
        Event::DiagnosisStarted,
        Event::Diagnosed { cause: "deploy".into(), confidence: 0.75 },
        Event::ApprovalRequested { expires_at: at(9) },
        Event::ApprovalGiven { by: ann() },
        Event::Rejected { by: ann(), reason: "not now".into() },
        Event::ApprovalExpired,
        Event::Admitted { attempt: 1 },
        Event::Skipped { reason: "not true any more".into() },
        Event::WaitingLimitReached,
        Event::CancelRequested { request: 3, by: ann(), reason: "enough".into() },
        Event::Cancelled { reason: "enough".into() },
        Event::Paused { switch: "engine".into() },
        Event::Unpaused,
        Event::DeadlinePassed,
        Event::RequestRefused { request: 3, reason: "it is over".into() },
        Event::StepStarted { key, step: "roll back".into() },
        Event::StepResumed { key, request: None },
        Event::StepResumed { key, request: Some(4) },
        Event::TryFailed { key, try_number: 1, error: "503".into(), unknown: true, next_at: at(9) },
        Event::StepSucceeded { key, output: "done".into(), known_by: KnownBy::Probe, took_ms: 12 },
        Event::StepFailed { key, error: "404".into(), known_by: KnownBy::Answer, took_ms: 12 },
        Event::StepWithdrawn { key, reason: "paused".into() },
        Event::StepAbandoned { key },
        Event::StepNotRun { step: 1 },
        Event::VerificationStarted,
        Event::ChecksObserved { saw: Saw::Inconclusive, detail: "no answer".into() },
        Event::VerificationPassed { passes: 2, held_ms: 30_000, independent: true, detail: "200".into() },
        Event::NextAttemptStarted { attempt: 2 },
        Event::CompensationStarted { owes: Owed::TimedOut, reason: "the deadline passed".into() },
        Event::CompensatedToFailed,
        Event::CompensatedToTimedOut,
        Event::CompensatedToCancelled,
        Event::Failed { reason: "404".into() },
        Event::TimedOut,
        Event::Suspended { reason: "nobody knows".into() },
        Event::ResumedRollingBack { verdict: verdict(Decision::Happened) },
        Event::ResumedVerifying { verdict: verdict(Decision::GoOn) },
        Event::ResumedCompensating { verdict: verdict(Decision::DidNotHappen) },
        Event::GivenUp { verdict: verdict(Decision::GiveUp) },
    ]
}

/// An entry for each of [`events`]. Format and table are those that the files were written with.
fn entries() -> Vec<Entry> {
    let entry = |(seq, event): (u64, Event)| Entry {
        format: 1,
        table: 1,
        operation: operation_id(7),
        seq,
        recorded_at: at(i64::try_from(seq).unwrap()),
        actor: Actor::engine("golden"),
        session: SessionId(3),
        epoch: Epoch(2),
        payloads: if seq == 1 { vec![Hash::of(&[b"salt", b"payload"])] } else { vec![] },
        events: vec![event],
    };
    (1..).zip(events()).map(entry).collect()
}

fn checkpoints() -> Vec<Checkpoint> {
    let sum = |session, entries| Sum {
        session: SessionId(session),
        entries,
        operations: 1,
        digest: Hash::of(&[&entries.to_be_bytes()]),
    };
    let first = Checkpoint::seal(None, 3, &[sum(1, 3)], at(1), None);
    let second = Checkpoint::seal(Some(&first), 9, &[sum(1, 3), sum(2, 5)], at(2), Some(b"key"));
    vec![first, second]
}

#[test]
fn every_kind_of_event_has_a_golden_entry() {
    let kinds: BTreeSet<String> = events().iter().map(|event| event.kind().to_string()).collect();
    let all: BTreeSet<String> = EventKind::iter().map(|kind| kind.to_string()).collect();
    assert_eq!(kinds, all);
}

#[test]
fn entries_are_written_as_ever() {
    let mut previous = Hash::ZERO;
    let mut written = Vec::new();
    for entry in entries() {
        let (body, hash) = entry.seal(&previous).unwrap();
        written.push(Golden { hash, body: String::from_utf8(body.to_vec()).unwrap() });
        previous = hash;
    }
    expect_file!["golden/entries.json"].assert_eq(&pretty(&written));
}

#[test]
fn entries_are_read_as_ever() {
    let golden: Vec<Golden> = serde_json::from_str(include_str!("golden/entries.json")).unwrap();
    assert_eq!(golden.len(), entries().len());
    let mut previous = Hash::ZERO;
    for (golden, expected) in golden.iter().zip(entries()) {
        let (operation, seq, body) = (expected.operation, expected.seq, golden.body.as_bytes().into());
        let stored = StoredEntry { position: seq, operation, seq, body, hash: golden.hash };
        let entry = stored.read().unwrap();
        assert_eq!(entry, expected);
        let (body, hash) = entry.seal(&previous).unwrap();
        assert_eq!((&*body, hash), (golden.body.as_bytes(), golden.hash), "entry {seq}");
        previous = hash;
    }
}

#[test]
fn plans_are_written_as_ever() {
    let plan = plan("restore");
    let golden = Golden { hash: plan.hash, body: String::from_utf8(plan.bytes.to_vec()).unwrap() };
    expect_file!["golden/plan.json"].assert_eq(&pretty(&golden));
}

#[test]
fn plans_are_read_as_ever() {
    let golden: Golden = serde_json::from_str(include_str!("golden/plan.json")).unwrap();
    let read = StoredPlan::read(golden.body.as_bytes().into()).unwrap();
    assert_eq!(read, *plan("restore"));
    let again = StoredPlan::freeze(read.plan).unwrap();
    assert_eq!((&*again.bytes, again.hash), (golden.body.as_bytes(), golden.hash));
}

#[test]
fn checkpoints_are_written_as_ever() {
    expect_file!["golden/checkpoints.json"].assert_eq(&pretty(&checkpoints()));
}

#[test]
fn checkpoints_are_read_as_ever() {
    let golden: Vec<Checkpoint> = serde_json::from_str(include_str!("golden/checkpoints.json")).unwrap();
    assert_eq!(golden, checkpoints());
    for point in &golden {
        assert_eq!(redress_operation_log::verify::checkpoint::hash(point), point.hash);
    }
    let signed = &golden[1];
    let tag = signed.signature.unwrap();
    assert!(redress_operation_log::verify::checkpoint::is_signed(b"key", &signed.hash, &tag));
}
