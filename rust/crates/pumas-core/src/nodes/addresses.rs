//! Which addresses, commits and branches are given to git: plain ones, which can be nothing else to it.

use std::env;
use std::sync::LazyLock;

use regex_lite::Regex;

use crate::error::{Error, Result};

/// `loopback`: http is allowed to this machine alone, for tests.
const HTTP_VARIABLE: &str = "PUMAS_GIT_HTTP";
const LONGEST_URL: usize = 500;

static URL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    const LABEL: &str = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?";
    Regex::new(&format!(
        r"^(https?)://({LABEL}(?:\.{LABEL})*)(?::([0-9]{{1,5}}))?((?:/[A-Za-z0-9_~][A-Za-z0-9._~-]*)+)/?$"
    ))
    .ok()
});

/// The trimmed address of a repository.
///
/// # Errors
/// `InvalidInput`: not https, or with anything but a plain host, port and path in it.
pub(crate) fn check_url<'a>(text: &'a str, field: &str) -> Result<&'a str> {
    let url = text.trim();
    let refused = || {
        Error::invalid(
            field,
            "must be https://host/path of a repository, without user, query or special signs",
        )
    };
    let found = URL
        .as_ref()
        .filter(|_| url.len() <= LONGEST_URL && !url.contains('\n'));
    let parts = found
        .and_then(|pattern| pattern.captures(url))
        .ok_or_else(refused)?;
    if parts[4].contains("..") || (&parts[1] == "http" && !is_http_allowed(&parts[2])) {
        return Err(refused());
    }
    match parts.get(3).map(|port| port.as_str().parse::<u16>()) {
        None | Some(Ok(1..)) => Ok(url),
        Some(_) => Err(Error::invalid(field, "must name a port that exists")),
    }
}

fn is_http_allowed(host: &str) -> bool {
    ["127.0.0.1", "localhost"].contains(&host.to_lowercase().as_str())
        && env::var_os(HTTP_VARIABLE).is_some_and(|value| value == "loopback")
}

/// A full commit id.
///
/// # Errors
/// `InvalidInput`: it is none.
pub(crate) fn check_commit<'a>(text: &'a str, field: &str) -> Result<&'a str> {
    let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if text.len() == 40 && text.bytes().all(is_digit) {
        return Ok(text);
    }
    let reason = "must be a full commit id of 40 digits from 0-9a-f";
    Err(Error::invalid(field, reason))
}

/// The name of a branch or a tag that we would use, or a commit id.
///
/// # Errors
/// `InvalidInput`: it cannot be one.
pub(crate) fn check_ref<'a>(text: &'a str, field: &str) -> Result<&'a str> {
    if is_plain(text) {
        return Ok(text);
    }
    let reason = "must be a branch, a tag or a commit id, made of letters, digits, '.', '_', '/' and '-'";
    Err(Error::invalid(field, reason))
}

/// Whether it can be a commit id or its beginning.
pub(super) fn is_short(text: &str) -> bool {
    let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    (7..=40).contains(&text.len()) && text.bytes().all(is_digit)
}

/// Whether it is no option, no path out of the branches, and no reference of another kind.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._/-".contains(&c);
    (1..=200).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(plain)
        && !name.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_pass() {
        for good in ["main", "dev/next", "v1.0", "0123456", "a_b-c.d"] {
            assert!(check_ref(good, "commit").is_ok(), "{good}");
        }
        let long = "x".repeat(201);
        for bad in [
            "",
            "-x",
            "--upload-pack=x",
            ".x",
            "/x",
            "a..b",
            "a b",
            "a:b",
            "+a",
            "a~1",
            "a^",
            "a@{1}",
            "a*",
            "a?",
            "a\\b",
            "a\nb",
            "a\0",
            "$(x)",
            "\u{fc}nder",
            &long,
        ] {
            assert!(check_ref(bad, "commit").is_err(), "{bad}");
        }
        assert!(is_short("0123abc") && !is_short("0123ab") && !is_short("0123abg"));
    }

    #[test]
    fn only_plain_https_addresses_pass() {
        for good in [
            "https://github.com/a/b",
            " https://git.example.org:8443/x/y.git/ ",
            "https://a/~me/b",
        ] {
            assert!(check_url(good, "git_url").is_ok(), "{good}");
        }
        for bad in [
            "",
            "http://github.com/a/b",
            "ssh://git@a/b",
            "git@github.com:a/b",
            "https://u@a/b",
            "https://a/b?x",
            "https://a/../b",
            "https://a/b/..c/..",
            "https://a",
            "https://-a/b",
            "https://a/-b",
            "https://a:0/b",
            "https://a:70000/b",
            "https://a/b\nhttps://c/d",
            "ext::sh -c x",
            "file:///a",
        ] {
            assert!(check_url(bad, "git_url").is_err(), "{bad}");
        }
    }
}
