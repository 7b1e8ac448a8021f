//! [`differential`]: one seeded sequence of calls, valid and invalid, on two logs; the answers and the histories
//! must be equal. What is called is chosen in [`player`](self::player); here the two sides are compared.

mod dice;
mod moves;
mod player;

use std::fmt::Debug;
use std::sync::Arc;

use redress_types::{Clock as _, Hash};

use self::player::Player;
use super::Harness;
use super::case::{LEASE, Whole};
use super::fixture::TestClock;
use crate::error::Error;
use crate::event::Actor;
use crate::log::OperationLog;
use crate::record::{
    Append, ClaimRequest, Cursor, Filter, Join, LateResult, OutboxDecision, OutboxOutcome, OutboxRequest,
    OutboxRow, OutboxSettled, OutboxVerdict, Post, Repeat, Switch,
};
use crate::session::SessionId;

/// After how many calls everything that can be read is compared.
const COMPARE_EVERY: usize = 25;

/// Plays the same `steps` calls, chosen by `seed`, on two fresh logs. Positions and session numbers are compared
/// by order, errors by what they tell the caller, not by their words.
///
/// # Panics
/// At the first answer or history that differs, with the seed and the call. The same seed plays the same calls.
pub async fn differential(seed: u64, steps: usize, left: &mut dyn Harness, right: &mut dyn Harness) {
    let several = left.several_engines() && right.several_engines();
    let sides = [Side::of(left), Side::of(right)];
    let start = sides[0].clock.now();
    sides[1].clock.set(start);
    let mut both = Both { seed, step: 0, sides, called: String::new() };
    let mut player = Player::new(seed, several, start);
    for step in 0..steps {
        both.step = step;
        let call = player.next(&both.sides[0].log).await;
        both.called = format!("{call:?}");
        let told = both.call(&call).await;
        player.learn(call, &told);
        if step % COMPARE_EVERY == 0 {
            both.compare().await;
        }
    }
    both.compare().await;
}

/// One call, in terms that hold for both logs.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Pass(std::time::Duration),
    Open,
    Renew(usize),
    Close(usize),
    Append {
        session: usize,
        append: Box<Append>,
    },
    Repeat(Repeat),
    Join(Join),
    Post(Post),
    Claim {
        session: usize,
        request: ClaimRequest,
    },
    GiveUp {
        session: usize,
        operation: redress_types::OperationId,
        epoch: redress_types::Epoch,
    },
    KeepLate(LateResult),
    /// Takes what is due and settles each row in turn with one of these.
    Deliver {
        session: usize,
        executors: Vec<String>,
        outcomes: Vec<OutboxOutcome>,
    },
    /// Has a person decide on the row of this rank among those owed, or on one that is not there.
    Decide {
        rank: usize,
        reason: String,
        what: OutboxVerdict,
    },
    SetSwitch(String, Option<Switch>),
    Checkpoint(bool),
    /// Removes what may be archived.
    Archive(usize),
    Look {
        session: usize,
        filter: Filter,
        limit: usize,
        text: String,
    },
}

/// What the first log answered, for the player to go on from.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) ok: bool,
    pub(super) session: Option<SessionId>,
    pub(super) claimed: Vec<crate::record::Claimed>,
    pub(super) removed: Vec<redress_types::OperationId>,
}

struct Side {
    log: Arc<dyn OperationLog>,
    clock: TestClock,
    sessions: Vec<SessionId>,
}

struct Both {
    seed: u64,
    step: usize,
    sides: [Side; 2],
    called: String,
}

impl Both {
    async fn call(&mut self, call: &Call) -> Told {
        let mut told = Told::default();
        let mut answers = Vec::with_capacity(2);
        for side in &mut self.sides {
            let mut heard = Told::default();
            answers.push(side.play(call, &mut heard).await);
            if answers.len() == 1 {
                told = heard;
            }
        }
        self.same("answers", &answers[0], &answers[1]);
        told
    }

    async fn compare(&self) {
        let [left, right] = &self.sides;
        let (left, right) = (left.whole().await, right.whole().await);
        self.same("numbers of lines", &left.len(), &right.len());
        for (left, right) in left.iter().zip(&right) {
            self.same("histories", left, right);
        }
    }

    fn same<T: PartialEq + Debug>(&self, what: &str, left: &T, right: &T) {
        if left != right {
            let Self { seed, step, called, .. } = self;
            panic!(
                "seed {seed}, step {step}: the {what} differ\n  left  {left:?}\n  right {right:?}\n  call  {called}"
            );
        }
    }
}

impl Side {
    fn of(harness: &mut dyn Harness) -> Self {
        Self { log: harness.log(), clock: harness.clock(), sessions: Vec::new() }
    }

    async fn play(&mut self, call: &Call, told: &mut Told) -> String {
        let id = |index: usize| self.sessions.get(index).copied().unwrap_or(SessionId(u64::MAX >> 1));
        let (log, now) = (Arc::clone(&self.log), self.clock.now());
        match call.clone() {
            Call::Pass(by) => {
                self.clock.advance(by);
                String::new()
            }
            Call::Open => match log.open_session("differential", LEASE).await {
                Ok(session) => {
                    self.sessions.push(session.id);
                    told.session = Some(session.id);
                    format!("{:?} {:?} {}", session.lease, session.log_now, session.restored)
                }
                Err(error) => show_error(&error),
            },
            Call::Renew(session) => show(log.renew_session(id(session)).await),
            Call::Close(session) => show(log.close_session(id(session)).await),
            Call::Append { session, mut append } => {
                append.session = id(session);
                let answer = log.append((*append).into()).await;
                told.ok = answer.is_ok();
                show(answer.map(|done| (done.before, done.current, done.inbox, done.switches)))
            }
            Call::Repeat(repeat) => show(log.repeat(repeat).await),
            Call::Join(join) => show(log.join(join).await.map(|given| (given.record, given.request))),
            Call::Post(post) => show(log.post(post).await.map(|posted| {
                (posted.request, posted.before, posted.held_by.map(|session| self.number(session)))
            })),
            Call::Claim { session, mut request } => {
                request.session = id(session);
                let answer = log.claim(request).await;
                told.claimed = answer.as_ref().map(Clone::clone).unwrap_or_default();
                show(answer)
            }
            Call::GiveUp { session, operation, epoch } => {
                show(log.give_up(id(session), operation, epoch).await)
            }
            Call::KeepLate(late) => show(log.keep_late(late).await),
            Call::Deliver { session, executors, outcomes } => {
                self.deliver(id(session), executors, &outcomes).await
            }
            Call::Decide { rank, reason, what } => self.decide(rank, reason, what).await,
            Call::SetSwitch(key, switch) => show(log.set_switch(&key, switch).await),
            Call::Checkpoint(signed) => {
                let key: Option<&[u8]> = signed.then_some(b"key");
                // Its position is the log's own, and with it its hash.
                show(log.checkpoint(now, key).await.map(|point| {
                    let says = (point.number, point.entries, point.operations, point.digest);
                    (says, point.at, point.signature.is_some())
                }))
            }
            Call::Archive(limit) => self.archive(limit, told).await,
            Call::Look { session, filter, limit, text } => {
                self.look(id(session), &filter, limit, &text).await
            }
        }
    }

    async fn deliver(
        &self,
        session: SessionId,
        executors: Vec<String>,
        outcomes: &[OutboxOutcome],
    ) -> String {
        let now = self.clock.now();
        // Some are never settled: they are free again a little later, or when the session is over.
        let until = now.plus(std::time::Duration::from_secs(7));
        let request = OutboxRequest { session, now, until, limit: 10_000, executors };
        let mut rows = match self.log.outbox_due(request).await {
            Ok(rows) => rows,
            Err(error) => return show_error(&error),
        };
        // With a limit, which of them come first is the log's own choice.
        rows.sort_by_key(|row| (row.position, row.index));
        let mut shown = Vec::with_capacity(rows.len());
        for (number, (row, how)) in rows.into_iter().zip(outcomes.iter().cycle()).enumerate() {
            if number % 5 == 4 {
                shown.push(format!("{:?}", (row.operation, row.seq, row.index, row.tries)));
                continue;
            }
            let (position, index, how) = (row.position, row.index, how.clone());
            let settled = OutboxSettled { position, index, at: now, how };
            let answer = show(self.log.outbox_settle(session, settled).await);
            shown.push(format!(
                "{:?} {answer}",
                (row.operation, row.seq, row.index, row.tries, row.last_error)
            ));
        }
        shown.join("; ")
    }

    async fn decide(&self, rank: usize, reason: String, what: OutboxVerdict) -> String {
        let rows = match self.log.outbox_owed(20).await {
            Ok(rows) => rows,
            Err(error) => return show_error(&error),
        };
        let (position, index) = rows.get(rank).map_or((u64::MAX >> 1, 0), |row| (row.position, row.index));
        let (at, by) = (self.clock.now(), Actor("person:ann".into()));
        let decision = OutboxDecision { position, index, at, by, reason, what };
        let answer = self.log.outbox_decide(decision).await;
        show(answer.map(|row| OutboxRow { position: 0, ..row }))
    }

    async fn archive(&self, limit: usize, told: &mut Told) -> String {
        let found = match self.log.archivable(self.clock.now(), limit).await {
            Ok(found) => found,
            Err(error) => return show_error(&error),
        };
        let gone: Vec<_> = found.iter().map(|one| (one.head.id, one.head.hash)).collect();
        told.removed = gone.iter().map(|(id, _)| *id).collect();
        let entries: Vec<usize> = found.iter().map(|one| one.entries.len()).collect();
        format!("{gone:?} {entries:?} {}", show(self.log.remove_archived(&gone).await))
    }

    async fn look(&self, session: SessionId, filter: &Filter, limit: usize, text: &str) -> String {
        let now = self.clock.now();
        let mut ids = Vec::new();
        let mut after: Option<Cursor> = None;
        for _ in 0..3 {
            match self.log.operations(filter, after, limit).await {
                Ok(page) => {
                    ids.extend(page.operations.iter().map(|head| head.id));
                    after = page.next;
                }
                Err(error) => return show_error(&error),
            }
            if after.is_none() {
                break;
            }
        }
        let found = self.log.find(text, limit).await;
        let found = found.map(|heads| heads.iter().map(|head| head.id).collect::<Vec<_>>());
        let waiting = self.log.inbox_waiting(session).await;
        let due = self.log.next_due().await.map(|due| due.map(|at| at.max(now)));
        let status = self.log.status().await.map(|status| {
            let alive = status.sessions.iter().map(|at| (self.number(at.id), at.expires_at, at.holds));
            (status.log_now, status.owed, status.handed, status.owed_since, alive.collect::<Vec<_>>())
        });
        let more = after.is_some();
        format!("{ids:?} {more} {} {} {} {}", show(found), show(waiting), show(due), show(status))
    }

    /// What a session is called on both sides.
    fn number(&self, session: SessionId) -> usize {
        self.sessions.iter().position(|known| *known == session).unwrap_or(usize::MAX)
    }

    /// Everything that can be read, a line for each thing, in terms that hold for both logs.
    async fn whole(&self) -> Vec<String> {
        let whole = match Whole::of(&*self.log).await {
            Ok(whole) => whole,
            Err(error) => return vec![show_error(&error)],
        };
        let mut lines = Vec::new();
        for (rank, (mut head, beside)) in whole.heads.into_iter().zip(whole.beside).enumerate() {
            let holder = head.session.take().map(|session| self.number(session));
            head.position = rank as u64;
            lines.push(format!("{head:?} held by {holder:?}"));
            lines.push(format!("{:?} {:?}", beside.alerts, beside.late));
            lines.push(format!("{:?}", beside.inbox));
            for mut row in beside.outbox {
                row.position = 0;
                lines.push(format!("{row:?}"));
            }
        }
        // Positions are compared by order: the entries stand in theirs.
        let entries = whole
            .entries
            .iter()
            .map(|entry| (entry.operation, entry.seq, entry.hash, Hash::of(&[&entry.body])));
        lines.extend(entries.map(|entry| format!("{entry:?}")));
        let sums =
            whole.sums.iter().map(|sum| (self.number(sum.session), sum.entries, sum.operations, sum.digest));
        lines.extend(sums.map(|sum| format!("{sum:?}")));
        lines.extend(whole.claims.iter().map(|claim| format!("{claim:?}")));
        let archived = (whole.archived.entries, whole.archived.operations, whole.archived.digest);
        lines.push(format!("{archived:?} {:?} {:?} {:?}", whole.orphans, whole.stuck, whole.switches));
        lines
    }
}

fn show<T: Debug>(answer: Result<T, Error>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => show_error(&error),
    }
}

/// What an error tells the caller, without its words.
fn show_error(error: &Error) -> String {
    match error {
        Error::DifferentContent { .. } => "DifferentContent".into(),
        Error::Stale { .. } => "Stale".into(),
        Error::Held { .. } => "Held".into(),
        Error::Corrupt { .. } => "Corrupt".into(),
        Error::Unavailable { .. } => "Unavailable".into(),
        Error::Unstorable { .. } => "Unstorable".into(),
        Error::NotFound(_)
        | Error::Conflict { .. }
        | Error::NotFolded { .. }
        | Error::Lost { .. }
        | Error::NotNow { .. }
        | Error::KnownAlert(_)
        | Error::Ended { .. } => format!("{error:?}"),
    }
}
