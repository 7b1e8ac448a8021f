//! A small HTTP/1.1 server on the loopback: records every request, and answers, drops or hangs as told.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// One request as it arrived. Header names in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A status and a JSON body.
    Json(u16, Value),
    /// The same with more headers.
    With(u16, &'static [(&'static str, &'static str)], Value),
    /// These bytes, then the end.
    Raw(Vec<u8>),
    /// These bytes, and then neither more nor the end.
    Stuck(Vec<u8>),
    /// The connection is closed without an answer.
    Drop,
    /// No answer, and the connection stays.
    Hang,
}

type Script = dyn Fn(&Seen) -> Answer + Send + Sync;

/// Runs until stopped or dropped.
pub(crate) struct Server {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    arrived: watch::Receiver<usize>,
    task: JoinSet<()>,
}

impl Server {
    pub async fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (counted, arrived) = watch::channel(0);
        let mut task = JoinSet::new();
        task.spawn({
            let seen = seen.clone();
            let script: Arc<Script> = Arc::new(script);
            async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let (seen, script, counted) = (seen.clone(), script.clone(), counted.clone());
                    connections.spawn(async move {
                        let record = |request: &Seen| {
                            seen.lock().unwrap().push(request.clone());
                            counted.send_modify(|count| *count += 1);
                            script(request)
                        };
                        let _ = serve(stream, record).await;
                    });
                }
            }
        });
        Self { port, seen, arrived, task }
    }

    /// Closes its port: once this is done, connections are refused.
    pub async fn stop(mut self) {
        self.task.shutdown().await;
    }

    /// Every request so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests of this method arrived.
    pub fn count(&self, method: &str) -> usize {
        self.seen().iter().filter(|request| request.method == method).count()
    }

    /// Waits until `count` requests have arrived in all.
    pub async fn arrived(&self, count: usize) {
        self.arrived.clone().wait_for(|arrived| *arrived >= count).await.unwrap();
    }
}

/// Reads one request from `stream` and does with it what `script` says.
pub(crate) async fn serve<S>(stream: S, script: impl FnOnce(&Seen) -> Answer) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = BufReader::new(stream);
    let request = read(&mut stream).await?;
    let bytes = match script(&request) {
        Answer::Json(status, body) => reply(status, &[], &body),
        Answer::With(status, headers, body) => reply(status, headers, &body),
        Answer::Raw(bytes) => bytes,
        Answer::Stuck(bytes) => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            return std::future::pending().await;
        }
        Answer::Drop => return Ok(()),
        Answer::Hang => return std::future::pending().await,
    };
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}

fn reply(status: u16, headers: &[(&str, &str)], body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{more}\r\n{body}", body.len()).into_bytes()
}

async fn read(stream: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut first = lines[0].split(' ');
    let (method, path) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers: BTreeMap<String, String> = lines[1..]
        .iter()
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Seen { method, path, headers, body: String::from_utf8(body).unwrap() })
}
