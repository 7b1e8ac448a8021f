//! The cache, against a Redis of the test's own.

use std::sync::Arc;
use std::time::Duration;

use redress_operation_log::{OperationHistory, OperationLog as _};
use redress_persistence::{CACHE_EXECUTOR, Cache, CacheSettings, Error, Scope};
use redress_testkit::servers::{free_address, redis};
use redress_testkit::until_async;

use crate::servers::{Db, Redis, cache_at};
use crate::world::{Cached, World, alert, cached, call};

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn an_issue_moves_through_the_sets() {
    let Cached { redis, world, persistence, .. } = cached().await;
    let see = redis.client().await;
    let mut labelled = alert("a");
    labelled.labels.insert("alertname".into(), "Down".into());
    labelled.labels.insert("big".into(), "9007199254740993".into());
    let mut story = world.story(labelled);
    world.begin(&mut story, vec![]).await;
    // No labels at all: the empty list stays one.
    world.accepted("b").await;
    world.deliver_all(&persistence).await;
    assert_eq!(see.members("alert:index:open").await, ["a", "b"]);
    assert_eq!(see.members("alert:index:svc:shop:open").await, ["a", "b"]);
    assert_eq!(see.members("alert:index:alert_state:Pending").await, ["a", "b"]);
    assert_eq!(see.members("service_state:index:health:Warning").await, ["service_state:shop:1"]);
    let ttl = see.number("PTTL alert:issue:a").await;
    assert!((259_000_000..=259_200_000).contains(&ttl), "{ttl}");
    see.run("PEXPIRE alert:issue:a 100000").await;

    world.admit(&mut story).await;
    world.deliver_all(&persistence).await;
    assert_eq!(see.members("alert:index:alert_state:Pending").await, ["b"]);
    assert_eq!(see.members("alert:index:alert_state:InProcessing").await, ["a"]);
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    assert_eq!(see.members("alert:index:alert_state:InProcessing").await, [""; 0]);
    assert_eq!(see.members("alert:index:alert_state:Restored").await, ["a"]);
    assert_eq!(see.members("alert:index:open").await, ["b"]);
    let fingerprint = &story.alert.fingerprint;
    assert_eq!(
        see.text("GET alert:issue:a").await.unwrap(),
        format!(
            r#"{{"id":"a","state":"Closed","level":"P1","alertState":"Restored","title":"shop does not answer","labels":[{{"key":"alertname","value":"Down"}},{{"key":"big","value":"9007199254740993"}}],"alertSince":"2025-12-31T23:59:00.123Z","fingerprint":"{fingerprint}","service":"shop","alertname":"Down"}}"#
        )
    );
    assert!(see.text("GET alert:issue:b").await.unwrap().contains(r#""labels":[],"#));
    // Updates keep the time to live, and the version has the same.
    for key in ["alert:issue:a", "redress:version:alert:issue:a"] {
        let ttl = see.number(&format!("PTTL {key}")).await;
        assert!((1..=100_000).contains(&ttl), "{key} {ttl}");
    }
    assert_eq!(
        see.text("GET service_state:shop:1").await.unwrap(),
        r#"{"service":"shop","version":"1","health_state":"Warning","report_at":"2025-12-31T23:59:00.123Z","resolved_at":null}"#
    );
    assert_eq!(see.number("PTTL service_state:shop:1").await, -1);
    // Nothing twice: a repeat of everything changes nothing.
    let before = see.dump().await;
    world.repeat(&persistence, &story).await;
    assert_eq!(see.dump().await, before);
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn who_watches_sees_every_state_and_a_key_is_in_one_health_set() {
    let Cached { redis, world, persistence, .. } = cached().await;
    let see = redis.client().await;
    let mut story = world.acting("a").await;
    world.deliver_all(&persistence).await;
    // Two writes of one entry: pending, then in processing.
    let stats = see.text("INFO commandstats").await.unwrap();
    let calls = |name: &str| stats.lines().find(|line| line.starts_with(name)).unwrap_or("").to_owned();
    assert!(calls("cmdstat_eval:").contains("calls=3,"), "{}", calls("cmdstat_eval:"));
    assert_eq!(see.members("alert:index:alert_state:InProcessing").await, ["a"]);
    assert_eq!(see.members("alert:index:alert_state:Pending").await, [""; 0]);
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    for (health, expected) in [("Normal", 1), ("Warning", 0), ("Error", 0)] {
        let set = format!("service_state:index:health:{health}");
        assert_eq!(see.members(&set).await.len(), expected, "{set}");
    }
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_key_of_a_wrong_type_changes_nothing() {
    let wrong = [
        ("LPUSH alert:issue:a x", "alert:issue:a is a list, a string was expected"),
        ("SET alert:index:open x", "alert:index:open is a string, a set was expected"),
        ("SET alert:index:alert_state:AutoRestored x", "alert:index:alert_state:AutoRestored is a string"),
        ("SADD redress:version:alert:issue:a x", "redress:version:alert:issue:a is a set"),
        ("SET redress:version:alert:issue:a 12", "redress:version:alert:issue:a does not hold a version"),
        ("HSET service_state:shop:1 a b", "service_state:shop:1 is a hash"),
        ("SET service_state:index:health:Error x", "service_state:index:health:Error is a string"),
    ];
    let Cached { db, redis, world, persistence } = cached().await;
    let see = redis.client().await;
    let mut story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    world.admit(&mut story).await;
    let row = world.log.outbox_of(story.id).await.unwrap();
    let row = row.iter().rfind(|row| row.executor == CACHE_EXECUTOR).unwrap();
    let executor = persistence.executors().remove(1);
    for (break_it, says) in wrong {
        let key = break_it.split(' ').nth(1).unwrap();
        see.run("FLUSHALL").await;
        persistence.reconcile(Scope::default()).await.unwrap();
        see.run(&format!("DEL {key}")).await;
        see.run(break_it).await;
        let before = see.dump().await;
        let error = executor.execute(&call(row)).await.unwrap_err();
        assert!(matches!(error, redress_action::Error::Retryable { .. }), "{error:?}");
        assert!(error.to_string().contains(says), "{break_it}: {error}");
        let after = see.dump().await;
        let issue_keys = |dump: &[(String, String)]| -> Vec<_> {
            // The two kinds of keys are two scripts: a service's wrong key does not stop its issues.
            let service = key.starts_with("service_state");
            dump.iter().filter(|(key, _)| !service || key.contains("service_state")).cloned().collect()
        };
        assert_eq!(issue_keys(&after), issue_keys(&before), "{break_it}");
        let behind = persistence.cache_status().unwrap().behind.unwrap();
        assert!(behind.error.contains(says), "{behind:?}");
    }
    // The tables were never held up.
    assert_eq!(db.issues().await, ["a Open InProcessing"]);
    see.run("FLUSHALL").await;
    world.deliver_all(&persistence).await;
    assert_eq!(persistence.cache_status().unwrap().behind, None);
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_stale_writer_changes_nothing_and_a_missing_key_is_not_created() {
    let Cached { redis, world, persistence, .. } = cached().await;
    let see = redis.client().await;
    let mut story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    let rows = world.log.outbox_of(story.id).await.unwrap();
    let version = see.text("GET redress:version:alert:issue:a").await.unwrap();
    assert_eq!(version, format!("{:020}", rows[0].position));
    // A later writer, above what Lua's numbers can tell apart.
    see.run("SET redress:version:alert:issue:a 09007199254740993000").await;
    see.run("SET redress:version:service_state:shop:1 09007199254740993000").await;
    see.run("SET alert:issue:a later").await;
    let before = see.dump().await;
    world.admit(&mut story).await;
    world.deliver_all(&persistence).await;
    assert_eq!(see.dump().await, before);

    see.run("FLUSHALL").await;
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    assert_eq!(see.text("GET alert:issue:a").await, None);
    assert_eq!(see.members("alert:index:alert_state:Restored").await, [""; 0]);
    // Creating nothing is seen, so that somebody recreates it.
    assert!(persistence.cache_status().unwrap().incomplete);
    let report = persistence.reconcile(Scope::default()).await.unwrap();
    assert_eq!(report.found, report.repaired);
    assert_eq!(see.members("alert:index:alert_state:Restored").await, ["a"]);
    assert!(!persistence.cache_status().unwrap().incomplete);
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn without_redis_the_tables_go_on_and_the_outbox_repairs_later() {
    let Cached { db, mut redis, world, persistence } = cached().await;
    let mut story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    redis.down();
    world.admit(&mut story).await;
    let errors = world.deliver(&persistence).await;
    assert!(matches!(errors.as_slice(), [redress_action::Error::Retryable { .. }]), "{errors:?}");
    world.restore(&mut story).await;
    let errors = world.deliver(&persistence).await;
    assert!(errors.len() <= 1, "{errors:?}");
    assert_eq!(db.issues().await, ["a Closed Restored"]);
    let since = persistence.cache_status().unwrap().behind.unwrap().since;
    assert!(since <= story.operation.as_ref().unwrap().ended_at.unwrap());
    assert_eq!(persistence.readiness().await.tables, None);
    // It comes back empty: the owed rows are delivered, and what is gone is recreated.
    redis.up();
    let deliver = async || {
        world.clock.advance(Duration::from_secs(6));
        world.deliver(&persistence).await;
        let delivered = world.log.outbox_owed(10).await?.is_empty();
        if delivered { Ok(Some(())) } else { Err(format!("{:?}", persistence.cache_status()).into()) }
    };
    until_async(Duration::from_secs(30), "all is delivered", deliver).await.unwrap();
    let status = persistence.cache_status().unwrap();
    assert!(status.connected && status.behind.is_none() && status.incomplete, "{status:?}");
    persistence.reconcile(Scope::default()).await.unwrap();
    let see = redis.client().await;
    assert_eq!(see.members("alert:index:alert_state:Restored").await, ["a"]);
    assert!(persistence.reconcile(Scope::default()).await.unwrap().is_clean());
}

#[tokio::test]
#[ignore = "takes 3 s: ./test runs it"]
async fn a_redis_that_is_absent_from_the_start_is_behind() {
    let world = World::new(true).await;
    let settings = cache_at(free_address().unwrap());
    let clock = Arc::new(world.clock.clone());
    let cache = Cache::connect(&settings, clock, Duration::from_millis(300)).await.unwrap();
    let status = cache.status();
    assert!(!status.connected && status.behind.is_some(), "{status:?}");
    assert!(cache.ping().await.is_err());
    cache.close().await;
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_cluster_is_refused_with_the_reason() {
    // Without this it is its own port and 10,000, which may be none.
    let bus = free_address().unwrap().port().to_string();
    let options = ["--cluster-enabled", "yes", "--cluster-port", &bus];
    let redis = redis(free_address().unwrap(), &options).unwrap();
    let world = World::new(true).await;
    let clock = Arc::new(world.clock.clone());
    let error = Cache::connect(&cache_at(redis.address()), clock, Duration::from_secs(20)).await.unwrap_err();
    assert!(matches!(error, Error::Cluster { .. }), "{error:?}");
    assert!(error.to_string().contains("different slots"), "{error}");
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_wrong_password_is_behind_and_says_no_secret() {
    let redis = redis(free_address().unwrap(), &["--requirepass", "right"]).unwrap();
    let world = World::new(true).await;
    let clock = Arc::new(world.clock.clone());
    let url = format!("redis://:wrong@{}", redis.address());
    let settings = CacheSettings::from_url("test", &url).unwrap();
    let cache = Cache::connect(&settings, clock, Duration::from_secs(1)).await.unwrap();
    let status = format!("{:?} {cache:?} {settings:?}", cache.status());
    assert!(
        status.contains("behind: Some") && !status.contains("wrong@") && !status.contains(":wrong"),
        "{status}"
    );
    cache.close().await;
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_value_that_expired_takes_its_version_with_it() {
    let Cached { redis, world, persistence, .. } = cached().await;
    let see = redis.client().await;
    let mut story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    // Its version is gone: the next writer writes, and gives the version the value's time to live.
    see.run("DEL redress:version:alert:issue:a").await;
    see.run("PEXPIRE alert:issue:a 50000").await;
    world.admit(&mut story).await;
    world.deliver_all(&persistence).await;
    let ttl = see.number("PTTL redress:version:alert:issue:a").await;
    assert!((1..=50_000).contains(&ttl), "{ttl}");
    // A value that somebody keeps for ever stays so, and its version with it.
    see.run("PERSIST alert:issue:a").await;
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    assert_eq!(see.number("PTTL alert:issue:a").await, -1);
    assert_eq!(see.number("PTTL redress:version:alert:issue:a").await, -1);
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_closed_issue_leaves_the_sets_once_its_value_expired() {
    let Cached { redis, world, persistence, .. } = cached().await;
    let see = redis.client().await;
    for id in ["closed", "open"] {
        let mut story = world.acting(id).await;
        if id == "closed" {
            world.restore(&mut story).await;
        }
    }
    world.deliver_all(&persistence).await;
    // Redis forgets the values by itself after three days; the sets it keeps.
    world.clock.advance(Duration::from_secs(4 * 24 * 60 * 60));
    see.run("DEL alert:issue:closed alert:issue:open").await;
    let report = persistence.reconcile(Scope::default()).await.unwrap();
    assert_eq!((report.found, report.repaired), (2, 2), "{report:?}");
    assert_eq!(see.members("alert:index:alert_state:Restored").await, [""; 0]);
    assert_eq!(see.number("EXISTS alert:issue:closed").await, 0);
    assert_eq!(see.number("EXISTS alert:issue:open").await, 1);
    assert!(persistence.reconcile(Scope::default()).await.unwrap().is_clean());
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_cache_that_lost_keys_is_completed_by_itself() {
    let Cached { redis, world, persistence, .. } = cached().await;
    let see = redis.client().await;
    let mut story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    see.run("FLUSHALL").await;
    world.admit(&mut story).await;
    world.deliver_all(&persistence).await;
    let stop = redress_action::CancellationToken::new();
    let looks = persistence.look_after_cache(Duration::from_millis(20), stop.clone());
    let waits = async {
        let look = async || Ok((see.number("EXISTS alert:issue:a").await == 1).then_some(()));
        until_async(Duration::from_secs(20), "somebody recreated it", look).await.unwrap();
        stop.cancel();
    };
    tokio::join!(looks, waits);
    assert_eq!(see.members("alert:index:alert_state:InProcessing").await, ["a"]);
}

/// The log has the operations no more, and the tables still have their service and the issue that stays open.
#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_cache_gets_back_what_was_archived() {
    gets_back_what_was_archived(&Db::sqlite(), "[\"theirs\"]").await;
    gets_back_what_was_archived(&Db::postgres().await, "{theirs}").await;
}

async fn gets_back_what_was_archived(db: &Db, ids: &str) {
    let (redis, world) = (Redis::start(), World::new(true).await);
    let persistence = world.persistence(db, Some(&redis)).await;
    world.fail(&mut world.acting("failed").await, "no luck").await;
    world.restore(&mut world.acting("restored").await).await;
    world.deliver_all(&persistence).await;
    persistence.reconcile(Scope::default()).await.unwrap();
    let ended = world.log.archivable(redress_types::Timestamp::MAX, 10).await.unwrap();
    let gone: Vec<_> = ended.iter().map(|one| (one.head.id, one.head.hash)).collect();
    assert_eq!(world.log.remove_archived(&gone).await.unwrap(), 2);
    // Of somebody else, who has no operation and never had.
    db.run(&format!(
        "insert into alert_issues values ('theirs', 'Open', 'P0', 'Pending', 't', '[]', '2026-01-01 00:00:00.000000');
         insert into service_states values ('theirs', '1', '2026-01-01 00:00:00.000000', null, 'Error', '{ids}')",
    ))
    .await;
    let see = redis.client().await;
    let issue = see.text("GET alert:issue:failed").await;
    let service = see.text("GET service_state:shop:1").await;
    see.run("FLUSHALL").await;
    let dry = persistence.reconcile(Scope { dry_run: true, ..Scope::default() }).await.unwrap();
    let report = persistence.reconcile(Scope { cache_only: true, ..Scope::default() }).await.unwrap();
    assert!(report.found > 0 && report.unrepaired() == 0 && dry.found == report.found, "{dry:?} {report:?}");
    assert_eq!(see.text("GET alert:issue:failed").await, issue);
    assert_eq!(see.text("GET service_state:shop:1").await, service);
    assert_eq!(see.members("alert:index:open").await, ["failed"]);
    assert_eq!(see.members("alert:index:svc:shop:open").await, ["failed"]);
    assert_eq!(see.members("service_state:index:health:Warning").await, ["service_state:shop:1"]);
    assert_eq!(see.number("EXISTS alert:issue:theirs service_state:theirs:1").await, 0);
    assert!(persistence.reconcile(Scope::default()).await.unwrap().is_clean());
    // The next operation writes what it has to say.
    world.accepted("next").await;
    world.deliver_all(&persistence).await;
    assert_eq!(see.members("alert:index:open").await, ["failed", "next"]);
}

/// Nobody waits for the next look: a new connection is reason enough.
#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_redis_that_comes_back_empty_is_completed_at_once() {
    let Cached { mut redis, world, persistence, .. } = cached().await;
    world.accepted("a").await;
    world.deliver_all(&persistence).await;
    persistence.reconcile(Scope::default()).await.unwrap();
    let stop = redress_action::CancellationToken::new();
    let looks = persistence.look_after_cache(Duration::from_secs(3600), stop.clone());
    let restarts = async {
        // The connection that there was from the start was a new one too; the second restart is only that.
        for _ in 0..2 {
            redis.down();
            redis.up();
            let see = redis.client().await;
            let look = async || {
                let there = see.members("alert:index:open").await == ["a"];
                Ok((there && !persistence.cache_status().unwrap().incomplete).then_some(()))
            };
            until_async(Duration::from_secs(20), "somebody recreated it", look).await.unwrap();
        }
        stop.cancel();
    };
    tokio::join!(looks, restarts);
}

/// A server that is stopped, not gone: readiness says so at once.
#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_cache_that_hangs_does_not_hold_up_readiness() {
    let Cached { redis, persistence, .. } = cached().await;
    let see = redis.client().await;
    see.run("CLIENT PAUSE 5000 ALL").await;
    let began = tokio::time::Instant::now();
    let readiness = persistence.readiness().await;
    assert_eq!(
        (readiness.tables, readiness.cache_error.as_deref()),
        (None, Some("the cache does not answer"))
    );
    assert!(began.elapsed() < Duration::from_secs(3));
}
