//! Servers of a test's own: real processes on free ports of the loopback, each with a folder of its own. Dropped, they
//! are stopped and their files are gone.
//!
//! [`Postgres`] can be crashed and started again; [`redis`] and every other server is a [`Process`]. All of it
//! blocks: start them before the runtime has other work, or on a thread for it.

mod postgres;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

pub use self::postgres::{Postgres, postgres_programs};
use crate::until::until;

/// How long a server may take to start.
const LIMIT: Duration = Duration::from_secs(60);

/// An address of the loopback that nobody listens on.
///
/// # Errors
/// When there is none.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A Redis with nothing in it, at this address, with these further options.
///
/// # Errors
/// When it does not start.
pub fn redis(address: SocketAddr, options: &[&str]) -> io::Result<Process> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &address.port().to_string(), "--bind", &address.ip().to_string()])
        .args(["--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(folder.path())
        .args(options);
    Process::start(command, address, folder)
}

/// A server as a process, killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Process {
    /// Runs the command and waits until it listens on this address. What it prints goes to a file in `folder`.
    ///
    /// # Errors
    /// When it cannot be run, ends, or does not listen in time; with what it printed.
    pub fn start(mut command: Command, address: SocketAddr, folder: TempDir) -> io::Result<Self> {
        let log = std::fs::File::create(folder.path().join("log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.map_err(|error| io::Error::other(format!("{command:?}: {error}")))?;
        let mut process = Self { child, address, folder };
        let listens = until(LIMIT, "somebody listens", || {
            if let Some(status) = process.child.try_wait()? {
                return Ok(Some(Err(format!("it ended with {status}"))));
            }
            Ok(TcpStream::connect(address).is_ok().then_some(Ok(())))
        });
        match listens {
            Ok(Ok(())) => Ok(process),
            Ok(Err(ended)) => Err(process.did_not_start(&command, &ended)),
            Err(missed) => Err(process.did_not_start(&command, &missed.to_string())),
        }
    }

    fn did_not_start(&self, command: &Command, why: &str) -> io::Error {
        io::Error::other(format!("{command:?} did not start, {why}: {}", self.said()))
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has printed so far.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Sends it a signal, by name.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        run(Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()))
    }

    /// Asks it to stop, and waits. Answers what it had printed, when it ended well.
    ///
    /// # Errors
    /// When it ended otherwise.
    pub fn stop(mut self) -> io::Result<String> {
        self.signal("TERM")?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(self.said())
        } else {
            Err(io::Error::other(format!("{status}: {}", self.said())))
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command that ends by itself; its output is for the failure.
fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| io::Error::other(format!("{command:?}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(io::Error::other(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&said))))
}
