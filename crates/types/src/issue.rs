//! [`Issue`]: a problem as people see it, read from the alert tables. Whoever keeps the tables fills it, whoever
//! shows issues prints it; in JSON it has the names that readers of issues expect.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::time::Timestamp;

/// Whether people see an issue as settled.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
pub enum IssueState {
    /// It is not.
    Open,
    /// It is, by us or by a person.
    Closed,
}

/// An issue as it is shown. Words stand as the table has them, also those that are not ours.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Issue {
    /// The id of its alert.
    pub id: String,
    /// `Open` or `Closed`.
    pub state: String,
    /// `P0`, `P1`, `P2` or `Warning`.
    pub level: String,
    /// `Pending`, `InProcessing`, `Restored` or `AutoRestored`.
    pub alert_state: String,
    /// One line for people.
    pub title: String,
    /// A list of `{"key":…,"value":…}`.
    pub labels: Value,
    /// Since when; in JSON RFC 3339 with milliseconds and `Z`.
    #[serde(serialize_with = "millis")]
    pub alert_since: Timestamp,
}

/// A comment on an issue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comment {
    /// When it was written; in JSON RFC 3339 with milliseconds and `Z`.
    #[serde(serialize_with = "millis")]
    pub created_at: Timestamp,
    /// Markdown.
    pub content: String,
}

/// An issue with what was said about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IssueDetail {
    /// The issue.
    #[serde(flatten)]
    pub issue: Issue,
    /// What was said, oldest first.
    pub comments: Vec<Comment>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn millis<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_json_it_has_the_names_that_readers_expect() {
        let issue = Issue {
            id: "a".into(),
            state: IssueState::Open.to_string(),
            level: "P0".into(),
            alert_state: "Pending".into(),
            title: "t".into(),
            labels: Value::Array(Vec::new()),
            alert_since: Timestamp::from_micros(1_999),
        };
        let said = Comment { created_at: Timestamp::from_micros(0), content: "c".into() };
        assert_eq!(
            serde_json::to_string(&IssueDetail { issue, comments: vec![said] }).unwrap(),
            r#"{"id":"a","state":"Open","level":"P0","alertState":"Pending","title":"t","labels":[],"alertSince":"1970-01-01T00:00:00.001Z","comments":[{"createdAt":"1970-01-01T00:00:00.000Z","content":"c"}]}"#
        );
    }
}
