//! Where package programs put what they need only while they run.
//!
//! It lies below the launcher root, not in the system's folder for temporary files: that one is often kept in memory, and
//! pip unpacks gigabytes there. What a kill leaves behind is removed at the next start. `cache` is that of the layout.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::storage::files::{During as _, PRIVATE_FOLDER_MODE, make_folders, random_hex};

const PREPARING: &str = "Preparing a folder for temporary files";

fn place(cache: &Path) -> PathBuf {
    cache.join("scratch")
}

/// The folder of all of it, made when missing.
///
/// # Errors
/// The disk's failures.
pub(super) fn folder(cache: &Path) -> Result<PathBuf> {
    let place = place(cache);
    make_folders(&place, PRIVATE_FOLDER_MODE).during(PREPARING)?;
    Ok(place)
}

/// A folder of one's own, removed when this is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// # Errors
    /// The disk's failures.
    pub(super) fn new(cache: &Path, prefix: &str) -> Result<Self> {
        let path = folder(cache)?.join(format!("{prefix}{}", random_hex(8)));
        fs::DirBuilder::new()
            .mode(PRIVATE_FOLDER_MODE)
            .create(&path)
            .during(PREPARING)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Folders that lie there, which at a start nobody needs; files are removed here.
pub(super) fn left_behind(cache: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place(cache)).into_iter().flatten().flatten();
    let (folders, files): (Vec<_>, Vec<_>) =
        entries.partition(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    for file in files {
        let _ = fs::remove_file(file.path());
    }
    folders.into_iter().map(|entry| entry.path()).collect()
}
