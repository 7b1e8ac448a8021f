//! The client where it differs from an ordinary one: TLS trust, proxies, and what it says was not sent.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderMap;
use redress_action::CancellationToken;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::tls::Tls;
use super::{Client, Failure, Reply, Request, Url};
use crate::egress::Egress;
use crate::testing::server::{Answer, Server, serve};

async fn get(client: &Client, url: &str) -> Result<Reply, Failure> {
    let url: Url = url.parse().unwrap();
    let request = Request {
        method: Method::GET,
        url: &url,
        headers: HeaderMap::new(),
        body: Vec::new(),
        timeout: Duration::from_secs(60),
        cancel: &CancellationToken::new(),
    };
    client.send(request).await
}

fn loopback() -> Egress {
    Egress::new(["127.0.0.1", "localhost"]).unwrap()
}

/// The store of a client that trusts the test authority alone. Certificate and key were made for these tests.
fn test_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(include_bytes!("../testing/tls/ca.pem")).unwrap()).unwrap();
    roots
}

/// Answers `{"secure":true}` to each request over TLS; gives its port.
async fn secure_server() -> u16 {
    let chain = vec![CertificateDer::from_pem_slice(include_bytes!("../testing/tls/server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../testing/tls/server.key.pem")).unwrap();
    let configuration = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(configuration));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                let _ = serve(stream, |_| Answer::Json(200, json!({ "secure": true }))).await;
            }
        }
    });
    port
}

#[tokio::test]
async fn tls_is_spoken_with_who_is_trusted_and_nobody_else() {
    let port = secure_server().await;
    let trusting = Client::with_tls(loopback(), Tls::with_roots(test_roots()));
    for host in ["localhost", "127.0.0.1"] {
        let reply = get(&trusting, &format!("https://{host}:{port}/")).await.unwrap();
        assert_eq!(reply.json(), json!({ "secure": true }));
    }
    let stranger = Client::with_tls(loopback(), Tls::with_roots(RootCertStore::empty()));
    let failure = get(&stranger, &format!("https://localhost:{port}/")).await.unwrap_err();
    assert!(matches!(&failure, Failure::NotSent(reason) if reason.contains("certificate")), "{failure:?}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let port = secure_server().await;
    let egress = Egress::new(["127.0.0.2"]).unwrap();
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let other = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    let client = Client::with_tls(egress, Tls::with_roots(test_roots()));
    let failure = get(&client, &format!("https://127.0.0.2:{other}/")).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::NotSent(reason) if reason.contains("not valid for name")),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_server_without_tls_gets_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut start = [0; 64];
        stream.read_exact(&mut start).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        start
    });
    let client = Client::with_tls(loopback(), Tls::with_roots(test_roots()));
    let failure = get(&client, &format!("https://127.0.0.1:{port}/secret")).await.unwrap_err();
    assert!(matches!(failure, Failure::NotSent(_)), "{failure:?}");
    let start = received.await.unwrap();
    assert_eq!(start[0], 0x16, "a TLS handshake and nothing else: {start:?}");
}

#[tokio::test]
async fn paths_go_out_as_they_stand() {
    let server = Server::start(|_| Answer::Json(200, json!({}))).await;
    let client = Client::new(loopback());
    for path in ["/", "/a%2Fb?x=%00&y", "//evil.example/x", "/%2E%2E/x", "/a/../b"] {
        get(&client, &format!("http://127.0.0.1:{}{path}", server.port)).await.unwrap();
        assert_eq!(server.seen().last().unwrap().path, path);
    }
}

#[tokio::test]
async fn a_head_without_end_is_not_read_to_it() {
    let head = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(4 << 20)).into_bytes();
    let server = Server::start(move |_| Answer::Stuck(head.clone())).await;
    let failure =
        get(&Client::new(loopback()), &format!("http://127.0.0.1:{}/", server.port)).await.unwrap_err();
    assert!(matches!(failure, Failure::Lost(_)), "{failure:?}");
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limits_and_the_status_stands() {
    let endless = [b"HTTP/1.1 201 Created\r\n\r\n".as_slice(), &vec![b'x'; 4 << 20]].concat();
    let server = Server::start(move |_| Answer::Stuck(endless.clone())).await;
    let reply = get(&Client::new(loopback()), &format!("http://127.0.0.1:{}/", server.port)).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.body.len()), (201, Client::BODY_MAX));

    let stuck = b"HTTP/1.1 201 Created\r\ncontent-length: 99\r\n\r\n{".to_vec();
    let server = Server::start(move |_| Answer::Stuck(stuck.clone())).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let running = tokio::spawn(async move { get(&Client::new(loopback()), &url).await });
    server.arrived(1).await;
    tokio::time::pause();
    let reply = running.await.unwrap().unwrap();
    assert_eq!((reply.status.as_u16(), reply.body.as_slice()), (201, b"{".as_slice()));
}

const PROXY_VARIABLES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Runs itself once more, in a process of its own with proxies in its environment, since a test may not change
/// the environment it shares with others.
#[tokio::test]
async fn proxies_named_in_the_environment_are_never_asked() {
    if let Ok(target) = std::env::var("REDRESS_TEST_TARGET") {
        let reply = get(&Client::new(loopback()), &target).await.unwrap();
        assert_eq!(reply.json(), json!({ "from": "target" }));
        return;
    }
    let target = Server::start(|_| Answer::Json(200, json!({ "from": "target" }))).await;
    let proxy = Server::start(|_| Answer::Json(200, json!({ "from": "proxy" }))).await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "http::client_tests::proxies_named_in_the_environment_are_never_asked"]);
    child.env("REDRESS_TEST_TARGET", format!("http://127.0.0.1:{}/", target.port));
    for variable in PROXY_VARIABLES {
        child.env(variable, format!("http://127.0.0.1:{}", proxy.port));
    }
    let output = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((target.seen().len(), proxy.seen().len()), (1, 0));
}
