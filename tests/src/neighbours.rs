//! The neighbours that a service has, as real processes of a test's own: Redis and Alertmanager; and as much of their
//! languages as a test needs to ask them. Postgres is in [`crate::postgres`].

#![allow(clippy::disallowed_methods, reason = "real processes know nothing of a paused clock")]

use std::error::Error;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a neighbour may take to start, and any answer.
const LIMIT: Duration = Duration::from_secs(30);

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// An address of the loopback that nobody listens on.
///
/// # Errors
/// When there is none.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A process that is killed when dropped, and its folder with it.
#[derive(Debug)]
pub struct Neighbour {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Neighbour {
    /// A Redis with nothing in it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn redis() -> Outcome<Self> {
        Self::redis_at(free_address()?)
    }

    /// A Redis with nothing in it, where one was before.
    ///
    /// # Errors
    /// When it does not start.
    pub fn redis_at(address: SocketAddr) -> Outcome<Self> {
        let folder = folder()?;
        let mut command = Command::new("redis-server");
        command.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]);
        command.arg(&folder);
        Self::start(command, address, folder)
    }

    /// An Alertmanager with this configuration. `peers`: the cluster addresses, its own first.
    ///
    /// # Errors
    /// When it does not start.
    pub fn alertmanager(configuration: &str, peers: &[SocketAddr]) -> Outcome<Self> {
        Self::alertmanager_at(free_address()?, configuration, peers)
    }

    /// An Alertmanager at an address that was chosen before.
    ///
    /// # Errors
    /// When it does not start.
    pub fn alertmanager_at(address: SocketAddr, configuration: &str, peers: &[SocketAddr]) -> Outcome<Self> {
        let program =
            std::env::var_os("TEST_ALERTMANAGER").ok_or("TEST_ALERTMANAGER is not set: use ./test")?;
        let folder = folder()?;
        let file = folder.join("alertmanager.yml");
        std::fs::write(&file, configuration)?;
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", folder.display()))
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
        Self::start(command, address, folder)
    }

    /// Any server that listens on this address once it is there.
    ///
    /// # Errors
    /// When it does not start.
    pub fn server(command: Command, address: SocketAddr) -> Outcome<Self> {
        Self::start(command, address, folder()?)
    }

    fn start(mut command: Command, address: SocketAddr, folder: PathBuf) -> Outcome<Self> {
        let log = std::fs::File::create(folder.join("log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.map_err(|error| format!("{command:?}: {error}"))?;
        let mut neighbour = Self { child, address, folder };
        let until = Instant::now() + LIMIT;
        while TcpStream::connect(address).is_err() {
            if neighbour.child.try_wait()?.is_some() || Instant::now() > until {
                return Err(format!("{command:?} did not start: {}", neighbour.said()).into());
            }
            std::thread::yield_now();
        }
        Ok(neighbour)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has printed so far.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Sends it a signal, by name.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, name: &str) -> Outcome {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err(format!("SIG{name} could not be sent").into()) }
    }

    /// Asks it to stop, and waits. Answers what it had printed, when it ended well.
    ///
    /// # Errors
    /// When it ended otherwise.
    pub fn stop(mut self) -> Outcome<String> {
        self.signal("TERM")?;
        let status = self.child.wait()?;
        if status.success() { Ok(self.said()) } else { Err(format!("{status}: {}", self.said()).into()) }
    }

    /// Kills it, as `kill -9` does.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn folder() -> io::Result<PathBuf> {
    let output = Command::new("mktemp").arg("-d").output()?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
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
    let bin = std::env::var_os("TEST_POSTGRES_BIN").ok_or("TEST_POSTGRES_BIN is not set: use ./test")?;
    let output = Command::new(PathBuf::from(bin).join("psql"))
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, url])
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(format!("{sql}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Looks until there is something to see, as one must across processes.
///
/// # Errors
/// When there was nothing within the limit, with what was missed and the last error.
pub fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let end = Instant::now() + limit;
    loop {
        let seen = look();
        if let Ok(Some(seen)) = seen {
            return Ok(seen);
        }
        if Instant::now() > end {
            let last = seen.err().map(|error| format!("; at last: {error}")).unwrap_or_default();
            return Err(format!("not seen within {limit:?}: {what}{last}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
