//! Each behaviour of the mock, in paused time.

use serde_json::json;

use super::*;
use crate::testing::{call, call_with};

fn with_behaviour(behaviour: Value) -> Call {
    call_with(json!({ "sleep_ms": 0, "behaviour": behaviour }))
}

#[test]
fn the_configuration_is_what_the_docs_say() {
    let expected = json!({ "sleep_ms": 30_000, "behaviour": "succeed" });
    assert_eq!(MockRollback::default().configuration(), expected);
    assert!(MockRollback::default().accepts(&expected).is_ok());
    assert!(MockRollback::default().accepts(&json!({ "behaviour": { "fail_times": 2 } })).is_ok());
    let refused = MockRollback::default().accepts(&json!({ "sleep": "3s" })).unwrap_err();
    assert!(refused.contains("unknown field `sleep`"), "{refused}");
    assert_eq!(MockRollback::sleeping(Duration::MAX).configuration()["sleep_ms"], u64::MAX);
}

#[tokio::test(start_paused = true)]
async fn the_frozen_configuration_counts_not_its_own() {
    let mock = MockRollback::sleeping(Duration::from_secs(3600));
    let before = tokio::time::Instant::now();
    let output = mock.execute(&call_with(json!({ "sleep_ms": 1500 }))).await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_millis(1500));
    assert_eq!(output.summary, "mock rollback done after 1.5s; nothing was changed");

    let before = tokio::time::Instant::now();
    mock.execute(&call()).await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(30), "a null configuration means the defaults");
}

#[tokio::test(start_paused = true)]
async fn cancelled_while_waiting_it_stops_and_nothing_happened() {
    let target = MockTarget::default();
    let mock = MockRollback::default().with_target(target.clone());
    let call = call();
    call.cancel.cancel();
    assert!(matches!(mock.execute(&call).await, Err(Error::Retryable { .. })));
    assert_eq!(target.times(&call.key), 0);
}

#[tokio::test(start_paused = true)]
async fn it_fails_as_told() {
    let mock = MockRollback::default();
    assert!(matches!(mock.execute(&with_behaviour(json!("fail"))).await, Err(Error::Permanent { .. })));

    let mut call = with_behaviour(json!({ "fail_times": 2 }));
    for (try_number, fails) in [(1, true), (2, true), (3, false)] {
        call.try_number = try_number;
        let answer = mock.execute(&call).await;
        assert_eq!(matches!(answer, Err(Error::Retryable { .. })), fails, "try {try_number}: {answer:?}");
        assert_eq!(answer.is_ok(), !fails);
    }
}

#[tokio::test(start_paused = true)]
async fn it_hangs_until_cancelled_and_then_nobody_knows() {
    let call = with_behaviour(json!("hang"));
    let mut running = tokio::spawn({
        let call = call.clone();
        async move { MockRollback::default().execute(&call).await }
    });
    // Time moves by itself while all wait, so this is a day of silence.
    assert!(tokio::time::timeout(Duration::from_secs(86_400), &mut running).await.is_err());
    call.cancel.cancel();
    assert!(matches!(running.await.unwrap(), Err(Error::Unknown { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_leaves_its_effect_at_the_target() {
    let target = MockTarget::default();
    let mock = MockRollback::default().with_target(target.clone());
    assert_eq!(mock.in_doubt().policy(), redress_action::Policy::Rerun);

    let mut call = with_behaviour(json!({ "lose_answer_times": 1 }));
    assert!(matches!(mock.execute(&call).await, Err(Error::Unknown { .. })));
    assert_eq!(target.times(&call.key), 1);
    call.try_number = 2;
    mock.execute(&call).await.unwrap();
    assert_eq!(target.effects(), vec![(call.key, 2)]);

    let mut call = with_behaviour(json!("lose_answer"));
    call.try_number = 9;
    assert!(matches!(mock.execute(&call).await, Err(Error::Unknown { .. })));
}

#[tokio::test]
async fn the_check_says_what_it_was_told() {
    let check = MockCheck::default();
    assert!(!check.independent());
    assert_eq!(check.configuration(), json!({ "health": "healthy" }));

    let look = |health: Value, attempt, try_number| {
        let mut call = call_with(json!({ "health": health }));
        call.key.attempt = attempt;
        call.try_number = try_number;
        async move {
            match MockCheck::default().check(&call).await {
                Observation::Healthy { .. } => "healthy",
                Observation::Unhealthy { .. } => "unhealthy",
                Observation::Inconclusive { .. } => "inconclusive",
            }
        }
    };
    assert_eq!(look(json!("healthy"), 1, 1).await, "healthy");
    assert_eq!(look(json!("unhealthy"), 9, 9).await, "unhealthy");
    assert_eq!(look(json!("inconclusive"), 1, 1).await, "inconclusive");
    assert_eq!(look(json!({ "unhealthy_times": 1 }), 1, 1).await, "unhealthy");
    assert_eq!(look(json!({ "unhealthy_times": 1 }), 1, 2).await, "healthy");
    assert_eq!(look(json!({ "unhealthy_attempts": 1 }), 1, 9).await, "unhealthy");
    assert_eq!(look(json!({ "unhealthy_attempts": 1 }), 2, 1).await, "healthy");
    assert_eq!(look(json!("sick"), 1, 1).await, "inconclusive");
}
