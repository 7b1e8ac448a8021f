//! Stopped in the middle: by a signal, by `kill -9`, by another engine, by `--wait`. Then the same command again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

mod support;

use support::{Place, example};

const STARTED: &str = "step rollback started";

/// One effect, begun twice under one key: taken up again, or, where the engine was told to stop before the call was sent,
/// withdrawn and begun anew.
fn begun_twice_under_one_key(place: &Place) {
    let shown = place.run(&["operations", "show", "rr-", "--json"]).expect_code(0).json();
    let log = place.run(&["operations", "log", "rr-"]).expect_code(0).out;
    let steps = shown[0]["steps"].as_array().unwrap();
    let keys: Vec<_> = steps.iter().map(|step| step["key"].as_str().unwrap()).collect();
    assert!(keys.iter().all(|key| *key == keys[0] && key.ends_with(":rollback:1:0")), "{keys:?}");
    let [started, resumed, withdrawn] =
        ["step_started", "step_resumed", "step_withdrawn"].map(|kind| log.matches(kind).count());
    assert_eq!((started + resumed, started), (2, 1 + withdrawn), "{log}");
    assert_eq!(keys.len(), started, "{log}");
}

fn goes_on(place: &Place) {
    let file = example("message.json");
    let done = place.run(&["run", &file, "--rollback-sleep", "100ms"]).expect_code(0);
    assert!(done.out.contains("carrying on 1 operation"), "{}", done.all());
    assert!(done.out.contains("restored 1 of 1 operation (1 alert)"), "{}", done.all());
    begun_twice_under_one_key(place);
    place.run(&["verify"]).expect_code(0);
}

#[test]
fn killed_in_the_middle_the_same_command_goes_on() {
    let place = Place::new();
    // The plan is frozen: the second run finishes the first one's sleep, not its own.
    place.start_until(&["run", &example("message.json"), "--rollback-sleep", "1s"], STARTED).kill();
    goes_on(&place);
}

#[test]
fn a_signal_stops_it_in_order_and_the_same_command_goes_on() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let place = Place::new();
        let run = place.start_until(&["run", &example("message.json"), "--rollback-sleep", "1s"], STARTED);
        run.signal(signal);
        let done = run.end().expect_code(code);
        assert!(done.out.contains("1 operation unfinished"), "{}", done.all());
        goes_on(&place);
    }
}

#[test]
fn a_second_engine_is_told_who_holds_the_file_and_readers_are_not_held_up() {
    let place = Place::new();
    let file = example("message.json");
    let run = place.start_until(&["run", &file, "--rollback-sleep", "60s"], STARTED);
    let second = place.run(&["run", &file]).expect_code(2);
    let holder = format!("is held by process {} (engine redress run)", run.pid());
    assert!(second.err.contains(&holder), "{}", second.all());
    let shown = place.run(&["operations", "show", "rr-"]).expect_code(0);
    assert!(shown.out.contains("waits for the answer of step rollback"), "{}", shown.all());
    place.run(&["verify"]).expect_code(0);
}

#[test]
#[ignore = "takes 7 s: ./test runs it"]
fn what_still_waits_is_said_with_since_and_until_and_carried_on_without_the_file() {
    let place = Place::new();
    let file = example("message.json");
    let done = place.run(&["run", &file, "--rollback-sleep", "5s", "--wait", "2s"]).expect_code(3);
    let waits = done.out.lines().find(|line| line.starts_with("waits ")).unwrap();
    assert!(waits.contains("rolling_back for ") && waits.contains(", since 20"), "{waits}");
    assert!(waits.contains(", until 20"), "{waits}");
    assert!(done.out.contains("1 still waiting"), "{}", done.all());
    let done = place.run(&["run"]).expect_code(0);
    assert!(done.out.contains("restored 1 of 1 operation"), "{}", done.all());
}

#[test]
fn an_operation_of_other_flags_waits_and_says_for_what() {
    let place = Place::new();
    let file = example("message.json");
    // Nobody answers there: the first try fails, and the step waits for its next one.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/deployments/%s/rollback", listener.local_addr().unwrap());
    drop(listener);
    place.start_until(&["run", &file, "--rollback-url", &url], "try 1").kill();
    let done = place.run(&["run"]).expect_code(3);
    assert!(done.out.contains("executor http_rollback"), "{}", done.all());
    assert!(done.out.contains("--rollback-url"), "{}", done.all());
}
