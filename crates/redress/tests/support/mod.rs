//! Runs the real binary in a folder of its own, and makes its output comparable.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that cannot go on fails its test")]

pub mod database;
pub mod target;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A folder with its database, and the binary run in it.
pub struct Place {
    folder: tempfile::TempDir,
}

/// What a command did.
pub struct Done {
    /// The exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    /// Both streams, for a failure message.
    pub fn all(&self) -> String {
        format!("exit {:?}\n--- out\n{}--- err\n{}", self.code, self.out, self.err)
    }

    /// Fails unless it ended so.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.all());
        self
    }

    /// Every line of output as JSON.
    pub fn json(&self) -> Vec<serde_json::Value> {
        let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.out.lines().map(read).collect()
    }
}

pub fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/alerts");
    root.join(name).display().to_string()
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), text).unwrap();
        name.to_owned()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redress"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("REDRESS_") || text.starts_with("REMEDIATION_") || text == "DATABASE_URL" {
                command.env_remove(&name);
            }
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        done(self.command(arguments))
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Done {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that refuses its arguments does not read; that is not this helper's fault.
        let _ = child.stdin.take().unwrap().write_all(input);
        from(child.wait_with_output().unwrap())
    }

    /// Starts a command and waits until its output has a line with this text.
    pub fn start_until(&self, arguments: &[&str], text: &str) -> Started {
        self.started_until(self.command(arguments), text)
    }

    /// Starts a command that was put together before.
    pub fn started_until(&self, mut command: Command, text: &str) -> Started {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut started = Started { child, out };
        started.wait_for(text);
        started
    }
}

/// A command under way; killed when dropped.
pub struct Started {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Started {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads its output up to a line with this text; answers that line.
    pub fn wait_for(&mut self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            let read = self.out.read_line(&mut line).unwrap();
            assert!(read > 0, "it ended without {text:?}:\n{seen}");
            if line.contains(text) {
                return line;
            }
            seen.push_str(&line);
        }
    }

    /// SIGKILL: no chance to put anything in order.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.pid())).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end; answers what was not read yet.
    pub fn end(mut self) -> Done {
        let mut out = String::new();
        std::io::Read::read_to_string(&mut self.out, &mut out).unwrap();
        let mut err = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut err).unwrap();
        Done { code: self.child.wait().unwrap().code(), out, err }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn done(mut command: Command) -> Done {
    from(command.output().unwrap())
}

fn from(output: std::process::Output) -> Done {
    Done {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The text with everything replaced that differs from run to run: names, ids, hashes, times, durations.
pub fn normal(text: &str) -> String {
    // Commands that are shown name the program as it was called.
    let text = text.replace(env!("CARGO_BIN_EXE_redress"), "redress");
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars() {
        if " \n(),;".contains(c) {
            out.push_str(&normal_word(&word));
            word.clear();
            out.push(c);
        } else {
            word.push(c);
        }
    }
    out.push_str(&normal_word(&word));
    out
}

fn normal_word(word: &str) -> String {
    let shape: String = word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let hex = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit());
    let (bare, sign) = word.split_at(word.trim_end_matches(['.', ':']).len());
    if bare.starts_with("rr-") && bare.len() == 24 {
        return format!("rr-NAME{sign}");
    }
    if bare.len() == 36 && bare.split('-').count() == 5 && bare.split('-').all(hex) {
        return format!("UUID{sign}");
    }
    if let Some((number, hash)) = word.split_once(':')
        && hash.len() == 64
        && hex(hash)
    {
        return format!("{number}:HASH");
    }
    let took = shape.strip_suffix("ms").or_else(|| shape.strip_suffix('s'));
    if took.is_some_and(|n| !n.is_empty() && n.chars().all(|c| c == '0' || c == '.')) {
        return "TOOK".to_owned();
    }
    match shape.as_str() {
        "0000-00-00" => "DATE".to_owned(),
        "00:00:00" | "00:00:00Z" => "CLOCK".to_owned(),
        _ => word.to_owned(),
    }
}
