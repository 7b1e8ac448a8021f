//! The life of connections: accepted up to a limit, bounded in every direction, ended gracefully.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::limits::Limits;
use crate::stall::Unstalled;

/// The most bytes that a request's head may have. The parser refuses only what does not fit its buffer, which may be
/// twice as much; `around` refuses the rest.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The most header lines that a request may have.
const HEAD_LINES_MAX: usize = 100;
/// How long is waited when no connection can be accepted (no file descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `app` until `stop`, then lets what is at work finish within the grace.
pub(crate) async fn serve(app: Router, listener: TcpListener, limits: &Limits, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    while let Some((stream, place)) = next(&listener, &places, &mut connections, &stop).await {
        connections.spawn(connection(app.clone(), stream, limits.clone(), stop.clone(), place));
    }
    drop(listener);
    let finishing = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.grace, finishing).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests at work were cut off: the grace is over");
    }
    connections.shutdown().await;
}

/// The next connection and its place; `None` once the service is to stop.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    connections: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            Some(_) = connections.join_next() => {}
            (place, accepted) = accept(listener, places) => match (place, accepted) {
                (Some(place), Ok((stream, _))) => return Some((stream, place)),
                (_, Err(error)) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                (None, Ok(_)) => return None,
            },
        }
    }
}

type Accepted = io::Result<(TcpStream, std::net::SocketAddr)>;

/// Waits for a place first, so that what has none is not accepted.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (Option<OwnedSemaphorePermit>, Accepted) {
    let place = Arc::clone(places).acquire_owned().await.ok();
    (place, listener.accept().await)
}

async fn connection(
    app: Router,
    stream: TcpStream,
    limits: Limits,
    stop: CancellationToken,
    place: OwnedSemaphorePermit,
) {
    // Answers are small and awaited: none may wait for the next.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(Unstalled::new(stream, limits.write_timeout));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_LINES_MAX)
        .serve_connection(stream, TowerToHyperService::new(app));
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        // A client that goes away, is too slow or speaks something else: its own affair.
        tracing::debug!(%error, "a connection ended early");
    }
    drop(place);
}
