//! Runs the checks until they held for the settle time, or did not within the limit.
//!
//! Looks change nothing, so they have no intent of their own: after a crash they begin again, and the settle
//! time with them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use redress_action::{Call, CancellationToken, Check, Observation};
use redress_operation_log::event::Saw;
use redress_strategy::{Limits, PlanCheck};
use redress_types::{EffectKey, Phase};
use tokio::time::Instant;

use crate::config::cut;
use crate::decide::{Checks, Input};
use crate::driver::{Driver, Stop, Woken};
use crate::step::sleep_or_never;

/// The shortest time between two looks.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// What all checks saw at one look.
struct Look {
    saw: Saw,
    detail: String,
}

impl Driver {
    /// Verifies. Returns when something was recorded that leads on, or when there is news.
    pub(crate) async fn verify(&mut self) -> Result<(), Stop> {
        let Some(plan) = self.operation.plan.clone() else {
            return Err(Stop::Defect("verification without a plan".into()));
        };
        let limits = plan.plan.limits;
        let seq_at_start = self.operation.alerts.len();
        let started = Instant::now();
        let give_up = started + verification_limit(&limits);
        let mut streak: Option<(Instant, u32)> = None;
        for look_number in 1_u32.. {
            if self.shared.stopping.is_cancelled() {
                return Err(Stop::Shutdown);
            }
            let Some(look) = self.look_once(&plan.plan.checks, look_number).await? else {
                return Ok(());
            };
            let now = Instant::now();
            streak = match (look.saw, streak) {
                (Saw::Healthy, Some((since, passes))) => Some((since, passes + 1)),
                (Saw::Healthy, None) => Some((now, 1)),
                (Saw::Unhealthy | Saw::Inconclusive, _) => None,
            };
            if let Some(checks) = self.conclude(&limits, look, streak, now >= give_up) {
                let goes_on = matches!(checks, Checks::Changed { .. });
                self.record_all(vec![Input::Checks(checks)]).await?;
                if !goes_on || self.operation.state != redress_fsm::State::Verifying {
                    return Ok(());
                }
            }
            let pause = self.pause_after(&limits, streak, now, give_up);
            let next = self.shared.now().plus(pause);
            // Rung for something that changes nothing, it waits on: a ring is no reason to look sooner.
            while self.wait_until(next).await? == Woken::ByNews {
                let joined = self.operation.alerts.len() != seq_at_start;
                if joined || self.operation.state != redress_fsm::State::Verifying {
                    // An alert that joined starts the settling again; what ended is looked at by the driver.
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What this look means: all held, the limit is over, or (when it is news) what is seen now.
    fn conclude(
        &self,
        limits: &Limits,
        look: Look,
        streak: Option<(Instant, u32)>,
        over: bool,
    ) -> Option<Checks> {
        let Look { saw, detail } = look;
        if let Some((since, passes)) = streak {
            let held_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            if passes >= limits.passes && held_ms >= limits.settle_ms {
                let independent = self
                    .operation
                    .plan
                    .as_ref()
                    .is_some_and(|plan| plan.plan.checks.iter().any(|check| check.independent));
                return Some(Checks::Held { passes, held_ms, independent, detail });
            }
        }
        if over && saw != Saw::Healthy {
            return Some(Checks::Limit { saw, detail });
        }
        let before = self.operation.saw.as_ref().map(|(saw, _)| *saw);
        (before != Some(saw)).then_some(Checks::Changed { saw, detail })
    }

    /// The time to the next look: the interval, but no longer than the settle time or the limit asks for.
    fn pause_after(
        &self,
        limits: &Limits,
        streak: Option<(Instant, u32)>,
        now: Instant,
        give_up: Instant,
    ) -> Duration {
        // An interval of zero would look without a pause.
        let interval = Duration::from_millis(limits.check_interval_ms).max(INTERVAL_MIN);
        let settled = streak.map(|(since, _)| since + Duration::from_millis(limits.settle_ms));
        let next = match settled {
            Some(settled) if settled > now => settled.duration_since(now).min(interval),
            Some(_) | None => interval,
        };
        let left = give_up.saturating_duration_since(now);
        if left.is_zero() { next } else { next.min(left) }
    }

    /// Looks once with every check. `None`: something came in meanwhile that makes this look pointless.
    async fn look_once(&mut self, checks: &[PlanCheck], look_number: u32) -> Result<Option<Look>, Stop> {
        let mut looks = Vec::with_capacity(checks.len());
        for (index, planned) in checks.iter().enumerate() {
            let Some(check) = self.shared.registry.check(&planned.check).cloned() else {
                return Err(Stop::Defect(format!("there is no check {}", planned.check)));
            };
            looks.push(look_with(check, self.check_call(index, planned, look_number)));
        }
        let bytes_max = self.shared.config.output_bytes_max;
        let mut looking = std::pin::pin!(join_all(looks));
        if let Some(seen) = looking.as_mut().now_or_never() {
            return Ok(Some(summarise(seen, bytes_max)));
        }
        let (shared, doorbell) = (Arc::clone(&self.shared), Arc::clone(&self.doorbell));
        let alerts = self.operation.alerts.len();
        loop {
            let limit = self.next_limit().map(|limit| limit.since(shared.now()));
            tokio::select! {
                biased;
                seen = looking.as_mut() => return Ok(Some(summarise(seen, bytes_max))),
                () = shared.lost.cancelled() => return Err(Stop::Lost),
                // A look changes nothing, so nobody waits for it.
                () = shared.stopping.cancelled() => return Err(Stop::Shutdown),
                () = doorbell.notified() => self.look_at_inbox().await?,
                () = sleep_or_never(limit) => self.record_all(vec![Input::Look]).await?,
            }
            let over = self.operation.state != redress_fsm::State::Verifying;
            if over || self.operation.alerts.len() != alerts {
                return Ok(None);
            }
        }
    }

    fn check_call(&self, index: usize, planned: &PlanCheck, look_number: u32) -> Call {
        let step = u32::try_from(index).unwrap_or(u32::MAX);
        let (operation, attempt) = (self.operation.id, self.operation.attempt);
        Call {
            key: EffectKey { operation, phase: Phase::Verification, attempt, step },
            fencing: self.shared.fencing(self.epoch),
            try_number: look_number,
            alert: Arc::clone(&self.operation.alert),
            target: self.operation.target.clone(),
            configuration: Arc::clone(&planned.configuration),
            parameters: Arc::new(serde_json::Value::Null),
            timeout: Duration::from_millis(planned.timeout_ms),
            cancel: CancellationToken::new(),
        }
    }
}

/// How long verification may stay undecided: its limit, and the time that holding takes.
fn verification_limit(limits: &Limits) -> Duration {
    Duration::from_millis(limits.verification_ms.saturating_add(limits.settle_ms))
}

async fn look_with(check: Arc<dyn Check>, call: Call) -> (String, Observation) {
    let name = check.name().to_owned();
    let mut looking = Box::pin(AssertUnwindSafe(check.check(&call)).catch_unwind());
    // Most looks answer at once; no timer is armed for those.
    let seen = match looking.as_mut().now_or_never() {
        Some(seen) => Ok(seen),
        None => tokio::time::timeout(call.timeout, looking).await,
    };
    let inconclusive = |detail: &str| Observation::Inconclusive { detail: detail.to_owned() };
    let observation = match seen {
        Ok(Ok(observation)) => observation,
        Ok(Err(_)) => inconclusive("the check panicked"),
        Err(_) => inconclusive("the check did not answer in time"),
    };
    (name, observation)
}

/// One unhealthy check is enough; none unhealthy but one inconclusive is inconclusive (safety rule 8).
fn summarise(seen: Vec<(String, Observation)>, bytes_max: usize) -> Look {
    // Nothing was looked at: no data is not healthy. (No plan that an engine makes has no check.)
    let mut saw = if seen.is_empty() { Saw::Inconclusive } else { Saw::Healthy };
    let mut details = Vec::with_capacity(seen.len());
    for (name, observation) in seen {
        let (word, detail) = match observation {
            Observation::Healthy { detail } => ("healthy", detail),
            Observation::Unhealthy { detail } => {
                saw = Saw::Unhealthy;
                ("unhealthy", detail)
            }
            Observation::Inconclusive { detail } => {
                if saw == Saw::Healthy {
                    saw = Saw::Inconclusive;
                }
                ("inconclusive", detail)
            }
        };
        details.push(format!("{name}: {word}, {detail}"));
    }
    Look { saw, detail: cut(&details.join("; "), bytes_max) }
}
