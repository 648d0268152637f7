//! Whether the hub has something newer than a model that we hold: its files' digests decide, not the commit alone.
//!
//! Most commits change a model card. A file that we hold and hashed is compared by SHA-256 with what the hub lists now; one
//! without a digest on either side proves nothing. Nothing here asks the hub or reads a disk.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Map, Value};

use super::kinds;
use super::model::{HubModel, is_commit};
use crate::error::Error;
use crate::library::metadata::{digest_text, file_entries};

/// How a model of ours stands to what the hub has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// The same commit.
    Current,
    /// Newer commits, but none changed a file that we hold.
    SameFiles,
    /// One did.
    Newer,
    /// Nothing to go by.
    Unknown,
    /// The hub does not show the repository any more.
    Gone,
    /// The hub could not be asked, or not yet.
    Unasked,
}

/// A model of the library that came from the hub.
#[derive(Debug, Clone)]
pub(super) struct HeldModel {
    pub model_id: String,
    pub repo_id: String,
    /// The commit, `""` when it was not recorded.
    pub revision: String,
    /// Names and SHA-256 of the files whose digest is known.
    pub files: Vec<(String, String)>,
}

impl HeldModel {
    pub(super) fn of(model_id: String, repo_id: String, metadata: &Map<String, Value>) -> Self {
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
        let entries = file_entries(metadata);
        let largest = entries
            .iter()
            .rev()
            .max_by_key(|file| file.size.unwrap_or(0))
            .map(|file| file.name.clone());
        let mut files: Vec<(String, String)> = entries
            .into_iter()
            .filter(|file| !file.sha256.is_empty())
            .map(|file| (file.name, file.sha256))
            .collect();
        if files.is_empty() {
            // Older sidecars kept one digest, that of the primary file.
            let digest = digest_text(metadata.get("hashes").and_then(|hashes| hashes.get("sha256")));
            let said = metadata
                .get("primary_file")
                .and_then(Value::as_str)
                .map(str::to_owned);
            let name = said.or(largest).unwrap_or_default();
            if !digest.is_empty() && !name.is_empty() {
                files.push((name, digest));
            }
        }
        let revision = Some(text("revision"))
            .filter(|commit| is_commit(commit))
            .unwrap_or_default()
            .to_owned();
        Self {
            model_id,
            repo_id,
            revision,
            files,
        }
    }
}

/// What became of one model's files.
#[derive(Debug, Clone, Serialize)]
pub struct DriftReport {
    /// Ours.
    pub model_id: String,
    /// The hub's.
    pub repo_id: String,
    /// The commit that we hold.
    pub revision: String,
    /// How they stand.
    pub state: Drift,
    /// The commit there now.
    pub upstream: String,
    /// Its date.
    pub upstream_date: String,
    /// Files of ours that the hub has in another form now.
    pub changed: Vec<String>,
    /// Files of ours that the hub has no more.
    pub removed: Vec<String>,
    /// Why it could not be asked.
    pub error: String,
    /// The kind of that.
    pub error_code: String,
    /// Whether this is what the hub said before.
    pub stale: bool,
}

impl DriftReport {
    fn new(held: HeldModel, state: Drift) -> Self {
        Self {
            model_id: held.model_id,
            repo_id: held.repo_id,
            revision: held.revision,
            state,
            upstream: String::new(),
            upstream_date: String::new(),
            changed: Vec::new(),
            removed: Vec::new(),
            error: String::new(),
            error_code: String::new(),
            stale: false,
        }
    }

    pub(super) fn failed(held: HeldModel, error: &Error) -> Self {
        let gone = matches!(error, Error::RepoNotFound { .. });
        let state = if gone { Drift::Gone } else { Drift::Unasked };
        Self {
            error: error.to_string(),
            error_code: error.kind().to_owned(),
            ..Self::new(held, state)
        }
    }
}

/// What became of the files that we hold in the repository as it is now.
pub(super) fn compare(held: HeldModel, upstream: &HubModel, stale: bool) -> DriftReport {
    let (mut changed, mut removed, proven) = differences(&held.files, upstream);
    let state = if held.revision == upstream.said.commit {
        changed.clear();
        removed.clear();
        Drift::Current
    } else if !changed.is_empty() || !removed.is_empty() {
        Drift::Newer
    } else if proven {
        Drift::SameFiles
    } else if held.revision.is_empty() {
        Drift::Unknown
    } else {
        Drift::Newer
    };
    DriftReport {
        upstream: upstream.said.commit.clone(),
        upstream_date: upstream.said.last_modified.clone(),
        changed,
        removed,
        stale,
        ..DriftReport::new(held, state)
    }
}

/// (changed, removed, whether any file could be compared). A file that was only moved or renamed is neither.
fn differences(files: &[(String, String)], upstream: &HubModel) -> (Vec<String>, Vec<String>, bool) {
    let last = |path: &str| kinds::split(path).1.to_lowercase();
    let hashed = || upstream.files.iter().filter(|file| file.sha256.is_some());
    let digests: HashSet<&str> = hashed().filter_map(|file| file.sha256.as_deref()).collect();
    let large: HashSet<String> = hashed().map(|file| last(&file.path)).collect();
    let names: HashSet<String> = upstream.files.iter().map(|file| last(&file.path)).collect();
    let (mut changed, mut removed, mut proven) = (Vec::new(), Vec::new(), false);
    for (name, sha256) in files {
        let short = last(name);
        if digests.contains(sha256.as_str()) {
            proven = true;
        } else if large.contains(&short) {
            changed.push(name.clone());
        } else if !names.contains(&short) && !kinds::format_of(&short).is_empty() {
            removed.push(name.clone());
        }
    }
    let proven = proven || !changed.is_empty() || !removed.is_empty();
    (changed, removed, proven)
}
