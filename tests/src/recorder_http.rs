//! As much of HTTP/1.1 as a test's server and client need: one request and one reply for each connection.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use serde_json::Value;

/// One request as it arrived. Header names in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path with what follows it.
    pub path: String,
    /// The headers.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl Request {
    /// The value of the header that names the effect; empty when there is none.
    #[must_use]
    pub fn key(&self) -> &str {
        self.headers.get("idempotency-key").map_or("", String::as_str)
    }
}

/// Reads one request.
///
/// # Errors
/// The connection broke, or this is not HTTP.
pub(crate) fn read(stream: &mut impl BufRead) -> io::Result<Request> {
    let first = line(stream)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut headers = BTreeMap::new();
    loop {
        let line = line(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(Ok(0), |length| length.parse::<u64>());
    let mut body = String::new();
    let length = length.map_err(io::Error::other)?;
    if stream.take(length).read_to_string(&mut body)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Request { method, path, headers, body })
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

/// Writes a reply and ends the connection.
pub(crate) fn write(stream: &mut TcpStream, status: u16, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close"
    );
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes())?;
    stream.flush()?;
    stream.shutdown(Shutdown::Write)
}
