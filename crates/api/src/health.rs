//! `/healthz` and `/readyz`: whether the process lives, and whether it can do its work.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State as Shared;
use axum::http::{StatusCode, Uri};
use futures_util::future::join_all;
use redress_operation_log::{LogStatus, OperationHistory, SessionId};
use redress_types::WithCauses;
use serde_json::{Map, Value, json};

use crate::door::Door;
use crate::error::Error;
use crate::query::Query;
use crate::service::State;

/// How old what is owed may be before somebody should look.
const OWED_AGE_MAX: Duration = Duration::from_secs(300);

/// Something that the service needs to do its work.
#[async_trait]
pub trait Dependency: Send + Sync + 'static {
    /// Its name in the answer, unique.
    fn name(&self) -> &str;

    /// How it is. Must not change anything; given up after [`Limits::check_timeout`](crate::Limits::check_timeout).
    ///
    /// Cancellation safety: may be dropped at any await.
    async fn check(&self) -> Condition;
}

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It works.
    Up,
    /// Something is behind or missing; alerts are taken and remediated all the same.
    Degraded,
    /// Without it, alerts cannot be taken or remediated here.
    Down,
}

impl Health {
    const fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// How a dependency is. Must hold no secret: anybody may read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// In one word.
    pub health: Health,
    /// What is wrong, for people; empty when nothing is.
    pub message: String,
    /// Whatever else is worth knowing.
    pub details: Map<String, Value>,
}

impl Condition {
    /// It works.
    pub fn up() -> Self {
        Self { health: Health::Up, message: String::new(), details: Map::new() }
    }

    /// It does not.
    pub fn down(message: impl Into<String>) -> Self {
        Self { health: Health::Down, message: message.into(), details: Map::new() }
    }

    /// It works, but.
    pub fn degraded(message: impl Into<String>) -> Self {
        Self { health: Health::Degraded, message: message.into(), details: Map::new() }
    }

    /// With this to know.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// The operation log: whether it answers, how durable it is, and what it still owes the world.
pub struct LogHealth {
    history: Arc<dyn OperationHistory>,
    durability: String,
}

impl LogHealth {
    /// `durability` as [`OperationLog::durability`](redress_operation_log::OperationLog::durability) says it.
    pub fn new(history: Arc<dyn OperationHistory>, durability: String) -> Self {
        Self { history, durability }
    }
}

#[async_trait]
impl Dependency for LogHealth {
    fn name(&self) -> &str {
        "log"
    }

    async fn check(&self) -> Condition {
        let status = match self.history.status().await {
            Ok(status) => status,
            Err(error) => return unreachable_log(&error),
        };
        let age = status.owed_since.map(|since| status.log_now.since(since));
        let condition = match (status.handed, age) {
            (1.., _) => Condition::degraded("deliveries wait for a person: `redress outbox` shows them"),
            (0, Some(age)) if age > OWED_AGE_MAX => Condition::degraded("deliveries are behind"),
            (0, _) => Condition::up(),
        };
        condition
            .with("durability", self.durability.clone())
            .with("position", status.position)
            .with("owed", status.owed)
            .with("handed", status.handed)
            .with("owed_since", status.owed_since.map(|at| at.to_string()))
    }
}

fn unreachable_log(error: &redress_operation_log::Error) -> Condition {
    tracing::warn!(error = %WithCauses(error), "the log does not say how it stands");
    Condition::down("the log cannot be read")
}

/// The engine of this process: whether alerts lead into one, its session and lease, and its clock.
pub struct EngineHealth {
    door: Door,
    history: Arc<dyn OperationHistory>,
}

impl EngineHealth {
    /// The engine behind `door`.
    pub fn new(door: Door, history: Arc<dyn OperationHistory>) -> Self {
        Self { door, history }
    }
}

#[async_trait]
impl Dependency for EngineHealth {
    fn name(&self) -> &str {
        "engine"
    }

    async fn check(&self) -> Condition {
        let engine = match self.door.engine() {
            Ok(engine) => engine.health(),
            Err(nowhere) => return Condition::down(nowhere.to_string()),
        };
        let condition = match (&engine.refuses, engine.acts) {
            (Some(why), _) => Condition::down(why.clone()),
            (None, false) => Condition::down("it may not act: it is stopping, or its lease may be over"),
            (None, true) => Condition::up(),
        };
        let condition = condition
            .with("session", serde_json::to_value(engine.session).unwrap_or_default())
            .with("acts", engine.acts)
            .with("clock_off_ms", millis(engine.clock_off))
            .with("at_work", engine.at_work)
            .with("at_work_max", engine.at_work_max);
        match self.history.status().await {
            Ok(status) => leased(condition, engine.session, &status),
            Err(error) => Condition { details: condition.details, ..unreachable_log(&error) },
        }
    }
}

/// What the log says of the engine's session, and of the other engines.
fn leased(condition: Condition, session: SessionId, status: &LogStatus) -> Condition {
    let condition = condition.with("engines", status.sessions.len());
    match status.sessions.iter().find(|one| one.id == session) {
        None => Condition { details: condition.details, ..Condition::down("its session is over") },
        Some(mine) => {
            let left = mine.expires_at.since(status.log_now);
            condition
                .with("name", mine.engine.clone())
                .with("lease_left_ms", millis(left))
                .with("holds", mine.holds)
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The process lives. Nothing in the request changes that, so its query is not looked at.
pub(crate) async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Whether it can do its work, and how each thing is that it needs.
pub(crate) async fn readyz(
    Shared(state): Shared<Arc<State>>,
    uri: Uri,
) -> Result<(StatusCode, Json<Value>), Error> {
    Query::read(&uri, &[])?;
    let checks = state.dependencies.iter().map(|dependency| async {
        let checked = tokio::time::timeout(state.limits.check_timeout, dependency.check()).await;
        (dependency.name(), checked.unwrap_or_else(|_| Condition::down("no answer in time")))
    });
    let conditions = join_all(checks).await;
    let worst = conditions.iter().map(|(_, condition)| condition.health).max().unwrap_or(Health::Up);
    let (status, word) = match worst {
        Health::Up => (StatusCode::OK, "ready"),
        Health::Degraded => (StatusCode::OK, "degraded"),
        Health::Down => (StatusCode::SERVICE_UNAVAILABLE, "unready"),
    };
    let dependencies: Map<String, Value> = conditions
        .into_iter()
        .map(|(name, condition)| {
            let Condition { health, message, details } = condition;
            let said = json!({"status": health.word(), "message": message, "details": details});
            (name.to_owned(), said)
        })
        .collect();
    let counted = state.counted.read();
    let body = json!({
        "status": word,
        "dependencies": dependencies,
        "intake": {
            "requests": counted.requests,
            "truncated_alerts": counted.truncated_alerts,
            "pulled_alerts": counted.pulled_alerts,
            "pulls_failed": counted.pulls_failed,
            "conflicts": counted.conflicts,
            "overloads": counted.overloads,
            "unavailable": counted.unavailable,
            "panics": counted.panics,
        },
    });
    Ok((status, Json(body)))
}
