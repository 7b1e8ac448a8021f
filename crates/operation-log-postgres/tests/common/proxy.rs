//! Stands between a log and its server, and breaks the connection in the ways a network can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is done to the connections.
#[derive(Default)]
pub struct Faults {
    /// Nothing goes through any more, and nothing is closed.
    pub silent: AtomicBool,
    /// The next commit does not arrive: its connection is cut instead.
    pub cut_commit: AtomicBool,
}

pub struct Proxy {
    pub faults: Arc<Faults>,
    port: u16,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Before the server of this URL, which names its host and port.
    pub async fn before(server: &str) -> (Self, String) {
        let (user, rest) = server.split_once('@').unwrap();
        let (address, database) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let faults = Arc::new(Faults::default());
        let task = tokio::spawn(accept(listener, address.to_owned(), Arc::clone(&faults)));
        let this = Self { faults, port, task };
        let url = format!("{user}@127.0.0.1:{}/{database}", this.port);
        (this, url)
    }
}

async fn accept(listener: TcpListener, address: String, faults: Arc<Faults>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        tokio::spawn(carry(client, address.clone(), Arc::clone(&faults)));
    }
}

/// Carries what both say until one of them ends.
async fn carry(mut client: TcpStream, address: String, faults: Arc<Faults>) {
    let mut server = TcpStream::connect(address).await.unwrap();
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        let done = tokio::select! {
            read = client.read(&mut asked) => match read {
                Ok(read @ 1..) => {
                    silence(&faults).await;
                    let is_commit = asked[..read].windows(7).any(|window| window == b"commit\0");
                    if is_commit && faults.cut_commit.swap(false, Ordering::SeqCst) {
                        return;
                    }
                    server.write_all(&asked[..read]).await
                }
                Ok(0) | Err(_) => return,
            },
            read = server.read(&mut answered) => match read {
                Ok(read @ 1..) => {
                    silence(&faults).await;
                    client.write_all(&answered[..read]).await
                }
                Ok(0) | Err(_) => return,
            },
        };
        if done.is_err() {
            return;
        }
    }
}

/// For ever, where nothing goes through.
async fn silence(faults: &Faults) {
    if faults.silent.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}
