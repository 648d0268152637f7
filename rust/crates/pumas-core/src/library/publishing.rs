//! Give a staged model its place in the library: its metadata, one rename, the index.
//!
//! Whoever staged the files (an import, a download) says what they are and keeps the checkpoint; nothing is fetched, copied
//! or hashed here. A model appears whole or not at all; what a killed process had published is recognised.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use unicode_normalization::UnicodeNormalization as _;

use crate::error::{Error, Result};
use crate::library::index::{Index, follow};
use crate::library::metadata::{METADATA, OVERRIDES, file_entries, model_folder};
use crate::library::staging::Staging;
use crate::storage::files::{
    During as _, FILE_MODE, FOLDER_MODE, RenameFailure, exists, make_folders, remove_if_empty, rename_new,
    write_durably,
};
use crate::storage::json_file::{self, JsonObject};
use crate::storage::paths::contained;
use crate::storage::state_lock::StateLock;

/// Publishing takes milliseconds, but may wait behind another job's fsync on a slow disk.
const PATIENCE: Duration = Duration::from_mins(1);
const MAX_NAMES: u32 = 10_000;

/// Calls block; they come from worker threads.
pub struct Publisher {
    library: PathBuf,
    lock: StateLock,
    staging: Arc<Staging>,
    index: Arc<dyn Index>,
}

/// What a published model is, and who is asked on the way.
pub struct Publication<'a> {
    /// `type/family/name`; `-2` and so on is appended while it is taken.
    pub wanted_id: &'a str,
    /// The content of `metadata.json` for an id.
    pub metadata: &'a dyn Fn(&str) -> JsonObject,
    /// The content of `overrides.json`.
    pub overrides: &'a JsonObject,
    /// Called with the id before its rename, to keep it in a checkpoint.
    pub announce: &'a mut dyn FnMut(&str) -> Result<()>,
    /// Fails when another job has added the model meanwhile; called under the library's lock.
    pub require_new: &'a dyn Fn() -> Result<()>,
}

impl Publisher {
    /// For the library at `library`.
    pub fn new(library: PathBuf, lock: StateLock, staging: Arc<Staging>, index: Arc<dyn Index>) -> Self {
        Self {
            library,
            lock,
            staging,
            index,
        }
    }

    /// Rename the staged model to a free id and tell the index. Answers the id.
    ///
    /// # Errors
    /// Nothing is published. `AlreadyExists`: no name is free. `UnsafePath`, what the disk refuses, and what the calls in
    /// `publication` fail with.
    pub fn publish(&self, staging_id: &str, publication: &mut Publication<'_>) -> Result<String> {
        let wanted = publication.wanted_id;
        let folder = self.staging.model(staging_id)?;
        let taken = names_around(&self.library.join(wanted));
        for number in 1..MAX_NAMES {
            let model_id = if number == 1 {
                wanted.to_owned()
            } else {
                format!("{wanted}-{number}")
            };
            let target = self.library.join(&model_id);
            if name_of(&target).is_some_and(|name| taken.contains(&name)) || exists(&target) {
                continue;
            }
            let write = |name: &str, value: &JsonObject| {
                write_durably(&folder.join(name), &json_file::encode(value), FILE_MODE)
                    .during("Writing the metadata")
            };
            write(METADATA, &(publication.metadata)(&model_id))?;
            write(OVERRIDES, publication.overrides)?;
            self.staging.seal(staging_id)?;
            (publication.announce)(&model_id)?;
            if self.rename(&folder, &model_id, publication.require_new)? {
                return Ok(model_id);
            }
        }
        Err(Error::AlreadyExists(format!(
            "There are too many models named {wanted}; choose another name."
        )))
    }

    /// False when the name was taken meanwhile.
    fn rename(&self, folder: &Path, model_id: &str, require_new: &dyn Fn() -> Result<()>) -> Result<bool> {
        let target = contained(&self.library, model_id, "model_id")?;
        let what = format!("Adding {model_id} to the library");
        let _held = self.lock.hold_within(PATIENCE)?;
        require_new()?;
        let made = make_folders(target.parent().unwrap_or(&self.library), FOLDER_MODE).during(&what)?;
        match rename_new(folder, &target) {
            Ok(()) => {
                let ids = [model_id.to_owned()];
                follow(self.index.refresh(&ids), &ids);
                Ok(true)
            }
            Err(RenameFailure::Taken) => Ok(false),
            Err(failure) => {
                remove_if_empty(&made);
                Err(failure.into_error(&target, &what))
            }
        }
    }

    /// Whether the announced rename happened before a kill; then the index learns of it.
    ///
    /// Staging gave the folder away, and the files with these SHA-256 `digests` (by name) are there.
    #[must_use]
    pub fn finish_killed(&self, staging_id: &str, model_id: &str, digests: &HashMap<String, String>) -> bool {
        if self.staging.model(staging_id).is_ok_and(|folder| exists(&folder)) {
            return false;
        }
        let Ok(folder) = model_folder(&self.library, model_id) else {
            return false;
        };
        let Ok(loaded) = json_file::load(&folder.join(METADATA)) else {
            return false;
        };
        let entries = file_entries(&loaded.value.unwrap_or_default());
        let is_there = |size: Option<u64>, name: &str| size == size_of(&folder, name);
        let whole: HashMap<String, String> = entries
            .into_iter()
            .filter(|entry| is_there(entry.size, &entry.name))
            .map(|entry| (entry.name, entry.sha256))
            .collect();
        if whole != *digests {
            return false;
        }
        let ids = [model_id.to_owned()];
        follow(self.index.refresh(&ids), &ids);
        true
    }
}

/// What is beside `place`, as systems see it that know no case: two models must not become one when the library is copied
/// there.
fn names_around(place: &Path) -> HashSet<String> {
    let entries = place.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let names = entries.into_iter().flatten().flatten();
    names.filter_map(|entry| name_of(&entry.path())).collect()
}

fn name_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    Some(name.nfc().collect::<String>().to_lowercase())
}

/// Size of a file of a model in bytes, `None` when it is not there; `name` may come from anywhere.
#[must_use]
pub fn size_of(folder: &Path, name: &str) -> Option<u64> {
    let path = contained(folder, name, "path").ok()?;
    path.metadata().ok().map(|facts| facts.len())
}
