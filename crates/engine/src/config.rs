//! [`Config`]: the engine's own bounds. There is one for everything.

use std::time::Duration;

/// The engine's own bounds. The defaults suit one machine.
#[derive(Clone, Debug)]
pub struct Config {
    /// The engine's name, in the log as the actor of what it writes.
    pub name: String,
    /// How long the session's lease lasts; renewed at a third.
    pub lease: Duration,
    /// How often it looks for what no wake-up told it of.
    pub poll: Duration,
    /// Operations at work at the same time. Those above it are accepted and wait.
    pub operations_at_work_max: usize,
    /// Alerts that wait in the channel.
    pub channel_capacity: usize,
    /// How long a call that was asked to stop may still answer.
    pub grace: Duration,
    /// Bytes kept of what a step left behind, or of an error.
    pub output_bytes_max: usize,
    /// Outbox rows delivered at the same time.
    pub outbox_at_work_max: usize,
    /// How long a submitted alert waits for the log before its sender is told to come back.
    pub submit_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "redress".to_owned(),
            lease: Duration::from_secs(30),
            poll: Duration::from_millis(250),
            operations_at_work_max: 1024,
            channel_capacity: 1024,
            grace: Duration::from_secs(1),
            output_bytes_max: 1024,
            outbox_at_work_max: 16,
            submit_timeout: Duration::from_secs(10),
        }
    }
}

/// Cuts a text to at most `bytes`, on a character boundary.
pub(crate) fn cut(text: &str, bytes: usize) -> String {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
