//! What the tables hold after each entry, and after each again.

use redress_operation_log::{Event, OperationHistory};
use redress_persistence::{Error, Settings};
use redress_types::{Level, Severity};

use crate::servers::Db;
use crate::world::{World, alert};

mod stories {
    crate::on_both!(
        restored,
        other_ends,
        resolved_by_itself,
        joined,
        no_issue,
        runs_taken_along,
        a_person_closed_it,
        ids_levels_and_services,
        strange_texts,
        late_repeats,
        made_by_others,
        missing_tables,
        a_table_that_went_away,
        many_joined,
    );
}

async fn restored(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await, ["a Open Pending"]);
    assert_eq!(db.services().await, [r#"shop 1 Warning ["a"] null"#]);
    world.admit(&mut story).await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await, ["a Open InProcessing"]);
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await, ["a Closed Restored"]);
    assert_eq!(db.services().await, [r#"shop 1 Normal ["a"] resolved"#]);
    assert_eq!(db.comments("a").await.len(), 1);
    // Entries that are none of the tables' business owe nothing.
    assert_eq!(world.log.outbox_of(story.id).await.unwrap().len(), 3);
    // The time of the entry, to the microsecond, and of the alert.
    let ended = story.operation.as_ref().unwrap().ended_at.unwrap().to_string();
    let text = if db.is_postgres() { "::text" } else { "" };
    let shown = |column: &str, table: &str| format!("select {column}{text} from {table}");
    for (column, table) in [("resolved_at", "service_states"), ("create_at", "alert_issue_comments")] {
        let found = db.texts(&shown(column, table)).await.remove(0).replace(' ', "T");
        assert!(ended.starts_with(found.trim_end_matches(".000000")), "{column} {found}, ended {ended}");
    }
    for (column, table) in [("report_at", "service_states"), ("alert_since", "alert_issues")] {
        assert_eq!(db.texts(&shown(column, table)).await, ["2025-12-31 23:59:00.123456"], "{column}");
    }
}

async fn other_ends(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut failed = world.acting("failed").await;
    world.fail(&mut failed, "409 from the deployment system").await;
    let mut skipped = world.story(alert("skipped"));
    skipped.plan = None;
    world.begin(&mut skipped, vec![Event::Skipped { reason: "no strategy applies to it".into() }]).await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await, ["failed Open InProcessing", "skipped Open Pending"]);
    assert_eq!(db.services().await, [r#"shop 1 Warning ["failed","skipped"] null"#]);
    for (id, why) in [("failed", "409 from the deployment system"), ("skipped", "no strategy applies to it")]
    {
        let comments = db.comments(id).await;
        assert!(comments.len() == 1 && comments[0].contains(why), "{comments:?}");
    }
}

async fn resolved_by_itself(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    world.resolve(&mut story).await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await, ["a Closed AutoRestored"]);
    assert_eq!(db.services().await, [r#"shop 1 Normal ["a"] resolved"#]);
    assert_eq!(db.comments("a").await, [""; 0]);
}

async fn joined(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut story = world.accepted("a").await;
    let mut other = alert("b");
    (other.version, other.level) = ("2".into(), Level::P0);
    world.join(&mut story, other).await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await, ["a Open Pending", "b Open Pending"]);
    world.admit(&mut story).await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await, ["a Open InProcessing", "b Open InProcessing"]);
    // One that joins later is in processing at once; one of another service has a row of its own.
    let mut late = alert("c");
    late.service = "cart".into();
    world.join(&mut story, late).await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await[2], "c Open InProcessing");
    assert_eq!(
        db.services().await,
        [r#"cart 1 Warning ["c"] null"#, r#"shop 1 Warning ["a"] null"#, r#"shop 2 Error ["b"] null"#]
    );
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await, ["a Closed Restored", "b Closed Restored", "c Closed Restored"]);
    assert!(db.services().await.iter().all(|row| row.contains(" Normal ") && row.ends_with("resolved")));
    for id in ["a", "b", "c"] {
        assert_eq!(db.comments(id).await.len(), 1, "{id}");
    }
}

async fn no_issue(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut info = alert("info");
    info.severity = Severity::Info;
    let mut nameless = alert("nameless");
    nameless.service = String::new();
    for alert in [info, nameless] {
        let mut story = world.story(alert);
        world.begin(&mut story, vec![Event::Skipped { reason: "nothing to do".into() }]).await;
        assert_eq!(world.log.outbox_of(story.id).await.unwrap(), []);
    }
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await, [""; 0]);
    assert_eq!(db.services().await, [""; 0]);
}

async fn runs_taken_along(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut first = world.acting("a").await;
    world.fail(&mut first, "no luck").await;
    // A later run is of another version, and what only looks like a run is another alert.
    world.accepted("a#3").await;
    let mut again = alert("a#2");
    again.version = "2".into();
    let mut second = world.story(again);
    let admitted = second.admitted();
    world.begin_run(&mut second, "a", 2, admitted).await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await, ["a Open InProcessing", "a#2 Open InProcessing", "a#3 Open Pending"]);
    world.restore(&mut second).await;
    world.deliver_all(&persistence).await;
    world.repeat(&persistence, &second).await;
    world.repeat(&persistence, &first).await;
    assert_eq!(db.issues().await, ["a Closed Restored", "a#2 Closed Restored", "a#3 Open Pending"]);
    assert_eq!(
        db.services().await,
        [r#"shop 1 Warning ["a","a#3"] null"#, r#"shop 2 Normal ["a#2"] resolved"#]
    );
    assert_eq!(db.comments("a").await.len(), 2);
    assert_eq!(db.comments("a#2").await.len(), 1);
}

async fn a_person_closed_it(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    db.run("update alert_issues set state = 'Closed' where id = 'a'").await;
    world.admit(&mut story).await;
    world.fail(&mut story, "no luck").await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await, ["a Closed InProcessing"]);
    assert_eq!(db.services().await, [r#"shop 1 Normal ["a"] resolved"#]);
}

async fn ids_levels_and_services(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut stories = Vec::new();
    for (id, level) in [("p2", Level::P2), ("p0", Level::P0), ("w", Level::Warning)] {
        let mut alert = alert(id);
        alert.level = level;
        let mut story = world.story(alert);
        world.begin_acting(&mut story).await;
        stories.push(story);
    }
    world.deliver_all(&persistence).await;
    let ids = r#"["p2","p0","w"]"#;
    assert_eq!(db.services().await, [format!("shop 1 Error {ids} null")]);
    for (story, expected) in [(1, "Warning"), (0, "Warning"), (2, "Normal")] {
        world.restore(&mut stories[story]).await;
        world.deliver_all(&persistence).await;
        let resolved = if expected == "Normal" { "resolved" } else { "null" };
        assert_eq!(db.services().await, [format!("shop 1 {expected} {ids} {resolved}")]);
    }
    // It breaks again: the earlier report stays, the resolution goes.
    let mut again = alert("z");
    again.alert_since = again.alert_since.plus(std::time::Duration::from_secs(3_600));
    world.begin(&mut world.story(again), vec![]).await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.services().await, [r#"shop 1 Warning ["p2","p0","w","z"] null"#.to_owned()]);
    let text = if db.is_postgres() { "::text" } else { "" };
    let reported = db.texts(&format!("select report_at{text} from service_states")).await;
    assert_eq!(reported, ["2025-12-31 23:59:00.123456"]);
}

async fn strange_texts(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut odd = alert("'; drop table alert_issues; --");
    odd.title = format!("{}\0é", "é".repeat(300));
    odd.service = "a\0b'\"{}".into();
    odd.version = String::new();
    odd.labels.insert("k\0'".into(), "v\0\"\u{1f600}\n".into());
    let mut story = world.story(odd);
    world.begin_acting(&mut story).await;
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    let length = if db.is_postgres() { "char_length(title)::text" } else { "cast(length(title) as text)" };
    assert_eq!(db.texts(&format!("select {length} from alert_issues")).await, ["255"]);
    let text = if db.is_postgres() { "::text" } else { "" };
    let labels = db.texts(&format!("select labels{text} from alert_issues")).await;
    assert_eq!(labels, [r#"[{"key":"k␀'","value":"v␀\"😀\n"}]"#]);
    assert_eq!(db.texts("select service from service_states").await, ["a␀b'\"{}"]);
    assert_eq!(db.texts("select health_state from service_states").await, ["Normal"]);
}

async fn late_repeats(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut stories = Vec::new();
    for id in ["a", "b"] {
        let mut story = world.acting(id).await;
        world.restore(&mut story).await;
        world.deliver_all(&persistence).await;
        stories.push(story);
    }
    let all = "select service || version || health_state || report_at || resolved_at from service_states";
    let before = (db.issues().await, db.services().await, db.texts(all).await);
    for story in &stories {
        world.repeat(&persistence, story).await;
    }
    assert_eq!((db.issues().await, db.services().await, db.texts(all).await), before);
    assert_eq!((db.comments("a").await.len(), db.comments("b").await.len()), (1, 1));
}

async fn made_by_others(db: Db) {
    // Enums, jsonb and shorter columns, as another system may have them; nothing here is created or changed.
    let sql = if db.is_postgres() {
        "create type issue_state as enum ('Open', 'Closed');
         create type alert_word as enum ('Pending', 'InProcessing', 'Restored', 'AutoRestored');
         create type health_word as enum ('Normal', 'Warning', 'Error');
         create table alert_issues (id varchar(64) primary key, state issue_state not null, level varchar(32) not null,
            alert_state alert_word not null, title varchar(255) not null, labels jsonb, alert_since timestamp(6));
         create table alert_issue_comments (issue_id varchar(64) references alert_issues (id),
            create_at timestamp(6), content text, primary key (issue_id, create_at));
         create table service_states (service varchar(255), version varchar(255), report_at timestamp(6),
            resolved_at timestamp(6) null, health_state health_word, alert_issue_ids text[],
            primary key (service, version));
         insert into service_states values ('shop', '1', null, null, 'Normal', null)"
    } else {
        "create table alert_issues (id varchar(64) primary key, state text, level varchar(32), alert_state text,
            title varchar(255), labels json, alert_since timestamp(6));
         create table alert_issue_comments (issue_id references alert_issues (id), create_at timestamp(6),
            content text, primary key (issue_id, create_at));
         create table service_states (service, version, report_at, resolved_at null, health_state,
            alert_issue_ids, primary key (service, version));"
    };
    db.run(sql).await;
    let world = World::new(false).await;
    let settings = Settings { create_tables: false, ..Settings::new(db.settings()) };
    let persistence = world.open(settings).await.unwrap();
    let mut story = world.acting("a").await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.services().await, [r#"shop 1 Warning ["a"] null"#]);
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.services().await, [r#"shop 1 Normal ["a"] resolved"#]);
    assert!(persistence.reconcile(redress_persistence::Scope::default()).await.unwrap().is_clean());
    assert_eq!(persistence.issues().list(None, "", 10).await.unwrap().items.len(), 1);
}

async fn missing_tables(db: Db) {
    let world = World::new(false).await;
    let settings = || Settings { create_tables: false, ..Settings::new(db.settings()) };
    let Err(Error::NotReady { what }) = world.open(settings()).await else { panic!("there are no tables") };
    assert!(what.contains("table alert_issues is missing") && what.contains("create table"), "{what}");
    world.persistence(&db, None).await;
    assert_eq!(world.open(settings()).await.unwrap().readiness().await.tables, None);
    db.run("drop table service_states").await;
    let Err(Error::NotReady { what }) = world.open(settings()).await else { panic!("one is missing") };
    assert!(what.contains("table service_states is missing"), "{what}");
    // Two that make them at once.
    let (one, two) = tokio::join!(world.persistence(&db, None), world.persistence(&db, None));
    assert_eq!((one.readiness().await.tables, two.readiness().await.tables), (None, None));
}

/// Another system wrote a word that is none of ours: a person gets the row, later rows go on, and the end puts it
/// right.
#[tokio::test]
async fn a_word_of_others() {
    let db = Db::sqlite();
    db.run(
        "create table alert_issues (id text primary key, state, level, alert_state, title, labels, alert_since);
         create table alert_issue_comments (issue_id, create_at, content, primary key (issue_id, create_at));
         create table service_states (service, version, report_at, resolved_at, health_state, alert_issue_ids,
            primary key (service, version))",
    )
    .await;
    let (world, persistence) = World::over(&db).await;
    let mut story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    db.run("update alert_issues set alert_state = 'Failed'").await;
    world.admit(&mut story).await;
    let errors = world.deliver(&persistence).await;
    let [redress_action::Error::Permanent { reason }] = errors.as_slice() else { panic!("{errors:?}") };
    assert!(reason.contains(r#"alert_issues a has the state "Failed""#), "{reason}");
    world.restore(&mut story).await;
    assert_eq!(world.deliver(&persistence).await, []);
    assert_eq!(db.issues().await, ["a Closed Restored"]);
}

/// Tables that go away later are named with the statement that makes them.
async fn a_table_that_went_away(db: Db) {
    let (world, persistence) = World::over(&db).await;
    db.run("drop table service_states").await;
    world.accepted("a").await;
    let errors = world.deliver(&persistence).await;
    let [redress_action::Error::Retryable { .. }] = errors.as_slice() else { panic!("{errors:?}") };
    let said = errors[0].to_string();
    assert!(said.contains("table service_states is missing") && said.contains("create table"), "{said}");
}

/// A joined alert writes its own row; the start and the end move all of them.
async fn many_joined(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    // Somebody removed the first; the row of the second is not about it.
    db.run("update service_states set alert_issue_ids = alert_issue_ids; delete from alert_issues").await;
    let mut other = alert("b");
    other.service = "cart".into();
    world.join(&mut story, other).await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await, ["b Open Pending"]);
    // One row for the first, and one for the second, of its own service.
    assert_eq!(world.log.outbox_of(story.id).await.unwrap().len(), 2);
    for n in 0..20 {
        let mut more = alert(&format!("n{n:02}"));
        more.level = if n % 2 == 0 { Level::P2 } else { Level::Warning };
        world.join(&mut story, more).await;
    }
    world.admit(&mut story).await;
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    let issues = db.issues().await;
    assert!(issues.len() == 22 && issues.iter().all(|row| row.ends_with("Closed Restored")), "{issues:?}");
    assert_eq!((db.comments("a").await.len(), db.comments("n19").await.len()), (1, 1));
    world.repeat(&persistence, &story).await;
    assert_eq!((db.issues().await, db.comments("n19").await.len()), (issues, 1));
}

/// A database that does not answer at the start is left to the outbox; without the right to create, nothing is made.
#[tokio::test]
#[ignore = "takes 16 s: ./test runs it"]
async fn tables_that_do_not_answer_yet() {
    let world = World::new(false).await;
    let nobody = redress_testkit::servers::free_address().unwrap();
    let url = format!("postgres://nobody@{nobody}/none");
    let tables = redress_persistence::TablesSettings::from_url("test", &url).unwrap();
    let persistence = world.open(Settings::new(tables)).await.unwrap();
    assert!(persistence.readiness().await.tables.is_some());
    world.accepted("a").await;
    let errors = world.deliver(&persistence).await;
    assert!(matches!(errors.as_slice(), [redress_action::Error::Retryable { .. }]), "{errors:?}");
    assert!(persistence.reconcile(redress_persistence::Scope::default()).await.is_err());

    let db = Db::sqlite();
    let settings = Settings { create_tables: false, ..Settings::new(db.settings()) };
    assert!(matches!(world.open(settings).await, Err(Error::NotReady { .. })));
    let Db::Sqlite { path, .. } = &db else { unreachable!() };
    assert!(!path.exists());
}

/// Tables that somebody has locked do not hold up readiness, nor a connection for ever.
#[tokio::test]
#[ignore = "needs Postgres: ./test runs it"]
async fn locked_tables_do_not_answer() {
    let db = Db::postgres().await;
    let (_, persistence) = World::over(&db).await;
    let Db::Postgres { url } = &db else { unreachable!() };
    let mut other = <sqlx::PgConnection as sqlx::Connection>::connect(url).await.unwrap();
    sqlx::raw_sql("begin; lock table alert_issues in access exclusive mode")
        .execute(&mut other)
        .await
        .unwrap();
    let began = tokio::time::Instant::now();
    let readiness = persistence.readiness().await;
    assert_eq!(readiness.tables.as_deref(), Some("the tables do not answer"));
    assert!(began.elapsed() < std::time::Duration::from_secs(3));
    let listed = persistence.issues().list(None, "", 10).await;
    assert!(listed.is_err());
}
