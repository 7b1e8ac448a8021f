//! An orchestrator that imports Redress: an executor of its own, a strategy, two alerts, the history.
//!
//! Run it with `cargo run --example embed`.
#![expect(clippy::print_stdout, reason = "an example prints what it does")]

use std::sync::Arc;
use std::time::Duration;

use redress_engine::action::{ActionExecutor, Call, Check, Error, InDoubt, Observation, Output};
use redress_engine::operation_log::MemoryLog;
use redress_engine::strategy::{Step, Strategy};
use redress_engine::types::{Alert, Clock as _, Delivery, SystemClock};
use redress_engine::{Engine, Environment};

/// Restarts a service. Restarting again is harmless, so what is in doubt is simply done again.
struct Restart;

#[async_trait::async_trait]
impl ActionExecutor for Restart {
    fn name(&self) -> &str {
        "restart"
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Rerun
    }

    async fn execute(&self, call: &Call) -> Result<Output, Error> {
        println!("restarting {} under {}", call.target, call.key);
        Ok(Output::new(format!("restarted {}", call.target.service)))
    }
}

/// A service that always answers.
struct Answers;

#[async_trait::async_trait]
impl Check for Answers {
    fn name(&self) -> &str {
        "answers"
    }

    fn independent(&self) -> bool {
        true
    }

    async fn check(&self, _call: &Call) -> Observation {
        Observation::Healthy { detail: "it answers".into() }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let log = Arc::new(MemoryLog::new(Arc::new(SystemClock)));
    let strategy = Strategy::builder("restart")
        .step(Step::new("restart", &Restart).timeout(Duration::from_secs(10)))
        .check(&Answers, Duration::from_secs(2))
        .build()?;
    let engine = Engine::builder(Environment::system(), log)
        .executor(Restart)
        .check(Answers)
        .strategy(strategy)
        .start()
        .await?;
    let (sender, since) = (engine.sender(), SystemClock.now());
    for id in ["disk-full-1", "disk-full-1"] {
        let alert = Alert::new(id.parse()?, "shop", "the disk of shop is full", since);
        let receipt = sender.send(Delivery::firing(alert)).await?;
        let head = receipt.settled().await?.ok_or("no operation")?;
        println!("{id}: {:?}, {} is {}", receipt.disposition, head.name, head.state);
    }
    let page = engine.history().operations(&Default::default(), None, 10).await?;
    println!("{} operation in the history", page.operations.len());
    engine.shutdown().await;
    Ok(())
}
