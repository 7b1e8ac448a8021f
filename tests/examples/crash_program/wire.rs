//! Points on the wire: between a server's work and the moment when this process hears of it.
//!
//! What the persistence step sends to Postgres and to Redis goes through a forwarder of this process, which passes a
//! point before it sends on what matters (a commit, a script) and one before it hands back the answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::points::Points;

/// What matters on a connection, and what its points are called.
#[derive(Clone, Copy)]
pub struct Matter {
    /// The name.
    pub name: &'static str,
    /// How it is known. It must come in one piece, which small messages on the loopback do.
    pub bytes: &'static [u8],
}

/// The end of a transaction, in Postgres' own protocol.
pub const COMMIT: Matter = Matter { name: "commit", bytes: b"COMMIT\0" };
/// A script, in that of Redis.
pub const SCRIPT: Matter = Matter { name: "script", bytes: b"EVAL\r\n" };

/// The same URL, through a forwarder. It must name an address, and no encryption.
pub async fn through(
    url: &str,
    points: &Points,
    matter: Matter,
) -> Result<String, Box<dyn std::error::Error>> {
    let (_, rest) = url.split_once("://").ok_or("a URL has a ://")?;
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let forwarder = forward(host.parse()?, points.clone(), matter).await?;
    Ok(url.replacen(host, &forwarder.to_string(), 1))
}

async fn forward(to: SocketAddr, points: Points, matter: Matter) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let count = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (points, count) = (points.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                // A connection that breaks is broken for both sides; who made it notices.
                let _ = connection(client, to, &points, matter, &count).await;
            });
        }
    });
    Ok(address)
}

async fn connection(
    mut client: TcpStream,
    to: SocketAddr,
    points: &Points,
    matter: Matter,
    count: &AtomicU64,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut waiting = None;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let request = asked.get(..read?).unwrap_or_default();
                if request.is_empty() {
                    return Ok(());
                }
                if request.windows(matter.bytes.len()).any(|bytes| bytes == matter.bytes) {
                    let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                    points.pass(&format!("before {} {number}", matter.name));
                    waiting = Some(number);
                }
                server.write_all(request).await?;
            }
            read = server.read(&mut answered) => {
                let answer = answered.get(..read?).unwrap_or_default();
                if answer.is_empty() {
                    return Ok(());
                }
                if let Some(number) = waiting.take() {
                    points.pass(&format!("after {} {number}", matter.name));
                }
                client.write_all(answer).await?;
            }
        }
    }
}
