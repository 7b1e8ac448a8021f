//! How much of anything is taken. Over a limit is an error that names the field, never a silent cut; the one
//! exception is the title, which contracts §1 says to cut.

/// The most bytes of one payload, by default: 4 MiB.
pub const PAYLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The most alerts in one payload, by default.
pub const ALERTS_MAX: usize = 10_000;

/// The most labels of one alert, as sent; those that the mapping adds do not count.
pub const LABELS_MAX: usize = 256;

/// The most bytes of a label's name.
pub const LABEL_NAME_BYTES_MAX: usize = 256;

/// The most bytes of a label's value, and of any other free text that is stored: 64 KiB.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// The most bytes of a service, component, version, metric or environment.
///
/// They are parts of keys. Postgres refuses an index entry over 2,704 bytes, and a target escapes up to three bytes
/// for one.
pub const NAME_BYTES_MAX: usize = 256;

/// The most bytes of a webhook's `groupKey`: 8 KiB. It is copied to every alert, so a large one would multiply.
pub const GROUP_KEY_BYTES_MAX: usize = 8 * 1024;

/// The most problems that an error spells out; the rest are counted.
pub const PROBLEMS_SHOWN_MAX: usize = 5;

/// The most characters of the sender's own text that an error repeats.
pub const QUOTED_CHARS_MAX: usize = 80;
