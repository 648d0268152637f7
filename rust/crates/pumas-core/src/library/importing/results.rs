//! What became of one request, told in the words of the job's result.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kept_paths::kept;
use crate::error::Error;
use crate::library::hashing::Digests;
use crate::library::import_plan::{ImportPlan, ImportRequest};
use crate::library::import_source::{Skipped, SourceFile};
use crate::library::metadata::file_entries;

/// What became of one request.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ItemResult {
    /// As it was given.
    pub path: String,
    /// Whether it is in the library, or would be.
    pub success: bool,
    /// The new model.
    pub model_id: Option<String>,
    /// Its folder, absolute.
    pub model_path: Option<String>,
    /// Whether loading it may run code.
    pub security_tier: Option<String>,
    /// Why not.
    pub error: Option<String>,
    /// The kind of that.
    pub error_code: Option<String>,
    /// The model that holds these bytes already.
    pub duplicate_of: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// The source files with weights.
    pub files: Vec<String>,
    /// What was left out.
    pub skipped: Vec<Value>,
    /// What the pickle scanner said.
    pub security_findings: Vec<String>,
    /// Sentences for a person.
    pub warnings: Vec<String>,
    /// Paths to import in the place of a folder of several models.
    #[serde(default)]
    pub candidates: Vec<String>,
}

/// It is in the `library` now, or for a dry run would be; `warnings` go with those of the plan.
pub(super) fn success(
    plan: &ImportPlan,
    library: &Path,
    model_id: &str,
    warnings: Vec<String>,
) -> ItemResult {
    let request = &plan.request;
    let short = request.dry_run && plan.new_bytes > plan.free_bytes;
    let no_space = short.then(|| "There is not enough disk space.".to_owned());
    let identity = plan.identity.notes.iter().cloned();
    ItemResult {
        path: request.path.clone(),
        success: true,
        model_id: Some(model_id.to_owned()),
        model_path: Some(library.join(model_id).to_string_lossy().into_owned()),
        security_tier: Some(plan.security_tier.to_string()),
        size: plan.source.size(),
        dry_run: request.dry_run,
        files: plan.source.weights().map(|file| kept(&file.path)).collect(),
        skipped: skipped(plan),
        security_findings: plan.security_findings.clone(),
        warnings: identity.chain(warnings).chain(no_space).collect(),
        ..ItemResult::default()
    }
}

/// There may be no `plan`: then that is what failed.
pub(super) fn failure(request: &ImportRequest, plan: Option<&ImportPlan>, error: &Error) -> ItemResult {
    ItemResult {
        path: request.path.clone(),
        success: false,
        security_tier: plan.map(|plan| plan.security_tier.to_string()),
        error: Some(error.to_string()),
        error_code: Some(error.kind().to_owned()),
        duplicate_of: match error {
            Error::DuplicateModel { model_id } => Some(model_id.clone()),
            _ => None,
        },
        size: plan.map_or(0, |plan| plan.source.size()),
        dry_run: request.dry_run,
        skipped: plan.map(skipped).unwrap_or_default(),
        security_findings: plan
            .map(|plan| plan.security_findings.clone())
            .unwrap_or_default(),
        warnings: plan.map(|plan| plan.identity.notes.clone()).unwrap_or_default(),
        candidates: match error {
            Error::SeveralModels { candidates, .. } => candidates.clone(),
            _ => Vec::new(),
        },
        ..ItemResult::default()
    }
}

fn skipped(plan: &ImportPlan) -> Vec<Value> {
    plan.source
        .skipped
        .iter()
        .map(|Skipped { path, reason }| json!({"path": path, "reason": reason}))
        .collect()
}

/// Files whose digest in the library they came from is another: damaged there, or changed by hand.
pub(super) fn differing_from_carried(plan: &ImportPlan, digests: &HashMap<String, Digests>) -> Vec<String> {
    let entries = file_entries(&plan.source.metadata);
    let said: HashMap<&str, &str> = entries
        .iter()
        .filter(|entry| !entry.sha256.is_empty())
        .map(|entry| (entry.name.as_str(), entry.sha256.as_str()))
        .collect();
    let differs = |file: &&SourceFile| {
        let found = digests.get(&file.name).map(|digests| digests.sha256.as_str());
        said.get(file.original_name.as_str())
            .is_some_and(|said| Some(*said) != found)
    };
    let sentence = |file: &SourceFile| {
        let name = &file.original_name;
        format!("{name}: its old metadata has another SHA-256; it was changed or damaged before this import")
    };
    plan.source.files.iter().filter(differs).map(sentence).collect()
}
