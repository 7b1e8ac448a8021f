//! Late results, the way out for what has ended, checkpoints, and a log that is opened again.

use redress_types::{Epoch, Hash};

use super::appends::owe;
use super::case::{Case, fails};
use super::fixture::{Writer, new_alert, operation_id, outbox_request, seconds};
use crate::error::Error;
use crate::event::{Actor, Event};
use crate::record::{
    Claim, Join, LateResult, OutboxDecision, OutboxOutcome, OutboxSettled, OutboxVerdict, Outcome, Payload,
    Repeat, Switch,
};
use crate::session::SessionId;
use crate::verify::checkpoint::is_signed;

fn result(case: &Case<'_>, writer: &Writer, said: &str) -> LateResult {
    let (key, at, said) = (writer.key(0), case.now(), said.to_owned());
    LateResult { key, epoch: Epoch(1), at, said, reason: "the epoch is over".into() }
}

pub(super) async fn late(case: &mut Case<'_>) {
    let session = case.session().await;
    let (writer, other) = (case.begun(session).await, case.begun(session).await);
    let results = [result(case, &writer, "it failed"), result(case, &writer, "done")];
    for late in results.iter().chain([&results[0]]) {
        case.ok(case.log.keep_late(late.clone()).await, "a late result is kept");
    }
    let found = case.ok(case.log.late_results(writer.id).await, "late results are read");
    case.same(found, results.to_vec(), "its late results, in the order they came, each once");
    let found = case.ok(case.log.late_results(other.id).await, "late results are read");
    case.same(found, vec![], "those of another operation");
    case.same(case.head(writer.id).await.seq, 1, "its entries");
}

pub(super) async fn payloads(case: &mut Case<'_>) {
    let session = case.session().await;
    let payload = |n: u8| Payload { salt: [n; 16], bytes: vec![n, 0, 255].into() };
    let (mut writer, other) = (case.begun(session).await, case.begun(session).await);
    let mut next = writer.next(case.now(), vec![Event::DiagnosisStarted]);
    next.payloads = vec![payload(2), payload(1)];
    case.record(&mut writer, next).await;
    let found = async |case: &Case<'_>| case.ok(case.log.payloads(writer.id).await, "payloads are read");
    let both = vec![(2, payload(2)), (2, payload(1))];
    case.same(found(case).await, both.clone(), "its payloads, by entry, in the order given");
    case.same(case.ok(case.log.payloads(other.id).await, "payloads are read"), vec![], "those of another");
    fails!(case, case.log.erase_payloads(writer.id), Error::Unstorable { .. });
    case.same(found(case).await, both, "its payloads while it has not ended");
    fails!(case, case.log.erase_payloads(operation_id(999)), Error::NotFound(_));
    let mut ending = writer.skip(case.now());
    ending.payloads = vec![payload(3)];
    let mut ended = writer.clone();
    case.record(&mut ended, ending).await;
    let before = case.whole().await;
    for erased in [3, 0] {
        let answer = case.ok(case.log.erase_payloads(writer.id).await, "payloads are erased");
        case.same(answer, erased, "how many were erased");
        case.same(found(case).await, vec![], "its payloads after that");
    }
    case.same(&case.whole().await, &before, "everything else");
}

async fn ended(case: &mut Case<'_>, session: SessionId) -> Writer {
    let mut writer = case.begun(session).await;
    let ending = writer.skip(case.now());
    case.record(&mut writer, ending).await;
    writer
}

pub(super) async fn remove(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut first = case.begun(session).await;
    let content = std::sync::Arc::new(super::fixture::alert("joined"));
    let alert = new_alert(&content, case.now());
    let join = Join { operation: first.id, alert, content: content.clone(), actor: Actor("source".into()) };
    case.ok(case.log.join(join).await, "an alert joins");
    let mut ending = first.next(
        case.now(),
        vec![crate::Event::AlertJoined { request: 1, alert: content }, super::fixture::skipped()],
    );
    ending.outbox = vec![owe("issue")];
    case.record(&mut first, ending.clone()).await;
    case.pass(5);
    let second = ended(case, session).await;
    case.begun(session).await;
    deliver(case, session).await;

    let at = case.now();
    let found = case.ok(case.log.archivable(at, 9).await, "what may be archived is read");
    case.same(found.iter().map(|one| one.head.id).collect::<Vec<_>>(), vec![first.id], "what ended before");
    case.pass(5);
    let found = case.ok(case.log.archivable(case.now(), 9).await, "what may be archived is read");
    let ids: Vec<_> = found.iter().map(|one| one.head.id).collect();
    case.same(ids, vec![first.id, second.id], "what ended, oldest first");
    let limited = case.ok(case.log.archivable(case.now(), 1).await, "what may be archived is read");
    case.same(limited, found[..1].to_vec(), "at most one");
    let entries = case.ok(case.log.entries(first.id, 0, 9).await, "entries are read");
    case.same((&found[0].entries, &found[0].plan), (&entries, &first.plan), "its entries and its plan");

    let before = case.ok(case.log.checkpoint(case.now(), None).await, "a checkpoint is written");
    let gone = [(first.id, ending.hash)];
    let removed = case.ok(case.log.remove_archived(&gone).await, "it is removed");
    case.same(removed, 1, "how many were removed");
    let removed = case.ok(case.log.remove_archived(&gone).await, "removing again is answered");
    case.same(removed, 0, "how many were removed the second time");
    gone_but_for_its_ids(case, &first, &ending).await;

    let whole = case.whole().await;
    let mut digest = Hash::ZERO;
    entries.iter().for_each(|entry| digest.combine(&entry.hash));
    let sum = (whole.archived.entries, whole.archived.operations, whole.archived.digest);
    case.same(sum, (2, 1, digest), "the sum of what was archived");
    let all: u64 = whole.sums.iter().map(|sum| sum.entries).sum();
    case.same(all, whole.entries.len() as u64 + 2, "the sessions' sums still count what they appended");
    let after = case.ok(case.log.checkpoint(case.now(), None).await, "a checkpoint is written");
    let says = |point: &crate::Checkpoint| (point.entries, point.operations, point.digest);
    case.same(says(&after), says(&before), "a checkpoint covers what was archived");
}

/// Delivers everything that is owed.
async fn deliver(case: &Case<'_>, session: SessionId) {
    let now = case.now();
    let request = outbox_request(session, now, now.plus(seconds(9)), 99);
    let rows = case.ok(case.log.outbox_due(request).await, "rows are given");
    for row in rows {
        let (position, index, how) = (row.position, row.index, OutboxOutcome::Done);
        let settled = OutboxSettled { position, index, at: now, how };
        case.ok(case.log.outbox_settle(session, settled).await, "an outcome is kept");
    }
}

async fn gone_but_for_its_ids(case: &mut Case<'_>, writer: &Writer, ending: &crate::Append) {
    case.same(case.ok(case.log.operation(writer.id).await, "a head is read"), None, "its head");
    case.same(case.ok(case.log.entries(writer.id, 0, 9).await, "entries are read"), vec![], "its entries");
    case.same(case.ok(case.log.outbox_of(writer.id).await, "an outbox is read"), vec![], "its outbox");
    case.same(case.ok(case.log.inbox(writer.id, 0).await, "an inbox is read"), vec![], "its inbox");
    let followed = case.ok(case.log.follow(0, 999).await, "entries are followed");
    case.that(followed.iter().all(|entry| entry.operation != writer.id), "nobody sees its entries any more");
    case.same(case.whole().await.orphans, vec![], "its alert ids are not orphans");
    let outcome = Outcome { state: ending.standing.state, ended_at: ending.now, hash: ending.hash };
    for id in [writer.alert.id.clone(), super::fixture::alert_id("joined")] {
        let record = case.ok(case.log.alert(&id).await, "an alert record is read");
        let found = record.map(|record| (record.operation, record.outcome));
        case.same(found, Some((writer.id, Some(outcome.clone()))), "what stays of an alert id");
        let repeat = Repeat { id, at: case.now(), conflict: false };
        let record = case.ok(case.log.repeat(repeat).await, "a redelivery is counted for ever");
        case.that(record.count == 2 && record.outcome.is_some(), "its count and its outcome");
    }
    let mut again = case.writer(writer.session);
    again.alert.id = writer.alert.id.clone();
    let begin = again.begin(case.now(), vec![]);
    super::case::refused!(case, begin, Error::KnownAlert(_));
}

pub(super) async fn still_owing(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut writer = case.begun(session).await;
    let mut ending = writer.skip(case.now());
    ending.outbox = vec![owe("issue")];
    case.record(&mut writer, ending.clone()).await;
    case.pass(5);
    let kept = async |case: &Case<'_>, what: &str| {
        let found = case.ok(case.log.archivable(case.now(), 9).await, "what may be archived is read");
        case.same(found, vec![], what);
        let removed = case.log.remove_archived(&[(writer.id, ending.hash)]).await;
        case.same(case.ok(removed, "removing is answered"), 0, what);
    };
    kept(case, "what owes a delivery stays").await;
    let request = outbox_request(session, case.now(), case.later(9), 9);
    let rows = case.ok(case.log.outbox_due(request).await, "rows are given");
    let (position, index, at) = (rows[0].position, rows[0].index, case.now());
    let how = OutboxOutcome::Handed { error: "it says 400".into() };
    let settled = OutboxSettled { position, index, at, how };
    case.ok(case.log.outbox_settle(session, settled).await, "an outcome is kept");
    kept(case, "what waits for a person stays").await;
    let (by, reason, what) = (Actor("person:ann".into()), "by hand".into(), OutboxVerdict::Close);
    let decision = OutboxDecision { position, index, at, by, reason, what };
    case.ok(case.log.outbox_decide(decision).await, "a decision is carried out");
    let removed = case.log.remove_archived(&[(writer.id, ending.hash)]).await;
    case.same(case.ok(removed, "it is removed"), 1, "what owes nothing any more goes");
    let status = case.ok(case.log.status().await, "the status is read");
    case.same((status.owed, status.handed, status.owed_since), (0, 0, None), "nothing is owed");
    case.that(status.position >= position, "positions that were given out");
}

pub(super) async fn not_removed(case: &mut Case<'_>) {
    let session = case.session().await;
    let open = case.begun(session).await;
    let over = ended(case, session).await;
    let hash = |writer: &Writer| writer.operation.as_ref().map_or(Hash::ZERO, |operation| operation.hash);
    let before = case.whole().await;
    let wrong = [
        (open.id, hash(&open)),
        (over.id, Hash::of(&[b"another"])),
        (super::fixture::operation_id(999), hash(&over)),
    ];
    let removed = case.ok(case.log.remove_archived(&wrong).await, "removing is answered");
    case.same(removed, 0, "how many were removed");
    case.same(&case.whole().await, &before, "nothing was removed");
    let removed = case.ok(case.log.remove_archived(&[(over.id, hash(&over))]).await, "it is removed");
    case.same(removed, 1, "how many were removed");
}

pub(super) async fn checkpoints(case: &mut Case<'_>) {
    let session = case.session().await;
    let empty = case.ok(case.log.checkpoint(case.now(), None).await, "a checkpoint is written");
    case.same((empty.number, empty.entries, empty.operations), (1, 0, 0), "the first, over nothing");
    case.same((empty.previous, empty.digest, empty.signature), (Hash::ZERO, Hash::ZERO, None), "the first");
    let mut writer = case.begun(session).await;
    let next = writer.next(case.now(), writer.admitted());
    let recorded = case.record(&mut writer, next).await;
    case.pass(1);
    let signed = case.ok(case.log.checkpoint(case.now(), Some(b"key")).await, "a checkpoint is written");
    case.same((signed.number, signed.entries, signed.operations), (2, 2, 1), "the second");
    case.same((signed.previous, signed.at), (empty.hash, case.now()), "it follows the first");
    case.that(signed.position >= recorded.position, "it covers every position");
    let mut digest = Hash::ZERO;
    case.whole().await.entries.iter().for_each(|entry| digest.combine(&entry.hash));
    case.same(signed.digest, digest, "its digest");
    for point in [&empty, &signed] {
        case.same(point.hash, crate::verify::checkpoint::hash(point), "its hash");
    }
    let by = |key: &[u8]| signed.signature.is_some_and(|tag| is_signed(key, &signed.hash, &tag));
    case.that(by(b"key") && !by(b"another"), "it is signed with the key");
    let kept = case.ok(case.log.audit().await, "the log is read").checkpoints;
    case.same(kept, vec![empty, signed], "the checkpoints, in order");
}

pub(super) async fn reopened(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut writer = case.writer(session);
    let mut begin = writer.begin(case.now(), vec![]);
    begin.claims = vec![Claim::Slot("t".into()), Claim::Fingerprint("f".into())];
    begin.conditions.budgets = vec![super::appends::budget(1)];
    begin.outbox = vec![owe("issue")];
    case.record(&mut writer, begin.clone()).await;
    let mut over = case.begun(session).await;
    let mut ending = over.skip(case.now());
    ending.ends = Some(crate::record::Ending { hold: Some(("h".into(), case.later(900))), refund: false });
    case.record(&mut over, ending).await;
    let content = std::sync::Arc::new(super::fixture::alert("joined"));
    let alert = new_alert(&content, case.now());
    let join = Join { operation: writer.id, alert, content, actor: Actor("source".into()) };
    case.ok(case.log.join(join).await, "an alert joins");
    case.ok(case.log.keep_late(result(case, &writer, "done")).await, "a late result is kept");
    let (by, since) = (Actor("person:ann".into()), case.now());
    let off = Switch { key: "engine".into(), by, reason: "quiet".into(), since, until: None };
    case.ok(case.log.set_switch("engine", Some(off)).await, "a switch is turned off");
    let point = case.ok(case.log.checkpoint(case.now(), Some(b"key")).await, "a checkpoint is written");
    let before = case.whole().await;
    if !case.reopen().await {
        return;
    }
    case.same(&case.whole().await, &before, "everything that could be read");
    let kept = case.ok(case.log.audit().await, "the log is read").checkpoints;
    case.same(kept, vec![point], "its checkpoints");
    let again = case.ok(case.log.append(begin.into()).await, "the same append again is answered");
    case.that(again.before, "it stood there already");
    let next = case.session().await;
    case.that(next > session, "session ids grow");
    case.same(case.claimed(next).await, vec![writer.id], "the next holder takes over at once");
    let mut fresh = Writer::new(next, 77, "fresh");
    let mut begin = fresh.begin(case.now(), vec![]);
    begin.conditions.holds = vec!["h".into()];
    super::case::refused!(case, begin.clone(), Error::NotNow { .. });
    begin.conditions.holds.clear();
    begin.conditions.budgets = vec![super::appends::budget(1)];
    super::case::refused!(case, begin.clone(), Error::NotNow { .. });
    begin.conditions.budgets.clear();
    let recorded = case.record(&mut fresh, begin).await;
    let highest = before.entries.last().map_or(0, |entry| entry.position);
    case.that(recorded.position > highest, "positions grow over the years");
}
