//! [`Registry`]: the executors and checks that this engine has.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redress_action::{ActionExecutor, Check};
use redress_strategy::Plan;

/// The executors and checks that this engine has, by name.
#[derive(Clone, Default)]
pub struct Registry {
    executors: HashMap<String, Arc<dyn ActionExecutor>>,
    checks: HashMap<String, Arc<dyn Check>>,
}

impl Registry {
    /// Adds an executor; one of the same name is replaced.
    pub fn add_executor(&mut self, executor: Arc<dyn ActionExecutor>) {
        self.executors.insert(executor.name().to_owned(), executor);
    }

    /// Adds a check; one of the same name is replaced.
    pub fn add_check(&mut self, check: Arc<dyn Check>) {
        self.checks.insert(check.name().to_owned(), check);
    }

    /// The executor of this name.
    pub fn executor(&self, name: &str) -> Option<&Arc<dyn ActionExecutor>> {
        self.executors.get(name)
    }

    /// The check of this name.
    pub fn check(&self, name: &str) -> Option<&Arc<dyn Check>> {
        self.checks.get(name)
    }

    /// The names of the executors, in order.
    pub fn executor_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.executors.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// What a plan needs and this engine does not have; `None`: it can run it.
    pub fn missing(&self, plan: &Plan) -> Option<String> {
        for step in plan.steps.iter().chain(&plan.compensation) {
            let Some(executor) = self.executor(&step.executor) else {
                return Some(format!("executor {}", step.executor));
            };
            if let Err(why) = guarded(|| executor.accepts(&step.configuration)) {
                return Some(format!("executor {}: {why}", step.executor));
            }
            // Under another promise the frozen plan would be carried out in a way nobody agreed to.
            let declared = executor.in_doubt().policy();
            if declared != step.in_doubt {
                return Some(format!(
                    "executor {} that declares {} (it declares {declared} now)",
                    step.executor, step.in_doubt
                ));
            }
        }
        for planned in &plan.checks {
            let Some(check) = self.check(&planned.check) else {
                return Some(format!("check {}", planned.check));
            };
            if let Err(why) = guarded(|| check.accepts(&planned.configuration)) {
                return Some(format!("check {}: {why}", planned.check));
            }
        }
        None
    }
}

/// What asks code that is not ours: a panic is an answer about this one plan, and no matter of the others.
fn guarded(accepts: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(accepts))
        .unwrap_or_else(|_| Err("it panicked when it was asked".to_owned()))
}
