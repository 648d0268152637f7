//! Whether the hub has something newer than a model that we hold: its files' digests decide, not the commit alone.
//!
//! Most commits change a model card. A file that we hold is compared by SHA-256 with what the hub lists now: by our own, or
//! for an adopted one by what its store says. The hub gives none for small files: these are told apart by their sizes,
//! which proves nothing when they are equal. Nothing here asks the hub or reads a disk.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::kinds;
use super::model::{HubModel, is_commit};
use crate::error::Error;
use crate::library::metadata::{FileEntry, digest_text, file_entries};

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

/// One file of it.
#[derive(Debug, Clone)]
pub(super) struct HeldFile {
    name: String,
    size: Option<u64>,
    sha256: String,
}

/// A model of the library that came from the hub.
#[derive(Debug, Clone)]
pub(super) struct HeldModel {
    pub model_id: String,
    pub repo_id: String,
    /// The commit, `""` when it was not recorded.
    pub revision: String,
    /// With a SHA-256 of our own, or for an adopted one that of its store; `""` where nobody knows it.
    pub files: Vec<HeldFile>,
}

impl HeldModel {
    pub(super) fn of(model_id: String, repo_id: String, metadata: &Map<String, Value>) -> Self {
        let entries = file_entries(metadata);
        let largest = entries
            .iter()
            .rev()
            .max_by_key(|file| file.size.unwrap_or(0))
            .map(|file| file.name.clone());
        let held = |file: FileEntry| HeldFile {
            name: file.name,
            size: file.size,
            sha256: Some(file.sha256)
                .filter(|sha256| !sha256.is_empty())
                .unwrap_or(file.claimed),
        };
        let mut files: Vec<HeldFile> = entries.into_iter().map(held).collect();
        if files.iter().all(|file| file.sha256.is_empty()) {
            // Older sidecars kept one digest, that of the primary file.
            let digest = digest_text(metadata.get("hashes").and_then(|hashes| hashes.get("sha256")));
            let said = metadata
                .get("primary_file")
                .and_then(Value::as_str)
                .map(str::to_owned);
            let name = said.or(largest).unwrap_or_default();
            if !digest.is_empty() && !name.is_empty() {
                files = vec![HeldFile {
                    name,
                    size: None,
                    sha256: digest,
                }];
            }
        }
        let adopted = metadata
            .get("adoption")
            .and_then(|adoption| adoption.get("revision"));
        let revision = [metadata.get("revision"), adopted]
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .find(|commit| is_commit(commit))
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
    let (mut changed, mut removed, proven) = differences(&held, upstream);
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
fn differences(held: &HeldModel, upstream: &HubModel) -> (Vec<String>, Vec<String>, bool) {
    let last = |path: &str| kinds::split(path).1.to_lowercase();
    let hashed = || upstream.files.iter().filter(|file| file.sha256.is_some());
    let digests: HashSet<&str> = hashed().filter_map(|file| file.sha256.as_deref()).collect();
    let large: HashSet<String> = hashed().map(|file| last(&file.path)).collect();
    let names: HashSet<String> = upstream.files.iter().map(|file| last(&file.path)).collect();
    // Without a commit of ours, a small file of the same name may never have been the hub's.
    let small: HashMap<&str, u64> = upstream
        .files
        .iter()
        .filter(|file| file.sha256.is_none() && !held.revision.is_empty())
        .map(|file| (file.path.as_str(), file.size))
        .collect();
    let (mut changed, mut removed, mut proven) = (Vec::new(), Vec::new(), false);
    for HeldFile { name, size, sha256 } in &held.files {
        let short = last(name);
        let there = small.get(name.as_str());
        if there
            .zip(size.as_ref())
            .is_some_and(|(theirs, ours)| theirs != ours)
        {
            changed.push(name.clone());
            continue;
        }
        if sha256.is_empty() {
            continue;
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::hub::model::{Described, HubFile};

    fn upstream(files: &[(&str, u64, Option<char>)]) -> HubModel {
        let listed = files.iter().map(|(path, size, letter)| HubFile {
            path: (*path).to_owned(),
            size: *size,
            git_oid: "0".repeat(40),
            sha256: letter.map(|letter| letter.to_string().repeat(64)),
        });
        HubModel {
            said: Described {
                commit: "2".repeat(40),
                ..Described::default()
            },
            files: listed.collect(),
            unusable: Vec::new(),
            private: false,
            card: Map::new(),
            config: Map::new(),
            gguf: Map::new(),
            parameters: Map::new(),
        }
    }

    fn held(revision: &str, files: &Value) -> HeldModel {
        let metadata = json!({"revision": revision, "files": files});
        HeldModel::of(
            "llm/x".to_owned(),
            "acme/Lumen".to_owned(),
            metadata.as_object().unwrap(),
        )
    }

    #[test]
    fn a_small_file_of_another_size_has_changed() {
        let files = json!([
            {"name": "a.gguf", "size": 9, "sha256": "a".repeat(64)},
            {"name": "c.json", "size": 5, "sha256": "c".repeat(64)},
        ]);
        let ours = held(&"1".repeat(40), &files);
        let there = |size| upstream(&[("a.gguf", 9, Some('a')), ("c.json", size, None)]);
        let report = compare(ours.clone(), &there(6), false);
        assert_eq!(
            (report.state, report.changed),
            (Drift::Newer, vec!["c.json".to_owned()])
        );
        assert_eq!(compare(ours, &there(5), false).state, Drift::SameFiles);
        assert_eq!(
            compare(held("", &files), &there(6), false).state,
            Drift::SameFiles
        );
    }

    #[test]
    fn an_adopted_model_is_compared_by_what_its_store_says() {
        let files = json!([{"name": "a.gguf", "size": 9, "claimed_sha256": "a".repeat(64)}]);
        let metadata = json!({"adoption": {"revision": "1".repeat(40)}, "files": files});
        let ours = HeldModel::of(String::new(), String::new(), metadata.as_object().unwrap());
        let same = upstream(&[("a.gguf", 9, Some('a')), ("README.md", 3, None)]);
        assert_eq!(compare(ours.clone(), &same, false).state, Drift::SameFiles);
        let other = upstream(&[("a.gguf", 9, Some('b'))]);
        assert_eq!(compare(ours, &other, false).changed, ["a.gguf"]);
    }
}
