//! [`Client`]: one request, one connection, one reply; and where in that it stopped, if it stopped.
//!
//! No pool (a reused connection that dies leaves open whether the request arrived, and pools send it again), no
//! redirects, no proxies, no cookies, no decompression.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use redress_action::CancellationToken;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::tls::Tls;
use super::{Reply, Url};
use crate::egress::{self, Egress};

/// What is asked, and for how long.
pub(crate) struct Request<'a> {
    pub method: Method,
    pub url: &'a Url,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// For all of it: resolving, connecting, sending, reading.
    pub timeout: Duration,
    pub cancel: &'a CancellationToken,
}

/// Why there is no reply, by what that says about the world.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The egress policy forbids it. Nothing was sent, and never will be.
    #[error("{0}")]
    Forbidden(String),
    /// Nobody listens there. Nothing was sent.
    #[error("{0}")]
    ConnectionRefused(String),
    /// It stopped before a connection stood. Nothing was sent.
    #[error("{0}")]
    NotSent(String),
    /// It stopped after a connection stood: some or all of the request may have arrived.
    #[error("{0}")]
    Lost(String),
}

/// Makes requests under an egress policy. Clones share the trusted certificates.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    egress: Egress,
    tls: Arc<Tls>,
    bounds: Bounds,
}

/// How much of a reply's body is read, and for how long once the status has been read.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    body_max: usize,
    body_timeout: Duration,
}

impl Client {
    /// The most of a reply's body that is read, in bytes, unless told otherwise.
    pub const BODY_MAX: usize = 64 * 1024;
    /// How long the body may take once the status has been read.
    const BODY_TIMEOUT: Duration = Duration::from_secs(2);
    /// The most of a reply's head that is read, in bytes.
    const HEAD_MAX: usize = 64 * 1024;

    pub fn new(egress: Egress) -> Self {
        let bounds = Bounds { body_max: Self::BODY_MAX, body_timeout: Self::BODY_TIMEOUT };
        Self { egress, tls: Arc::default(), bounds }
    }

    /// Reads bodies of so many bytes, for as long.
    pub fn reading(self, body_max: usize, body_timeout: Duration) -> Self {
        Self { bounds: Bounds { body_max, body_timeout }, ..self }
    }

    #[cfg(test)]
    pub fn with_tls(egress: Egress, tls: Tls) -> Self {
        Self { tls: Arc::new(tls), ..Self::new(egress) }
    }

    /// Whether the policy lets `url` be called. Asks nobody.
    pub fn permits(&self, url: &Url) -> Result<(), String> {
        self.egress.permits(url.host(), url.port()).map_err(|error| error.to_string())
    }

    /// Sends one request once.
    ///
    /// Cancellation safety: may be dropped at any await; the connection is then closed, and whether the request
    /// arrived is unknown.
    pub async fn send(&self, request: Request<'_>) -> Result<Reply, Failure> {
        let started = Instant::now();
        let (timeout, cancel) = (request.timeout, request.cancel);
        let stream = within(timeout, cancel, self.open(request.url)).await.map_err(Failure::NotSent)??;
        let left = timeout.saturating_sub(started.elapsed());
        within(left, cancel, converse(stream, request, started, self.bounds)).await.map_err(Failure::Lost)?
    }

    async fn open(&self, url: &Url) -> Result<Box<dyn Stream>, Failure> {
        let stream = self.egress.connect(url.host(), url.port()).await.map_err(|error| match error {
            egress::Error::NotListed { .. } | egress::Error::Forbidden { .. } => {
                Failure::Forbidden(error.to_string())
            }
            egress::Error::ConnectionRefused { .. } => Failure::ConnectionRefused(error.to_string()),
            egress::Error::Unresolved { .. } | egress::Error::Unreachable { .. } => {
                Failure::NotSent(error.to_string())
            }
        })?;
        if !url.secure {
            return Ok(Box::new(stream));
        }
        match self.tls.connect(url.host(), stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(reason) => Err(Failure::NotSent(format!("no secure connection to {}: {reason}", url.host()))),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Runs `work` until it is done, `timeout` has passed or `cancel` is cancelled; the last two say which it was.
async fn within<T>(
    timeout: Duration,
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, String> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err("cancelled".into()),
        done = tokio::time::timeout(timeout, work) => done.map_err(|_| "no answer in time".into()),
    }
}

async fn converse(
    stream: Box<dyn Stream>,
    request: Request<'_>,
    started: Instant,
    bounds: Bounds,
) -> Result<Reply, Failure> {
    let lost = |error: hyper::Error| Failure::Lost(format!("the connection broke before a reply: {error}"));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(Client::HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(lost)?;
    let message = message(request)?;
    let mut work = pin!(async {
        let response = sender.send_request(message).await.map_err(lost)?;
        let latency = started.elapsed();
        Ok(read(response, latency, bounds).await)
    });
    // The connection is driven here and not in a task of its own, so that dropping this call closes it.
    tokio::select! {
        biased;
        done = &mut work => done,
        _ = connection => work.await,
    }
}

fn message(request: Request<'_>) -> Result<hyper::Request<Full<Bytes>>, Failure> {
    // Both were checked when the URL was read.
    let unsendable = |_| Failure::NotSent(format!("{} cannot be put into a request", request.url));
    let host = HeaderValue::from_str(&request.url.authority()).map_err(|_| unsendable(()))?;
    let path: PathAndQuery = request.url.path.parse().map_err(|_| unsendable(()))?;
    let mut message = hyper::Request::new(Full::new(Bytes::from(request.body)));
    *message.method_mut() = request.method;
    *message.uri_mut() = path.into();
    *message.headers_mut() = request.headers;
    message.headers_mut().insert(HOST, host);
    message.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let agent = concat!("redress/", env!("CARGO_PKG_VERSION"));
    message.headers_mut().insert(USER_AGENT, HeaderValue::from_static(agent));
    Ok(message)
}

/// Reads what there is of the body, up to the limits. The status has been read and is not lost with the rest.
async fn read(response: Response<Incoming>, latency: Duration, bounds: Bounds) -> Reply {
    let (head, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    let all = async {
        while let Some(Ok(frame)) = incoming.frame().await {
            if let Some(data) = frame.data_ref() {
                let room = bounds.body_max - body.len();
                body.extend_from_slice(&data[..data.len().min(room)]);
            }
            if body.len() == bounds.body_max {
                break;
            }
        }
    };
    // A body that is late or cut is used as far as it came.
    let _ = tokio::time::timeout(bounds.body_timeout, all).await;
    Reply { status: head.status, headers: head.headers, body, latency }
}
