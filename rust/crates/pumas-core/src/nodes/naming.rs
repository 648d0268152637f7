//! What custom nodes are called, in their folder and in the trash.

use super::addresses::check_url;
use crate::error::{Error, Result};
use crate::storage::paths::relative_path;

const LONGEST_NAME: usize = 100;

/// Whether it is made of letters, digits, `.`, `_` and `-`.
fn is_name(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    (1..=LONGEST_NAME).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(plain)
}

/// # Errors
/// `InvalidInput`: not made of letters, digits, `.`, `_` and `-`, or no name for a folder everywhere.
pub(super) fn check_name(text: &str) -> Result<&str> {
    if !is_name(text) {
        let reason = "must be made of letters, digits, '.', '_' and '-', beginning with the former";
        return Err(Error::invalid("node_name", reason));
    }
    relative_path(text, "node_name")
}

/// What begins so is no node to the app either.
pub(super) const HIDDEN: [&str; 2] = [".", "__"];

/// The name of a node that may be there: people and other programs name folders as they like, with spaces and in any
/// script.
///
/// # Errors
/// `InvalidInput`: it is hidden, or no name of one folder everywhere.
pub(super) fn check_present(text: &str) -> Result<&str> {
    if text.contains('/') || HIDDEN.iter().any(|start| text.starts_with(start)) {
        let reason = "must be the name of one folder, as get_custom_nodes shows it";
        return Err(Error::invalid("node_name", reason));
    }
    relative_path(text, "node_name")
}

/// What a repository's folder is called by itself.
///
/// # Errors
/// `InvalidInput`.
pub(super) fn name_of(url: &str) -> Result<String> {
    let url = check_url(url, "git_url")?.trim_end_matches('/');
    let last = url.rsplit('/').next().unwrap_or_default();
    check_name(last.strip_suffix(".git").unwrap_or(last)).map(str::to_owned)
}

/// The name inside an id of the trash; None when it is none of ours.
pub(super) fn name_in(trash_id: &str) -> Option<&str> {
    let (name, digits) = trash_id.rsplit_once('-')?;
    let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    (check_present(name).is_ok() && digits.len() == 8 && digits.bytes().all(is_digit)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(name_of("https://github.com/x/y.git/").unwrap(), "y");
        for bad in ["", ".hidden", "-x", "a/b", "a b", "..", "con", "a."] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        for good in ["a b", "Knoten (alt)", "節点", "_mine", "-x", "con-fig"] {
            assert_eq!(check_present(good).unwrap(), good);
        }
        for bad in [
            "",
            ".hidden",
            "__pycache__",
            "a/b",
            "..",
            "con",
            "a.",
            "a\n",
            " a",
        ] {
            assert!(check_present(bad).is_err(), "{bad}");
        }
        assert_eq!(name_in("my-node-0123abcd"), Some("my-node"));
        assert_eq!(name_in("my node-0123abcd"), Some("my node"));
        for bad in ["my-node", "my-node-0123ABCD", "-0123abcd", "../x-0123abcd"] {
            assert_eq!(name_in(bad), None, "{bad}");
        }
    }
}
