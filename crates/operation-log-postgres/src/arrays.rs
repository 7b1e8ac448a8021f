//! The parameters of the one statement: a column of every append in one array.

use redress_operation_log::{Append, Begin};

use crate::fast::claim;
use crate::holding::version;
use crate::shared::Query;
use crate::values::{Uid, int, maybe, text, words};

type Texts = Vec<Option<String>>;

/// What every append brings.
#[derive(Default)]
struct Common {
    n: Vec<i32>,
    id: Vec<Uid>,
    session: Vec<i64>,
    epoch: Vec<i64>,
    hash: Vec<[u8; 32]>,
    words: [Vec<i64>; 4],
    body: Vec<std::sync::Arc<[u8]>>,
    state: Vec<&'static str>,
    at: Vec<i64>,
    wake_at: Vec<Option<i64>>,
    held_until: Vec<Option<i64>>,
    held: Vec<bool>,
    reason: Texts,
    format: Vec<i16>,
    machine: Vec<i16>,
    owes: Vec<i64>,
    fingerprint: Texts,
    sameness: Texts,
    slot: Texts,
}

impl Common {
    fn push(&mut self, n: i32, append: &Append) {
        let standing = &append.standing;
        let held = standing.held && append.ends.is_none();
        let at = standing.wake_at.filter(|_| append.ends.is_none()).map(|at| at.as_micros());
        self.n.push(n);
        self.id.push(Uid(append.operation));
        self.session.push(int(append.session.0));
        self.epoch.push(int(append.epoch.0));
        self.hash.push(append.hash.0);
        for (all, word) in self.words.iter_mut().zip(words(&append.hash)) {
            all.push(word);
        }
        self.body.push(append.body.clone());
        self.state.push(standing.state.into());
        self.at.push(append.now.as_micros());
        self.wake_at.push(at.filter(|_| !held));
        self.held_until.push(at.filter(|_| held));
        self.held.push(held);
        self.reason.push(maybe(standing.reason.as_deref()).map(Into::into));
        self.format.push(version(append.versions.format));
        self.machine.push(version(append.versions.table));
        self.owes.push(int(append.outbox.len() as u64));
        let owned = |kind| claim(append, kind).map(Into::into);
        self.fingerprint.push(owned("fingerprint"));
        self.sameness.push(owned("sameness"));
        self.slot.push(owned("slot"));
    }

    /// 22 parameters.
    fn bind(self, query: Query<'_>) -> Query<'_> {
        let [one, two, three, four] = self.words;
        // Only so do arrays of bytes without a length of their own go as one parameter.
        let body: Vec<Vec<u8>> = self.body.iter().map(|body| body.to_vec()).collect();
        query
            .bind(self.n)
            .bind(self.id)
            .bind(self.session)
            .bind(self.epoch)
            .bind(self.hash)
            .bind(one)
            .bind(two)
            .bind(three)
            .bind(four)
            .bind(body)
            .bind(self.state)
            .bind(self.at)
            .bind(self.wake_at)
            .bind(self.held_until)
            .bind(self.held)
            .bind(self.reason)
            .bind(self.format)
            .bind(self.machine)
            .bind(self.owes)
            .bind(self.fingerprint)
            .bind(self.sameness)
            .bind(self.slot)
    }
}

/// Appends to operations that exist.
#[derive(Default)]
pub(crate) struct Follows {
    common: Common,
    expected: Vec<i64>,
    folded: Vec<i64>,
    ends: Vec<bool>,
    hold: Texts,
    next_allowed_at: Vec<Option<i64>>,
    refund: Vec<bool>,
    claims: bool,
}

impl Follows {
    pub(crate) fn push(&mut self, n: i32, append: &Append) {
        self.common.push(n, append);
        self.expected.push(int(append.expected_seq));
        self.folded.push(int(append.standing.folded_request));
        let hold = append.ends.as_ref().and_then(|ending| ending.hold.as_ref());
        self.ends.push(append.ends.is_some());
        self.hold.push(hold.map(|(key, _)| text(key).into_owned()));
        self.next_allowed_at.push(hold.map(|(_, at)| at.as_micros()));
        self.refund.push(append.ends.as_ref().is_some_and(|ending| ending.refund));
        self.claims |= !append.claims.is_empty();
    }

    /// Whether none of them takes a claim or ends.
    pub(crate) fn is_plain(&self) -> bool {
        !self.claims && !self.ends.contains(&true)
    }

    /// 28 parameters.
    pub(crate) fn bind(self, query: Query<'_>) -> Query<'_> {
        self.common
            .bind(query)
            .bind(self.expected)
            .bind(self.folded)
            .bind(self.ends)
            .bind(self.hold)
            .bind(self.next_allowed_at)
            .bind(self.refund)
    }
}

/// Appends that begin an operation.
#[derive(Default)]
pub(crate) struct Begins {
    common: Common,
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
    pub(crate) fn push(&mut self, n: i32, append: &Append, begin: &Begin) {
        self.common.push(n, append);
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
        self.name.is_empty()
    }

    /// 34 parameters.
    pub(crate) fn bind(self, query: Query<'_>) -> Query<'_> {
        self.common
            .bind(query)
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
    n: Vec<i32>,
    place: Vec<i64>,
    executor: Vec<String>,
    order_key: Vec<String>,
    content: Vec<Vec<u8>>,
}

impl Owes {
    pub(crate) fn push(&mut self, n: i32, append: &Append) {
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

    /// 5 parameters.
    pub(crate) fn bind(self, query: Query<'_>) -> Query<'_> {
        query.bind(self.n).bind(self.place).bind(self.executor).bind(self.order_key).bind(self.content)
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
