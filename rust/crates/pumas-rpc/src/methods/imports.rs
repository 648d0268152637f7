//! Bringing models into the library.

use std::time::Duration;

use pumas_core::library::copying::Mode;
use pumas_core::library::import_plan::ImportRequest;
use pumas_core::library::service::ImportAnswer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::registry::{Row, row};

#[derive(Deserialize)]
struct ImportModel {
    local_path: String,
    family: String,
    official_name: String,
    dry_run: bool,
    wait_seconds: f64,
    #[serde(flatten)]
    options: Options,
}

#[derive(Deserialize)]
struct ImportBatch {
    import_specs: Vec<Spec>,
    dry_run: bool,
    wait_seconds: f64,
}

#[derive(Deserialize)]
struct Spec {
    path: String,
    family: String,
    official_name: Option<String>,
    #[serde(flatten)]
    options: Options,
}

/// What may be said about every import.
#[derive(Deserialize)]
struct Options {
    repo_id: Option<String>,
    model_type: Option<String>,
    subtype: Option<String>,
    tags: Vec<String>,
    security_acknowledged: bool,
    mode: Mode,
    allow_duplicate: bool,
}

#[derive(Serialize)]
struct Batch {
    success: bool,
    imported: usize,
    failed: usize,
    results: Vec<Map<String, Value>>,
    job_id: Option<String>,
    pending: usize,
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("import_model", |api, p: ImportModel| async move {
            let path = p.local_path.clone();
            let request = request(p.local_path, p.family, p.official_name, p.options, p.dry_run);
            let answer = api
                .library
                .import_models(vec![request], seconds(p.wait_seconds))
                .await?;
            let pending = answer.pending > 0;
            let mut item = match answer.results.into_iter().next() {
                Some(result) if !pending => item(result),
                _ => item(json!({"path": path, "success": true, "size": null})),
            };
            item.insert("job_id".to_owned(), json!(answer.job_id));
            item.insert("pending".to_owned(), json!(pending));
            Ok(item)
        }),
        row("import_batch", |api, p: ImportBatch| async move {
            let requests = p.import_specs.into_iter().map(|spec| {
                let name = spec.official_name.unwrap_or_default();
                request(spec.path, spec.family, name, spec.options, p.dry_run)
            });
            let answer = api
                .library
                .import_models(requests.collect(), seconds(p.wait_seconds))
                .await?;
            Ok(batch(answer))
        }),
    ]
}

/// The contract bounds it.
fn seconds(wait: f64) -> Duration {
    Duration::try_from_secs_f64(wait).unwrap_or_default()
}

fn request(
    path: String,
    family: String,
    official_name: String,
    options: Options,
    dry_run: bool,
) -> ImportRequest {
    ImportRequest {
        path,
        family,
        official_name,
        repo_id: options.repo_id,
        model_type: options.model_type.unwrap_or_default(),
        subtype: options.subtype.unwrap_or_default(),
        tags: options.tags,
        security_acknowledged: options.security_acknowledged,
        mode: options.mode,
        allow_duplicate: options.allow_duplicate,
        dry_run,
    }
}

fn batch(answer: ImportAnswer) -> Batch {
    let results: Vec<Map<String, Value>> = answer.results.into_iter().map(item).collect();
    let failed = results
        .iter()
        .filter(|item| item.get("success") != Some(&Value::Bool(true)))
        .count();
    Batch {
        success: failed == 0,
        imported: results.len() - failed,
        failed,
        results,
        job_id: answer.job_id,
        pending: answer.pending,
    }
}

/// What is shown of an import's result; whatever it does not say is empty.
fn item(result: Value) -> Map<String, Value> {
    let shown = json!({
        "path": "",
        "success": false,
        "model_path": null,
        "model_id": null,
        "error": null,
        "error_code": null,
        "security_tier": null,
        "security_findings": [],
        "duplicate_of": null,
        "skipped": [],
        "size": null,
        "dry_run": false,
        "warnings": [],
        "candidates": [],
    });
    let Value::Object(mut shown) = shown else {
        return Map::new();
    };
    if let Value::Object(result) = result {
        for (key, value) in result {
            if let Some(place) = shown.get_mut(&key) {
                *place = value;
            }
        }
    }
    shown
}
