//! How things are printed: what others wrote is made harmless, and times read the same everywhere.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Error;
use redress_types::Timestamp;
use serde::Serialize;

use crate::Exit;

/// A text with everything made visible that a terminal would obey: control characters, escape sequences, and
/// the marks that turn the direction of writing around (Unicode TR 36, section 2.5).
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            c if is_obeyed(c) => {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// At most so many characters of an escaped text; what was cut ends in `…`.
pub(crate) fn short(text: &str, most: usize) -> String {
    let text = escape(text);
    if text.chars().count() <= most {
        return text.into_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// `2026-11-21 11:02:03Z`: to the second, UTC, as all times here are.
pub(crate) fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {}Z", time.get(..8).unwrap_or(time))
}

/// `11:02:03`, UTC.
pub(crate) fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    let time = text.split_once('T').map_or("", |(_, time)| time);
    time.get(..8).unwrap_or(time).to_owned()
}

/// Milliseconds for people.
pub(crate) fn millis(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms}ms"),
        _ => redress_types::show_duration(Duration::from_millis(ms)),
    }
}

/// `1 alert`, `3 alerts`.
pub(crate) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Prints to standard output.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<Exit, Error> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(Exit::DONE)
}

/// Prints lines to standard output; the text must be harmless already.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    print_bytes(text.as_bytes()).map(drop)
}

/// One JSON object on one line. JSON leaves no control character below U+0020 in a line; the rest is escaped
/// here, so that the line may be looked at.
pub(crate) fn json_line(value: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string(value)?;
    let mut line = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if is_obeyed(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    Ok(line)
}

/// Columns as wide as their widest cell, two spaces apart. The cells must be harmless already.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_made_visible() {
        assert_eq!(escape("plain é 日本 👩‍🚒"), "plain é 日本 👩‍🚒");
        assert_eq!(escape("a\x1b[31mb\n\u{9b}"), "a\\u{1b}[31mb\\n\\u{9b}");
        assert_eq!(escape("x\u{202e}y\u{2066}z"), "x\\u{202e}y\\u{2066}z");
    }

    #[test]
    fn a_json_line_holds_nothing_that_a_terminal_would_obey_and_reads_back() {
        let text = "a\x1b\u{9b}\u{202e}\u{e0001}\n";
        let line = json_line(&text).unwrap();
        assert!(line.trim_end().chars().all(|c| !is_obeyed(c)), "{line}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }

    #[test]
    fn a_cut_text_says_so_and_is_cut_between_characters() {
        assert_eq!(short("éééé", 4), "éééé");
        assert_eq!(short("ééééé", 4), "ééé…");
        assert_eq!(short("", 4), "");
    }

    #[test]
    fn times_read_the_same_everywhere() {
        let at: Timestamp = "2026-11-21T02:45:08.541Z".parse().unwrap();
        assert_eq!(moment(at), "2026-11-21 02:45:08Z");
        assert_eq!(clock(at), "02:45:08");
        assert_eq!(moment("2026-11-21T02:45:08Z".parse().unwrap()), "2026-11-21 02:45:08Z");
    }
}
