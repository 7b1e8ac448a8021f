//! The main job: `redress run` with real files, twice, and what the history then says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

mod support;

use expect_test::{Expect, expect};
use support::target::Target;
use support::{Done, Place, example, normal};

#[expect(clippy::needless_pass_by_value, reason = "reads as a table")]
fn check(text: &str, expected: Expect) {
    expected.assert_eq(&normal(text));
}

fn last_lines(done: &Done, count: usize) -> String {
    let lines: Vec<&str> = done.out.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines[from..].join("\n") + "\n"
}

fn firing(place: &Place) -> Done {
    place.run(&["run", &example("alertmanager-firing.json"), "--rollback-sleep", "200ms"])
}

#[test]
fn the_main_job_restores_and_the_same_command_again_runs_nothing_twice() {
    let place = Place::new();
    let first = firing(&place).expect_code(0);
    check(
        &last_lines(&first, 3),
        expect![[r#"
            restored  rr-NAME  default/serviceA  after TOOK (3 alerts), verified by the executor's API only
            restored 1 of 1 operation (3 alerts) in TOOK
            history: redress operations show rr-NAME
        "#]],
    );
    assert_eq!(first.out.matches("step rollback started").count(), 1, "{}", first.out);
    let second = firing(&place).expect_code(0);
    check(
        &second.out,
        expect![[r#"
            alert b0f25eccdaefc05c-1795229108541: already restored by rr-NAME on DATE CLOCK, nothing to do
            alert 5a9828c4a29547cf-1795229108541: already restored by rr-NAME on DATE CLOCK, nothing to do
            alert ab089cc8478f6b7e-1795229108541: already restored by rr-NAME on DATE CLOCK, nothing to do
            nothing to do
            history: redress operations show rr-NAME
        "#]],
    );
    assert_eq!(place.run(&["operations", "list", "--json"]).json().len(), 2);
}

#[test]
fn the_history_reads_as_it_happened() {
    let place = Place::new();
    place.run(&["run", &example("message.json"), "--rollback-sleep", "200ms"]).expect_code(0);
    check(
        &place.run(&["operations", "list"]).expect_code(0).out,
        expect![[r#"
            ACCEPTED              OPERATION                 STATE     TARGET               LEVEL  TITLE                                     REASON
            DATE CLOCK  rr-NAME  restored  production/checkout  P0     checkout answers 5xx to 12 % of requests
        "#]],
    );
    let id = "checkout-5xx-20261121-0245";
    check(
        &place.run(&["operations", "show", id]).expect_code(0).out,
        expect![[r#"
            rr-NAME  restored  after TOOK
            id        UUID
            target    production/checkout
            strategy  rollback, attempt 1
            level     P0
            verified  by the executor's API only

            path
              DATE CLOCK  received          by accepted
              DATE CLOCK  rolling_back      by admitted
              DATE CLOCK  verifying         by verification_started
              DATE CLOCK  restored          by verification_passed

            steps
              rollback (attempt 1)  1 try  succeeded after TOOK, known by answer
                mock rollback done after TOOK; nothing was changed

            1 alert
              checkout-5xx-20261121-0245  checkout answers 5xx to 12 % of requests

            owes nothing
        "#]],
    );
    check(
        &place.run(&["operations", "log", id]).expect_code(0).out,
        expect![[r#"
            1     DATE CLOCK  engine:redress run  epoch 1
                  accepted               accepted on production/checkout: checkout answers 5xx to 12 % of requests (alert checkout-5xx-20261121-0245, P0)
                  admitted               admitted, attempt 1
                  step_started           step rollback started
            2     DATE CLOCK  engine:redress run  epoch 1
                  step_succeeded         step succeeded (known by answer): mock rollback done after TOOK; nothing was changed
                  verification_started   verification started
            3     DATE CLOCK  engine:redress run  epoch 1
                  verification_passed    verified: mock_check: healthy, the mock rollback says it is done (verified by the executor's API only)
        "#]],
    );
    let verified = place.run(&["verify"]).expect_code(0).out;
    let until = verified.find("\nwhat this cannot tell").unwrap();
    check(
        &verified[..until],
        expect![[r#"
            entries       3 of 1 operations, each chain from its first
            plans         1
            heads         1 compared with the fold
            sessions      1 sums compared
            archived      0 entries of 0 operations
            claims        0
            checkpoints   1, 1 recomputed in full, 0 signed, 0 signatures right; the last is 1:HASH; 0 entries after it
            invariant 1   holds, checked on 1: at most one accepted result per effect key
            invariant 2   holds, checked on 1: no effect without its intent durable under its epoch
            invariant 3   holds, checked on 6: every transition is one that the table and the guards allow
            invariant 4   holds, checked on 1: an ended operation never changes
            invariant 5   holds, checked on 0: whatever is not ended or not delivered has a next wake-up

            nothing is wrong
        "#]],
    );
}

#[test]
fn json_is_one_object_a_line_and_misses_nothing() {
    let place = Place::new();
    let file = example("messages.json");
    let done = place.run(&["run", &file, "--rollback-sleep", "100ms", "--json"]).expect_code(0);
    let lines = done.json();
    assert!(lines.iter().all(|line| line["type"].is_string()));
    let summary = lines.last().unwrap();
    assert_eq!(summary["type"], "summary");
    assert_eq!(
        (&summary["exit"], &summary["restored"], &summary["alerts"]),
        (&0.into(), &3.into(), &3.into())
    );
    for result in summary["results"].as_array().unwrap() {
        let of_it =
            |line: &&serde_json::Value| line["type"] == "entry" && line["operation"] == result["operation"];
        let seqs: Vec<u64> = lines.iter().filter(of_it).map(|line| line["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, [1, 2, 3]);
        let last = lines.iter().rfind(of_it).unwrap();
        assert_eq!(last["state"], "restored");
    }
}

#[test]
fn the_list_is_narrowed_and_paged() {
    let place = Place::new();
    place.run(&["run", &example("messages.json"), "--rollback-sleep", "0s"]).expect_code(0);
    let services = |options: &[&str]| {
        let done = place.run(&[&["operations", "list", "--json"], options].concat()).expect_code(0);
        let mut lines = done.json();
        let page = lines.pop().unwrap();
        assert_eq!(page["type"], "page", "{}", done.all());
        let next = page["next"].as_u64().map(|next| next.to_string());
        let services: Vec<_> =
            lines.iter().map(|line| line["service"].as_str().unwrap().to_owned()).collect();
        (services, next)
    };
    let (all, next) = services(&[]);
    assert_eq!((all.len(), next), (3, None));
    assert_eq!(services(&["--service", "cart"]).0, ["cart"]);
    assert_eq!(services(&["--state", "failed"]).0, [""; 0]);
    assert_eq!(services(&["--state", "failed", "--state", "restored"]).0, all);
    assert_eq!(services(&["--since", "1h"]).0, all);
    assert_eq!(services(&["--since", "2999-01-01T00:00:00Z"]).0, [""; 0]);
    let (mut walked, mut next) = services(&["--limit", "1"]);
    while let Some(cursor) = next {
        assert!(walked.len() < 4, "{walked:?} and more from {cursor}");
        let page = services(&["--limit", "1", "--cursor", &cursor]);
        walked.extend(page.0);
        next = page.1;
    }
    assert_eq!(walked, all);
    // What a person pastes goes on with the same list.
    let plain = place.run(&["operations", "list", "--limit", "2", "--state", "restored"]).expect_code(0);
    let more = plain.out.lines().last().unwrap().split_once(" operations list").unwrap().1.to_owned();
    assert!(more.starts_with(" --state restored --limit 2 --cursor "), "{more}");
    let rest = place.run(&[&["operations", "list"], &*more.split_whitespace().collect::<Vec<_>>()].concat());
    assert_eq!(rest.expect_code(0).out.lines().count(), 2, "a header and the last one");
}

#[test]
fn a_service_is_looked_at_where_a_check_names_it() {
    let place = Place::new();
    let target = Target::new(|_| (200, "fine"));
    let check = format!("http://{}/healthz", target.address);
    let run = ["run", &example("message.json"), "--rollback-sleep", "0s", "--check", &check];
    let done = place.run(&run).expect_code(0);
    assert!(!done.out.contains("executor's API only"), "{}", done.all());
    assert!(target.seen().iter().any(|seen| seen.starts_with("GET /healthz ")), "{:?}", target.seen());
}

#[test]
fn many_alerts_in_one_payload() {
    let place = Place::new();
    let alerts: Vec<_> = (0..300)
        .map(|n| {
            serde_json::json!({"id": format!("a-{n}"), "service": format!("s-{n}"), "version": "1", "level": "P1",
                "title": "t", "alert_since": "2026-11-21T02:40:00Z", "labels": {"alertname": "x"}})
        })
        .collect();
    let file = place.write("many.json", serde_json::to_vec(&alerts).unwrap());
    let done = place.run(&["run", &file, "--rollback-sleep", "0s", "--json"]).expect_code(0);
    assert_eq!(done.json().last().unwrap()["restored"], 300);
    place.run(&["verify"]).expect_code(0);
}

#[test]
fn nothing_to_do_is_done() {
    let place = Place::new();
    let cases = [
        ("[]", "nothing to do"),
        (r#"{"id":"x","service":"","alert_since":"2026-11-21T02:40:00Z"}"#, "skipped"),
    ];
    for (input, said) in cases {
        let done = place.run_with_input(&["run", "-"], input.as_bytes()).expect_code(0);
        assert!(done.out.contains(said), "{}", done.all());
    }
    let done = place.run(&["run"]).expect_code(0);
    assert!(done.out.contains("nothing to do"), "{}", done.all());
}

#[test]
fn bad_input_names_the_field_and_stores_nothing() {
    let good = |id: &str, service: &str| {
        format!(r#"{{"id":"{id}","service":"{service}","alert_since":"2026-11-21T02:40:00Z"}}"#)
    };
    let long = good(&"x".repeat(65), "s");
    let twice = format!("[{},{}]", good("x", "a"), good("x", "b"));
    let half =
        format!(r#"[{},{{"id":"y","service":7,"alert_since":"2026-11-21T02:40:00Z"}}]"#, good("x", "a"));
    let cases: [(&[u8], &str); 10] = [
        (b"", "it is empty"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"7", "payload"),
        (br#"{"id":""}"#, "id: is empty"),
        (long.as_bytes(), "id: has 65 characters"),
        (br#"{"id":"x","service":"s","alert_since":"10000-01-01T00:00:00Z"}"#, "alert_since"),
        (br#"{"version":"4","alerts":[{"status":"firing","labels":7}]}"#, "alerts[0].labels"),
        (twice.as_bytes(), "is there twice"),
        (half.as_bytes(), "[1].service"),
    ];
    for (input, said) in cases {
        let place = Place::new();
        let done = place.run_with_input(&["run", "-"], input).expect_code(2);
        assert!(done.err.contains(said), "{said:?} in {}", done.all());
        assert!(!place.path("redress.db").exists());
    }
}

#[test]
fn an_id_that_names_another_service_is_refused_with_the_rest_of_its_file() {
    let place = Place::new();
    let message = |id: &str, service: &str| {
        format!(r#"{{"id":"{id}","service":"{service}","alert_since":"2026-11-21T02:40:00Z"}}"#)
    };
    place
        .run_with_input(&["run", "-", "--rollback-sleep", "0s"], message("x", "shop").as_bytes())
        .expect_code(0);
    let both = format!("[{},{}]", message("new", "cart"), message("x", "mail"));
    let done = place.run_with_input(&["run", "-", "--rollback-sleep", "0s"], both.as_bytes()).expect_code(2);
    assert!(done.err.contains(r#"alert id "x" is known for service "shop""#), "{}", done.all());
    assert_eq!(place.run(&["operations", "list", "--json"]).json().len(), 2);
}

#[test]
fn what_others_wrote_does_nothing_to_the_terminal() {
    let place = Place::new();
    let input = serde_json::json!({"id": "x\u{1b}[2J", "service": "../s'\"%\u{202e}🚒", "alert_since": "2026-11-21T02:40:00Z",
        "title": "red \u{1b}[31m\nalert \u{9b}1m"});
    let done = place
        .run_with_input(&["run", "-", "--rollback-sleep", "0s"], input.to_string().as_bytes())
        .expect_code(0);
    let mut printed = done.out;
    for command in ["list", "show", "log"] {
        let mut arguments = vec!["operations", command];
        if command != "list" {
            arguments.push("rr-");
        }
        printed.push_str(&place.run(&arguments).expect_code(0).out);
        arguments.push("--json");
        printed.push_str(&place.run(&arguments).expect_code(0).out);
    }
    let obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!printed.chars().any(obeyed), "{printed:?}");
    assert!(printed.contains("\\u{1b}[31m\\nalert") && printed.contains('🚒'), "{printed}");
}
