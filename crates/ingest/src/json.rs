//! Reading JSON one field at a time, from its own text, so that whatever is wrong has a name.
//!
//! The syntax of the whole payload is checked before anything here runs. What can still be wrong is a type, a bound,
//! or a `\u` escape that is no character. Nothing recurses, so depth is no danger.

use std::collections::BTreeMap;
use std::fmt;

use redress_types::Timestamp;
use serde_json::value::RawValue;

use crate::error::{Problems, quoted};

/// Where a value stands. Made on the stack; becomes text only when there is a problem to report.
#[derive(Clone, Copy)]
pub(crate) enum Path<'p> {
    Root,
    Field(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl Path<'_> {
    /// The index of the alert that this lies in: of a list of messages, or of a webhook's `alerts`.
    pub(crate) fn alert(&self) -> Option<usize> {
        match self {
            Self::Root => None,
            Self::Index(Self::Root | Self::Field(Self::Root, "alerts"), i) => Some(*i),
            Self::Index(parent, _) | Self::Field(parent, _) => parent.alert(),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("the payload"),
            Self::Field(parent, name) => {
                if !matches!(parent, Self::Root) {
                    write!(f, "{parent}.")?;
                }
                let plain = |c: char| c.is_alphanumeric() || "_-:/".contains(c);
                match name.len() {
                    1..=80 if name.chars().all(plain) => f.write_str(name),
                    _ => f.write_str(&quoted(name)),
                }
            }
            Self::Index(Self::Root, i) => write!(f, "[{i}]"),
            Self::Index(parent, i) => write!(f, "{parent}[{i}]"),
        }
    }
}

/// A JSON object and where it stands.
pub(crate) struct Object<'a, 'p> {
    fields: BTreeMap<String, &'a RawValue>,
    path: &'p Path<'p>,
}

impl<'a, 'p> Object<'a, 'p> {
    /// `raw` as an object; `None`, with the problem noted, when it is none.
    pub(crate) fn read(raw: &'a RawValue, path: &'p Path<'p>, problems: &mut Problems) -> Option<Self> {
        if !raw.get().starts_with('{') {
            let what = if matches!(path, Path::Root) { "an object or a list" } else { "an object" };
            problems.add(path, wrong_type(raw, what));
            return None;
        }
        match serde_json::from_str(raw.get()) {
            Ok(fields) => Some(Self { fields, path }),
            Err(_) => {
                problems.add(path, format!("has a field name with {BAD_ESCAPE}"));
                None
            }
        }
    }

    /// Every field in name order, `null` included.
    pub(crate) fn fields(&self) -> &BTreeMap<String, &'a RawValue> {
        &self.fields
    }

    /// Whether the object names the field, even as `null`.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// The field, unless absent or `null`.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.get(name).copied().filter(|raw| raw.get() != "null")
    }

    /// The path of a field of this object.
    pub(crate) fn path<'s>(&'s self, name: &'s str) -> Path<'s> {
        Path::Field(self.path, name)
    }

    /// Notes that the field is missing, if it is; `expected` says what to send.
    pub(crate) fn require(&self, name: &str, expected: &str, problems: &mut Problems) {
        if self.get(name).is_none() {
            problems.add(&self.path(name), format!("is missing; {expected}"));
        }
    }

    /// The field as text of at most `max` bytes. `None` when absent, or wrong with the problem noted.
    pub(crate) fn text(&self, name: &str, max: usize, problems: &mut Problems) -> Option<String> {
        text(self.get(name)?, &self.path(name), max, problems)
    }

    /// The field as a finite number. `None` when absent, or wrong with the problem noted.
    pub(crate) fn number(&self, name: &str, problems: &mut Problems) -> Option<f64> {
        let raw = self.get(name)?;
        let number = serde_json::from_str(raw.get()).ok().filter(|number: &f64| number.is_finite());
        if number.is_none() {
            problems.add(&self.path(name), wrong_type(raw, "a number that a 64-bit float can hold"));
        }
        number
    }

    /// The field as a time. `None` when absent, or wrong with the problem noted.
    pub(crate) fn time(&self, name: &str, problems: &mut Problems) -> Option<Timestamp> {
        let text = self.text(name, usize::MAX, problems)?;
        let time = text.parse().ok();
        if time.is_none() {
            let problem = format!(
                "{} is not a time in RFC 3339 from {} to {}; write it like 2026-01-31T12:00:00Z",
                quoted(&text),
                Timestamp::MIN,
                Timestamp::MAX
            );
            problems.add(&self.path(name), problem);
        }
        time
    }
}

/// The items of a list; `None` when `raw` is no list.
pub(crate) fn items(raw: &RawValue) -> Option<Vec<&RawValue>> {
    // Of a payload with sound syntax, a list of raw values cannot fail to be read.
    raw.get().starts_with('[').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// `raw` as text of at most `max` bytes and without NUL; `None`, with the problem noted, when it is none.
pub(crate) fn text(raw: &RawValue, path: &Path<'_>, max: usize, problems: &mut Problems) -> Option<String> {
    let problem = if !raw.get().starts_with('"') {
        wrong_type(raw, "a string")
    } else {
        match serde_json::from_str::<String>(raw.get()) {
            Err(_) => format!("holds {BAD_ESCAPE}"),
            Ok(text) => match check_text(&text, max) {
                None => return Some(text),
                Some(problem) => problem,
            },
        }
    };
    problems.add(path, problem);
    None
}

/// What is wrong with a text that is to be stored, if anything.
pub(crate) fn check_text(text: &str, max: usize) -> Option<String> {
    if text.len() > max {
        return Some(format!(
            "has {} bytes; the limit is {max} bytes; shorten it or leave it out",
            text.len()
        ));
    }
    // Postgres cannot store it.
    text.contains('\0')
        .then(|| "contains a NUL character (\\u0000), which cannot be stored; remove it".into())
}

const BAD_ESCAPE: &str =
    "a \\u escape that is no character (half of a surrogate pair); send both halves or neither";

/// "is a number; must be …".
pub(crate) fn wrong_type(raw: &RawValue, expected: &str) -> String {
    let is = match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    };
    format!("is {is}; must be {expected}")
}
