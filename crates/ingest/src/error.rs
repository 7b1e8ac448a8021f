//! [`Error`]: why a payload was refused, by what the caller answers.

use std::fmt::{self, Write as _};

use crate::json::Path;
use crate::limits::{PROBLEMS_SHOWN_MAX, QUOTED_CHARS_MAX};

/// Why a payload was refused. Nothing of it was taken. Never repeats more than 80 characters of what was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Too much at once: the sender must split it, or the limit be raised (HTTP 413).
    #[error("{what} has {size} {unit}; the limit is {limit} {unit}; send it in smaller parts")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is, in `unit`.
        size: usize,
        /// How large it may be, in `unit`.
        limit: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// Not JSON at all, so no field can be named (HTTP 400). Holds what is wrong and where.
    #[error(
        "the payload is not JSON: {0}; send an alert message, a list of them, or an Alertmanager webhook body"
    )]
    NotJson(String),
    /// JSON, but fields of it are wrong; each is named (HTTP 400, the problems as details).
    #[error("nothing was taken from the payload: {0}")]
    Invalid(Problems),
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is, as a path from the payload's root: `alerts[3].startsAt`.
    pub field: String,
    /// In which alert of the payload, from 0; `None` when it is in none, or in the only one.
    pub index: Option<usize>,
    /// What is wrong with it and what is expected.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

/// The first few fields that are wrong, and how many more are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    shown: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// The first problems, at most [`PROBLEMS_SHOWN_MAX`], in the order of the payload.
    pub fn shown(&self) -> &[Problem] {
        &self.shown
    }

    /// How many there are in all.
    pub fn count(&self) -> usize {
        self.shown.len() + self.more
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    pub(crate) fn add(&mut self, path: &Path<'_>, problem: String) {
        if self.shown.len() < PROBLEMS_SHOWN_MAX {
            self.shown.push(Problem { field: path.to_string(), index: path.alert(), problem });
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.shown.iter().enumerate() {
            if self.count() > 1 {
                write!(f, "{}({}) ", if i > 0 { " " } else { "" }, i + 1)?;
            }
            write!(f, "{problem}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// The sender's text for an error: at most 80 characters of it, quoted and escaped so that a terminal stays safe.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    let cut = shown.len() < text.len();
    shown = format!("{shown:?}");
    if cut {
        // Writing to a string cannot fail.
        let _ = write!(shown, " (cut)");
    }
    shown
}
