//! [`Reply`]: what came back, bounded, and what may be repeated of it.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::Value;

/// The most characters of a server's message that are repeated.
const MESSAGE_MAX: usize = 200;

/// A reply whose status was read. Its body holds at most what the client reads
/// ([`Client::BODY_MAX`](super::Client::BODY_MAX) bytes unless told otherwise), and fewer than were sent when the connection broke in the middle: then it is not JSON, and says nothing.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// From before the connection was made until the status had been read.
    pub latency: Duration,
}

impl Reply {
    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// `message`, or `error.message`, when the body is JSON that has it.
    pub fn message(&self) -> Option<String> {
        let json = self.json();
        let message = json.get("message").or_else(|| json.pointer("/error/message"))?;
        message.as_str().map(str::to_owned)
    }

    /// How long the server asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        super::retry_after::retry_after(&self.headers)
    }
}

/// A foreign text made fit for one line of ours: no control characters, at most 200 characters.
pub(crate) fn one_line(text: &str) -> String {
    let clean: String =
        text.chars().map(|c| if is_unfit(c) { ' ' } else { c }).take(MESSAGE_MAX + 1).collect();
    match clean.char_indices().nth(MESSAGE_MAX) {
        Some((end, _)) => format!("{}…", clean[..end].trim_end()),
        None => clean.trim().to_owned(),
    }
}

/// Control characters, and those that reorder or hide the text around them.
fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_and_cleaned() {
        assert_eq!(one_line("cannot be\r\nrolled\u{1b}[31m back\0"), "cannot be  rolled [31m back");
        assert_eq!(one_line("a\u{202e}b"), "a b");
        assert_eq!(one_line(&"é".repeat(200)), "é".repeat(200));
        assert_eq!(one_line(&"é".repeat(201)), format!("{}…", "é".repeat(200)));
    }
}
