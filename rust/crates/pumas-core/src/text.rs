//! Text for people: cut, and quoted the way that messages of both backends quote what a caller sent.

use std::fmt::Write as _;

/// The first `limit` characters (code points) of `text`.
#[must_use]
pub fn cut(text: &str, limit: usize) -> &str {
    text.char_indices()
        .nth(limit)
        .map_or(text, |(end, _)| &text[..end])
}

/// The first `limit` characters of `text` in quotes, with everything that cannot be printed escaped.
///
/// The form is that of Python's `repr` (<https://docs.python.org/3/library/functions.html#repr>), because messages are
/// compared between the backends.
#[must_use]
pub fn quoted(text: &str, limit: usize) -> String {
    let text = cut(text, limit);
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        push_escaped(&mut out, c, quote);
    }
    out.push(quote);
    out
}

fn push_escaped(out: &mut String, c: char, quote: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        _ if c == quote => {
            out.push('\\');
            out.push(c);
        }
        ' '..='~' => out.push(c),
        _ if is_printable(c) => out.push(c),
        _ => {
            // Writing to a String cannot fail.
            let _ = match u32::from(c) {
                code @ 0..=0xFF => write!(out, "\\x{code:02x}"),
                code @ 0x100..=0xFFFF => write!(out, "\\u{code:04x}"),
                code => write!(out, "\\U{code:08x}"),
            };
        }
    }
}

/// Rust escapes the same categories of characters as Python, and combining characters only at the start of a text.
fn is_printable(c: char) -> bool {
    ['a', c].iter().collect::<String>().escape_debug().nth(1) == Some(c)
}

/// `1234567` as `1,234,567`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Seconds for a person who is asked to wait: whole ones, at least one.
#[must_use]
pub fn whole_seconds(seconds: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "waiting times are small and positive"
    )]
    let whole = seconds.ceil() as u64;
    whole.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_python_does() {
        for (text, expected) in [
            ("a", "'a'"),
            ("it's", "\"it's\""),
            ("'\"", "'\\'\"'"),
            ("a\n\t\\\u{0}\u{7f}", "'a\\n\\t\\\\\\x00\\x7f'"),
            ("ü\u{a0}\u{301}", "'ü\\xa0\u{301}'"),
            ("\u{202e}\u{1f600}\u{e0001}", "'\\u202e\u{1f600}\\U000e0001'"),
        ] {
            assert_eq!(quoted(text, 100), expected);
        }
        assert_eq!(quoted("abc", 2), "'ab'");
    }

    #[test]
    fn groups_digits() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn waits_at_least_a_second() {
        assert_eq!([-1.0, 0.0, 0.2, 1.0, 1.1].map(whole_seconds), [1, 1, 1, 1, 2]);
    }
}
