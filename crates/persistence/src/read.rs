//! [`Issues`]: the issues as people and the API read them (contracts §6), from the tables.

use redress_types::{Issue, IssueDetail, IssueState, Timestamp};
use serde_json::Value;

use crate::error::Error;
use crate::tables::Tables;

/// Reads issues. Cloning is cheap. Cancellation safety: every method may be dropped at any await.
#[derive(Clone, Debug)]
pub struct Issues {
    tables: Tables,
}

/// A page of issues.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IssuePage {
    /// The issues, newest first.
    pub items: Vec<Issue>,
    /// Where the next page begins; empty: there is none.
    pub next: String,
}

/// Where a page ends: after the issue of this start and id. Stable: issues that come or change never move it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub alert_since: Timestamp,
    pub id: String,
}

/// A text that is no cursor of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor; pass `next` of an earlier answer, or nothing")]
pub struct InvalidCursor;

/// Why issues could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The cursor is not one that an earlier answer gave.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    /// The tables could not be read.
    #[error(transparent)]
    Tables(#[from] Error),
}

impl Issues {
    /// The most issues of one page.
    pub const LIMIT_MAX: usize = 100;

    pub(crate) fn new(tables: Tables) -> Self {
        Self { tables }
    }

    /// A page of issues, newest first. `start` is `next` of an earlier answer, or empty; `limit` is brought into
    /// 1 to [`Self::LIMIT_MAX`].
    ///
    /// # Errors
    /// When `start` is no cursor, or the tables cannot be read.
    pub async fn list(
        &self,
        state: Option<IssueState>,
        start: &str,
        limit: usize,
    ) -> Result<IssuePage, ReadError> {
        let after = if start.is_empty() { None } else { Some(Cursor::parse(start)?) };
        let limit = limit.clamp(1, Self::LIMIT_MAX);
        // One more tells whether there is a next page.
        let rows = i64::try_from(limit + 1).unwrap_or(i64::MAX);
        let mut items = self.tables.issues(state.map(<&'static str>::from), after.as_ref(), rows).await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(Cursor::of).map_or(String::new(), |c| c.to_string());
        Ok(IssuePage { items, next })
    }

    /// One issue with its comments; `None` when there is none of this id.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub async fn get(&self, id: &str) -> Result<Option<IssueDetail>, Error> {
        // No id holds it, and Postgres cannot even be asked.
        if id.contains('\0') {
            return Ok(None);
        }
        let found = self.tables.issue(id).await?;
        Ok(found.map(|(issue, comments)| IssueDetail { issue, comments }))
    }
}

impl Cursor {
    pub(crate) fn of(issue: &Issue) -> Self {
        Self { alert_since: issue.alert_since, id: issue.id.clone() }
    }

    fn parse(text: &str) -> Result<Self, InvalidCursor> {
        let (micros, id) = text.split_once('.').ok_or(InvalidCursor)?;
        let alert_since = micros.parse().map(Timestamp::from_micros).map_err(|_| InvalidCursor)?;
        if id.len() % 2 != 0 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidCursor);
        }
        let byte = |at: usize| u8::from_str_radix(&id[at..at + 2], 16).map_err(|_| InvalidCursor);
        let bytes: Vec<u8> = (0..id.len()).step_by(2).map(byte).collect::<Result<_, _>>()?;
        let id = String::from_utf8(bytes).map_err(|_| InvalidCursor)?;
        if id.contains('\0') {
            return Err(InvalidCursor);
        }
        Ok(Self { alert_since, id })
    }
}

/// Start and id, the id in hex: it needs no escaping in a URL.
impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.", self.alert_since.as_micros())?;
        self.id.bytes().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The labels of a row, which somebody else may have written: a map becomes a list, what is no JSON an empty list.
pub(crate) fn labels_of(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => {
            let pair = |(key, value)| serde_json::json!({ "key": key, "value": value });
            Value::Array(map.into_iter().map(pair).collect())
        }
        Ok(list @ Value::Array(_)) => list,
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | Err(_) => {
            Value::Array(Vec::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_nothing_else_does() {
        let cursor = Cursor { alert_since: Timestamp::from_micros(-5), id: "é/'#2".into() };
        assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        for wrong in ["", "x", "1", "1.2", "1.zz", "1.é", "1.00", ".61", "1.ff"] {
            assert_eq!(Cursor::parse(wrong), Err(InvalidCursor), "{wrong}");
        }
    }

    #[test]
    fn labels_of_others_become_a_list() {
        assert_eq!(labels_of(r#"{"a":"b"}"#).to_string(), r#"[{"key":"a","value":"b"}]"#);
        assert_eq!(labels_of("[]").to_string(), "[]");
        assert_eq!(labels_of("").to_string(), "[]");
    }
}
