//! Issues, from a reader that the test brings (contracts §6).

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use redress_api::{Comment, Issue, IssueError, IssuePage, IssueQuery, IssueReader, IssueState};
use serde_json::json;

use crate::openapi::has_the_fields_of;
use crate::world::World;

/// Remembers what it was asked, and has one issue.
#[derive(Default)]
struct Tables {
    asked: Mutex<Vec<IssueQuery>>,
}

fn issue() -> Issue {
    Issue {
        id: "a/1#2".into(),
        state: "Open".into(),
        level: "P0".into(),
        alert_state: "InProcessing".into(),
        title: "down".into(),
        labels: json!([{"key": "service", "value": "shop"}]),
        alert_since: "2026-01-31T12:00:00.123456Z".parse().unwrap(),
    }
}

#[async_trait]
impl IssueReader for Tables {
    async fn list(&self, query: &IssueQuery) -> Result<IssuePage, IssueError> {
        self.asked.lock().unwrap().push(query.clone());
        match query.start.as_deref() {
            Some("broken") => Err(IssueError::Cursor),
            Some("down") => Err(IssueError::Unavailable("hunter2".into())),
            Some("damaged") => Err(IssueError::Unreadable("hunter2".into())),
            Some(_) => Ok(IssuePage::default()),
            None => Ok(IssuePage { items: vec![issue()], next: Some("more+/=".into()) }),
        }
    }

    async fn get(&self, id: &str) -> Result<Option<(Issue, Vec<Comment>)>, IssueError> {
        let comment = Comment { created_at: "2026-01-31T12:00:01Z".parse().unwrap(), content: "## x".into() };
        Ok((id == issue().id).then(|| (issue(), vec![comment])))
    }
}

#[tokio::test]
async fn the_list_is_as_its_readers_expect_it() {
    let tables = Arc::new(Tables::default());
    let world = World::with(|service| service.issues(tables.clone())).await;
    let page = world.get("/v1/issues?limit=7&state=Open").await;
    let item = json!({"id": "a/1#2", "state": "Open", "level": "P0", "alertState": "InProcessing", "title": "down",
                      "labels": [{"key": "service", "value": "shop"}], "alertSince": "2026-01-31T12:00:00.123Z"});
    assert_eq!(page.json(), json!({"items": [item], "next": "more+/="}));
    has_the_fields_of("Issue", &page.json()["items"][0]);
    let last = world.get("/v1/issues?start=more%2B%2F%3D").await;
    assert_eq!(last.json(), json!({"items": [], "next": ""}));
    world.get("/v1/issues?start=a%0A%EF%BF%BD").await;
    let asked = tables.asked.lock().unwrap().clone();
    assert_eq!(asked[2].start.as_deref(), Some("a\n\u{fffd}"), "a cursor may hold whatever an id may hold");
    assert_eq!(asked[0], IssueQuery { start: None, limit: 7, state: Some(IssueState::Open) });
    assert_eq!(asked[1], IssueQuery { start: Some("more+/=".into()), limit: 50, state: None });
}

#[tokio::test]
async fn one_issue_has_its_comments() {
    let world = World::with(|service| service.issues(Arc::new(Tables::default()))).await;
    let answer = world.get("/v1/issues/a%2F1%232").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["alertSince"], "2026-01-31T12:00:00.123Z");
    let comments = json!([{"createdAt": "2026-01-31T12:00:01.000Z", "content": "## x"}]);
    assert_eq!(answer.json()["comments"], comments);
    let answer = world.get("/v1/issues/other").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "NOT_FOUND"));
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart_and_no_cause_is_shown() {
    let world = World::with(|service| service.issues(Arc::new(Tables::default()))).await;
    let cases = [
        ("start=broken", 400, "INVALID_PARAMETER"),
        ("start=down", 503, "UNAVAILABLE"),
        ("start=damaged", 500, "INTERNAL_ERROR"),
        ("state=open", 400, "INVALID_PARAMETER"),
        ("limit=101", 400, "INVALID_PARAMETER"),
        ("cursor=x", 400, "INVALID_PARAMETER"),
    ];
    for (query, status, code) in cases {
        let answer = world.get(format!("/v1/issues?{query}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{query}");
        assert!(!answer.body.contains("hunter2"), "{}", answer.body);
    }
}

#[tokio::test]
async fn without_tables_there_are_none() {
    let world = World::new().await;
    for path in ["/v1/issues", "/v1/issues/x"] {
        let answer = world.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "NOT_FOUND"));
    }
}
