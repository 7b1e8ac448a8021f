//! Opening: two at once, by users of few rights, and schemas that are not what they should be.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold fails the test")]

mod common;

use common::{Schema, server};
use redress_operation_log::conformance::life::{assert_proven, begun, rest, session};
use redress_operation_log::{Error, OperationHistory as _, OperationLog as _};
use redress_operation_log_postgres::{Migrate, Options, PostgresLog};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn engines_that_start_at_once_make_one_schema() {
    let schema = Schema::new().await;
    let url = schema.url();
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { PostgresLog::open(&url, &Options::default()).await })
        })
        .collect();
    for task in tasks {
        let log = task.await.unwrap().unwrap();
        assert_eq!(log.status().await.unwrap().position, 0);
    }
    assert_eq!(PostgresLog::migrate(&url, &Options::default()).await.unwrap(), Vec::<i32>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_schema_is_made_by_migrate_and_then_only_checked() {
    let schema = Schema::new().await;
    let checks = Options { migrate: Migrate::Check, ..Options::default() };
    let missing = PostgresLog::open(&schema.url(), &checks).await.unwrap_err();
    assert!(missing.to_string().contains("redress migrate"), "{missing}");
    assert_eq!(PostgresLog::migrate(&schema.url(), &checks).await.unwrap(), [1]);
    let log = PostgresLog::open(&schema.url(), &checks).await.unwrap();
    session(&log).await;
}

/// A hand on the database is refused by the rule's name, whether it is a domain, a CHECK or an index.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn the_database_repeats_the_rules() {
    let schema = Schema::new().await;
    let log = schema.open().await;
    let held = begun(&log, session(&log).await, 1).await;
    let refusals = [
        ("update operations set state = 'done'", "operation_state_is_known"),
        ("update operations set level = 'P9'", "operation_level_is_known"),
        ("update operations set seq = 0", "count_is_from_one"),
        ("update operations set owed = -1", "count_is_from_zero"),
        ("update operations set hash = 'short'", "hash_has_32_bytes"),
        ("update operations set waits_kind = 'luck', waits_key = 'x'", "claim_kind_is_known"),
        ("update operations set state = 'failed'", "operation_ended_at_says_ended"),
        ("update operations set state = 'failed', ended_at = 1", "operation_ended_waits_for_nothing"),
        ("update operations set folded_request = 1", "operation_folds_only_what_is_there"),
        ("update operations set wake_at = 1", "operation_has_the_time_that_fits"),
        ("update operations set waits_key = 'x'", "operation_waits_on_a_whole_claim"),
        ("update entries set hash = 'short'", "hash_has_32_bytes"),
        ("update alerts set outcome_state = 'failed'", "alert_outcome_is_whole"),
        ("insert into rights values (1, null, null, null)", "right_is_to_something"),
        ("insert into rights select 2, fingerprint, null, null from rights", "rights_fingerprint"),
        ("insert into rights values (1, null, 'x', null), (2, null, 'x', null)", "rights_sameness"),
        ("insert into rights values (1, null, null, 'x'), (2, null, null, 'x')", "rights_slot"),
        (
            "insert into meta (one, log_id, incarnation, last_session, position, switch_changes, waits)
          values (2, gen_random_uuid(), 1, 0, 0, 0, 0)",
            "meta_is_one_row",
        ),
    ];
    let mut conn = schema.connect().await;
    for (sql, rule) in refusals {
        let refused = sqlx::raw_sql(sql).execute(&mut conn).await.expect_err(sql).to_string();
        assert!(refused.contains(rule), "{sql}: {refused}");
    }
    for append in rest(&held) {
        log.append(append.into()).await.unwrap();
    }
    assert_proven(&log).await;
}

/// A user that owns one schema, may create nothing else, and is no superuser.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_user_that_owns_only_its_schema_is_enough() {
    let schema = Schema::new().await;
    let user = format!("{}_plain", schema.name);
    schema.run(&format!("create role {user} login; alter schema {} owner to {user}", schema.name)).await;
    let url = schema.url();
    let (scheme, rest_of) = url.split_once("://").unwrap();
    let (_, host) = rest_of.split_once('@').unwrap();
    let log = PostgresLog::open(&format!("{scheme}://{user}@{host}"), &Options::default()).await.unwrap();
    let session = session(&log).await;
    let held = begun(&log, session, 1).await;
    for append in rest(&held) {
        log.append(append.into()).await.unwrap();
    }
    log.renew_session(session).await.unwrap();
    assert_proven(&log).await;
    log.close().await.unwrap();
    schema.run(&format!("reassign owned by {user} to current_user; drop role {user}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn schemas_of_another_make_are_refused() {
    let says = async |schema: &Schema, expected: &str| {
        let refused = PostgresLog::open(&schema.url(), &Options::default()).await.unwrap_err();
        assert!(matches!(refused, Error::Corrupt { .. }), "{refused:?}");
        assert!(refused.to_string().contains(expected), "{refused}");
    };
    let newer = Schema::new().await;
    newer.open().await;
    newer.run("insert into redress_migrations (number, name, checksum) values (99, 'later', '')").await;
    says(&newer, "use a newer redress").await;

    let changed = Schema::new().await;
    changed.open().await;
    changed.run("update redress_migrations set checksum = 'x'").await;
    says(&changed, "another build made this schema").await;

    let taken = Schema::new().await;
    taken.run("create table sessions (id text)").await;
    says(&taken, "another application's table \"sessions\"").await;

    let emptied = Schema::new().await;
    emptied.open().await;
    emptied.run("delete from meta").await;
    says(&emptied, "restore it from a backup").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn what_cannot_be_reached_says_so_without_the_password() {
    let url = "postgres://ann:hunter2@127.0.0.1:1/redress";
    let error = PostgresLog::open(url, &Options::default()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("postgres://127.0.0.1:1/redress"), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    let missing = format!("{}?options=-c%20search_path%3Dnowhere", server());
    let error = PostgresLog::open(&missing, &Options::default()).await.unwrap_err();
    assert!(error.to_string().contains("no schema of its search_path exists"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_closed_log_answers_that_it_is() {
    let schema = Schema::new().await;
    let log = schema.open().await;
    let other = log.clone();
    let mine = session(&log).await;
    let held = begun(&log, mine, 1).await;
    log.close().await.unwrap();
    assert!(matches!(other.status().await, Err(Error::Unavailable { .. })));
    assert!(matches!(other.append(rest(&held)[0].clone().into()).await, Err(Error::Unavailable { .. })));
    let again = schema.open().await;
    assert_eq!(again.status().await.unwrap().sessions, []);
}
