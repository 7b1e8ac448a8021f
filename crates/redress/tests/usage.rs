//! Usage: databases that cannot be, help that teaches, and the commands that need no database.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

mod support;

use support::{Place, example};

#[test]
fn a_database_that_cannot_be_is_refused_with_the_reason() {
    let place = Place::new();
    place.write("text.db", "this is not a database, and is long enough to be looked at as one. ".repeat(20));
    let cases = [
        ("postgres://me:hunter2@127.0.0.1:1/x", "opening the database postgres://me@127.0.0.1:1/x"),
        ("postgres://me:x@127.0.0.1:1/x?sslpassword=hunter2", "postgres://me@127.0.0.1:1/x"),
        ("postgres://me:5/hunter2@127.0.0.1/x", "opening the database postgres://…"),
        ("mysql://me:hunter2@x", "in a SQLite file, in Postgres or in memory, not in mysql://"),
        ("sqlite://", "names no file"),
        ("sqlite://a.db?mode=rwc", "has parameters"),
        ("text.db", "text.db"),
        ("nowhere/a.db", "there is no folder nowhere"),
        (".", "is a folder"),
    ];
    for (db, said) in cases {
        let done = place.run(&["run", &example("message.json"), "--db", db]).expect_code(2);
        assert!(done.err.contains(said), "{db}: {}", done.all());
        assert!(!done.err.contains("hunter2"), "{}", done.all());
        assert_eq!(done.err.lines().count(), 1, "{}", done.all());
    }
}

#[test]
fn reading_makes_no_database() {
    let place = Place::new();
    let commands: [&[&str]; 5] = [
        &["operations", "list"],
        &["operations", "show", "x"],
        &["operations", "log", "x"],
        &["operations", "cancel", "x", "--reason", "x"],
        &["verify"],
    ];
    for command in commands {
        let done = place.run(command).expect_code(2);
        assert!(done.err.contains("there is no database redress.db"), "{}", done.all());
        assert!(!place.path("redress.db").exists());
    }
    place.run(&["verify", "--db", "memory:"]).expect_code(2);
}

#[test]
fn the_environment_names_the_database() {
    let place = Place::new();
    let mut command = place.command(&["run", &example("message.json"), "--rollback-sleep", "0s"]);
    let output = command.env("DATABASE_URL", "sqlite://b.db").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains(" --db sqlite://b.db"));
    assert!(place.path("b.db").exists());
    let mut command = place.command(&["operations", "list"]);
    command.env("DATABASE_URL", "mysql://x").env("REDRESS_DATABASE_URL", "b.db");
    assert!(command.output().unwrap().status.success());
    let mut command = place.command(&["operations", "list"]);
    let output = command.env("DATABASE_URL", "mysql://x").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("the database (DATABASE_URL)"));
}

#[test]
fn a_log_in_memory_ends_with_the_run() {
    let place = Place::new();
    let file = example("message.json");
    let done = place.run(&["run", &file, "--rollback-sleep", "0s", "--db", "memory:"]).expect_code(0);
    assert!(done.out.contains("in memory and is gone"), "{}", done.all());
    assert_eq!(std::fs::read_dir(place.path(".")).unwrap().count(), 0);
}

#[test]
fn bad_usage_is_2_and_says_what_is_expected() {
    let place = Place::new();
    let cases: [(&[&str], &str); 8] = [
        (&["run", "nowhere.json"], "reading nowhere.json"),
        (&["run", "--wait", "soon"], "is not a duration"),
        (&["run", "--rollback-url", "http://x/y"], "expected is like"),
        (&["run", "--check", "ftp://x"], "--check"),
        (&["operations", "resolve", "x", "--reason", "x"], "--happened"),
        (&["operations", "cancel", "x"], "--reason"),
        (&["operations", "list", "--state", "broken"], "rolling_back"),
        (&["verify", "--checkpoint", "1"], "NUMBER:HASH"),
    ];
    for (arguments, said) in cases {
        let done = place.run(arguments).expect_code(2);
        assert!(done.err.contains(said), "{said:?} in {}", done.all());
    }
}

#[test]
fn every_command_teaches_by_example() {
    let place = Place::new();
    let commands: [&[&str]; 12] = [
        &[],
        &["run"],
        &["operations", "list"],
        &["operations", "show"],
        &["operations", "log"],
        &["operations", "cancel"],
        &["operations", "resolve"],
        &["verify"],
        &["fsm"],
        &["bench"],
        &["completions"],
        &["man"],
    ];
    for command in commands {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let done = place.run(&arguments).expect_code(0);
        assert!(done.out.contains("Example"), "{command:?}: {}", done.all());
    }
}

#[test]
fn the_machine_the_completions_and_the_man_page_are_printed() {
    let place = Place::new();
    let table = place.run(&["fsm", "table"]).expect_code(0).out;
    assert!(table.lines().any(|line| line.contains("verification_passed") && line.contains("restored")));
    assert!(place.run(&["fsm", "diagram"]).expect_code(0).out.starts_with("stateDiagram-v2"));
    assert!(place.run(&["fsm", "table", "--json"]).expect_code(0).json().len() > 50);
    assert!(place.run(&["completions", "bash"]).expect_code(0).out.contains("redress"));
    assert!(place.run(&["man"]).expect_code(0).out.contains(".TH"));
}

#[test]
fn a_measurement_has_its_figures_and_refuses_a_used_database() {
    let place = Place::new();
    let small = ["bench", "--operations", "50", "--in-flight", "8", "--json", "--db", "bench.db"];
    let figures = place.run(&small).expect_code(0).json().remove(0);
    for name in ["ops_per_s", "p50_ms", "p99_ms", "commits_per_op", "bytes_per_op", "raw_ops_per_s"] {
        assert!(figures[name].as_f64().is_some_and(|figure| figure > 0.0), "{name}: {figures}");
    }
    assert!(figures["durability"].as_str().unwrap().contains("synchronous=full"), "{figures}");
    let again = place.run(&small).expect_code(2);
    assert!(again.err.contains("holds operations"), "{}", again.all());
    place.run(&["verify", "--db", "bench.db"]).expect_code(0);
    // A lone operation: three steps and one verification are five commits.
    let lone = ["bench", "--operations", "20", "--in-flight", "1", "--json"];
    let figures = place.run(&lone).expect_code(0).json().remove(0);
    assert!(figures["commits_per_op"].as_f64().unwrap() <= 5.0, "{figures}");
}
