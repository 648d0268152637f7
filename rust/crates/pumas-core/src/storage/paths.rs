//! The one place where text from a caller, a hub or a file becomes a path below a root.
//!
//! Nothing else joins a root and foreign text. The rules are those of the strictest supported system, so that a library
//! made on Linux can be copied to Windows or macOS (<https://learn.microsoft.com/windows/win32/fileio/naming-a-file>).

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::UnicodeNormalization;

use crate::error::{Error, Result};
use crate::storage::unicode::{is_printable, is_word};
use crate::text::cut;

/// Longest name of one file or folder, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 255;
/// Longest path below a root, in bytes of UTF-8.
pub const MAX_RELATIVE_BYTES: usize = 1024;
/// Longest path that a caller may name, in bytes of UTF-8.
pub const MAX_ABSOLUTE_BYTES: usize = 4096;

const SLUG_BYTES: usize = 128;
const MAX_LINKS: usize = 40;

fn refused(field: &str, reason: impl Into<String>) -> Error {
    Error::unsafe_path(field, reason)
}

/// Whether Windows takes the name for a device, with any extension.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    if matches!(
        stem.as_str(),
        "con" | "prn" | "aux" | "nul" | "conin$" | "conout$"
    ) {
        return true;
    }
    let Some(number) = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt")) else {
        return false;
    };
    let mut digits = number.chars();
    matches!(
        (digits.next(), digits.next()),
        (Some('0'..='9' | '¹' | '²' | '³'), None)
    )
}

fn is_forbidden(c: char) -> bool {
    c <= '\x1f' || c == '\x7f' || matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\')
}

fn check_part(field: &str, part: &str) -> Result<()> {
    if matches!(part, "" | "." | "..") {
        return Err(refused(
            field,
            "must be made of plain folder names, without empty parts, '.' or '..'",
        ));
    }
    if part.chars().any(is_forbidden) {
        return Err(refused(
            field,
            "must not hold control characters, backslashes or any of <>:\"|?*",
        ));
    }
    if part
        .chars()
        .any(|c| get_general_category(c) == GeneralCategory::Control)
    {
        return Err(refused(field, "must be well-formed text"));
    }
    if part.ends_with(['.', ' ']) || part.starts_with(' ') {
        return Err(refused(
            field,
            "must not have parts that end with a dot or space or start with a space",
        ));
    }
    if is_reserved(part) {
        return Err(refused(
            field,
            "must not use a name that Windows reserves for devices",
        ));
    }
    if part.len() > MAX_NAME_BYTES {
        return Err(refused(
            field,
            format!("must not have a part longer than {MAX_NAME_BYTES} bytes"),
        ));
    }
    Ok(())
}

/// Checks that `text` is a plain relative path (`a/b/c`) and returns it unchanged. `field` names it in the message.
///
/// # Errors
/// `UnsafePath`: empty, absolute, with a drive or UNC prefix, `..`, backslashes, control characters, reserved names.
pub fn relative_path<'a>(text: &'a str, field: &str) -> Result<&'a str> {
    if text.is_empty() {
        return Err(refused(field, "must not be empty"));
    }
    if text.len() > MAX_RELATIVE_BYTES {
        return Err(refused(
            field,
            format!("must not be longer than {MAX_RELATIVE_BYTES} bytes"),
        ));
    }
    if text.starts_with('/') {
        return Err(refused(field, "must be relative to its folder, not absolute"));
    }
    for part in text.split('/') {
        check_part(field, part)?;
    }
    Ok(text)
}

/// Turns (root, foreign text) into a path that stays below `root`, links followed. The path need not exist.
///
/// Components are compared after resolving, never string prefixes, so that a sibling `models-old` does not pass for
/// `models`.
///
/// # Errors
/// `UnsafePath`: see [`relative_path`], or a symbolic link leads out of the root.
pub fn contained(root: &Path, text: &str, field: &str) -> Result<PathBuf> {
    let path = root.join(relative_path(text, field)?);
    let real_root = resolved(root);
    let real = resolved(&path);
    if real == real_root || !real.starts_with(&real_root) {
        return Err(refused(field, "leads out of the folder it belongs to"));
    }
    Ok(path)
}

/// The path with every symbolic link followed, as far as there are any; what does not exist stays as it is written.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut waiting: VecDeque<OsString> = absolute.components().map(|c| c.as_os_str().to_owned()).collect();
    let mut real = PathBuf::new();
    let mut links = 0;
    while let Some(part) = waiting.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::ParentDir) => {
                real.pop();
                continue;
            }
            Some(Component::CurDir) => continue,
            _ => {}
        }
        let candidate = real.join(&part);
        match candidate.read_link() {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                if target.is_absolute() {
                    real = PathBuf::new();
                }
                for part in target.components().rev() {
                    waiting.push_front(part.as_os_str().to_owned());
                }
            }
            _ => real = candidate,
        }
    }
    real
}

/// Checks an absolute path that the user names on their own disk (a file to import or to look at).
///
/// It may lie anywhere; what is done with it decides what it may be. `~` is expanded.
///
/// # Errors
/// `UnsafePath`: empty, relative, with NUL bytes, or too long.
pub fn caller_path(text: &str, field: &str) -> Result<PathBuf> {
    if text.trim().is_empty() {
        return Err(refused(field, "must not be empty"));
    }
    if text.contains('\0') {
        return Err(refused(field, "must not hold NUL bytes"));
    }
    if text.len() > MAX_ABSOLUTE_BYTES {
        return Err(refused(
            field,
            format!("must not be longer than {MAX_ABSOLUTE_BYTES} bytes"),
        ));
    }
    let path = expanded(text).ok_or_else(|| refused(field, "names a home folder that does not exist"))?;
    if !path.is_absolute() {
        return Err(refused(field, "must be an absolute path"));
    }
    Ok(path.components().collect())
}

/// What a caller means: an absolute path, `~`, or a path below the root, links followed.
///
/// `others` are folders that may lie elsewhere: a library on another drive, for example.
///
/// # Errors
/// `InvalidInput`, `UnsafePath`: it is no path, or does not lie in the launcher root or in one of the others.
/// `FileUnavailable`: nothing is there.
pub(crate) fn path_below(root: &Path, text: &str, others: &[&Path]) -> Result<PathBuf> {
    if text.contains('\0') {
        return Err(Error::invalid("path", "must not hold NUL"));
    }
    let Some(path) = expanded(text) else {
        return Err(Error::invalid("path", "cannot be resolved"));
    };
    let real = resolved(&root.join(path));
    let is_allowed = |folder: &Path| real.starts_with(resolved(folder));
    if !is_allowed(root) && !others.iter().any(|other| is_allowed(other)) {
        return Err(Error::unsafe_path(
            "path",
            "must lie in the launcher's own folder",
        ));
    }
    if !real.exists() {
        return Err(Error::unavailable(
            cut(text, 200),
            "there is nothing of that name",
        ));
    }
    Ok(real)
}

/// `~` and `~name` at the beginning replaced by the home folder; None when there is none.
pub(crate) fn expanded(text: &str) -> Option<PathBuf> {
    let Some(rest) = text.strip_prefix('~') else {
        return Some(PathBuf::from(text));
    };
    let (user, below) = rest.split_once('/').unwrap_or((rest, ""));
    let home = if user.is_empty() {
        std::env::home_dir().filter(|home| !home.as_os_str().is_empty())?
    } else {
        home_of(user)?
    };
    Some(home.join(below.trim_start_matches('/')))
}

/// The home folder of a user by name, from passwd(5).
fn home_of(user: &str) -> Option<PathBuf> {
    let table = std::fs::read_to_string("/etc/passwd").ok()?;
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(user))
            .then(|| fields.nth(4).map(PathBuf::from))
            .flatten()
    })
}

/// Makes one folder or file name out of free text: letters, digits, `_ - . +`; never empty, reserved or hidden.
///
/// Letters of all scripts are kept (NFC); everything else becomes `-`; at most 128 bytes of UTF-8. `fallback` is
/// returned when nothing is left.
#[must_use]
pub fn slug(text: &str, fallback: &str) -> String {
    let normal: String = text.nfc().collect();
    let mut name = String::with_capacity(normal.len());
    for c in normal.trim().chars() {
        let kept = if is_word(c) || matches!(c, '.' | '+' | '-') {
            c
        } else {
            '-'
        };
        name.push(kept);
    }
    let mut joined = String::with_capacity(name.len());
    for c in name.trim_matches(['-', '.', ' ', '_']).chars() {
        if c != '-' || !joined.ends_with('-') {
            joined.push(c);
        }
    }
    let cut = joined.floor_char_boundary(SLUG_BYTES);
    joined.truncate(cut);
    let name = joined.trim_end_matches(['-', '.', ' ', '_']);
    match name {
        "" => fallback.to_owned(),
        reserved if is_reserved(reserved) => {
            let end = reserved.find('.').unwrap_or(reserved.len());
            format!("{}_{}", &reserved[..end], &reserved[end..])
        }
        name => name.to_owned(),
    }
}

/// A name from disk as well-formed text: bytes that are not UTF-8 and control characters are shown escaped.
#[must_use]
pub fn display_name(raw: impl AsRef<OsStr>) -> String {
    let mut shown = String::new();
    for chunk in raw.as_ref().as_encoded_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_printable(c) {
                shown.push(c);
            } else {
                push_escaped(&mut shown, c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

fn push_escaped(shown: &mut String, c: char) {
    let _ = match (c, u32::from(c)) {
        ('\t', _) => write!(shown, "\\t"),
        ('\n', _) => write!(shown, "\\n"),
        ('\r', _) => write!(shown, "\\r"),
        (_, code @ 0..=0xff) => write!(shown, "\\x{code:02x}"),
        (_, code @ 0x100..=0xffff) => write!(shown, "\\u{code:04x}"),
        (_, code) => write!(shown, "\\U{code:08x}"),
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_refused(text: &str) {
        assert!(
            matches!(relative_path(text, "model_id"), Err(Error::UnsafePath { .. })),
            "{text:?} was accepted"
        );
    }

    #[test]
    fn plain_names_pass() {
        for text in [
            "a",
            "llm/llama/Llama-8B",
            "日本/モデル",
            "a b",
            "com",
            "com10",
            "x.con",
            "...a",
        ] {
            assert!(relative_path(text, "model_id").is_ok(), "{text:?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "/etc",
            "..",
            "a/..",
            "a//b",
            "a/",
            "./a",
            "C:\\x",
            "\\\\host\\share",
            "a\\b",
            "a:b",
            "a\0b",
            "a\nb",
            "a.",
            "a ",
            " a",
            "CON",
            "nul.txt",
            "com1",
            "LPT9.x",
            "com¹",
            "conin$",
            "a\u{85}b",
            "a?b",
            "a*b",
        ] {
            check_refused(text);
        }
        check_refused(&"x".repeat(256));
        check_refused(&["y"; 600].join("/"));
    }

    #[test]
    fn links_are_followed_and_siblings_are_no_children() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("models");
        std::fs::create_dir_all(root.join("inside")).unwrap();
        std::fs::create_dir_all(place.path().join("models-old")).unwrap();
        std::os::unix::fs::symlink("../models-old", root.join("out")).unwrap();
        std::os::unix::fs::symlink("inside", root.join("in")).unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", root.join("broken")).unwrap();
        std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
        assert!(contained(&root, "out/x", "p").is_err());
        assert!(contained(&root, "broken", "p").is_err());
        assert!(contained(&root, "in/x/y", "p").is_ok());
        assert!(contained(&root, "new/x", "p").is_ok());
        assert!(contained(&root, "loop/x", "p").is_ok());
    }

    #[test]
    fn callers_name_absolute_paths() {
        assert_eq!(caller_path("/a//b/./c/", "p").unwrap(), PathBuf::from("/a/b/c"));
        for text in ["", "  ", "a/b", "./a", "/a\0b", "~nobody-of-that-name/x"] {
            assert!(caller_path(text, "p").is_err(), "{text:?}");
        }
        assert!(caller_path(&format!("/{}", "x/".repeat(4096)), "p").is_err());
    }

    #[test]
    fn paths_stay_below() {
        let place = tempfile::tempdir().unwrap();
        let (root, other) = (place.path().join("root"), place.path().join("other"));
        std::fs::create_dir_all(root.join("in")).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        let found = |text: &str| path_below(&root, text, &[&other]);
        assert_eq!(found("in").unwrap(), resolved(&root.join("in")));
        assert!(found(other.to_str().unwrap()).is_ok());
        for (text, kind) in [
            ("out", "unsafe_path"),
            ("../", "unsafe_path"),
            ("/etc/passwd", "unsafe_path"),
            ("nothing", "file_unavailable"),
            ("a\0b", "invalid_input"),
            ("~nobody-of-that-name/x", "invalid_input"),
        ] {
            assert_eq!(found(text).unwrap_err().kind(), kind, "{text}");
        }
    }

    #[test]
    fn slugs() {
        for (text, expected) in [
            ("Llama 3.1 (8B)", "Llama-3.1-8B"),
            ("  ..hidden", "hidden"),
            ("a / b", "a-b"),
            ("con", "con_"),
            ("NUL.gguf", "NUL_.gguf"),
            ("***", "fallback"),
            ("日本 語", "日本-語"),
            ("e\u{301}", "é"),
        ] {
            assert_eq!(slug(text, "fallback"), expected, "{text:?}");
        }
    }

    #[test]
    fn odd_names_are_shown_escaped() {
        use std::os::unix::ffi::OsStrExt as _;
        assert_eq!(
            display_name(OsStr::from_bytes(b"a\xff\xfe\n\x01b")),
            "a\\xff\\xfe\\n\\x01b"
        );
        assert_eq!(display_name("a\u{200b}\u{e0001}é"), "a\\u200b\\U000e0001é");
    }

    proptest! {
        #[test]
        fn a_slug_is_always_one_safe_name(text in ".{0,200}") {
            let name = slug(&text, "x");
            prop_assert!(relative_path(&name, "name").is_ok(), "{:?} -> {:?}", text, name);
            prop_assert!(!name.contains('/') && !name.starts_with('.'));
        }

        #[test]
        fn an_accepted_path_stays_below_its_root(text in "[a.~/\\\\ ]{0,12}") {
            if let Ok(path) = contained(Path::new("/tmp/pumas-root"), &text, "p") {
                prop_assert!(path.starts_with("/tmp/pumas-root"));
                prop_assert!(path.components().all(|c| c != Component::ParentDir));
            }
        }
    }
}
