//! What an import would do: the model's type, family, name and place, the space it needs, what to warn about.
//!
//! The caller's words win over what the files say, and what a library it came from said stands between the two. Making a
//! plan opens files and changes nothing; `importing` carries it out.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use indexmap::IndexSet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::Layout;
use crate::error::{Error, Result};
use crate::library::copying::Mode;
use crate::library::formats::detect::{FileFormat, SecurityTier};
use crate::library::formats::identify::{Identity, identify, identify_folder};
use crate::library::formats::pickle_files::scan_pickle;
use crate::library::formats::text::one_line;
use crate::library::hashing::Digests;
use crate::library::import_source::{Source, SourceFile, read_source};
use crate::library::metadata::METADATA;
use crate::storage::clock::now;
use crate::storage::files::{During as _, free_space};
use crate::storage::json_file::JsonObject;
use crate::storage::paths::{caller_path, resolved, slug};

const MAX_NAME: usize = 500;
const MAX_TAG: usize = 200;
const NO_FAMILY: [&str; 3] = ["", "imported", "unknown"];
/// What another library's metadata must not decide: these follow from the files and from where they are put.
const DECIDED_HERE: [&str; 18] = [
    "model_id",
    "family",
    "model_type",
    "subtype",
    "official_name",
    "cleaned_name",
    "hashes",
    "size_bytes",
    "files",
    "added_date",
    "updated_date",
    "security_tier",
    "format",
    "quantization",
    "primary_file",
    "storage",
    "references",
    "adoption",
];

/// What the caller wants; empty values mean: find out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ImportRequest {
    /// A file or folder on the user's disk.
    pub path: String,
    /// `llama`, `sdxl`, …
    pub family: String,
    /// The shown name.
    pub official_name: String,
    /// Where it is from, `owner/name`.
    pub repo_id: Option<String>,
    /// `llm`, `diffusion`, …
    pub model_type: String,
    /// `loras`, `vae`, …
    pub subtype: String,
    /// The user's words for it.
    pub tags: Vec<String>,
    /// Accepts files that can run code when an app loads them (pickle).
    pub security_acknowledged: bool,
    /// How the files come in.
    pub mode: Mode,
    /// Import what the library holds already.
    pub allow_duplicate: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl ImportRequest {
    /// How this file comes in: what a link leads to stays where it is, so it is not moved but copied.
    #[must_use]
    pub fn mode_of(&self, file: &SourceFile) -> Mode {
        if self.mode == Mode::Move && file.found.is_symlink() {
            Mode::Copy
        } else {
            self.mode
        }
    }
}

/// What an import would do.
#[derive(Debug, Clone)]
pub struct ImportPlan {
    /// What was asked for.
    pub request: ImportRequest,
    /// The files.
    pub source: Source,
    /// What they are.
    pub identity: Identity,
    /// As a folder name.
    pub model_type: String,
    /// `""` when there is none.
    pub subtype: String,
    /// As a folder name.
    pub family: String,
    /// The shown name.
    pub official_name: String,
    /// Whether loading it may run code.
    pub security_tier: SecurityTier,
    /// Bytes that must be written at most; files that can be linked do not count.
    pub new_bytes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Models whose primary file has the same size.
    pub look_alikes: Vec<String>,
    /// What the pickle scanner said.
    pub security_findings: Vec<String>,
}

impl ImportPlan {
    /// `type/family/name`, unless it is taken by then (`-2` is appended).
    #[must_use]
    pub fn model_id(&self) -> String {
        format!(
            "{}/{}/{}",
            self.model_type,
            self.family,
            slug(&self.official_name, "model")
        )
    }

    /// Bytes that will be read: everything once, and the primary file before that when its size is known already.
    #[must_use]
    pub fn work_bytes(&self) -> u64 {
        let twice = self.source.primary().map_or(0, |file| file.stamp.size);
        self.source.size() + if self.look_alikes.is_empty() { 0 } else { twice }
    }

    /// The content of `metadata.json`; digests are by file name and all of them were computed.
    ///
    /// # Errors
    /// `Bug`: a file has no digests.
    pub fn metadata(&self, model_id: &str, digests: &HashMap<String, Digests>) -> Result<JsonObject> {
        let moment = now();
        let primary = &self.source.primary()?.name;
        let of = |name: &str| {
            digests
                .get(name)
                .ok_or_else(|| Error::Bug(format!("{name} was not hashed")))
        };
        let repo_id = self.request.repo_id.as_deref().unwrap_or_default();
        let mut metadata = JsonObject::new();
        let mut put = |key: &str, value: Value| metadata.insert(key.to_owned(), value);
        put("base_model", json!(self.identity.base_model));
        put("preview_image", json!(""));
        put("release_date", json!(""));
        put("download_url", json!(hub_address(repo_id)));
        put("model_card", json!({}));
        put("inference_settings", json!({}));
        put("compatible_apps", json!([]));
        put("notes", json!(""));
        put("match_source", json!("import"));
        put("pending_online_lookup", json!(repo_id.is_empty()));
        put("lookup_attempts", json!(0));
        for (key, value) in &self.source.metadata {
            if !DECIDED_HERE.contains(&key.as_str()) {
                put(key, value.clone());
            }
        }
        put("model_id", json!(model_id));
        put("family", json!(self.family));
        put("model_type", json!(self.model_type));
        put("subtype", json!(self.subtype));
        put("official_name", json!(self.official_name));
        put(
            "cleaned_name",
            json!(model_id.rsplit('/').next().unwrap_or(model_id)),
        );
        put("tags", json!(self.tags()));
        put(
            "hashes",
            json!({"sha256": of(primary)?.sha256, "blake3": of(primary)?.blake3}),
        );
        put("added_date", json!(moment));
        put("updated_date", json!(moment));
        put("size_bytes", json!(self.source.size()));
        let entry = |file: &crate::library::import_source::SourceFile| {
            let digests = of(&file.name)?;
            Ok(json!({
                "name": file.name,
                "original_name": file.original_name,
                "size": digests.size,
                "sha256": digests.sha256,
                "blake3": digests.blake3,
            }))
        };
        put(
            "files",
            Value::Array(self.source.files.iter().map(entry).collect::<Result<_>>()?),
        );
        put("primary_file", json!(primary));
        put("format", json!(self.identity.format.as_str()));
        put("quantization", json!(self.identity.quantization));
        put("architecture", json!(self.identity.architecture));
        put("parameters", json!(self.identity.parameters));
        put("license", json!(self.identity.license));
        put("security_tier", json!(self.security_tier.as_str()));
        Ok(metadata)
    }

    fn tags(&self) -> Vec<String> {
        let old = self
            .source
            .metadata
            .get("tags")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let old = old.iter().filter_map(Value::as_str);
        let all = self.request.tags.iter().map(String::as_str).chain(old);
        let tags: IndexSet<String> = all
            .map(|tag| one_line(tag, MAX_TAG))
            .filter(|tag| !tag.is_empty())
            .collect();
        tags.into_iter().collect()
    }
}

fn hub_address(repo_id: &str) -> String {
    if repo_id.is_empty() {
        String::new()
    } else {
        format!("https://huggingface.co/{repo_id}")
    }
}

/// Who knows which models' primary files have a size.
pub type FindBySize<'a> = &'a dyn Fn(u64) -> Result<Vec<String>>;

/// What an import of `request` would do. Blocks.
///
/// # Errors
/// `UnsafePath`, `FileUnavailable`: the path cannot be used. `InvalidInput`: it is the library itself, a folder around it,
/// or a model that is in it already. `NotAModel`, `SeveralModels`, `MalformedModelFile`: see
/// [`read_source`].
pub fn make_plan(
    layout: &Layout,
    request: ImportRequest,
    find_by_size: FindBySize<'_>,
) -> Result<ImportPlan> {
    let path = caller_path(&request.path, "path")?;
    refuse_own_folders(layout, &path)?;
    if let Some(repo_id) = request.repo_id.as_deref()
        && !repo_id.is_empty()
        && !is_repo_id(repo_id)
    {
        return Err(Error::invalid("repo_id", "must be written as owner/name"));
    }
    let source = read_source(&path)?;
    let telling: Vec<PathBuf> = source.telling().map(|file| file.found.clone()).collect();
    let identity = match &telling[..] {
        [only] => identify(only)?,
        _ => identify_folder(&telling)?,
    };
    plan_of(layout, request, source, identity, find_by_size)
}

/// The plan for files that were looked at already.
///
/// # Errors
/// What the disk and the index refuse.
pub fn plan_of(
    layout: &Layout,
    request: ImportRequest,
    source: Source,
    identity: Identity,
    find_by_size: FindBySize<'_>,
) -> Result<ImportPlan> {
    let said = |key: &str| {
        source
            .metadata
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let model_type = first([
        &request.model_type,
        said("model_type"),
        identity.model_type.as_str(),
    ]);
    let official_name = first([&request.official_name, said("official_name"), &source.title]);
    let subtype = first([&request.subtype, said("subtype"), &identity.subtype]);
    Ok(ImportPlan {
        model_type: slug(model_type, "unknown").to_lowercase(),
        subtype: one_line(subtype, 64),
        family: family([&request.family, said("family"), &identity.family]),
        official_name: one_line(official_name, MAX_NAME),
        security_tier: tier(&source),
        new_bytes: new_bytes(layout, &source, &request)?,
        free_bytes: free_space(&layout.library()).during("Asking for free space")?,
        look_alikes: find_by_size(source.primary()?.stamp.size)?,
        security_findings: scan(&source)?,
        request,
        identity,
        source,
    })
}

fn first(wishes: [&str; 3]) -> &str {
    wishes
        .into_iter()
        .find(|wish| !wish.is_empty())
        .unwrap_or_default()
}

/// `owner/name` of letters, digits and `_.-`.
fn is_repo_id(text: &str) -> bool {
    let proper = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        (1..=96).contains(&part.len()) && part.bytes().all(plain)
    };
    text.split_once('/')
        .is_some_and(|(owner, name)| proper(owner) && proper(name))
}

/// The paths to import for everything in `path`: itself when it is one model.
///
/// # Errors
/// As [`make_plan`].
pub fn candidates(layout: &Layout, path: &str) -> Result<Vec<String>> {
    let folder = caller_path(path, "path")?;
    refuse_own_folders(layout, &folder)?;
    match read_source(&folder) {
        Ok(_) => Ok(vec![path.to_owned()]),
        Err(Error::SeveralModels { candidates, .. }) => Ok(candidates),
        Err(error) => Err(error),
    }
}

/// Nothing that holds our state, and nothing that is a model here already.
///
/// Files in the library that belong to no model may be imported: old flat folders, and what cut-off imports left.
///
/// # Errors
/// `InvalidInput`.
pub fn refuse_own_folders(layout: &Layout, path: &Path) -> Result<()> {
    let (real, library, data) = (
        resolved(path),
        resolved(&layout.library()),
        resolved(&layout.data()),
    );
    let uploads = resolved(&layout.uploads());
    if real != uploads && real.starts_with(&uploads) {
        return Ok(());
    }
    if library.starts_with(&real) || data.starts_with(&real) {
        let reason = "is a folder that holds the library or the launcher; name a folder of models";
        return Err(Error::invalid("path", reason));
    }
    let private = [&data, &resolved(&layout.trash()), &resolved(&layout.staging())];
    if private.iter().any(|folder| real.starts_with(folder)) {
        return Err(Error::invalid(
            "path",
            "lies in a folder that the launcher keeps for itself",
        ));
    }
    let Ok(relative) = real.strip_prefix(&library) else {
        return Ok(());
    };
    let mut below = real.ancestors().take_while(|folder| *folder != library);
    if below.any(|folder| folder.join(METADATA).is_file()) && !is_leftover(relative) {
        return Err(Error::invalid("path", "is in the library already"));
    }
    Ok(())
}

fn is_leftover(relative: &Path) -> bool {
    let mut parts = relative.components();
    relative.starts_with(".downloads")
        || parts.any(|part| matches!(part, Component::Normal(name) if name.to_string_lossy().starts_with(".tmp_import_")))
}

/// The first that says something, as a folder name.
fn family(wishes: [&str; 3]) -> String {
    let meant = wishes.map(|wish| slug(wish, "unknown").to_lowercase());
    meant
        .into_iter()
        .find(|family| !NO_FAMILY.contains(&family.as_str()))
        .unwrap_or_else(|| "unknown".to_owned())
}

/// One file that can run code makes the whole model one that can.
fn tier(source: &Source) -> SecurityTier {
    let tiers: Vec<SecurityTier> = source
        .weights()
        .filter_map(|file| file.format)
        .map(FileFormat::security_tier)
        .collect();
    let order = [SecurityTier::Pickle, SecurityTier::Unknown, SecurityTier::Safe];
    order
        .into_iter()
        .find(|tier| tiers.contains(tier))
        .unwrap_or(SecurityTier::Unknown)
}

/// What the scanner says about pickles: a tripwire, not a wall.
fn scan(source: &Source) -> Result<Vec<String>> {
    let mut said = Vec::new();
    for file in source
        .weights()
        .filter(|file| file.format == Some(FileFormat::Pickle))
    {
        let report = scan_pickle(&file.found)?;
        let name = &file.original_name;
        said.extend(
            report
                .issues
                .iter()
                .map(|issue| format!("{name}: dangerous import {issue}")),
        );
        said.extend(
            report
                .unknown
                .iter()
                .map(|import| format!("{name}: unknown import {import}")),
        );
        if !report.scanned {
            said.push(format!(
                "{name}: could not be scanned to its end ({})",
                report.reason
            ));
        }
    }
    Ok(said)
}

fn new_bytes(layout: &Layout, source: &Source, request: &ImportRequest) -> Result<u64> {
    if request.mode == Mode::Hardlink {
        return Ok(0);
    }
    let device = device(&layout.library())?;
    let written = source
        .files
        .iter()
        .filter(|file| request.mode_of(file) == Mode::Copy || file.stamp.device != device);
    Ok(written.map(|file| file.stamp.size).sum())
}

fn device(folder: &Path) -> Result<u64> {
    let existing = folder
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(folder);
    Ok(fs::metadata(existing).during("Looking at the library")?.dev())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_owner_and_name() {
        assert!(is_repo_id("example-org/Llama_8B.v2"));
        for text in ["", "a", "a/b/c", "a b/c", "/b", "é/b"] {
            assert!(!is_repo_id(text), "{text}");
        }
    }

    #[test]
    fn families_that_say_nothing_are_passed_over() {
        assert_eq!(family(["Imported", "", "Llama"]), "llama");
        assert_eq!(family(["", "unknown", ""]), "unknown");
    }

    #[test]
    fn requests_are_kept_as_the_other_backend_keeps_them() {
        let request = ImportRequest {
            path: "/m".to_owned(),
            mode: Mode::Move,
            ..ImportRequest::default()
        };
        let value = serde_json::to_value(&request).unwrap();
        assert_eq!(value["mode"], "move");
        assert_eq!(value["repo_id"], Value::Null);
        assert_eq!(value.as_object().unwrap().len(), 11);
    }

    #[test]
    fn own_folders_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        fs::create_dir_all(layout.library().join("llm/a/m")).unwrap();
        fs::create_dir_all(layout.data()).unwrap();
        fs::write(layout.library().join("llm/a/m/metadata.json"), b"{}").unwrap();
        for path in [
            root.path().to_path_buf(),
            layout.library(),
            layout.data().join("x"),
            layout.library().join("llm/a/m/x"),
        ] {
            assert!(refuse_own_folders(&layout, &path).is_err(), "{path:?}");
        }
        for path in [
            layout.library().join("flat.gguf"),
            layout.library().join(".downloads/x"),
            root.path().join("other"),
            layout.uploads().join("0123456789abcdef0123456789abcdef/m.gguf"),
        ] {
            assert!(refuse_own_folders(&layout, &path).is_ok(), "{path:?}");
        }
    }
}
