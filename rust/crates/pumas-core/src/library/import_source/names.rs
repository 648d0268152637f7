//! What the name of a file says before anybody looks inside: a part of a set, the mark of a model, junk; and what the file is
//! called in the library.

use std::ffi::OsStr;
use std::path::Path;

use super::last;
use crate::library::formats::detect::FileFormat;
use crate::library::formats::shards::PIPELINE_INDEX;
use crate::library::formats::text::valid_text;
use crate::storage::paths::{relative_path, slug};

/// A folder with one of these at its top, or a list of weights, is a model in itself, whatever lies below.
const MODEL_MARKS: [&str; 6] = [
    "config.json",
    PIPELINE_INDEX,
    "adapter_config.json",
    "params.json",
    "modules.json",
    "genai_config.json",
];
const WEIGHT_LISTS: [&str; 2] = [".safetensors.index.json", ".bin.index.json"];
/// What tools leave behind beside models: never part of one.
const JUNK_NAMES: [&str; 5] = [
    "__pycache__",
    "Thumbs.db",
    "desktop.ini",
    "metadata.json.bak",
    "overrides.json.bak",
];
const JUNK_SUFFIXES: [&str; 4] = [".lock", ".tmp", ".aria2", ".pumas-tmp"];
const UNFINISHED: [&str; 6] = [
    ".part",
    ".partial",
    ".incomplete",
    ".crdownload",
    ".download",
    ".!qb",
];
/// Beside a file that is being written by aria2 or axel. Both give it its full size first, so that it looks whole.
pub(super) const UNDER_WAY: [&str; 2] = [".aria2", ".st"];

/// The ending of a name, with its dot, in lower case; `""` for hidden files without another one.
#[must_use]
pub fn suffix(name: &str) -> String {
    match name.rfind('.') {
        Some(at) if at > 0 && at + 1 < name.len() => name[at..].to_lowercase(),
        _ => String::new(),
    }
}

pub(super) fn stem(path: &Path) -> String {
    let mut name = plain_text(last(path));
    if !suffix(&name).is_empty() {
        name.truncate(name.rfind('.').unwrap_or(name.len()));
    }
    name
}

/// A name with a question mark for each byte that is no text.
pub(super) fn plain_text(name: &OsStr) -> String {
    let plain =
        |chunk: std::str::Utf8Chunk<'_>| chunk.valid().to_owned() + &"?".repeat(chunk.invalid().len());
    name.as_encoded_bytes().utf8_chunks().map(plain).collect()
}

/// Where `-00001-of-00005` begins at the end of a name, before its ending if it has one.
pub(super) fn part_number(name: &str) -> Option<usize> {
    let ends = [name.rfind('.').filter(|at| at + 1 < name.len()), Some(name.len())];
    ends.into_iter().flatten().find_map(|end| {
        let (rest, total) = name[..end].rsplit_once("-of-")?;
        let (base, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (digits(number) && digits(total)).then_some(base.len())
    })
}

pub(super) fn without_part_number(stem: &str) -> String {
    part_number(stem).map_or(stem, |at| &stem[..at]).to_owned()
}

/// Whether a file of this name at a folder's top makes the folder one model.
#[must_use]
pub fn is_mark(name: &str) -> bool {
    MODEL_MARKS.contains(&name)
        || WEIGHT_LISTS
            .iter()
            .any(|ending| name.ends_with(ending) && name.len() > ending.len())
}

/// A file or folder that is hidden or that a tool left behind.
#[must_use]
pub fn is_junk(name: &str) -> bool {
    name.starts_with('.')
        || JUNK_NAMES.contains(&name)
        || JUNK_SUFFIXES.contains(&suffix(name).as_str())
        || is_unfinished(name)
}

/// Named as programs name what they have not downloaded to its end.
pub(super) fn is_unfinished(name: &str) -> bool {
    UNFINISHED.contains(&suffix(name).as_str())
}

/// The name in the library: as it is where every supported system can hold it, else cleaned.
#[must_use]
pub fn target_name(name: &Path, format: Option<FileFormat>) -> String {
    let mut parts: Vec<String> = name
        .components()
        .map(|part| valid_text(part.as_os_str().as_encoded_bytes()))
        .collect();
    let mut whole: Vec<bool> = name
        .components()
        .map(|part| part.as_os_str().to_str().is_some())
        .collect();
    if let Some(file) = parts.last_mut()
        && suffix(file).is_empty()
    {
        file.push_str(match format {
            Some(FileFormat::Gguf) => ".gguf",
            Some(FileFormat::Safetensors) => ".safetensors",
            Some(FileFormat::Onnx) => ".onnx",
            _ => "",
        });
    }
    whole.resize(parts.len(), true);
    let cleaned: Vec<String> = parts
        .iter()
        .zip(whole)
        .map(|(part, whole)| clean(part, whole))
        .collect();
    cleaned.join("/")
}

/// `whole` is false when the name holds bytes that are no text.
fn clean(part: &str, whole: bool) -> String {
    if whole && relative_path(part, "path").is_ok() {
        return part.to_owned();
    }
    match part.rsplit_once('.') {
        Some((stem, suffix)) => format!("{}.{}", slug(stem, "file"), slug(suffix, "bin")),
        None => slug(part, "file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(
            (suffix(".hidden"), suffix("a."), suffix("A.GGUF")),
            (String::new(), String::new(), ".gguf".to_owned())
        );
        assert_eq!(without_part_number("m-00001-of-00003"), "m");
        assert_eq!(part_number("m-1-of-3.gguf"), Some(1));
        assert_eq!(part_number("m-one-of-3.gguf"), None);
        assert_eq!(
            target_name(Path::new("sub/con"), Some(FileFormat::Gguf)),
            "sub/con_.gguf"
        );
        assert_eq!(target_name(Path::new("a:b.gguf"), None), "a-b.gguf");
        assert!(
            is_mark("config.json") && is_mark("sub/x.safetensors.index.json") && !is_mark(".bin.index.json")
        );
    }
}
