//! Release tags: which are allowed, and in which order they come.
//!
//! A tag is also a folder name. Order is that of the version inside the tag (<https://peps.python.org/pep-0440/>), so that
//! v0.10 comes after v0.9; tags without a version come last, by text.

use std::collections::HashSet;
use std::str::FromStr as _;

use pep440_rs::Version;

use crate::apps::{AppDescription, NewestPer};
use crate::error::{Error, Result};
use crate::storage::paths::relative_path;

const LONGEST: usize = 100;

/// The trimmed tag.
///
/// # Errors
/// `InvalidInput`: not made of letters, digits, `.` and `-`. `UnsafePath`: no name for a folder.
pub fn check_tag(text: &str) -> Result<&str> {
    let tag = text.trim();
    let plain = tag
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-'));
    let begins = tag.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !plain || !begins || tag.len() > LONGEST {
        let reason = "must be made of letters, digits, '.' and '-', and begin with a letter or digit";
        return Err(Error::invalid("tag", reason));
    }
    relative_path(tag, "tag")
}

/// The version inside a tag; None when there is none.
#[must_use]
pub(super) fn version_of(app: &AppDescription, tag: &str) -> Option<Version> {
    Version::from_str(app.releases.version_text(tag)?).ok()
}

/// In the order of their versions.
#[must_use]
pub(super) fn newest_first<T: AsRef<str>>(app: &AppDescription, mut tags: Vec<T>) -> Vec<T> {
    tags.sort_by_cached_key(|tag| {
        let tag = tag.as_ref().to_owned();
        std::cmp::Reverse((version_of(app, &tag), tag))
    });
    tags
}

/// Those tags that are offered, newest first: with `newest_per` minor only the highest of each major.minor, and beside it
/// the highest prerelease that comes after it, which must not hide it; tags without a version, and such as cannot be
/// installed, never. `tags` says of each whether it is a prerelease.
#[must_use]
pub(super) fn offered<'a>(app: &AppDescription, tags: impl Iterator<Item = (&'a str, bool)>) -> Vec<&'a str> {
    let mut known: Vec<(Version, &str, bool)> = tags
        .filter(|(tag, _)| check_tag(tag).is_ok_and(|plain| plain == *tag))
        .filter_map(|(tag, test)| version_of(app, tag).map(|version| (version, tag, test)))
        .collect();
    known.sort_by(|one, other| other.0.cmp(&one.0));
    if app.releases.newest_per == NewestPer::Minor {
        let part =
            |version: &Version, place: usize| version.release().get(place).copied().unwrap_or_default();
        let (mut finals, mut tests) = (HashSet::new(), HashSet::new());
        known.retain(|(version, _, test)| {
            let minor = (version.epoch(), part(version, 0), part(version, 1));
            if *test || version.any_prerelease() {
                !finals.contains(&minor) && tests.insert(minor)
            } else {
                finals.insert(minor)
            }
        });
    }
    known.into_iter().map(|(_, tag, _)| tag).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::apps::Apps;

    fn shipped(app_id: &str) -> Arc<AppDescription> {
        let layout = crate::config::Layout::new("/nowhere");
        Apps::new(&layout, Arc::default()).get(app_id).unwrap()
    }

    #[test]
    fn tags_are_folder_names() {
        for text in ["v0.3.10", "1", "b7001", " v1.0 ", "V1-rc.1"] {
            assert_eq!(check_tag(text).unwrap(), text.trim());
        }
        let long = "x".repeat(101);
        for text in [
            "",
            " ",
            ".hidden",
            "-x",
            "a/b",
            "../x",
            "a\\b",
            "a_b",
            "a+b",
            "v1\nExec=x",
            "con",
            "v1.",
            &long,
            "é",
        ] {
            assert!(check_tag(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_newest_come_first() {
        for (app, tags, order) in [
            (
                "comfyui",
                vec!["v0.9", "v0.10", "v0.2.1"],
                vec!["v0.10", "v0.9", "v0.2.1"],
            ),
            (
                "comfyui",
                vec!["v1.0rc1", "nightly", "v1.0"],
                vec!["v1.0", "v1.0rc1", "nightly"],
            ),
            ("comfyui", vec!["a", "b"], vec!["b", "a"]),
            (
                "llamacpp",
                vec!["b999", "b7001", "b6999"],
                vec!["b7001", "b6999", "b999"],
            ),
        ] {
            assert_eq!(newest_first(&shipped(app), tags), order);
        }
    }

    #[test]
    fn offered_are_the_highest_of_each_minor_newest_first() {
        for (app, tags, kept) in [
            (
                "comfyui",
                vec!["v0.3.10", "v0.3.9", "v0.2.7", "v0.2.8", "latest"],
                vec!["v0.3.10", "v0.2.8"],
            ),
            (
                "comfyui",
                vec!["v1.0.0rc1", "v0.9.0"],
                vec!["v1.0.0rc1", "v0.9.0"],
            ),
            (
                "comfyui",
                vec!["v1.0.1+cu121", "v1.0.0", "v0.9_1"],
                vec!["v1.0.0"],
            ),
            (
                "comfyui",
                vec!["v0.9.3", "v0.10.0", "v0.9.2"],
                vec!["v0.10.0", "v0.9.3"],
            ),
            (
                "ollama",
                vec!["v0.13.2-rc1", "v0.13.2-rc0", "v0.13.1", "v0.13.1-rc0", "v0.12.9"],
                vec!["v0.13.2-rc1", "v0.13.1", "v0.12.9"],
            ),
            // Only GitHub says that it is one.
            (
                "ollama",
                vec!["v0.13.4", "test v0.13.5", "v0.12.9"],
                vec!["v0.13.5", "v0.13.4", "v0.12.9"],
            ),
            (
                "llamacpp",
                vec!["b7001", "b7000", "gguf-v0.9"],
                vec!["b7001", "b7000"],
            ),
        ] {
            let told = tags.into_iter().map(|tag| match tag.strip_prefix("test ") {
                Some(tag) => (tag, true),
                None => (tag, false),
            });
            assert_eq!(offered(&shipped(app), told), kept);
        }
    }
}
