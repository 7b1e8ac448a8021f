//! [`Steps`]: a target whose answers are written down for each step and try.
//!
//! `POST /dedupe/{step}` does an effect once for each idempotency key, `POST /plain/{step}` each time;
//! `GET /state?key={key}` says whether it was done; `GET /health` is always healthy.

use std::collections::BTreeMap;

use serde_json::json;

use crate::recorder::{Ledger, Reply, Target};
use crate::recorder_http::Request;

/// What comes of one POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done: 200.
    Done,
    /// It is not done: 503.
    Busy,
    /// It is not done, and never will be: 400.
    Refused,
    /// It is done, and the connection is closed without a word.
    DoneAndLost,
}

/// A target with scripted answers.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    script: BTreeMap<String, Vec<Answer>>,
}

impl Steps {
    /// Each step's answers, one for each POST under a key; the last one stays. A step without any is done.
    #[must_use]
    pub fn new(script: &[(&str, &[Answer])]) -> Self {
        let script = script.iter().map(|(step, answers)| ((*step).to_owned(), answers.to_vec())).collect();
        Self { script }
    }

    fn answer_to(&self, step: &str, post: u64) -> Answer {
        let answers = self.script.get(step).map_or(&[] as &[Answer], Vec::as_slice);
        let index = usize::try_from(post.saturating_sub(1)).unwrap_or(usize::MAX);
        answers.get(index).or(answers.last()).copied().unwrap_or(Answer::Done)
    }

    fn post(&self, path: &str, key: &str, ledger: &mut Ledger) -> Reply {
        let effect = ledger.effect(key);
        let (step, dedupes) = match path.split_once('/') {
            Some(("dedupe", step)) => (step, true),
            Some(("plain", step)) => (step, false),
            Some(_) | None => return Reply::Json(404, json!({"message": "no such path"})),
        };
        if dedupes && effect.applied > 0 {
            return Reply::Json(200, json!({"message": "done before"}));
        }
        let answer = self.answer_to(step, effect.posts);
        if matches!(answer, Answer::Done | Answer::DoneAndLost) {
            ledger.apply(key);
        }
        match answer {
            Answer::Done => Reply::Json(200, json!({"message": "done"})),
            Answer::Busy => Reply::Json(503, json!({"message": "busy"})),
            Answer::Refused => Reply::Json(400, json!({"message": "refused"})),
            Answer::DoneAndLost => Reply::Close,
        }
    }
}

impl Target for Steps {
    fn answer(&mut self, request: &Request, ledger: &mut Ledger) -> Reply {
        let path = request.path.trim_start_matches('/');
        match (request.method.as_str(), path.strip_prefix("state?key=")) {
            ("POST", _) => self.post(path, request.key(), ledger),
            (_, Some(key)) => Reply::Json(200, json!({"applied": ledger.effect(key).applied > 0})),
            (_, None) => Reply::Json(200, json!({"healthy": true})),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_that_dedupes_does_it_once() {
        let steps = Steps::new(&[("lost", &[Answer::DoneAndLost, Answer::Done])]);
        let mut ledger = Ledger::default();
        for key in ["a", "a"] {
            steps.post("dedupe/x", key, &mut ledger);
        }
        assert_eq!(ledger.effect("a").applied, 1);
        for key in ["b", "b"] {
            steps.post("plain/x", key, &mut ledger);
        }
        assert_eq!(ledger.effect("b").applied, 2);
        assert_eq!(steps.post("plain/lost", "c", &mut ledger), Reply::Close);
        assert_eq!(ledger.effect("c").applied, 1);
    }

    #[test]
    fn answers_come_in_order_and_the_last_one_stays() {
        let steps = Steps::new(&[("x", &[Answer::Busy, Answer::Refused])]);
        let answers: Vec<_> = (1..=3).map(|post| steps.answer_to("x", post)).collect();
        assert_eq!(answers, [Answer::Busy, Answer::Refused, Answer::Refused]);
    }
}
