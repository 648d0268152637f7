//! What a path that the user wants to import holds: which files make one model, which stay behind and why.
//!
//! A folder is one model when it says so (a config or index file of its own, or metadata of another library), or when its
//! weights are one file or one set of shards. A folder of several models is refused with the list of them, so that nobody
//! gets fifty checkpoints as one model or one as fifty. Files are opened only to see what they are; nothing is changed.
//! What kind of model it is, and where it goes, is decided in `import_plan`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::library::formats::detect::{Detected, FileFormat, detect_format};
use crate::library::formats::identify::CONFIGURATIONS;
use crate::library::formats::reader::open_regular;
use crate::library::formats::shards::{detect_sharded_sets, is_projector};
use crate::library::hashing::{Stamp, open_file};
use crate::storage::files::{During as _, reason};
use crate::storage::json_file::JsonObject;
use crate::storage::paths::display_name;

mod folder;
mod hugging_face;
mod names;
mod single_file;
mod walk;

use folder::read_folder;
use names::UNDER_WAY;
pub use names::{is_junk, is_mark, suffix, target_name};
use single_file::read_file;

/// Files beside weights that need no look inside.
const COMPANIONS: [&str; 25] = [
    ".json", ".jsonl", ".txt", ".md", ".yaml", ".yml", ".toml", ".csv", ".html", ".pdf", ".py", ".jinja",
    ".model", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg", ".mp4", ".wav", ".info", ".spm", ".vocab",
    ".license",
];
/// A file with such a name that is not what it says (a git LFS pointer, an error page) makes the import fail.
pub const MUST_BE_MODELS: [&str; 5] = [".safetensors", ".gguf", ".ckpt", ".pth", ".onnx"];

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

    /// The files from which can be learned what the model is: weights, and configurations that speak of them.
    pub fn telling(&self) -> impl Iterator<Item = &SourceFile> {
        let speaks = |file: &SourceFile| {
            let name = file.found.file_name();
            name.is_some_and(|name| CONFIGURATIONS.iter().any(|one| name == *one))
        };
        self.files
            .iter()
            .filter(move |file| file.format.is_some() || speaks(file))
    }

    /// The largest file with weights, projectors last: its digest stands for the model.
    ///
    /// # Errors
    /// `NotAModel`: there is none, which no source has.
    pub fn primary(&self) -> Result<&SourceFile> {
        let largest = self
            .weights()
            .max_by_key(|file| (!is_projector(&file.name), file.stamp.size, &file.name));
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
    if !real.is_dir() {
        return read_file(&path, &real);
    }
    if is_ollama_store(&real) {
        return Err(Error::NotAModel(format!(
            "{} is where Ollama keeps its models; scan_model_stores lists them, and adopt_models takes them in without a \
             copy; nothing was imported.",
            display_name(last(&path))
        )));
    }
    match hugging_face::snapshot(&real)? {
        Some(snapshot) => read_folder(&snapshot, &snapshot),
        None => read_folder(&path, &real),
    }
}

/// Its models are blobs named by their digests, and manifests say what they are: nothing that a folder tells.
fn is_ollama_store(folder: &Path) -> bool {
    let is_store =
        |store: &Path| store.join("manifests/registry.ollama.ai").is_dir() && store.join("blobs").is_dir();
    is_store(folder) || is_store(&folder.join("models"))
}

fn unreadable(name: impl AsRef<OsStr>, error: &io::Error) -> Error {
    Error::unavailable(display_name(name), reason(error).to_lowercase())
}

/// The last part of a path; empty for a root.
fn last(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn source_file(found: &Path, name: &Path) -> Result<SourceFile> {
    require_downloaded(found, name)?;
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

/// Whether no program is still writing a file, as what it would keep beside it says.
///
/// # Errors
/// `NotAModel`: one is.
pub fn require_downloaded(found: &Path, name: &Path) -> Result<()> {
    for suffix in UNDER_WAY {
        let mut beside = found.as_os_str().to_owned();
        beside.push(suffix);
        if fs::symlink_metadata(&beside).is_ok() {
            return Err(Error::NotAModel(format!(
                "{} is still being downloaded: {}{suffix} is beside it.",
                display_name(name),
                display_name(last(found))
            )));
        }
    }
    Ok(())
}

/// The container of a file with weights; `None` for files that hold none.
///
/// # Errors
/// `FileUnavailable`: it cannot be read. `NotAModel`: it claims to be a model file and is none.
pub fn weights_format(path: &Path) -> Result<Option<FileFormat>> {
    let suffix = suffix(&last(path).to_string_lossy());
    if COMPANIONS.contains(&suffix.as_str()) {
        return Ok(None);
    }
    let detected = detect_format(path)?;
    if detected.is_valid() {
        return Ok(Some(detected.format));
    }
    if detected.format != FileFormat::Unknown || MUST_BE_MODELS.contains(&suffix.as_str()) {
        return Err(not_imported(&detected));
    }
    Ok(None)
}

/// Why a file that no weights were found in is no model.
fn no_model(file: &SourceFile) -> Result<Error> {
    Ok(not_imported(&detect_format(&file.found)?))
}

fn not_imported(detected: &Detected) -> Error {
    Error::NotAModel(format!("{}; nothing was imported.", detected.error))
}

/// A path as the rules about names take it.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn texts<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<String> {
    paths.into_iter().map(|path| text(path)).collect()
}

fn require_complete<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    let paths = texts(paths);
    for (name, group) in detect_sharded_sets(&paths) {
        if !group.validation.complete {
            let name = display_name(name);
            return Err(Error::NotAModel(format!(
                "{name}: {}{}; nothing was imported.",
                group.validation.error,
                numbers(&group.validation.missing)
            )));
        }
    }
    Ok(())
}

/// Which parts are missing, for who has to find them.
fn numbers(missing: &[u64]) -> String {
    if missing.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = missing.iter().take(5).map(ToString::to_string).collect();
    let more = match missing.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(" (number {}{more})", shown.join(", "))
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
    fn the_weights_of_an_onnx_file_that_lie_beside_it_come_along() {
        let graph = b"\x08\x08\x12\x02py\x3a\x02\x08\x01\x42\x02\x08\x11";
        let folder = folder(&[
            ("model.onnx", graph),
            ("model.onnx_data", b"x"),
            ("model.onnx_data_1", b"x"),
            ("model.onnx_data_old", b"x"),
            ("model2.onnx_data", b"x"),
        ]);
        let source = read_source(&folder.path().join("model.onnx")).unwrap();
        let names: Vec<&str> = source.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["model.onnx", "model.onnx_data", "model.onnx_data_1"]);
        assert_eq!(source.primary().unwrap().name, "model.onnx");
    }

    #[test]
    fn what_is_no_model_says_what_to_do() {
        let page: &[u8] = b"\n <!DOCTYPE html><html>";
        let pointer: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
        let folder = folder(&[
            ("page.gguf", page),
            ("pointer.safetensors", pointer),
            ("set-00001-of-00009.gguf", GGUF),
            ("set-00003-of-00009.gguf", GGUF),
        ]);
        for (name, expected) in [
            (
                "page.gguf",
                "is a web page, not a model; download the model again",
            ),
            ("pointer.safetensors", "'git lfs pull'"),
            (
                "set-00001-of-00009.gguf",
                "7 of 9 parts are missing (number 2, 4, 5, 6, 7 and 2 more); nothing",
            ),
        ] {
            let error = read_source(&folder.path().join(name)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
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
    fn a_folder_around_one_model_is_that_model() {
        let folder = folder(&[
            ("pipe/model_index.json", b"{}"),
            ("pipe/unet/a.gguf", GGUF),
            ("pipe/vae/b.gguf", GGUF),
        ]);
        let source = read_source(folder.path()).unwrap();
        assert_eq!((source.title.as_str(), source.files.len()), ("pipe", 3));
        assert_eq!(source.path, fs::canonicalize(folder.path().join("pipe")).unwrap());
    }

    #[test]
    fn a_snapshot_of_the_hubs_cache_is_called_like_its_repository() {
        let repository = |name: &str| {
            [
                (format!("models--acme--{name}/blobs/1"), GGUF),
                (format!("models--acme--{name}/snapshots/aaa/m.gguf"), GGUF),
                (format!("models--acme--{name}/snapshots/aaa/config.json"), b"{}"),
                (format!("models--acme--{name}/snapshots/bbb/m.gguf"), GGUF),
                (format!("models--acme--{name}/refs/main"), b"bbb\n"),
            ]
        };
        let files = [repository("Nova-7B"), repository("Other")].concat();
        let named: Vec<(&str, &[u8])> = files.iter().map(|(name, data)| (name.as_str(), *data)).collect();
        let hub = folder(&named);
        let nova = hub.path().join("models--acme--Nova-7B");
        for (path, snapshot) in [(nova.clone(), "bbb"), (nova.join("snapshots/aaa"), "aaa")] {
            let source = read_source(&path).unwrap();
            assert_eq!(source.title, "Nova-7B");
            assert!(source.path.ends_with(snapshot), "{path:?}");
        }
        let Err(Error::SeveralModels { candidates, .. }) = read_source(hub.path()) else {
            panic!("taken for one")
        };
        let blobs = candidates.iter().filter(|path| path.contains("blobs")).count();
        assert_eq!((candidates.len(), blobs), (4, 0));
        fs::remove_dir_all(hub.path().join("models--acme--Other")).unwrap();
        fs::remove_dir_all(nova.join("snapshots/aaa")).unwrap();
        assert_eq!(read_source(hub.path()).unwrap().title, "Nova-7B");
        fs::create_dir(nova.join("snapshots/aaa")).unwrap();
        fs::remove_file(nova.join("refs/main")).unwrap();
        assert!(matches!(read_source(&nova), Err(Error::SeveralModels { .. })));
    }

    #[test]
    fn what_is_being_downloaded_is_refused() {
        for control in [".aria2", ".st"] {
            let folder = folder(&[("m.gguf", GGUF), (&format!("m.gguf{control}"), b"x")]);
            for path in [folder.path().to_owned(), folder.path().join("m.gguf")] {
                let error = read_source(&path).unwrap_err().to_string();
                assert!(error.starts_with("m.gguf is still being downloaded"), "{error}");
            }
        }
        let named = folder(&[("m.gguf.crdownload", GGUF), ("m.gguf.!qB", GGUF)]);
        for name in ["m.gguf.crdownload", "m.gguf.!qB"] {
            let error = read_source(&named.path().join(name)).unwrap_err().to_string();
            assert!(error.contains("rename it if it is whole"), "{error}");
        }
    }

    #[test]
    fn the_store_of_ollama_is_no_model() {
        let folder = folder(&[
            (".ollama/models/blobs/sha256-aa", GGUF),
            (
                ".ollama/models/manifests/registry.ollama.ai/library/llama/3b",
                b"{}",
            ),
        ]);
        for path in [".ollama", ".ollama/models"] {
            let error = read_source(&folder.path().join(path)).unwrap_err().to_string();
            assert!(error.contains("adopt_models"), "{error}");
        }
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
