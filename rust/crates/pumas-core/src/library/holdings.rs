//! What the library holds already, by content: so that nothing is kept twice that nobody wants twice.
//!
//! Answers from the index and the models' own metadata; opens no model file. What is done about a duplicate is decided by
//! imports and downloads.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use crate::library::index::Index;
use crate::library::metadata::{FileEntry, METADATA, file_entries, model_folder};
use crate::library::publishing::size_of;
use crate::storage::json_file;
use crate::storage::paths::contained;

/// A file by what it is: SHA-256 in lower-case hex, size in bytes.
pub type Held = (String, u64);

/// Calls block; they come from worker threads.
pub struct Holdings {
    library: PathBuf,
    index: Arc<dyn Index>,
}

impl Holdings {
    /// Of the library at `library`.
    pub fn new(library: PathBuf, index: Arc<dyn Index>) -> Self {
        Self { library, index }
    }

    /// A model that has all these files on disk; the largest of them is taken for its primary one.
    ///
    /// # Errors
    /// What the index refuses.
    pub fn model_with(&self, weights: &HashSet<Held>) -> Result<Option<String>> {
        let Some(primary) = weights.iter().max_by_key(|(digest, size)| (*size, digest)) else {
            return Ok(None);
        };
        let candidates = self.index.find_by_sha256(&primary.0)?;
        Ok(candidates
            .into_iter()
            .find(|model_id| weights.is_subset(&self.files_of(model_id, primary))))
    }

    /// A file of the library with this content, as far as metadata and size tell.
    ///
    /// # Errors
    /// What the index refuses.
    pub fn copy_of(&self, file: &Held) -> Result<Option<PathBuf>> {
        for model_id in self.index.find_by_sha256(&file.0)? {
            let Some((folder, entries)) = self.entries(&model_id) else {
                continue;
            };
            let same =
                |entry: &&FileEntry| entry.sha256 == file.0 && size_of(&folder, &entry.name) == Some(file.1);
            if let Some(entry) = entries.iter().find(same) {
                return contained(&folder, &entry.name, "path").map(Some);
            }
        }
        Ok(None)
    }

    /// The files that the model really has on disk; empty for one that is gone or damaged.
    ///
    /// Older sidecars hashed the primary file only: its digest counts for the file of its size.
    fn files_of(&self, model_id: &str, primary: &Held) -> HashSet<Held> {
        let Some((folder, entries)) = self.entries(model_id) else {
            return HashSet::new();
        };
        let held = |entry: FileEntry| {
            let size = size_of(&folder, &entry.name)?;
            let known = !entry.sha256.is_empty() || size != primary.1;
            Some((if known { entry.sha256 } else { primary.0.clone() }, size))
        };
        entries.into_iter().filter_map(held).collect()
    }

    fn entries(&self, model_id: &str) -> Option<(PathBuf, Vec<FileEntry>)> {
        let folder = model_folder(&self.library, model_id).ok()?;
        let metadata = json_file::load(&folder.join(METADATA))
            .ok()?
            .value
            .unwrap_or_default();
        Some((folder, file_entries(&metadata)))
    }
}
