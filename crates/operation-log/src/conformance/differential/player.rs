//! [`Player`]: chooses the calls. Most are what an engine would do, some are wrong on purpose.

use std::sync::Arc;
use std::time::Duration;

use redress_fsm::State;
use redress_types::{Epoch, Hash, Level, Timestamp};

use super::dice::Dice;
use super::{Call, Told};
use crate::conformance::case::LEASE;
use crate::conformance::fixture::{Writer, alert, alert_id, new_alert, plan, refused, seconds};
use crate::entry::Versions;
use crate::event::Actor;
use crate::log::OperationLog;
use crate::record::{
    Append, ClaimRequest, Filter, Join, LateResult, OutboxOutcome, OutboxVerdict, Post, Repeat, Request,
    Switch,
};
use crate::session::SessionId;

/// An operation as the player knows it.
struct Played {
    writer: Writer,
    /// The player's number of the session that last held it.
    session: usize,
    /// The last appends, to be sent again.
    sent: Vec<(usize, Append)>,
}

pub(super) struct Player {
    pub(super) dice: Dice,
    several: bool,
    pub(super) now: Timestamp,
    sessions: Vec<SessionId>,
    /// Which are open, and when their leases run out.
    open: Vec<(usize, Timestamp)>,
    played: Vec<Played>,
    begun: u64,
    /// Which of `played` the call in hand is about.
    about: Option<usize>,
}

impl Player {
    pub(super) fn new(seed: u64, several: bool, now: Timestamp) -> Self {
        let (sessions, open, played) = (Vec::new(), Vec::new(), Vec::new());
        Self { dice: Dice(seed), several, now, sessions, open, played, begun: 0, about: None }
    }

    /// The next call. Looks at the first log only for how many inbox rows wait.
    pub(super) async fn next(&mut self, log: &Arc<dyn OperationLog>) -> Call {
        self.about = None;
        self.open.retain(|(_, until)| *until > self.now);
        if self.open.is_empty() {
            return Call::Open;
        }
        if self.played.len() < 3 {
            return self.begin();
        }
        match self.dice.below(40) {
            0..6 => self.begin(),
            6..18 => self.go_on(log).await,
            18..20 => self.send_again(),
            20 => self.join(),
            21 => Call::Repeat(Repeat { id: self.some_alert(), at: self.now, conflict: self.dice.one_in(3) }),
            22..25 => self.post(),
            25..28 => self.claim(),
            28 => self.give_up(),
            29 if self.dice.one_in(3) => self.decide(),
            29..31 => self.deliver(),
            31 => self.late(),
            32 => self.switch(),
            33 => Call::Checkpoint(self.dice.one_in(2)),
            34 if self.dice.one_in(4) => Call::Archive(self.dice.below(5)),
            35 => self.session(),
            36 => self.pass(),
            _ => self.look(),
        }
    }

    /// Goes on from what was answered.
    pub(super) fn learn(&mut self, call: Call, told: &Told) {
        if let Some(session) = told.session {
            self.open.push((self.sessions.len(), self.now.plus(LEASE)));
            self.sessions.push(session);
        }
        for claimed in &told.claimed {
            let holder = if let Call::Claim { session, .. } = &call { *session } else { 0 };
            for played in self.played.iter_mut().filter(|played| played.writer.id == claimed.operation) {
                played.writer.epoch = claimed.epoch;
                played.session = holder;
                played.writer.session = self.sessions[holder];
            }
        }
        self.played.retain(|played| !told.removed.contains(&played.writer.id));
        let (Call::Append { session, append }, Some(about)) = (call, self.about) else { return };
        if told.ok {
            let played = &mut self.played[about];
            played.writer.took(&append);
            played.sent.push((session, *append));
        } else if self.played[about].writer.operation.is_none() {
            self.played.remove(about);
        }
    }

    fn begin(&mut self) -> Call {
        self.begun += 1;
        let session = self.some_session();
        let mut writer = Writer::new(self.session_id(session), self.begun, &format!("alert-{}", self.begun));
        writer.alert.level = [Level::P0, Level::P1, Level::Warning][self.dice.below(3)];
        writer.target.service = format!("service-{}", self.dice.below(3));
        writer.plan = match self.dice.below(5) {
            0 => None,
            1 => Some(plan("another")),
            _ => writer.plan,
        };
        if self.dice.one_in(12) {
            writer.alert.id = self.some_alert();
        }
        let more = match self.dice.below(3) {
            0 if writer.plan.is_some() => writer.admitted(),
            1 => vec![self.held_by_something()],
            _ => vec![],
        };
        let mut append = writer.begin(self.now, more);
        self.dress(&mut append);
        self.about = Some(self.played.len());
        self.played.push(Played { writer, session, sent: Vec::new() });
        Call::Append { session, append: Box::new(append) }
    }

    async fn go_on(&mut self, log: &Arc<dyn OperationLog>) -> Call {
        let about = self.dice.below(self.played.len());
        let writer = self.played[about].writer.clone();
        let Some(operation) = &writer.operation else { return self.look() };
        if operation.state.is_ended() {
            return self.send_again();
        }
        let inbox = log.operation(writer.id).await.ok().flatten().map_or(0, |head| head.inbox);
        let mut events = Vec::new();
        let mut folded = operation.folded_request;
        while folded < inbox && !self.dice.one_in(6) {
            folded += 1;
            events.push(refused(folded));
        }
        events.extend(self.one_more(&writer, operation.state));
        if events.is_empty() {
            return self.look();
        }
        let mut append = writer.next(self.now, events);
        self.dress(&mut append);
        match self.dice.below(24) {
            0 => append.epoch = Epoch(append.epoch.0 + 1),
            1 => append.expected_seq += 3,
            2 => append.hash = Hash::of(&[b"another"]),
            _ => {}
        }
        let wrong = append.hash == Hash::of(&[b"another"]) || append.expected_seq != operation.seq;
        if wrong {
            // Never one that would be recorded: a log need not look at the bytes.
            append.epoch = Epoch(append.epoch.0 + 7);
        }
        self.about = Some(about);
        let session = if self.dice.one_in(20) { self.some_session() } else { self.played[about].session };
        Call::Append { session, append: Box::new(append) }
    }

    fn send_again(&mut self) -> Call {
        let about = self.dice.below(self.played.len());
        let sent = &self.played[about].sent;
        let Some((session, append)) = sent.get(self.dice.below(sent.len())).cloned() else {
            return self.pass();
        };
        let session = if self.dice.one_in(4) { self.some_session() } else { session };
        Call::Append { session, append: Box::new(append) }
    }

    fn join(&mut self) -> Call {
        let operation = self.some_operation();
        let content = Arc::new(alert(&format!("joins-{}", self.dice.below(30))));
        let new = new_alert(&content, self.now);
        Call::Join(Join { operation, alert: new, content, actor: Actor("source:test".into()) })
    }

    fn post(&mut self) -> Call {
        let request = Request::Cancel { reason: format!("reason {}", self.dice.below(2)) };
        let (operation, key) = (self.some_operation(), format!("key-{}", self.dice.below(4)));
        Call::Post(Post { operation, key, request, actor: Actor("person:ann".into()), at: self.now })
    }

    fn claim(&mut self) -> Call {
        let session = self.some_session();
        let unable = if self.dice.one_in(2) { vec![plan("another").hash] } else { vec![] };
        let (now, limit) = (self.now, self.dice.below(6));
        let mut reads = Versions::CURRENT;
        reads.table += u16::from(self.dice.one_in(3));
        let due = now.plus(seconds(20 + self.dice.roll() % 60)).plus(Duration::from_micros(1));
        let request = ClaimRequest {
            session: self.session_id(session),
            now,
            limit,
            reads,
            unable,
            driven: vec![],
            due,
        };
        Call::Claim { session, request }
    }

    fn give_up(&mut self) -> Call {
        let about = self.dice.below(self.played.len());
        let (operation, epoch) = (self.played[about].writer.id, self.played[about].writer.epoch);
        Call::GiveUp { session: self.played[about].session, operation, epoch }
    }

    fn deliver(&mut self) -> Call {
        let error = || "no route".to_owned();
        let again = OutboxOutcome::Again { at: self.now.plus(seconds(5)), error: error() };
        let all = [OutboxOutcome::Done, again, OutboxOutcome::Handed { error: error() }, OutboxOutcome::Done];
        let outcomes = (0..3).map(|_| all[self.dice.below(4)].clone()).collect();
        let executors = ["persist", "elsewhere"].into_iter().filter(|_| !self.dice.one_in(4));
        let executors = executors.map(str::to_owned).collect();
        Call::Deliver { session: self.some_session(), executors, outcomes }
    }

    fn decide(&mut self) -> Call {
        let what = if self.dice.one_in(2) { OutboxVerdict::Retry } else { OutboxVerdict::Close };
        let reason = format!("reason {}", self.dice.below(2));
        Call::Decide { rank: self.dice.below(8), reason, what }
    }

    fn late(&mut self) -> Call {
        let about = self.dice.below(self.played.len());
        let key = self.played[about].writer.key(0);
        let (at, said, reason) = (self.now, "done".into(), "its epoch is over".into());
        Call::KeepLate(LateResult { key, epoch: Epoch(1), at, said, reason })
    }

    fn switch(&mut self) -> Call {
        let key = format!("switch{}", self.dice.below(3));
        let until = self.dice.one_in(2).then(|| self.now.plus(seconds(20)));
        let (by, reason, since) = (Actor("person:ann".into()), "quiet".to_owned(), self.now);
        let off = Switch { key: key.clone(), by, reason, since, until };
        Call::SetSwitch(key, self.dice.one_in(3).then_some(off))
    }

    fn session(&mut self) -> Call {
        let session = self.some_session();
        match self.dice.below(4) {
            0 => {
                self.open.retain(|(open, _)| *open != session);
                Call::Close(session)
            }
            1 if self.several && self.open.len() < 3 => Call::Open,
            _ => {
                let until = self.now.plus(LEASE);
                self.open.iter_mut().filter(|(open, _)| *open == session).for_each(|open| open.1 = until);
                Call::Renew(session)
            }
        }
    }

    fn pass(&mut self) -> Call {
        // Never to the microsecond at which a lease ends: only one side of that moment is promised.
        let by =
            seconds(self.dice.roll() % 12).saturating_add(Duration::from_micros(self.dice.roll() % 999 + 1));
        self.now = self.now.plus(by);
        Call::Pass(by)
    }

    fn look(&mut self) -> Call {
        let states = if self.dice.one_in(2) { vec![State::Skipped, State::Blocked] } else { vec![] };
        let service = self.dice.one_in(3).then(|| format!("service-{}", self.dice.below(3)));
        let since = self.dice.one_in(4).then(|| self.now.minus(seconds(30)));
        let filter = Filter { states, service, since };
        let text = ["0000", "rr-", "1", "a", "%", ""][self.dice.below(6)].to_owned();
        Call::Look { session: self.some_session(), filter, limit: 1 + self.dice.below(7), text }
    }

    /// Mostly an open session, now and then one that is over.
    fn some_session(&mut self) -> usize {
        if self.dice.one_in(25) || self.open.is_empty() {
            return self.dice.below(self.sessions.len());
        }
        self.open[self.dice.below(self.open.len())].0
    }

    fn session_id(&self, number: usize) -> SessionId {
        self.sessions.get(number).copied().unwrap_or_default()
    }

    fn some_operation(&mut self) -> redress_types::OperationId {
        let about = self.dice.below(self.played.len());
        self.played[about].writer.id
    }

    fn some_alert(&mut self) -> redress_types::AlertId {
        let number = 1 + self.dice.below(usize::try_from(self.begun).unwrap_or(1));
        alert_id(&format!("alert-{number}"))
    }
}
