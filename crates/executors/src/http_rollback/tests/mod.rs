//! The rollback against a real server that does each thing contracts §3 speaks of: [`outcomes`] has what each
//! answer leads to, [`refusals`] what is never done and never shown.

mod outcomes;
mod refusals;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redress_action::Check;
use redress_action::Observation;
use serde_json::json;

use super::*;
use redress_types::EffectKey;

use crate::http::Secret;
use crate::testing::server::{Answer, Seen as Request, Server};
use crate::testing::{call_with, with_deploy_id};

/// A deployment system that gives these answers to GET and to POST in turn, the last one for ever.
async fn system(get: Vec<Answer>, post: Vec<Answer>) -> (Server, HttpRollback, Call) {
    let get = Arc::new(Mutex::new(VecDeque::from(get)));
    let post = Arc::new(Mutex::new(VecDeque::from(post)));
    let server = Server::start(move |request: &Request| {
        let mut script = if request.method == "GET" { get.lock().unwrap() } else { post.lock().unwrap() };
        match script.len() {
            0 => Answer::Json(500, json!({ "message": "the test did not expect this" })),
            1 => script[0].clone(),
            _ => script.pop_front().unwrap(),
        }
    })
    .await;
    let template = format!("http://127.0.0.1:{}/v1/deployments/%s/rollback", server.port);
    let rollback = HttpRollback::new(&template, Egress::new(["127.0.0.1"]).unwrap()).unwrap();
    let call = call_with(rollback.configuration());
    (server, rollback, call)
}

fn status(status: &str) -> Answer {
    Answer::Json(200, json!({ "status": status }))
}

fn refusal() -> Answer {
    Answer::Json(400, json!({ "message": "deployment d-42 cannot be rolled back in current state" }))
}

/// The answer as one word and its text.
fn told(answer: Result<Output, Error>) -> (&'static str, String) {
    match answer {
        Ok(output) => ("success", output.summary),
        Err(Error::Retryable { reason, .. }) => ("retryable", reason.into_owned()),
        Err(Error::Permanent { reason }) => ("permanent", reason.into_owned()),
        Err(Error::Unknown { reason, .. }) => ("unknown", reason.into_owned()),
    }
}

fn probed(answer: &Probed) -> &'static str {
    match answer {
        Probed::Applied(_) => "applied",
        Probed::NotApplied => "not applied",
        Probed::Refused(_) => "refused",
        Probed::Unknown(_) => "unknown",
    }
}

fn observed(answer: &Observation) -> &'static str {
    match answer {
        Observation::Healthy { .. } => "healthy",
        Observation::Unhealthy { .. } => "unhealthy",
        Observation::Inconclusive { .. } => "inconclusive",
    }
}
