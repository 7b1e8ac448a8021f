//! Real processes: where a program lies, and how one ran.

use std::error::Error;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The signal that no process can catch.
pub const SIGKILL: i32 = 9;

/// A program of the workspace that a test starts.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    /// The binary of a package, by that package's name.
    Binary(&'static str),
    /// An example of this package.
    Example(&'static str),
}

impl Program {
    /// Where it lies, beside the test that runs. A plain `cargo test` builds it first. With `--test` cargo leaves it
    /// alone: it is built here when it is missing, and may be older than the sources when it is not.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn path(self) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
        // Tests of one process ask at the same time; the first one builds.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock();
        let own = std::env::current_exe()?;
        let profile = own.ancestors().nth(2).ok_or("a test lies in target/profile/deps")?;
        let name = match self {
            Self::Binary(name) => name.to_owned(),
            Self::Example(name) => format!("examples/{name}"),
        };
        let path = profile.join(name);
        if path.exists() {
            return Ok(path);
        }
        let target = profile.parent().ok_or("a profile lies in a target folder")?;
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
        build.args(["build", "--quiet", "--target-dir"]).arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
        match self {
            Self::Binary(package) => build.args(["--package", package]),
            Self::Example(example) => build.args(["--package", "redress-tests", "--example", example]),
        };
        if profile.file_name() == Some(OsStr::new("release")) {
            build.arg("--release");
        }
        let built = build.status()?;
        if built.success() && path.exists() {
            return Ok(path);
        }
        Err(format!("{} could not be built: {built}", path.display()).into())
    }
}

/// A process whose lines are read as they come. Dropped, it is killed.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
}

/// How a process ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// The lines it printed that were not read before.
    pub lines: Vec<String>,
    /// What it said on standard error.
    pub errors: String,
}

impl Ended {
    /// Whether it was killed.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(SIGKILL)
    }

    /// Its last line.
    #[must_use]
    pub fn last(&self) -> &str {
        self.lines.last().map_or("", String::as_str)
    }
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> std::io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (tell, lines) = channel();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if tell.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let errors = child.stderr.take().map(|mut output| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = output.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        });
        Ok(Self { child, lines, errors })
    }

    /// The next line it prints; `None`: it prints no more.
    ///
    /// # Errors
    /// When none came within the limit.
    pub fn line(&self, limit: Duration) -> Result<Option<String>, RecvTimeoutError> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(error @ RecvTimeoutError::Timeout) => Err(error),
        }
    }

    /// Kills it, if it still runs, and says how it ended.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(mut self) -> std::io::Result<Ended> {
        self.child.kill()?;
        self.ended(Vec::new())
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it printed nothing and did not end within the limit.
    pub fn wait(mut self, limit: Duration) -> std::io::Result<Ended> {
        let mut lines = Vec::new();
        loop {
            match self.line(limit) {
                Ok(Some(line)) => lines.push(line),
                Ok(None) => return self.ended(lines),
                Err(_) => {
                    self.child.kill()?;
                    let Ended { lines, errors, .. } = self.ended(lines)?;
                    let what = format!("it hung; it had printed {lines:#?} and said {errors}");
                    return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, what));
                }
            }
        }
    }

    fn ended(&mut self, mut lines: Vec<String>) -> std::io::Result<Ended> {
        let status = self.child.wait()?;
        lines.extend(self.lines.iter());
        let errors = self.errors.take().and_then(|reading| reading.join().ok()).unwrap_or_default();
        Ok(Ended { status, lines, errors })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
