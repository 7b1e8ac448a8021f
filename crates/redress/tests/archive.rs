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
    let mut second = std::fs::read_to_string(example("message.json")).unwrap();
    second = second.replace("checkout-5xx-20261121-0245", "another").replace("checkout", "billing");
    let file = place.write("second.json", second);
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
fn an_outbox_that_owes_nothing_says_so_and_a_row_that_is_not_there_is_refused() {
    let place = restored();
    let list = place.run(&["outbox", "list"]).expect_code(0);
    assert_eq!(list.out, "nothing is owed\n");
    let refused = place.run(&["outbox", "retry", "7.0", "--reason", "x"]).expect_code(2);
    assert!(refused.err.contains("no outbox row 7.0"), "{}", refused.all());
    let wrong = place.run(&["outbox", "close", "seven", "--reason", "x"]).expect_code(2);
    assert!(wrong.err.contains("POSITION.INDEX"), "{}", wrong.all());
}
