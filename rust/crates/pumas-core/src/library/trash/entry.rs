//! One deleted model: what its folder holds, and how that is written down beside it and read again.

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::library::metadata::{METADATA, OWN_FILES};
use crate::library::moments::utc_moment;
use crate::storage::json_file::{self, JsonObject};
use crate::storage::paths::{relative_path, slug};

pub(super) const ENTRY: &str = "entry.json";
const LONGEST_ID: usize = 100;

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
    /// Files, links included, our own notes about models left out.
    pub files: u64,
    /// How many companions went or came back with it in this call.
    #[serde(skip)]
    pub companions: usize,
}

pub(super) fn is_trash_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// `2030-02-03T04:05:06.000001Z` as `20300203T040506`.
pub(super) fn compact(moment: &str) -> String {
    moment
        .chars()
        .filter(|c| !matches!(c, '-' | ':'))
        .take(15)
        .collect()
}

/// What lies in `folder`: all its bytes, links as links, and how many files besides those that are our own notes.
pub(super) fn describe(folder: &Path, model_id: &str, trash_id: &str, deleted_at: &str) -> TrashEntry {
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
                entry.files += u64::from(!OWN_FILES.iter().any(|own| name == *own));
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
pub(super) fn id_from_metadata(folder: &Path, trash_id: &str) -> String {
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

pub(super) fn encoded(entry: &TrashEntry) -> Vec<u8> {
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
pub(super) fn decoded(trash_id: &str, value: &JsonObject) -> Result<TrashEntry> {
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
pub(super) fn age_days(entry: &TrashEntry) -> f64 {
    utc_moment(&entry.deleted_at).map_or(-1.0, |deleted| {
        Timestamp::now().duration_since(deleted).as_secs_f64() / 86_400.0
    })
}
