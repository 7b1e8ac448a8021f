//! A small HTTP/1.1 client: it writes what it is told, and reads one answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::openapi;

/// A request.
#[derive(Clone)]
pub struct Ask {
    pub method: &'static str,
    pub path: String,
    headers: String,
    body: Option<Vec<u8>>,
}

impl Ask {
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: String::new(), body: None }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: impl Into<String>, body: impl AsRef<[u8]>) -> Self {
        Self { body: Some(body.as_ref().to_vec()), ..Self::new("POST", path) }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// The whole request as it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let length = match &self.body {
            Some(body) => format!("content-length: {}\r\n", body.len()),
            None => String::new(),
        };
        let (method, path, headers) = (self.method, &self.path, &self.headers);
        let mut bytes =
            format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{headers}{length}\r\n").into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// An answer. Header names in lower case; values of one name in their order.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, Vec<String>>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// The error's code; the body must have the form of every error.
    pub fn code(&self) -> String {
        let json = self.json();
        let error = &json["error"];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{json}");
        assert!(error["details"].is_object(), "{json}");
        assert_eq!(error.as_object().unwrap().len(), 3, "{json}");
        error["code"].as_str().unwrap().to_owned()
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

/// One connection.
pub struct Connection(pub BufReader<TcpStream>);

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, ask: &Ask) -> Answer {
        self.write(&ask.bytes()).await;
        let answer = self.answer(ask.method == "HEAD").await;
        check(ask, &answer);
        answer
    }

    /// Reads one answer; `head`: it has no body, whatever its length says.
    pub async fn answer(&mut self, head: bool) -> Answer {
        let first = self.line().await;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {first:?}"));
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.entry(name.to_ascii_lowercase()).or_default().push(value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length[0].parse().unwrap());
        let mut body = vec![0; if head { 0 } else { length }];
        self.0.read_exact(&mut body).await.unwrap();
        Answer { status, headers, body: String::from_utf8(body).unwrap() }
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    /// Whether the other side has closed it, having sent nothing more.
    pub async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.is_err() || rest.is_empty()
    }
}

/// What holds of every answer.
fn check(ask: &Ask, answer: &Answer) {
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json", "{answer:?}");
    assert!(!answer.header("x-request-id").is_empty(), "{answer:?}");
    if answer.status == 503 && answer.body.contains("\"error\"") {
        assert_eq!(answer.header("retry-after"), "1", "{answer:?}");
    }
    openapi::check(ask.method, &ask.path, answer);
}
