//! The comments, to the letter, in both languages; each once.

use expect_test::expect;
use redress_operation_log::Event;
use redress_persistence::{Language, Settings};
use redress_strategy::StoredPlan;

use crate::servers::Db;
use crate::world::{World, alert};

mod stories {
    crate::on_both!(same_microsecond, another_language_is_the_same_comment, other_words_are_the_same_comment);
}

async fn told(language: Language, ends: Ends) -> String {
    let db = Db::sqlite();
    let world = World::new(false).await;
    let persistence = world.open(Settings { language, ..Settings::new(db.settings()) }).await.unwrap();
    let mut alert = alert("a");
    alert.suggested_action = Some("restart <b>it</b>\n## now".into());
    let mut story = world.story(alert);
    if ends == Ends::Mock {
        let mut plan = story.plan.as_ref().unwrap().plan.clone();
        plan.steps[0].executor = "mock_rollback".into();
        story.plan = Some(std::sync::Arc::new(StoredPlan::freeze(plan).unwrap()));
    }
    let mut events = Vec::new();
    if ends == Ends::Diagnosed {
        events.push(Event::DiagnosisStarted);
        events.push(Event::Diagnosed { cause: "memory_leak".into(), confidence: 0.87 });
    }
    events.extend(story.admitted());
    world.begin(&mut story, events).await;
    match ends {
        Ends::Failed => world.fail(&mut story, "409: nothing to roll back").await,
        Ends::Restored | Ends::Mock | Ends::Diagnosed => world.restore(&mut story).await,
    }
    world.deliver_all(&persistence).await;
    db.comments("a").await.remove(0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Restored,
    Failed,
    Mock,
    Diagnosed,
}

#[tokio::test]
async fn restored_in_both_languages() {
    expect![[r#"
        ## AI分析结果
        **问题类型**：未诊断
        **根因分析**：未知：策略未要求诊断
        **处理建议**：
        - 持续观察 shop 的指标
        - 告警来源建议：restart &lt;b&gt;it&lt;/b&gt; \#\# now
        **执行状态**：已恢复；策略 restore，第 1 次尝试；步骤 roll back 成功（1 次调用，用时 0.0s）：done；步骤 warm up 成功（1 次调用，用时 0.0s）：done；验证：由服务自身的检查确认，连续 2 次通过：healthy: 200 in 12 ms；操作 rr-3b196fd4907b-00000001"#]].assert_eq(&told(Language::Zh, Ends::Restored).await);
    expect![[r#"
        ## Analysis
        **Problem type**: not diagnosed
        **Root cause**: unknown: no diagnosis was asked for
        **Suggestions**:
        - Keep watching the metrics of shop
        - The source suggests: restart &lt;b&gt;it&lt;/b&gt; \#\# now
        **Execution status**: Restored; strategy restore, attempt 1; step roll back succeeded (1 try, 0.0s): done; step warm up succeeded (1 try, 0.0s): done; verified by a check of the service itself, 2 in a row: healthy: 200 in 12 ms; operation rr-3b196fd4907b-00000001"#]].assert_eq(&told(Language::En, Ends::Restored).await);
}

#[tokio::test]
async fn failed_in_both_languages() {
    expect![[r#"
        ## AI分析结果
        **问题类型**：未诊断
        **根因分析**：未知：策略未要求诊断
        **处理建议**：
        - 请人工检查 shop，处理后关闭此问题
        - 告警来源建议：restart &lt;b&gt;it&lt;/b&gt; \#\# now
        **执行状态**：失败，需人工处理；原因：409: nothing to roll back；策略 restore，第 1 次尝试；步骤 roll back 失败（1 次调用，用时 1.5s）：409: nothing to roll back；操作 rr-3b196fd4907b-00000001"#]].assert_eq(&told(Language::Zh, Ends::Failed).await);
    expect![[r#"
        ## Analysis
        **Problem type**: not diagnosed
        **Root cause**: unknown: no diagnosis was asked for
        **Suggestions**:
        - Look at shop and close this issue when it is settled
        - The source suggests: restart &lt;b&gt;it&lt;/b&gt; \#\# now
        **Execution status**: Failed, a person must look; reason: 409: nothing to roll back; strategy restore, attempt 1; step roll back failed (1 try, 1.5s): 409: nothing to roll back; operation rr-3b196fd4907b-00000001"#]].assert_eq(&told(Language::En, Ends::Failed).await);
}

#[tokio::test]
async fn the_mock_has_the_fixed_diagnosis_and_the_true_outcome() {
    expect![[r#"
        ## AI分析结果
        **问题类型**：非发版本导致的问题
        **根因分析**：数据库连接池配置不足，导致大量请求无法获取数据库连接
        **处理建议**：
        - 增加数据库连接池大小
        - 优化数据库连接管理
        - 考虑读写分离缓解压力
        **执行状态**：已恢复；策略 restore，第 1 次尝试；步骤 roll back 成功（1 次调用，用时 0.0s）：done；步骤 warm up 成功（1 次调用，用时 0.0s）：done；验证：由服务自身的检查确认，连续 2 次通过：healthy: 200 in 12 ms；操作 rr-3b196fd4907b-00000001"#]].assert_eq(&told(Language::Zh, Ends::Mock).await);
}

#[tokio::test]
async fn a_diagnosis_is_told() {
    expect![[r#"
        ## AI分析结果
        **问题类型**：memory_leak
        **根因分析**：memory_leak（置信度 87%）
        **处理建议**：
        - 持续观察 shop 的指标
        - 告警来源建议：restart &lt;b&gt;it&lt;/b&gt; \#\# now
        **执行状态**：已恢复；策略 restore，第 1 次尝试；步骤 roll back 成功（1 次调用，用时 0.0s）：done；步骤 warm up 成功（1 次调用，用时 0.0s）：done；验证：由服务自身的检查确认，连续 2 次通过：healthy: 200 in 12 ms；操作 rr-3b196fd4907b-00000001"#]].assert_eq(&told(Language::Zh, Ends::Diagnosed).await);
}

/// Where the entry's microsecond is taken by another comment, ours stands at the next.
async fn same_microsecond(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut story = world.acting("a").await;
    world.deliver_all(&persistence).await;
    world.restore(&mut story).await;
    let at = story.operation.as_ref().unwrap().ended_at.unwrap().to_string().replace('T', " ");
    let at = at.trim_end_matches('Z');
    db.run(&format!(
        "insert into alert_issue_comments values ('a', '{at}.000000', 'of a person'), ('a', '{at}.000001', 'another')"
    ))
    .await;
    world.deliver_all(&persistence).await;
    world.repeat(&persistence, &story).await;
    let comments = db.comments("a").await;
    assert_eq!((comments.len(), comments[0].as_str(), comments[1].as_str()), (3, "of a person", "another"));
    let text = if db.is_postgres() { "::text" } else { "" };
    let times =
        db.texts(&format!("select create_at{text} from alert_issue_comments order by create_at")).await;
    assert_eq!(times[2], format!("{at}.000002"));
}

/// Who changes the language between two deliveries of one row finds one comment.
async fn another_language_is_the_same_comment(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut story = world.acting("a").await;
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    let english = Settings { language: Language::En, ..Settings::new(db.settings()) };
    world.repeat(&world.open(english).await.unwrap(), &story).await;
    let comments = db.comments("a").await;
    assert!(comments.len() == 1 && comments[0].starts_with("## AI分析结果\n"), "{comments:?}");
}

/// An earlier version worded it otherwise, or a person has put it in his own words: no second comment.
async fn other_words_are_the_same_comment(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut story = world.acting("a").await;
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    db.run("update alert_issue_comments set content = replace(content, '执行状态', '状态')").await;
    world.repeat(&persistence, &story).await;
    assert_eq!(db.comments("a").await.len(), 1);
    db.run("update alert_issue_comments set content = 'it was the cable'; update alert_issues set state = 'Open'")
        .await;
    let report = persistence.reconcile(redress_persistence::Scope::default()).await.unwrap();
    assert!(report.found >= 1 && report.unrepaired() == 0, "{report:?}");
    assert_eq!(db.comments("a").await, ["it was the cable"]);
    assert_eq!(db.issues().await, ["a Closed Restored"]);
}
