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

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::library::companions::Companions;
use crate::library::index::{Index, follow};
use crate::library::metadata::{METADATA, known_folder, model_folder};
use crate::library::moments::utc_moment;
use crate::storage::clock::now;
use crate::storage::files::{
    During as _, FILE_MODE, FOLDER_MODE, PRIVATE_FOLDER_MODE, already_exists, exists, fsync_folder,
    make_folders, random_hex, remove_if_empty, rename_new, write_durably,
};
use crate::storage::json_file::{self, JsonObject};
use crate::storage::paths::{contained, relative_path, slug};
use crate::storage::state_lock::StateLock;

const ENTRY: &str = "entry.json";
/// The folder of an entry that holds the model.
pub const MODEL: &str = "model";
const EMPTYING: &str = ".emptying";
const LONGEST_ID: usize = 100;
const LISTING: &str = "list_trash";

/// One deleted model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrashEntry {
    /// Names it for `restore` and `empty`.
    pub trash_id: String,
    /// Where it belongs.
    pub model_id: String,
    /// All models that lie in the folder: the deleted one first, then those nested in it.
    pub model_ids: Vec<String>,
    /// The shown name.
    pub official_name: String,
    /// ISO-8601 UTC; `""` when nobody wrote it down.
    pub deleted_at: String,
    /// Bytes.
    pub size: u64,
    /// Files, links included.
    pub files: u64,
    /// How many companions went or came back with it in this call.
    #[serde(skip)]
    pub companions: usize,
}

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
                    Err(already_exists(&target))
                } else {
                    Ok(entry)
                };
            }
            let made = make_folders(target.parent().unwrap_or(&self.library), FOLDER_MODE).during(&what)?;
            if let Err(failure) = rename_new(&self.root.join(trash_id).join(MODEL), &target) {
                remove_if_empty(&made);
                return Err(failure.into_error(&target, &what));
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

fn is_trash_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// `2030-02-03T04:05:06.000001Z` as `20300203T040506`.
fn compact(moment: &str) -> String {
    moment
        .chars()
        .filter(|c| !matches!(c, '-' | ':'))
        .take(15)
        .collect()
}

/// Counts what lies in `folder`, links as links.
fn describe(folder: &Path, model_id: &str, trash_id: &str, deleted_at: &str) -> TrashEntry {
    let mut entry = TrashEntry {
        trash_id: trash_id.to_owned(),
        model_id: model_id.to_owned(),
        model_ids: vec![model_id.to_owned()],
        official_name: official_name(folder),
        deleted_at: deleted_at.to_owned(),
        size: 0,
        files: 0,
        companions: 0,
    };
    let mut waiting = vec![(folder.to_path_buf(), model_id.to_owned())];
    while let Some((path, id)) = waiting.pop() {
        let mut folders = Vec::new();
        let mut is_model = false;
        for found in fs::read_dir(&path)
            .into_iter()
            .flatten()
            .filter_map(io::Result::ok)
        {
            let name = found.file_name();
            let Ok(status) = found.path().symlink_metadata() else {
                continue;
            };
            if status.is_dir() {
                folders.push((found.path(), format!("{id}/{}", name.to_string_lossy())));
            } else if !(status.is_symlink() && found.path().is_dir()) {
                is_model |= name == METADATA;
                entry.size += status.len();
                entry.files += 1;
            }
        }
        if is_model && id != model_id {
            entry.model_ids.push(id);
        }
        folders.sort();
        waiting.extend(folders.into_iter().rev());
    }
    entry
}

fn metadata(folder: &Path) -> JsonObject {
    json_file::load(&folder.join(METADATA))
        .ok()
        .and_then(|loaded| loaded.value)
        .unwrap_or_default()
}

fn official_name(folder: &Path) -> String {
    match metadata(folder).get("official_name") {
        Some(Value::String(name)) => name.clone(),
        _ => folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    }
}

/// Where a model without a readable entry belongs, as far as its own metadata tells.
fn id_from_metadata(folder: &Path, trash_id: &str) -> String {
    let metadata = metadata(folder);
    let part = |(key, fallback)| {
        slug(
            metadata.get(key).and_then(Value::as_str).unwrap_or_default(),
            fallback,
        )
    };
    [
        ("model_type", "unknown"),
        ("family", "restored"),
        ("cleaned_name", trash_id),
    ]
    .map(part)
    .join("/")
}

fn encoded(entry: &TrashEntry) -> Vec<u8> {
    let value = json!({
        "trash_id": entry.trash_id,
        "model_id": entry.model_id,
        "model_ids": entry.model_ids,
        "official_name": entry.official_name,
        "deleted_at": entry.deleted_at,
        "size_bytes": entry.size,
        "files": entry.files,
    });
    json_file::encode(value.as_object().unwrap_or(&JsonObject::new()))
}

/// Trusts nothing.
///
/// # Errors
/// `CorruptState`, `UnsafePath`: we could not have written this.
fn decoded(trash_id: &str, value: &JsonObject) -> Result<TrashEntry> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let count = |key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
    let foreign = || Error::CorruptState {
        name: ENTRY.to_owned(),
        reason: "not an entry of the trash".to_owned(),
    };
    let ids = value
        .get("model_ids")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let ids: Vec<String> = ids
        .iter()
        .map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned))
        .collect();
    let (Some(model_id), Some(name)) = (text("model_id"), text("official_name")) else {
        return Err(foreign());
    };
    if ids.first().map(String::as_str) != Some(model_id) {
        return Err(foreign());
    }
    for id in &ids {
        relative_path(id, "model_id")?;
        if id.split('/').any(|part| part.starts_with('.')) {
            return Err(Error::unsafe_path("model_id", "must not name a hidden folder"));
        }
    }
    Ok(TrashEntry {
        trash_id: trash_id.to_owned(),
        model_id: model_id.to_owned(),
        model_ids: ids,
        official_name: name.to_owned(),
        deleted_at: text("deleted_at")
            .filter(|moment| utc_moment(moment).is_some())
            .unwrap_or_default()
            .to_owned(),
        size: count("size_bytes"),
        files: count("files"),
        companions: 0,
    })
}

/// Negative for a date in the future or none at all: such an entry is not old.
fn age_days(entry: &TrashEntry) -> f64 {
    utc_moment(&entry.deleted_at).map_or(-1.0, |deleted| {
        Timestamp::now().duration_since(deleted).as_secs_f64() / 86_400.0
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::companions::NoCompanions;
    use crate::library::testing::Library;

    fn trash(place: &Library) -> Trash {
        let root = place.root().join(".trash");
        Trash::new(
            place.root().into(),
            root,
            place.lock(),
            place.index.clone(),
            Arc::new(NoCompanions),
        )
    }

    fn full() -> Library {
        let place = Library::new();
        place.model("llm/a/A", &json!({"official_name": "A model"}));
        place.file("llm/a/A/a.gguf", "12345");
        place.model("llm/a/A/inner/B", &json!({}));
        place
    }

    #[test]
    fn a_deleted_model_comes_back_as_it_was() {
        let place = full();
        let trash = trash(&place);
        let entry = trash.delete("llm/a/A", false).unwrap();
        assert_eq!(entry.model_ids, ["llm/a/A", "llm/a/A/inner/B"]);
        assert_eq!((entry.official_name.as_str(), entry.files), ("A model", 3));
        assert!(!place.root().join("llm/a").exists() && place.root().join("llm").exists());
        assert_eq!(trash.list().unwrap(), std::slice::from_ref(&entry));
        assert_eq!(trash.restore(&entry.trash_id, false).unwrap(), entry);
        assert_eq!(fs::read(place.root().join("llm/a/A/a.gguf")).unwrap(), b"12345");
        assert!(trash.list().unwrap().is_empty());
        assert_eq!(
            place.index.told(),
            [
                "remove llm/a/A llm/a/A/inner/B",
                "refresh llm/a/A llm/a/A/inner/B"
            ]
        );
    }

    #[test]
    fn a_dry_run_changes_nothing() {
        let place = full();
        let trash = trash(&place);
        assert_eq!(trash.delete("llm/a/A", true).unwrap().files, 3);
        assert!(place.root().join("llm/a/A/a.gguf").exists() && !place.root().join(".trash").exists());
        let entry = trash.delete("llm/a/A", false).unwrap();
        trash.restore(&entry.trash_id, true).unwrap();
        assert_eq!(trash.empty(None, None, true).unwrap().len(), 1);
        assert_eq!(trash.list().unwrap().len(), 1);
    }

    #[test]
    fn a_name_that_is_taken_by_now_is_not_replaced() {
        let place = full();
        let trash = trash(&place);
        let entry = trash.delete("llm/a/A", false).unwrap();
        place.model("llm/a/A", &json!({}));
        for dry_run in [true, false] {
            assert!(matches!(
                trash.restore(&entry.trash_id, dry_run),
                Err(Error::AlreadyExists(_))
            ));
        }
        assert_eq!(trash.list().unwrap().len(), 1);
    }

    #[test]
    fn what_is_not_there_cannot_be_named() {
        let place = full();
        let trash = trash(&place);
        assert!(matches!(
            trash.delete("llm/a/None", false),
            Err(Error::ModelNotFound(_))
        ));
        for id in ["", "../x", "none", "a/b", ".emptying"] {
            assert!(
                matches!(trash.restore(id, false), Err(Error::TrashEntryNotFound { .. })),
                "{id:?}"
            );
            assert!(trash.empty(Some(&[id.to_owned()]), None, false).is_err());
        }
    }

    #[test]
    fn emptying_takes_what_is_old_and_has_a_date() {
        let place = full();
        let trash = trash(&place);
        let entry = trash.delete("llm/a/A", false).unwrap();
        assert!(trash.empty(None, Some(1.0), false).unwrap().is_empty());
        let file = place.root().join(".trash").join(&entry.trash_id).join(ENTRY);
        fs::write(&file, "{ damaged").unwrap();
        assert!(trash.empty(None, Some(0.0), false).unwrap().is_empty());
        assert_eq!(
            trash.list().unwrap()[0].model_id,
            format!("unknown/restored/{}", entry.trash_id)
        );
        assert_eq!(
            trash.empty(Some(&[entry.trash_id]), None, false).unwrap().len(),
            1
        );
        assert!(trash.list().unwrap().is_empty());
    }

    #[test]
    fn half_done_work_is_finished_after_a_kill() {
        let place = full();
        let trash = trash(&place);
        place.file(".trash/20300101T000000-00000000/entry.json", "{}");
        place.file(".trash/20300101T000000-00000001.emptying/model/x", "x");
        place.file(".trash/not ours/x", "x");
        trash.recover().unwrap();
        assert_eq!(trash.names().unwrap(), ["not ours"]);
        assert!(place.root().join("llm/a/A/a.gguf").exists());
    }

    #[test]
    fn an_entry_that_names_a_place_outside_is_not_followed() {
        let place = Library::new();
        for (number, id) in ["../../etc", "/etc", ".staging/x", ""].into_iter().enumerate() {
            let entry = json!({"model_id": id, "model_ids": [id], "official_name": "x", "deleted_at": ""});
            place.file(&format!(".trash/t{number}/entry.json"), entry.to_string());
            place.file(&format!(".trash/t{number}/model/metadata.json"), "{}");
        }
        for entry in trash(&place).list().unwrap() {
            assert!(entry.model_id.starts_with("unknown/restored/t"));
        }
    }
}
