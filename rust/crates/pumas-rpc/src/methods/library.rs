//! The library: find, look, change, delete and bring back, verify.

use pumas_core::library::entry::formats_and_quantizations;
use pumas_core::library::facets::FacetCounts;
use pumas_core::library::library_index::LibraryState;
use pumas_core::library::search::{Filters, Hit, Match, Sort};
use pumas_core::library::trash::TrashEntry;
use pumas_core::storage::troubles::Trouble;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::registry::{NoParams, Row, long_row, row};
use crate::reply::Long;

pub(super) fn rows() -> Vec<Row> {
    [finding(), models(), trash()].into_iter().flatten().collect()
}

// -- finding ---------------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Search {
    query: String,
    // Any integer of the wire; the service keeps them within bounds.
    limit: i128,
    offset: i128,
    sort: Sort,
    #[serde(flatten)]
    filters: ModelFilters,
}

#[derive(Deserialize)]
struct CountFacets {
    query: String,
    #[serde(flatten)]
    filters: ModelFilters,
}

#[derive(Deserialize)]
struct ModelFilters {
    model_type: Option<String>,
    model_types: Vec<String>,
    tags: Vec<String>,
    families: Vec<String>,
    formats: Vec<String>,
    quants: Vec<String>,
    sizes: Vec<String>,
    apps: Vec<String>,
}

impl ModelFilters {
    /// The filters of the library, and the apps.
    fn split(self) -> (Filters, Vec<String>) {
        let mut model_types = self.model_types;
        model_types.extend(self.model_type.and_then(some_text));
        let filters = Filters {
            model_types,
            tags: self.tags,
            families: self.families,
            formats: self.formats,
            quants: self.quants,
            sizes: self.sizes,
            ..Filters::default()
        };
        (filters, self.apps)
    }
}

#[derive(Serialize)]
struct SearchResult {
    models: Vec<Found>,
    total_count: i64,
    query_time_ms: f64,
    query: String,
    matched: Match,
}

#[derive(Serialize)]
struct Found {
    id: String,
    official_name: String,
    cleaned_name: String,
    model_type: String,
    subtype: String,
    family: String,
    tags: Vec<String>,
    description: String,
    repo_id: Option<String>,
    size_bytes: Option<i64>,
    security_tier: Option<String>,
    added_date: Option<String>,
    last_used: Option<String>,
    updated_at: String,
    related_available: bool,
    state: String,
    storage: String,
    formats: Vec<String>,
    quants: Vec<String>,
    model_id: String,
    path: String,
    file_path: String,
}

impl Found {
    fn new(hit: Hit, file_path: String) -> Self {
        let (formats, quants) = formats_and_quantizations(&hit.kinds);
        Self {
            model_id: hit.id.clone(),
            path: hit.id.clone(),
            file_path,
            id: hit.id,
            official_name: hit.official_name,
            cleaned_name: hit.cleaned_name,
            model_type: hit.model_type,
            subtype: hit.subtype,
            family: hit.family,
            tags: hit.tags,
            description: hit.description,
            repo_id: some_text(hit.repo_id),
            size_bytes: hit.size_bytes,
            security_tier: some_text(hit.security_tier),
            added_date: hit.added_date,
            last_used: hit.last_used,
            updated_at: hit.updated_at,
            related_available: hit.related_available,
            state: hit.state,
            storage: hit.storage,
            formats,
            quants,
        }
    }
}

#[derive(Serialize)]
struct Status {
    indexing: bool,
    deep_scan_in_progress: bool,
    model_count: i64,
    pending_lookups: i64,
    last_scan: Option<String>,
    state: LibraryState,
    trouble_count: usize,
    troubles: Vec<Trouble>,
}

fn finding() -> Vec<Row> {
    vec![
        long_row("get_models", |api, _: NoParams| async move {
            let models = api.library.catalog.listing().await?;
            Ok(Long::new(models.length(), models.text()))
        }),
        row("search_models_fts", |api, p: Search| async move {
            let (filters, apps) = p.filters.split();
            let page = api
                .library
                .search(
                    p.query,
                    filters,
                    apps,
                    bounded(p.limit),
                    bounded(p.offset),
                    p.sort,
                )
                .await?;
            let found = |hit: Hit| {
                let folder = api.library.folder_of(&hit.id);
                Found::new(hit, folder)
            };
            Ok(SearchResult {
                models: page.hits.into_iter().map(found).collect(),
                total_count: page.total,
                query_time_ms: page.took_ms,
                query: page.query,
                matched: page.matched,
            })
        }),
        row("get_model_facets", |api, p: CountFacets| async move {
            let (filters, apps) = p.filters.split();
            let counts = api.library.facets(p.query, filters, apps).await?;
            Ok(FacetCounts::clone(&counts))
        }),
        row("refresh_model_index", |api, _: NoParams| async move {
            api.library.catalog.reconcile().await?;
            Ok(json!({"indexed_count": api.library.catalog.status().await?.model_count}))
        }),
        row("scan_shared_storage", |api, _: NoParams| async move {
            let scan = api.library.catalog.storage_scan().await?;
            Ok(json!({
                "modelsFound": scan.models,
                "workflowsFound": scan.workflows,
                "customNodesFound": scan.custom_nodes,
                "totalSize": scan.total_size,
            }))
        }),
        row("get_library_status", |api, _: NoParams| async move {
            let status = api.library.catalog.status().await?;
            Ok(Status {
                indexing: status.indexing,
                deep_scan_in_progress: api.library.is_verifying(),
                model_count: status.model_count,
                pending_lookups: status.pending_lookups,
                last_scan: status.last_scan,
                state: status.state,
                trouble_count: api.troubles.count(),
                troubles: api.troubles.list(),
            })
        }),
    ]
}

fn some_text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn bounded(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

// -- models ----------------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
struct ModelId {
    model_id: String,
}

#[derive(Deserialize)]
struct RelPath {
    rel_path: String,
}

#[derive(Deserialize)]
struct Overrides {
    rel_path: String,
    overrides: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
struct Edit {
    #[serde(skip_serializing)]
    model_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    official_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<String>,
}

#[derive(Deserialize)]
struct Verify {
    model_ids: Option<Vec<String>>,
}

fn models() -> Vec<Row> {
    vec![
        row("get_model", |api, p: ModelId| async move {
            Ok(api.library.detail(p.model_id).await?)
        }),
        row("get_model_overrides", |api, p: RelPath| async move {
            Ok(api.library.overrides(p.rel_path).await?)
        }),
        row("update_model_overrides", |api, p: Overrides| async move {
            Ok(api.library.update_overrides(p.rel_path, p.overrides).await?)
        }),
        row("update_model", |api, p: Edit| async move {
            let changes = match json!(p) {
                Value::Object(changes) => changes,
                _ => Map::new(),
            };
            Ok(api.library.edit(p.model_id, changes).await?)
        }),
        row("mark_metadata_as_manual", |api, p: ModelId| async move {
            Ok(api.library.mark_manual(p.model_id).await?)
        }),
        row("verify_library", |api, p: Verify| async move {
            Ok(json!({"job_id": api.library.verify(p.model_ids).await?.id}))
        }),
    ]
}

// -- trash -----------------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Delete {
    model_id: String,
    dry_run: bool,
}

#[derive(Deserialize)]
struct Restore {
    trash_id: String,
    dry_run: bool,
}

#[derive(Deserialize)]
struct Empty {
    trash_ids: Option<Vec<String>>,
    older_than_days: f64,
    dry_run: bool,
}

#[derive(Serialize)]
struct Deleted {
    links_removed: usize,
    trash_id: Option<String>,
    model_ids: Vec<String>,
    size: u64,
}

#[derive(Serialize)]
struct Emptied {
    freed: u64,
    removed: Vec<TrashEntry>,
}

fn trash() -> Vec<Row> {
    vec![
        row("delete_model_with_cascade", |api, p: Delete| async move {
            let entry = api.library.delete(p.model_id, p.dry_run).await?;
            Ok(Deleted {
                links_removed: entry.companions,
                trash_id: (!p.dry_run).then_some(entry.trash_id),
                model_ids: entry.model_ids,
                size: entry.size,
            })
        }),
        row("list_trash", |api, _: NoParams| async move {
            Ok(json!({"entries": api.library.trash().await?}))
        }),
        row("restore_model", |api, p: Restore| async move {
            let entry = api.library.restore(p.trash_id, p.dry_run).await?;
            Ok(json!({
                "model_id": entry.model_id,
                "model_ids": entry.model_ids,
                "links_restored": entry.companions,
            }))
        }),
        row("empty_trash", |api, p: Empty| async move {
            let removed = api
                .library
                .empty_trash(p.trash_ids, p.older_than_days, p.dry_run)
                .await?;
            Ok(Emptied {
                freed: removed.iter().map(|entry| entry.size).sum(),
                removed,
            })
        }),
    ]
}
