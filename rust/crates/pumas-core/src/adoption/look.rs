//! The bounded look at folders that nobody has vouched for: the only way in which readers list, stat and read.
//!
//! Only names, stat(2) and small JSON manifests are used: no model file is opened here. Links are followed only where a
//! caller says so, names that are not UTF-8 are reported and left out, special files are never touched.

use std::cell::Cell;
use std::fs::{self, File, FileType, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use serde_json::Value;

use crate::adoption::found::Store;
use crate::error::{Error, Result};
use crate::storage::files::reason;
use crate::storage::json_file::JsonObject;
use crate::storage::paths::MAX_ABSOLUTE_BYTES;

/// A folder is listed whole before it is sorted, so this bounds memory too.
const MAX_ENTRIES: u64 = 300_000;
/// Bytes of a manifest or a settings file.
pub const MAX_MANIFEST_BYTES: u64 = 1024 * 1024;
/// How deep folders are followed.
pub const MAX_DEPTH: usize = 16;
const CHECK_EVERY: u64 = 256;

/// Why a look ended early.
#[derive(Debug)]
pub enum Halt {
    /// There is more than a scan looks at.
    Limit,
    /// Whoever asked for it wants no more.
    Stopped(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Stopped(error)
    }
}

/// What a look gives.
pub type Looked<T> = std::result::Result<T, Halt>;

/// Why a small file is of no use.
#[derive(Debug)]
pub enum Unusable {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is too large, no regular file, or not of the form that it should have.
    Content,
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// One name in a folder.
#[derive(Debug)]
pub struct Entry {
    /// The name itself.
    pub name: String,
    /// The folder's path with it.
    pub path: String,
    kind: Option<FileType>,
}

impl Entry {
    /// Whether it is a link, wherever it leads.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.kind.is_some_and(|kind| kind.is_symlink())
    }

    /// Whether it is a folder, and no link to one.
    #[must_use]
    pub fn is_plain_folder(&self) -> bool {
        self.kind.is_some_and(|kind| kind.is_dir())
    }

    /// Whether it is a regular file, and no link to one.
    #[must_use]
    pub fn is_plain_file(&self) -> bool {
        self.kind.is_some_and(|kind| kind.is_file())
    }

    /// Whether it is a folder or leads to one.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.is_plain_folder() || (self.is_symlink() && Path::new(&self.path).is_dir())
    }
}

type Check<'a> = Box<dyn Fn() -> Result<()> + 'a>;

/// The limits of one scan over all its stores.
pub struct Look<'a> {
    check: Check<'a>,
    entries: u64,
    seen: Cell<u64>,
}

impl Default for Look<'_> {
    fn default() -> Self {
        Self::new(|| Ok(()))
    }
}

impl<'a> Look<'a> {
    /// `check` is called now and then and fails to stop the look.
    pub fn new(check: impl Fn() -> Result<()> + 'a) -> Self {
        Self::limited(check, MAX_ENTRIES)
    }

    /// As [`Look::new`], at so many names at most.
    pub fn limited(check: impl Fn() -> Result<()> + 'a, entries: u64) -> Self {
        Self {
            check: Box::new(check),
            entries,
            seen: Cell::new(0),
        }
    }

    /// What is in a folder, sorted by name, without what cannot be named in UTF-8; nothing when it cannot be read.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn names(&self, store: &mut Store, folder: &str) -> Looked<Vec<Entry>> {
        let mut found = Vec::new();
        let unreadable = match fs::read_dir(folder) {
            Ok(entries) => self.collect(store, folder, entries, &mut found)?,
            Err(error) => Some(error),
        };
        if let Some(error) = unreadable {
            store.problem(folder, "unreadable", format!("{}.", reason(&error)));
        }
        found.sort_by(|one: &Entry, other| one.name.cmp(&other.name));
        Ok(found)
    }

    fn collect(
        &self,
        store: &mut Store,
        folder: &str,
        entries: fs::ReadDir,
        found: &mut Vec<Entry>,
    ) -> Looked<Option<io::Error>> {
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return Ok(Some(error)),
            };
            self.count()?;
            match entry.file_name().into_string() {
                Ok(name) if folder.len() + 1 + name.len() < MAX_ABSOLUTE_BYTES => found.push(Entry {
                    path: format!("{folder}/{name}"),
                    kind: entry.file_type().ok(),
                    name,
                }),
                _ => {
                    let message = "Its name is not UTF-8 or its path too long.";
                    store.problem(entry.path(), "unusable_name", message);
                }
            }
        }
        Ok(None)
    }

    fn count(&self) -> Looked<()> {
        let seen = self.seen.get() + 1;
        self.seen.set(seen);
        if seen.is_multiple_of(CHECK_EVERY) {
            (self.check)()?;
        }
        if seen > self.entries {
            return Err(Halt::Limit);
        }
        Ok(())
    }

    /// What stat(2) says of a regular file; nothing, with the problem noted, for anything else.
    #[must_use]
    pub fn regular(&self, store: &mut Store, path: &str, follow: bool) -> Option<Metadata> {
        let status = if follow {
            fs::metadata(path)
        } else {
            fs::symlink_metadata(path)
        };
        match status {
            Ok(status) if status.is_file() => return Some(status),
            Ok(_) => store.problem(path, "special_file", "It is no regular file and was not opened."),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                store.problem(path, "broken_link", "It leads to a file that is not there.");
            }
            Err(error) => store.problem(path, "unreadable", format!("{}.", reason(&error))),
        }
        None
    }
}

/// A small JSON object.
///
/// # Errors
/// It is not one.
pub fn manifest(path: &str) -> std::result::Result<JsonObject, Unusable> {
    match serde_json::from_slice(&small_file(path)?) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Unusable::Content),
    }
}

/// The bytes of a small regular file, which no link leads to.
///
/// # Errors
/// It is not one.
pub fn small_file(path: &str) -> std::result::Result<Vec<u8>, Unusable> {
    // Looked at before it is opened, because opening some devices has effects.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(Unusable::Content);
    }
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = File::options()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)?;
    let status = file.metadata()?;
    if !status.is_file() || status.len() > MAX_MANIFEST_BYTES {
        return Err(Unusable::Content);
    }
    let mut data = Vec::new();
    file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut data)?;
    if data.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(Unusable::Content);
    }
    Ok(data)
}

/// The text of a small file, without the space around it; `""` when it has none.
#[must_use]
pub fn line(path: &str) -> String {
    let data = small_file(path).unwrap_or_default();
    str::from_utf8(&data).unwrap_or_default().trim().to_owned()
}

/// Whether `text` is so many lower-case hexadecimal digits.
#[must_use]
pub fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::adoption::found::StoreKind;

    #[test]
    fn names_are_sorted_and_odd_ones_are_told() {
        let place = tempfile::tempdir().unwrap();
        for name in [b"b".as_slice(), b"a", b"\xff"] {
            fs::write(place.path().join(OsStr::from_bytes(name)), "").unwrap();
        }
        let root = place.path().to_str().unwrap();
        let mut store = Store::new(StoreKind::Folder, root);
        let found = Look::default().names(&mut store, root).unwrap();
        let names: Vec<&str> = found.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(
            (store.problems[0].kind, store.problems[0].path.as_str()),
            ("unusable_name", "\\xff")
        );
        assert!(
            Look::default()
                .names(&mut store, &format!("{root}/none"))
                .unwrap()
                .is_empty()
        );
        assert_eq!(store.problems[1].message, "No such file or directory.");
    }

    #[test]
    fn a_look_ends_at_its_limit_or_when_it_is_told() {
        let place = tempfile::tempdir().unwrap();
        for number in 0..300 {
            fs::write(place.path().join(number.to_string()), "").unwrap();
        }
        let root = place.path().to_str().unwrap();
        let mut store = Store::new(StoreKind::Folder, root);
        let limited = Look::limited(|| Ok(()), 10).names(&mut store, root);
        assert!(matches!(limited, Err(Halt::Limit)));
        let stopped = Look::new(|| Err(Error::Cancelled("Stop.".into()))).names(&mut store, root);
        assert!(matches!(stopped, Err(Halt::Stopped(Error::Cancelled(_)))));
    }

    #[test]
    fn only_small_regular_files_are_read() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("good"), "{\"a\": 1}").unwrap();
        fs::write(at("list"), "[]").unwrap();
        fs::write(at("large"), vec![b' '; 1024 * 1024 + 1]).unwrap();
        symlink(at("good"), at("link")).unwrap();
        assert_eq!(manifest(&at("good")).unwrap()["a"], 1);
        for name in ["list", "large", "link", "."] {
            assert!(matches!(manifest(&at(name)), Err(Unusable::Content)), "{name}");
        }
        assert!(matches!(manifest(&at("none")), Err(Unusable::Unreadable(_))));
        for (depth, is_read) in [(127, true), (128, false)] {
            let (open, shut) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
            fs::write(at("deep"), format!("{{\"a\": {open}{shut}}}")).unwrap();
            assert_eq!(manifest(&at("deep")).is_ok(), is_read, "{depth}");
        }
        fs::write(at("word"), " word\n").unwrap();
        assert_eq!(
            (line(&at("word")).as_str(), line(&at("none")).as_str()),
            ("word", "")
        );
    }
}
