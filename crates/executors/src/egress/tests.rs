//! The policy against real sockets on the loopback, and against a resolver that changes its mind.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;

use super::*;

/// Answers one list after the other, and counts how often it was asked.
struct Scripted {
    answers: Vec<Vec<&'static str>>,
    asked: AtomicUsize,
}

#[async_trait]
impl Resolve for Scripted {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.get(turn).ok_or_else(|| io::Error::other("no such name"))?;
        Ok(answer.iter().map(|address| address.parse().unwrap()).collect())
    }
}

fn scripted(host: &str, answers: &[&[&'static str]]) -> (Egress, Arc<Scripted>) {
    let answers = answers.iter().map(|answer| answer.to_vec()).collect();
    let resolver = Arc::new(Scripted { answers, asked: AtomicUsize::new(0) });
    (Egress::new([host]).unwrap().with_resolver(resolver.clone()), resolver)
}

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn only_what_is_listed_is_connected_to() {
    let (_listener, port) = listener().await;
    let loopback = host("127.0.0.1");

    let listed = Egress::new(["127.0.0.1"]).unwrap();
    listed.connect(&loopback, port).await.unwrap();

    let listed_with_port = Egress::new([format!("127.0.0.1:{port}")]).unwrap();
    listed_with_port.connect(&loopback, port).await.unwrap();
    assert!(matches!(listed_with_port.permits(&loopback, port ^ 1), Err(Error::NotListed { .. })));

    for other in [Egress::new(["localhost", "127.0.0.2"]).unwrap(), Egress::new([""; 0]).unwrap()] {
        let error = other.connect(&loopback, port).await.unwrap_err();
        assert!(matches!(error, Error::NotListed { .. }), "{error:?}");
    }
    let added = Egress::new([""; 0]).unwrap().listing(loopback.clone(), port);
    added.connect(&loopback, port).await.unwrap();
}

#[tokio::test]
async fn a_listed_literal_is_still_refused_where_nobody_may_call() {
    for text in ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]", "0.0.0.0", "255.255.255.255"] {
        let egress = Egress::new([text]).unwrap();
        assert!(matches!(egress.permits(&host(text), 80), Err(Error::Forbidden { .. })), "{text}");
        assert!(matches!(egress.connect(&host(text), 80).await, Err(Error::Forbidden { .. })), "{text}");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_a_forbidden_address_is_refused() {
    for address in
        ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "::ffff:169.254.1.1", "224.0.0.1", "::"]
    {
        let answer: &'static [&'static str] = &*Box::leak(Box::new([address]));
        let (egress, _) = scripted("deploy.example", &[answer]);
        let error = egress.connect(&host("deploy.example"), 80).await.unwrap_err();
        assert!(matches!(error, Error::Forbidden { .. }), "{address}: {error:?}");
    }
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_connected_to() {
    let (listener, port) = listener().await;
    // A second look-up would lead to the metadata service; there must not be one.
    let (egress, resolver) = scripted("deploy.example", &[&["127.0.0.1"], &["169.254.169.254"]]);
    let stream = egress.connect(&host("deploy.example"), port).await.unwrap();
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
    let (_, caller) = listener.accept().await.unwrap();
    assert_eq!(stream.local_addr().unwrap(), caller);

    // And the next connection is checked anew.
    let error = egress.connect(&host("deploy.example"), port).await.unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error:?}");
}

#[tokio::test]
async fn forbidden_addresses_among_good_ones_are_passed_over() {
    let (_listener, port) = listener().await;
    let (egress, _) = scripted("deploy.example", &[&["169.254.169.254", "127.0.0.1", "fe80::1"]]);
    let stream = egress.connect(&host("deploy.example"), port).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().ip().to_string(), "127.0.0.1");
}

#[tokio::test]
async fn what_does_not_answer_says_how() {
    let (gone, port) = listener().await;
    drop(gone);
    let egress = Egress::new(["127.0.0.1"]).unwrap();
    let error = egress.connect(&host("127.0.0.1"), port).await.unwrap_err();
    assert_eq!(error, Error::ConnectionRefused { host: host("127.0.0.1"), port });

    let (egress, _) = scripted("deploy.example", &[&[]]);
    for _ in ["no address", "an error"] {
        let error = egress.connect(&host("deploy.example"), 80).await.unwrap_err();
        assert!(matches!(error, Error::Unresolved { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_systems_resolver_works() {
    let (_listener, port) = listener().await;
    Egress::new(["localhost"]).unwrap().connect(&host("LOCALHOST."), port).await.unwrap();
}
