//! [`Config`]: the engine's own bounds. There is one for everything.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redress_strategy::Rate;

/// The engine's own bounds. The defaults suit one machine.
#[derive(Clone)]
pub struct Config {
    /// The engine's name, in the log as the actor of what it writes.
    pub name: String,
    /// How long the session's lease lasts; renewed at a third.
    pub lease: Duration,
    /// How often it looks for what no wake-up told it of.
    pub poll: Duration,
    /// Operations at work at the same time. Those above it are accepted and wait.
    pub operations_at_work_max: usize,
    /// How many operations may be admitted in a window, over all strategies and all engines of the log (safety rule
    /// 5). `None`, the default: no limit. Engines of one log should agree: each admits by its own.
    pub rate: Option<Rate>,
    /// Alerts that wait in the channel. At least 1: 0 is taken for 1.
    pub channel_capacity: usize,
    /// The most labels of an alert.
    pub labels_max: usize,
    /// The most bytes of an alert: its texts, labels and original together.
    pub alert_bytes_max: usize,
    /// How long a call that was asked to stop may still answer.
    pub grace: Duration,
    /// Bytes kept of what a step left behind, or of an error.
    pub output_bytes_max: usize,
    /// Outbox rows delivered at the same time. At least 1: 0 is taken for 1.
    pub outbox_at_work_max: usize,
    /// How long a submitted alert waits for the log before its sender is told to come back.
    pub submit_timeout: Duration,
    /// How often a checkpoint is written when this engine has appended something; one more is written at shutdown.
    pub checkpoint_every: Duration,
    /// Signs checkpoints (HMAC-SHA256). Kept out of every output.
    pub checkpoint_key: Option<Arc<[u8]>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "redress".to_owned(),
            lease: Duration::from_secs(30),
            poll: Duration::from_millis(250),
            operations_at_work_max: 1024,
            rate: None,
            channel_capacity: 1024,
            // What one payload of the intake may hold, and what its mapping adds.
            labels_max: 320,
            alert_bytes_max: 9 * 1024 * 1024,
            grace: Duration::from_secs(1),
            output_bytes_max: 1024,
            outbox_at_work_max: 16,
            submit_timeout: Duration::from_secs(10),
            checkpoint_every: Duration::from_secs(3600),
            checkpoint_key: None,
        }
    }
}

impl Config {
    /// With none of it, nothing would ever be taken or delivered.
    pub(crate) fn at_least_one(self) -> Self {
        let channel_capacity = self.channel_capacity.max(1);
        let outbox_at_work_max = self.outbox_at_work_max.max(1);
        Self { channel_capacity, outbox_at_work_max, ..self }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("lease", &self.lease)
            .field("poll", &self.poll)
            .field("operations_at_work_max", &self.operations_at_work_max)
            .field("rate", &self.rate)
            .field("channel_capacity", &self.channel_capacity)
            .field("labels_max", &self.labels_max)
            .field("alert_bytes_max", &self.alert_bytes_max)
            .field("grace", &self.grace)
            .field("output_bytes_max", &self.output_bytes_max)
            .field("outbox_at_work_max", &self.outbox_at_work_max)
            .field("submit_timeout", &self.submit_timeout)
            .field("checkpoint_every", &self.checkpoint_every)
            .field("checkpoint_key", &self.checkpoint_key.as_ref().map(|_| "(set)"))
            .finish()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_not_shown() {
        let config = Config { checkpoint_key: Some(Arc::from(*b"secret")), ..Config::default() };
        let shown = format!("{config:?}");
        assert!(shown.contains("checkpoint_key: Some(\"(set)\")"), "{shown}");
        let bytes = format!("{:?}", b"secret".as_slice());
        assert!(!shown.contains("secret") && !shown.contains(&bytes), "{shown}");
    }
}
