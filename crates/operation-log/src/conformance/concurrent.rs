//! Many callers at once: each learns its own outcome.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::case::Case;
use super::fixture::Writer;
use crate::entry::Versions;
use crate::error::Error;
use crate::log::OperationLog;
use crate::record::{Append, Claim, ClaimRequest, Recorded};

/// How many callers there are.
const MANY: u64 = 64;

type Answer = Result<Recorded, Error>;

fn send(log: &Arc<dyn OperationLog>, append: Append) -> JoinHandle<Answer> {
    let log = Arc::clone(log);
    tokio::spawn(async move { log.append(append.into()).await })
}

async fn answers(case: &Case<'_>, appends: Vec<Append>) -> Vec<Answer> {
    let tasks: Vec<_> = appends.into_iter().map(|append| send(&case.log, append)).collect();
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        match task.await {
            Ok(answer) => answers.push(answer),
            Err(error) => case.broken(&format!("an append panicked: {error}")),
        }
    }
    answers
}

pub(super) async fn race(case: &mut Case<'_>) {
    let session = case.session().await;
    for claim in [Claim::Fingerprint("x".into()), Claim::Sameness("x".into()), Claim::Slot("x".into())] {
        let writers: Vec<Writer> = (0..8).map(|_| case.writer(session)).collect();
        let now = case.now();
        let begins = writers.iter().map(|writer| {
            let mut begin = writer.begin(now, vec![]);
            begin.claims = vec![claim.clone()];
            begin
        });
        let answers = answers(case, begins.collect()).await;
        let won: Vec<_> = writers.iter().zip(&answers).filter(|(_, answer)| answer.is_ok()).collect();
        case.same(won.len(), 1, "how many won");
        let winner = won[0].0.id;
        for answer in &answers {
            let told = match answer {
                Ok(_) => true,
                Err(Error::Lost { claim: what, holder }) => *what == claim && *holder == winner,
                Err(_) => false,
            };
            case.that(told, &format!("whoever lost is told the winner: {answer:?}"));
        }
        let held: Vec<_> = case.whole().await.claims;
        case.that(held.contains(&(claim.clone(), winner)), "the winner has it");
    }
    case.same(case.whole().await.heads.len(), 3, "operations that began");
}

pub(super) async fn own_outcome(case: &mut Case<'_>) {
    let session = case.session().await;
    let mut known = case.begun(session).await;
    let writers: Vec<Writer> = (0..MANY).map(|_| case.writer(session)).collect();
    let now = case.now();
    let mut appends: Vec<Append> = writers.iter().map(|writer| writer.begin(now, vec![])).collect();
    // One whose text cannot be stored everywhere, one at the wrong place, one of a session that is over.
    if let Some(begin) = &mut appends[7].begin {
        begin.title = "NUL \0 in it".into();
    }
    let misplaced = Append { expected_seq: 9, ..known.skip(now) };
    appends[20] = misplaced;
    appends[33].session = crate::SessionId(session.0 + 500);
    let answers = answers(case, appends).await;
    let mut positions = HashSet::new();
    for (number, (answer, writer)) in answers.iter().zip(&writers).enumerate() {
        let fits = match (number, answer) {
            (20, Err(Error::Conflict { .. })) | (33, Err(Error::Stale { .. })) => true,
            (7, Err(Error::Unstorable { .. })) => true,
            (20 | 33, _) => false,
            (_, Ok(recorded)) => !recorded.before && positions.insert(recorded.position),
            (_, Err(_)) => false,
        };
        case.that(fits, &format!("caller {number} learns its own outcome: {answer:?}"));
        let there = case.ok(case.log.operation(writer.id).await, "a head is read").is_some();
        case.same(there, answer.is_ok(), "what was answered is what is there");
    }
    let ending = known.skip(now);
    case.record(&mut known, ending).await;
}

pub(super) async fn twice(case: &mut Case<'_>) {
    let session = case.session().await;
    let writers: Vec<Writer> = (0..MANY / 2).map(|_| case.writer(session)).collect();
    let now = case.now();
    let begins = writers.iter().flat_map(|writer| [writer.begin(now, vec![]), writer.begin(now, vec![])]);
    let answers = answers(case, begins.collect()).await;
    for pair in answers.chunks(2) {
        let both: Vec<_> = pair.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        case.same(both.len(), 2, "both are answered");
        case.same(both[0].position, both[1].position, "the same position");
        case.that(both[0].before != both[1].before, "one is new, one stood there before");
    }
    case.same(case.whole().await.entries.len(), writers.len(), "entries");
}

pub(super) async fn claims(case: &mut Case<'_>) {
    let first = case.session().await;
    let mut sessions = vec![first];
    if case.has_several_engines() {
        sessions.push(case.session().await);
    } else {
        return;
    }
    let wake_at = Some(case.now());
    for _ in 0..MANY {
        case.waiting(first, wake_at).await;
    }
    let (now, due) = (case.now(), case.later(600));
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let (log, session) = (Arc::clone(&case.log), sessions[number % 2]);
            let request = ClaimRequest {
                session,
                now,
                limit: 5,
                unable: vec![],
                driven: vec![],
                reads: Versions::CURRENT,
                due,
            };
            tokio::spawn(async move { log.claim(request).await })
        })
        .collect();
    let mut seen = HashSet::new();
    for task in tasks {
        let Ok(answer) = task.await else { case.broken("claiming panicked") };
        for claimed in case.ok(answer, "claiming works") {
            case.that(seen.insert(claimed.operation), "nothing is claimed twice");
        }
    }
    case.same(seen.len() as u64, MANY, "operations claimed");
}
