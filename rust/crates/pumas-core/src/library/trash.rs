//! Deleting without losing: a model goes to `.trash/<trash_id>/` on its own volume and can come back.
//!
//! `.trash/<trash_id>/entry.json` says what lies in `model/` and where it belongs. It is on disk before the model is
//! moved by one rename, so a model is whole in the library or whole in the trash at every moment. Emptying first renames
//! the entry to `<trash_id>.emptying`; what a killed process left half done is finished by [`Trash::recover`]. What else
//! goes with a model, such as links into it, is its [`Companions`]' matter.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::library::companions::Companions;
use crate::library::index::{Index, follow};
use crate::library::metadata::{known_folder, model_folder};
use crate::storage::clock::now;
use crate::storage::files::{
    During as _, FILE_MODE, FOLDER_MODE, PRIVATE_FOLDER_MODE, RenameFailure, exists, fsync_folder,
    make_folders, random_hex, remove_if_empty, rename_new, write_durably,
};
use crate::storage::json_file;
use crate::storage::paths::contained;
use crate::storage::state_lock::StateLock;

mod entry;

pub use entry::TrashEntry;
use entry::{ENTRY, age_days, compact, decoded, describe, encoded, id_from_metadata, is_trash_id};

/// The folder of an entry that holds the model.
pub const MODEL: &str = "model";
const EMPTYING: &str = ".emptying";
const LISTING: &str = "list_trash";

/// The trash of one library. Calls block.
#[derive(Clone)]
pub struct Trash {
    library: PathBuf,
    root: PathBuf,
    lock: StateLock,
    index: Arc<dyn Index>,
    companions: Arc<dyn Companions>,
}

impl Trash {
    /// `root` is where the entries lie; it is made when first needed.
    #[must_use]
    pub fn new(
        library: PathBuf,
        root: PathBuf,
        lock: StateLock,
        index: Arc<dyn Index>,
        companions: Arc<dyn Companions>,
    ) -> Self {
        Self {
            library,
            root,
            lock,
            index,
            companions,
        }
    }

    // -- delete and restore ------------------------------------------------------------------------------------------

    /// Moves a model, with everything in its folder, into the trash. Families left empty are removed.
    ///
    /// # Errors
    /// `ModelNotFound`, `UnsafePath`: see [`known_folder`]. What the disk refuses: the model is where it was.
    pub fn delete(&self, model_id: &str, dry_run: bool) -> Result<TrashEntry> {
        let entry = {
            let _held = self.lock.hold()?;
            let folder = known_folder(&self.library, self.index.as_ref(), model_id)?;
            let moment = now();
            let trash_id = format!("{}-{}", compact(&moment), random_hex(4));
            let mut entry = describe(&folder, model_id, &trash_id, &moment);
            if dry_run {
                entry.companions = self.companions.count(&entry.model_ids)?;
                return Ok(entry);
            }
            entry.companions = self.move_in(&folder, &entry)?;
            self.remove_empty_parents(&folder);
            entry
        };
        follow(self.index.remove(&entry.model_ids), &entry.model_ids);
        Ok(entry)
    }

    fn move_in(&self, folder: &Path, entry: &TrashEntry) -> Result<usize> {
        let what = format!("Deleting {}", entry.model_id);
        let place = self.root.join(&entry.trash_id);
        make_folders(&self.root, PRIVATE_FOLDER_MODE).during(&what)?;
        make_folders(&place, FOLDER_MODE).during(&what)?;
        let moved = write_durably(&place.join(ENTRY), &encoded(entry), FILE_MODE)
            .during(&what)
            .and_then(|()| self.companions.leaving(&entry.trash_id, &entry.model_ids))
            .and_then(|departure| {
                let target = place.join(MODEL);
                rename_new(folder, &target).map_err(|failure| failure.into_error(&target, &what))?;
                let count = departure.count();
                departure.complete();
                Ok(count)
            });
        if moved.is_err() {
            remove_entry_without_model(&place);
        }
        moved
    }

    /// The family goes when it is empty, the type folder (the first level) stays.
    fn remove_empty_parents(&self, folder: &Path) {
        for parent in folder.ancestors().skip(1) {
            let is_inner = parent.starts_with(&self.library) && parent.parent() != Some(&self.library);
            if !is_inner || parent == self.library || fs::remove_dir(parent).is_err() {
                return;
            }
        }
    }

    /// What can be restored, newest first. A model whose entry is damaged is listed under a name of its own.
    ///
    /// # Errors
    /// The trash cannot be read.
    pub fn list(&self) -> Result<Vec<TrashEntry>> {
        let mut found: Vec<TrashEntry> = self.names()?.iter().filter_map(|name| self.read(name)).collect();
        found.sort_by(|a, b| (&b.deleted_at, &b.trash_id).cmp(&(&a.deleted_at, &a.trash_id)));
        Ok(found)
    }

    /// Puts a model back under its id.
    ///
    /// # Errors
    /// `TrashEntryNotFound`: no such entry. `AlreadyExists`: the id is taken by now; nothing was changed. What the disk
    /// refuses: the model is still in the trash.
    pub fn restore(&self, trash_id: &str, dry_run: bool) -> Result<TrashEntry> {
        let what = format!("Restoring {trash_id}");
        let entry = {
            let _held = self.lock.hold()?;
            let mut entry = self.get(trash_id)?;
            let target = contained(&self.library, &entry.model_id, "model_id")?;
            if dry_run {
                return if exists(&target) {
                    Err(taken(&entry.model_id))
                } else {
                    Ok(entry)
                };
            }
            let made = make_folders(target.parent().unwrap_or(&self.library), FOLDER_MODE).during(&what)?;
            if let Err(failure) = rename_new(&self.root.join(trash_id).join(MODEL), &target) {
                remove_if_empty(&made);
                return Err(match failure {
                    RenameFailure::Taken => taken(&entry.model_id),
                    other @ RenameFailure::Io(_) => other.into_error(&target, &what),
                });
            }
            remove_entry_without_model(&self.root.join(trash_id));
            entry.companions = self.companions_return(trash_id);
            entry
        };
        follow(self.index.refresh(&entry.model_ids), &entry.model_ids);
        Ok(entry)
    }

    /// The model is back whatever becomes of them; they are looked after again at the next start.
    fn companions_return(&self, trash_id: &str) -> usize {
        self.companions.returned(trash_id).unwrap_or_else(|error| {
            tracing::warn!("what belongs to a restored model could not follow: {error}");
            0
        })
    }

    // -- empty -------------------------------------------------------------------------------------------------------

    /// Deletes entries for good and returns them.
    ///
    /// `trash_ids` means exactly these; None means every entry whose own file could be read. With `older_than_days` only
    /// those deleted longer ago; an entry without a date does not count as old.
    ///
    /// # Errors
    /// `TrashEntryNotFound`: one of `trash_ids` does not exist; nothing was deleted. What the disk refuses: an entry could
    /// not be removed; those before it are gone.
    pub fn empty(
        &self,
        trash_ids: Option<&[String]>,
        older_than_days: Option<f64>,
        dry_run: bool,
    ) -> Result<Vec<TrashEntry>> {
        let _held = self.lock.hold()?;
        let mut chosen = self.choose(trash_ids)?;
        if let Some(days) = older_than_days {
            chosen.retain(|entry| age_days(entry) > days);
        }
        if !dry_run {
            for entry in &chosen {
                self.destroy(&entry.trash_id)?;
            }
        }
        Ok(chosen)
    }

    fn choose(&self, trash_ids: Option<&[String]>) -> Result<Vec<TrashEntry>> {
        let Some(ids) = trash_ids else {
            return Ok(self
                .list()?
                .into_iter()
                .filter(|entry| !entry.deleted_at.is_empty())
                .collect());
        };
        let mut chosen: Vec<TrashEntry> = Vec::new();
        for id in ids {
            if !chosen.iter().any(|entry| entry.trash_id == *id) {
                chosen.push(self.get(id)?);
            }
        }
        Ok(chosen)
    }

    fn destroy(&self, trash_id: &str) -> Result<()> {
        let what = "Emptying the trash";
        let doomed = self.root.join(format!("{trash_id}{EMPTYING}"));
        rename_new(&self.root.join(trash_id), &doomed)
            .map_err(|failure| failure.into_error(&doomed, what))?;
        // Removes links, never what they lead to.
        fs::remove_dir_all(&doomed).during(what)?;
        fsync_folder(&self.root).during(what)?;
        let _ = self.companions.forgotten(trash_id);
        Ok(())
    }

    // -- after a crash -----------------------------------------------------------------------------------------------

    /// Finishes what a killed process began: at start, before anything else uses the trash.
    ///
    /// # Errors
    /// The trash cannot be read, or the lock cannot be had.
    pub fn recover(&self) -> Result<()> {
        {
            let _held = self.lock.hold()?;
            for name in self.names()? {
                let place = self.root.join(&name);
                let (id, is_doomed) = name
                    .strip_suffix(EMPTYING)
                    .map_or((name.as_str(), false), |id| (id, true));
                if !is_trash_id(id) {
                    continue;
                }
                if is_doomed {
                    let _ = fs::remove_dir_all(&place);
                } else if !exists(&place.join(MODEL)) {
                    // A delete that had not moved the model yet, or a restore that had already: it is in the library.
                    remove_entry_without_model(&place);
                }
            }
        }
        let is_gone = |id: &String| model_folder(&self.library, id).is_err();
        let gone: Vec<String> = self
            .list()?
            .into_iter()
            .flat_map(|entry| entry.model_ids)
            .filter(is_gone)
            .collect();
        if !gone.is_empty() {
            follow(self.index.remove(&gone), &gone);
        }
        Ok(())
    }

    // -- entries -----------------------------------------------------------------------------------------------------

    /// In order; what is not text is none of ours.
    fn names(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.during("Looking into the trash")?,
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    fn get(&self, trash_id: &str) -> Result<TrashEntry> {
        let missing = || Error::TrashEntryNotFound {
            trash_id: trash_id.to_owned(),
            listing: LISTING,
        };
        self.read(trash_id).ok_or_else(missing)
    }

    /// None when there is nothing to restore under this name.
    fn read(&self, trash_id: &str) -> Option<TrashEntry> {
        if !is_trash_id(trash_id) {
            return None;
        }
        let place = self.root.join(trash_id);
        if place.is_symlink() || !exists(&place.join(MODEL)) {
            return None;
        }
        let stored = json_file::load(&place.join(ENTRY)).map(|loaded| loaded.value.unwrap_or_default());
        let entry = stored.and_then(|value| decoded(trash_id, &value));
        Some(entry.unwrap_or_else(|_| {
            let model = place.join(MODEL);
            describe(&model, &id_from_metadata(&model, trash_id), trash_id, "")
        }))
    }
}

/// Removes our own file and the folder if nothing else is in it. Never a tree.
fn remove_entry_without_model(place: &Path) {
    if exists(&place.join(MODEL)) {
        return;
    }
    for found in fs::read_dir(place)
        .into_iter()
        .flatten()
        .filter_map(io::Result::ok)
    {
        let name = found.file_name();
        if name
            .to_str()
            .is_some_and(|name| name == ENTRY || name.starts_with("entry.json."))
        {
            let _ = fs::remove_file(found.path());
        }
    }
    if fs::remove_dir(place).is_ok() {
        let _ = fsync_folder(place.parent().unwrap_or(place));
    }
}

fn taken(model_id: &str) -> Error {
    Error::AlreadyExists(format!(
        "{model_id} is in the library again; delete or move that first."
    ))
}

#[cfg(test)]
mod tests;
