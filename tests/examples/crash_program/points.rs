//! [`Points`]: the places where this process may be told to end, and what passes them: the log's writes and the
//! deliveries of the outbox. What the steps pass is in [`crate::steps`], what goes over the wire in [`crate::wire`].

use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use redress_engine::action::{self, ActionExecutor, Call, InDoubt, Output};
use redress_testkit::{Act, Moment, When};
use serde_json::Value;
use tokio::sync::watch;

/// The log's methods that write nothing; every other one has a point before and after it.
const READS: [&str; 20] = [
    "operation",
    "find",
    "operations",
    "entries",
    "plan",
    "alert",
    "alerts_of",
    "by_fingerprint",
    "inbox",
    "outbox_of",
    "outbox_owed",
    "payloads",
    "late_results",
    "switches",
    "follow",
    "audit",
    "status",
    "stuck",
    "inbox_waiting",
    "next_due",
];

/// Counts the points, and ends the process at one of them.
#[derive(Clone)]
pub struct Points(Arc<Inner>);

struct Inner {
    at: Option<String>,
    passed: watch::Sender<u64>,
}

impl Points {
    /// Ends the process at the point of this name or number; `None`: at none.
    pub fn new(at: Option<String>) -> Self {
        Self(Arc::new(Inner { at, passed: watch::Sender::new(0) }))
    }

    /// How many were passed; it changes with each.
    pub fn passed(&self) -> watch::Receiver<u64> {
        self.0.passed.subscribe()
    }

    /// Passes one, or ends here.
    pub fn pass(&self, name: &str) {
        let number = *self.0.passed.borrow() + 1;
        say(&format!("point {number} {name}"));
        if self.0.at.as_deref().is_some_and(|at| at == name || at == number.to_string()) {
            die();
        }
        self.0.passed.send_replace(number);
    }

    /// The operation's id differs from run to run, so it is no part of a name.
    pub fn pass_call(&self, when: &str, call: &Call, how: &str) {
        let (key, try_number) = (call.key, call.try_number);
        self.pass(format!("{when} {}:{}:{} {try_number} {how}", key.phase, key.attempt, key.step).trim_end());
    }

    /// For the hook of a log.
    pub fn pass_write(&self, moment: Moment) -> Act {
        if !READS.contains(&moment.method) {
            let when = match moment.when {
                When::Before => "before",
                When::After => "after",
            };
            self.pass(&format!("{when} {} {}", moment.method, moment.call));
        }
        Act::GoOn
    }
}

/// A test that has gone away reads no more lines; that is no reason to stop.
pub fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// Ends this process as `kill -9` does. The runtime has one thread, so nothing goes on meanwhile.
fn die() {
    let own = std::process::id().to_string();
    let _ = Command::new("sh").args(["-c", "kill -9 \"$0\"", &own]).status();
    loop {
        std::thread::park();
    }
}

/// An executor of the outbox, with a point before and after each delivery.
pub struct Delivery {
    /// Who delivers.
    pub by: Arc<dyn ActionExecutor>,
    /// What is passed.
    pub points: Points,
}

#[async_trait]
impl ActionExecutor for Delivery {
    fn name(&self) -> &str {
        self.by.name()
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        self.by.in_doubt()
    }

    fn configuration(&self) -> Value {
        self.by.configuration()
    }

    fn accepts(&self, configuration: &Value) -> Result<(), String> {
        self.by.accepts(configuration)
    }

    async fn execute(&self, call: &Call) -> Result<Output, action::Error> {
        let name = self.by.name();
        self.points.pass_call(&format!("before deliver {name}"), call, "");
        let answer = self.by.execute(call).await;
        self.points.pass_call(&format!("after deliver {name}"), call, "");
        answer
    }
}
