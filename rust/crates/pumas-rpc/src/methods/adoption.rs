//! Models of other programs: finding them, taking them in without a copy, giving them back.

use std::collections::HashMap;

use pumas_core::adoption::duplicates::{Piece, Repeated};
use pumas_core::adoption::found::{Problem, Store, StoredFile, StoredModel};
use pumas_core::adoption::planning::AdoptMode;
use pumas_core::adoption::scan::Scan;
use pumas_core::adoption::service::AdoptAnswer;
use pumas_core::adoption::work::{ListedAdoption, Wanted};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::registry::{Row, row};

#[derive(Deserialize)]
struct ScanModelStores {
    folders: Vec<String>,
    known: bool,
    job_id: Option<String>,
}

#[derive(Deserialize)]
struct AdoptItem {
    stored_id: Option<String>,
    store: Option<String>,
    name: Option<String>,
    revision: Option<String>,
    official_name: Option<String>,
    family: Option<String>,
    model_type: Option<String>,
    subtype: Option<String>,
    tags: Vec<String>,
    security_acknowledged: bool,
    allow_duplicate: bool,
}

#[derive(Deserialize)]
struct AdoptModels {
    items: Vec<AdoptItem>,
    mode: AdoptMode,
    dry_run: bool,
    folders: Vec<String>,
}

#[derive(Deserialize)]
struct ListAdoptions {
    undone: bool,
    limit: i64,
    offset: i64,
}

#[derive(Deserialize)]
struct UndoAdoption {
    adoption_id: Option<String>,
    model_id: Option<String>,
    dry_run: bool,
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("scan_model_stores", |api, p: ScanModelStores| async move {
            let answer = match p.job_id {
                None => api.adoption.scan(p.folders, p.known).await?,
                Some(job_id) => api.adoption.scanned(&job_id).await?,
            };
            Ok(match answer.scan {
                Some(scan) => shown_scan(&scan, &answer.job_id),
                None => json!({
                    "pending": true,
                    "job_id": answer.job_id,
                    "stores": [],
                    "repeated": [],
                    "omitted": 0,
                    "shared_bytes": 0,
                    "freed_bytes": 0,
                    "possible_bytes": 0,
                    "seconds": 0,
                }),
            })
        }),
        row("adopt_models", |api, p: AdoptModels| async move {
            let wanted = p.items.into_iter().map(wanted).collect();
            let answer = api.adoption.adopt(wanted, p.mode, p.folders, p.dry_run).await?;
            Ok(outcome(answer))
        }),
        row("list_adoptions", |api, p: ListAdoptions| async move {
            let (listed, total) = api.adoption.adoptions(p.undone, p.limit, p.offset).await?;
            let present = listed.iter().filter(|one| one.present);
            Ok(json!({
                "adoptions": listed.iter().map(shown_adoption).collect::<Vec<Value>>(),
                "total_count": total,
                "size": present.map(|one| one.row.size).sum::<u64>(),
            }))
        }),
        row("undo_adoption", |api, p: UndoAdoption| async move {
            Ok(api.adoption.undo(p.adoption_id, p.model_id, p.dry_run).await?)
        }),
    ]
}

fn wanted(item: AdoptItem) -> Wanted {
    Wanted {
        id: item.stored_id,
        store: item.store,
        name: item.name,
        revision: item.revision,
        official_name: item.official_name.unwrap_or_default(),
        family: item.family.unwrap_or_default(),
        model_type: item.model_type.unwrap_or_default(),
        subtype: item.subtype.unwrap_or_default(),
        tags: item.tags,
        security_acknowledged: item.security_acknowledged,
        allow_duplicate: item.allow_duplicate,
    }
}

fn outcome(answer: AdoptAnswer) -> Value {
    let succeeded = |result: &&Value| result["success"] == true;
    let adopted = answer.results.iter().filter(succeeded).count();
    let sizes = answer.results.iter().filter(succeeded);
    let size: u64 = sizes.filter_map(|result| result["size"].as_u64()).sum();
    let failed = answer.results.len() - adopted;
    json!({
        "success": failed == 0,
        "adopted": adopted,
        "failed": failed,
        "size": size,
        "results": answer.results.into_iter().map(shown_result).collect::<Vec<Value>>(),
        "job_id": answer.job_id,
        "pending": answer.pending,
    })
}

/// What is shown of one result; whatever it does not say, as the other backend may have left it, is empty.
fn shown_result(result: Value) -> Value {
    let mut shown = Map::new();
    let empty = json!({
        "store": "",
        "name": "",
        "success": false,
        "adoption_id": null,
        "model_id": null,
        "model_path": null,
        "mode": null,
        "size": 0,
        "security_tier": null,
        "security_findings": [],
        "warnings": [],
        "error": null,
        "error_code": null,
        "duplicate_of": null,
        "dry_run": false,
    });
    if let Value::Object(empty) = empty {
        shown = empty;
    }
    if let Value::Object(result) = result {
        shown.extend(result);
    }
    Value::Object(shown)
}

fn shown_adoption(one: &ListedAdoption) -> Value {
    let row = &one.row;
    json!({
        "adoption_id": row.id,
        "model_id": row.model_id,
        "official_name": one.official_name,
        "mode": row.mode,
        "kind": row.kind,
        "store": row.store,
        "name": row.name,
        "revision": row.revision,
        "size": row.size,
        "present": one.present,
        "state": one.state.as_str(),
        "undone": row.is_undone(),
        "trash_id": row.trash_id,
        "created_at": row.created_at,
    })
}

// -- a scan ----------------------------------------------------------------------------------------------------------

fn shown_scan(scan: &Scan, job_id: &str) -> Value {
    let found = &scan.duplicates;
    let stores = scan
        .stores
        .iter()
        .map(|store| shown_store(store, &scan.in_library));
    json!({
        "pending": false,
        "job_id": job_id,
        "stores": stores.collect::<Vec<Value>>(),
        "repeated": found.repeated.iter().map(shown_repeated).collect::<Vec<Value>>(),
        "omitted": found.omitted,
        "shared_bytes": found.shared_bytes,
        "freed_bytes": found.freed_bytes,
        "possible_bytes": found.possible_bytes,
        "seconds": (scan.took.as_secs_f64() * 1000.0).round() / 1000.0,
    })
}

fn shown_store(store: &Store, in_library: &HashMap<String, String>) -> Value {
    let files = store.models.iter().flat_map(|model| &model.files);
    let sizes: HashMap<(u64, u64), u64> = files.map(|file| (file.bytes_id(), file.stamp.size)).collect();
    let problem = |one: &Problem| json!({"path": one.path, "kind": one.kind, "message": one.message});
    let models = store.models.iter().map(|model| shown_model(model, in_library));
    json!({
        "kind": store.kind,
        "path": store.path,
        "size": sizes.values().sum::<u64>(),
        "truncated": store.truncated,
        "models": models.collect::<Vec<Value>>(),
        "problems": store.problems.iter().map(problem).collect::<Vec<Value>>(),
        "more_problems": store.more_problems,
    })
}

fn shown_model(model: &StoredModel, in_library: &HashMap<String, String>) -> Value {
    let id = model.id();
    json!({
        "stored_id": id,
        "name": model.name,
        "title": model.title,
        "repo_id": model.repo_id,
        "revision": model.revision,
        "refs": model.refs,
        "size": model.size(),
        "format": model.format(),
        "quantization": model.quantization(),
        "in_library": in_library.get(&id),
        "problem": said(&model.problem),
        "files": model.files.iter().map(shown_file).collect::<Vec<Value>>(),
    })
}

fn shown_file(file: &StoredFile) -> Value {
    json!({
        "name": file.name,
        "path": file.path,
        "size": file.stamp.size,
        "links": file.links,
        "claimed_sha256": said(&file.claimed_sha256),
    })
}

fn shown_repeated(one: &Repeated) -> Value {
    let place = |piece: &Piece| json!({"store": piece.store, "model": piece.model, "path": piece.path});
    json!({
        "certainty": one.certainty.as_str(),
        "size": one.size,
        "freed": one.freed,
        "sha256": said(&one.sha256),
        "verified": one.verified,
        "places": one.pieces.iter().map(place).collect::<Vec<Value>>(),
    })
}

/// Null for what nobody says.
fn said(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
