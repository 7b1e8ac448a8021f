//! The strategies of this program. Each call, probe and check of their executors has a point before and after it.

use std::time::Duration;

use async_trait::async_trait;
use redress_engine::action::{ActionExecutor, Call};
use redress_engine::strategy::{Invalid, Step, Strategy};
use redress_tests::client::{Ask, Halt, Healthy, Manner, Probing, Rerun, Server};
use serde_json::json;

use crate::points::Points;

/// From the first step to the end.
const DEADLINE: Duration = Duration::from_secs(10 * 60);
/// Longer than a test moves the clock on.
const COMPENSATION: Duration = Duration::from_secs(60 * 60);

/// The name of what is asked for, in that of its points.
fn named(ask: Ask) -> &'static str {
    match ask {
        Ask::Call => "call",
        Ask::Probe => "probe",
        Ask::Check => "check",
    }
}

#[async_trait]
impl Manner for Points {
    fn path(&self, call: &Call) -> String {
        call.parameters["path"].as_str().unwrap_or("/").to_owned()
    }

    async fn before(&self, ask: Ask, call: &Call) {
        self.pass_call(&format!("before {}", named(ask)), call, "");
    }

    async fn after(&self, ask: Ask, call: &Call, how: &str) {
        self.pass_call(&format!("after {}", named(ask)), call, how);
    }
}

/// The strategy of this name. What each step is answered stands in the test: on `/dedupe` once for each key, on `/plain`
/// as often as it is asked for.
pub fn strategy(name: &str, server: &Server) -> Result<Strategy, Invalid> {
    let (executor, path): (Box<dyn ActionExecutor>, _) = match name {
        "probe" => (Box::new(Probing(server.clone())), "plain"),
        "halt" => (Box::new(Halt(server.clone())), "plain"),
        _ => (Box::new(Rerun(server.clone())), "dedupe"),
    };
    let step = |name: &str| {
        Step::new(name, executor.as_ref())
            .parameters(json!({ "path": format!("/{path}/{name}") }))
            .timeout(Duration::from_secs(20))
            .tries(5, Duration::from_millis(1), Duration::from_millis(5))
    };
    let mut strategy = Strategy::builder(name)
        .check(&Healthy(server.clone()), Duration::from_secs(20))
        .deadline(DEADLINE)
        .compensation_limit(COMPENSATION);
    for name in ["first", "second", "third"] {
        strategy = strategy.step(step(name));
    }
    for name in ["undo-second", "undo-first"] {
        strategy = strategy.compensate(step(name));
    }
    strategy.build()
}
