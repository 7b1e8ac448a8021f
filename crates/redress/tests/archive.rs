//! `redress archive`, `verify --archive` and `outbox`: what leaves the log, and what it still owes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

mod support;

use support::{Place, example};

/// One operation, restored.
fn restored() -> Place {
    let place = Place::new();
    place.run(&["run", &example("message.json"), "--rollback-sleep", "0s"]).expect_code(0);
    place
}

/// A file with an alert `another`, of another service.
fn second(place: &Place) -> String {
    let text = std::fs::read_to_string(example("message.json")).unwrap();
    let text = text.replace("checkout-5xx-20261121-0245", "another").replace("checkout", "billing");
    place.write("second.json", text)
}

#[test]
fn what_ended_long_ago_moves_to_a_file_that_proves_itself_and_its_alert_stays_known() {
    let place = restored();
    let young = place.run(&["archive", "--to", "a.jsonl"]).expect_code(0);
    assert!(young.out.contains("nothing ended before"), "{}", young.all());
    let moved = place.run(&["archive", "--to", "a.jsonl", "--older-than", "0s"]).expect_code(0);
    assert!(moved.out.contains("1 operation moved to a.jsonl"), "{}", moved.all());
    let gone = place.run(&["operations", "list"]).expect_code(0);
    assert_eq!(gone.out, "no operations\n");
    place.run(&["verify"]).expect_code(0);
    let proven = place.run(&["verify", "--archive", "a.jsonl", "--json"]).expect_code(0);
    assert_eq!((&proven.json()[0]["operations"], &proven.json()[0]["broken"]), (&1.into(), &0.into()));
    let again = place.run(&["run", &example("message.json"), "--rollback-sleep", "0s"]).expect_code(0);
    assert!(again.out.contains("nothing to do"), "{}", again.all());
}

#[test]
fn a_line_that_was_cut_short_is_written_again_and_another_file_is_left_alone() {
    let place = restored();
    place.run(&["archive", "--to", "a.jsonl", "--older-than", "0s"]).expect_code(0);
    let line = std::fs::read_to_string(place.path("a.jsonl")).unwrap();
    place.write("a.jsonl", format!("{line}{}", &line[..line.len() / 2]));
    let file = second(&place);
    place.run(&["run", &file, "--rollback-sleep", "0s"]).expect_code(0);
    for other in ["redress.db", "second.json", "."] {
        let refused = place.run(&["archive", "--to", other, "--older-than", "0s"]).expect_code(2);
        assert!(refused.err.contains("opening the archive"), "{}", refused.all());
    }
    place.run(&["archive", "--to", "a.jsonl", "--older-than", "0s"]).expect_code(0);
    let proven = place.run(&["verify", "--archive", "a.jsonl"]).expect_code(0);
    assert!(proven.out.contains("2 operations with 6 entries proven, 0 broken"), "{}", proven.all());
}

#[test]
fn a_changed_line_of_an_archive_is_found_and_named() {
    let place = restored();
    place.run(&["archive", "--to", "a.jsonl", "--older-than", "0s"]).expect_code(0);
    let line = std::fs::read_to_string(place.path("a.jsonl")).unwrap();
    for (from, to) in [
        ("step_succeeded", "step_failed"),
        ("\"state\":\"restored\"", "\"state\":\"failed\""),
        ("rollback", "rollbock"),
        ("\"format\":1", "\"format\":9"),
        ("\"name\":\"rr-", "\"name\":\"rr-0"),
        ("\"ended_at\":\"2", "\"ended_at\":\"1"),
    ] {
        assert!(line.contains(from), "{from}");
        place.write("b.jsonl", format!("{line}{}", line.replacen(from, to, 1)));
        let found = place.run(&["verify", "--archive", "b.jsonl"]).expect_code(1);
        assert!(found.out.contains("line 2: "), "{from}: {}", found.all());
        assert!(found.out.contains("1 operation with") && found.out.contains("1 broken"), "{}", found.all());
    }
}

#[test]
fn a_checkpoint_is_signed_with_the_key_and_compared_with_what_was_noted() {
    let place = Place::new();
    let with_key = |arguments: &[&str], key: &str| {
        let output = place.command(arguments).env("REDRESS_CHECKPOINT_KEY", key).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let run = ["run", &example("message.json"), "--rollback-sleep", "0s"];
    assert_eq!(with_key(&run, "the key").0, Some(0));
    let (code, report) = with_key(&["verify"], "the key");
    assert!(code == Some(0) && report.contains("1 signed, 1 signatures right"), "{code:?} {report}");
    assert_eq!(with_key(&["verify"], "another").0, Some(1));
    let noted = report.split("the last is ").nth(1).unwrap().split(';').next().unwrap();
    place.run(&["verify", "--checkpoint", noted]).expect_code(0);
    let other = format!("1:{}", "0".repeat(64));
    place.run(&["verify", "--checkpoint", &other]).expect_code(1);
}

/// The alert tables beside the log, with a trigger that lets no issue in.
fn with_closed_tables(place: &Place) -> rusqlite::Connection {
    place.run(&["run", "--tables", "sqlite://issues.db"]).expect_code(0);
    let tables = rusqlite::Connection::open(place.path("issues.db")).unwrap();
    let trigger =
        "create trigger closed before insert on alert_issues begin select raise(abort, 'closed'); end";
    tables.execute_batch(trigger).unwrap();
    tables
}

#[test]
fn what_is_owed_is_listed_given_up_or_tried_again() {
    // One that owes nothing goes before: a row is named by its place in the log, not in its operation.
    let place = restored();
    let tables = with_closed_tables(&place);
    let second = second(&place);
    let run = ["run", &second, "--rollback-sleep", "0s", "--tables", "sqlite://issues.db"];
    place.run(&run).expect_code(0);
    let owed = place.run(&["outbox", "list", "--json"]).expect_code(0).json();
    let shown = place.run(&["operations", "show", "another", "--json"]).expect_code(0).json();
    assert!(owed.len() >= 2, "the entry that accepts and the one that restores owe a row each: {owed:?}");
    assert_eq!(shown[0]["owes"].as_array().unwrap(), &owed);
    let rows: Vec<&str> = owed.iter().map(|row| row["row"].as_str().unwrap()).collect();
    assert!(owed.iter().all(|row| row["operation"] == shown[0]["id"]), "{owed:?}");
    // Refused for good, it is a person's, where the program still had the time to call one before it ended.
    assert!(owed.iter().all(|row| row["state"] == "handed" || row["state"] == "owed"), "{owed:?}");
    assert!(owed[0]["last_error"].is_string(), "{owed:?}");
    let plain = place.run(&["outbox", "list"]).expect_code(0);
    assert!(rows.iter().all(|row| plain.out.contains(&format!("{row} "))), "{}", plain.all());

    let decided = |what: &str, reason: &str| {
        place.run(&["outbox", what, rows[0], "--reason", reason, "--json"]).expect_code(0).json().remove(0)
    };
    let listed = || place.run(&["outbox", "list", "--json"]).expect_code(0).json();
    let retried = decided("retry", "writable again");
    assert_eq!((&retried["state"], &retried["row"]), (&"owed".into(), &rows[0].into()), "{retried}");
    assert!(retried["last_error"].as_str().unwrap().ends_with(": writable again"), "{retried}");
    assert_eq!(listed()[0], retried);
    let closed = decided("close", "by hand");
    assert!(closed["last_error"].as_str().unwrap().ends_with(": by hand"), "{closed}");
    assert_eq!(listed()[..], owed[1..], "a closed row is owed no more");
    let late = place.run(&["outbox", "retry", rows[0], "--reason", "x"]).expect_code(2);
    let said = format!("outbox row {}, which is closed, is owed no more: ", rows[0]);
    assert!(late.err.contains(&said) && late.err.contains("nothing is left to do"), "{}", late.all());
    tables.execute_batch("drop trigger closed").unwrap();
    place.run(&["verify"]).expect_code(0);
}

#[test]
fn an_outbox_that_owes_nothing_says_so_and_a_row_that_is_not_there_is_refused() {
    let place = restored();
    let list = place.run(&["outbox", "list"]).expect_code(0);
    assert_eq!(list.out, "nothing is owed\n");
    let refused = place.run(&["outbox", "retry", "7.0", "--reason", "x"]).expect_code(2);
    assert!(refused.err.contains("no outbox row 7.0"), "{}", refused.all());
    let wrong = place.run(&["outbox", "close", "seven", "--reason", "x"]).expect_code(2);
    assert!(wrong.err.contains("POSITION.INDEX"), "{}", wrong.all());
}
