//! Where a model's files are: in its folder, and outside it for those of a reference.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::error::Result;
use crate::library::metadata::METADATA;
use crate::library::references::{REFERENCES, Reference, State, file_path, references};
use crate::storage::json_file::JsonObject;

/// Name and bytes of the files in a model's folder.
pub(super) type OnDisk = IndexMap<String, u64>;

pub(super) struct Place {
    folder: PathBuf,
    on_disk: OnDisk,
    outside: BTreeMap<String, Reference>,
}

impl Place {
    /// Looks into the model's folder.
    pub(super) fn of(folder: PathBuf, metadata: &JsonObject) -> Self {
        let outside = references(metadata.get(REFERENCES))
            .into_iter()
            .map(|reference| (reference.name.clone(), reference))
            .collect();
        Self {
            on_disk: files_of(&folder),
            folder,
            outside,
        }
    }

    pub(super) fn on_disk(&self) -> &OnDisk {
        &self.on_disk
    }

    /// Bytes, of the folder and outside.
    pub(super) fn size(&self) -> u64 {
        let inside: u64 = self.on_disk.values().sum();
        let outside: u64 = self
            .outside
            .values()
            .map(|reference| reference.size.unsigned_abs())
            .sum();
        inside + outside
    }

    /// # Errors
    /// As [`file_path`].
    pub(super) fn path(&self, name: &str) -> Result<PathBuf> {
        file_path(&self.folder, &self.outside, name)
    }

    /// Whether the file lies on a drive that is away.
    pub(super) fn is_offline(&self, name: &str) -> bool {
        self.outside
            .get(name)
            .is_some_and(|reference| reference.state() == State::Offline)
    }
}

/// The model's files, without hidden ones and without models nested in it.
fn files_of(top: &Path) -> OnDisk {
    let mut found = OnDisk::new();
    let mut waiting: Vec<(PathBuf, String)> = vec![(top.to_path_buf(), String::new())];
    while let Some((folder, base)) = waiting.pop() {
        let (mut folders, mut names) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(io::Result::ok)
        {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let is_folder = entry
                .file_type()
                .is_ok_and(|kind| kind.is_dir() || kind.is_symlink() && entry.path().is_dir());
            if !is_folder {
                names.push(name);
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !name.starts_with('.') {
                folders.push(name);
            }
        }
        if !base.is_empty() && names.iter().any(|name| name == METADATA) {
            continue;
        }
        names.sort();
        for name in names.iter().filter(|name| !name.starts_with('.')) {
            if let Ok(status) = folder.join(name).metadata() {
                found.insert(format!("{base}{name}"), status.len());
            }
        }
        folders.sort();
        waiting.extend(
            folders
                .iter()
                .rev()
                .map(|name| (folder.join(name), format!("{base}{name}/"))),
        );
    }
    found
}
