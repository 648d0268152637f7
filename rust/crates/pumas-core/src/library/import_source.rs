//! What a path that the user wants to import holds: which files make one model, which stay behind and why.
//!
//! A folder is one model when it says so (a config or index file of its own, or metadata of another library), or when its
//! weights are one file or one set of shards. A folder of several models is refused with the list of them, so that nobody
//! gets fifty checkpoints as one model or one as fifty. Files are opened only to see what they are; nothing is changed.
//! What kind of model it is, and where it goes, is decided in `import_plan`.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use indexmap::IndexSet;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::library::formats::detect::{FileFormat, detect_format};
use crate::library::formats::reader::open_regular;
use crate::library::formats::shards::{ShardGroup, detect_sharded_sets};
use crate::library::formats::text::valid_text;
use crate::library::hashing::{Stamp, open_file};
use crate::library::metadata::{METADATA, OVERRIDES, check_overrides};
use crate::storage::files::{During as _, reason};
use crate::storage::json_file::{self, JsonObject};
use crate::storage::paths::{display_name, relative_path, slug};
use crate::text::grouped;

const MAX_FILES: u64 = 20_000;
const MAX_DEPTH: usize = 32;
const TOO_DEEP: &str = "too deep";

/// A folder with one of these at its top, or a list of weights, is a model in itself, whatever lies below.
const MODEL_MARKS: [&str; 6] = [
    "config.json",
    "model_index.json",
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
const JUNK_SUFFIXES: [&str; 9] = [
    ".lock",
    ".part",
    ".partial",
    ".incomplete",
    ".tmp",
    ".crdownload",
    ".aria2",
    ".download",
    ".pumas-tmp",
];
/// Files beside weights that need no look inside.
const COMPANIONS: [&str; 25] = [
    ".json", ".jsonl", ".txt", ".md", ".yaml", ".yml", ".toml", ".csv", ".html", ".pdf", ".py", ".jinja",
    ".model", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg", ".mp4", ".wav", ".info", ".spm", ".vocab",
    ".license",
];
/// A file with such a name that is not what it says (a git LFS pointer, an error page) makes the import fail.
pub const MUST_BE_MODELS: [&str; 5] = [".safetensors", ".gguf", ".ckpt", ".pth", ".onnx"];
const METADATA_KEYS: [&str; 5] = [
    "official_name",
    "model_type",
    "hashes",
    "cleaned_name",
    "model_id",
];

/// One file of a model.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// The path in the user's folder.
    pub found: PathBuf,
    /// The real file behind it.
    pub path: PathBuf,
    /// Where it goes in the model.
    pub name: String,
    /// What it is called where it is, fit to be shown.
    pub original_name: String,
    /// As it was when it was looked at.
    pub stamp: Stamp,
    /// `None` for files that hold no weights.
    pub format: Option<FileFormat>,
}

/// A file that stays behind.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// Relative to the imported folder, or a file name.
    pub path: String,
    /// One clause.
    pub reason: String,
}

/// One model's files. `metadata` and `overrides` are those of the library that the folder came from, if any.
#[derive(Debug, Clone)]
pub struct Source {
    /// The real file or folder.
    pub path: PathBuf,
    /// What the model may be called.
    pub title: String,
    /// Never empty; at least one has weights.
    pub files: Vec<SourceFile>,
    /// What stays behind.
    pub skipped: Vec<Skipped>,
    /// What another library knew.
    pub metadata: JsonObject,
    /// Which versions another library limited it to.
    pub overrides: JsonObject,
}

impl Source {
    /// The files with weights.
    pub fn weights(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.format.is_some())
    }

    /// The largest file with weights: its digest stands for the model.
    ///
    /// # Errors
    /// `NotAModel`: there is none, which no source has.
    pub fn primary(&self) -> Result<&SourceFile> {
        let largest = self.weights().max_by_key(|file| (file.stamp.size, &file.name));
        largest.ok_or_else(|| Error::NotAModel(format!("{} holds no weights.", self.title)))
    }

    /// Bytes of all files.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.stamp.size).sum()
    }
}

/// Look at a file or folder.
///
/// # Errors
/// `FileUnavailable`: it is no regular file or folder, or something in it cannot be read: no part of a model is left out
/// because of an error. `NotAModel`: nothing in it is a model, a file in it is damaged, or a set of shards is not complete.
/// `SeveralModels`: it holds models that have nothing to do with each other.
pub fn read_source(path: &Path) -> Result<Source> {
    let path: PathBuf = path.components().collect();
    let real = fs::canonicalize(&path).map_err(|error| unreadable(last(&path), &error))?;
    if real.is_dir() {
        read_folder(&path, &real)
    } else {
        read_file(&path, &real)
    }
}

fn unreadable(name: impl AsRef<OsStr>, error: &io::Error) -> Error {
    Error::unavailable(display_name(name), reason(error).to_lowercase())
}

/// The last part of a path; empty for a root.
fn last(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

/// The ending of a name, with its dot, in lower case; `""` for hidden files without another one.
#[must_use]
pub fn suffix(name: &str) -> String {
    match name.rfind('.') {
        Some(at) if at > 0 && at + 1 < name.len() => name[at..].to_lowercase(),
        _ => String::new(),
    }
}

fn suffix_of(path: &Path) -> String {
    suffix(&last(path).to_string_lossy())
}

fn stem(path: &Path) -> String {
    let mut name = plain_text(last(path));
    if !suffix(&name).is_empty() {
        name.truncate(name.rfind('.').unwrap_or(name.len()));
    }
    name
}

/// A name with a question mark for each byte that is no text.
fn plain_text(name: &OsStr) -> String {
    let plain =
        |chunk: std::str::Utf8Chunk<'_>| chunk.valid().to_owned() + &"?".repeat(chunk.invalid().len());
    name.as_encoded_bytes().utf8_chunks().map(plain).collect()
}

// A single file

fn read_file(path: &Path, real: &Path) -> Result<Source> {
    let parts = shards_beside(path);
    let files = parts
        .iter()
        .map(|part| source_file(part, Path::new(last(part))))
        .collect::<Result<Vec<_>>>()?;
    if files.iter().any(|file| file.format.is_none()) {
        let name = display_name(last(path));
        return Err(Error::NotAModel(format!(
            "{name} is not a model file that we know; nothing was imported."
        )));
    }
    require_complete(parts.iter())?;
    let stem = stem(path);
    let title = if parts.len() > 1 {
        without_part_number(&stem)
    } else {
        stem
    };
    Ok(Source {
        path: real.to_path_buf(),
        title,
        files,
        skipped: Vec::new(),
        metadata: JsonObject::new(),
        overrides: JsonObject::new(),
    })
}

/// Where `-00001-of-00005` begins at the end of a name, before its ending if it has one.
fn part_number(name: &str) -> Option<usize> {
    let ends = [name.rfind('.').filter(|at| at + 1 < name.len()), Some(name.len())];
    ends.into_iter().flatten().find_map(|end| {
        let (rest, total) = name[..end].rsplit_once("-of-")?;
        let (base, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (digits(number) && digits(total)).then_some(base.len())
    })
}

fn without_part_number(stem: &str) -> String {
    part_number(stem).map_or(stem, |at| &stem[..at]).to_owned()
}

/// The whole set that a file named `…-00002-of-00005.…` belongs to: a part of a model is of no use.
fn shards_beside(path: &Path) -> Vec<PathBuf> {
    let alone = || vec![path.to_path_buf()];
    let is_part = |name: &OsStr| part_number(&name.to_string_lossy()).is_some();
    let Some(folder) = path.parent().filter(|_| is_part(last(path))) else {
        return alone();
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return alone();
    };
    let mut names: Vec<OsString> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    names.retain(|name| is_part(name));
    names.sort();
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    let groups = detect_sharded_sets(&texts(&paths));
    let mine = path.to_string_lossy();
    let set = groups
        .into_values()
        .find(|group| group.files.iter().any(|file| *file == mine));
    let members = |group: &ShardGroup| {
        paths
            .into_iter()
            .filter(|path| group.files.contains(&text(path)))
            .collect()
    };
    set.as_ref().map_or_else(alone, members)
}

/// A path as the rules about names take it.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn texts<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<String> {
    paths.into_iter().map(|path| text(path)).collect()
}

// A folder

type Found = (PathBuf, PathBuf);

fn read_folder(path: &Path, real: &Path) -> Result<Source> {
    let mut skipped = Vec::new();
    let mut found = walk(real, &mut skipped)?;
    let own: Vec<&str> = [METADATA, OVERRIDES]
        .into_iter()
        .filter(|own| found.iter().any(|(name, _)| name == Path::new(own)))
        .collect();
    let (metadata, overrides) = carried(real, &own, &mut skipped)?;
    found.retain(|(name, _)| name != Path::new(METADATA) && name != Path::new(OVERRIDES));
    let found = without_metadata_inside(real, found, &mut skipped)?;
    let files = named_files(&found, &mut skipped)?;
    let title = if last(path).is_empty() {
        last(real)
    } else {
        last(path)
    };
    if !files.iter().any(|file| file.format.is_some()) {
        let name = display_name(last(path));
        let depth = if skipped.iter().any(|item| item.reason == TOO_DEEP) {
            format!(" in its first {MAX_DEPTH} levels")
        } else {
            String::new()
        };
        return Err(Error::NotAModel(format!(
            "{name} holds no model file that we know{depth}; nothing was imported."
        )));
    }
    let weights: Vec<&PathBuf> = files
        .iter()
        .filter(|file| file.format.is_some())
        .map(|file| &file.found)
        .collect();
    if metadata.is_empty() && !found.iter().any(|(name, _)| is_mark(&name.to_string_lossy())) {
        refuse_several(real, &weights)?;
    }
    require_complete(weights)?;
    Ok(Source {
        path: real.to_path_buf(),
        title: plain_text(title),
        files,
        skipped,
        metadata,
        overrides,
    })
}

/// Whether a file of this name at a folder's top makes the folder one model.
#[must_use]
pub fn is_mark(name: &str) -> bool {
    MODEL_MARKS.contains(&name)
        || WEIGHT_LISTS
            .iter()
            .any(|ending| name.ends_with(ending) && name.len() > ending.len())
}

/// (relative name, path) of each file that may belong to the model, with a bound on depth and number.
fn walk(folder: &Path, skipped: &mut Vec<Skipped>) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut pending = vec![(folder.to_path_buf(), PathBuf::new(), 0)];
    let mut count = 0;
    while let Some((current, prefix, depth)) = pending.pop() {
        let shown = if prefix.as_os_str().is_empty() {
            last(&current)
        } else {
            prefix.as_os_str()
        };
        let mut entries = fs::read_dir(&current)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(|error| unreadable(shown, &error))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            count += 1;
            if count > MAX_FILES {
                let name = display_name(last(folder));
                let many = grouped(MAX_FILES);
                return Err(Error::NotAModel(format!(
                    "{name} holds more than {many} files; import a folder inside it."
                )));
            }
            let name = prefix.join(entry.file_name());
            match what(&entry, depth).map_err(|error| unreadable(&name, &error))? {
                What::Skipped(reason) => skipped.push(Skipped {
                    path: display_name(&name),
                    reason: reason.to_owned(),
                }),
                What::Folder => pending.push((entry.path(), name, depth + 1)),
                What::File => found.push((name, entry.path())),
            }
        }
    }
    Ok(found)
}

enum What {
    File,
    Folder,
    Skipped(&'static str),
}

fn what(entry: &fs::DirEntry, depth: usize) -> io::Result<What> {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    if name.starts_with('.') {
        return Ok(What::Skipped("hidden"));
    }
    if is_junk(&name) {
        return Ok(What::Skipped("left behind by a program, not part of a model"));
    }
    let kind = entry.file_type()?;
    let behind = match fs::metadata(entry.path()) {
        Ok(facts) => Some(facts),
        Err(error) if leads_nowhere(&error) => None,
        Err(error) => return Err(error),
    };
    let is_folder = behind.as_ref().is_some_and(fs::Metadata::is_dir);
    Ok(if kind.is_symlink() && is_folder {
        What::Skipped("a link to a folder is not followed")
    } else if kind.is_dir() {
        if depth >= MAX_DEPTH {
            What::Skipped(TOO_DEEP)
        } else {
            What::Folder
        }
    } else if behind.is_some_and(|facts| facts.is_file()) {
        What::File
    } else if kind.is_symlink() {
        What::Skipped("the link leads nowhere")
    } else {
        What::Skipped("not a regular file")
    })
}

fn leads_nowhere(error: &io::Error) -> bool {
    let reason = Errno::from_io_error(error);
    reason.is_some_and(|reason| [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].contains(&reason))
}

/// A file or folder that is hidden or that a tool left behind.
#[must_use]
pub fn is_junk(name: &str) -> bool {
    name.starts_with('.') || JUNK_NAMES.contains(&name) || JUNK_SUFFIXES.contains(&suffix(name).as_str())
}

fn named_files(found: &[Found], skipped: &mut Vec<Skipped>) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let mut taken = HashSet::new();
    for (name, path) in found {
        let file = source_file(path, name)?;
        if taken.insert(file.name.clone()) {
            files.push(file);
        } else {
            let reason = "another file has the same name once it is cleaned".to_owned();
            skipped.push(Skipped {
                path: display_name(name),
                reason,
            });
        }
    }
    Ok(files)
}

/// Refuse a folder of models of another library. Any other `metadata.json` would look like a model of ours.
fn without_metadata_inside(root: &Path, found: Vec<Found>, skipped: &mut Vec<Skipped>) -> Result<Vec<Found>> {
    let is_nested = |name: &Path| name.components().count() > 1 && last(name) == METADATA;
    let (nested, others): (Vec<Found>, Vec<Found>) = found.into_iter().partition(|(name, _)| is_nested(name));
    let describes = |path: &Path| json_file::parse_object(path).is_ok_and(|value| is_ours(&value));
    let mut models: Vec<String> = nested
        .iter()
        .filter(|(_, path)| describes(path))
        .filter_map(|(_, path)| Some(display_name(path.parent()?)))
        .collect();
    if !models.is_empty() {
        models.sort();
        return Err(Error::SeveralModels {
            name: display_name(last(root)),
            candidates: models,
        });
    }
    let reason = "its name would mark a model of its own";
    skipped.extend(nested.iter().map(|(name, _)| Skipped {
        path: display_name(name),
        reason: reason.to_owned(),
    }));
    Ok(others)
}

fn is_ours(value: &JsonObject) -> bool {
    METADATA_KEYS
        .iter()
        .filter(|key| value.contains_key(**key))
        .count()
        >= 2
}

/// A folder without a mark must hold one file or one set; a projector beside a model belongs to it.
fn refuse_several(root: &Path, weights: &[&PathBuf]) -> Result<()> {
    let groups = detect_sharded_sets(&texts(weights.iter().copied()));
    let firsts: HashSet<&String> = groups.values().map(|group| &group.files[0]).collect();
    let is_projector = |path: &Path| last(path).to_string_lossy().to_lowercase().contains("mmproj");
    let order = |path: &Path| groups.values().position(|group| group.files[0] == text(path));
    let mut mains: Vec<&Path> = weights
        .iter()
        .map(|path| path.as_path())
        .filter(|path| firsts.contains(&text(path)) && !is_projector(path))
        .collect();
    mains.sort_by_key(|path| order(path));
    if mains.len() > 1 {
        let candidates: IndexSet<String> = mains
            .into_iter()
            .map(|main| display_name(candidate(root, main)))
            .collect();
        return Err(Error::SeveralModels {
            name: display_name(last(root)),
            candidates: candidates.into_iter().collect(),
        });
    }
    Ok(())
}

/// The outermost folder below `root` that is marked as one model, else the file itself.
fn candidate<'a>(root: &Path, weight: &'a Path) -> &'a Path {
    let mut folders: Vec<&Path> = weight
        .ancestors()
        .skip(1)
        .filter(|folder| *folder != root && folder.starts_with(root))
        .collect();
    folders.reverse();
    for folder in folders {
        let Ok(entries) = fs::read_dir(folder) else { break };
        let mut names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
        if names.any(|name| is_mark(&name.to_string_lossy())) {
            return folder;
        }
    }
    weight
}

/// What another library of ours knew about the model. A file of that name from elsewhere stays behind.
fn carried(folder: &Path, own: &[&str], skipped: &mut Vec<Skipped>) -> Result<(JsonObject, JsonObject)> {
    let (mut metadata, mut overrides) = (JsonObject::new(), JsonObject::new());
    for name in own {
        let loaded = json_file::load(&folder.join(name)).map(|loaded| loaded.value.unwrap_or_default());
        let reason = match loaded {
            Ok(value) if *name == METADATA && is_ours(&value) => {
                metadata = value;
                "rewritten for this library; what it says about the model was kept"
            }
            Ok(value) if *name == OVERRIDES => match check_overrides(&value) {
                Ok(()) => {
                    overrides = value;
                    "rewritten for this library with the same content"
                }
                Err(Error::InvalidInput { .. }) => "damaged",
                Err(error) => return Err(error),
            },
            Ok(_) => "its place is taken by this library's own file",
            Err(Error::CorruptState { .. }) => "damaged",
            Err(error) => return Err(error),
        };
        skipped.push(Skipped {
            path: (*name).to_owned(),
            reason: reason.to_owned(),
        });
    }
    Ok((metadata, overrides))
}

// Both

fn source_file(found: &Path, name: &Path) -> Result<SourceFile> {
    let stamp = {
        let opened = open_regular(found)?;
        let facts = open_file(&opened)?
            .metadata()
            .during(&format!("Looking at {}", opened.name))?;
        Stamp::of(&facts)
    };
    let path = fs::canonicalize(found).map_err(|error| unreadable(name, &error))?;
    let format = weights_format(found)?;
    Ok(SourceFile {
        found: found.to_path_buf(),
        path,
        name: target_name(name, format),
        original_name: display_name(name),
        stamp,
        format,
    })
}

/// The container of a file with weights; `None` for files that hold none.
///
/// # Errors
/// `FileUnavailable`: it cannot be read. `NotAModel`: it claims to be a model file and is none.
pub fn weights_format(path: &Path) -> Result<Option<FileFormat>> {
    let suffix = suffix_of(path);
    if COMPANIONS.contains(&suffix.as_str()) {
        return Ok(None);
    }
    let detected = detect_format(path)?;
    if detected.is_valid() {
        return Ok(Some(detected.format));
    }
    if detected.format != FileFormat::Unknown || MUST_BE_MODELS.contains(&suffix.as_str()) {
        let error = if detected.error.is_empty() {
            display_name(last(path))
        } else {
            detected.error
        };
        return Err(Error::NotAModel(format!("{error}; nothing was imported.")));
    }
    Ok(None)
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

fn require_complete<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    let paths = texts(paths);
    for (name, group) in detect_sharded_sets(&paths) {
        if !group.validation.complete {
            let name = display_name(name);
            return Err(Error::NotAModel(format!(
                "{name}: {}; nothing was imported.",
                group.validation.error
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    const GGUF: &[u8] = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

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

    #[test]
    fn one_model_with_what_belongs_to_it() {
        let folder = folder(&[
            ("m.gguf", GGUF),
            ("README.md", b"x"),
            (".hidden", b"x"),
            ("m.gguf.part", b"x"),
        ]);
        let source = read_source(folder.path()).unwrap();
        let names: Vec<&str> = source.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["README.md", "m.gguf"]);
        assert_eq!(source.skipped.len(), 2);
        assert_eq!(source.primary().unwrap().name, "m.gguf");
    }

    #[test]
    fn links_that_lead_nowhere_stay_behind() {
        let folder = folder(&[("m.gguf", GGUF)]);
        let link = |name, target| std::os::unix::fs::symlink(target, folder.path().join(name)).unwrap();
        link("round", "round");
        link("gone.txt", "not there");
        link("through.txt", "m.gguf/below");
        let mut skipped = read_source(folder.path()).unwrap().skipped;
        skipped.sort_by(|one, other| one.path.cmp(&other.path));
        let told: Vec<_> = skipped
            .iter()
            .map(|one| (one.path.as_str(), one.reason.as_str()))
            .collect();
        assert_eq!(
            told,
            ["gone.txt", "round", "through.txt"].map(|name| (name, "the link leads nowhere"))
        );
    }

    #[test]
    fn several_models_are_refused_with_their_paths() {
        let two = folder(&[("a.gguf", GGUF), ("sub/b.gguf", GGUF), ("sub/config.json", b"{}")]);
        let Err(Error::SeveralModels { candidates, .. }) = read_source(two.path()) else {
            panic!("taken for one")
        };
        let real = fs::canonicalize(two.path()).unwrap();
        assert_eq!(
            candidates,
            [real.join("a.gguf"), real.join("sub")].map(|path| path.to_string_lossy().into_owned())
        );
        let marked = folder(&[("a.gguf", GGUF), ("sub/b.gguf", GGUF), ("config.json", b"{}")]);
        assert_eq!(read_source(marked.path()).unwrap().files.len(), 3);
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let part = folder(&[("m-00001-of-00002.gguf", GGUF)]);
        assert!(matches!(read_source(part.path()), Err(Error::NotAModel(_))));
        let pointer = folder(&[("m.safetensors", b"version https://git-lfs.github.com/spec/v1")]);
        assert!(matches!(read_source(pointer.path()), Err(Error::NotAModel(_))));
        assert!(matches!(
            read_source(Path::new("/nowhere/at/all")),
            Err(Error::FileUnavailable { .. })
        ));
    }
}
