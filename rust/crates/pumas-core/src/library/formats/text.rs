//! Making text from foreign bytes fit to be stored, shown and sent.

use std::path::Path;

use crate::storage::unicode::is_printable;

/// `value` as a single clean line for the index, of at most `limit` characters.
///
/// Runs of control and direction characters become one space.
#[must_use]
pub(crate) fn one_line(value: &str, limit: usize) -> String {
    let mut line = String::new();
    let mut in_run = false;
    for letter in value.chars().take(4 * limit) {
        let odd = is_control(letter);
        if !odd {
            line.push(letter);
        } else if !in_run {
            line.push(' ');
        }
        in_run = odd;
    }
    line.trim().chars().take(limit).collect()
}

fn is_control(letter: char) -> bool {
    matches!(letter,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The last part of a path, fit for messages: bytes that are not UTF-8 and odd characters are shown as `\xNN`.
#[must_use]
pub(crate) fn message_name(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let end = bytes
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(0, |at| at + 1);
    let start = bytes[..end]
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    let name = &bytes[start..end];
    if name.is_empty() {
        return "/".to_owned();
    }
    let mut shown = String::new();
    for chunk in name.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if is_printable(letter) {
                shown.push(letter);
            } else {
                shown += &escaped(u32::from(letter));
            }
        }
        for byte in chunk.invalid() {
            shown += &escaped(u32::from(*byte));
        }
    }
    shown.chars().take(255).collect()
}

fn escaped(code: u32) -> String {
    format!("\\x{code:02x}")
}

/// The text of valid UTF-8 in `bytes`; what is not is left out.
#[must_use]
pub(crate) fn valid_text(bytes: &[u8]) -> String {
    bytes.utf8_chunks().map(|chunk| chunk.valid()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_clean_and_short() {
        assert_eq!(one_line("  a\n\tb\u{202e}c  ", 10), "a b c");
        assert_eq!(one_line(&"é".repeat(50), 5), "ééééé");
    }

    #[test]
    fn names_in_messages_show_odd_bytes() {
        assert_eq!(message_name(Path::new("/models/a.gguf/")), "a.gguf");
        assert_eq!(message_name(Path::new("/")), "/");
        assert_eq!(message_name(Path::new("a\nb")), "a\\x0ab");
    }
}
