//! What a scan finds in other programs' stores: plain values that the readers of the stores fill.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::library::entry::{extension, is_model_file};
use crate::library::formats::quantization::detect_quantization;
use crate::library::formats::shards::is_projector;
use crate::library::hashing::Stamp;
use crate::storage::files::hex;
use crate::storage::paths::display_name;

/// Models of one store beyond this number are not looked at.
pub const MAX_MODELS: usize = 20_000;
const MAX_PROBLEMS: usize = 500;
const ID_BYTES: usize = 10;

/// Whose form a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// The cache of `huggingface_hub`.
    Huggingface,
    /// Manifests and blobs.
    Ollama,
    /// A tree of `owner/repo/file`.
    LmStudio,
    /// Folders by kind of model.
    Comfyui,
    /// The `models` of A1111 and Forge.
    Webui,
    /// Another library of ours.
    Pumas,
    /// A tree of `owner/repo/file` of nobody's.
    Folder,
}

impl StoreKind {
    /// As on the wire, in the journal and in metadata.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Huggingface => "huggingface",
            Self::Ollama => "ollama",
            Self::LmStudio => "lm_studio",
            Self::Comfyui => "comfyui",
            Self::Webui => "webui",
            Self::Pumas => "pumas",
            Self::Folder => "folder",
        }
    }

    /// Files that their program names by their content and replaces, but never writes into.
    #[must_use]
    pub fn writes_once(self) -> bool {
        matches!(self, Self::Huggingface | Self::Ollama)
    }
}

/// One file of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// The one it should have in a model.
    pub name: String,
    /// Where the bytes are, links resolved.
    pub path: String,
    /// Where the program shows them, with a name that says what they are.
    pub shown: String,
    /// Which file it is.
    pub stamp: Stamp,
    /// Names (hard links) that the bytes have.
    pub links: u64,
    /// What the store says, `""` when it does not.
    pub claimed_sha256: String,
}

impl StoredFile {
    /// A file that is shown where its bytes are.
    #[must_use]
    pub fn new(name: &str, path: &str, status: &Metadata) -> Self {
        Self {
            name: name.to_owned(),
            path: path.to_owned(),
            shown: path.to_owned(),
            stamp: Stamp::of(status),
            links: status.nlink(),
            claimed_sha256: String::new(),
        }
    }

    /// Equal for two names of one file.
    #[must_use]
    pub fn bytes_id(&self) -> (u64, u64) {
        (self.stamp.device, self.stamp.inode)
    }
}

/// One model of a store; at least one of its files has weights.
#[derive(Debug, Clone)]
pub struct StoredModel {
    /// Of the store.
    pub kind: StoreKind,
    /// The store's path.
    pub store: String,
    /// The store's own name for it; with `revision` it is unique there.
    pub name: String,
    /// For people.
    pub title: String,
    /// All of them.
    pub files: Vec<StoredFile>,
    /// `owner/name` on the hub.
    pub repo_id: Option<String>,
    /// A commit.
    pub revision: Option<String>,
    /// Branches and tags that mean this one.
    pub refs: Vec<String>,
    /// What the store's folders or notes say.
    pub subtype: String,
    /// As `subtype`.
    pub family: String,
    /// As `subtype`.
    pub model_type: String,
    /// Why it cannot be adopted as it is, `""` when it can.
    pub problem: String,
}

impl StoredModel {
    /// A model of which only the store tells nothing more.
    #[must_use]
    pub fn new(store: &Store, name: String, title: String, files: Vec<StoredFile>) -> Self {
        Self {
            kind: store.kind,
            store: store.path.clone(),
            name,
            title,
            files,
            repo_id: None,
            revision: None,
            refs: Vec::new(),
            subtype: String::new(),
            family: String::new(),
            model_type: String::new(),
            problem: String::new(),
        }
    }

    /// The same in every scan, whatever else the store holds.
    #[must_use]
    pub fn id(&self) -> String {
        let kind = self.kind.as_str();
        let revision = self.revision.as_deref().unwrap_or_default();
        let digest = Sha256::digest([kind, &self.store, &self.name, revision].join("\0"));
        format!("{kind}-{}", hex(&digest[..ID_BYTES]))
    }

    /// Bytes of all files.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.stamp.size).sum()
    }

    /// The files with weights, by their names.
    pub fn weights(&self) -> impl Iterator<Item = &StoredFile> {
        self.files.iter().filter(|file| is_weights(&file.name))
    }

    fn primary(&self) -> Option<&StoredFile> {
        self.weights()
            .max_by_key(|file| (!is_projector(&file.name), file.stamp.size, &file.name))
    }

    /// Bytes of the largest file with weights.
    #[must_use]
    pub fn primary_size(&self) -> u64 {
        self.primary().map_or(0, |file| file.stamp.size)
    }

    /// By the file's name alone; `""` when it has no ending.
    #[must_use]
    pub fn format(&self) -> String {
        let name = self.primary().map_or("", |file| &file.name);
        let ending = if name.contains('.') {
            extension(name)
        } else {
            String::new()
        };
        if matches!(ending.as_str(), "ckpt" | "pt" | "pth" | "bin") {
            "pickle".to_owned()
        } else {
            ending
        }
    }

    /// By names alone; `""` when they do not say.
    #[must_use]
    pub fn quantization(&self) -> String {
        let file = self.primary().map_or("", |file| &file.name);
        detect_quantization(&format!("{}/{file}", self.name))
    }
}

/// The last part of a name with `/`.
#[must_use]
pub fn base_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Whether a file has weights, by its name.
#[must_use]
pub fn is_weights(name: &str) -> bool {
    is_model_file(base_name(name))
}

/// What is wrong with something in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Relative to the store.
    pub path: String,
    /// `broken_link`, `incomplete`, `unreadable`, `outside`, `special_file`, `bad_manifest`, `unusable_name`, `unused`,
    /// `link_to_folder`, `limit`, `wrong_size`.
    pub kind: &'static str,
    /// A sentence.
    pub message: String,
}

/// One store with what is in it.
#[derive(Debug, Clone)]
pub struct Store {
    /// Whose form it has.
    pub kind: StoreKind,
    /// Absolute, links resolved.
    pub path: String,
    /// What can be adopted.
    pub models: Vec<StoredModel>,
    /// The first of them.
    pub problems: Vec<Problem>,
    /// How many are not among `problems`.
    pub more_problems: usize,
    /// A limit was reached, so there is more.
    pub truncated: bool,
}

impl Store {
    /// One of which nothing is known yet.
    #[must_use]
    pub fn new(kind: StoreKind, path: &str) -> Self {
        Self {
            kind,
            path: path.to_owned(),
            models: Vec::new(),
            problems: Vec::new(),
            more_problems: 0,
            truncated: false,
        }
    }

    /// Note that something at `path`, which is absolute, cannot be used.
    pub fn problem(&mut self, path: impl AsRef<Path>, kind: &'static str, message: impl Into<String>) {
        if self.problems.len() >= MAX_PROBLEMS {
            self.more_problems += 1;
            return;
        }
        let path = path.as_ref();
        let shown = if path.as_os_str().as_bytes().starts_with(self.path.as_bytes()) {
            relative(path, Path::new(&self.path))
        } else {
            PathBuf::from(path.file_name().unwrap_or_default())
        };
        self.problems.push(Problem {
            path: display_name(shown),
            kind,
            message: message.into(),
        });
    }
}

/// How to come from `from` to `path`; both are absolute.
fn relative(path: &Path, from: &Path) -> PathBuf {
    let shared = path
        .components()
        .zip(from.components())
        .take_while(|(a, b)| a == b);
    let shared = shared.count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(path.components().skip(shared)).collect();
    if way.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_told_relative_to_the_store_and_counted() {
        let mut store = Store::new(StoreKind::Folder, "/s/hub");
        for path in ["/s/hub", "/s/hub/a/b", "/s/hub-moved/c", "/elsewhere/d"] {
            store.problem(path, "unreadable", "No.");
        }
        let told: Vec<&str> = store
            .problems
            .iter()
            .map(|problem| problem.path.as_str())
            .collect();
        assert_eq!(told, [".", "a/b", "../hub-moved/c", "d"]);
        for _ in 0..MAX_PROBLEMS {
            store.problem("/s/hub/x", "unreadable", "No.");
        }
        assert_eq!((store.problems.len(), store.more_problems), (MAX_PROBLEMS, 4));
    }

    #[test]
    fn kinds_are_written_as_they_are_called() {
        for kind in [StoreKind::Huggingface, StoreKind::LmStudio, StoreKind::Webui] {
            assert_eq!(serde_json::json!(kind), kind.as_str());
        }
    }
}
