//! The files of a model folder, as names and sizes tell them: which an app could load, and which is the primary one.

use serde_json::Value;

use super::values::{clean_text, integer};
use crate::library::formats::shards::is_projector;

const MAX_FILES: usize = 10_000;
const MAX_NAME: usize = 1024;

/// What an app can load, and whether loading it may run code from it.
const MODEL_EXTENSIONS: [(&str, &str); 8] = [
    ("gguf", "safe"),
    ("safetensors", "safe"),
    ("onnx", "safe"),
    ("ggml", "safe"),
    ("ckpt", "pickle"),
    ("pt", "pickle"),
    ("pth", "pickle"),
    ("bin", "pickle"),
];

/// A file of a model folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Relative to the model's folder.
    pub name: String,
    /// Bytes.
    pub size: i64,
}

/// The part of a name behind its last dot, in lower case; the whole name when it has no dot.
#[must_use]
pub fn extension(name: &str) -> String {
    name.rsplit('.').next().unwrap_or(name).to_lowercase()
}

pub(super) fn known_extension(name: &str) -> Option<(&'static str, &'static str)> {
    let last = name.rsplit('.').next().unwrap_or(name);
    MODEL_EXTENSIONS
        .into_iter()
        .find(|(known, _)| last.eq_ignore_ascii_case(known))
}

/// Whether an app could load the file, by its name; hidden files are none.
#[must_use]
pub fn is_model_file(name: &str) -> bool {
    known_extension(name).is_some() && !name.starts_with('.')
}

/// The largest file that an app could load, projectors last; of equal ones the first by name.
#[must_use]
pub fn primary_file(files: &[FoundFile]) -> Option<&FoundFile> {
    let candidates = files.iter().filter(|file| known_extension(&file.name).is_some());
    candidates.min_by(|a, b| {
        let last = is_projector(&a.name).cmp(&is_projector(&b.name));
        last.then_with(|| b.size.cmp(&a.size))
            .then_with(|| a.name.cmp(&b.name))
    })
}

pub(super) fn total(files: &[FoundFile]) -> i64 {
    files
        .iter()
        .fold(0_i64, |sum, file| sum.saturating_add(file.size))
}

pub(super) fn listed_files(value: Option<&Value>) -> Vec<FoundFile> {
    let items = value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let listed = items
        .iter()
        .take(MAX_FILES)
        .filter_map(Value::as_object)
        .map(|fields| FoundFile {
            name: clean_text(fields.get("name"), MAX_NAME),
            size: fields.get("size").and_then(integer).unwrap_or(0),
        });
    listed.filter(|file| !file.name.is_empty()).collect()
}

/// What the column `kinds` says after the subtype: formats, and quantisations in capitals, as they are usually written.
#[must_use]
pub fn formats_and_quantizations(kinds: &str) -> (Vec<String>, Vec<String>) {
    let words: Vec<&str> = kinds.split_whitespace().collect();
    let is_format = |word: &&&str| MODEL_EXTENSIONS.iter().any(|(known, _)| known == *word);
    let formats: Vec<&str> = words.iter().filter(is_format).copied().collect();
    let end = formats
        .last()
        .and_then(|last| words.iter().position(|word| word == last));
    let rest = end.map_or(&[] as &[&str], |end| &words[end + 1..]);
    let owned = |word: &&str| (*word).to_owned();
    (
        formats.iter().map(owned).collect(),
        rest.iter().map(|word| word.to_uppercase()).collect(),
    )
}
