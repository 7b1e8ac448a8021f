//! What is never done, never called and never shown.

use super::*;

#[tokio::test]
async fn it_is_never_done_on_a_guessed_or_foreign_deployment() {
    let (server, rollback, call) = system(vec![status("deploying")], vec![]).await;
    for id in [None, Some(""), Some("."), Some("..")] {
        let call = with_deploy_id(call.clone(), id);
        let (word, text) = told(rollback.execute(&call).await);
        assert_eq!(word, "permanent");
        assert!(text.contains("a person must"), "{text}");
        assert!(!text.contains("checkout:v2"), "{text}");
        assert_eq!(probed(&rollback.probe(&call).await), "refused");
        assert_eq!(observed(&rollback.status_check().check(&call).await), "inconclusive");
    }
    assert_eq!(server.seen().len(), 0);

    let foreign = Answer::Json(200, json!({ "status": "deploying", "service": "billing" }));
    let (server, rollback, call) = system(vec![foreign], vec![]).await;
    let (word, text) = told(rollback.execute(&call).await);
    assert_eq!((word, server.count("POST")), ("permanent", 0));
    assert!(text.contains("\"billing\"") && text.contains("\"checkout\""), "{text}");

    // Only the reply to the rollback names it: not the success of this alert's step.
    let late = Answer::Json(200, json!({ "service": "billing" }));
    let (_server, rollback, call) = system(vec![status("deploying")], vec![late]).await;
    assert_eq!(told(rollback.execute(&call).await).0, "permanent");
}

#[tokio::test]
async fn the_frozen_url_is_called_if_it_may_be() {
    let (own, rollback, _) = system(vec![], vec![]).await;
    let (frozen, _, call) = system(vec![status("deploying")], vec![Answer::Json(200, json!({}))]).await;
    assert_eq!(told(rollback.execute(&call).await).0, "success");
    assert_eq!((own.seen().len(), frozen.count("POST")), (0, 1));

    // Credentials stay with the host they are for.
    let with_secret = rollback.clone().authenticated(Authentication::Bearer(Secret::new("hunter2"))).unwrap();
    let refused = with_secret.accepts(&call.configuration).unwrap_err();
    assert!(refused.contains("credentials"), "{refused}");
    assert_eq!(told(with_secret.execute(&call).await).0, "permanent");
    assert_eq!(frozen.seen().len(), 2);

    let elsewhere = json!({ "url": "http://10.1.2.3/v1/deployments/%s/rollback" });
    let refused = rollback.accepts(&elsewhere).unwrap_err();
    assert!(refused.contains("10.1.2.3 port 80 is not a listed host"), "{refused}");
    assert!(rollback.accepts(&rollback.configuration()).is_ok());
    for malformed in [json!({}), json!({ "url": 1 }), json!({ "url": "http://127.0.0.1/%s" }), json!(null)] {
        assert!(rollback.accepts(&malformed).is_err());
        let call = call_with(malformed);
        assert_eq!(told(rollback.execute(&call).await).0, "permanent");
        assert_eq!(probed(&rollback.probe(&call).await), "unknown");
    }
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    let egress = || Egress::new(["deploy.example", "169.254.169.254"]).unwrap();
    let refused = |template: &str| HttpRollback::new(template, egress()).unwrap_err().to_string();
    assert!(refused("http://deploy.example/v1/%s").contains("does not end in /rollback"));
    assert!(refused("http://other.example/%s/rollback").contains("is not a listed host"));
    assert!(refused("http://169.254.169.254/%s/rollback").contains("cloud metadata"));
    let rollback = HttpRollback::new("http://deploy.example/{deploy_id}/rollback", egress()).unwrap();
    assert_eq!(rollback.configuration(), json!({ "url": "http://deploy.example/{deploy_id}/rollback" }));
    assert!(rollback.clone().authenticated(Authentication::Bearer(Secret::new("a\nb"))).is_err());
    assert!(!rollback.status_check().independent());
    assert_eq!(rollback.status_check().configuration(), rollback.configuration());
}

#[tokio::test]
async fn credentials_go_with_every_request_and_into_no_text() {
    let echo =
        |code| Answer::Json(code, json!({ "message": "bad: Bearer hunter2 / bWU6aHVudGVyMg==\u{1b}[2J" }));
    let cases = [
        (Authentication::Bearer(Secret::new("hunter2")), "authorization", Some("Bearer hunter2")),
        (
            Authentication::Basic { user: "me".into(), password: Secret::new("hunter2") },
            "authorization",
            Some("Basic bWU6aHVudGVyMg=="),
        ),
        (Authentication::HmacSha256(Secret::new("hunter2")), "x-redress-signature", None),
    ];
    for (authentication, header, expected) in cases {
        let basic = matches!(authentication, Authentication::Basic { .. });
        let (server, rollback, call) = system(vec![status("deploying")], vec![echo(403)]).await;
        let rollback = rollback.authenticated(authentication.clone()).unwrap();
        assert!(!rollback.configuration().to_string().contains("hunter2"));
        assert!(!format!("{rollback:?}").contains("hunter2"));

        let (word, text) = told(rollback.execute(&call).await);
        assert_eq!(word, "permanent");
        assert!(text.contains("HTTP 403: bad: Bearer ***"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains('\u{1b}'), "{text}");
        assert!(!basic || !text.contains("bWU6"), "{text}");

        let seen = server.seen();
        assert_eq!(seen.len(), 2);
        for request in seen {
            let (_, signed) = authentication.header(request.body.as_bytes()).unwrap();
            let sent = &request.headers[header];
            assert_eq!(sent, expected.unwrap_or(signed.to_str().unwrap()));
        }
    }
}

#[tokio::test]
async fn a_body_without_end_is_not_read_to_it() {
    let endless =
        b"HTTP/1.1 403 Forbidden\r\n\r\n".iter().copied().chain(std::iter::repeat_n(b'x', 4 << 20)).collect();
    let (_server, rollback, call) = system(vec![status("deploying")], vec![Answer::Stuck(endless)]).await;
    let (word, text) = told(rollback.execute(&call).await);
    assert_eq!((word, text.as_str()), ("permanent", "rolling deployment d-42 back: HTTP 403 Forbidden"));
}
