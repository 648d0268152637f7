//! A model's own two files, read and changed without losing what others wrote into them.
//!
//! `metadata.json` says what the model is, `overrides.json` which versions of an app may use it. Both may come from older
//! sidecars and may hold keys that nobody here knows: those stay. A damaged file is an error for that model and is never
//! written over. A model is a folder below the library that holds `metadata.json`; its id is that folder's relative path.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::library::index::{Index, follow};
use crate::library::version_ranges::is_version_range;
use crate::storage::clock::now;
use crate::storage::files::remove_stale_temporaries;
use crate::storage::json_file::{self, JsonObject};
use crate::storage::paths::contained;
use crate::storage::state_lock::StateLock;
use crate::text::cut;

/// What a model is.
pub const METADATA: &str = "metadata.json";
/// Which versions of an app may use it.
pub const OVERRIDES: &str = "overrides.json";
/// The files of a model folder that are ours, not the model's.
pub const OWN_FILES: [&str; 4] = [METADATA, OVERRIDES, "metadata.json.bak", "overrides.json.bak"];

/// The folder of an existing model, damaged or not.
///
/// # Errors
/// `UnsafePath`: the id could name something outside the library. `ModelNotFound`: no such model; folders whose name starts
/// with a dot (trash, staging) hold none.
pub fn model_folder(library: &Path, model_id: &str) -> Result<PathBuf> {
    let folder = contained(library, model_id, "model_id")?;
    let hidden = model_id.split('/').any(|part| part.starts_with('.'));
    if hidden
        || !["metadata.json", "metadata.json.bak"]
            .iter()
            .any(|name| folder.join(name).is_file())
    {
        return Err(Error::ModelNotFound(model_id.to_owned()));
    }
    Ok(folder)
}

/// As [`model_folder`], and also a folder without metadata that the index shows as a model (put there by hand).
///
/// # Errors
/// As [`model_folder`], and what the index refuses.
pub fn known_folder(library: &Path, index: &dyn Index, model_id: &str) -> Result<PathBuf> {
    let missing = match model_folder(library, model_id) {
        Err(missing @ Error::ModelNotFound(_)) => missing,
        found => return found,
    };
    let folder = contained(library, model_id, "model_id")?;
    if folder.is_dir() && index.contains(model_id)? {
        Ok(folder)
    } else {
        Err(missing)
    }
}

/// The metadata of the library's models. Calls block; they come from worker threads.
#[derive(Clone)]
pub struct ModelMetadata {
    library: PathBuf,
    lock: StateLock,
    index: Arc<dyn Index>,
}

impl ModelMetadata {
    /// Of the library at `library`.
    pub fn new(library: PathBuf, lock: StateLock, index: Arc<dyn Index>) -> Self {
        Self { library, lock, index }
    }

    /// See [`known_folder`].
    ///
    /// # Errors
    /// See [`known_folder`].
    pub fn folder(&self, model_id: &str) -> Result<PathBuf> {
        known_folder(&self.library, &*self.index, model_id)
    }

    /// `{}` for a folder that was put into the library by hand and has none yet.
    ///
    /// # Errors
    /// As [`known_folder`]. `CorruptState`: neither the file nor its backup can be read.
    pub fn load(&self, model_id: &str) -> Result<JsonObject> {
        self.read(model_id, METADATA)
    }

    /// Let `change` modify the metadata in place, save it durably, and tell the index.
    ///
    /// # Errors
    /// As [`ModelMetadata::load`], what the disk refuses and what `change` fails with: nothing was changed.
    pub fn update(
        &self,
        model_id: &str,
        change: impl FnOnce(&mut JsonObject) -> Result<()>,
    ) -> Result<JsonObject> {
        self.save(model_id, METADATA, change)
    }

    /// Protect the metadata from being replaced by what an online look-up finds.
    ///
    /// # Errors
    /// As [`ModelMetadata::update`].
    pub fn mark_manual(&self, model_id: &str) -> Result<()> {
        self.edit(model_id, JsonObject::new())
    }

    /// Set what a person wrote (`official_name`, `tags`, `notes`, …) and protect it as `mark_manual` does.
    ///
    /// # Errors
    /// As [`ModelMetadata::update`].
    pub fn edit(&self, model_id: &str, changes: JsonObject) -> Result<()> {
        let change = |metadata: &mut JsonObject| {
            metadata.extend(changes);
            metadata.insert("match_source".to_owned(), Value::from("manual"));
            metadata.insert("pending_online_lookup".to_owned(), Value::from(false));
            metadata.insert("updated_date".to_owned(), Value::from(now()));
            Ok(())
        };
        self.update(model_id, change).map(|_| ())
    }

    /// `{}` when there are none.
    ///
    /// # Errors
    /// As [`ModelMetadata::load`].
    pub fn overrides(&self, model_id: &str) -> Result<JsonObject> {
        self.read(model_id, OVERRIDES)
    }

    /// Replace what is stored by `overrides`; stored keys that nobody here knows stay unless they are given anew.
    ///
    /// # Errors
    /// `InvalidInput`: a version range is not written in the syntax of Python packaging. Else as
    /// [`ModelMetadata::update`].
    pub fn update_overrides(&self, model_id: &str, overrides: JsonObject) -> Result<()> {
        check_overrides(&overrides)?;
        let change = |stored: &mut JsonObject| {
            stored.shift_remove("version_ranges");
            stored.extend(overrides);
            Ok(())
        };
        self.save(model_id, OVERRIDES, change).map(|_| ())
    }

    fn read(&self, model_id: &str, name: &str) -> Result<JsonObject> {
        let folder = self.folder(model_id)?;
        Ok(json_file::load(&folder.join(name))?.value.unwrap_or_default())
    }

    fn save(
        &self,
        model_id: &str,
        name: &str,
        change: impl FnOnce(&mut JsonObject) -> Result<()>,
    ) -> Result<JsonObject> {
        let folder = self.folder(model_id)?;
        if let Err(error) = remove_stale_temporaries(&folder) {
            tracing::debug!("temporary files of {model_id} stay for now: {error}");
        }
        let value = json_file::update(&folder.join(name), &self.lock, change)?;
        let ids = [model_id.to_owned()];
        follow(self.index.refresh(&ids), &ids);
        Ok(value)
    }
}

/// Check that each `version_ranges` value is null or a version specifier.
///
/// # Errors
/// `InvalidInput` names the app whose range is none.
pub fn check_overrides(overrides: &JsonObject) -> Result<()> {
    let ranges = match overrides.get("version_ranges") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(ranges)) => ranges,
        Some(_) => {
            return Err(Error::invalid(
                "version_ranges",
                "must be an object: app id -> version specifier",
            ));
        }
    };
    for (app, specifier) in ranges {
        let reason = match specifier {
            Value::Null => continue,
            Value::String(text) if is_version_range(text) => continue,
            Value::String(_) => "must be a version specifier such as '>=0.4,<0.9'",
            _ => "must be text such as '>=0.4,<0.9'",
        };
        return Err(Error::invalid(
            format!("version_ranges.{}", cut(app, 100)),
            reason,
        ));
    }
    Ok(())
}

/// One element of `files` in the metadata. Digests are `""` when nobody wrote them down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Relative to the model's folder.
    pub name: String,
    /// Bytes; `None` when nobody wrote it down.
    pub size: Option<u64>,
    /// Lower-case hex.
    pub sha256: String,
    /// Lower-case hex.
    pub blake3: String,
    /// The SHA-256 that the name of the file in another program's store gave: nobody here hashed the bytes.
    pub claimed: String,
}

/// The usable entries of `files`; what is not of that form is left out.
#[must_use]
pub fn file_entries(metadata: &JsonObject) -> Vec<FileEntry> {
    let Some(Value::Array(files)) = metadata.get("files") else {
        return Vec::new();
    };
    let entry = |value: &Value| {
        let name = value.get("name")?.as_str().filter(|name| !name.is_empty())?;
        let digest = |key: &str| digest_text(value.get(key));
        Some(FileEntry {
            name: name.to_owned(),
            size: value.get("size").and_then(Value::as_u64),
            sha256: digest("sha256"),
            blake3: digest("blake3"),
            claimed: digest("claimed_sha256"),
        })
    };
    files.iter().filter_map(entry).collect()
}

/// A 256-bit digest in lower-case hex, or `""` for anything else.
#[must_use]
pub fn digest_text(value: Option<&Value>) -> String {
    let text = value
        .and_then(Value::as_str)
        .unwrap_or_default()
        .trim()
        .to_lowercase();
    let is_digest = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest { text } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    use crate::library::testing::Library;

    fn object(value: &Value) -> JsonObject {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn a_model_is_a_folder_with_metadata() {
        let place = Library::new();
        place.model("llm/a/A", &json!({}));
        place.file("llm/a/None/x.gguf", "x");
        place.model(".trash/x", &json!({}));
        assert!(model_folder(place.root(), "llm/a/A").is_ok());
        for id in ["llm/a/None", "llm/a/Gone", ".trash/x"] {
            let found = model_folder(place.root(), id);
            assert!(matches!(found, Err(Error::ModelNotFound(_))), "{id}");
        }
        let outside = model_folder(place.root(), "../x");
        assert!(matches!(outside, Err(Error::UnsafePath { .. })));
    }

    #[test]
    fn an_edit_keeps_what_others_wrote() {
        let place = Library::new();
        place.model(
            "llm/a/A",
            &json!({"strange": [1, {"x": null}], "official_name": "A"}),
        );
        let models = place.metadata();
        let changes = object(&json!({"notes": "mine", "official_name": "B"}));
        models.edit("llm/a/A", changes).unwrap();
        let value = models.load("llm/a/A").unwrap();
        let keys: Vec<&str> = value.keys().map(String::as_str).collect();
        let own = ["match_source", "pending_online_lookup", "updated_date"];
        assert_eq!(keys[..3], ["strange", "official_name", "notes"]);
        assert_eq!(keys[3..], own);
        assert_eq!(value["official_name"], "B");
        assert_eq!(place.index.told(), ["refresh llm/a/A"]);
    }

    #[test]
    fn a_damaged_file_is_not_written_over() {
        let place = Library::new();
        place.file("llm/a/A/metadata.json", "{ damaged");
        let refused = place.metadata().mark_manual("llm/a/A");
        assert!(matches!(refused, Err(Error::CorruptState { .. })));
        let left = std::fs::read(place.root().join("llm/a/A/metadata.json")).unwrap();
        assert_eq!(left, b"{ damaged");
    }

    #[test]
    fn overrides_replace_ranges_and_keep_the_rest() {
        let place = Library::new();
        place.model("llm/a/A", &json!({}));
        let models = place.metadata();
        let store = |value: &Value| models.update_overrides("llm/a/A", object(value)).unwrap();
        store(&json!({"other": 1, "version_ranges": {"x": ">=1"}}));
        store(&json!({"version_ranges": {"y": null}}));
        let expected = object(&json!({"other": 1, "version_ranges": {"y": null}}));
        assert_eq!(models.overrides("llm/a/A").unwrap(), expected);
    }

    #[test]
    fn ranges_are_checked_and_named() {
        for good in [
            json!({}),
            json!({"version_ranges": null}),
            json!({"version_ranges": {"a": null, "b": ">=1"}}),
        ] {
            assert!(check_overrides(&object(&good)).is_ok());
        }
        let bad = check_overrides(&object(&json!({"version_ranges": {"comfyui": "newest"}})));
        let expected = "version_ranges.comfyui: must be a version specifier such as '>=0.4,<0.9'";
        assert_eq!(bad.unwrap_err().to_string(), expected);
        assert!(check_overrides(&object(&json!({"version_ranges": []}))).is_err());
    }

    #[test]
    fn odd_entries_are_left_out() {
        let digest = "A".repeat(64);
        let metadata =
            json!({"files": [{"name": "m", "size": -1, "sha256": digest}, {"name": ""}, 7, {"size": 1}]});
        let found = file_entries(&object(&metadata));
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].size, found[0].sha256.as_str()),
            (None, "a".repeat(64).as_str())
        );
    }
}
