//! What became of the requests of a job, as the job keeps it.

use serde::Serialize;
use serde_json::{Value, json};

use crate::adoption::planning::AdoptRequest;
use crate::error::Error;
use crate::storage::json_file::JsonObject;

/// What became of one request.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AdoptResult {
    /// The store's path.
    pub store: String,
    /// The model's name there.
    pub name: String,
    /// Whether it is in the library, or would be.
    pub success: bool,
    /// For taking it back.
    pub adoption_id: Option<String>,
    /// The new model.
    pub model_id: Option<String>,
    /// Its folder, absolute.
    pub model_path: Option<String>,
    /// How the bytes are shared.
    pub mode: Option<&'static str>,
    /// Bytes that were not copied.
    pub size: u64,
    /// Whether loading it may run code.
    pub security_tier: Option<&'static str>,
    /// What the pickle scanner said.
    pub security_findings: Vec<String>,
    /// Sentences for a person.
    pub warnings: Vec<String>,
    /// Why not.
    pub error: Option<String>,
    /// The kind of that.
    pub error_code: Option<String>,
    /// The model that holds these bytes already.
    pub duplicate_of: Option<String>,
    /// Whether nothing was done.
    pub dry_run: bool,
}

/// Of a request that failed.
pub(super) fn failure(request: &AdoptRequest, error: &Error) -> AdoptResult {
    AdoptResult {
        store: request.store.clone(),
        name: request.name.clone(),
        error: Some(error.to_string()),
        error_code: Some(error.kind().to_owned()),
        duplicate_of: match error {
            Error::DuplicateModel { model_id } => Some(model_id.clone()),
            _ => None,
        },
        dry_run: request.dry_run,
        ..AdoptResult::default()
    }
}

/// What is done so far, as a job keeps it.
#[must_use]
pub fn results_of(kept: &JsonObject) -> Vec<Value> {
    let results = kept.get("results").and_then(Value::as_array);
    results.cloned().unwrap_or_default()
}

/// The checkpoint of a job that did so much.
pub(super) fn checkpoint(results: &[Value]) -> JsonObject {
    JsonObject::from_iter([("results".to_owned(), json!(results))])
}

/// As it is kept and shown.
pub(super) fn as_json(result: &AdoptResult) -> JsonObject {
    object(json!(result))
}

/// The object that `value` is.
pub(super) fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}
