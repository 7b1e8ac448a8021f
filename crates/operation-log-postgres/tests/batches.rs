//! A batch of each form answers and leaves what its appends would one by one: the log in memory, which knows no
//! batches, is told the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold fails the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::Schema;
use redress_operation_log::conformance::Whole;
use redress_operation_log::conformance::fixture::{TestClock, Writer, refused, skipped};
use redress_operation_log::conformance::life::{LEASE, NOW, begin, rest, writer};
use redress_operation_log::record::{
    Append, Budget, Claim, ClaimRequest, Ending, Owe, Payload, Post, Request, Switch,
};
use redress_operation_log::{Actor, Error, MemoryLog, OperationLog, SessionId, Versions};
use redress_operation_log_postgres::{Options, PostgresLog};
use redress_types::{Level, Timestamp};

/// What its appends do, and with that its form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    GoOn,
    End,
    Claim,
    Begin,
    BeginAndGoOn,
    BeginAndEnd,
    Owe,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn of_operations_that_go_on() {
    alike(Kind::GoOn).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn of_some_that_end() {
    alike(Kind::End).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn of_some_that_claim_or_have_conditions() {
    alike(Kind::Claim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn of_operations_that_begin() {
    alike(Kind::Begin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn of_some_that_begin_and_some_that_go_on() {
    alike(Kind::BeginAndGoOn).await;
}

/// What is skipped begins and ends in one: an alert of no service, or one that only informs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn of_some_that_end_where_they_begin() {
    alike(Kind::BeginAndEnd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn of_some_that_owe_or_reserve() {
    alike(Kind::Owe).await;
}

async fn alike(kind: Kind) {
    let clock = TestClock::default();
    let schema = Schema::new().await;
    let options = Options { clock: Some(Arc::new(clock.clone())), ..Options::default() };
    let postgres = PostgresLog::open(&schema.url(), &options).await.unwrap();
    let memory = MemoryLog::new(Arc::new(clock));
    let (one_by_one, together) = (Scene::on(&memory).await, Scene::on(&postgres).await);
    assert_eq!(one_by_one.session, together.session);

    let mut told = Vec::new();
    for number in BUSY {
        memory.append(one_by_one.plain(number).into()).await.unwrap();
    }
    for append in one_by_one.appends(kind) {
        told.push(memory.append(append.into()).await);
    }
    let before = postgres.commits();
    let answers = at_once(&schema, &postgres, &together, kind).await;
    for (n, (one, other)) in told.iter().zip(&answers).enumerate() {
        assert_eq!(answer(one), answer(other), "append {n}");
    }
    assert_eq!(told.len(), answers.len());
    // The two that were under way, and the batch.
    // What waited before goes alone.
    assert!(postgres.commits() - before <= 4, "{} commits", postgres.commits() - before);
    compare(&memory, &postgres).await;
    // What was left behind: holds, reservations and switches are in the way of the same.
    for append in one_by_one.after() {
        let one = memory.append(append.clone().into()).await;
        let other = postgres.append(append.into()).await;
        assert_eq!(answer(&one), answer(&other));
    }
    compare(&memory, &postgres).await;
}

/// All of them wait while the log is busy, and then go in one batch.
async fn at_once(
    schema: &Schema,
    log: &PostgresLog,
    scene: &Scene,
    kind: Kind,
) -> Vec<Result<redress_operation_log::Recorded, Error>> {
    let mut busy = schema.connect().await;
    sqlx::raw_sql("begin; select 1 from meta for update").execute(&mut busy).await.unwrap();
    let waiting = "select count(distinct l.pid) from pg_locks l join pg_locks t on t.pid = l.pid
         where not l.granted and t.relation = 'meta'::regclass";
    // Two batches of one are under way before the others come.
    let mut under_way = Vec::new();
    for (n, number) in (1..).zip(BUSY) {
        let (log, append) = (log.clone(), scene.plain(number));
        under_way.push(tokio::spawn(async move { log.append(append.into()).await }));
        schema.until("it waits", waiting, n).await;
    }
    let tasks = scene.appends(kind).into_iter().map(|append| {
        let log = log.clone();
        async move { log.append(append.into()).await }
    });
    let mut all: Vec<_> = tasks.map(Box::pin).collect();
    // Each is on its way once it was polled.
    for one in &mut all {
        tokio::select! { biased; _ = one => panic!("it was answered"), () = std::future::ready(()) => {} }
    }
    sqlx::raw_sql("rollback").execute(&mut busy).await.unwrap();
    for one in under_way {
        one.await.unwrap().unwrap();
    }
    let mut answers = Vec::new();
    for one in all {
        answers.push(one.await);
    }
    answers
}

/// What an answer says to whoever appends, without positions.
fn answer(answer: &Result<redress_operation_log::Recorded, Error>) -> String {
    match answer {
        Ok(taken) => format!("{:?}", (taken.before, taken.current, taken.inbox, taken.switches)),
        Err(Error::Stale { .. }) => "Stale".into(),
        Err(error) => format!("{error:?}"),
    }
}

/// Everything that can be read is the same, positions apart.
async fn compare(memory: &MemoryLog, postgres: &PostgresLog) {
    let (one, other) = (whole(memory).await, whole(postgres).await);
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one, other);
    }
}

async fn whole(log: &dyn OperationLog) -> Vec<String> {
    let whole = Whole::of(log).await.unwrap();
    let mut lines = Vec::new();
    for (mut head, mut beside) in whole.heads.into_iter().zip(whole.beside) {
        head.position = 0;
        beside.outbox.iter_mut().for_each(|row| row.position = 0);
        let mut payloads = log.payloads(head.id).await.unwrap();
        payloads.sort_by_key(|(seq, payload)| (*seq, payload.salt));
        lines.push(format!("{} {head:?} {beside:?} {payloads:?}", head.id));
    }
    lines.extend(
        whole
            .entries
            .iter()
            .map(|entry| format!("{} {} {:?} {:?}", entry.operation, entry.seq, entry.hash, entry.body)),
    );
    lines.extend(whole.claims.iter().map(|claim| format!("claim {claim:?}")));
    lines.sort();
    lines.push(format!("{:?}", (whole.sums, whole.orphans, whole.stuck, whole.switches)));
    lines
}

/// From where operations are numbered: those before it go on.
const ENDING: u64 = 100;
const CLAIMING: u64 = 200;
const BEGINNING: u64 = 300;
const OWING: u64 = 400;
/// What is under way when the batch comes.
const BUSY: [u64; 2] = [900, 901];

/// Operations as they stand before the batch.
struct Scene {
    session: SessionId,
    writers: Vec<(u64, Writer)>,
}

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn budget(key: &str, most: u32) -> Budget {
    Budget { key: key.into(), most, window: Duration::from_secs(60) }
}

impl Scene {
    async fn on(log: &dyn OperationLog) -> Self {
        let session = log.open_session("test", LEASE).await.unwrap().id;
        let mut scene = Self { session, writers: Vec::new() };
        let by = Actor("person:ann".into());
        let off = |key: &str| {
            let (key, reason) = (key.to_owned(), "quiet".to_owned());
            Switch { key, by: by.clone(), reason, since: NOW, until: None }
        };
        log.set_switch("off", Some(off("off"))).await.unwrap();
        for number in (1..=10).chain(BUSY) {
            let newer = |append: &mut Append| {
                append.versions.table += 1;
                append.versions.format += 1;
            };
            scene
                .begun(log, number, |append| {
                    if number == 7 {
                        newer(append)
                    }
                })
                .await;
        }
        // 4 is nobody's, 6 has ended, 8 waited and was taken again, 3 has something in its inbox.
        let id = |number| writer(session, number).id;
        log.give_up(session, id(4), redress_types::Epoch(1)).await.unwrap();
        for append in rest(scene.writer(6)) {
            log.append(append.into()).await.unwrap();
        }
        let mut waits = scene.next(8);
        (waits.standing.held, waits.standing.wake_at) = (false, Some(NOW));
        waits.standing.waits_on = Some(Claim::Slot("busy".into()));
        waits.standing.reason = Some("it waits".into());
        scene.writer_mut(8).append(log, waits).await.unwrap();
        let driven = scene.writers.iter().map(|(_, writer)| writer.id).filter(|one| *one != id(8)).collect();
        let (reads, unable) = (Versions::CURRENT, vec![]);
        let claim = ClaimRequest { session, now: NOW, limit: 9, reads, unable, driven, due: later(60) };
        let claimed = log.claim(claim).await.unwrap();
        assert_eq!(claimed.iter().map(|one| one.operation).collect::<Vec<_>>(), [id(8)]);
        scene.writer_mut(8).epoch = claimed[0].epoch;
        for number in [2, 3] {
            let (request, actor) = (Request::Cancel { reason: "enough".into() }, by.clone());
            let post = Post { operation: id(number), key: "k".into(), request, actor, at: NOW };
            log.post(post).await.unwrap();
        }
        // Those that end, with slots that others wait for, and reservations.
        for number in 1..=6 {
            let owns = move |append: &mut Append| {
                append.claims.push(Claim::Slot(format!("slot {number}")));
                append.claims.push(Claim::Sameness(format!("same {number}")));
                append.conditions.budgets = vec![budget(&format!("budget {number}"), 1)];
            };
            scene.begun(log, ENDING + number, owns).await;
        }
        // Of those that wait for slot 2 the first is due already, and does not keep the second waiting.
        let waiters = [
            (11, "slot 1", Level::P1, 50),
            (12, "slot 1", Level::P0, 50),
            (13, "slot 4", Level::P1, 50),
            (14, "slot 2", Level::P0, 0),
            (15, "slot 2", Level::P1, 50),
        ];
        for (number, slot, level, wake_at) in waiters {
            let waits = move |append: &mut Append| {
                append.begin.as_mut().unwrap().level = level;
                (append.standing.held, append.standing.wake_at) = (false, Some(later(wake_at)));
                append.standing.waits_on = Some(Claim::Slot(slot.into()));
                append.claims.clear();
            };
            scene.begun(log, ENDING + number, waits).await;
        }
        for number in 1..=6 {
            scene.begun(log, CLAIMING + number, |_| {}).await;
        }
        for number in 1..=3 {
            scene.begun(log, OWING + number, |_| {}).await;
        }
        let until = [("hold 1", 5), ("hold 2", 900)];
        for (number, (key, seconds)) in (1..).zip(until) {
            let held = |append: &mut Append| append.claims.push(Claim::Slot(format!("hold {number}")));
            scene.begun(log, 800 + number, held).await;
            let mut end = scene.end(800 + number);
            end.ends = Some(Ending { hold: Some((key.into(), later(seconds))), refund: false });
            log.append(end.into()).await.unwrap();
        }
        scene
    }

    /// Begins one: that acts, or that can still be skipped.
    async fn begun(&mut self, log: &dyn OperationLog, number: u64, dress: impl Fn(&mut Append)) {
        let mut writer = writer(self.session, number);
        writer.target.service = format!("service {number}");
        let acts = number < ENDING || BUSY.contains(&number);
        let mut append = if acts { begin(&writer) } else { writer.begin(NOW, vec![]) };
        append.claims = vec![Claim::Fingerprint(writer.alert.fingerprint.to_string())];
        dress(&mut append);
        writer.append(log, append).await.unwrap();
        self.writers.push((number, writer));
    }

    fn writer(&self, number: u64) -> &Writer {
        &self.writers.iter().find(|(one, _)| *one == number).unwrap().1
    }

    fn writer_mut(&mut self, number: u64) -> &mut Writer {
        &mut self.writers.iter_mut().find(|(one, _)| *one == number).unwrap().1
    }

    /// An entry that only says that a request was refused.
    fn next(&self, number: u64) -> Append {
        let writer = self.writer(number);
        let request = writer.operation.as_ref().map_or(0, |operation| operation.folded_request) + 1;
        let mut append = writer.next(later(1), vec![refused(request)]);
        // Only the two that were asked something have something to fold.
        append.standing.folded_request = u64::from(number == 2);
        append
    }

    fn plain(&self, number: u64) -> Append {
        let mut append = self.writer(number).next(later(1), vec![self.writer(number).succeeded(0)]);
        append.standing.wake_at = Some(later(77));
        append
    }

    fn end(&self, number: u64) -> Append {
        self.writer(number).skip(later(1))
    }

    /// The batch.
    fn appends(&self, kind: Kind) -> Vec<Append> {
        let mut all = Vec::new();
        if !matches!(kind, Kind::Begin | Kind::BeginAndEnd) {
            all.extend(self.that_go_on());
        }
        if !matches!(kind, Kind::Begin | Kind::BeginAndEnd | Kind::GoOn) {
            all.extend(self.that_end());
        }
        if matches!(kind, Kind::Claim | Kind::BeginAndGoOn | Kind::Owe) {
            all.extend(self.that_claim());
        }
        if kind >= Kind::Begin {
            all.extend(self.that_begin());
        }
        if kind >= Kind::BeginAndEnd {
            all.extend(self.that_begin_and_end());
        }
        if kind == Kind::Owe {
            all.extend(self.that_owe());
        }
        all
    }

    fn skipped_at_once(&self, number: u64) -> Append {
        let mut writer = writer(self.session, BEGINNING + number);
        writer.target.service = format!("service {}", BEGINNING + number);
        let mut append = writer.begin(NOW, vec![skipped()]);
        append.standing.reason = Some(format!("skipped {number}"));
        append
    }

    fn that_begin_and_end(&self) -> Vec<Append> {
        let mut all: Vec<_> = (20..26).map(|number| self.skipped_at_once(number)).collect();
        let hold = |key: &str, seconds| Some((key.to_owned(), later(seconds)));
        all[0].ends = Some(Ending { hold: hold("rest", 40), refund: false });
        all[1].ends = Some(Ending { hold: hold("hold 1", 2), refund: true });
        all[2].begin.as_mut().unwrap().alert.id = "alert-1".parse().unwrap();
        all[3].conditions.holds = vec!["hold 2".into()];
        all[4].conditions.switches = vec!["off".into()];
        all[5].versions.table += 1;
        all
    }

    fn that_go_on(&self) -> Vec<Append> {
        let mut all: Vec<_> = [1, 3, 4, 5, 7, 9, 10].map(|number| self.plain_of(number)).into();
        all.extend([self.next(2), self.next(8)]);
        let mut after_its_end = self.plain_of(6);
        after_its_end.expected_seq = 4;
        all.push(after_its_end);
        all[0].standing.reason = Some("for people".into());
        all[3].epoch.0 += 1;
        (all[5].standing.held, all[5].standing.wake_at) = (false, Some(later(5)));
        all[5].standing.reason = Some("it rests".into());
        all[5].versions.table += 1;
        all[5].versions.format += 1;
        all[6].expected_seq += 3;
        all
    }

    fn plain_of(&self, number: u64) -> Append {
        let mut append = self.plain(number);
        append.standing.wake_at = Some(later(70 + number));
        append
    }

    fn that_end(&self) -> Vec<Append> {
        let mut all: Vec<_> = (1..=6).map(|number| self.end(ENDING + number)).collect();
        let hold = |key: &str, seconds| Some((key.to_owned(), later(seconds)));
        all[0].ends = Some(Ending { hold: hold("rest", 10), refund: true });
        all[1].ends = Some(Ending { hold: hold("rest", 30), refund: false });
        all[2].ends = Some(Ending { hold: hold("hold 2", 20), refund: true });
        all[3].epoch.0 += 1;
        all[4].standing.reason = Some("why it ended".into());
        all[5] = self.writer(ENDING + 6).next(later(1), vec![refused(1)]);
        all[5].standing.folded_request = 0;
        all
    }

    fn that_claim(&self) -> Vec<Append> {
        let on = |number: u64| {
            let mut append = self.writer(CLAIMING + number).next(later(6), vec![refused(1)]);
            append.standing.folded_request = 0;
            append
        };
        let mut all: Vec<_> = (1..=6).map(on).collect();
        all[0].claims = ["fingerprint", "sameness", "slot"].map(|kind| claim(kind, "new")).into();
        all[0].standing.reason = Some("it acts".into());
        // What somebody has, what rests, what rests no more, and what is switched off.
        all[1].claims = vec![Claim::Sameness("same 6".into())];
        all[2].conditions.holds = vec!["hold 1".into()];
        all[3].conditions.holds = vec!["hold 2".into()];
        all[4].conditions.switches = vec!["off".into()];
        all[5].conditions.switches = vec!["on".into()];
        all
    }

    fn that_begin(&self) -> Vec<Append> {
        let begin = |number: u64| {
            let mut writer = writer(self.session, BEGINNING + number);
            writer.target.service = format!("service {}", BEGINNING + number);
            let mut append = begin(&writer);
            append.standing.reason = Some(format!("begins {number}"));
            append.standing.wake_at = Some(later(100 + number));
            append
        };
        let mut all: Vec<_> = (1..=7).map(begin).collect();
        all[0].claims.push(Claim::Sameness("begins".into()));
        all[1].claims = vec![Claim::Slot("slot 6".into())];
        all[2].begin.as_mut().unwrap().alert.id = "alert-1".parse().unwrap();
        all[3].conditions.holds = vec!["hold 2".into()];
        all[4].conditions.switches = vec!["off".into()];
        all[5].versions.table += 1;
        (all[6].standing.held, all[6].standing.wake_at) = (false, Some(later(3)));
        all
    }

    fn that_owe(&self) -> Vec<Append> {
        let owe = |key: &str| Owe {
            executor: "persist".into(),
            order_key: key.into(),
            content: format!("about {key}").into_bytes().into(),
        };
        let mut all: Vec<_> = (1..=3)
            .map(|number| {
                let mut append = self.writer(OWING + number).next(later(6), vec![refused(1)]);
                append.standing.folded_request = 0;
                append
            })
            .collect();
        all[0].outbox = vec![owe("one"), owe("two")];
        all[0].payloads = vec![Payload { salt: [7; 16], bytes: Arc::from(*b"as it came") }];
        all[1].conditions.budgets = vec![budget("shared", 2), budget("budget 5", 1)];
        all[2].conditions.budgets = vec![budget("shared", 2)];
        all[2].outbox = vec![owe("three")];
        all.push(self.skipped_at_once(26));
        all[3].outbox = vec![owe("four")];
        all
    }

    /// Beginnings that show what holds and budgets came to.
    fn after(&self) -> Vec<Append> {
        let mut all = Vec::new();
        for (number, key) in (500..).zip(["rest", "hold 1", "hold 2"]) {
            let mut append = begin(&writer(self.session, number));
            append.conditions.holds = vec![key.into()];
            all.push(append);
        }
        let budgets = ["budget 1", "budget 2", "budget 3", "budget 4", "budget 5", "shared"];
        for (number, key) in (600..).zip(budgets) {
            let mut append = begin(&writer(self.session, number));
            append.conditions.budgets = vec![budget(key, if key == "shared" { 2 } else { 1 })];
            all.push(append);
        }
        all
    }
}

fn claim(kind: &str, key: &str) -> Claim {
    match kind {
        "fingerprint" => Claim::Fingerprint(key.into()),
        "sameness" => Claim::Sameness(key.into()),
        _ => Claim::Slot(key.into()),
    }
}
