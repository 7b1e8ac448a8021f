//! [`Deployments`]: a deployment system as it is found (contracts §3): its rollback is not idempotent.

use std::collections::BTreeMap;

use serde_json::json;

use crate::recorder::{Ledger, Reply, Target};
use crate::recorder_http::Request;

/// A deployment system.
#[derive(Clone, Debug, Default)]
pub struct Deployments(BTreeMap<String, Deployment>);

#[derive(Clone, Debug)]
struct Deployment {
    service: String,
    status: &'static str,
}

impl Deployments {
    /// Adds a deployment that is `deploying`.
    #[must_use]
    pub fn deploying(mut self, id: &str, service: &str) -> Self {
        let deployment = Deployment { service: service.to_owned(), status: "deploying" };
        self.0.insert(id.to_owned(), deployment);
        self
    }
}

impl Target for Deployments {
    fn answer(&mut self, request: &Request, ledger: &mut Ledger) -> Reply {
        let path = request.path.strip_prefix("/v1/deployments/").unwrap_or_default();
        let id = path.strip_suffix("/rollback").unwrap_or(path);
        let Some(deployment) = self.0.get_mut(id) else {
            return Reply::Json(404, json!({"message": format!("no deployment {id:?}")}));
        };
        if request.method != "POST" {
            let body = json!({"id": id, "service": deployment.service, "status": deployment.status});
            return Reply::Json(200, body);
        }
        if !matches!(deployment.status, "deploying" | "stop") {
            return Reply::Json(400, json!({"message": "deployment cannot be rolled back in current state"}));
        }
        deployment.status = "rollback";
        ledger.apply(request.key());
        Reply::Json(200, json!({"message": "rolled back"}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_rollback_is_refused_and_not_counted() {
        let mut system = Deployments::default().deploying("d-1", "shop");
        let mut ledger = Ledger::default();
        let request = Request {
            method: "POST".into(),
            path: "/v1/deployments/d-1/rollback".into(),
            headers: BTreeMap::from([("idempotency-key".to_owned(), "k".to_owned())]),
            body: String::new(),
        };
        let status = |reply| if let Reply::Json(status, _) = reply { status } else { 0 };
        assert_eq!(status(system.answer(&request, &mut ledger)), 200);
        assert_eq!(status(system.answer(&request, &mut ledger)), 400);
        assert_eq!(ledger.effect("k").applied, 1);
    }
}
