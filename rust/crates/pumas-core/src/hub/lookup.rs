//! Which repository a file on disk is from: digests prove it, names only suggest it, and the answer says which it was.
//!
//! The file's size rules out most candidates, so it is hashed only when some file on the hub has exactly its size, and then
//! once. Nothing here asks the hub: `origins` brings the candidates and the digest.

use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::kinds;
use super::metadata::{describe, family_of_listing, type_of_task};
use super::model::{HUB, HubFile, HubListing, HubModel};
use super::names;
use super::selection::Choice;
use crate::error::Result;
use crate::library::formats::families::ModelType;
use crate::library::formats::reader::{OpenedFile, open_regular};
use crate::library::hashing::{Stamp, open_file};
use crate::storage::files::{During as _, hex};
use crate::storage::paths::caller_path;

/// Repositories that are looked into.
const CANDIDATES: usize = 5;
const PIECE: u64 = 8 * 1024 * 1024;
/// What a likeness of names is worth at most when the bytes are known to be others.
const DISPROVED: f64 = 0.5;

/// A file of the user's.
#[derive(Debug, Clone)]
pub(super) struct LocalFile {
    pub path: PathBuf,
    pub stamp: Stamp,
    /// The SHA-256 of its size and its first and last 8 MiB: it proves nothing.
    pub fast_hash: String,
}

impl LocalFile {
    pub(super) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    pub(super) fn folder(&self) -> String {
        let folder = self.path.parent().and_then(std::path::Path::file_name);
        folder.unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// A repository that the file may be from; `model` once its files' digests were asked for.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub listing: HubListing,
    pub likeness: f64,
    pub model: Option<HubModel>,
}

impl Candidate {
    fn files(&self) -> impl Iterator<Item = &HubFile> {
        self.model.iter().flat_map(|model| &model.files)
    }

    pub(super) fn of_size(&self, size: u64) -> impl Iterator<Item = &HubFile> {
        self.files()
            .filter(move |file| file.sha256.is_some() && file.size == size)
    }

    fn of_name(&self, filename: &str) -> Option<&HubFile> {
        let lowered = names::original(filename).to_lowercase();
        self.files()
            .find(|file| kinds::split(&file.path).1.to_lowercase() == lowered)
    }
}

/// The repository that a file may be from, and how that is known.
#[derive(Debug, Clone)]
pub(super) struct Match {
    candidate: Candidate,
    /// `hash` is proof, `filename_exact` and `filename_fuzzy` are likeness of names.
    method: &'static str,
    confidence: f64,
    matched: String,
    /// The hub's digest.
    expected: String,
    /// The repository lists a file of this name, and its bytes are others.
    hash_mismatch: bool,
    /// The file is still being hashed, so a later call may know more.
    pending: bool,
    job_id: Option<String>,
    /// The file's own digest.
    sha256: String,
}

/// # Errors
/// `UnsafePath` for a path that is not absolute, `FileUnavailable` for anything but a regular file.
pub(super) fn read_local(file_path: &str) -> Result<LocalFile> {
    let path = caller_path(file_path, "file_path")?;
    let opened = open_regular(&path)?;
    let facts = open_file(&opened)?.metadata().during("Looking at the file")?;
    Ok(LocalFile {
        stamp: Stamp::of(&facts),
        fast_hash: fast_hash(&opened)?,
        path,
    })
}

fn fast_hash(file: &OpenedFile) -> Result<String> {
    let mut digest = Sha256::new();
    digest.update(file.size.to_be_bytes());
    for start in [0, PIECE.max(file.size.saturating_sub(PIECE))] {
        if start < file.size {
            digest.update(file.pread(PIECE.min(file.size - start), start)?);
        }
    }
    Ok(hex(&digest.finalize()))
}

/// The repositories that are worth a look, most alike first, more downloaded before less.
pub(super) fn ranked(filename: &str, listings: Vec<HubListing>) -> Vec<Candidate> {
    let candidate = |listing: HubListing| Candidate {
        likeness: names::likeness(filename, &listing.said.repo_id, &listing.paths),
        listing,
        model: None,
    };
    let mut found: Vec<Candidate> = listings.into_iter().map(candidate).collect();
    found.retain(|one| one.likeness >= names::NOT_WORTH_SHOWING);
    found.sort_by(|a, b| {
        let downloads = |one: &Candidate| one.listing.said.downloads.unwrap_or(0);
        b.likeness
            .total_cmp(&a.likeness)
            .then_with(|| downloads(b).cmp(&downloads(a)))
            .then_with(|| a.listing.said.repo_id.cmp(&b.listing.said.repo_id))
    });
    found
}

/// The places of those that can hold the file: they list one with its extension.
pub(super) fn to_look_into(filename: &str, candidates: &[Candidate]) -> Vec<usize> {
    let suffix = kinds::extension(filename);
    let fits = |one: &Candidate| {
        one.listing
            .paths
            .iter()
            .any(|path| kinds::extension(path) == suffix)
    };
    let fitting = candidates.iter().enumerate().filter(|(_, one)| fits(one));
    fitting.map(|(place, _)| place).take(CANDIDATES).collect()
}

/// The best that can be said. `sha256` is the file's digest, `""` when it is not (yet) known; candidates come most alike
/// first.
pub(super) fn matched(
    filename: &str,
    candidates: &[Candidate],
    local: Option<&LocalFile>,
    sha256: String,
    job_id: Option<String>,
) -> Option<Match> {
    if let Some(proven) = local
        .filter(|_| !sha256.is_empty())
        .and_then(|local| proof(candidates, local, &sha256))
    {
        return Some(proven);
    }
    let best = candidates.first()?;
    let named = best.of_name(filename);
    let listed = named.and_then(|file| file.sha256.as_deref());
    let found = Match {
        method: if best.likeness > names::EXACT {
            "filename_exact"
        } else {
            "filename_fuzzy"
        },
        confidence: (best.likeness * 1e4).round() / 1e4,
        matched: named.map(|file| file.path.clone()).unwrap_or_default(),
        expected: listed.unwrap_or_default().to_owned(),
        hash_mismatch: false,
        pending: job_id.is_some() || (local.is_none() && listed.is_some()),
        job_id,
        sha256,
        candidate: best.clone(),
    };
    let others = match (local, named, listed) {
        (Some(local), Some(named), Some(listed)) => {
            named.size != local.stamp.size || (!found.sha256.is_empty() && found.sha256 != listed)
        }
        _ => false,
    };
    if !others {
        return Some(found);
    }
    // The same name with other bytes: another revision, or a damaged copy. A name that was proven wrong is no exact one.
    Some(Match {
        hash_mismatch: true,
        method: "filename_fuzzy",
        confidence: found.confidence.min(DISPROVED),
        pending: false,
        ..found
    })
}

fn proof(candidates: &[Candidate], local: &LocalFile, sha256: &str) -> Option<Match> {
    let held = candidates
        .iter()
        .flat_map(|one| one.of_size(local.stamp.size).map(move |file| (one, file)));
    let (candidate, file) = held
        .into_iter()
        .find(|(_, file)| file.sha256.as_deref() == Some(sha256))?;
    Some(Match {
        candidate: candidate.clone(),
        method: "hash",
        confidence: 1.0,
        matched: file.path.clone(),
        expected: sha256.to_owned(),
        hash_mismatch: false,
        pending: false,
        job_id: None,
        sha256: sha256.to_owned(),
    })
}

/// The match in the words that clients read.
pub(super) fn described(found: &Match, filename: &str, local: Option<&LocalFile>) -> Value {
    let listing = &found.candidate.listing.said;
    let (family, model_type, description) = match &found.candidate.model {
        Some(model) => {
            let all = Choice {
                files: model.files.clone(),
                ..Choice::default()
            };
            let mut said = describe(model, &all);
            let mut take = |key: &str| said.remove(key).unwrap_or_default();
            (take("family"), take("model_type"), take("description"))
        }
        None => {
            let model_type = type_of_task(&listing.pipeline_tag).unwrap_or(ModelType::Llm);
            let family = family_of_listing(listing, model_type);
            (json!(family), json!(model_type.as_str()), json!(""))
        }
    };
    let unsure = found.method != "hash" && (found.confidence < names::PLAUSIBLE || found.hash_mismatch);
    json!({
        "repo_id": listing.repo_id,
        "official_name": listing.name(),
        "family": family,
        "model_type": model_type,
        "subtype": "",
        "variant": names::variant(filename),
        "precision": names::precision(filename),
        "tags": listing.tags,
        "base_model": listing.base_model.first().map(String::as_str).unwrap_or_default(),
        "download_url": format!("{HUB}/{}", listing.repo_id),
        "description": description,
        "license": listing.license,
        "gated": listing.is_gated(),
        "revision": listing.commit,
        "match_confidence": found.confidence,
        "match_method": found.method,
        "requires_confirmation": unsure,
        "hash_mismatch": found.hash_mismatch,
        "matched_filename": found.matched,
        "pending_full_verification": found.pending,
        "fast_hash": local.map(|local| local.fast_hash.as_str()).unwrap_or_default(),
        "expected_sha256": found.expected,
        "sha256": found.sha256,
        "job_id": found.job_id,
    })
}
