//! What a move removes once its model is in the library, and the removing, which may be done again after a kill.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::kept_paths::{kept, path_of};
use crate::error::Result;
use crate::library::hashing::Stamp;
use crate::library::import_plan::ImportPlan;
use crate::library::import_source::SourceFile;
use crate::storage::files::{fsync_folder, reason};
use crate::storage::paths::display_name;

/// One source file, as it was when it was imported, or a folder that may be empty then.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Removal {
    File { path: String, stamp: Stamp },
    Folder { folder: String },
}

/// The names that the user gave, then their folders from the inside; what links lead to is not ours to remove.
///
/// The primary file goes last and the other weights first: what a kill leaves behind is then still recognised as the model
/// that the library has, and not taken for another one.
pub(super) fn removable(plan: &ImportPlan) -> Result<Vec<Removal>> {
    let (root, primary) = (&plan.source.path, &plan.source.primary()?.name);
    let mut ordered: Vec<&SourceFile> = plan.source.files.iter().collect();
    ordered.sort_by_key(|file| (file.name == *primary, file.format.is_none()));
    let mut removals: Vec<Removal> = ordered
        .iter()
        .map(|file| Removal::File {
            path: kept(&file.found),
            stamp: file.stamp,
        })
        .collect();
    if root.is_dir() {
        let above = ordered.iter().flat_map(|file| file.found.ancestors().skip(1));
        let folders: BTreeSet<&Path> = above.filter(|folder| folder.starts_with(root)).collect();
        let mut inner_first: Vec<&Path> = folders.into_iter().collect();
        inner_first.sort_by_key(|folder| std::cmp::Reverse(folder.components().count()));
        removals.extend(
            inner_first
                .into_iter()
                .map(|folder| Removal::Folder { folder: kept(folder) }),
        );
    }
    Ok(removals)
}

/// Remove imported files that are unchanged, and folders that are empty then; answers what was kept and why.
pub(super) fn remove_sources(removals: &[Removal]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut touched = BTreeSet::new();
    for removal in removals {
        let (path, stamp) = match removal {
            Removal::Folder { folder } => {
                let _ = fs::remove_dir(path_of(folder));
                continue;
            }
            Removal::File { path, stamp } => (path_of(path), stamp),
        };
        let name = display_name(path.file_name().unwrap_or_default());
        match path.metadata().map(|facts| Stamp::of(&facts) == *stamp) {
            Ok(false) => kept.push(format!("{name} was kept: it changed after it was imported")),
            Ok(true) => match fs::remove_file(&path) {
                Ok(()) => touched.extend(path.parent().map(Path::to_path_buf)),
                Err(error) => kept.push(format!("{name} was kept: {}", reason(&error))),
            },
            // Removed before a kill.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => kept.push(format!("{name} was kept: {}", reason(&error))),
        }
    }
    for folder in touched {
        if let Err(error) = fsync_folder(&folder) {
            tracing::debug!("a folder that files were moved from was not synced: {error}");
        }
    }
    kept
}
