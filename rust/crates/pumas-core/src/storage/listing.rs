//! What a folder holds. No such folder is one that holds nothing; one that cannot be read never is. All calls block.

use std::fs::{self, DirEntry};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::storage::files::{During as _, exists};

/// In no order; nothing where there is no such folder, or a file in its place.
///
/// # Errors
/// Nobody can say, which is not the same as nothing.
pub fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        listed => listed?.collect(),
    }
}

/// The JSON files of a folder, by name, but for hidden ones; none when there is no such folder.
///
/// # Errors
/// `DiskError`: it cannot be looked at, or is a link that leads nowhere; that is not the same as none.
pub fn json_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound && !exists(folder) => return Ok(Vec::new()),
        listed => listed.and_then(Iterator::collect::<io::Result<Vec<DirEntry>>>),
    };
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let listed = listed.during(&format!("Looking into {name}"))?;
    let is_json = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        !name.starts_with(b".") && path.extension().is_some_and(|end| end == "json")
    };
    let mut files: Vec<PathBuf> = listed.iter().map(DirEntry::path).filter(is_json).collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn json_files_come_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.json", "a.json", ".c.json", ".json", "d.txt", "e.JSON"] {
            fs::write(folder.path().join(name), "{}").unwrap();
        }
        let names = ["a.json", "b.json"].map(|name| folder.path().join(name));
        assert_eq!(json_files(folder.path()).unwrap(), names);
    }

    #[test]
    fn what_cannot_be_read_is_not_empty() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("file"), "").unwrap();
        symlink("gone", at("dangling")).unwrap();
        symlink("circle", at("circle")).unwrap();
        assert!(json_files(&at("absent")).unwrap().is_empty());
        for name in ["file", "dangling", "circle"] {
            assert!(json_files(&at(name)).is_err(), "{name}");
        }
        for (name, is_known) in [("absent", true), ("file", true), ("circle", false)] {
            assert_eq!(entries(&at(name)).is_ok(), is_known, "{name}");
        }
    }
}
