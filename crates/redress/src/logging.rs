//! What is said on standard error: errors, and with `-v` what the engine logs.

use std::io::{self, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::text::escape;

/// The live lines on the terminal, once there are some: whatever else is printed must go around them.
static LIVE: OnceLock<MultiProgress> = OnceLock::new();

/// Starts logging: warnings by default, more with each `-v`.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // It repeats parameters of a URL that it does not know: `sslpassword`, or the half of a password.
    let quiet = ("sqlx_postgres::options", LevelFilter::OFF);
    let shown = Targets::new().with_default(level).with_targets([quiet]);
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| Around);
    let started = tracing_subscriber::registry().with(lines.with_filter(shown)).try_init();
    // Only a second start fails, and then there is a logger.
    drop(started);
}

/// From now on lines are printed above these.
pub(crate) fn print_around(live: &MultiProgress) {
    // Only the first display counts; there is one per process.
    let _ = LIVE.set(live.clone());
}

/// One line on standard error; what others wrote in it cannot do anything to the terminal.
pub(crate) fn to_stderr(line: &str) {
    // Nobody can be told that standard error is closed.
    let _ = Around.write_all(format!("{line}\n").as_bytes());
}

struct Around;

impl Write for Around {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let shown: String = String::from_utf8_lossy(bytes)
            .split_inclusive('\n')
            .map(|line| match line.strip_suffix('\n') {
                Some(line) => format!("{}\n", escape(line)),
                None => escape(line).into_owned(),
            })
            .collect();
        let print = || io::stderr().write_all(shown.as_bytes());
        match LIVE.get() {
            Some(live) => live.suspend(print)?,
            None => print()?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
