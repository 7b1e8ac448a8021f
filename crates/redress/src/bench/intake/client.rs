//! The sending side: alerts at a steady rate, each when it is due, over connections that are kept open.
//!
//! Open loop: when a request is due does not depend on what became of those before. A request that found no free
//! connection went late, and its time counts from when it was due: a service that stalls is charged for everything that
//! waited (no "coordinated omission"). It has a thread and a runtime of its own, so that its clock does not wait for
//! the service's tasks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Error, bail};
use redress_types::{Clock as _, SystemClock, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

/// Longer than the service gives itself for any request.
const PATIENCE: Duration = Duration::from_secs(60);
/// The status that says: durable.
const ACCEPTED: u16 = 202;
/// No answer of the intake to one alert is longer.
const ANSWER_MAX: usize = 64 * 1024;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Where the service listens.
    pub address: SocketAddr,
    /// Requests in all.
    pub requests: u32,
    /// Requests per second.
    pub rate: u32,
    /// Connections.
    pub connections: u32,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Those that were acknowledged, with the time from when each was due to its answer.
    pub accepted: Vec<(u32, Duration)>,
    /// Answers that were no acknowledgement.
    pub refused: u32,
    /// Requests whose answer did not come: nobody knows whether they were taken.
    pub unanswered: u32,
    /// From when the first was due to the last answer.
    pub took: Duration,
    /// When the first was due and when the last answer came.
    pub span: Option<(Timestamp, Timestamp)>,
}

/// Sends on a thread of its own.
pub(super) async fn send(plan: Plan) -> Result<Sent, Error> {
    let thread = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(run(plan))
    });
    thread.await?
}

async fn run(plan: Plan) -> Result<Sent, Error> {
    let mut connections = Vec::new();
    for _ in 0..plan.connections {
        connections.push(Connection::open(plan.address).await?);
    }
    let (began, since) = (Instant::now(), SystemClock.now());
    let next = Arc::new(AtomicU32::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for connection in connections {
        workers.spawn(work(plan, connection, Arc::clone(&next), began, since));
    }
    let mut sent = Sent::default();
    while let Some(worker) = workers.join_next().await {
        let Sent { accepted, refused, unanswered, .. } = worker?;
        sent.accepted.extend(accepted);
        sent.refused += refused;
        sent.unanswered += unanswered;
    }
    sent.took = began.elapsed();
    sent.span = Some((since, SystemClock.now()));
    Ok(sent)
}

/// One connection: takes the next request, waits until it is due, sends it and reads the answer.
async fn work(
    plan: Plan,
    connection: Connection,
    next: Arc<AtomicU32>,
    began: Instant,
    since: Timestamp,
) -> Sent {
    let mut sent = Sent::default();
    let mut connection = Some(connection);
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= plan.requests {
            return sent;
        }
        let due = began + Duration::from_secs(1).mul_f64(f64::from(n) / f64::from(plan.rate));
        sleep_until(due).await;
        match exchange(&mut connection, plan.address, &message(n, since)).await {
            Ok(ACCEPTED) => sent.accepted.push((n, due.elapsed())),
            Ok(status) => {
                tracing::debug!(status, n, "refused");
                sent.refused += 1;
            }
            Err(error) => {
                tracing::warn!(n, error = format!("{error:#}"), "no answer");
                sent.unanswered += 1;
            }
        }
    }
}

/// One request and the status of its answer, over the connection, or a new one when that is gone. A connection on
/// which anything went wrong is not used again.
async fn exchange(
    connection: &mut Option<Connection>,
    address: SocketAddr,
    body: &str,
) -> Result<u16, Error> {
    let exchanged = timeout(PATIENCE, async {
        let mut open = match connection.take() {
            Some(open) => open,
            None => Connection::open(address).await?,
        };
        let (status, kept) = open.post(body).await?;
        Ok((status, kept.then_some(open)))
    });
    let (status, kept) = exchanged.await.unwrap_or_else(|_| Err(Error::msg("timed out")))?;
    *connection = kept;
    Ok(status)
}

/// An HTTP/1.1 connection that is kept open.
struct Connection {
    stream: TcpStream,
    host: String,
    read: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await.context("connecting to the service")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host: address.to_string(), read: Vec::with_capacity(1024) })
    }

    /// Posts one alert; answers the status, and whether the connection can be used again.
    async fn post(&mut self, body: &str) -> Result<(u16, bool), Error> {
        let request = format!(
            "POST /v1/alerts HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.read.clear();
        loop {
            if let Some(head) = Head::of(&self.read)? {
                while self.read.len() < head.bytes {
                    self.more().await?;
                }
                return Ok((head.status, head.keeps && self.read.len() == head.bytes));
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), Error> {
        if self.read.len() > ANSWER_MAX {
            bail!("the answer is too long");
        }
        if self.stream.read_buf(&mut self.read).await? == 0 {
            bail!("the service closed the connection");
        }
        Ok(())
    }
}

/// What the head of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Head and body together.
    bytes: usize,
    keeps: bool,
}

impl Head {
    /// `None`: it has not arrived whole.
    fn of(read: &[u8]) -> Result<Option<Self>, Error> {
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let text = std::str::from_utf8(read.get(..end).unwrap_or_default())?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
        let (mut length, mut keeps) = (None, true);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse::<usize>()?);
            } else if name.eq_ignore_ascii_case("connection") {
                keeps = !value.trim().eq_ignore_ascii_case("close");
            }
        }
        let bytes = end + 4 + length.context("an answer that does not say how long it is")?;
        Ok(Some(Self { status, bytes, keeps }))
    }
}

/// The id of an alert.
pub(super) fn id(n: u32) -> String {
    format!("intake-{n}")
}

/// An alert message as contracts §1 has it, as long as usual ones are; each has a service, and thereby a target, of its
/// own. Nothing in it needs escaping.
fn message(n: u32, since: Timestamp) -> String {
    format!(
        r#"{{"id":"{}","service":"service-{n}","version":"v1.4.2","level":"P1","severity":"critical","title":"p95 latency is over 450 ms","alert_since":"{since}","labels":{{"alertname":"HighRequestLatency","deploy_id":"deployment-{n}","instance":"service-{n}-0:8080"}},"component":"api","metric":"latency_p95_ms","current":512.4,"threshold":450}}"#,
        id(n)
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_an_answer_is_read_once_it_is_whole() {
        let whole = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
        for cut in 0..whole.len() - 2 {
            assert_eq!(Head::of(&whole[..cut]).unwrap(), None, "{cut}");
        }
        let head = Head { status: 202, bytes: whole.len(), keeps: false };
        assert_eq!(Head::of(whole).unwrap(), Some(head));
        assert!(Head::of(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(Head::of(b"what\r\n\r\n").is_err());
    }

    /// A service that takes 20 ms for each request, at one connection and 100 requests a second, falls behind by 10 ms
    /// with each: the last of 20 was due long before it was sent, and that counts.
    #[tokio::test]
    async fn times_count_from_when_a_request_was_due() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plan = Plan { address: listener.local_addr().unwrap(), requests: 20, rate: 100, connections: 1 };
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            }
        });
        let sent = send(plan).await.unwrap();
        answering.await.unwrap();
        let (n, last) = *sent.accepted.last().unwrap();
        assert_eq!((n, sent.accepted.len(), sent.refused, sent.unanswered), (19, 20, 0, 0));
        assert!(last >= Duration::from_millis(200), "{last:?}");
    }
}
