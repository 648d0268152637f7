//! Questions to the Hugging Face hub.

use pumas_core::hub::{Choice, Drift, DriftReport, Found, RepoView, Wish};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::registry::{Row, row};

const MAX_FILES: usize = 2_000;

#[derive(Deserialize)]
struct Search {
    query: String,
    kind: Option<String>,
    // Any integer of the wire; the service keeps it within bounds.
    limit: i128,
}

#[derive(Deserialize)]
struct Related {
    model_id: String,
    limit: i128,
}

#[derive(Deserialize)]
struct GetModel {
    repo_id: String,
    revision: String,
    quant: Option<String>,
    filenames: Vec<String>,
    card: bool,
}

#[derive(Deserialize)]
struct LookUp {
    filename: String,
    file_path: Option<String>,
}

#[derive(Deserialize)]
struct ListDrift {
    model_ids: Option<Vec<String>>,
}

#[derive(Serialize)]
struct DriftList {
    models: Vec<DriftReport>,
    newer: usize,
    unasked: usize,
}

#[derive(Serialize)]
struct Results {
    models: Vec<Value>,
    stale: bool,
    fetched_at: Option<String>,
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("search_hf_models", |api, p: Search| async move {
            Ok(results(
                api.hub
                    .search(&p.query, &p.kind.unwrap_or_default(), p.limit)
                    .await?,
            ))
        }),
        row("get_related_models", |api, p: Related| async move {
            Ok(results(api.hub.related(p.model_id, p.limit).await?))
        }),
        row("lookup_hf_metadata_for_file", |api, p: LookUp| async move {
            let found = api.hub.origin(&p.filename, p.file_path).await?;
            Ok(json!({"found": found.is_some(), "metadata": found}))
        }),
        row("list_hf_revisions_drift", |api, p: ListDrift| async move {
            let models = api.hub.drift(p.model_ids).await?;
            let count = |state| models.iter().filter(|one| one.state == state).count();
            Ok(DriftList {
                newer: count(Drift::Newer),
                unasked: count(Drift::Unasked),
                models,
            })
        }),
        row("get_hf_model", |api, p: GetModel| async move {
            let GetModel {
                repo_id,
                revision,
                quant,
                filenames,
                card,
            } = p;
            let wish = Wish {
                repo_id,
                revision,
                quant,
                filenames,
                card,
            };
            let view = api.hub.show(wish).await?;
            let url = api.hub.client.page_url(&view.model.said.repo_id)?;
            Ok(repository(&view, &url))
        }),
    ]
}

fn results(found: Found) -> Results {
    Results {
        stale: found.answer.as_ref().is_some_and(|answer| answer.stale),
        fetched_at: found.answer.map(|answer| answer.fetched()),
        models: found.models,
    }
}

fn repository(view: &RepoView, url: &str) -> Value {
    let (model, said) = (&view.model, &view.model.said);
    let files = model.files.iter().take(MAX_FILES).map(|file| {
        let label = view.contents.label(&file.path);
        json!({
            "path": RepoView::shown(&file.path),
            "size": file.size,
            "role": view.contents.role(&file.path).map_or("refused", |role| role.as_str()),
            "quant": (!label.is_empty()).then_some(label),
            "sha256": file.sha256,
            "git_oid": file.git_oid,
        })
    });
    let options = view.options.iter().map(|option| {
        json!({
            "kind": option.kind,
            "quant": option.quant,
            "weights": option.weights,
            "file_count": option.files.len(),
            "size_bytes": option.size_bytes,
            "fits": view.fits(option.size_bytes),
        })
    });
    let refused = view
        .refused
        .iter()
        .map(|(path, reason)| json!({"path": path, "reason": reason}));
    let context = model.gguf.get("context_length").and_then(Value::as_i64);
    json!({
        "repo_id": said.repo_id,
        "revision": view.revision,
        "commit": said.commit,
        "url": url,
        "name": said.name(),
        "author": said.author,
        "task": said.pipeline_tag,
        "library": said.library_name,
        "tags": said.tags,
        "license": said.license,
        "gated": gated(&said.gated),
        "private": model.private,
        "base_model": said.base_model,
        "downloads": said.downloads,
        "likes": said.likes,
        "last_modified": said.last_modified,
        "parameters": view.parameters(),
        "context_length": context,
        "architecture": view.architecture,
        "model_type": view.model_type,
        "subtype": view.subtype,
        "family": view.family,
        "formats": view.contents.formats(),
        "quants": view.contents.quants(),
        "files": files.collect::<Vec<_>>(),
        "file_count": model.files.len(),
        "options": options.collect::<Vec<_>>(),
        "choice": view.choice.as_ref().map(|choice| chosen(choice, view)),
        "refused": refused.collect::<Vec<_>>(),
        "free_bytes": view.free_bytes,
        "held": view.held,
        "card": view.card,
        "card_data": view.card_data,
        "stale": view.answer.stale,
        "fetched_at": view.answer.fetched(),
    })
}

fn gated(said: &Value) -> &str {
    match said {
        Value::String(how) => how,
        Value::Bool(true) => "auto",
        _ => "no",
    }
}

fn chosen(choice: &Choice, view: &RepoView) -> Value {
    json!({
        "quant": choice.quant,
        "files": choice.files.iter().map(|file| &file.path).collect::<Vec<_>>(),
        "total_bytes": choice.total_bytes,
        "fits": view.fits(choice.total_bytes),
        "pickles": choice.pickles().collect::<Vec<_>>(),
        "offered": choice.offered,
    })
}
