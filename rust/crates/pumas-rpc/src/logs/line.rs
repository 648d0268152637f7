//! One record as text: readable, bounded, without control characters or anything that looks like a token.

use std::fmt::Write as _;

use super::Record;

const MAX_CHARACTERS: usize = 40_000;
/// Shorter words behind `Bearer` or `hf_` are no token.
const MIN_TOKEN: usize = 6;

pub(super) struct Lines {
    secrets: Vec<String>,
}

impl Lines {
    pub(super) fn new(secrets: Vec<String>) -> Self {
        Self {
            secrets: secrets.into_iter().filter(|secret| !secret.is_empty()).collect(),
        }
    }

    pub(super) fn format(&self, record: &Record) -> String {
        let Record {
            time,
            level,
            target,
            text,
        } = record;
        let mut text = text.clone();
        for secret in &self.secrets {
            text = text.replace(secret, "[token]");
        }
        let mut line = format!(
            "{} {level} {}: ",
            time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"),
            target.replace("::", ".")
        );
        push_printable(&mut line, &hide_tokens(&text));
        line.push('\n');
        line
    }
}

fn push_printable(line: &mut String, text: &str) {
    for (count, c) in text.chars().enumerate() {
        if count >= MAX_CHARACTERS {
            line.push('…');
            return;
        }
        match c {
            '\t' | '\n' => line.push(c),
            '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' | '\u{7f}' => {
                let _ = write!(line, "{}", c.escape_unicode());
            }
            _ => line.push(c),
        }
    }
}

/// `Bearer abcdef…` and `hf_abcdef…` without what makes them secret.
fn hide_tokens(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, length)) = next_mark(rest) {
        let (before, behind) = rest.split_at(at + length);
        out.push_str(before);
        let token = behind.bytes().take_while(|byte| is_token_byte(*byte)).count();
        if token >= MIN_TOKEN {
            out.push_str("[hidden]");
            rest = &behind[token..];
        } else {
            rest = behind;
        }
    }
    out.push_str(rest);
    out
}

/// Where the next word that announces a token begins, and how long it is with the space behind it.
fn next_mark(text: &str) -> Option<(usize, usize)> {
    let lower = text.to_ascii_lowercase();
    let hub = lower.find("hf_").map(|at| (at, 3));
    let bearer = lower.match_indices("bearer").find_map(|(at, word)| {
        let spaces = lower[at + word.len()..]
            .bytes()
            .take_while(u8::is_ascii_whitespace)
            .count();
        (spaces > 0).then_some((at, word.len() + spaces))
    });
    hub.into_iter().chain(bearer).min()
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._~+/=-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        let record = Record {
            time: jiff::Timestamp::UNIX_EPOCH,
            level: tracing::Level::WARN,
            target: "pumas_core::jobs",
            text: text.into(),
        };
        Lines::new(vec!["s3cret".into(), String::new()]).format(&record)
    }

    #[test]
    fn one_line() {
        assert_eq!(line("x"), "1970-01-01T00:00:00.000Z WARN pumas_core.jobs: x\n");
        assert!(line("a\u{1b}[0m\r\u{2028}").ends_with("a\\u{1b}[0m\\u{d}\\u{2028}\n"));
        assert!(line(&"x".repeat(100_000)).len() < 41_000);
    }

    #[test]
    fn secrets() {
        for (text, expected) in [
            ("token s3cret.", "token [token]."),
            (
                "Authorization: Bearer abcdef123",
                "Authorization: Bearer [hidden]",
            ),
            ("hf_abcdefgh and HF_ABCDEFGH", "hf_[hidden] and HF_[hidden]"),
            ("hf_abc bearer of news", "hf_abc bearer of news"),
        ] {
            assert!(line(text).ends_with(&format!(": {expected}\n")), "{}", line(text));
        }
    }
}
