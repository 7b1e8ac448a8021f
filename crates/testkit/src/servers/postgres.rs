//! [`Postgres`]: a cluster of a test's own, which nobody else uses.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{free_address, run};

/// A running server. Dropped, it is stopped and its files are gone.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    user: Option<User>,
    port: u16,
    folder: TempDir,
}

/// Who runs the server in the place of root, whom it refuses.
#[derive(Debug)]
struct User {
    name: &'static str,
    group: String,
}

impl Postgres {
    /// Makes an empty cluster, whose superuser is `redress` without a password, and starts it.
    ///
    /// # Errors
    /// When there are no programs for it, or it does not start.
    pub fn start() -> io::Result<Self> {
        Self::start_with("")
    }

    /// As [`start`](Self::start), with these lines in `postgresql.conf`.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(lines: &str) -> io::Result<Self> {
        let (folder, user) = (tempfile::tempdir()?, User::instead_of_root()?);
        let mut server = Self { programs: postgres_programs()?, user, port: 0, folder };
        server.give(server.folder())?;
        let mut initdb = server.command("initdb");
        run(initdb.args(["-U", "redress", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]))?;
        // No socket beside the port: its path may be longer than the system allows.
        server.configure(&format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 300\n{lines}"
        ))?;
        let mut tries = 0;
        loop {
            tries += 1;
            server.port = free_address()?.port();
            server.configure(&format!("port = {}", server.port))?;
            match server.up() {
                // Somebody else may have taken the port meanwhile.
                Err(_) if tries < 5 => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(server),
            }
        }
    }

    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://redress@127.0.0.1:{}/postgres", self.port)
    }

    /// Adds lines to `postgresql.conf`; they count from the next start.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn configure(&self, lines: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.data().join("postgresql.conf"))?;
        file.write_all(format!("{lines}\n").as_bytes())
    }

    /// Stops it as a crash does: no checkpoint, every connection cut.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn crash(&self) -> io::Result<()> {
        self.ctl(&["-m", "immediate", "stop"])
    }

    /// Starts it, recovering what was committed.
    ///
    /// # Errors
    /// When it does not start.
    pub fn up(&self) -> io::Result<()> {
        self.ctl(&["start"])
    }

    /// `pg_ctl` with these arguments; waits until it is done.
    ///
    /// # Errors
    /// When it fails.
    pub fn ctl(&self, arguments: &[&str]) -> io::Result<()> {
        // A server without a log file of its own would keep our end of the output open.
        run(self.command("pg_ctl").arg("-w").arg("-l").arg(self.folder().join("log")).args(arguments))
    }

    /// Gives a file to the user that the server runs as, and to nobody else.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn give(&self, file: &Path) -> io::Result<()> {
        if let Some(user) = &self.user {
            run(Command::new("chown").arg(user.name).arg(file))?;
        }
        run(Command::new("chmod").arg("go=").arg(file))
    }

    /// The folder of the cluster.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// A folder for files that go away with the server.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A program that works on the cluster, as the user that may.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match &self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid", user.name, "--regid", &user.group, "--clear-groups", "--"])
                    .arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("-D").arg(self.data()).current_dir(self.folder());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It may be down already.
        let _ = self.crash();
    }
}

impl User {
    /// `None`: this process is not root's.
    fn instead_of_root() -> io::Result<Option<Self>> {
        if std::fs::metadata("/proc/self")?.uid() != 0 {
            return Ok(None);
        }
        let group = |name| {
            let output = Command::new("id").args(["-g", name]).output()?;
            let group = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if output.status.success() { Ok(group) } else { Err(io::Error::other(format!("no user {name}"))) }
        };
        let (name, group) = match group("postgres") {
            Ok(group) => ("postgres", group),
            Err(_) => ("nobody", group("nobody")?),
        };
        Ok(Some(Self { name, group }))
    }
}

/// The folder of `initdb`, `pg_ctl` and `psql`: `TEST_POSTGRES_BIN`, which `./test` sets; else the newest that Debian's
/// packages have installed.
///
/// # Errors
/// When there is none.
pub fn postgres_programs() -> io::Result<PathBuf> {
    if let Some(given) = std::env::var_os("TEST_POSTGRES_BIN").filter(|given| !given.is_empty()) {
        return Ok(given.into());
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.filter(|version| version.path().join("bin/initdb").exists());
    let newest = found.max_by_key(|version| number(&version.file_name()));
    let newest =
        newest.ok_or_else(|| io::Error::other("no Postgres is installed: run the tests with ./test"))?;
    Ok(newest.path().join("bin"))
}

/// Versions are compared as numbers: 9 comes before 15.
fn number(version: &OsStr) -> u32 {
    version.to_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}
