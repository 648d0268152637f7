//! The layout of the hub's cache: `models--OWNER--NAME/{blobs,refs,snapshots/COMMIT}`.

use std::fs;
use std::path::{Path, PathBuf};

use super::last;
use super::names::plain_text;
use crate::error::{Error, Result};
use crate::storage::paths::display_name;

const CACHED: &str = "models--";

/// Which commit a folder of one repository stands for: that of its branch `main`, else the only one there is.
///
/// # Errors
/// `SeveralModels`: there are several.
pub(super) fn snapshot(folder: &Path) -> Result<Option<PathBuf>> {
    if !is_cached(folder) {
        return Ok(None);
    }
    let Ok(entries) = fs::read_dir(folder.join("snapshots")) else {
        return Ok(None);
    };
    let mut snapshots: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    snapshots.sort();
    if let Ok(commit) = fs::read_to_string(folder.join("refs/main")) {
        let main = folder.join("snapshots").join(commit.trim());
        if snapshots.contains(&main) {
            return Ok(Some(main));
        }
    }
    if snapshots.len() > 1 {
        return Err(Error::SeveralModels {
            name: display_name(last(folder)),
            candidates: snapshots.iter().map(display_name).collect(),
        });
    }
    Ok(snapshots.pop())
}

/// The name of the repository that a snapshot, which is named by a commit, is of.
pub(super) fn repository_of(snapshot: &Path) -> Option<String> {
    let snapshots = snapshot.parent()?;
    let repository = snapshots.parent()?;
    if last(snapshots) != "snapshots" || !is_cached(repository) {
        return None;
    }
    let name = plain_text(last(repository));
    let (_, name) = name.rsplit_once("--")?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// The snapshot below `root` that holds a file.
pub(super) fn snapshot_around<'a>(root: &Path, weight: &'a Path) -> Option<&'a Path> {
    let mut folders = weight
        .ancestors()
        .skip(1)
        .filter(|folder| *folder != root && folder.starts_with(root));
    folders.find(|folder| repository_of(folder).is_some())
}

pub(super) fn are_blobs(folder: &Path) -> bool {
    last(folder) == "blobs" && folder.parent().is_some_and(is_cached)
}

fn is_cached(folder: &Path) -> bool {
    last(folder).as_encoded_bytes().starts_with(CACHED.as_bytes())
}
