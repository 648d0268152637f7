//! Paths as text: the registry holds them, plans name them and replies show them, so they are text all the way.
//!
//! The rules are those of POSIX path names; nothing here looks at a disk but [`real`] and [`read_link`].

use std::path::Path;

use crate::storage::paths::resolved;

/// All before the last slash; `/` for what lies in the root.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) => "/",
        Some(end) => &path[..end],
        None => "",
    }
}

/// All behind the last slash.
pub(crate) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A path as text.
pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The path with every link followed, as far as it exists.
pub(crate) fn real(path: &str) -> String {
    text(&resolved(Path::new(path)))
}

/// What a symbolic link holds; None when none is there.
pub(crate) fn read_link(path: &str) -> Option<String> {
    std::fs::read_link(path).ok().map(|target| text(&target))
}

/// An absolute path without `.`, `..` and empty parts; links are not looked at.
pub(crate) fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// How to come from the folder `from` to `path`; both are absolute and without links.
pub(crate) fn relative(path: &str, from: &str) -> String {
    let (path, from) = (normal(path), normal(from));
    let parts = |text: &str| -> Vec<String> {
        text.split('/')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let (to, from) = (parts(&path), parts(&from));
    let common = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - common);
    let way: Vec<String> = up.chain(to[common..].iter().cloned()).collect();
    if way.is_empty() {
        ".".to_owned()
    } else {
        way.join("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        assert_eq!([parent("/a/b"), parent("/a"), parent("a")], ["/a", "/", ""]);
        assert_eq!([name("/a/b"), name("b")], ["b", "b"]);
    }

    #[test]
    fn ways() {
        for (path, from, expected) in [
            ("/a/b", "/a", "b"),
            ("/a/b", "/a/c/d", "../../b"),
            ("/a", "/a", "."),
            ("/a/./x/../b", "/", "a/b"),
            ("/ab", "/a", "../ab"),
        ] {
            assert_eq!(relative(path, from), expected);
        }
    }
}
