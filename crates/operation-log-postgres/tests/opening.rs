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
        log.append(append).await.unwrap();
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
    assert!(matches!(other.append(rest(&held)[0].clone()).await, Err(Error::Unavailable { .. })));
    let again = schema.open().await;
    assert_eq!(again.status().await.unwrap().sessions, []);
}
