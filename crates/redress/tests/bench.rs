//! `redress bench`: its figures, on SQLite and on Postgres, and what it refuses.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

mod support;

use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use support::Place;
use support::database::{Database, block_on};

const FIGURES: [&str; 6] =
    ["ops_per_s", "p50_ms", "p99_ms", "commits_per_op", "bytes_per_op", "raw_ops_per_s"];

#[track_caller]
fn are_all_there(figures: &Value) {
    for name in FIGURES {
        assert!(figures[name].as_f64().is_some_and(|figure| figure > 0.0), "{name}: {figures}");
    }
}

fn schemas_left(database: &Database) -> i64 {
    let sql = "select count(*) from pg_namespace where nspname like 'redress_bench_raw_%'";
    block_on(async {
        let mut conn = PgConnection::connect(&database.url()).await.unwrap();
        sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap()
    })
}

#[test]
#[ignore = "needs Postgres: ./test runs it"]
fn the_same_figures_come_from_postgres_and_the_schema_beside_is_removed() {
    let (place, database) = (Place::new(), Database::new("bench"));
    let url = database.url();
    let small = ["bench", "--operations", "50", "--in-flight", "8", "--json", "--db", &url];
    let figures = place.run(&small).expect_code(0).json().remove(0);
    are_all_there(&figures);
    assert!(figures["durability"].as_str().unwrap().contains("synchronous_commit=on"), "{figures}");
    assert_eq!(schemas_left(&database), 0);
    let again = place.run(&small).expect_code(2);
    assert!(again.err.contains("holds operations"), "{}", again.all());
    place.run(&["verify", "--db", &url]).expect_code(0);
}

#[test]
#[ignore = "needs Postgres: ./test runs it"]
fn two_engines_share_one_postgres() {
    let (place, database) = (Place::new(), Database::new("bench_two"));
    let url = database.url();
    let two = ["bench", "--operations", "60", "--in-flight", "8", "--engines", "2", "--json", "--db", &url];
    let figures = place.run(&two).expect_code(0).json().remove(0);
    are_all_there(&figures);
    assert_eq!(figures["engines"], 2);
    assert!(figures["one_engine_ops_per_s"].as_f64().is_some_and(|figure| figure > 0.0), "{figures}");
    // As many operations for one engine alone, in turns; the first is in all of them.
    let sessions = "select engine, count(*), sum(operations)::bigint from sessions where operations > 0
         group by engine order by engine";
    let engines: Vec<(String, i64, i64)> = block_on(async {
        let mut conn = PgConnection::connect(&url).await.unwrap();
        sqlx::query_as(sessions).fetch_all(&mut conn).await.unwrap()
    });
    let turns: Vec<(&str, i64)> = engines.iter().map(|(name, turns, _)| (name.as_str(), *turns)).collect();
    assert_eq!(turns, [("redress bench 1", 4), ("redress bench 2", 2)]);
    assert_eq!(engines.iter().map(|(_, _, operations)| operations).sum::<i64>(), 120);
    let plain = Database::new("bench_plain");
    let two = ["bench", "--operations", "60", "--in-flight", "8", "--engines", "2", "--db", &plain.url()];
    let plain = place.run(&two).expect_code(0);
    assert!(plain.out.contains("one engine ") && plain.out.contains("in turns: "), "{}", plain.all());
}

#[test]
fn a_log_that_one_engine_owns_is_not_shared() {
    let place = Place::new();
    for db in ["bench.db", "memory:"] {
        let done = place.run(&["bench", "--engines", "2", "--db", db]).expect_code(2);
        assert!(done.err.contains("only in Postgres"), "{}", done.all());
    }
    assert!(!place.path("bench.db").exists());
}

#[track_caller]
fn nothing_was_lost(figures: &Value, sent: u64) {
    let of = |name: &str| figures[name].as_u64().unwrap_or_else(|| panic!("{name}: {figures}"));
    assert_eq!((of("sent"), of("accepted"), of("restored"), of("lost")), (sent, sent, sent, 0), "{figures}");
    assert_eq!((of("refused"), of("unanswered"), of("owed")), (0, 0, 0), "{figures}");
    for name in ["p50_ms", "p95_ms", "p99_ms", "max_ms", "rate_reached"] {
        assert!(figures[name].as_f64().is_some_and(|figure| figure > 0.0), "{name}: {figures}");
    }
}

#[test]
#[ignore = "takes 3 s: ./test runs it"]
fn the_intake_is_measured_and_everything_acknowledged_is_found_again() {
    let place = Place::new();
    let small =
        ["bench", "intake", "--rate", "50", "--seconds", "1", "--rollback-sleep", "10ms", "--db", "in.db"];
    let plain = place.run(&small).expect_code(0);
    assert!(
        plain.out.contains("50 alerts in 1 s") && plain.out.contains("lost          0"),
        "{}",
        plain.all()
    );
    place.run(&["verify", "--db", "in.db"]).expect_code(0);
    let again = place.run(&small).expect_code(2);
    assert!(again.err.contains("holds operations"), "{}", again.all());
    let tables = ["bench", "intake", "--rate", "50", "--seconds", "1", "--rollback-sleep", "0s", "--json"];
    let tables: Vec<&str> = tables.into_iter().chain(["--tables", "sqlite://tables.db"]).collect();
    nothing_was_lost(&place.run(&tables).expect_code(0).json().remove(0), 50);
    assert!(place.path("tables.db").exists());
}

#[test]
#[ignore = "needs Postgres: ./test runs it"]
fn the_intake_is_measured_on_postgres() {
    let (place, database) = (Place::new(), Database::new("intake"));
    let url = database.url();
    let small = ["bench", "intake", "--rate", "50", "--seconds", "1", "--json", "--db", &url];
    nothing_was_lost(&place.run(&small).expect_code(0).json().remove(0), 50);
    place.run(&["verify", "--db", &url]).expect_code(0);
}
