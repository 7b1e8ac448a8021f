//! What each status, each reply and each silence leads to.

use super::*;

#[tokio::test]
async fn the_request_is_what_the_contract_says() {
    let (server, rollback, call) =
        system(vec![status("deploying")], vec![Answer::Json(200, json!({}))]).await;
    let call = with_deploy_id(call, Some("team/a b"));
    let (word, text) = told(rollback.execute(&call).await);
    assert_eq!((word, text.as_str()), ("success", "deployment team%2Fa%20b rolled back (HTTP 200)"));

    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("GET", "/v1/deployments/team%2Fa%20b"));
    assert_eq!(
        (seen[1].method.as_str(), seen[1].path.as_str()),
        ("POST", "/v1/deployments/team%2Fa%20b/rollback")
    );
    for request in &seen {
        let header = |name: &str| request.headers[name].as_str();
        assert_eq!(header("idempotency-key"), "01890a5d-ac96-774b-bcce-b302099a8057:rollback:1:0");
        assert_eq!(header("redress-fencing-token"), "1.7");
        assert_eq!(header("host"), format!("127.0.0.1:{}", server.port));
        assert!(!request.headers.contains_key("authorization"));
    }
    let body: Value = serde_json::from_str(&seen[1].body).unwrap();
    assert_eq!(body["idempotency_key"], seen[1].headers["idempotency-key"]);
    assert_eq!(body["fencing_token"], "1.7");
    assert_eq!((&body["service"], &body["version"]), (&json!("checkout"), &json!("v2")));
}

#[tokio::test]
async fn the_key_stays_the_same_for_every_try() {
    let answers = vec![Answer::Json(429, json!({})), Answer::Json(200, json!({}))];
    let (server, rollback, mut call) = system(vec![status("stop")], answers).await;
    assert_eq!(told(rollback.execute(&call).await).0, "retryable");
    call.try_number = 2;
    assert_eq!(told(rollback.execute(&call).await).0, "success");
    let keys: Vec<_> =
        server.seen().iter().map(|request| request.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys, vec![call.key.to_string(); 4]);
}

#[tokio::test]
async fn the_status_before_decides_whether_anything_is_asked_for() {
    let cases = [
        (status("deploying"), "success", 1),
        (status("stop"), "success", 1),
        (status("rollback"), "success", 0),
        (status("completed"), "permanent", 0),
        (status("unrelease"), "permanent", 0),
        (status("Rollback"), "retryable", 0),
        (status("rolling_back"), "retryable", 0),
        (Answer::Json(200, json!({ "status": 7 })), "retryable", 0),
        (Answer::Json(200, json!(["rollback"])), "retryable", 0),
        (Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n<html".to_vec()), "retryable", 0),
        (
            Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"status\":\"rol".to_vec()),
            "retryable",
            0,
        ),
        (Answer::Json(404, json!({ "message": "no such deployment" })), "permanent", 0),
        (Answer::Json(401, json!({})), "permanent", 0),
        (Answer::Json(403, json!({})), "permanent", 0),
        (Answer::Json(302, json!({})), "permanent", 0),
        (Answer::Json(429, json!({})), "retryable", 0),
        (Answer::Json(503, json!({})), "retryable", 0),
        (Answer::Drop, "retryable", 0),
        (Answer::Raw(b"SMTP ready\r\n\r\n".to_vec()), "retryable", 0),
    ];
    for (answer, word, posts) in cases {
        let (server, rollback, call) = system(vec![answer.clone()], vec![Answer::Json(200, json!({}))]).await;
        let (told, text) = told(rollback.execute(&call).await);
        assert_eq!((told, server.count("POST")), (word, posts), "{answer:?}: {text}");
    }
}

#[tokio::test]
async fn each_reply_to_the_rollback_means_what_the_contract_says() {
    let cases = [
        (Answer::Json(200, json!({})), "success"),
        (Answer::Json(202, json!({ "status": "accepted" })), "success"),
        (Answer::Raw(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()), "success"),
        (Answer::With(307, &[("location", "/elsewhere")], json!({})), "permanent"),
        (Answer::Json(401, json!({})), "permanent"),
        (Answer::Json(404, json!({})), "permanent"),
        (Answer::Json(409, json!({})), "permanent"),
        (Answer::Json(422, json!({})), "permanent"),
        (Answer::Json(408, json!({})), "retryable"),
        (Answer::Json(425, json!({})), "retryable"),
        (Answer::Json(429, json!({})), "retryable"),
        (Answer::Json(500, json!({})), "unknown"),
        (Answer::Json(502, json!({})), "unknown"),
        (Answer::Json(503, json!({})), "unknown"),
        (Answer::Json(504, json!({})), "unknown"),
        (Answer::Json(799, json!({})), "unknown"),
        (Answer::Drop, "unknown"),
        (Answer::Raw(b"HTTP/1.1 2".to_vec()), "unknown"),
        // The status arrived; what is missing of the body changes nothing.
        (Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_vec()), "success"),
    ];
    for (answer, word) in cases {
        let (server, rollback, call) = system(vec![status("deploying")], vec![answer.clone()]).await;
        let (told, text) = told(rollback.execute(&call).await);
        assert_eq!((told, server.count("POST")), (word, 1), "{answer:?}: {text}");
        assert_eq!(server.seen().len(), 2, "no redirect is followed, nothing is sent twice: {answer:?}");
    }
}

#[tokio::test]
async fn a_400_is_understood_by_the_status_after_it() {
    let cases = [
        (status("rollback"), "success"),
        (status("completed"), "permanent"),
        (status("unrelease"), "permanent"),
        (status("deploying"), "permanent"),
        (Answer::Json(404, json!({})), "permanent"),
        (Answer::Json(200, json!({ "status": "rollback", "service": "billing" })), "permanent"),
        (Answer::Json(403, json!({})), "unknown"),
        (Answer::Json(500, json!({})), "unknown"),
        (Answer::Drop, "unknown"),
    ];
    for (after, word) in cases {
        let (server, rollback, call) =
            system(vec![status("deploying"), after.clone()], vec![refusal()]).await;
        let (told, text) = told(rollback.execute(&call).await);
        assert_eq!((told, server.count("GET"), server.count("POST")), (word, 2, 1), "{after:?}: {text}");
    }
}

#[tokio::test]
async fn the_probe_and_the_check_read_and_change_nothing() {
    let cases = [
        (status("rollback"), "applied", "healthy"),
        (status("deploying"), "not applied", "unhealthy"),
        (status("stop"), "not applied", "unhealthy"),
        (status("completed"), "refused", "unhealthy"),
        (status("unrelease"), "refused", "unhealthy"),
        (status("paused"), "unknown", "inconclusive"),
        (Answer::Json(404, json!({})), "refused", "inconclusive"),
        (Answer::Json(401, json!({})), "unknown", "inconclusive"),
        (Answer::Json(403, json!({})), "unknown", "inconclusive"),
        (Answer::Json(301, json!({})), "unknown", "inconclusive"),
        (Answer::Json(500, json!({})), "unknown", "inconclusive"),
        (Answer::Drop, "unknown", "inconclusive"),
        (Answer::Json(200, json!({ "status": "rollback", "service": "billing" })), "refused", "inconclusive"),
        (Answer::Json(200, json!({ "status": "rollback", "service": "checkout" })), "applied", "healthy"),
    ];
    for (answer, probe, check) in cases {
        let (server, rollback, call) = system(vec![answer.clone()], vec![]).await;
        let InDoubt::Probe(asked) = rollback.in_doubt() else { panic!("it must be a probe") };
        assert_eq!(probed(&asked.probe(&call).await), probe, "{answer:?}");
        assert_eq!(observed(&rollback.status_check().check(&call).await), check, "{answer:?}");
        assert_eq!((server.count("GET"), server.seen().len()), (2, 2), "{answer:?}");
    }
}

#[tokio::test]
async fn a_lost_reply_is_unknown_and_the_probe_finds_what_happened() {
    let (server, rollback, call) =
        system(vec![status("deploying"), status("rollback")], vec![Answer::Drop]).await;
    assert_eq!(told(rollback.execute(&call).await).0, "unknown");
    assert_eq!(probed(&rollback.probe(&call).await), "applied");
    assert_eq!(server.count("POST"), 1);
}

/// A request that we gave up is not taken back: what the status says at once is not what came of it.
#[tokio::test]
async fn what_got_no_answer_may_still_be_carried_out() {
    let deploying = || status("deploying");
    let gateways = [502, 503, 504, 524].map(|code| Answer::Json(code, json!({})));
    for lost in gateways.into_iter().chain([Answer::Hang, Answer::Drop]) {
        let gets = vec![deploying(), deploying(), status("rollback")];
        let (server, rollback, call) = system(gets, vec![lost.clone()]).await;
        let run = tokio::spawn({
            let (rollback, call) = (rollback.clone(), call.clone());
            async move { told(rollback.execute(&call).await).0 }
        });
        server.arrived(2).await;
        if matches!(lost, Answer::Hang) {
            // As the engine does, when the grace time of a cancel has passed.
            run.abort();
            assert!(run.await.unwrap_err().is_cancelled());
        } else {
            assert_eq!(run.await.unwrap(), "unknown");
        }
        assert_eq!(probed(&rollback.probe(&call).await), "applied", "{lost:?}");
        assert_eq!(server.count("POST"), 1);
    }
}

#[tokio::test]
async fn that_it_may_still_run_ends() {
    let (server, rollback, mut call) = system(vec![status("deploying")], vec![Answer::Drop]).await;
    assert_eq!(told(rollback.execute(&call).await).0, "unknown");
    call.timeout = Duration::from_millis(700);
    assert_eq!(probed(&rollback.probe(&call).await), "unknown");
    call.timeout = Duration::from_secs(60);
    // Nobody else's request is waited for.
    let other = Call { key: EffectKey { step: call.key.step + 1, ..call.key }, ..call.clone() };
    let seen = server.seen().len();
    assert_eq!(probed(&rollback.probe(&other).await), "not applied");
    tokio::time::pause();
    tokio::time::advance(unanswered::MAY_RUN).await;
    tokio::time::resume();
    assert_eq!(probed(&rollback.probe(&call).await), "not applied");
    assert_eq!(server.seen().len(), seen + 2);
}

#[tokio::test]
async fn what_was_answered_runs_no_longer() {
    for (code, says) in [(500, "unknown"), (429, "retryable")] {
        let answer = Answer::Json(code, json!({}));
        let (server, rollback, call) = system(vec![status("deploying")], vec![answer]).await;
        assert_eq!(told(rollback.execute(&call).await).0, says);
        assert_eq!(probed(&rollback.probe(&call).await), "not applied");
        assert_eq!(server.count("GET"), 2, "{code}");
    }
}

#[tokio::test]
async fn a_silent_server_is_unknown_once_it_has_the_request() {
    let (server, rollback, call) = system(vec![status("deploying")], vec![Answer::Hang]).await;
    let run = || {
        let (rollback, call) = (rollback.clone(), call.clone());
        tokio::spawn(async move { told(rollback.execute(&call).await) })
    };
    let timed_out = run();
    server.arrived(2).await;
    tokio::time::pause();
    tokio::time::advance(call.timeout).await;
    tokio::time::resume();
    let (word, text) = timed_out.await.unwrap();
    assert_eq!((word, text.as_str()), ("unknown", "rolling deployment d-42 back: no answer in time"));

    let cancelled = run();
    server.arrived(4).await;
    call.cancel.cancel();
    assert_eq!(cancelled.await.unwrap().0, "unknown");
    // Cancelled before anything was sent.
    assert_eq!(run().await.unwrap().0, "retryable");
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_silent_status_is_given_up_early_and_nothing_is_asked_for() {
    let (server, rollback, call) = system(vec![Answer::Hang], vec![]).await;
    let running = tokio::spawn({
        let (rollback, call) = (rollback.clone(), call.clone());
        async move { told(rollback.execute(&call).await) }
    });
    server.arrived(1).await;
    tokio::time::pause();
    let before = Instant::now();
    assert_eq!(running.await.unwrap().0, "retryable");
    assert!(before.elapsed() <= Duration::from_secs(11), "the step itself has {} s", call.timeout.as_secs());
    assert_eq!(server.count("POST"), 0);
}

#[tokio::test]
async fn nobody_listening_is_retryable() {
    let (server, rollback, call) = system(vec![], vec![]).await;
    server.stop().await;
    let (word, text) = told(rollback.execute(&call).await);
    assert_eq!(word, "retryable");
    assert!(text.contains("connection refused by 127.0.0.1"), "{text}");
}

#[tokio::test]
async fn retry_after_is_handed_on() {
    for (code, expected) in [(429, "Retryable"), (503, "Unknown")] {
        let busy = Answer::With(code, &[("retry-after", "17")], json!({}));
        let (_server, rollback, call) = system(vec![status("stop")], vec![busy]).await;
        let error = rollback.execute(&call).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected));
        match error {
            Error::Retryable { retry_after, .. } | Error::Unknown { retry_after, .. } => {
                assert_eq!(retry_after, Some(Duration::from_secs(17)));
            }
            Error::Permanent { reason } => panic!("{reason}"),
        }
    }
}
