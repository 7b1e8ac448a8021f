//! What a test asks of the neighbours that a service has: an Alertmanager of its own, and as much of the languages of
//! HTTP, Redis and Postgres as it needs. Those two as servers are in [`redress_testkit::servers`].

use std::error::Error;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use redress_testkit::servers::{Process, postgres_programs};
use serde_json::Value;

/// How long any answer may take.
const LIMIT: Duration = Duration::from_secs(30);

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The alert tables as somebody else makes them, with nothing of ours.
pub const ALERT_TABLES: &str = "
create table alert_issues (id varchar(64) primary key, state varchar(16) not null, level varchar(32) not null,
    alert_state varchar(16) not null, title varchar(255) not null, labels json not null,
    alert_since timestamp(6) not null);
create index on alert_issues (state, level, alert_since);
create index on alert_issues (alert_state, alert_since);
create table alert_issue_comments (issue_id varchar(64) not null references alert_issues (id),
    create_at timestamp(6) not null, content text not null, primary key (issue_id, create_at));
create table service_states (service varchar(255) not null, version varchar(255) not null,
    report_at timestamp(6), resolved_at timestamp(6), health_state varchar(16), alert_issue_ids text[],
    primary key (service, version));
";

/// An Alertmanager with this configuration. `peers`: the cluster addresses, its own first.
///
/// # Errors
/// When it does not start.
pub fn alertmanager(address: SocketAddr, configuration: &str, peers: &[SocketAddr]) -> Outcome<Process> {
    let program = std::env::var_os("TEST_ALERTMANAGER").ok_or("TEST_ALERTMANAGER is not set: use ./test")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("alertmanager.yml");
    std::fs::write(&file, configuration)?;
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.path={}", folder.path().display()))
        .arg(format!("--web.listen-address={address}"));
    match peers {
        [] => {
            command.arg("--cluster.listen-address=");
        }
        [own, others @ ..] => {
            command.arg(format!("--cluster.listen-address={own}")).arg("--cluster.peer-timeout=0s");
            command.args(["--cluster.settle-timeout=0s", "--cluster.gossip-interval=50ms"]);
            command.args(others.iter().map(|peer| format!("--cluster.peer={peer}")));
        }
    }
    Ok(Process::start(command, address, folder)?)
}

/// A request, and its answer's status and body: JSON, or `Null` when it is none.
///
/// # Errors
/// When the connection broke.
pub fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    // In HTTP/1.0 an answer ends with its connection, and is never sent in chunks.
    let mut text =
        format!("{method} {path} HTTP/1.0\r\nhost: {address}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{text}\r\n{body}").as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, serde_json::from_str(body).unwrap_or_default()))
}

/// A connection to Redis.
#[derive(Debug)]
pub struct Redis(BufReader<TcpStream>);

impl Redis {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a command; its answer, arrays as arrays.
    ///
    /// # Errors
    /// When Redis refuses it, or the connection broke.
    pub fn ask(&mut self, words: &[&str]) -> io::Result<Value> {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(text.as_bytes())?;
        self.answer()
    }

    /// The next line that it sends by itself, as `MONITOR` does.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn answer(&mut self) -> io::Result<Value> {
        let line = self.line()?;
        let number =
            || line.get(1..).and_then(|text| text.parse::<i64>().ok()).ok_or(io::ErrorKind::InvalidData);
        match line.get(..1) {
            Some("+") => Ok(line[1..].into()),
            Some(":") => Ok(number()?.into()),
            Some("$") => {
                let Ok(length) = usize::try_from(number()?) else { return Ok(Value::Null) };
                let mut bytes = vec![0; length + 2];
                self.0.read_exact(&mut bytes)?;
                Ok(String::from_utf8_lossy(&bytes[..length]).into())
            }
            Some("*") => {
                (0..number()?).map(|_| self.answer()).collect::<io::Result<Vec<_>>>().map(Into::into)
            }
            _ => Err(io::Error::other(line)),
        }
    }
}

/// Runs SQL with `psql`: the rows of its answer, columns separated by `|`.
///
/// # Errors
/// When Postgres refuses it.
pub fn psql(url: &str, sql: &str) -> Outcome<Vec<String>> {
    let output = Command::new(postgres_programs()?.join("psql"))
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, url])
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(format!("{sql}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}
