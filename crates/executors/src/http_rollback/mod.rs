//! [`HttpRollback`]: rolls a deployment back through the deployment system's API (contracts §3).
//!
//! That API is not idempotent by itself, so this executor looks before it acts: the status is read before every
//! request, after a `400` (which means both "nothing to roll back" and "already rolled back"), and by the probe
//! when a reply was lost. What each status and each reply leads to stands in three small tables below; how the
//! API is spoken is in `deployment`; what got no answer is remembered in `unanswered`; how the URL is made is in
//! [`template`].

mod deployment;
mod status_check;
pub mod template;
mod unanswered;

use std::time::Duration;

use async_trait::async_trait;
use redress_action::{ActionExecutor, Call, Error, InDoubt, Output, Probe, Probed};
use serde_json::Value;
use tokio::time::Instant;

use self::deployment::{Deployment, Deployments, Seen, Status, Unnamed};
use self::template::InvalidTemplate;
use self::unanswered::Unanswered;
use crate::egress::Egress;
use crate::http::{Authentication, Failure, InvalidAuthentication, Reply};

pub use status_check::DeploymentStatusCheck;

const MAY_STILL_RUN: &str =
    "it is not rolled back, but the request that got no answer may still be carried out";
/// How often the status is read again while a request that got no answer may still be carried out.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Rolls the deployment named by the alert's label `deploy_id` back. Configuration: `{"url": template}`.
///
/// Credentials belong to the instance and never to the plan; they go to the scheme, host and port they were
/// configured with, and a plan frozen for another is not accepted.
#[derive(Clone, Debug)]
pub struct HttpRollback {
    deployments: Deployments,
    unanswered: Unanswered,
}

/// Why there can be no such executor. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRollback {
    /// The template cannot be used.
    #[error(transparent)]
    Template(InvalidTemplate),
    /// Its host may not be called.
    #[error("rollback URL: {0}")]
    Egress(String),
}

impl HttpRollback {
    /// The name plans freeze.
    pub const NAME: &'static str = "http_rollback";

    /// An executor whose plans freeze `template`. Refuses one that cannot work and one whose host is not listed.
    pub fn new(template: &str, egress: Egress) -> Result<Self, InvalidRollback> {
        Ok(Self { deployments: Deployments::new(template, egress)?, unanswered: Unanswered::default() })
    }

    /// Sends these credentials with every request.
    pub fn authenticated(self, authentication: Authentication) -> Result<Self, InvalidAuthentication> {
        Ok(Self { deployments: self.deployments.authenticated(authentication)?, ..self })
    }

    /// The check that reads the status of the same deployment with the same credentials.
    pub fn status_check(&self) -> DeploymentStatusCheck {
        DeploymentStatusCheck::sharing(self.deployments.clone())
    }

    /// What the status before the request leads to; `None`: the request may be made.
    fn before(&self, which: &Deployment, seen: Seen) -> Option<Result<Output, Error>> {
        match seen {
            Seen::Status(Status::Deploying | Status::Stop) => None,
            Seen::Status(Status::Rollback) => Some(Ok(already(which))),
            Seen::Status(status @ (Status::Completed | Status::Unrelease)) => {
                Some(Err(Error::permanent(nothing_to_roll_back(which, status))))
            }
            Seen::OtherService(reason) | Seen::Missing(reason) | Seen::Denied(reason) => {
                Some(Err(Error::permanent(reason)))
            }
            // Nothing was asked for yet, so this certainly changed nothing.
            Seen::Unreadable { reason, retry_after } => {
                Some(Err(Error::Retryable { reason: reason.into(), retry_after }))
            }
        }
    }

    /// What a `400` means, by the status read after it.
    fn after_400(&self, which: &Deployment, refusal: String, seen: Seen) -> Result<Output, Error> {
        match seen {
            Seen::Status(Status::Rollback) => Ok(already(which)),
            Seen::Status(status @ (Status::Completed | Status::Unrelease)) => {
                Err(Error::permanent(format!("{} ({refusal})", nothing_to_roll_back(which, status))))
            }
            Seen::Status(Status::Deploying | Status::Stop) => Err(Error::permanent(refusal)),
            Seen::OtherService(reason) | Seen::Missing(reason) => Err(Error::permanent(reason)),
            // It may be rolled back already; the probe will tell, or a person.
            Seen::Denied(reason) | Seen::Unreadable { reason, .. } => {
                Err(Error::unknown(format!("{refusal}; then {reason}")))
            }
        }
    }

    /// What a reply other than `400` means.
    fn replied(&self, call: &Call, which: &Deployment, reply: &Reply) -> Result<Output, Error> {
        let reason = format!("rolling deployment {} back: {}", which.shown, self.deployments.describe(reply));
        match reply.status.as_u16() {
            200..=299 => match self.deployments.other_service(call, which, reply) {
                // The status named no service, the reply does: the alert's own was not rolled back.
                Some(other) => Err(Error::permanent(format!("rolled back, but {other}"))),
                None => Ok(Output::new(format!(
                    "deployment {} rolled back (HTTP {})",
                    which.shown,
                    reply.status.as_u16()
                ))),
            },
            300..=399 => Err(Error::permanent(format!(
                "{reason}: redirects are never followed; configure the URL it leads to, if that is right"
            ))),
            408 | 425 | 429 => {
                Err(Error::Retryable { reason: reason.into(), retry_after: reply.retry_after() })
            }
            400..=499 => Err(Error::permanent(reason)),
            _ => Err(Error::Unknown { reason: reason.into(), retry_after: reply.retry_after() }),
        }
    }
}

/// Whether the target is done with a request, or never had it. A gateway that got no answer does not know.
fn is_over(replied: &Result<Reply, Failure>) -> bool {
    match replied {
        Ok(reply) => match reply.status.as_u16() {
            502 | 504 | 520..=524 => false,
            // A server that is overloaded says when to come again; a proxy that lost its server does not.
            503 => reply.retry_after().is_some(),
            _ => true,
        },
        Err(Failure::Lost(_)) => false,
        Err(Failure::Forbidden(_) | Failure::ConnectionRefused(_) | Failure::NotSent(_)) => true,
    }
}

fn already(which: &Deployment) -> Output {
    Output::new(format!("deployment {} is already rolled back", which.shown))
}

fn nothing_to_roll_back(which: &Deployment, status: Status) -> String {
    format!("deployment {} is {:?}: there is nothing to roll back", which.shown, status.word())
}

#[async_trait]
impl ActionExecutor for HttpRollback {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn in_doubt(&self) -> InDoubt<'_> {
        InDoubt::Probe(self)
    }

    fn configuration(&self) -> Value {
        self.deployments.configuration()
    }

    fn accepts(&self, configuration: &Value) -> Result<(), String> {
        self.deployments.accepted(configuration).map(drop)
    }

    /// Reads the status, then asks for the rollback if that is still to be done.
    ///
    /// Answers [`Error::Unknown`] when it was cancelled or timed out once the rollback request had a connection,
    /// [`Error::Retryable`] before. Every request ends within `call.timeout`.
    async fn execute(&self, call: &Call) -> Result<Output, Error> {
        let started = Instant::now();
        let left = || call.timeout.saturating_sub(started.elapsed());
        let which = self.deployments.named_by(call).map_err(|unnamed| match unnamed {
            Unnamed::Configuration(reason) | Unnamed::Alert(reason) => Error::permanent(reason),
        })?;
        let seen = self.deployments.read(call, &which, left()).await;
        if let Some(decided) = self.before(&which, seen) {
            return decided;
        }
        let sent = self.unanswered.sending(call.key);
        let replied = self.deployments.roll_back(call, &which, left()).await;
        if is_over(&replied) {
            sent.answered();
        }
        match replied {
            Ok(reply) if reply.status.as_u16() == 400 => {
                let refusal =
                    format!("rolling deployment {} back: {}", which.shown, self.deployments.describe(&reply));
                let seen = self.deployments.read(call, &which, left()).await;
                self.after_400(&which, refusal, seen)
            }
            Ok(reply) => self.replied(call, &which, &reply),
            Err(Failure::Forbidden(reason)) => Err(Error::permanent(reason)),
            Err(Failure::ConnectionRefused(reason) | Failure::NotSent(reason)) => {
                Err(Error::retryable(reason))
            }
            Err(Failure::Lost(reason)) => {
                Err(Error::unknown(format!("rolling deployment {} back: {reason}", which.shown)))
            }
        }
    }
}

#[async_trait]
impl Probe for HttpRollback {
    /// Reads the deployment's status. What could not be read is `Unknown`, a refusal to let us read included: the
    /// rollback may have happened all the same, and credentials can be put right.
    ///
    /// While a request of ours that got no answer may still be carried out, a status from before the rollback says
    /// nothing: it is read again until then, and what is left of `call.timeout` ends that as `Unknown`.
    async fn probe(&self, call: &Call) -> Probed {
        let which = match self.deployments.named_by(call) {
            Ok(which) => which,
            Err(Unnamed::Alert(reason)) => return Probed::Refused(reason.into()),
            Err(Unnamed::Configuration(reason)) => return Probed::Unknown(reason.into()),
        };
        let give_up = Instant::now() + call.timeout;
        let seen = loop {
            let left = give_up.saturating_duration_since(Instant::now());
            let seen = self.deployments.read(call, &which, left).await;
            let is_before = matches!(seen, Seen::Status(Status::Deploying | Status::Stop));
            if !is_before || !self.unanswered.may_run(call.key) {
                break seen;
            }
            if Instant::now() + 2 * LOOK_AGAIN >= give_up {
                return Probed::Unknown(MAY_STILL_RUN.into());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        match seen {
            Seen::Status(Status::Rollback) => Probed::Applied(already(&which)),
            Seen::Status(Status::Deploying | Status::Stop) => Probed::NotApplied,
            Seen::Status(status @ (Status::Completed | Status::Unrelease)) => {
                Probed::Refused(nothing_to_roll_back(&which, status).into())
            }
            Seen::OtherService(reason) | Seen::Missing(reason) => Probed::Refused(reason.into()),
            Seen::Denied(reason) | Seen::Unreadable { reason, .. } => Probed::Unknown(reason.into()),
        }
    }
}

#[cfg(test)]
mod tests;
