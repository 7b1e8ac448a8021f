//! Reconciliation: whatever is broken is said, repaired, and not found again.

use std::time::Duration;

use redress_operation_log::{Event, OperationHistory};
use redress_persistence::{CacheChecked, Persistence, Place, Report, Scope};

use crate::servers::Db;
use crate::world::{Cached, World, alert, cached};

mod stories {
    crate::on_both!(
        tables_are_repaired,
        owed_is_no_drift,
        people_are_left_alone,
        earlier_runs_stay_closed,
        a_service_is_well_since_its_last_issue_was_closed,
    );
}

const DRY: Scope = Scope { dry_run: true, since: None, cache_only: false };

/// One restored, one failed, one that runs, one over by itself.
async fn settled(world: &World, persistence: &Persistence) {
    world.restore(&mut world.acting("restored").await).await;
    world.deliver_all(persistence).await;
    world.fail(&mut world.acting("failed").await, "no luck").await;
    world.deliver_all(persistence).await;
    world.acting("runs").await;
    world.deliver_all(persistence).await;
    world.resolve(&mut world.accepted("gone").await).await;
    world.deliver_all(persistence).await;
}

/// Repairs everything; then there is nothing left. `after`: what was broken.
async fn repaired(persistence: &Persistence, after: &str) -> Report {
    let report = persistence.reconcile(Scope::default()).await.unwrap();
    assert!(report.found >= 1 && report.unrepaired() == 0, "{after}: {report:?}");
    assert_eq!(persistence.drift(), 0, "{after}");
    let again = persistence.reconcile(DRY).await.unwrap();
    assert!(again.is_clean(), "{after}: {again:?}");
    report
}

/// Finds exactly this, and repairs it.
async fn repairs(persistence: &Persistence, expected: &[&str]) -> Report {
    let dry = persistence.reconcile(DRY).await.unwrap();
    assert_eq!(found(&dry), expected, "{dry:?}");
    assert_eq!((dry.repaired, persistence.drift()), (0, dry.found));
    repaired(persistence, &expected.join(", ")).await
}

fn found(report: &Report) -> Vec<&str> {
    report.differences.iter().map(|difference| difference.what.as_str()).collect()
}

/// Looks without repairing: this is among what is found there.
async fn tells(persistence: &Persistence, what: &str, place: Place, after: &str) {
    let dry = persistence.reconcile(DRY).await.unwrap();
    let told = dry.differences.iter().any(|found| found.what == what && found.place == place);
    assert!(told && dry.repaired == 0, "{after}: {dry:?}");
}

async fn tables_are_repaired(db: Db) {
    let (world, persistence) = World::over(&db).await;
    settled(&world, &persistence).await;
    let clean = persistence.reconcile(DRY).await.unwrap();
    assert!(clean.is_clean() && clean.operations == 4 && clean.issues == 4, "{clean:?}");
    assert_eq!(clean.cache, CacheChecked::None);
    let right = (db.issues().await, db.comments("restored").await, db.comments("failed").await);

    let set = |what: &str| format!("update alert_issues set {what}");
    let one = "alert_issues restored";
    let breaks: [(String, &[&str]); 6] = [
        (set("state = 'Open' where id = 'restored'"), &["alert_issues restored state"]),
        (set("alert_state = 'Pending' where id = 'runs'"), &["alert_issues runs alert_state"]),
        (
            "delete from alert_issue_comments where issue_id = 'failed'".into(),
            &["alert_issue_comments of failed"],
        ),
        (
            "delete from alert_issue_comments where issue_id = 'restored';
             delete from alert_issues where id = 'restored'"
                .into(),
            &[one],
        ),
        (
            "update service_states set health_state = 'Normal', resolved_at = report_at".into(),
            &["service_states shop:1 health_state", "service_states shop:1 resolved_at"],
        ),
        ("delete from service_states".into(), &["service_states shop:1"]),
    ];
    for (sql, expected) in breaks {
        db.run(&sql).await;
        for what in expected {
            tells(&persistence, what, Place::Tables, &sql).await;
        }
        repaired(&persistence, &sql).await;
        assert_eq!((db.issues().await, db.comments("restored").await, db.comments("failed").await), right);
        let services = db.services().await;
        assert!(services.len() == 1 && services[0].starts_with("shop 1 Warning"), "{services:?}");
        for id in ["restored", "failed", "runs", "gone"] {
            assert!(services[0].contains(&format!("{id:?}")), "{services:?}");
        }
    }
}

async fn owed_is_no_drift(db: Db) {
    let (world, persistence) = World::over(&db).await;
    let mut story = world.accepted("a").await;
    let report = persistence.reconcile(Scope::default()).await.unwrap();
    assert!(report.is_clean() && report.owed == 1, "{report:?}");
    assert_eq!(db.issues().await, [""; 0]);
    world.deliver_all(&persistence).await;
    world.admit(&mut story).await;
    world.restore(&mut story).await;
    let report = persistence.reconcile(Scope::default()).await.unwrap();
    assert!(report.is_clean() && report.owed == 2, "{report:?}");
    // What was delivered is compared all the same.
    db.run("update service_states set alert_issue_ids = alert_issue_ids; delete from alert_issues").await;
    repairs(&persistence, &["alert_issues a"]).await;
    assert_eq!(db.issues().await, ["a Open Pending"]);
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await, ["a Closed Restored"]);
}

async fn people_are_left_alone(db: Db) {
    let (world, persistence) = World::over(&db).await;
    settled(&world, &persistence).await;
    // Closed by hand, a comment of somebody's own, an issue of another system.
    let labels = if db.is_postgres() { "'[]'::json" } else { "'[]'" };
    db.run(&format!(
        "update alert_issues set state = 'Closed' where id = 'failed';
         insert into alert_issue_comments values ('failed', '2026-02-01 00:00:00.000000', 'known');
         insert into alert_issues values ('theirs', 'Open', 'P0', 'InProcessing', 't', {labels}, '2026-01-01 00:00:00.000000')"
    ))
    .await;
    let before = (db.issues().await, db.comments("failed").await);
    assert!(persistence.reconcile(Scope::default()).await.unwrap().is_clean());
    assert_eq!((db.issues().await, db.comments("failed").await), before);
    // The last open issue was closed by hand: the service is well again.
    db.run("update alert_issues set state = 'Closed' where id = 'runs'").await;
    let health = ["service_states shop:1 health_state", "service_states shop:1 resolved_at"];
    let report = persistence.reconcile(Scope::default()).await.unwrap();
    assert_eq!(found(&report), health);
    assert!(db.services().await[0].starts_with("shop 1 Normal"));
    assert!(persistence.reconcile(DRY).await.unwrap().is_clean());
}

/// Whichever operation finds the service state damaged: what closed the last issue tells since when it is well.
async fn a_service_is_well_since_its_last_issue_was_closed(db: Db) {
    let (world, persistence) = World::over(&db).await;
    for id in ["first", "second"] {
        world.restore(&mut world.acting(id).await).await;
        world.deliver_all(&persistence).await;
        world.clock.advance(Duration::from_secs(10));
    }
    let when = async || {
        let time = if db.is_postgres() {
            "to_char(resolved_at, 'HH24:MI:SS.US')"
        } else {
            "substr(resolved_at, 12)"
        };
        db.texts(&format!("select health_state || ' ' || {time} from service_states")).await
    };
    let right = when().await;
    let earlier =
        if db.is_postgres() { "resolved_at - interval '11 seconds'" } else { "'2020-01-01 00:00:00.000000'" };
    for damage in [
        "update service_states set health_state = 'Error', resolved_at = null".to_owned(),
        "update service_states set resolved_at = null".to_owned(),
        format!("update service_states set resolved_at = {earlier}"),
        "delete from service_states".to_owned(),
    ] {
        db.run(&damage).await;
        repaired(&persistence, &damage).await;
        assert_eq!(when().await, right, "{damage}");
    }
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn the_cache_is_repaired() {
    let Cached { redis, world, persistence, .. } = cached().await;
    settled(&world, &persistence).await;
    let see = redis.client().await;
    let right = see.dump().await;
    let clean = persistence.reconcile(DRY).await.unwrap();
    assert!(clean.is_clean() && clean.cache == CacheChecked::Compared, "{clean:?}");
    for (commands, expected) in [
        (vec!["DEL alert:issue:runs"], "alert:issue:runs"),
        (vec!["SET alert:issue:runs {}"], "alert:issue:runs"),
        (vec!["SREM alert:index:open runs"], "alert:index:open runs"),
        (vec!["SADD alert:index:alert_state:Pending restored"], "alert:index:alert_state:Pending restored"),
        (vec!["SADD alert:index:svc:shop:open restored"], "alert:index:svc:shop:open restored"),
        (vec!["SADD alert:index:svc:cart:open runs"], "alert:index:svc:cart:open runs"),
        (vec!["SADD alert:index:open nobody"], "alert:index:open nobody"),
        (vec!["SADD alert:index:alert_state:Restored nobody"], "alert:index:alert_state:Restored nobody"),
        (vec!["DEL service_state:shop:1"], "service_state:shop:1"),
        (
            vec!["SADD service_state:index:health:Error service_state:shop:1"],
            "service_state:index:health:Error service_state:shop:1",
        ),
        (
            vec!["SADD service_state:index:health:Error service_state:x:1"],
            "service_state:index:health:Error service_state:x:1",
        ),
        // A version that this log never gave out: of its life before a restore.
        (
            vec!["SET redress:version:alert:issue:runs 00000000000999999999", "SET alert:issue:runs old"],
            "alert:issue:runs",
        ),
        (vec!["FLUSHALL"], "alert:issue:restored"),
    ] {
        for command in &commands {
            see.run(command).await;
        }
        let after = commands.join(", ");
        tells(&persistence, expected, Place::Cache, &after).await;
        repaired(&persistence, &after).await;
        let without_versions = |dump: Vec<(String, String)>| -> Vec<(String, String)> {
            dump.into_iter().filter(|(key, _)| !key.starts_with("redress:")).collect()
        };
        assert_eq!(without_versions(see.dump().await), without_versions(right.clone()), "{commands:?}");
    }
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_cache_row_that_is_owed_is_no_drift() {
    let Cached { mut redis, world, persistence, .. } = cached().await;
    let mut story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    redis.down();
    world.admit(&mut story).await;
    world.deliver(&persistence).await;
    let report = persistence.reconcile(Scope::default()).await.unwrap();
    assert!(matches!(report.cache, CacheChecked::Unavailable(_)), "{report:?}");
    assert!(report.found == 0 && report.owed == 1 && !report.is_clean(), "{report:?}");
    assert_eq!(world.log.outbox_owed(10).await.unwrap().len(), 1);
}

/// Operations that were accepted before there was a persistence step owe nothing, and are written all the same.
#[tokio::test]
async fn what_was_never_owed_is_written() {
    let db = Db::sqlite();
    let world = World::new(false).await;
    let mut story = world.story(alert("a"));
    let admitted = story.admitted();
    let append = story.begin(redress_types::Clock::now(&world.clock), admitted);
    story.append(&world.log, append).await.unwrap();
    let persistence = world.persistence(&db, None).await;
    let report = repairs(&persistence, &["alert_issues a", "service_states shop:1"]).await;
    assert_eq!((report.owed, db.issues().await), (0, vec!["a Open InProcessing".to_owned()]));
    let mut skipped = world.story(alert("b"));
    world.begin(&mut skipped, vec![Event::Skipped { reason: "observe only".into() }]).await;
    assert_eq!(
        persistence
            .reconcile(Scope { since: Some(redress_types::Timestamp::MAX), ..DRY })
            .await
            .unwrap()
            .operations,
        0
    );
}

/// A removed row of an earlier run is written again as the log tells it, and the later run closes it in the same
/// reconciliation.
async fn earlier_runs_stay_closed(db: Db) {
    let (world, persistence) = World::over(&db).await;
    two_runs(&world, &persistence).await;
    let right = db.issues().await;
    assert_eq!(right, ["a Closed Restored", "a#2 Closed Restored"]);
    let removes =
        "delete from alert_issue_comments where issue_id = 'a'; delete from alert_issues where id = 'a'";
    db.run(removes).await;
    repaired(&persistence, removes).await;
    assert_eq!(db.issues().await, right);
}

/// Run one fails, run two is restored; everything delivered.
async fn two_runs(world: &World, persistence: &Persistence) {
    let mut first = world.acting("a").await;
    world.fail(&mut first, "no luck").await;
    world.deliver_all(persistence).await;
    let mut second = world.story(alert("a#2"));
    let admitted = second.admitted();
    world.begin_run(&mut second, "a", 2, admitted).await;
    world.restore(&mut second).await;
    world.deliver_all(persistence).await;
}

/// What a dry run tells is what the repair then does, also where one repair leads to another.
#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_dry_run_predicts_the_repair() {
    let Cached { db, redis, world, persistence } = cached().await;
    settled(&world, &persistence).await;
    two_runs(&world, &persistence).await;
    let see = redis.client().await;
    let well = "update service_states set health_state = 'Normal', resolved_at = report_at";
    let gone = "delete from alert_issue_comments; delete from alert_issues; delete from service_states";
    for (sql, commands, cache_is_right) in [
        ("update service_states set health_state = 'Error', resolved_at = null", vec![], true),
        (well, vec![], true),
        ("update service_states set alert_issue_ids = '[]'", vec![], true),
        ("update alert_issues set state = 'Open', alert_state = 'Pending'", vec![], true),
        (gone, vec![], true),
        (gone, vec!["FLUSHALL"], false),
        (well, vec!["SREM alert:index:open runs", "DEL service_state:shop:1"], false),
        ("delete from service_states", vec!["SADD alert:index:open nobody"], false),
        (
            "delete from alert_issue_comments; delete from alert_issues where id in ('a', 'gone')",
            vec![],
            true,
        ),
    ] {
        db.run(sql).await;
        for command in &commands {
            see.run(command).await;
        }
        let dry = persistence.reconcile(DRY).await.unwrap();
        let in_cache = dry.differences.iter().any(|difference| difference.place == Place::Cache);
        assert_eq!(in_cache, !cache_is_right, "{sql} {commands:?}: {dry:?}");
        let real = repaired(&persistence, sql).await;
        let told = |report: &Report| -> Vec<String> {
            let shown = |one: &redress_persistence::Difference| {
                format!("{} {}: {} -> {}", one.place, one.what, one.is, one.should_be)
            };
            report.differences.iter().map(shown).collect()
        };
        assert_eq!(told(&dry), told(&real), "{sql} {commands:?}");
        assert_eq!((dry.found, dry.repaired, real.repaired), (real.found, 0, real.found), "{sql}");
    }
}

/// The tables' rows come before the cache's: what they close is seen by the cache all the same.
#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn the_cache_closes_earlier_runs_too() {
    let Cached { redis, world, persistence, .. } = cached().await;
    two_runs(&world, &persistence).await;
    let see = redis.client().await;
    assert_eq!(see.members("alert:index:open").await, [""; 0]);
    assert_eq!(see.members("alert:index:alert_state:Restored").await, ["a", "a#2"]);
    let clean = persistence.reconcile(DRY).await.unwrap();
    assert!(clean.is_clean(), "{clean:?}");
}

/// Who removes old issues does not get them back from a cache that looks after itself; and what is left of them in the
/// cache is taken out.
#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_cache_alone_is_completed_from_the_tables_as_they_are() {
    let Cached { db, redis, world, persistence } = cached().await;
    settled(&world, &persistence).await;
    let see = redis.client().await;
    db.run(
        "delete from alert_issue_comments where issue_id = 'restored';
         delete from alert_issues where id = 'restored'",
    )
    .await;
    see.run("FLUSHALL").await;
    let scope = Scope { cache_only: true, ..Scope::default() };
    let report = persistence.reconcile(scope).await.unwrap();
    assert!(report.found >= 1 && report.unrepaired() == 0, "{report:?}");
    assert_eq!(db.issues().await.len(), 3);
    assert_eq!(see.members("alert:index:open").await, ["failed", "runs"]);
    assert_eq!(see.number("EXISTS alert:issue:restored").await, 0);
    assert!(persistence.reconcile(scope).await.unwrap().is_clean());
}

/// A closed issue of long ago, which no operation of the log tells of in the asked time, leaves the sets.
#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn closed_issues_without_a_value_leave_the_sets() {
    let Cached { db, redis, world, persistence } = cached().await;
    settled(&world, &persistence).await;
    let see = redis.client().await;
    db.run(
        "insert into alert_issues values ('old', 'Closed', 'P1', 'Restored', 't', '[]', '2025-01-01 00:00:00.000000')",
    )
    .await;
    see.run("SADD alert:index:alert_state:Restored old").await;
    let report = persistence.reconcile(Scope::default()).await.unwrap();
    assert_eq!((report.found, report.repaired), (1, 1), "{report:?}");
    assert_eq!(see.members("alert:index:alert_state:Restored").await, ["restored"]);
}

/// Rows for the cache are owed: what is missing may be theirs, and the note that something is stays until all is seen.
#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_cache_with_rows_owed_stays_incomplete() {
    let Cached { redis, world, persistence, .. } = cached().await;
    let mut story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    persistence.reconcile(Scope::default()).await.unwrap();
    persistence.readiness().await;
    assert!(!persistence.cache_status().unwrap().incomplete);
    // Emptied while nobody writes: the mark is gone.
    let see = redis.client().await;
    see.run("FLUSHALL").await;
    persistence.readiness().await;
    assert!(persistence.cache_status().unwrap().incomplete);
    world.admit(&mut story).await;
    let report = persistence.reconcile(Scope::default()).await.unwrap();
    assert_eq!(report.found, 0, "{report:?}");
    assert!(persistence.cache_status().unwrap().incomplete);
    world.deliver_all(&persistence).await;
    persistence.reconcile(Scope::default()).await.unwrap();
    persistence.readiness().await;
    assert!(!persistence.cache_status().unwrap().incomplete);
}
