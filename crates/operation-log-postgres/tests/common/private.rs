//! A Postgres server of a test's own, in a temporary folder, on a free port.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Stopped when dropped.
pub struct Server {
    folder: TempDir,
    port: u16,
}

impl Server {
    /// Starts one with these lines in its configuration.
    pub fn start(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let this = Self { folder, port };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(this.folder.path()));
        }
        let data = this.data();
        run(this
            .program("initdb")
            .args(["-A", "trust", "-U", "redress", "-E", "UTF8", "--no-locale", "-D"])
            .arg(&data));
        let config = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n{lines}\n",
            this.folder.path().display()
        );
        let file = data.join("postgresql.conf");
        let mut all = std::fs::read_to_string(&file).unwrap();
        all.push_str(&config);
        std::fs::write(&file, all).unwrap();
        this.ctl(&["start"]);
        this
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self) -> String {
        format!("postgres://redress@127.0.0.1:{}/postgres", self.port)
    }

    /// `pg_ctl` with these arguments; waits until it is done.
    pub fn ctl(&self, args: &[&str]) {
        let (data, log) = (self.data(), self.folder.path().join("log"));
        run(self.program("pg_ctl").arg("-D").arg(data).arg("-l").arg(log).arg("-w").args(args));
    }

    /// Gives a file to the user that the server runs as.
    pub fn give(&self, file: &Path) {
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(file));
        }
        run(Command::new("chmod").arg("600").arg(file));
    }

    fn program(&self, name: &str) -> Command {
        let program = binaries().join(name);
        if is_root() {
            // The server refuses to run as root.
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program).current_dir(self.folder.path());
            return command;
        }
        let mut command = Command::new(program);
        command.current_dir(self.folder.path());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.program("pg_ctl").arg("-D").arg(self.data()).args(["-m", "immediate", "stop"]).output();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

/// The folder of `initdb`: `TEST_POSTGRES_BIN`, or the newest that Debian installed, or wherever `PATH` finds it.
fn binaries() -> PathBuf {
    if let Some(given) = std::env::var_os("TEST_POSTGRES_BIN") {
        return given.into();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    found.max().unwrap_or_default()
}
