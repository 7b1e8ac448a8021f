//! `redress operations cancel` and `resolve`: a row in the operation's inbox, and the holder's answer to it.
//!
//! Nothing here appends to an operation. With an engine at work the answer is waited for; without one the row is
//! left, and the next engine folds it first.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context as _, Error};
use redress_api::read::fold;
use redress_fsm::{EventKind, State};
use redress_operation_log::{Actor, Error as LogError, Event, Head, OperationLog, Post, Posted, Request};
use redress_types::{Clock as _, Hash, SystemClock};
use serde_json::json;
use tokio::time::Instant;

use super::read::find;
use super::words::flag;
use crate::Exit;
use crate::cli::{Cancel, Global, Resolve};
use crate::database::{Place, program};
use crate::text::{escape, json_line, print};

/// How long the holder of an operation has to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long an engine has to find a request to an operation that nobody holds; it looks four times a second.
const PATIENCE_UNHELD: Duration = Duration::from_millis(1_500);
/// How often we look for the answer.
const LOOK: Duration = Duration::from_millis(50);

/// Asks an operation to stop.
pub(crate) async fn cancel(
    global: &Global,
    log: &dyn OperationLog,
    place: &Place,
    asked: Cancel,
) -> Result<Exit, Error> {
    let head = find(log, &asked.id).await?;
    let request = Request::Cancel { reason: asked.reason };
    ask(global, log, place, &head, request, asked.key).await
}

/// Decides on a suspended operation.
pub(crate) async fn resolve(
    global: &Global,
    log: &dyn OperationLog,
    place: &Place,
    asked: Resolve,
) -> Result<Exit, Error> {
    let head = find(log, &asked.id).await?;
    let request = Request::Verdict { decision: asked.decision.decision(), reason: asked.reason };
    ask(global, log, place, &head, request, asked.key).await
}

async fn ask(
    global: &Global,
    log: &dyn OperationLog,
    place: &Place,
    head: &Head,
    request: Request,
    key: Option<String>,
) -> Result<Exit, Error> {
    let actor = me()?;
    let key = match key {
        Some(key) => key,
        None => generated(log, head, &actor, &request).await?,
    };
    let what = match &request {
        Request::Verdict { decision, .. } => flag(*decision),
        Request::Cancel { .. } | Request::Join { .. } | Request::Resolved { .. } => "cancel",
    };
    let post = Post { operation: head.id, key, request, actor, at: SystemClock.now() };
    let say = Say { global, place, head, what };
    match log.post(post).await {
        Ok(posted) => say.answer(log, posted).await,
        Err(LogError::Ended { state, .. }) => say.ended(state),
        Err(error) => Err(error).context("leaving the request"),
    }
}

/// Who asks, as the kernel knows it. No approval: whoever can write the file can be anybody.
pub(crate) fn me() -> Result<Actor, Error> {
    let uid = std::fs::metadata("/proc/self").context("finding out which user asks (/proc/self)")?.uid();
    Ok(Actor::local(uid))
}

/// The key of a request that was given none: the same person asking the same thing of an operation that stands
/// where it stood is the same request; after another suspension it is a new one.
async fn generated(
    log: &dyn OperationLog,
    head: &Head,
    actor: &Actor,
    request: &Request,
) -> Result<String, Error> {
    let folded = fold(log, head.id).await?;
    let suspended = |entry: &&redress_operation_log::Entry| {
        entry.events.iter().any(|event| event.kind() == EventKind::Suspended)
    };
    let standing = folded.entries.iter().rev().find(suspended).map_or(0, |entry| entry.seq);
    let text = serde_json::to_string(&(actor, request, standing))?;
    Ok(format!("cli:{:.32}", Hash::of(&[text.as_bytes()])))
}

/// Says what became of a request.
struct Say<'a> {
    global: &'a Global,
    place: &'a Place,
    head: &'a Head,
    what: &'static str,
}

impl Say<'_> {
    async fn answer(&self, log: &dyn OperationLog, posted: Posted) -> Result<Exit, Error> {
        let patience = if posted.held_by.is_some() { PATIENCE } else { PATIENCE_UNHELD };
        let until = Instant::now() + patience;
        loop {
            let head = log.operation(self.head.id).await?.context("the operation went away")?;
            if head.folded_request >= posted.request {
                return self.folded(log, posted).await;
            }
            if Instant::now() >= until {
                return self.left(posted);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn folded(&self, log: &dyn OperationLog, posted: Posted) -> Result<Exit, Error> {
        let folded = fold(log, self.head.id).await?;
        let mut events = folded.entries.iter().flat_map(|entry| &entry.events);
        let answer = events.find(|event| event.answers() == Some(posted.request));
        let state = folded.operation.state;
        let name = &self.head.name;
        if let Some(Event::RequestRefused { reason, .. }) = answer {
            let text = format!("{name}: {} was refused: {}", self.what, escape(reason));
            return self.say(Exit::OTHERWISE, "refused", Some(posted), Some(state), &text);
        }
        let before = if posted.before { " (it was asked before)" } else { "" };
        let text = format!("{name}: {} was taken{before}; it is {state} now", self.what);
        self.say(Exit::DONE, "taken", Some(posted), Some(state), &text)
    }

    /// A session that was killed still has its name on what it held, so "held" does not say that anybody is there.
    fn left(&self, posted: Posted) -> Result<Exit, Error> {
        let (name, what, request) = (&self.head.name, self.what, posted.request);
        let (program, option) = (program(), self.place.as_option());
        let text = format!(
            "{name}: {what} is left as request {request}; no engine has answered. The next one folds it first: \
             {program} run{option}"
        );
        self.say(Exit::DONE, "left", Some(posted), None, &text)
    }

    fn ended(&self, state: State) -> Result<Exit, Error> {
        let text = format!("{} has ended as {state}: {} changes nothing any more", self.head.name, self.what);
        self.say(Exit::OTHERWISE, "ended", None, Some(state), &text)
    }

    fn say(
        &self,
        exit: Exit,
        answer: &str,
        posted: Option<Posted>,
        state: Option<State>,
        text: &str,
    ) -> Result<Exit, Error> {
        if self.global.json {
            print(&json_line(&json!({
                "type": "request", "operation": self.head.id, "name": self.head.name, "asked": self.what,
                "request": posted.map(|posted| posted.request), "answer": answer, "state": state, "said": text,
            }))?)?;
        } else {
            print(&format!("{text}\n"))?;
        }
        Ok(exit)
    }
}
