//! What the API reads.

use redress_persistence::{IssueState, ReadError};

use crate::servers::Db;
use crate::world::{World, alert};

mod stories {
    crate::on_both!(pages, one_issue);
}

async fn pages(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let issues = persistence.issues();
    assert_eq!(issues.list(None, "", 10).await.unwrap(), Default::default());
    // Two of the same start: the id decides.
    for (id, minute) in [("a", 0), ("b/%", 1), ("c", 1), ("d", 2), ("e", 3)] {
        let mut alert = alert(id);
        alert.alert_since = alert.alert_since.plus(std::time::Duration::from_secs(60 * minute));
        let mut story = world.story(alert);
        if id == "d" {
            world.begin_acting(&mut story).await;
            world.restore(&mut story).await;
        } else {
            world.begin(&mut story, vec![]).await;
        }
    }
    world.deliver_all(&persistence).await;
    let mut seen = Vec::new();
    let mut start = String::new();
    loop {
        let page = issues.list(None, &start, 2).await.unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.into_iter().map(|issue| issue.id));
        // What comes meanwhile moves nothing.
        let mut newer = alert(&format!("new-{}", seen.len()));
        newer.alert_since = newer.alert_since.plus(std::time::Duration::from_secs(3_600));
        world.begin(&mut world.story(newer), vec![]).await;
        world.deliver_all(&persistence).await;
        start = page.next;
        if start.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["e", "d", "c", "b/%", "a"]);
    let closed = issues.list(Some(IssueState::Closed), "", 100).await.unwrap();
    assert_eq!(closed.items.iter().map(|issue| issue.id.as_str()).collect::<Vec<_>>(), ["d"]);
    assert_eq!(issues.list(Some(IssueState::Open), "", 0).await.unwrap().items.len(), 1);
    assert!(matches!(issues.list(None, "x' or 1=1", 2).await, Err(ReadError::Cursor(_))));
}

async fn one_issue(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut alert = alert("a");
    alert.labels.insert("big".into(), "9007199254740993".into());
    let mut story = world.story(alert);
    world.begin_acting(&mut story).await;
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    let detail = persistence.issues().get("a").await.unwrap().unwrap();
    let mut json = serde_json::to_value(&detail).unwrap();
    let comment = json["comments"][0].take();
    assert_eq!(comment["createdAt"], "2026-01-01T00:00:03.000Z");
    assert!(comment["content"].as_str().unwrap().starts_with("## AI分析结果\n"));
    assert_eq!(
        json.to_string(),
        r#"{"alertSince":"2025-12-31T23:59:00.123Z","alertState":"Restored","comments":[null],"id":"a","labels":[{"key":"big","value":"9007199254740993"}],"level":"P1","state":"Closed","title":"shop does not answer"}"#
    );
    assert_eq!(persistence.issues().get("b").await.unwrap(), None);
    assert_eq!(persistence.issues().get("a\0").await.unwrap(), None);
}
