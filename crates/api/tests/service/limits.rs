//! Too much, too slow, too many at once, and what breaks inside.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redress_api::{Comment, Issue, IssueError, IssuePage, IssueQuery, IssueReader, Limits, Service};
use redress_testkit::Gate;
use tokio::io::AsyncWriteExt as _;

use crate::client::{Ask, Connection};
use crate::world::World;

/// Tables that make a request wait, or break.
pub struct Stuck(pub Gate);

#[async_trait]
impl IssueReader for Stuck {
    async fn list(&self, _query: &IssueQuery) -> Result<IssuePage, IssueError> {
        self.0.pass().await;
        Ok(IssuePage::default())
    }

    async fn get(&self, id: &str) -> Result<Option<(Issue, Vec<Comment>)>, IssueError> {
        panic!("as the test wants, with {id}")
    }
}

fn stuck(gate: &Gate, limit: impl FnOnce(&mut Limits)) -> impl FnOnce(Service) -> Service {
    let mut limits = Limits::default();
    limit(&mut limits);
    let tables = Arc::new(Stuck(gate.clone()));
    move |service| service.limits(limits).issues(tables)
}

#[tokio::test]
async fn an_oversized_body_is_413_and_its_sender_can_read_that() {
    let world = World::limited(|limits| limits.body_bytes_max = 100_000).await;
    for size in [100_001, 300_000, 10_000_000] {
        let answer = match size {
            // So much that it is not even read: a client that waits for leave hears it before it sends.
            10_000_000 => {
                let mut connection = Connection::open(world.address).await;
                let head = "POST /v1/alerts HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\
                            expect: 100-continue\r\n\r\n";
                connection.write(head.as_bytes()).await;
                connection.answer(false).await
            }
            size => world.post("/v1/alerts", vec![b' '; size]).await,
        };
        assert_eq!((answer.status, answer.code().as_str()), (413, "PAYLOAD_TOO_LARGE"), "{size}");
    }
    let exact = format!("[]{}", " ".repeat(99_998));
    assert_eq!(world.post("/v1/alerts", exact).await.status, 202);
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_too() {
    let world = World::limited(|limits| limits.body_bytes_max = 1_000).await;
    let head = "POST /v1/alerts HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    for (chunks, status) in [(1, 202), (3, 413)] {
        let mut connection = Connection::open(world.address).await;
        connection.write(head.as_bytes()).await;
        for n in 0..chunks {
            let chunk = format!("{:x}\r\n{:<500}\r\n", 500, if n == 0 { "[]" } else { "" });
            connection.write(chunk.as_bytes()).await;
        }
        connection.write(b"0\r\n\r\n").await;
        assert_eq!(connection.answer(false).await.status, status);
    }
}

#[tokio::test]
async fn too_many_alerts_are_413() {
    let world = World::limited(|limits| limits.alerts_max = 2).await;
    let one = r#"{"id":"a","alert_since":"2026-01-01T00:00:00Z"}"#;
    let answer = world.post("/v1/alerts", format!("[{one},{one},{one}]")).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "PAYLOAD_TOO_LARGE"));
    assert!(world.operations().await.is_empty());
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let world = World::limited(|limits| limits.body_timeout = Duration::from_millis(50)).await;
    let mut connection = Connection::open(world.address).await;
    connection.write(b"POST /v1/alerts HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n[").await;
    let answer = connection.answer(false).await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "REQUEST_TIMEOUT"));
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let world = World::limited(|limits| limits.head_timeout = Duration::from_millis(50)).await;
    for sent in ["", "GET /healthz HTTP/1.1\r\nhost:"] {
        let mut connection = Connection::open(world.address).await;
        connection.write(sent.as_bytes()).await;
        let closed = tokio::time::timeout(Duration::from_secs(10), connection.is_closed()).await;
        assert!(closed.is_ok(), "{sent:?} keeps its connection");
    }
    assert_eq!(world.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_body_that_breaks_off_stores_nothing() {
    let world = World::new().await;
    let mut connection = Connection::open(world.address).await;
    let body = r#"[{"id":"a","service":"s","alert_since":"2026-01-01T00:00:00Z"}]"#;
    let head =
        format!("POST /v1/alerts HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len() + 1);
    connection.write(head.as_bytes()).await;
    connection.0.get_mut().shutdown().await.unwrap();
    connection.is_closed().await;
    assert!(world.operations().await.is_empty());
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_the_service_goes_on() {
    let world = World::new().await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    for bytes in
        [b"\x16\x03\x01\x02\x00\x01\x00".as_slice(), b"\0\0\0\0\r\n\r\n", long.as_bytes(), many.as_bytes()]
    {
        let mut connection = Connection::open(world.address).await;
        // The other side may close before it has read everything.
        let _ = connection.0.write_all(bytes).await;
        let _ = connection.0.get_mut().shutdown().await;
        connection.is_closed().await;
    }
    assert_eq!(world.get("/healthz").await.status, 200);
}

/// A request whose head has so many bytes.
fn head_of(bytes: usize) -> String {
    let frame = "GET /healthz HTTP/1.1\r\nhost: x\r\na: \r\n\r\n".len();
    format!("GET /healthz HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(bytes - frame))
}

#[tokio::test]
async fn a_head_has_a_limit_in_bytes_and_in_lines() {
    let world = World::new().await;
    let lines = |n: usize| format!("GET /healthz HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(n));
    let long = |n: usize| format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(n));
    let cases = [
        (head_of(64 * 1024), 200),
        (head_of(64 * 1024 + 1), 431),
        (head_of(100_000), 431),
        (lines(100), 200),
        (lines(101), 431),
        (long(65_000), 404),
        (long(65_534), 414),
    ];
    for (head, status) in cases {
        let mut connection = Connection::open(world.address).await;
        // The other side may close before it has read everything.
        let _ = connection.0.write_all(head.as_bytes()).await;
        let answer = connection.answer(false).await;
        assert_eq!(answer.status, status, "{} bytes: {:.40}", head.len(), head);
        if matches!(status, 414 | 431) {
            assert_eq!(answer.body, "");
            assert!(connection.is_closed().await);
        }
    }
}

#[tokio::test]
async fn a_head_that_comes_in_pieces_has_the_same_limit() {
    let world = World::new().await;
    for (bytes, status) in [(64 * 1024, 200), (64 * 1024 + 1, 431)] {
        let mut connection = Connection::open(world.address).await;
        let head = head_of(bytes);
        let (first, rest) = head.as_bytes().split_at(bytes / 2);
        connection.write(first).await;
        tokio::task::yield_now().await;
        let _ = connection.0.write_all(rest).await;
        assert_eq!(connection.answer(false).await.status, status, "{bytes}");
    }
}

#[tokio::test]
async fn requests_beyond_the_limit_are_503_and_health_is_answered() {
    let gate = Gate::new();
    let world = World::with(stuck(&gate, |limits| limits.requests_max = 2)).await;
    let (mut one, mut other) = (Connection::open(world.address).await, Connection::open(world.address).await);
    let ask = Ask::get("/v1/issues");
    let waiting = async { tokio::join!(one.ask(&ask), other.ask(&ask)) };
    let meanwhile = async {
        gate.reached_times(2).await;
        let answer = world.post("/v1/alerts", "[]").await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "OVERLOADED"));
        assert_eq!(world.get("/healthz").await.status, 200);
        gate.open();
    };
    let ((one, other), ()) = tokio::join!(waiting, meanwhile);
    assert_eq!((one.status, other.status), (200, 200));
    assert_eq!(world.post("/v1/alerts", "[]").await.status, 202);
    assert_eq!(world.get("/readyz").await.json()["intake"]["overloads"], 1);
}

#[tokio::test]
async fn bodies_have_a_limit_together() {
    let world = World::limited(|limits| {
        limits.body_bytes_max = 10_000;
        limits.bodies_bytes_max = 10_000;
        limits.body_timeout = Duration::from_secs(60);
    })
    .await;
    let mut slow = Connection::open(world.address).await;
    slow.write(
        b"POST /v1/alerts HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\nexpect: 100-continue\r\n\r\n",
    )
    .await;
    // The word to go on is sent when the body is being read: its place is then taken.
    assert_eq!(slow.answer(false).await.status, 100);
    let answer = world.post("/v1/alerts", format!("[]{}", " ".repeat(5_000))).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "OVERLOADED"));
    slow.write(format!("[]{}", " ".repeat(8_998)).as_bytes()).await;
    assert_eq!(slow.answer(false).await.status, 202);
    assert_eq!(world.post("/v1/alerts", format!("[]{}", " ".repeat(5_000))).await.status, 202);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let gate = Gate::new();
    let world = World::with(stuck(&gate, |limits| limits.connections_max = 1)).await;
    let mut first = Connection::open(world.address).await;
    first.write(&Ask::get("/v1/issues").bytes()).await;
    gate.reached().await;
    let mut second = Connection::open(world.address).await;
    second.write(&Ask::get("/healthz").bytes()).await;
    gate.open();
    assert_eq!(first.answer(false).await.status, 200);
    let early = tokio::time::timeout(Duration::from_millis(50), second.answer(false)).await;
    assert!(early.is_err(), "the first connection still has the only place");
    drop(first);
    assert_eq!(second.answer(false).await.status, 200);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_503() {
    let gate = Gate::new();
    let world = World::with(stuck(&gate, |limits| limits.request_timeout = Duration::from_millis(50))).await;
    let answer = world.get("/v1/issues").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"));
}

#[tokio::test]
async fn a_panic_is_500_without_its_words_and_the_service_goes_on() {
    let world = World::with(stuck(&Gate::new(), |_| {})).await;
    let mut connection = Connection::open(world.address).await;
    let answer = connection.ask(&Ask::get("/v1/issues/hunter2")).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "INTERNAL_ERROR"));
    assert!(!answer.body.contains("hunter2") && !answer.body.contains("as the test wants"));
    assert_eq!(connection.ask(&Ask::get("/healthz")).await.status, 200, "on the same connection");
    assert_eq!(world.get("/readyz").await.json()["intake"]["panics"], 1);
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let world = World::new().await;
    let mut connection = Connection::open(world.address).await;
    for n in 0..20 {
        let body = format!(r#"{{"id":"{n}","service":"s{n}","alert_since":"2026-01-01T00:00:00Z"}}"#);
        assert_eq!(connection.ask(&Ask::post("/v1/alerts", body)).await.status, 202);
    }
    // A refused body is read to its end, so that the next request is understood.
    assert_eq!(connection.ask(&Ask::post("/v1/alerts", "nonsense")).await.status, 400);
    assert_eq!(connection.ask(&Ask::get("/healthz")).await.status, 200);
}
