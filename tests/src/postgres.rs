//! [`Server`]: a private Postgres that a test may stop and start. Nobody else uses it.

#![allow(clippy::disallowed_methods, reason = "real processes know nothing of a paused clock")]

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start or a stop may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A running server on a free port of the loopback. Dropped, it is stopped and its files are gone.
#[derive(Debug)]
pub struct Server {
    bin: PathBuf,
    folder: PathBuf,
    user: Option<String>,
    port: u16,
}

impl Server {
    /// Makes an empty cluster and starts it. The programs are those of `TEST_POSTGRES_BIN`, which `./test` sets.
    ///
    /// # Errors
    /// When there are none, or the server does not start.
    pub fn start() -> Result<Self, Box<dyn Error + Send + Sync>> {
        let bin = std::env::var_os("TEST_POSTGRES_BIN").map(PathBuf::from);
        let bin = bin.ok_or("TEST_POSTGRES_BIN is not set: run the tests with ./test")?;
        let folder =
            PathBuf::from(text(Command::new("mktemp").args(["-d", "/tmp/redress-postgres.XXXXXX"]))?);
        // Postgres refuses to run as root.
        let root = std::fs::metadata("/proc/self")?.uid() == 0;
        let user = root.then(|| if exists("postgres") { "postgres" } else { "nobody" }.to_owned());
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let server = Self { bin, folder, user, port };
        if let Some(user) = &server.user {
            run(Command::new("chown").arg(user).arg(&server.folder))?;
        }
        let mut initdb = server.command("initdb");
        run(initdb.args(["-U", "redress", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]))?;
        server.up()?;
        Ok(server)
    }

    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://redress@127.0.0.1:{}/postgres", self.port)
    }

    /// Stops it as a crash does: no checkpoint, every connection cut.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn crash(&self) -> io::Result<()> {
        run(self.command("pg_ctl").args(["stop", "-m", "immediate", "-w"]))
    }

    /// Starts it, recovering what was committed.
    ///
    /// # Errors
    /// When it does not start.
    pub fn up(&self) -> io::Result<()> {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c max_connections=300",
            self.port,
            self.folder.display()
        );
        let log = self.folder.join("log");
        run(self.command("pg_ctl").args(["start", "-w", "-o", &options, "-l"]).arg(log))?;
        let until = Instant::now() + LIMIT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if Instant::now() > until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = match &self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid", user, "--regid", user_group(user), "--clear-groups", "--"])
                    .arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("-D").arg(self.data()).current_dir("/");
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be down already.
        let _ = self.crash();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The group of a system user that stands in for root: the one of its own name, or `nogroup`.
fn user_group(user: &str) -> &str {
    if user == "nobody" { "nogroup" } else { user }
}

fn exists(user: &str) -> bool {
    let found = Command::new("id").args(["-u", user]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> io::Result<()> {
    // What pg_ctl starts keeps its output open: only files do not make us wait for it.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?} ended with {status}"))) }
}

fn text(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A folder below a private one, for whoever needs files that go away with the server.
impl AsRef<Path> for Server {
    fn as_ref(&self) -> &Path {
        &self.folder
    }
}
