//! [`Clock`]: where the time comes from. Passed in, so that tests hold it.

use crate::time::Timestamp;

/// Says what time it is. For the record and for comparison with stored times; how long something took is
/// measured on a monotonic clock instead (safety rule 23).
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
    }
}
