//! What adopting one stored model would make of it: its files checked, its place and its metadata.
//!
//! Opens headers to learn what the model is, and nothing more of a file. `adopting` carries a plan out.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use caseless::default_case_fold_str;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::adoption::found::{StoreKind, StoredFile, StoredModel, base_name};
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::library::copying::Sharing;
use crate::library::formats::detect::SecurityTier;
use crate::library::formats::identify::{Identity, identify, identify_folder};
use crate::library::formats::quantization::agree;
use crate::library::formats::reader::open_regular;
use crate::library::hashing::{Digests, Stamp, open_file};
use crate::library::import_plan::{FindBySize, ImportPlan, ImportRequest, plan_of};
use crate::library::import_source::{
    MUST_BE_MODELS, Skipped, Source, SourceFile, require_downloaded, suffix, target_name, weights_format,
};
use crate::library::references::{Reference, mount_of};
use crate::storage::files::During as _;
use crate::storage::json_file::JsonObject;
use crate::storage::paths::{display_name, resolved};

/// How a model's bytes are shared with the program that it was adopted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Blocks are shared until one side writes.
    Reflink,
    /// One file under two names.
    Hardlink,
    /// That program alone has them.
    Reference,
}

impl Storage {
    /// In the order in which they are tried.
    pub const ALL: [Self; 3] = [Self::Reflink, Self::Hardlink, Self::Reference];

    /// As in metadata, in the journal and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reflink => "reflink",
            Self::Hardlink => "hardlink",
            Self::Reference => "reference",
        }
    }

    /// Of a word in metadata.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|storage| storage.as_str() == word)
    }

    /// How a file is brought into staging; a reference is not.
    #[must_use]
    pub fn sharing(self) -> Option<Sharing> {
        match self {
            Self::Reflink => Some(Sharing::Reflink),
            Self::Hardlink => Some(Sharing::Hardlink),
            Self::Reference => None,
        }
    }
}

/// How the caller wants bytes to be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdoptMode {
    /// The first of the others that is possible.
    Auto,
    /// [`Storage::Reflink`].
    Reflink,
    /// [`Storage::Hardlink`].
    Hardlink,
    /// [`Storage::Reference`].
    Reference,
}

impl AdoptMode {
    /// What may be tried, in order.
    #[must_use]
    pub fn storages(self) -> &'static [Storage] {
        match self {
            Self::Auto => &Storage::ALL,
            Self::Reflink => &[Storage::Reflink],
            Self::Hardlink => &[Storage::Hardlink],
            Self::Reference => &[Storage::Reference],
        }
    }
}

/// Which stored model, as a scan shows it, and how; `""` means: find out. The form is that of the job on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptRequest {
    /// Of the store.
    pub kind: StoreKind,
    /// The store's path.
    pub store: String,
    /// The model's name there.
    pub name: String,
    /// Its commit.
    pub revision: Option<String>,
    /// How its bytes are shared.
    pub mode: AdoptMode,
    /// The shown name.
    pub official_name: String,
    /// `llama`, `sdxl`, …
    pub family: String,
    /// `llm`, `diffusion`, …
    pub model_type: String,
    /// `loras`, `vae`, …
    pub subtype: String,
    /// The user's words for it.
    pub tags: Vec<String>,
    /// Accepts files that can run code when an app loads them (pickle).
    pub security_acknowledged: bool,
    /// Adopt what the library holds already.
    pub allow_duplicate: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What would be done.
#[derive(Debug, Clone)]
pub struct AdoptionPlan {
    /// What is adopted.
    pub model: StoredModel,
    /// What an import of the same files would be.
    pub plan: ImportPlan,
}

impl AdoptionPlan {
    /// The files, as they will be.
    #[must_use]
    pub fn files(&self) -> &[SourceFile] {
        &self.plan.source.files
    }

    /// What a person should know about sharing bytes in this way.
    #[must_use]
    pub fn warnings(&self, storage: Storage, wanted: AdoptMode) -> Vec<String> {
        let owner = self.model.kind.as_str().replace('_', " ");
        let mut said = self.plan.identity.notes.clone();
        if storage == Storage::Hardlink && !self.model.kind.writes_once() {
            said.push(format!(
                "The files are one with those in the {owner} folder: who writes into them changes this model."
            ));
        }
        if storage == Storage::Reference {
            said.push(format!(
                "The files stay in the {owner} store: the model is missing once they are removed there."
            ));
            if wanted == AdoptMode::Auto {
                let why = "They cannot be linked into the library, which is on another volume or may not link them.";
                said.push(why.to_owned());
            }
        }
        said
    }

    /// The content of `metadata.json`. No digest is in it that we did not compute; what the store claims is marked as
    /// claimed.
    ///
    /// # Errors
    /// `Bug`: a file has no place in the plan.
    pub fn metadata(&self, model_id: &str, adoption_id: &str, storage: Storage) -> Result<JsonObject> {
        let unknown = |file: &SourceFile| {
            let (sha256, blake3, size) = (String::new(), String::new(), file.stamp.size);
            (file.name.clone(), Digests { sha256, blake3, size })
        };
        let digests: HashMap<String, Digests> = self.files().iter().map(unknown).collect();
        let mut metadata = self.plan.metadata(model_id, &digests)?;
        let mut put = |key: &str, value: Value| metadata.insert(key.to_owned(), value);
        put(
            "files",
            self.files().iter().map(|file| self.entry(file)).collect(),
        );
        put("storage", json!(storage.as_str()));
        let original = |file: &SourceFile| {
            json!({
                "name": file.name,
                "path": file.path,
                "size": file.stamp.size,
                "mtime_ns": file.stamp.mtime_ns,
            })
        };
        put(
            "adoption",
            json!({
                "id": adoption_id,
                "kind": self.model.kind,
                "store": self.model.store,
                "name": self.model.name,
                "revision": self.model.revision,
                "files": self.files().iter().map(original).collect::<Vec<Value>>(),
            }),
        );
        if storage == Storage::Reference {
            let all: Vec<Reference> = self.files().iter().map(|file| self.reference(file)).collect();
            put("references", json!(all));
        }
        Ok(metadata)
    }

    fn entry(&self, file: &SourceFile) -> Value {
        let mut entry = json!({
            "name": file.name,
            "original_name": file.original_name,
            "size": file.stamp.size,
        });
        let stored = self
            .model
            .files
            .iter()
            .find(|stored| Path::new(&stored.shown) == file.found);
        if let Some(sha256) = stored
            .map(|stored| &stored.claimed_sha256)
            .filter(|text| !text.is_empty())
        {
            entry["claimed_sha256"] = json!(sha256);
            entry["digest_state"] = json!("claimed");
        }
        entry
    }

    fn reference(&self, file: &SourceFile) -> Reference {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        Reference {
            name: file.name.clone(),
            path: text(file.path.clone()),
            size: i64::try_from(file.stamp.size).unwrap_or(i64::MAX),
            mtime_ns: file.stamp.mtime_ns,
            store: self.model.store.clone(),
            mount: text(mount_of(&file.path)),
        }
    }
}

/// What adopting `model` would do.
///
/// # Errors
/// `FileUnavailable`: a file is gone, is no regular file, cannot be read, or is not what the scan saw. `InvalidInput`: the
/// files are in the library already. `NotAModel`, `MalformedModelFile`: it is not whole, or a file is not what its name
/// says. `PickleNotAcknowledged`: a file can run code when an app loads it.
pub fn make_plan(
    layout: &Layout,
    model: StoredModel,
    request: &AdoptRequest,
    find_by_size: FindBySize<'_>,
) -> Result<AdoptionPlan> {
    if !model.problem.is_empty() {
        return Err(Error::NotAModel(format!(
            "{} is not whole: {}; nothing was adopted.",
            model.name, model.problem
        )));
    }
    let source = source(layout, &model)?;
    let identity = identity(&model, &source)?;
    let known_type = match &*model.model_type {
        "unknown" => "",
        known => known,
    };
    let wish = |asked: &str, known: &str| if asked.is_empty() { known } else { asked }.to_owned();
    let wanted = ImportRequest {
        path: model.name.clone(),
        family: wish(&request.family, &model.family),
        official_name: wish(&request.official_name, &model.title),
        repo_id: model.repo_id.clone(),
        model_type: wish(&request.model_type, known_type),
        subtype: wish(&request.subtype, &model.subtype),
        tags: request.tags.clone(),
        ..ImportRequest::default()
    };
    let plan = plan_of(layout, wanted, source, identity, find_by_size)?;
    if plan.security_tier == SecurityTier::Pickle && !request.security_acknowledged {
        return Err(Error::PickleNotAcknowledged(format!(
            "{} can run code when an app loads it (pickle); pass security_acknowledged to adopt it all the same.",
            plan.official_name
        )));
    }
    Ok(AdoptionPlan { model, plan })
}

fn source(layout: &Layout, model: &StoredModel) -> Result<Source> {
    let library = resolved(&layout.library());
    let weights: HashSet<&str> = model.weights().map(|file| file.name.as_str()).collect();
    let (mut files, mut skipped, mut taken) = (Vec::new(), Vec::new(), HashSet::new());
    for file in &model.files {
        let is_weights = weights.contains(file.name.as_str());
        let file = source_file(&library, file, is_weights)?;
        if taken.insert(default_case_fold_str(&file.name)) {
            files.push(file);
        } else {
            skipped.push(Skipped {
                path: file.original_name,
                reason: "another file has the same name once it is cleaned".to_owned(),
            });
        }
    }
    if !files.iter().any(|file: &SourceFile| file.format.is_some()) {
        return Err(Error::NotAModel(format!(
            "{} holds no model file that we know; nothing was adopted.",
            model.name
        )));
    }
    Ok(Source {
        path: PathBuf::from(&model.store),
        title: model.title.clone(),
        files,
        skipped,
        metadata: JsonObject::new(),
        overrides: JsonObject::new(),
    })
}

fn source_file(library: &Path, file: &StoredFile, is_weights: bool) -> Result<SourceFile> {
    let path = Path::new(&file.path);
    let shown = display_name(&file.name);
    if path.starts_with(library) {
        return Err(Error::invalid(
            "item",
            format!("{shown} is in the library already"),
        ));
    }
    let opened = open_regular(path)?;
    let facts = open_file(&opened)?
        .metadata()
        .during(&format!("Looking at {}", opened.name))?;
    if Stamp::of(&facts) != file.stamp {
        let reason = "was changed since its store was read; try again";
        return Err(Error::unavailable(shown, reason));
    }
    require_downloaded(Path::new(&file.shown), Path::new(&file.name))?;
    let format = if is_weights { weights_format(path)? } else { None };
    if format.is_none() && MUST_BE_MODELS.contains(&suffix(base_name(&file.name)).as_str()) {
        return Err(Error::NotAModel(format!(
            "{shown} is not a model file that we know; nothing was adopted."
        )));
    }
    Ok(SourceFile {
        found: PathBuf::from(&file.shown),
        path: path.to_path_buf(),
        name: target_name(Path::new(&file.name), format),
        original_name: shown,
        stamp: file.stamp,
        format,
    })
}

/// By the files' content; a name is asked where a blob's own says nothing.
fn identity(model: &StoredModel, source: &Source) -> Result<Identity> {
    let telling: Vec<PathBuf> = source.telling().map(|file| file.found.clone()).collect();
    if telling.len() > 1 && model.kind != StoreKind::Ollama {
        return identify_folder(&telling);
    }
    let mut identity = identify(&source.primary()?.found)?;
    let named = model.quantization();
    let is_finer = identity.quantization.is_empty() || agree(&named, &identity.quantization);
    if !named.is_empty() && is_finer {
        identity.quantization = named;
    }
    Ok(identity)
}
