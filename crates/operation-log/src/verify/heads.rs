//! Head rows and claims against the fold.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use redress_types::OperationId;

use super::chain::{Chain, Chains, Live};
use super::report::{Check, Finding, Findings};
use crate::error::Error;
use crate::log::OperationHistory;
use crate::record::{Audit, Claim, Head, Request};

/// How a head differs from the fold, its place in the chain apart; the first thing, in words.
pub(super) fn difference(head: &Head, live: &Live) -> Option<String> {
    let fold = &live.operation;
    let plan = fold.plan.as_ref().map(|plan| plan.hash);
    // While it runs, a log may say for people what else it waits for; how it ended is the fold's word.
    let reason = if fold.state.is_ended() { &fold.reason } else { &head.reason };
    differs("state", &head.state, &fold.state)
        // A claim raises the head's epoch before the next entry shows it.
        .or_else(|| differs("epoch", &head.epoch.0, &head.epoch.max(fold.epoch).0))
        .or_else(|| differs("format", &head.versions.format, &live.versions.format))
        .or_else(|| differs("table", &head.versions.table, &live.versions.table))
        .or_else(|| differs("last folded request", &head.folded_request, &fold.folded_request))
        .or_else(|| differs("last request", &head.inbox, &head.inbox.max(fold.folded_request)))
        .or_else(|| differs("position", &head.position, &live.position))
        .or_else(|| differs("accepted_at", &head.accepted_at, &fold.accepted_at))
        .or_else(|| differs("updated_at", &head.updated_at, &fold.updated_at))
        .or_else(|| differs("ended_at", &Shown(&head.ended_at), &Shown(&fold.ended_at)))
        .or_else(|| differs("plan", &Shown(&head.plan), &Shown(&plan)))
        .or_else(|| differs("strategy", &Shown(&head.strategy), &Shown(&fold.strategy)))
        .or_else(|| differs("target", &head.target, &fold.target))
        .or_else(|| differs("fingerprint", &head.fingerprint, &fold.alert.fingerprint))
        .or_else(|| differs("level", &head.level, &fold.alert.level))
        .or_else(|| differs("title", &head.title, &fold.alert.title))
        .or_else(|| differs("reason", &Shown(&head.reason), &Shown(reason)))
}

fn differs<T: PartialEq + fmt::Display>(what: &str, found: &T, expected: &T) -> Option<String> {
    (found != expected).then(|| format!("the head's {what} is {found}, the entries say {expected}"))
}

/// A value that may be missing, for people.
#[derive(PartialEq)]
struct Shown<'a, T>(&'a Option<T>);

impl<T: fmt::Display> fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// Compares every head with the end of its chain, and finds the chains that have none.
pub(super) fn compare(audit: &Audit, chains: &Chains<'_>, findings: &mut Findings) {
    for head in &audit.heads {
        let what = match chains.get(head.id) {
            None => Some("the head has no entries: the operation was removed".to_owned()),
            Some(Chain::Broken) => None,
            Some(Chain::Ended { seq, hash, differs }) => {
                place(head, *seq, hash).or_else(|| differs.as_deref().map(str::to_owned))
            }
            Some(Chain::Live(live)) => {
                let fold = &live.operation;
                place(head, fold.seq, &fold.hash).or_else(|| difference(head, live))
            }
        };
        if let Some(what) = what {
            findings.add(Finding::new(Check::Head, what).of(head.id));
        }
    }
    let known: HashSet<OperationId> = audit.heads.iter().map(|head| head.id).collect();
    let mut without: Vec<OperationId> = chains.ids().filter(|id| !known.contains(id)).collect();
    without.sort_unstable();
    for id in without {
        findings.add(Finding::new(Check::Head, "its entries have no head").of(id));
    }
}

/// Where the head says that the chain ends, and where it does.
fn place(head: &Head, seq: u64, hash: &redress_types::Hash) -> Option<String> {
    let at = head.seq;
    if at > seq {
        return Some(format!("the head stands at entry {at}, the entries end at {seq}: the tail was cut"));
    }
    if at < seq {
        return Some(format!("the head stands at entry {at}, the entries go on to {seq}"));
    }
    (head.hash != *hash).then(|| format!("the head's hash is {}, that of entry {seq} is {hash}", head.hash))
}

/// Compares the claims with what the operations that have not ended must have: each counted fingerprint, the
/// sameness, the slot while acting. Answers how many were compared.
pub(super) async fn compare_claims(
    history: &dyn OperationHistory,
    audit: &Audit,
    chains: &Chains<'_>,
    findings: &mut Findings,
) -> Result<u64, Error> {
    let mut expected: BTreeMap<Claim, OperationId> = BTreeMap::new();
    for head in &audit.heads {
        let Some(Chain::Live(live)) = chains.get(head.id) else { continue };
        for claim in claims_of(history, head, live).await? {
            if let Some(other) = expected.insert(claim.clone(), head.id).filter(|other| *other != head.id) {
                let what = format!("{claim} is due to operation {other} too");
                findings.add(Finding::new(Check::Claims, what).of(head.id));
            }
        }
    }
    let compared = expected.len().max(audit.claims.len()) as u64;
    let mut claims: Vec<&(Claim, OperationId)> = audit.claims.iter().collect();
    claims.sort_unstable();
    for (claim, holder) in claims {
        let due = expected.remove(claim);
        // What a broken chain may claim is not known.
        if due == Some(*holder) || matches!(chains.get(*holder), Some(Chain::Broken)) {
            continue;
        }
        let what = match due {
            Some(due) => format!("has {claim}, which belongs to operation {due}"),
            None => format!("has {claim}, which it must not have"),
        };
        findings.add(Finding::new(Check::Claims, what).of(*holder));
    }
    for (claim, id) in expected {
        findings.add(Finding::new(Check::Claims, format!("{claim} is missing")).of(id));
    }
    Ok(compared)
}

async fn claims_of(history: &dyn OperationHistory, head: &Head, live: &Live) -> Result<Vec<Claim>, Error> {
    let operation = &live.operation;
    let fingerprint = |alert: &redress_types::Alert| Claim::Fingerprint(alert.fingerprint.to_string());
    let mut claims: Vec<Claim> = operation.alerts.iter().map(|counted| fingerprint(&counted.alert)).collect();
    if head.inbox > operation.folded_request {
        // An alert that joins has its claim before the holder folds it.
        for row in history.inbox(head.id, operation.folded_request).await? {
            if let Request::Join { alert } = &row.request
                && row.seq <= head.inbox
            {
                claims.push(fingerprint(alert));
            }
        }
    }
    claims.extend(operation.sameness.clone().map(Claim::Sameness));
    if operation.state.is_acting() {
        let narrowed =
            operation.plan.as_ref().map(|plan| plan.plan.slot(&operation.target, &operation.alert));
        claims.push(Claim::Slot(narrowed.unwrap_or_else(|| operation.target.to_string())));
    }
    Ok(claims)
}
