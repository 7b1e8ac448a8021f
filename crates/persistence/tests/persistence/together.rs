//! Several at the same moment, and users who may not do everything. Postgres only: SQLite has one writer and no
//! users.

use std::sync::Arc;
use std::time::Duration;

use redress_operation_log::OperationHistory;
use redress_operation_log::conformance::fixture::Writer;
use redress_persistence::{Error, Persistence, Settings};
use redress_testkit::until_async;
use tokio::sync::Barrier;

use crate::servers::Db;
use crate::world::{World, alert, call};

/// Calls the executor for the last row of each story, while the test holds the service's row until both wait for
/// it: their transactions really overlap. Without a lock on that row each would decide before it knows of the other.
async fn at_the_same_moment(db: &Db, world: &World, engines: &[Persistence; 2], stories: [&Writer; 2]) {
    let Db::Postgres { url } = db else { unreachable!() };
    let pool = sqlx::PgPool::connect(url).await.unwrap();
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("select 1 from service_states for update").execute(&mut *lock).await.unwrap();
    let holder: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *lock).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for (story, engine) in stories.into_iter().zip(engines) {
        let row = world.log.outbox_of(story.id).await.unwrap().pop().unwrap();
        let executor = engine.executors().remove(0);
        tasks.spawn(async move { executor.execute(&call(&row)).await });
    }
    // Who waits for the test, and who waits behind him.
    let waiting = "with first as (select pid from pg_stat_activity where $1 = any(pg_blocking_pids(pid)))
                   select count(*) from pg_stat_activity
                   where $1 = any(pg_blocking_pids(pid)) or pg_blocking_pids(pid) && array(select pid from first)";
    let look = async || {
        let count: i64 = sqlx::query_scalar(waiting).bind(holder).fetch_one(&pool).await?;
        Ok((count >= 2).then_some(()))
    };
    until_async(Duration::from_secs(20), "both wait for the row", look).await.unwrap();
    lock.commit().await.unwrap();
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
}

#[tokio::test]
#[ignore = "needs Postgres: ./test runs it"]
async fn two_endings_at_the_same_moment() {
    let db = Db::postgres().await;
    let world = World::new(false).await;
    let engines = [world.persistence(&db, None).await, world.persistence(&db, None).await];
    let (mut a, mut b) = (world.acting("a").await, world.acting("b").await);
    world.deliver_all(&engines[0]).await;
    world.restore(&mut a).await;
    world.restore(&mut b).await;
    at_the_same_moment(&db, &world, &engines, [&a, &b]).await;
    assert_eq!(db.services().await, [r#"shop 1 Normal ["a","b"] resolved"#]);
    assert_eq!(db.issues().await, ["a Closed Restored", "b Closed Restored"]);
}

#[tokio::test]
#[ignore = "needs Postgres: ./test runs it"]
async fn an_ending_and_a_beginning_at_the_same_moment() {
    let db = Db::postgres().await;
    let world = World::new(false).await;
    let engines = [world.persistence(&db, None).await, world.persistence(&db, None).await];
    let mut ends = world.acting("a").await;
    world.deliver_all(&engines[0]).await;
    world.restore(&mut ends).await;
    let begins = world.acting("b").await;
    at_the_same_moment(&db, &world, &engines, [&ends, &begins]).await;
    assert_eq!(db.services().await, [r#"shop 1 Warning ["a","b"] null"#]);
}

/// The first two alerts of a service at the same moment: one of them makes its row.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Postgres: ./test runs it"]
async fn two_beginnings_of_a_new_service() {
    let db = Db::postgres().await;
    let world = World::new(false).await;
    let engines = [world.persistence(&db, None).await, world.persistence(&db, None).await];
    for round in 0..10 {
        let mut tasks = tokio::task::JoinSet::new();
        let barrier = Arc::new(Barrier::new(2));
        for (id, engine) in ["a", "b"].iter().zip(&engines) {
            let mut alert = alert(&format!("{id}{round}"));
            alert.service = format!("new-{round}");
            let mut story = world.story(alert);
            world.begin(&mut story, vec![]).await;
            let row = world.log.outbox_of(story.id).await.unwrap().remove(0);
            let (executor, barrier) = (engine.executors().remove(0), Arc::clone(&barrier));
            tasks.spawn(async move {
                barrier.wait().await;
                executor.execute(&call(&row)).await
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap().unwrap();
        }
    }
    let services = db.services().await;
    assert_eq!(services.len(), 10);
    assert!(services.iter().all(|row| row.contains("\"a") && row.contains("\"b")), "{services:?}");
}

/// A user without the right to create, or to write: the error says what to run.
#[tokio::test]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_user_who_may_not() {
    let db = Db::postgres().await;
    let world = World::new(false).await;
    let schema = db.texts("select current_schema()::text").await.remove(0);
    let user = format!("user_{schema}");
    db.run(&format!("create role {user} login password 'secret'; grant usage on schema {schema} to {user}"))
        .await;
    let open = || world.open(Settings::new(db.settings_as(&user)));
    let says = |result: Result<_, Error>| match result {
        Err(Error::NotReady { what }) => what,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it may not"),
    };
    let what = says(open().await);
    assert!(what.contains("table alert_issues is missing") && what.contains("create table"), "{what}");
    assert!(!what.contains("secret"), "{what}");
    world.persistence(&db, None).await;
    let what = says(open().await);
    assert!(what.contains("grant select, insert, update on alert_issues"), "{what}");
    db.run(&format!("grant select, insert, update on alert_issues, alert_issue_comments to {user}")).await;
    let what = says(open().await);
    assert!(what.contains("grant select, insert, update on service_states"), "{what}");
    db.run(&format!("grant select, insert, update on service_states to {user}")).await;
    let persistence = open().await.unwrap();
    // That is all it needs.
    let mut story = world.acting("a").await;
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    assert_eq!(db.issues().await, ["a Closed Restored"]);
    persistence.close().await;
    db.run(&format!("drop owned by {user}; drop role {user}")).await;
}

/// One entry that accepts and begins is seen as two states by whoever watches the table.
#[tokio::test]
#[ignore = "needs Postgres: ./test runs it"]
async fn a_trigger_sees_every_state() {
    let db = Db::postgres().await;
    let (world, persistence) = World::over(&db).await;
    db.run(
        "create table seen (n serial, word text);
         create function see() returns trigger language plpgsql as
            $$ begin insert into seen (word) values (new.alert_state || ' ' || new.state); return new; end $$;
         create trigger see after insert or update on alert_issues for each row execute function see();",
    )
    .await;
    let mut story = world.acting("a").await;
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    world.repeat(&persistence, &story).await;
    let seen = db.texts("select word from seen order by n").await;
    assert_eq!(seen, ["Pending Open", "InProcessing Open", "Restored Closed"]);
}
