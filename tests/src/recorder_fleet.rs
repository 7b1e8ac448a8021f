//! [`Fleet`]: many targets behind one server, each of which refuses who comes too late.
//!
//! `POST /apply/{target}/{step}` does an effect once for each idempotency key, and refuses a fencing token that is
//! lower than the newest one seen for the operation, as a target with a fence does. One answer in twenty is "busy",
//! one in thirty is lost after the effect, both chosen by the key. `GET /state?key={key}` says whether it was done.
//! Every effect is written down in order: [`Seen::interleaved`] finds two operations at work on one target.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use crate::recorder::{Ledger, Reply, Target};
use crate::recorder_http::Request;

/// The targets.
#[derive(Clone, Debug, Default)]
pub struct Fleet(Arc<Mutex<Seen>>);

/// What they saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Each effect that was done, in order: on which target, by which operation.
    pub done: Vec<(String, String)>,
    /// Requests refused because a newer token had been seen.
    pub stale: u64,
    newest: BTreeMap<String, (u64, u64)>,
}

impl Seen {
    /// Targets on which an operation did something after another one had begun there.
    #[must_use]
    pub fn interleaved(&self) -> Vec<String> {
        let mut turns: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (target, operation) in &self.done {
            let turns = turns.entry(target).or_default();
            if turns.last() != Some(&operation.as_str()) {
                turns.push(operation);
            }
        }
        let twice = |turns: &[&str]| {
            let mut once: Vec<&str> = turns.to_vec();
            once.sort_unstable();
            once.windows(2).any(|pair| pair[0] == pair[1])
        };
        let found = turns.iter().filter(|(_, turns)| twice(turns));
        found.map(|(target, turns)| format!("{target}: {turns:?}")).collect()
    }
}

impl Fleet {
    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, path: &str, request: &Request, ledger: &mut Ledger) -> Reply {
        let key = request.key();
        let operation = key.split(':').next().unwrap_or_default().to_owned();
        let Some(target) = path.split('/').next() else { return Reply::Json(404, json!({})) };
        let token = request.headers.get("redress-fencing-token").and_then(|text| text.split_once('.'));
        let Some(token) = token.and_then(|(log, epoch)| Some((log.parse().ok()?, epoch.parse().ok()?)))
        else {
            return Reply::Json(400, json!({"message": "no fencing token"}));
        };
        let mut seen = self.lock();
        let newest = seen.newest.entry(operation.clone()).or_insert(token);
        if token < *newest {
            seen.stale += 1;
            return Reply::Json(412, json!({"message": "a newer token was seen"}));
        }
        *newest = token;
        let effect = ledger.effect(key);
        if effect.applied > 0 {
            return Reply::Json(200, json!({"message": "done before"}));
        }
        let chance = chance(key, effect.posts);
        if chance.is_multiple_of(20) {
            return Reply::Json(503, json!({"message": "busy"}));
        }
        ledger.apply(key);
        seen.done.push((target.to_owned(), operation));
        if chance % 30 == 1 { Reply::Close } else { Reply::Json(200, json!({"message": "done"})) }
    }
}

/// The same for the same key and try: FNV-1a over both.
fn chance(key: &str, post: u64) -> u64 {
    let bytes = key.bytes().chain(post.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        >> 7
}

impl Target for Fleet {
    fn answer(&mut self, request: &Request, ledger: &mut Ledger) -> Reply {
        if let Some(path) = request.path.strip_prefix("/apply/")
            && request.method == "POST"
        {
            return self.apply(path, request, ledger);
        }
        match request.path.strip_prefix("/state?key=") {
            Some(key) => Reply::Json(200, json!({"applied": ledger.effect(key).applied > 0})),
            None => Reply::Json(200, json!({"healthy": true})),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(fleet: &mut Fleet, ledger: &mut Ledger, path: &str, key: &str, token: &str) -> Reply {
        let headers = [("idempotency-key", key), ("redress-fencing-token", token)];
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let request = Request { method: "POST".into(), path: path.into(), headers, body: String::new() };
        fleet.answer(&request, ledger)
    }

    #[test]
    fn an_operation_that_comes_back_is_noticed() {
        let (mut fleet, mut ledger) = (Fleet::default(), Ledger::default());
        for key in ["a:1", "a:2", "b:1"] {
            for _ in 0..2 {
                post(&mut fleet, &mut ledger, "/apply/x/s", key, "1.1");
            }
        }
        assert_eq!(fleet.seen().interleaved(), [] as [String; 0]);
        for _ in 0..2 {
            post(&mut fleet, &mut ledger, "/apply/x/s", "a:3", "1.1");
        }
        assert_eq!(fleet.seen().interleaved().len(), 1);
    }

    #[test]
    fn an_old_token_changes_nothing() {
        let (mut fleet, mut ledger) = (Fleet::default(), Ledger::default());
        post(&mut fleet, &mut ledger, "/apply/x/s", "a:1", "1.10");
        let answer = post(&mut fleet, &mut ledger, "/apply/x/s", "a:2", "1.9");
        assert!(matches!(answer, Reply::Json(412, _)), "{answer:?}");
        assert_eq!((ledger.effect("a:2").applied, fleet.seen().stale), (0, 1));
    }
}
