//! The parameters of the one statement, in arrays: `crate::sql` says which is which.

use redress_operation_log::{Append, Begin};

use crate::fast::claim;
use crate::holding::version;
use crate::shared::Query;
use crate::values::{Bytes, Uid, int, maybe, text, words};

type Texts = Vec<Option<String>>;

/// What every append brings, by its number.
#[derive(Default)]
pub(crate) struct Appends {
    /// The numbers of those that follow an earlier one.
    follows: Vec<i32>,
    id: Vec<Uid>,
    epoch: Vec<i64>,
    hashes: Vec<u8>,
    words: Vec<i64>,
    body: Vec<Bytes>,
    state: Vec<&'static str>,
    at: Vec<i64>,
    wake_at: Vec<Option<i64>>,
    held_until: Vec<Option<i64>>,
    held: Vec<bool>,
    reason: Texts,
    format: Vec<i16>,
    machine: Vec<i16>,
    expected: Vec<i64>,
    folded: Vec<i64>,
}

impl Appends {
    pub(crate) fn push(&mut self, n: i32, append: &Append) {
        let standing = &append.standing;
        let held = standing.held && append.ends.is_none();
        let at = standing.wake_at.filter(|_| append.ends.is_none()).map(|at| at.as_micros());
        if append.begin.is_none() {
            self.follows.push(n);
        }
        self.id.push(Uid(append.operation));
        self.epoch.push(int(append.epoch.0));
        self.hashes.extend_from_slice(&append.hash.0);
        self.words.extend(words(&append.hash));
        self.body.push(Bytes(append.body.clone()));
        self.state.push(standing.state.into());
        self.at.push(append.now.as_micros());
        self.wake_at.push(at.filter(|_| !held));
        self.held_until.push(at.filter(|_| held));
        self.held.push(held);
        self.reason.push(maybe(standing.reason.as_deref()).map(Into::into));
        self.format.push(version(append.versions.format));
        self.machine.push(version(append.versions.table));
        self.expected.push(int(append.expected_seq));
        self.folded.push(int(standing.folded_request));
    }

    /// Whether any of them follows an earlier one.
    pub(crate) fn follow(&self) -> bool {
        !self.follows.is_empty()
    }

    /// 16 parameters.
    pub(crate) fn bind(self, query: Query<'_>) -> Query<'_> {
        query
            .bind(self.follows)
            .bind(self.id)
            .bind(self.epoch)
            .bind(self.hashes)
            .bind(self.words)
            .bind(self.body)
            .bind(self.state)
            .bind(self.at)
            .bind(self.wake_at)
            .bind(self.held_until)
            .bind(self.held)
            .bind(self.reason)
            .bind(self.format)
            .bind(self.machine)
            .bind(self.expected)
            .bind(self.folded)
    }
}

/// What an append takes and frees, by its number.
#[derive(Default)]
pub(crate) struct Rights {
    fingerprint: Texts,
    sameness: Texts,
    slot: Texts,
    ends: Vec<bool>,
    hold: Texts,
    next_allowed_at: Vec<Option<i64>>,
    refund: Vec<bool>,
    takes: bool,
    frees: bool,
}

impl Rights {
    pub(crate) fn push(&mut self, append: &Append) {
        let owned = |kind| claim(append, kind).map(Into::into);
        let ending = append.ends.as_ref();
        let hold = ending.and_then(|ending| ending.hold.as_ref());
        self.fingerprint.push(owned("fingerprint"));
        self.sameness.push(owned("sameness"));
        self.slot.push(owned("slot"));
        self.ends.push(ending.is_some());
        self.hold.push(hold.map(|(key, _)| text(key).into_owned()));
        self.next_allowed_at.push(hold.map(|(_, at)| at.as_micros()));
        self.refund.push(ending.is_some_and(|ending| ending.refund));
        self.takes |= !append.claims.is_empty();
        self.frees |= ending.is_some();
    }

    /// Whether any of them takes a claim.
    pub(crate) fn are_taken(&self) -> bool {
        self.takes
    }

    /// Whether any of them ends.
    pub(crate) fn are_freed(&self) -> bool {
        self.frees
    }

    /// 7 parameters.
    pub(crate) fn bind(self, query: Query<'_>) -> Query<'_> {
        query
            .bind(self.fingerprint)
            .bind(self.sameness)
            .bind(self.slot)
            .bind(self.ends)
            .bind(self.hold)
            .bind(self.next_allowed_at)
            .bind(self.refund)
    }
}

/// Appends that begin an operation.
#[derive(Default)]
pub(crate) struct Begins {
    n: Vec<i32>,
    name: Vec<String>,
    environment: Vec<String>,
    service: Vec<String>,
    strategy: Texts,
    plan: Vec<Option<[u8; 32]>>,
    level: Vec<&'static str>,
    title: Vec<String>,
    alert: Vec<String>,
    problem: Vec<String>,
    alert_service: Vec<String>,
    alert_since: Vec<i64>,
    seen_at: Vec<i64>,
}

impl Begins {
    pub(crate) fn push(&mut self, n: i32, begin: &Begin) {
        self.n.push(n);
        self.name.push(text(&begin.name).into_owned());
        self.environment.push(text(&begin.target.environment).into_owned());
        self.service.push(text(&begin.target.service).into_owned());
        self.strategy.push(maybe(begin.strategy.as_deref()).map(Into::into));
        self.plan.push(begin.plan.as_ref().map(|plan| plan.hash.0));
        self.level.push(begin.level.into());
        self.title.push(text(&begin.title).into_owned());
        self.alert.push(begin.alert.id.as_str().to_owned());
        self.problem.push(begin.alert.fingerprint.as_str().to_owned());
        self.alert_service.push(text(&begin.alert.service).into_owned());
        self.alert_since.push(begin.alert.alert_since.as_micros());
        self.seen_at.push(begin.alert.seen_at.as_micros());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.n.is_empty()
    }

    /// 13 parameters.
    pub(crate) fn bind(self, query: Query<'_>) -> Query<'_> {
        query
            .bind(self.n)
            .bind(self.name)
            .bind(self.environment)
            .bind(self.service)
            .bind(self.strategy)
            .bind(self.plan)
            .bind(self.level)
            .bind(self.title)
            .bind(self.alert)
            .bind(self.problem)
            .bind(self.alert_service)
            .bind(self.alert_since)
            .bind(self.seen_at)
    }
}

/// Outbox rows.
#[derive(Default)]
pub(crate) struct Owes {
    /// How many each append owes, by its number.
    counts: Vec<i64>,
    n: Vec<i32>,
    place: Vec<i64>,
    executor: Vec<String>,
    order_key: Vec<String>,
    content: Vec<Vec<u8>>,
}

impl Owes {
    pub(crate) fn push(&mut self, n: i32, append: &Append) {
        self.counts.push(int(append.outbox.len() as u64));
        for (place, owe) in (0..).zip(&append.outbox) {
            self.n.push(n);
            self.place.push(place);
            self.executor.push(text(&owe.executor).into_owned());
            self.order_key.push(text(&owe.order_key).into_owned());
            self.content.push(owe.content.to_vec());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.n.is_empty()
    }

    /// 6 parameters.
    pub(crate) fn bind(self, query: Query<'_>) -> Query<'_> {
        let query = query.bind(self.counts).bind(self.n).bind(self.place).bind(self.executor);
        query.bind(self.order_key).bind(self.content)
    }
}

/// Payloads.
#[derive(Default)]
pub(crate) struct Pays {
    n: Vec<i32>,
    place: Vec<i64>,
    salt: Vec<[u8; 16]>,
    bytes: Vec<Vec<u8>>,
}

impl Pays {
    pub(crate) fn push(&mut self, n: i32, append: &Append) {
        for (place, payload) in (0..).zip(&append.payloads) {
            self.n.push(n);
            self.place.push(place);
            self.salt.push(payload.salt);
            self.bytes.push(payload.bytes.to_vec());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.n.is_empty()
    }

    /// 4 parameters.
    pub(crate) fn bind(self, query: Query<'_>) -> Query<'_> {
        query.bind(self.n).bind(self.place).bind(self.salt).bind(self.bytes)
    }
}
