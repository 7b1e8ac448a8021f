//! What entries owe is delivered, whatever happens to the engine, the executor or the configuration.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use redress_engine::action::{self, ActionExecutor, Call, InDoubt, Output, Policy};
use redress_engine::fsm::State;
use redress_engine::operation_log::{
    Actor, Event, Join, NewAlert, Operation, OperationHistory as _, OperationLog as _, OutboxRow,
    OutboxState, Owe,
};
use redress_engine::types::{EffectKey, OperationId};
use redress_engine::{Config, Disposition, Engine, Obligations, SubmitError};
use redress_testkit::{Pager, Script, alert::alert};
use tokio::time::Instant;

use crate::world::{HOUR, MINUTE, SECOND, World, accept, submit};

/// What one try does.
#[derive(Clone, Copy)]
enum Try {
    Fails,
    Refuses,
    Panics,
    Hangs,
}

/// The bookkeeping: does what it is told, then succeeds. Clones share what was seen.
#[derive(Clone, Default)]
struct Books {
    tries: Arc<Mutex<VecDeque<Try>>>,
    always: Arc<Mutex<Option<Try>>>,
    seen: Arc<Mutex<Vec<(EffectKey, Instant)>>>,
}

impl Books {
    fn that(tries: impl IntoIterator<Item = Try>) -> Self {
        Self { tries: Arc::new(Mutex::new(tries.into_iter().collect())), ..Self::default() }
    }

    fn always(act: Try) -> Self {
        let books = Self::default();
        books.does_henceforth(Some(act));
        books
    }

    /// What every try does from now on; `None`: it succeeds.
    fn does_henceforth(&self, act: Option<Try>) {
        *self.always.lock().unwrap() = act;
    }

    fn seen(&self) -> Vec<(EffectKey, Instant)> {
        self.seen.lock().unwrap().clone()
    }
}

#[async_trait]
impl ActionExecutor for Books {
    fn name(&self) -> &str {
        "books"
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Rerun
    }

    async fn execute(&self, call: &Call) -> Result<Output, action::Error> {
        self.seen.lock().unwrap().push((call.key, Instant::now()));
        let next = self.tries.lock().unwrap().pop_front().or(*self.always.lock().unwrap());
        match next {
            None => Ok(Output::new("booked")),
            Some(Try::Fails) => Err(action::Error::retryable("the books are closed")),
            Some(Try::Refuses) => Err(action::Error::permanent("the books are burnt")),
            Some(Try::Panics) => panic!("on purpose"),
            Some(Try::Hangs) => std::future::pending().await,
        }
    }
}

/// Every end is booked; nothing that Redress is told about itself.
struct BookEnds;

impl Obligations for BookEnds {
    fn owed(&self, operation: &Operation, _: &[Event]) -> Vec<Owe> {
        if !operation.state.is_ended() || operation.alert.service == "redress" {
            return Vec::new();
        }
        let order_key = format!("service:{}", operation.target);
        vec![Owe { executor: "books".into(), order_key, content: Arc::from(*b"{}") }]
    }
}

async fn engine(world: &World, books: &Books, pager: &Pager) -> Engine {
    let slow = redress_testkit::Do::slowly(SECOND, redress_testkit::Do::Succeed);
    let executor = world.executor(Policy::Rerun, Script::always(slow));
    // Hours go by here, and nothing hangs on looking often.
    let config = Config { poll: SECOND, ..Config::default() };
    let builder = world.builder().config(config).executor(books.clone()).escalation(pager.clone());
    world.start(builder.obligations(BookEnds), &executor, world.strategy(&executor, 1)).await
}

async fn row(world: &World, id: OperationId) -> OutboxRow {
    world.log.outbox_of(id).await.unwrap().remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_hang_are_failed_tries() {
    let world = World::new();
    let books = Books::that([Try::Panics, Try::Hangs]);
    let engine = engine(&world, &books, &Pager::new()).await;
    let id = accept(&engine, alert("a").native()).await;
    assert_eq!(world.until_ended(id).await, State::Restored);
    world.until(id, "was booked", |head| head.owed == 0).await;
    let seen = books.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|(key, _)| *key == seen[0].0), "one key");
    assert_eq!(row(&world, id).await.tries, 3);
    world.judge().await;
}

/// What can be tried again is never given up, at most five minutes apart; a person hears of it, once.
#[tokio::test(start_paused = true)]
async fn what_keeps_failing_stays_owed_and_raises_one_alert() {
    let world = World::new();
    let pager = Pager::new();
    let books = Books::always(Try::Fails);
    let first = engine(&world, &books, &pager).await;
    let id = accept(&first, alert("a").native()).await;
    world.until_ended(id).await;
    tokio::time::sleep(2 * HOUR).await;
    let owed = row(&world, id).await;
    assert_eq!(owed.state, OutboxState::Owed);
    assert!(owed.tries > 25, "{}", owed.tries);
    let seen = books.seen();
    let longest = seen.windows(2).map(|pair| pair[1].1 - pair[0].1).max().unwrap();
    assert!(longest <= 5 * MINUTE + SECOND, "{longest:?}");
    // The alert is an operation of its own that does nothing but call a person.
    let own = format!("redress-owed-books-{}", owed.position);
    let record = world.log.alert(&own.parse().unwrap()).await.unwrap().unwrap();
    let about = world.head(record.operation).await;
    assert_eq!(
        (about.state, about.reason.as_deref()),
        (State::Skipped, Some("Redress does not remediate itself"))
    );
    assert_eq!((record.service.as_str(), record.count), ("redress", 1));
    assert_eq!(Some(record.alert_since), world.head(id).await.ended_at, "when it was written");
    let calls = pager.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!((calls[0].alert.as_str(), calls[0].state), (own.as_str(), State::Skipped));
    assert!(calls[0].reason.contains(&id.to_string()) && calls[0].reason.contains("the books are closed"));
    // The next engine knows that it was said, and delivers when it can.
    first.shutdown().await;
    let second = engine(&world, &Books::default(), &pager).await;
    world.until(id, "was booked", |head| head.owed == 0).await;
    second.shutdown().await;
    assert_eq!(pager.calls().len(), 1);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_said_within_a_few_minutes() {
    let world = World::new();
    let pager = Pager::new();
    let engine = engine(&world, &Books::always(Try::Fails), &pager).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_ended(id).await;
    tokio::time::sleep(SECOND * 20).await;
    assert_eq!(pager.calls(), [], "not for a hiccup");
    tokio::time::sleep(3 * MINUTE).await;
    assert_eq!(pager.calls().len(), 1);
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_done_is_handed_to_a_person_who_is_called() {
    let world = World::new();
    let pager = Pager::new();
    let books = Books::that([Try::Refuses]);
    let engine = engine(&world, &books, &pager).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_ended(id).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(row(&world, id).await.state, OutboxState::Handed);
    assert_eq!(books.seen().len(), 1);
    assert_eq!(pager.calls().len(), 1, "{:?}", pager.calls());
    // It does not hold up what comes behind it.
    let next = accept(&engine, alert("b").native()).await;
    world.until(next, "was booked", |head| head.state.is_ended() && head.owed == 0).await;
    world.judge().await;
}

/// Rows of an earlier configuration: an engine that owes nothing itself delivers what it has the executor for.
#[tokio::test(start_paused = true)]
async fn rows_that_are_left_are_delivered_by_whoever_can() {
    let world = World::new();
    let pager = Pager::new();
    let closed = engine(&world, &Books::always(Try::Fails), &pager).await;
    let id = accept(&closed, alert("a").native()).await;
    world.until_ended(id).await;
    closed.shutdown().await;
    let executor = world.executor(Policy::Rerun, Script::new());
    let without = world.engine(&executor, world.strategy(&executor, 1)).await;
    let tries = row(&world, id).await.tries;
    tokio::time::sleep(HOUR).await;
    assert_eq!(row(&world, id).await.tries, tries, "it was not even asked for");
    let books = Books::default();
    let builder = world.builder().executor(books.clone());
    let _with = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    world.until(id, "was booked", |head| head.owed == 0).await;
    without.shutdown().await;
    world.judge().await;
}

/// An alert about Redress, whoever sends it, starts nothing, and says why.
#[tokio::test(start_paused = true)]
async fn redress_does_not_remediate_itself() {
    let world = World::new();
    let pager = Pager::new();
    let engine = engine(&world, &Books::default(), &pager).await;
    let receipt = submit(&engine, alert("a").service("redress").native()).await;
    assert_eq!(receipt.disposition, Disposition::Accepted(State::Skipped));
    let head = world.head(receipt.operation.unwrap()).await;
    assert_eq!(head.reason.as_deref(), Some("Redress does not remediate itself"));
    tokio::time::sleep(MINUTE).await;
    assert_eq!(pager.calls(), [], "only the engine's own alerts call");
    world.judge().await;
}

/// A row whose alert cannot be made durable is not handed over in silence.
#[tokio::test(start_paused = true)]
async fn nothing_is_handed_over_before_the_alert_about_it_is_durable() {
    let world = World::new();
    let pager = Pager::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let log = redress_testkit::FaultyLog::new(Arc::new(world.log.clone()));
    let books = Books::always(Try::Refuses);
    let builder = world.builder_on(Arc::new(log.clone())).executor(books.clone()).escalation(pager.clone());
    let engine = world.start(builder.obligations(BookEnds), &executor, world.strategy(&executor, 1)).await;
    log.hook(|moment| match moment.method {
        "alert" => redress_testkit::Act::Fail,
        _ => redress_testkit::Act::GoOn,
    });
    let id = accept(&engine, alert("a").native()).await;
    world.until_ended(id).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(row(&world, id).await.state, OutboxState::Owed);
    log.hook(|_| redress_testkit::Act::GoOn);
    tokio::time::sleep(MINUTE).await;
    assert_eq!(row(&world, id).await.state, OutboxState::Handed);
    assert_eq!(pager.calls().len(), 1);
    world.judge().await;
}

/// The books are closed for everybody: that is one outage, however many services are owed something.
#[tokio::test(start_paused = true)]
async fn one_outage_calls_once_and_the_next_one_again() {
    let world = World::new();
    let pager = Pager::new();
    let books = Books::always(Try::Fails);
    let first = engine(&world, &books, &pager).await;
    for n in 0..8 {
        accept(&first, alert(&format!("{n}")).service(&format!("s{n}")).native()).await;
    }
    tokio::time::sleep(20 * MINUTE).await;
    assert_eq!(pager.calls().len(), 1, "{:?}", pager.calls());
    first.shutdown().await;
    // Another engine, and rows that are new: still the same outage.
    let second = engine(&world, &books, &pager).await;
    accept(&second, alert("new").service("new").native()).await;
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!(pager.calls().len(), 1, "{:?}", pager.calls());
    books.does_henceforth(None);
    tokio::time::sleep(20 * MINUTE).await;
    assert_eq!(world.log.outbox_owed(100).await.unwrap(), []);
    books.does_henceforth(Some(Try::Fails));
    accept(&second, alert("later").service("later").native()).await;
    tokio::time::sleep(20 * MINUTE).await;
    assert_eq!(pager.calls().len(), 2, "{:?}", pager.calls());
    world.judge().await;
}

/// Rows that can never be delivered, one after the other, are not a call each.
#[tokio::test(start_paused = true)]
async fn many_rows_that_are_handed_over_call_once_an_hour() {
    let world = World::new();
    let pager = Pager::new();
    let engine = engine(&world, &Books::always(Try::Refuses), &pager).await;
    for n in 0..5 {
        let id = accept(&engine, alert(&format!("{n}")).service(&format!("s{n}")).native()).await;
        world.until_ended(id).await;
        tokio::time::sleep(MINUTE).await;
        assert_eq!(row(&world, id).await.state, OutboxState::Handed);
    }
    assert_eq!(pager.calls().len(), 1, "{:?}", pager.calls());
    tokio::time::sleep(HOUR).await;
    accept(&engine, alert("later").native()).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(pager.calls().len(), 2, "{:?}", pager.calls());
    world.judge().await;
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_may_be_behind_calls_nobody() {
    let world = World::new();
    let pager = Pager::new();
    let books = Books::always(Try::Fails);
    let executor = world.executor(Policy::Rerun, Script::new());
    let builder = world.builder().executor(books.clone()).escalation(pager.clone()).calls_nobody("books");
    let engine = world.start(builder.obligations(BookEnds), &executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!((row(&world, id).await.state, pager.calls().len()), (OutboxState::Owed, 0));
    books.does_henceforth(None);
    world.until(id, "was booked", |head| head.owed == 0).await;
    world.judge().await;
}

/// Nobody outside can take the id of an alert before the engine needs it, or pass an alert off as one.
#[tokio::test(start_paused = true)]
async fn alerts_of_the_engines_own_cannot_come_from_outside() {
    let world = World::new();
    let engine = engine(&world, &Books::default(), &Pager::new()).await;
    let taken = alert("redress-owed-books-1").native();
    let passed_off =
        alert("a").service("redress").label(redress_engine::action::OWN_ALERT_LABEL, "x").native();
    let resolved = alert("redress-owed-books-1").resolved(world.log_now());
    for delivery in [taken, passed_off, resolved] {
        let refused = engine.submit(delivery.clone()).await.unwrap_err();
        assert!(matches!(refused, SubmitError::Unstorable(_)), "{refused:?}");
        assert!(engine.sender().send(delivery).await.is_err());
    }
    world.judge().await;
}

/// What is owed cannot even be read: the alert is made from the row alone.
#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_read_is_not_tried_in_silence() {
    let world = World::new();
    let pager = Pager::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let log = redress_testkit::FaultyLog::new(Arc::new(world.log.clone()));
    let builder =
        world.builder_on(Arc::new(log.clone())).executor(Books::default()).escalation(pager.clone());
    let engine = world.start(builder.obligations(BookEnds), &executor, world.strategy(&executor, 1)).await;
    log.hook(|moment| match moment.method {
        "entries" => redress_testkit::Act::Fail,
        _ => redress_testkit::Act::GoOn,
    });
    let id = accept(&engine, alert("a").native()).await;
    world.until_ended(id).await;
    tokio::time::sleep(20 * MINUTE).await;
    let owed = row(&world, id).await;
    assert_eq!(owed.state, OutboxState::Owed);
    let own = format!("redress-owed-books-{}", owed.position).parse().unwrap();
    assert!(world.log.alert(&own).await.unwrap().is_some());
    log.hook(|_| redress_testkit::Act::GoOn);
    world.until(id, "was booked", |head| head.owed == 0).await;
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(pager.calls().len(), 1);
    world.judge().await;
}

/// An executor of that name that was there before does not keep people from being called; nor do limits of zero.
#[tokio::test(start_paused = true)]
async fn escalation_works_whatever_was_registered_before() {
    struct Escalations;

    #[async_trait]
    impl ActionExecutor for Escalations {
        fn name(&self) -> &str {
            redress_engine::escalation::EXECUTOR
        }

        fn in_doubt(&self) -> InDoubt<'_> {
            InDoubt::Rerun
        }

        async fn execute(&self, _: &Call) -> Result<Output, action::Error> {
            Ok(Output::new("ignored"))
        }
    }

    let world = World::new();
    let pager = Pager::new();
    let executor = world.executor(Policy::Rerun, Script::always(redress_testkit::Do::Fail));
    let config = Config { channel_capacity: 0, outbox_at_work_max: 0, ..Config::default() };
    let builder = world.builder().config(config).executor(Escalations).escalation(pager.clone());
    let engine = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    let sent = engine.sender().send(alert("a").native()).await.unwrap();
    assert_eq!(world.until_ended(sent.operation.unwrap()).await, State::Failed);
    tokio::time::sleep(MINUTE).await;
    assert_eq!(pager.calls().len(), 1);
    world.judge().await;
}

/// An id that somebody's alert has, from a time when it was not refused, does not keep a person from being called.
#[tokio::test(start_paused = true)]
async fn an_id_that_is_taken_already_does_not_silence_the_alert() {
    let world = World::new();
    let pager = Pager::new();
    let engine = engine(&world, &Books::always(Try::Fails), &pager).await;
    world.pause("target:default/other").await;
    let other = alert("other").service("other");
    let waits = accept(&engine, other.native()).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_ended(id).await;
    let taken = format!("redress-owed-books-{}", row(&world, id).await.position);
    let content = Arc::new(alert(&taken).service("other").build());
    let new = NewAlert {
        id: content.id.clone(),
        base: content.id.clone(),
        n: 1,
        fingerprint: content.fingerprint.clone(),
        service: content.service.clone(),
        alert_since: content.alert_since,
        seen_at: world.log_now(),
    };
    let join = Join { operation: waits, alert: new, content, actor: Actor::local(1000) };
    world.log.join(join).await.unwrap();
    tokio::time::sleep(10 * MINUTE).await;
    let calls = pager.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(calls[0].alert.as_str(), format!("{taken}-2"));
    world.judge().await;
}

/// It was owed for long because nobody was there, not because it fails.
#[tokio::test(start_paused = true)]
async fn a_hiccup_after_a_long_time_away_calls_nobody() {
    let world = World::new();
    let pager = Pager::new();
    let first = engine(&world, &Books::always(Try::Hangs), &pager).await;
    let id = accept(&first, alert("a").native()).await;
    world.until_ended(id).await;
    first.shutdown().await;
    tokio::time::sleep(HOUR).await;
    let _second = engine(&world, &Books::that([Try::Fails]), &pager).await;
    world.until(id, "was booked", |head| head.owed == 0).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(pager.calls(), []);
    world.judge().await;
}

/// So many at a time, whatever is owed.
#[tokio::test(start_paused = true)]
async fn only_so_many_are_under_way() {
    let world = World::new();
    let books = Books::always(Try::Hangs);
    let executor = world.executor(Policy::Rerun, Script::new());
    let config = Config { outbox_at_work_max: 2, ..Config::default() };
    let builder = world.builder().config(config).executor(books.clone()).obligations(BookEnds);
    let engine = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(accept(&engine, alert(&format!("{n}")).service(&format!("s{n}")).native()).await);
    }
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(books.seen().len(), 2);
    books.does_henceforth(None);
    for id in ids {
        world.until(id, "was booked", |head| head.owed == 0).await;
    }
    world.judge().await;
}

/// The lease ended while it was being prepared: somebody else delivers it.
#[tokio::test(start_paused = true)]
async fn nothing_is_delivered_when_the_lease_is_over() {
    let world = World::new();
    let books = Books::default();
    let executor = world.executor(Policy::Rerun, Script::new());
    let log = redress_testkit::FaultyLog::new(Arc::new(world.log.clone()));
    let gate = redress_testkit::Gate::new();
    let prepares = gate.clone();
    log.hook(move |moment| match moment.method {
        "entries" => redress_testkit::Act::Wait(prepares.clone()),
        "renew_session" => redress_testkit::Act::Fail,
        _ => redress_testkit::Act::GoOn,
    });
    // As long as it takes until it is prepared.
    let config = Config { grace: HOUR, ..Config::default() };
    let builder = world.builder_on(Arc::new(log.clone())).config(config).executor(books.clone());
    let engine = world.start(builder.obligations(BookEnds), &executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    gate.reached().await;
    engine.lost().await;
    gate.open();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(books.seen(), []);
    assert_eq!(world.head(id).await.owed, 1);
    world.judge().await;
}

/// What a call says: which row of which entry it is, about what, with what, and which try it is.
#[tokio::test(start_paused = true)]
async fn a_delivery_says_what_it_is_about() {
    #[derive(Clone, Default)]
    struct Copies(Arc<Mutex<Vec<Call>>>);

    #[async_trait]
    impl ActionExecutor for Copies {
        fn name(&self) -> &str {
            "copies"
        }

        fn in_doubt(&self) -> InDoubt<'_> {
            InDoubt::Rerun
        }

        fn configuration(&self) -> serde_json::Value {
            serde_json::json!({"to": "the archive"})
        }

        async fn execute(&self, call: &Call) -> Result<Output, action::Error> {
            self.0.lock().unwrap().push(call.clone());
            if call.try_number == 1 {
                Err(action::Error::retryable("not yet"))
            } else {
                Ok(Output::new("kept"))
            }
        }
    }

    /// Two rows that anybody can read, and one that nobody can.
    struct CopyEnds;

    impl Obligations for CopyEnds {
        fn owed(&self, operation: &Operation, _: &[Event]) -> Vec<Owe> {
            if !operation.state.is_ended() || operation.alert.service == "redress" {
                return Vec::new();
            }
            let contents: [&[u8]; 3] = [b"{\"n\":0}", b"{\"n\":1}", b"no JSON"];
            let owe = |(n, content): (usize, &&[u8])| Owe {
                executor: "copies".into(),
                order_key: format!("copy {n}"),
                content: Arc::from(*content),
            };
            contents.iter().enumerate().map(owe).collect()
        }
    }

    let world = World::new();
    let pager = Pager::new();
    let copies = Copies::default();
    let executor = world.executor(Policy::Rerun, Script::new());
    let builder = world.builder().executor(copies.clone()).escalation(pager.clone()).obligations(CopyEnds);
    let engine = world.start(builder, &executor, world.strategy(&executor, 1)).await;
    let id = accept(&engine, alert("a").native()).await;
    world.until_ended(id).await;
    tokio::time::sleep(MINUTE).await;
    let head = world.head(id).await;
    let calls = copies.0.lock().unwrap().clone();
    let mut seen: Vec<_> = calls.iter().map(|call| (call.key.to_string(), call.try_number)).collect();
    seen.sort();
    let key = |n: u32| format!("{id}:outbox:{}:{n}", head.seq);
    assert_eq!(seen, [(key(0), 1), (key(0), 2), (key(1), 1), (key(1), 2)]);
    for call in &calls {
        assert_eq!((&call.target, call.fencing.epoch), (&head.target, head.epoch));
        assert_eq!(*call.configuration, serde_json::json!({"to": "the archive"}));
        assert_eq!(call.parameters["n"], call.key.step);
    }
    let states: Vec<_> = world.log.outbox_of(id).await.unwrap().iter().map(|row| row.state).collect();
    assert_eq!(states, [OutboxState::Done, OutboxState::Done, OutboxState::Handed]);
    assert_eq!(pager.calls().len(), 1, "{:?}", pager.calls());
    world.judge().await;
}
