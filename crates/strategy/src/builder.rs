//! How code makes a [`Strategy`]: a builder with safe defaults, and what it refuses.

use std::sync::Arc;
use std::time::Duration;

use redress_action::{ActionExecutor, Check, OnFailure};
use redress_types::{Alert, Hash, Target};
use serde_json::Value;

use crate::plan::{FORMAT, Limits, OnError, Plan, PlanCheck, PlanStep, Rate, StoredPlan, Tries};
use crate::trigger::Trigger;

/// The most steps a strategy may have, its compensation counted by itself.
pub const MAX_STEPS: usize = 64;
/// The most checks a strategy may have.
pub const MAX_CHECKS: usize = 32;
/// The most labels that may narrow a strategy's target, and the most bytes of the name of each.
pub const MAX_SLOT_LABELS: usize = 8;
const SLOT_LABEL_BYTES_MAX: usize = 128;
/// How long one look with an engine's default check may take.
pub const DEFAULT_CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// How many operations may be admitted for one fingerprint, unless a strategy says otherwise: 5 in 6 hours.
pub const FINGERPRINT_RATE: Rate = Rate { most: 5, window_ms: 6 * 3_600_000 };

/// When it applies and what to do: a trigger and a frozen plan.
#[derive(Clone, Debug)]
pub struct Strategy {
    trigger: Trigger,
    plan: Arc<StoredPlan>,
    parameter_labels: Vec<String>,
}

impl Strategy {
    /// Starts a strategy of this name. Without more it has no step, which [`Builder::build`] refuses.
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder::new(name.into())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.plan.plan.strategy
    }

    /// Whether it is for this alert.
    pub fn applies_to(&self, alert: &Alert) -> bool {
        self.trigger.matches(alert)
    }

    /// The plan that every operation of it freezes.
    pub fn plan(&self) -> &Arc<StoredPlan> {
        &self.plan
    }

    /// Whether it names a check. One that names none is given the engine's default check when that starts.
    pub fn has_check(&self) -> bool {
        !self.plan.plan.checks.is_empty()
    }

    /// The same strategy with one check more, frozen anew: what an engine does with its default check.
    ///
    /// # Errors
    /// [`Invalid`] when it has as many checks as it may have, or the check's configuration is no JSON.
    pub fn with_check(self, check: &dyn Check, timeout: Duration) -> Result<Self, Invalid> {
        let Self { trigger, plan, parameter_labels } = self;
        Builder { trigger, plan: plan.plan.clone(), parameter_labels }.check(check, timeout).build()
    }

    /// What makes two of its operations on one target the same: strategy, target as narrowed by the plan, and the
    /// parameters taken from labels (the deployment to roll back is one).
    pub fn sameness(&self, target: &Target, alert: &Alert) -> String {
        let mut parts = vec![self.name().to_owned(), self.plan.plan.slot(target, alert)];
        for name in &self.parameter_labels {
            parts.push(name.clone());
            parts.push(alert.labels.get(name).cloned().unwrap_or_default());
        }
        let lengths: Vec<String> = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
        Hash::of(&[lengths.concat().as_bytes()]).to_string()
    }
}

/// Why a strategy was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("strategy {strategy:?}: {problem}")]
pub struct Invalid {
    /// Its name.
    pub strategy: String,
    /// What is wrong, and what is expected.
    pub problem: String,
}

/// A step being described. Defaults: 60 s timeout, 5 tries from 1 s to 60 s apart, `on_error` rollback.
#[derive(Clone, Debug)]
pub struct Step(PlanStep);

impl Step {
    /// A step that calls this executor, with its configuration as it is now.
    pub fn new(name: impl Into<String>, executor: &dyn ActionExecutor) -> Self {
        Self(PlanStep {
            name: name.into(),
            executor: executor.name().to_owned(),
            configuration: Arc::new(executor.configuration()),
            parameters: Arc::new(Value::Null),
            in_doubt: executor.in_doubt().policy(),
            timeout_ms: 60_000,
            on_error: OnError::Rollback,
            tries: Tries { max: 5, backoff_ms: 1_000, backoff_max_ms: 60_000 },
        })
    }

    /// The step's own parameters, handed to the executor.
    #[must_use]
    pub fn parameters(mut self, parameters: Value) -> Self {
        self.0.parameters = Arc::new(parameters);
        self
    }

    /// How long one try may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout_ms = millis(timeout);
        self
    }

    /// What a failure for good means.
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.0.on_error = on_error;
        self
    }

    /// Tries in all, and the wait after the first, doubling up to `longest`.
    #[must_use]
    pub fn tries(mut self, max: u32, backoff: Duration, longest: Duration) -> Self {
        self.0.tries = Tries { max, backoff_ms: millis(backoff), backoff_max_ms: millis(longest) };
        self
    }
}

/// Describes a [`Strategy`]. Defaults: any alert, 1 attempt, 30 min deadline, 24 h waiting, verification within
/// 30 s, healthy once, no settling, 5 min cooldown, 5 operations per fingerprint in 6 h ([`FINGERPRINT_RATE`]),
/// escalate. A strategy without a check is verified by the engine's default check, and refused by an engine that has
/// none.
#[derive(Clone, Debug)]
pub struct Builder {
    trigger: Trigger,
    plan: Plan,
    parameter_labels: Vec<String>,
}

impl Builder {
    fn new(strategy: String) -> Self {
        let limits = Limits {
            deadline_ms: 30 * 60_000,
            waiting_ms: 24 * 3_600_000,
            verification_ms: 30_000,
            settle_ms: 0,
            passes: 1,
            check_interval_ms: 1_000,
            attempts: 1,
            compensation_ms: 10 * 60_000,
            cooldown_ms: 5 * 60_000,
            idle_cooldown_ms: 3_600_000,
            target_rate: None,
            strategy_rate: None,
            fingerprint_rate: Some(FINGERPRINT_RATE),
        };
        let plan = Plan {
            format: FORMAT,
            strategy,
            steps: Vec::new(),
            checks: Vec::new(),
            compensation: Vec::new(),
            on_failure: OnFailure::Escalate,
            limits,
            slot_labels: Vec::new(),
        };
        Self { trigger: Trigger::Any, plan, parameter_labels: vec!["deploy_id".to_owned()] }
    }

    /// Which alerts it is for.
    #[must_use]
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.trigger = trigger;
        self
    }

    /// The labels whose values make two operations on one target different. Default: `deploy_id`.
    #[must_use]
    pub fn parameter_labels<T: Into<String>>(mut self, labels: impl IntoIterator<Item = T>) -> Self {
        self.parameter_labels = labels.into_iter().map(Into::into).collect();
        self
    }

    /// Narrows the target by the values of these labels: alerts that differ in one of them are remediated at the same
    /// time, each under a slot, cooldown and target rate of its own. Default: none.
    ///
    /// An alert that lacks one of them is Skipped, with that reason: its slot would be that of the whole target, which
    /// keeps nobody out of the narrowed ones.
    ///
    /// Strategies that act on the same services must narrow alike; else two of them may act on one service at the
    /// same time. See [`Plan::slot`].
    #[must_use]
    pub fn slot_labels<T: Into<String>>(mut self, labels: impl IntoIterator<Item = T>) -> Self {
        self.plan.slot_labels = labels.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a step after those already there.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.plan.steps.push(step.0);
        self
    }

    /// Adds a check, one look of which may take `timeout`.
    #[must_use]
    pub fn check(mut self, check: &dyn Check, timeout: Duration) -> Self {
        self.plan.checks.push(PlanCheck {
            check: check.name().to_owned(),
            configuration: Arc::new(check.configuration()),
            independent: check.independent(),
            timeout_ms: millis(timeout),
        });
        self
    }

    /// Adds a step to the compensation plan.
    #[must_use]
    pub fn compensate(mut self, step: Step) -> Self {
        self.plan.compensation.push(step.0);
        self
    }

    /// How the service is left when the compensation fails too.
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.plan.on_failure = on_failure;
        self
    }

    /// From the first step to the end.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.plan.limits.deadline_ms = millis(deadline);
        self
    }

    /// From acceptance until it may act.
    #[must_use]
    pub fn waiting_limit(mut self, limit: Duration) -> Self {
        self.plan.limits.waiting_ms = millis(limit);
        self
    }

    /// How long verification may stay undecided, how long the checks must hold, and how often in a row.
    #[must_use]
    pub fn verification(mut self, limit: Duration, settle: Duration, passes: u32) -> Self {
        self.plan.limits.verification_ms = millis(limit);
        self.plan.limits.settle_ms = millis(settle);
        self.plan.limits.passes = passes;
        self
    }

    /// The time between two looks.
    #[must_use]
    pub fn check_interval(mut self, interval: Duration) -> Self {
        self.plan.limits.check_interval_ms = millis(interval);
        self
    }

    /// Attempts in all.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.plan.limits.attempts = attempts;
        self
    }

    /// How long the compensation may take.
    #[must_use]
    pub fn compensation_limit(mut self, limit: Duration) -> Self {
        self.plan.limits.compensation_ms = millis(limit);
        self
    }

    /// How long it leaves a target alone after an attempt.
    #[must_use]
    pub fn cooldown(mut self, cooldown: Duration) -> Self {
        self.plan.limits.cooldown_ms = millis(cooldown);
        self
    }

    /// At most `most` admissions of this strategy on one target in `window`.
    #[must_use]
    pub fn target_rate(mut self, most: u32, window: Duration) -> Self {
        self.plan.limits.target_rate = Some(Rate { most, window_ms: millis(window) });
        self
    }

    /// At most `most` admissions of this strategy in `window`, over all targets.
    #[must_use]
    pub fn strategy_rate(mut self, most: u32, window: Duration) -> Self {
        self.plan.limits.strategy_rate = Some(Rate { most, window_ms: millis(window) });
        self
    }

    /// At most `most` admissions for one fingerprint in `window`; beyond that the operation is Blocked and a person is
    /// called. Default: [`FINGERPRINT_RATE`].
    #[must_use]
    pub fn fingerprint_rate(mut self, most: u32, window: Duration) -> Self {
        self.plan.limits.fingerprint_rate = Some(Rate { most, window_ms: millis(window) });
        self
    }

    /// No limit on how often one problem is remediated. A problem that comes back after each remediation then never
    /// gets to a person: for measurements, and for what has another bound.
    #[must_use]
    pub fn unlimited_per_fingerprint(mut self) -> Self {
        self.plan.limits.fingerprint_rate = None;
        self
    }

    /// Checks it and freezes the plan.
    ///
    /// # Errors
    /// [`Invalid`] names the first thing that is wrong.
    pub fn build(self) -> Result<Strategy, Invalid> {
        let strategy = self.plan.strategy.clone();
        let refused = |problem: String| Err(Invalid { strategy: strategy.clone(), problem });
        if let Some(problem) = problem(&self.plan) {
            return refused(problem);
        }
        match StoredPlan::freeze(self.plan) {
            Ok(plan) => Ok(Strategy {
                trigger: self.trigger,
                plan: Arc::new(plan),
                parameter_labels: self.parameter_labels,
            }),
            Err(error) => refused(format!("cannot be written as JSON: {error}")),
        }
    }
}

/// The first thing wrong with a plan. No bound may be left out: zero is not "for ever".
fn problem(plan: &Plan) -> Option<String> {
    let limits = &plan.limits;
    if plan.strategy.is_empty() || plan.strategy.len() > 128 {
        return Some("the name must have 1 to 128 bytes".into());
    }
    if plan.steps.is_empty() {
        return Some("has no step; add one with .step(…)".into());
    }
    if plan.steps.len() > MAX_STEPS || plan.compensation.len() > MAX_STEPS {
        return Some(format!("has more than {MAX_STEPS} steps"));
    }
    if plan.checks.len() > MAX_CHECKS {
        return Some(format!("has more than {MAX_CHECKS} checks"));
    }
    let fits = |label: &String| (1..=SLOT_LABEL_BYTES_MAX).contains(&label.len());
    if plan.slot_labels.len() > MAX_SLOT_LABELS || !plan.slot_labels.iter().all(fits) {
        return Some(format!(
            "its target is narrowed by at most {MAX_SLOT_LABELS} labels of 1 to {SLOT_LABEL_BYTES_MAX} bytes each"
        ));
    }
    let rates = [limits.target_rate, limits.strategy_rate, limits.fingerprint_rate];
    if rates.iter().flatten().any(|rate| rate.most == 0 || rate.window_ms == 0) {
        return Some("a rate of none, or in no time, lets nothing through; leave it out instead".into());
    }
    for step in plan.steps.iter().chain(&plan.compensation) {
        if step.tries.max == 0 || step.timeout_ms == 0 {
            return Some(format!("step {:?} needs at least one try and a timeout", step.name));
        }
    }
    if plan.checks.iter().any(|check| check.timeout_ms == 0) {
        return Some("every check needs a timeout".into());
    }
    let bounds = [
        ("deadline", limits.deadline_ms),
        ("waiting limit", limits.waiting_ms),
        ("verification limit", limits.verification_ms),
        ("compensation limit", limits.compensation_ms),
        ("number of passes", u64::from(limits.passes)),
        ("number of attempts", u64::from(limits.attempts)),
    ];
    bounds.iter().find(|(_, value)| *value == 0).map(|(name, _)| format!("the {name} must not be zero"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
