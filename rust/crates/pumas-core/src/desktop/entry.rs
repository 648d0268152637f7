//! The text of a desktop entry, and what can be read from one again.
//!
//! Rules: <https://specifications.freedesktop.org/desktop-entry-spec/latest/> (values, exec-variables, recognized-keys).
//! Pure text; where files lie and whose they are is not known here.

use crate::error::{Error, Result};

/// Whose entry it is: two launcher roots may have a version of the same name.
pub(super) const ROOT_KEY: &str = "X-Pumas-Root";
const GROUP: &str = "[Desktop Entry]";

/// What an entry says.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) comment: &'static str,
    /// An argument vector.
    pub(super) command: Vec<String>,
    /// A name in the icon theme.
    pub(super) icon: String,
    /// The launcher root.
    pub(super) root: String,
}

impl Entry {
    /// The content of the file.
    ///
    /// # Errors
    /// `InvalidInput`: a value holds control characters, or the program's path a `=`.
    pub(super) fn text(&self) -> Result<String> {
        if self.command.first().is_some_and(|program| program.contains('=')) {
            let reason = "a program whose path holds '=' cannot be started from a desktop entry";
            return Err(Error::invalid("root", reason));
        }
        let command = exec_line(&self.command);
        let values = [
            ("Type", "Application"),
            ("Version", "1.1"),
            ("Name", &self.name),
            ("Comment", self.comment),
            ("Exec", &command),
            ("Icon", &self.icon),
            ("Terminal", "false"),
            ("Categories", "Graphics;"),
            ("Keywords", "AI;diffusion;"),
            (ROOT_KEY, &self.root),
        ];
        let mut text = format!("{GROUP}\n");
        for (key, value) in values {
            text.push_str(key);
            text.push('=');
            text.push_str(&escaped(value)?);
            text.push('\n');
        }
        Ok(text)
    }
}

/// The value of `Exec`, before the escapes that every value gets.
fn exec_line(command: &[String]) -> String {
    let parts: Vec<String> = command.iter().map(|part| argument(part)).collect();
    parts.join(" ")
}

/// Unquoted is what no rule of quoting speaks of; all else goes into double quotes.
fn argument(text: &str) -> String {
    let text = text.replace('%', "%%");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '`' | '$' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// A value of type string. Fails when it would need a line of its own.
fn escaped(value: &str) -> Result<String> {
    if value.chars().any(|c| c <= '\x1f' || c == '\x7f') {
        return Err(unfit());
    }
    let value = value.replace('\\', "\\\\");
    Ok(match value.strip_prefix(' ') {
        Some(rest) => format!("\\s{rest}"),
        None => value,
    })
}

/// A path that no entry can hold.
pub(super) fn unfit() -> Error {
    let reason = "a path with control characters or bytes that are no text fits no desktop entry";
    Error::invalid("root", reason)
}

/// A key's value in the first group, escapes undone; None when there is none.
pub(super) fn value_of(text: &str, key: &str) -> Option<String> {
    let (_, body) = text.split_once(GROUP)?;
    let group = body.split("\n[").next().unwrap_or_default();
    let value = group.split('\n').find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then_some(value)
    })?;
    Some(unescaped(value.trim_start_matches(' ')))
}

fn unescaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match rest.next() {
            Some('s') => text.push(' '),
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('\\') => text.push('\\'),
            other => {
                text.push('\\');
                text.extend(other);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(command: &[&str], root: &str) -> Entry {
        Entry {
            name: "ComfyUI v1".to_owned(),
            comment: "Start it",
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            icon: "comfyui-v1".to_owned(),
            root: root.to_owned(),
        }
    }

    #[test]
    fn arguments_are_quoted_where_they_must() {
        for (text, expected) in [
            ("/usr/bin/x", "/usr/bin/x"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("100%", "\"100%%\""),
            ("a\"$`\\", "\"a\\\"\\$\\`\\\\\""),
        ] {
            assert_eq!(argument(text), expected);
        }
    }

    #[test]
    fn what_fits_no_line_is_refused() {
        assert!(entry(&["/a=b"], "/r").text().is_err());
        assert!(entry(&["/a"], "/r\nExec=evil").text().is_err());
        assert!(
            entry(&["/a"], "/r")
                .text()
                .unwrap()
                .ends_with("X-Pumas-Root=/r\n")
        );
    }

    #[test]
    fn only_the_first_group_counts() {
        let text = "[Desktop Entry]\nName = x\n[Other]\nExec=y\n";
        assert_eq!(value_of(text, "Name").as_deref(), Some("x"));
        assert_eq!(value_of(text, "Exec"), None);
        assert_eq!(value_of("Name=x", "Name"), None);
    }

    proptest! {
        #[test]
        fn a_root_is_read_as_it_was_written(root in "/[^\\x00-\\x1f\\x7f]{0,40}") {
            let text = entry(&["/a"], &root).text().unwrap();
            prop_assert_eq!(value_of(&text, ROOT_KEY), Some(root));
        }
    }
}
