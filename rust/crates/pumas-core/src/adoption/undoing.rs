//! Take an adoption back: our names for the bytes go, never a byte of the owner's.
//!
//! Only while the owner has the bytes too; when ours are the last ones the undo is refused, and the way is the trash. The
//! model is first moved into the trash by one rename and then removed from there; whatever else lies in its folder, or was
//! changed by hand, stays in the trash.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::adoption::planning::Storage;
use crate::adoption::settling::adoption_id_of;
use crate::adoption::store::{Adoption, AdoptionState, Journal};
use crate::error::{Error, Result};
use crate::library::hashing::Stamp;
use crate::library::metadata::{METADATA, ModelMetadata, OVERRIDES, OWN_FILES};
use crate::library::trash::{MODEL, Trash};
use crate::storage::files::exists;
use crate::storage::json_file::{self, JsonObject};
use crate::storage::paths::{contained, display_name};

const MAX_REASONS: usize = 10;

/// What was taken back, or would be.
#[derive(Debug, Clone, Serialize)]
pub struct Undone {
    /// Which adoption.
    pub adoption_id: String,
    /// Its model.
    pub model_id: String,
    /// How the bytes were shared.
    pub mode: &'static str,
    /// Bytes of the names that were removed.
    pub size: u64,
    /// These names.
    pub removed: Vec<String>,
    /// The owner's files, all still there.
    pub kept_in_store: Vec<String>,
    /// Set when the folder held more than what was adopted, or was changed by hand: it is in the trash.
    pub trash_id: Option<String>,
    /// Why.
    pub reasons: Vec<String>,
    /// Whether nothing was done.
    pub dry_run: bool,
}

/// One file as the metadata of its model has it.
struct Adopted {
    name: String,
    path: String,
    size: u64,
    mtime_ns: i64,
}

/// Which adoption is meant: by its id, or by its model.
#[derive(Debug, Clone)]
pub enum Meant {
    /// The adoption's id.
    Adoption(String),
    /// The model's id.
    Model(String),
}

/// Calls block; they come from worker threads.
pub struct Undoer {
    trash_root: PathBuf,
    models: ModelMetadata,
    trash: Trash,
    journal: Journal,
}

impl Undoer {
    /// `trash_root` is where the entries of `trash` lie.
    #[must_use]
    pub fn new(trash_root: PathBuf, models: ModelMetadata, trash: Trash, journal: Journal) -> Self {
        Self {
            trash_root,
            models,
            trash,
            journal,
        }
    }

    /// Take it back.
    ///
    /// # Errors
    /// `AdoptionNotFound`: no such adoption, or the model was not adopted. `ModelNotFound`, `UnsafePath`, `CorruptState`:
    /// the model cannot be looked at. `LastCopy`: nothing was removed. What the disk refuses: the model is where it was, or
    /// in the trash.
    pub fn undo(&self, meant: &Meant, dry_run: bool) -> Result<Undone> {
        let (model_id, row) = match meant {
            Meant::Model(model_id) => (model_id.clone(), None),
            Meant::Adoption(id) => {
                let row = self.row(id)?;
                (row.model_id.clone(), Some(row))
            }
        };
        let metadata = self.models.load(&model_id)?;
        let found_id = adoption_id_of(&metadata);
        let storage = metadata
            .get("storage")
            .and_then(Value::as_str)
            .and_then(Storage::of);
        let is_another = row.as_ref().is_some_and(|row| row.id != found_id);
        let Some(storage) = storage.filter(|_| !found_id.is_empty() && !is_another) else {
            let (Meant::Adoption(id) | Meant::Model(id)) = meant;
            return Err(Error::AdoptionNotFound(id.clone()));
        };
        let (folder, files) = (self.models.folder(&model_id)?, adopted(&metadata));
        require_other_copies(&folder, &model_id, storage, &files)?;
        let in_store = files.iter().filter(|file| Path::new(&file.path).exists());
        let undone = Undone {
            adoption_id: found_id.to_owned(),
            mode: storage.as_str(),
            size: files.iter().map(|file| file.size).sum(),
            removed: files.iter().map(|file| file.name.clone()).collect(),
            kept_in_store: in_store.map(|file| file.path.clone()).collect(),
            trash_id: None,
            reasons: reasons_to_keep(&folder, &metadata, storage, &files),
            model_id,
            dry_run,
        };
        if dry_run {
            return Ok(undone);
        }
        let row = match row {
            None if self.journal.exists() => self.journal.get(found_id)?,
            row => row,
        };
        self.take_back(undone, row.as_ref(), storage, &files)
    }

    fn take_back(
        &self,
        undone: Undone,
        row: Option<&Adoption>,
        storage: Storage,
        files: &[Adopted],
    ) -> Result<Undone> {
        self.note(row, AdoptionState::Undoing, None)?;
        let trash_id = self.trash.delete(&undone.model_id, false)?.trash_id;
        let entry = self.trash_root.join(&trash_id);
        if undone.reasons.is_empty() {
            // The owner may have removed theirs a moment ago: then what is in the trash stays there.
            match require_other_copies(&entry.join(MODEL), &undone.model_id, storage, files) {
                Err(Error::LastCopy { .. }) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.trash
                        .empty(Some(std::slice::from_ref(&trash_id)), None, false)?;
                }
            }
        }
        let trash_id = entry.exists().then_some(trash_id);
        self.note(row, AdoptionState::Undone, trash_id.clone())?;
        Ok(Undone { trash_id, ..undone })
    }

    fn row(&self, adoption_id: &str) -> Result<Adoption> {
        let row = if self.journal.exists() {
            self.journal.get(adoption_id)?
        } else {
            None
        };
        row.filter(|row| row.state != AdoptionState::Undone)
            .ok_or_else(|| Error::AdoptionNotFound(adoption_id.to_owned()))
    }

    fn note(&self, row: Option<&Adoption>, state: AdoptionState, trash_id: Option<String>) -> Result<()> {
        if let Some(row) = row {
            self.journal.save(Adoption {
                state,
                trash_id,
                ..row.clone()
            })?;
        }
        Ok(())
    }
}

/// The usable elements of `adoption.files`.
fn adopted(metadata: &JsonObject) -> Vec<Adopted> {
    let files = metadata
        .get("adoption")
        .and_then(|adoption| adoption.get("files"));
    let one = |item: &Value| {
        let text = |key: &str| item.get(key)?.as_str().map(str::to_owned);
        Some(Adopted {
            name: text("name")?,
            path: text("path")?,
            size: item.get("size")?.as_u64()?,
            mtime_ns: item.get("mtime_ns")?.as_i64()?,
        })
    };
    let items = files.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(one).collect()
}

/// Answers `LastCopy` unless the bytes of each file exist outside `folder` too.
fn require_other_copies(folder: &Path, model_id: &str, storage: Storage, files: &[Adopted]) -> Result<()> {
    for file in files {
        let own = contained(folder, &file.name, "path");
        let Some(own) = own.ok().and_then(|path| path.symlink_metadata().ok()) else {
            // Not there: nothing of it can be lost.
            continue;
        };
        let is_last = match storage {
            Storage::Hardlink => own.nlink() < 2,
            Storage::Reflink => !is_unchanged(file),
            Storage::Reference => false,
        };
        if is_last {
            return Err(Error::LastCopy {
                model_id: model_id.to_owned(),
                name: display_name(&file.name),
            });
        }
    }
    Ok(())
}

fn is_unchanged(file: &Adopted) -> bool {
    fs::metadata(&file.path).is_ok_and(|status| {
        let stamp = Stamp::of(&status);
        (stamp.size, stamp.mtime_ns) == (file.size, file.mtime_ns)
    })
}

/// Why the folder must not be removed for good: what in it is not of the adoption's making.
fn reasons_to_keep(
    folder: &Path,
    metadata: &JsonObject,
    storage: Storage,
    adopted: &[Adopted],
) -> Vec<String> {
    let is_expected = |name: &str| OWN_FILES.contains(&name) || adopted.iter().any(|file| file.name == name);
    let mut others: Vec<PathBuf> = files_below(folder)
        .into_iter()
        .filter(|path| !path.to_str().is_some_and(is_expected))
        .collect();
    others.sort();
    let mut reasons: Vec<String> = others
        .into_iter()
        .take(MAX_REASONS)
        .map(|path| format!("{} was not adopted.", display_name(path)))
        .collect();
    if metadata.get("updated_date") != metadata.get("added_date") {
        reasons.push("Its metadata was changed by hand.".to_owned());
    }
    match json_file::load(&folder.join(OVERRIDES)) {
        Err(_) => reasons.push("Its overrides cannot be read.".to_owned()),
        Ok(loaded) if loaded.value.as_ref().is_some_and(|value| !value.is_empty()) => {
            reasons.push("It has overrides.".to_owned());
        }
        Ok(_) => {}
    }
    let lies_here = |file: &Adopted| exists(&folder.join(&file.name));
    if storage == Storage::Reference && adopted.iter().any(lies_here) {
        reasons.push(format!(
            "A file lies beside {METADATA} that should only be referenced."
        ));
    }
    reasons
}

/// Everything below `folder` that is no folder, relative to it; links are not followed.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(current) = pending.pop() {
        for entry in fs::read_dir(&current).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(entry.path());
            } else if let Ok(name) = entry.path().strip_prefix(folder) {
                found.push(name.to_path_buf());
            }
        }
    }
    found
}
