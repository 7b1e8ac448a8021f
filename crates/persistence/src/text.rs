//! Small texts: what a database can hold, times as the tables keep them, and text of others inside Markdown.

use redress_types::Timestamp;

/// What stands for a NUL, which Postgres cannot hold: visible, so that nobody wonders where it went.
pub(crate) const NUL_SHOWN: char = '\u{2400}';

/// The text as every backend can hold it.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', &NUL_SHOWN.to_string())
}

/// At most `chars` characters, never cut inside one.
pub(crate) fn cut(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(at, _)| &text[..at])
}

/// A time as a `timestamp(6)` without zone shows it, UTC: `2026-01-31 12:00:00.000000`. Sorts as text.
pub(crate) fn column_of(time: Timestamp) -> String {
    let shown = jiff::Timestamp::from_microsecond(time.as_micros()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let text = format!("{shown:.6}");
    text.trim_end_matches('Z').replace('T', " ")
}

/// The time that a column shows; `None` when it is none that we can hold.
pub(crate) fn of_column(text: &str) -> Option<Timestamp> {
    format!("{}Z", text.trim().replace(' ', "T")).parse().ok()
}

/// Text of others as one line inside Markdown: no markup, no HTML, no line of its own, at most `chars`.
pub(crate) fn inline(text: &str, chars: usize) -> String {
    let mut line = String::with_capacity(text.len());
    for c in cut(text, chars).chars() {
        match c {
            '<' => line.push_str("&lt;"),
            '>' => line.push_str("&gt;"),
            '&' => line.push_str("&amp;"),
            '[' | ']' | '*' | '`' | '\\' | '#' | '|' => {
                line.push('\\');
                line.push(c);
            }
            '\0' => line.push(NUL_SHOWN),
            c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => line.push(' '),
            c => line.push(c),
        }
    }
    if text.chars().nth(chars).is_some() {
        line.push('…');
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_keep_microseconds_from_year_1_to_9999() {
        for time in
            [Timestamp::MIN, Timestamp::EPOCH, Timestamp::from_micros(1_795_229_108_541_999), Timestamp::MAX]
        {
            assert_eq!(of_column(&column_of(time)), Some(time), "{}", column_of(time));
        }
        assert_eq!(column_of(Timestamp::from_micros(1_795_229_108_000_000)), "2026-11-21 02:45:08.000000");
        assert_eq!(of_column("infinity"), None);
    }

    #[test]
    fn text_of_others_is_one_line_without_markup() {
        assert_eq!(inline("# a\n- b <script>`x`\0", 99), "\\# a - b &lt;script&gt;\\`x\\`␀");
        assert_eq!(inline("一二三四", 2), "一二…");
        assert_eq!(cut(&"é".repeat(300), 255).chars().count(), 255);
    }
}
