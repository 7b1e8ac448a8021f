//! `cancel` and `resolve`: with an engine at work, without one, and when it is too late.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

mod support;

use support::{Place, example};

const STARTED: &str = "step rollback started";

#[test]
fn a_running_engine_answers_a_cancel_and_the_run_ends_otherwise() {
    let place = Place::new();
    let file = example("message.json");
    let run = place.start_until(&["run", &file, "--rollback-sleep", "60s"], STARTED);
    let refused = place.run(&["operations", "resolve", "rr-", "--go-on", "--reason", "x"]).expect_code(1);
    assert!(refused.out.contains("a verdict is for a suspended operation"), "{}", refused.all());
    let taken = place.run(&["operations", "cancel", "rr-", "--reason", "by hand"]).expect_code(0);
    assert!(taken.out.contains("cancel was taken"), "{}", taken.all());
    let done = run.end().expect_code(1);
    assert!(done.out.contains("1 ended otherwise"), "{}", done.all());
    let log = place.run(&["operations", "log", "rr-"]).expect_code(0).out;
    assert!(log.contains("asks to cancel: by hand"), "{log}");
    let late = place.run(&["operations", "cancel", "rr-", "--reason", "again"]).expect_code(1);
    assert!(late.out.contains("has ended as cancelled"), "{}", late.all());
    // The same alert again is not run again, and did not end well.
    place.run(&["run", &file]).expect_code(1);
}

/// Killed while a step ran, then cancelled: nobody knows whether it happened, and it may not be called again.
fn suspended(place: &Place) {
    let file = example("message.json");
    place.start_until(&["run", &file, "--rollback-sleep", "60s"], STARTED).kill();
    let left = place.run(&["operations", "cancel", "rr-", "--reason", "by hand"]).expect_code(0);
    assert!(left.out.contains("no engine has answered"), "{}", left.all());
    let again = place.run(&["operations", "cancel", "rr-", "--reason", "by hand", "--json"]).expect_code(0);
    assert_eq!(again.json()[0]["request"], 1, "the same request twice is one: {}", again.all());
    let done = place.run(&["run", "--wait", "1s"]).expect_code(3);
    assert!(done.out.contains("a person must decide"), "{}", done.all());
    assert!(done.out.contains("--happened|--did-not-happen|--give-up --reason"), "{}", done.all());
}

#[test]
#[ignore = "takes 9 s: ./test runs it"]
fn a_suspended_operation_is_decided_with_no_engine_running() {
    let place = Place::new();
    suspended(&place);
    let shown = place.run(&["operations", "show", "rr-"]).expect_code(0);
    assert!(shown.out.contains("waits for a person's verdict"), "{}", shown.all());
    let refused = place.run(&["operations", "list", "--state", "suspended", "--json"]).expect_code(0);
    assert_eq!(refused.json().len(), 2);
    let left =
        place.run(&["operations", "resolve", "rr-", "--happened", "--reason", "looked"]).expect_code(0);
    assert!(left.out.contains("The next one folds it first: "), "{}", left.all());
    let done = place.run(&["run"]).expect_code(1);
    assert!(done.out.contains("ended otherwise"), "{}", done.all());
    let shown = place.run(&["operations", "show", "rr-"]).expect_code(0);
    assert!(
        shown.out.contains("succeeded after") && shown.out.contains("known by verdict"),
        "{}",
        shown.all()
    );
    place.run(&["verify"]).expect_code(0);
}

#[test]
#[ignore = "takes 12 s: ./test runs it"]
fn a_request_is_known_by_its_key_and_its_reason_is_on_record() {
    let place = Place::new();
    suspended(&place);
    let request = |arguments: &[&str]| place.run(&[&["operations"], arguments, &["--json"]].concat());
    let first = ["resolve", "rr-", "--did-not-happen", "--reason", "looked twice", "--key", "k1"];
    let asked = request(&first).expect_code(0).json();
    assert_eq!((&asked[0]["asked"], &asked[0]["answer"]), (&"did-not-happen".into(), &"left".into()));
    assert_eq!(
        request(&first).expect_code(0).json()[0]["request"],
        asked[0]["request"],
        "one key, one request"
    );
    let other = request(&["resolve", "rr-", "--happened", "--reason", "no", "--key", "k1"]).expect_code(2);
    assert!(other.err.contains("leaving the request"), "{}", other.all());
    let second = request(&["cancel", "rr-", "--reason", "enough", "--key", "k2"]).expect_code(0).json();
    assert!(second[0]["request"].as_u64() > asked[0]["request"].as_u64(), "{second:?}");
    let shown = place.run(&["operations", "show", "rr-", "--json"]).expect_code(0).json();
    assert_eq!(shown[0]["attended"], false);
    let waiting: Vec<_> = shown[0]["asked"].as_array().unwrap().iter().map(|row| &row["request"]).collect();
    assert_eq!(
        waiting,
        [&asked[0]["request"], &second[0]["request"]],
        "what was folded is not asked any more"
    );
    place.run(&["run"]).expect_code(1);
    let log = place.run(&["operations", "log", "rr-"]).expect_code(0).out;
    assert!(log.contains("decided did-not-happen: looked twice"), "{log}");
    assert!(log.contains("asks to cancel: by hand"), "{log}");
}

#[test]
#[ignore = "takes 7 s: ./test runs it"]
fn a_suspended_operation_is_decided_while_a_run_waits_for_it() {
    let place = Place::new();
    suspended(&place);
    let run = place.start_until(&["run"], "a person must decide");
    let taken =
        place.run(&["operations", "resolve", "rr-", "--give-up", "--reason", "by hand"]).expect_code(0);
    assert!(taken.out.contains("give-up was taken; it is failed now"), "{}", taken.all());
    run.end().expect_code(1);
}
