//! Model files that lie outside the library: what the metadata says of them, and whether they are there now.
//!
//! An adopted model may own no bytes: `references` in its `metadata.json` names the files in another program's store.
//! That key may come from anywhere; files are looked at with stat(2) alone and never opened or changed here.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::error::Result;
use crate::storage::paths::{caller_path, contained, relative_path, resolved};

/// The key in `metadata.json`.
pub const REFERENCES: &str = "references";
const MAX_REFERENCES: usize = 10_000;

/// Whether a model's bytes can be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// They are there.
    Ok,
    /// The drive or the whole store is away and may come back.
    Offline,
    /// Their owner removed a file.
    Missing,
}

impl State {
    /// As the index and replies have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Offline => "offline",
            Self::Missing => "missing",
        }
    }
}

/// One file outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reference {
    /// The one it has in the model.
    pub name: String,
    /// Absolute.
    pub path: String,
    /// Bytes.
    pub size: i64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// The root of the program's store. It must be there for a missing file to mean that its owner removed it.
    pub store: String,
    /// Where the volume was mounted; as with `store`.
    pub mount: String,
}

impl Reference {
    /// Looked up now.
    #[must_use]
    pub fn state(&self) -> State {
        match Path::new(&self.path).metadata() {
            Ok(status) if status.is_file() => State::Ok,
            Ok(_) => State::Missing,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                let away = !Path::new(&self.store).is_dir() || !is_mount(Path::new(&self.mount));
                if away { State::Offline } else { State::Missing }
            }
            // A network drive that does not answer, a folder that may not be entered now: not gone.
            Err(_) => State::Offline,
        }
    }
}

/// The usable elements of the metadata's `references`; what is not of that form is left out.
#[must_use]
pub fn references(value: Option<&Value>) -> Vec<Reference> {
    let items = value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    items.iter().take(MAX_REFERENCES).filter_map(reference).collect()
}

fn reference(value: &Value) -> Option<Reference> {
    let fields = value.as_object()?;
    let text = |key: &str| fields.get(key)?.as_str().map(str::to_owned);
    let number = |key: &str| fields.get(key)?.as_i64().filter(|number| *number >= 0);
    let reference = Reference {
        name: text("name")?,
        path: text("path")?,
        size: number("size")?,
        mtime_ns: number("mtime_ns")?,
        store: text("store")?,
        mount: text("mount")?,
    };
    relative_path(&reference.name, "path").ok()?;
    let usable = is_plain(&reference.path) && is_plain(&reference.store) && is_plain(&reference.mount);
    usable.then_some(reference)
}

/// Absolute, and no `~` in it that means something else.
fn is_plain(text: &str) -> bool {
    caller_path(text, "path").is_ok_and(|path| path == Path::new(text))
}

/// The worst of the files: one that is gone for good counts more than one that is away.
#[must_use]
pub fn state_of(found: &[Reference]) -> State {
    found.iter().map(Reference::state).max().unwrap_or(State::Ok)
}

/// Where the bytes of a model's file are; `outside` are the model's references by name.
///
/// # Errors
/// `UnsafePath`: the name would leave the folder.
pub fn file_path(folder: &Path, outside: &BTreeMap<String, Reference>, name: &str) -> Result<PathBuf> {
    match outside.get(name) {
        Some(reference) => Ok(PathBuf::from(&reference.path)),
        None => contained(folder, name, "file name"),
    }
}

/// Whether another volume begins at `path` (links to folders are none).
fn is_mount(path: &Path) -> bool {
    let Ok(status) = path.symlink_metadata() else {
        return false;
    };
    if status.is_symlink() {
        return false;
    }
    let Ok(above) = resolved(&path.join("..")).symlink_metadata() else {
        return false;
    };
    status.dev() != above.dev() || status.ino() == above.ino()
}

/// The mount point of the volume that `path` lies on.
#[must_use]
pub fn mount_of(path: &Path) -> PathBuf {
    let real = resolved(path);
    real.ancestors()
        .find(|folder| is_mount(folder))
        .unwrap_or_else(|| Path::new("/"))
        .to_path_buf()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listed(place: &Path, name: &str) -> Value {
        json!([{
            "name": name, "path": place.join("store/a.gguf"), "size": 1, "mtime_ns": 2,
            "store": place.join("store"), "mount": "/",
        }])
    }

    #[test]
    fn gone_and_away_are_told_apart() {
        let place = tempfile::tempdir().unwrap();
        let found = references(Some(&listed(place.path(), "a.gguf")));
        assert_eq!(state_of(&found), State::Offline);
        std::fs::create_dir(place.path().join("store")).unwrap();
        assert_eq!(state_of(&found), State::Missing);
        std::fs::write(place.path().join("store/a.gguf"), "x").unwrap();
        assert_eq!(state_of(&found), State::Ok);
        assert_eq!(state_of(&[]), State::Ok);
    }

    #[test]
    fn what_is_not_of_the_form_is_left_out() {
        let place = Path::new("/x");
        assert_eq!(references(Some(&listed(place, "a.gguf"))).len(), 1);
        for name in ["../a", "", "/a"] {
            assert!(references(Some(&listed(place, name))).is_empty());
        }
        for value in [
            json!(null),
            json!({}),
            json!([1, {}]),
            json!([{"name": "a", "path": "rel"}]),
        ] {
            assert!(references(Some(&value)).is_empty());
        }
    }

    #[test]
    fn the_root_is_a_mount() {
        assert!(is_mount(Path::new("/")) && !is_mount(Path::new("/nowhere/at/all")));
        assert!(is_mount(&mount_of(Path::new("/usr/lib"))));
    }
}
