//! [`DeploymentStatusCheck`]: what the deployment system itself says about its rollback.

use async_trait::async_trait;
use redress_action::{Call, Check, Observation};
use serde_json::Value;

use super::InvalidRollback;
use super::deployment::{Deployments, Seen, Status, Unnamed};
use crate::egress::Egress;
use crate::http::{Authentication, InvalidAuthentication};

/// Reads the deployment's status: `rollback` is healthy, any other status of contracts §3 is not, and no answer,
/// or one about another service, is inconclusive. Configuration: `{"url": template}`, as for the rollback.
///
/// Not independent: it asks the API that made the change (safety rule 17).
#[derive(Clone, Debug)]
pub struct DeploymentStatusCheck {
    deployments: Deployments,
}

impl DeploymentStatusCheck {
    /// The name plans freeze.
    pub const NAME: &'static str = "deployment_status";

    /// A check whose plans freeze `template`, the *rollback* URL. Refuses what [`super::HttpRollback::new`] does.
    pub fn new(template: &str, egress: Egress) -> Result<Self, InvalidRollback> {
        Ok(Self { deployments: Deployments::new(template, egress)? })
    }

    /// Sends these credentials with every request.
    pub fn authenticated(self, authentication: Authentication) -> Result<Self, InvalidAuthentication> {
        Ok(Self { deployments: self.deployments.authenticated(authentication)? })
    }

    pub(super) fn sharing(deployments: Deployments) -> Self {
        Self { deployments }
    }
}

#[async_trait]
impl Check for DeploymentStatusCheck {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn configuration(&self) -> Value {
        self.deployments.configuration()
    }

    fn accepts(&self, configuration: &Value) -> Result<(), String> {
        self.deployments.accepted(configuration).map(drop)
    }

    fn independent(&self) -> bool {
        false
    }

    async fn check(&self, call: &Call) -> Observation {
        let which = match self.deployments.named_by(call) {
            Ok(which) => which,
            Err(Unnamed::Configuration(detail) | Unnamed::Alert(detail)) => {
                return Observation::Inconclusive { detail };
            }
        };
        match self.deployments.read(call, &which, call.timeout).await {
            Seen::Status(status) => {
                let detail = format!("deployment {} is {:?}", which.shown, status.word());
                if status == Status::Rollback {
                    Observation::Healthy { detail }
                } else {
                    Observation::Unhealthy { detail }
                }
            }
            Seen::OtherService(detail)
            | Seen::Missing(detail)
            | Seen::Denied(detail)
            | Seen::Unreadable { reason: detail, .. } => Observation::Inconclusive { detail },
        }
    }
}
