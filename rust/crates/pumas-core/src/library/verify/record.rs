//! What a model's metadata says about its files, and how digests are put where it says nothing.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::place::OnDisk;
use crate::library::entry::{FoundFile, is_model_file, primary_file};
use crate::library::hashing::Digests;
use crate::library::metadata::{FileEntry, digest_text, file_entries};
use crate::storage::json_file::JsonObject;

/// What the metadata says about one file, the digests of `hashes` counted for the primary one.
pub(super) struct Record {
    size: Option<u64>,
    sha256: String,
    blake3: String,
    claimed: String,
}

impl Record {
    /// Whether a digest is on record other than a claimed one.
    pub(super) fn has_digest(&self) -> bool {
        !self.sha256.is_empty() || !self.blake3.is_empty()
    }

    /// (expected, observed) of the first difference.
    pub(super) fn difference(&self, found: &Digests) -> Option<(String, String)> {
        let known = [
            (&self.sha256, &found.sha256),
            (&self.blake3, &found.blake3),
            (&self.claimed, &found.sha256),
        ];
        let different = known
            .into_iter()
            .find(|(expected, observed)| !expected.is_empty() && expected != observed);
        if let Some((expected, observed)) = different {
            return Some((expected.clone(), observed.clone()));
        }
        let size = self
            .size
            .filter(|size| *size != found.size && known.iter().all(|(expected, _)| expected.is_empty()))?;
        Some((format!("{size} bytes"), format!("{} bytes", found.size)))
    }
}

/// Of each file that is on record or looks like a model file.
pub(super) fn records(metadata: &JsonObject, on_disk: &OnDisk) -> IndexMap<String, Record> {
    let hashes = metadata.get("hashes").and_then(Value::as_object);
    let primary = primary(metadata, on_disk);
    let mut entries = file_entries(metadata);
    if entries.is_empty() && !primary.is_empty() {
        entries.push(FileEntry {
            name: primary.clone(),
            size: None,
            sha256: String::new(),
            blake3: String::new(),
            claimed: String::new(),
        });
    }
    let mut records = IndexMap::new();
    for entry in entries {
        let of_model = hashes.filter(|_| entry.name == primary);
        let or = |digest: String, key: &str| match of_model {
            Some(hashes) if digest.is_empty() => digest_text(hashes.get(key)),
            _ => digest,
        };
        let record = Record {
            size: entry.size,
            sha256: or(entry.sha256, "sha256"),
            blake3: or(entry.blake3, "blake3"),
            claimed: entry.claimed,
        };
        records.insert(entry.name, record);
    }
    for name in on_disk.keys().filter(|name| is_model_file(name)) {
        records.entry(name.clone()).or_insert_with(|| Record {
            size: None,
            sha256: String::new(),
            blake3: String::new(),
            claimed: String::new(),
        });
    }
    records
}

/// The file that `hashes` speaks of: named in the metadata, or the largest by the sizes on record.
fn primary(metadata: &JsonObject, on_disk: &OnDisk) -> String {
    if let Some(named) = metadata
        .get("primary_file")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty())
    {
        return named.to_owned();
    }
    let file = |name: &str, size: u64| FoundFile {
        name: name.to_owned(),
        size: i64::try_from(size).unwrap_or(i64::MAX),
    };
    let mut listed: Vec<FoundFile> = file_entries(metadata)
        .iter()
        .map(|entry| {
            let known = entry
                .size
                .filter(|size| *size > 0)
                .or_else(|| on_disk.get(&entry.name).copied());
            file(&entry.name, known.unwrap_or(0))
        })
        .collect();
    if listed.is_empty() {
        listed = on_disk.iter().map(|(name, size)| file(name, *size)).collect();
    }
    primary_file(&listed)
        .map(|file| file.name.clone())
        .unwrap_or_default()
}

/// Puts digests where there are none. Returns whether anything was added.
pub(super) fn fill_in(
    metadata: &mut JsonObject,
    hashed: &IndexMap<String, Digests>,
    on_disk: &OnDisk,
) -> bool {
    let primary = primary(metadata, on_disk);
    let mut added = false;
    let mut entries = match metadata.get_mut("files").map(Value::take) {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    let mut known: Vec<String> = Vec::new();
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        let Some(name) = entry.get("name").and_then(Value::as_str).map(str::to_owned) else {
            continue;
        };
        if let Some(found) = hashed.get(&name) {
            known.push(name);
            added |= put(entry, found);
            if entry.get("digest_state").and_then(Value::as_str) == Some("claimed") {
                entry.insert("digest_state".to_owned(), "verified".into());
                added = true;
            }
        }
    }
    for (name, found) in hashed.iter().filter(|(name, _)| !known.contains(name)) {
        let mut entry = Map::new();
        entry.insert("name".to_owned(), name.as_str().into());
        entry.insert("original_name".to_owned(), name.as_str().into());
        entry.insert("size".to_owned(), found.size.into());
        added |= put(&mut entry, found);
        entries.push(Value::Object(entry));
    }
    if let Some(found) = hashed.get(&primary) {
        let mut hashes = match metadata.get_mut("hashes").map(Value::take) {
            Some(Value::Object(hashes)) => hashes,
            _ => Map::new(),
        };
        added |= put(&mut hashes, found);
        metadata.insert("hashes".to_owned(), Value::Object(hashes));
    }
    metadata.insert("files".to_owned(), Value::Array(entries));
    added
}

fn put(target: &mut JsonObject, found: &Digests) -> bool {
    let mut added = false;
    for (key, value) in [("sha256", &found.sha256), ("blake3", &found.blake3)] {
        let is_missing = match target.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(_) => false,
        };
        if is_missing {
            target.insert(key.to_owned(), value.as_str().into());
            added = true;
        }
    }
    added
}
