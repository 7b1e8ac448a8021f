//! Alerts that the engine raises about itself, beyond one engine, and what a person then does about the row.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use redress_engine::action::{self, ActionExecutor, Call, InDoubt, Output, Policy};
use redress_engine::operation_log::{
    Actor, Event, Operation, OperationHistory as _, OperationLog as _, OutboxDecision, OutboxRow,
    OutboxState, OutboxVerdict, Owe,
};
use redress_engine::types::OperationId;
use redress_engine::{Config, Engine, Obligations};
use redress_testkit::{Pager, Script, alert::alert};

use crate::world::{HOUR, MINUTE, SECOND, World, accept};

/// What the executor `ledger` says each time; clones count together.
#[derive(Clone)]
struct Ledger {
    says: action::Error,
    asked: Arc<AtomicU64>,
}

impl Ledger {
    fn saying(says: action::Error) -> Self {
        Self { says, asked: Arc::default() }
    }
}

#[async_trait]
impl ActionExecutor for Ledger {
    fn name(&self) -> &str {
        "ledger"
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Rerun
    }

    async fn execute(&self, _: &Call) -> Result<Output, action::Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Err(self.says.clone())
    }
}

/// Every end is written down, each service's ends in order.
struct WriteEnds;

impl Obligations for WriteEnds {
    fn owed(&self, operation: &Operation, _: &[Event]) -> Vec<Owe> {
        if !operation.state.is_ended() || operation.alert.service == "redress" {
            return Vec::new();
        }
        let order_key = format!("service:{}", operation.target);
        vec![Owe { executor: "ledger".into(), order_key, content: Arc::from(*b"{}") }]
    }
}

async fn engine(world: &World, ledger: &Ledger, pager: &Pager) -> Engine {
    let executor = world.executor(Policy::Rerun, Script::new());
    let config = Config { poll: SECOND, ..Config::default() };
    let builder = world.builder().config(config).executor(ledger.clone()).escalation(pager.clone());
    world.start(builder.obligations(WriteEnds), &executor, world.strategy(&executor, 1)).await
}

async fn row(world: &World, id: OperationId) -> OutboxRow {
    world.log.outbox_of(id).await.unwrap().remove(0)
}

/// What one engine has said about an executor, the next one does not say again within the hour, also about a row that
/// is the first that the executor owes.
#[tokio::test(start_paused = true)]
async fn an_engine_that_takes_over_repeats_nothing_within_the_hour() {
    let world = World::new();
    let pager = Pager::new();
    let ledger = Ledger::saying(action::Error::permanent("the ledger is burnt"));
    for (n, calls) in [(0, 1), (1, 1), (2, 1)] {
        let engine = engine(&world, &ledger, &pager).await;
        let id = accept(&engine, alert(&format!("{n}")).service(&format!("s{n}")).native()).await;
        world.until_ended(id).await;
        tokio::time::sleep(MINUTE).await;
        assert_eq!(row(&world, id).await.state, OutboxState::Handed);
        assert_eq!(pager.calls().len(), calls, "{:?}", pager.calls());
        engine.shutdown().await;
    }
    tokio::time::sleep(HOUR).await;
    let engine = engine(&world, &ledger, &pager).await;
    accept(&engine, alert("later").service("later").native()).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(pager.calls().len(), 2, "{:?}", pager.calls());
    world.judge().await;
}

/// A final write that keeps failing stays owed until a person closes it; then it is tried no more, and what waited
/// behind it has its turn.
#[tokio::test(start_paused = true)]
async fn what_a_person_closes_is_owed_no_more() {
    let world = World::new();
    let pager = Pager::new();
    let ledger = Ledger::saying(action::Error::retryable("the ledger is locked"));
    let engine = engine(&world, &ledger, &pager).await;
    let first = accept(&engine, alert("first").native()).await;
    world.until_ended(first).await;
    let second = accept(&engine, alert("second").native()).await;
    world.until_ended(second).await;
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(pager.calls().len(), 1, "{:?}", pager.calls());
    let (stuck, behind) = (row(&world, first).await, row(&world, second).await);
    assert_eq!((stuck.state, behind.state), (OutboxState::Owed, OutboxState::Owed));
    assert_eq!(behind.tries, 0, "rows of one service go one after the other");
    let decision = OutboxDecision {
        position: stuck.position,
        index: stuck.index,
        at: world.log_now(),
        by: Actor::local(1000),
        reason: "written by hand".into(),
        what: OutboxVerdict::Close,
    };
    world.log.outbox_decide(decision).await.unwrap();
    tokio::time::sleep(HOUR).await;
    let closed = row(&world, first).await;
    assert_eq!((closed.state, closed.tries), (OutboxState::Closed, stuck.tries));
    assert_eq!(world.head(first).await.owed, 0);
    assert!(row(&world, second).await.tries > 0);
    assert!(ledger.asked.load(Ordering::Relaxed) > u64::from(stuck.tries));
    engine.shutdown().await;
    world.judge().await;
}
