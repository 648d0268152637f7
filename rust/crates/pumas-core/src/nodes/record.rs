//! `.pumas-nodes.json` in a version's folder: where its custom nodes came from, and what lies in their trash. Blocks.
//!
//! It is written before a folder is moved, so that a start after a kill can tell from the disk how far the move came
//! (`work`). Programs that run there can write it too: names from it are checked before they are used. Keys of others stay.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::Value;

use crate::error::Result;
use crate::storage::json_file::{self, JsonObject, Readers};

/// The file's name.
pub(super) const NAME: &str = ".pumas-nodes.json";

/// Objects by name.
pub(super) type Entries = IndexMap<String, JsonObject>;

/// What the file says.
pub(super) struct Known {
    /// By name, what is known of each.
    pub(super) nodes: Entries,
    /// By id, with `name`, `removed_at` and what was known as `node`.
    pub(super) trash: Entries,
    rest: JsonObject,
}

pub(super) struct Record {
    path: PathBuf,
}

impl Record {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            path: folder.join(NAME),
        }
    }

    /// # Errors
    /// `CorruptState`.
    pub(super) fn read(&self) -> Result<Known> {
        let value = json_file::load(&self.path)?.value.unwrap_or_default();
        Ok(Known {
            nodes: entries(value.get("nodes")),
            trash: entries(value.get("trash")),
            rest: value,
        })
    }

    /// # Errors
    /// What the disk refuses; nothing was changed.
    pub(super) fn save(&self, known: &Known) -> Result<()> {
        let mut value = known.rest.clone();
        value.insert("nodes".to_owned(), object(&known.nodes));
        if !known.trash.is_empty() || value.contains_key("trash") {
            value.insert("trash".to_owned(), object(&known.trash));
        }
        json_file::save(&self.path, &value, Readers::Anybody)
    }

    /// Replace what is known of one node; None or nothing: forget it.
    ///
    /// # Errors
    /// As `read` and `save`.
    pub(super) fn note(&self, name: &str, entry: Option<&JsonObject>) -> Result<()> {
        let mut known = self.read()?;
        known.nodes.shift_remove(name);
        if let Some(entry) = entry.filter(|entry| !entry.is_empty()) {
            known.nodes.insert(name.to_owned(), entry.clone());
        }
        self.save(&known)
    }
}

/// None for what is missing or no text.
pub(super) fn text(entry: &JsonObject, key: &str) -> Option<String> {
    entry.get(key)?.as_str().map(str::to_owned)
}

/// `{}` for what is missing or no object.
pub(super) fn facts(entry: &JsonObject, key: &str) -> JsonObject {
    entry
        .get(key)
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

/// The entries of an object that are objects.
fn entries(value: Option<&Value>) -> Entries {
    let all = value.and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(key, entry)| Some((key.clone(), entry.as_object()?.clone())))
        .collect()
}

fn object(entries: &Entries) -> Value {
    let all = entries
        .iter()
        .map(|(key, entry)| (key.clone(), Value::Object(entry.clone())));
    Value::Object(all.collect())
}
