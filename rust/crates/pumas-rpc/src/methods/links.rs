//! Links: what an app would get, giving it that, and how the links are.

use indexmap::IndexMap;
use pumas_core::PumasApi;
use pumas_core::links::health::Health;
use pumas_core::links::linking::LinkKind;
use pumas_core::links::rows::Link;
use pumas_core::links::service::{ApplyAnswer, ApplyOptions, LinkService};
use pumas_core::links::values::{Action, Allowed, Applied, Plan, PlannedLink, Unneeded};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::registry::{NoParams, Row, row};

#[derive(Deserialize)]
struct OfApp {
    app_id: String,
}

#[derive(Deserialize)]
struct OfVersion {
    app_id: String,
    version_tag: String,
}

#[derive(Deserialize)]
struct Preview {
    app_id: String,
    version_tag: String,
    allow_copy: bool,
    replace_models_link: bool,
}

#[derive(Deserialize)]
struct Apply {
    app_id: String,
    version_tag: String,
    allow_copy: bool,
    replace_models_link: bool,
    plan_id: Option<String>,
}

#[derive(Deserialize)]
struct Sync {
    app_id: String,
    version_tag: String,
    model_ids: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    app_id: String,
    version_tag: String,
    allow_copy: bool,
    replace_models_link: bool,
    plan_id: Option<String>,
    resolutions: IndexMap<String, String>,
}

#[derive(Deserialize)]
struct OfModel {
    model_id: String,
}

#[derive(Deserialize)]
struct List {
    app_id: Option<String>,
    version_tag: Option<String>,
    limit: i64,
    offset: i64,
}

#[derive(Deserialize)]
struct HealthOf {
    app_id: String,
    version_tag: Option<String>,
}

#[derive(Deserialize)]
struct Orphans {
    app_id: String,
    version_tag: String,
    paths: Vec<String>,
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = mapping();
    rows.extend(registered());
    rows
}

fn allowed(copy: bool, replace_models_link: bool) -> Allowed {
    Allowed {
        copy,
        replace_models_link,
    }
}

fn mapping() -> Vec<Row> {
    vec![
        row("preview_model_mapping", |api, p: Preview| async move {
            let allowed = allowed(p.allow_copy, p.replace_models_link);
            let plan = api.links.plan(p.app_id, p.version_tag, allowed).await?;
            Ok(shown_plan(&plan))
        }),
        row("apply_model_mapping", |api, p: Apply| async move {
            let options = ApplyOptions {
                plan_id: p.plan_id,
                allowed: allowed(p.allow_copy, p.replace_models_link),
                ..ApplyOptions::default()
            };
            let answer = api.links.apply(p.app_id, p.version_tag, options).await?;
            Ok(applied(answer, |done| {
                json!({
                    "links_created": done.created,
                    "links_removed": done.removed,
                    "total_links": done.total,
                    "links_skipped": done.skipped,
                    "conflicts": done.conflicts,
                    "copied_bytes": done.copied_bytes,
                })
            }))
        }),
        row("sync_models_incremental", |api, p: Sync| async move {
            let options = ApplyOptions {
                model_ids: Some(p.model_ids),
                ..ApplyOptions::default()
            };
            let answer = api.links.apply(p.app_id, p.version_tag, options).await?;
            Ok(applied(answer, |done| {
                json!({
                    "links_created": done.created,
                    "links_updated": done.updated,
                    "links_skipped": done.skipped,
                    "conflicts": done.conflicts,
                })
            }))
        }),
        row("sync_with_resolutions", |api, p: Resolve| async move {
            let options = ApplyOptions {
                plan_id: p.plan_id,
                resolutions: p.resolutions,
                allowed: allowed(p.allow_copy, p.replace_models_link),
                ..ApplyOptions::default()
            };
            let answer = api.links.apply(p.app_id, p.version_tag, options).await?;
            Ok(applied(answer, |done| {
                json!({
                    "links_created": done.created,
                    "links_skipped": done.skipped + done.conflicts,
                    "links_renamed": done.renamed,
                    "overwrites": done.overwritten,
                    "backups": done.kept,
                })
            }))
        }),
        row("refresh_model_mappings", |api, p: OfApp| async move {
            let answer = api.links.refresh(p.app_id).await?;
            let totals = answer.applied.iter().map(|(tag, done)| (tag, done.total));
            let totals: IndexMap<_, _> = totals.collect();
            Ok(json!({"results": totals, "job_id": answer.job_id, "pending": answer.pending}))
        }),
        row("get_cross_filesystem_warning", |api, p: OfVersion| async move {
            let across = api.links.across(p.app_id, p.version_tag).await?;
            Ok(match across {
                None => json!({"cross_filesystem": false}),
                Some((library, app)) => json!({
                    "cross_filesystem": true,
                    "library_path": library,
                    "app_path": app,
                    "warning": "The library and the app lie on different volumes: links are absolute, and break when \
                                the library is moved or its drive is away.",
                    "recommendation": "Keep the launcher's folder, with its apps and its library, on one volume.",
                }),
            })
        }),
    ]
}

fn registered() -> Vec<Row> {
    vec![
        row("get_link_health", |api, p: HealthOf| async move {
            let health = api.links.health(p.app_id, p.version_tag).await?;
            Ok(shown_health(&health, &api.links))
        }),
        row("clean_broken_links", |api, _: NoParams| async move {
            Ok(json!({"cleaned": api.links.clean_broken().await?}))
        }),
        row("remove_orphaned_links", |api, p: Orphans| async move {
            let done = api.links.remove_orphans(p.app_id, p.version_tag, p.paths).await?;
            Ok(json!({"removed": done.removed, "kept": done.kept}))
        }),
        row("get_links_for_model", |api, p: OfModel| async move {
            let rows = api.links.of_model(p.model_id).await?;
            Ok(shown_links(rows, &api))
        }),
        row("list_links", |api, p: List| async move {
            let (rows, total) = api.links.list(p.app_id, p.version_tag, p.limit, p.offset).await?;
            Ok(LinkList {
                links: shown_links(rows, &api),
                total_count: total,
            })
        }),
    ]
}

#[derive(Serialize)]
struct LinkList {
    links: Vec<LinkInfo>,
    total_count: i64,
}

/// One registered link; paths are absolute.
#[derive(Serialize)]
struct LinkInfo {
    link_id: i64,
    model_id: String,
    source_path: String,
    target_path: String,
    link_type: String,
    app_id: String,
    app_version: String,
    is_external: bool,
    created_at: String,
}

fn shown_links(rows: Vec<Link>, api: &PumasApi) -> Vec<LinkInfo> {
    let shown = |row: Link| LinkInfo {
        link_id: row.link_id,
        source_path: api.links.absolute(&row.source_path),
        target_path: api.links.absolute(&row.target_path),
        model_id: row.model_id,
        link_type: row.link_type,
        app_id: row.app_id,
        app_version: row.app_version,
        is_external: row.is_external,
        created_at: row.created_at,
    };
    rows.into_iter().map(shown).collect()
}

/// What was done for one version: a link that could not be made makes the reply a failure that still has its counts.
fn applied(answer: ApplyAnswer, counts: impl FnOnce(&Applied) -> Value) -> Value {
    let (done, job_id, pending) = answer.only();
    let mut reply = Map::new();
    if let Some(error) = done.errors.first() {
        reply.insert("success".to_owned(), json!(false));
        reply.insert("error".to_owned(), json!(error));
    }
    reply.insert("errors".to_owned(), json!(done.errors));
    reply.insert("job_id".to_owned(), json!(job_id));
    reply.insert("pending".to_owned(), json!(pending));
    if let Value::Object(counts) = counts(&done) {
        reply.extend(counts);
    }
    Value::Object(reply)
}

#[derive(Serialize)]
struct ShownPlan {
    plan_id: String,
    to_create: Vec<ShownAction>,
    to_skip_exists: Vec<ShownAction>,
    conflicts: Vec<ShownAction>,
    broken_to_remove: Vec<ShownUnneeded>,
    needs_copy: Vec<ShownAction>,
    unwanted: Vec<ShownUnneeded>,
    total_actions: usize,
    copy_bytes: u64,
    models_link: Option<String>,
    warnings: Vec<String>,
    errors: Vec<String>,
}

#[derive(Serialize)]
struct ShownAction {
    model_id: String,
    model_name: String,
    source_path: String,
    target_path: String,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_type: Option<LinkKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    existing_target: Option<String>,
}

impl From<&PlannedLink> for ShownAction {
    fn from(link: &PlannedLink) -> Self {
        let is_made = matches!(link.action, Action::Create | Action::Update);
        let needs_room = link.size > 0 && (is_made || link.action == Action::Copy);
        Self {
            model_id: link.model_id.clone(),
            model_name: link.model_name.clone(),
            source_path: link.source.clone(),
            target_path: link.target.clone(),
            reason: link.reason,
            link_type: is_made.then_some(link.kind),
            size: needs_room.then_some(link.size),
            existing_target: (link.action == Action::Conflict).then(|| link.existing.clone()),
        }
    }
}

#[derive(Serialize)]
struct ShownUnneeded {
    target_path: String,
    existing_target: String,
    reason: &'static str,
}

impl From<&Unneeded> for ShownUnneeded {
    fn from(one: &Unneeded) -> Self {
        Self {
            target_path: one.target.clone(),
            existing_target: one.existing.clone(),
            reason: one.reason,
        }
    }
}

fn shown_plan(plan: &Plan) -> ShownPlan {
    let of = |actions: &[Action]| -> Vec<ShownAction> {
        let wanted = plan.links.iter().filter(|link| actions.contains(&link.action));
        wanted.map(ShownAction::from).collect()
    };
    let to_create = of(&[Action::Create, Action::Update]);
    let (to_skip_exists, conflicts) = (of(&[Action::Skip]), of(&[Action::Conflict]));
    let copies = plan
        .links
        .iter()
        .filter(|link| link.kind == LinkKind::Copy && matches!(link.action, Action::Create | Action::Update));
    ShownPlan {
        plan_id: plan.id(),
        total_actions: to_create.len() + to_skip_exists.len() + conflicts.len() + plan.broken.len(),
        to_create,
        to_skip_exists,
        conflicts,
        broken_to_remove: plan.broken.iter().map(ShownUnneeded::from).collect(),
        needs_copy: of(&[Action::Copy]),
        unwanted: plan.unwanted.iter().map(ShownUnneeded::from).collect(),
        copy_bytes: copies.map(|link| link.size).sum(),
        models_link: Some(plan.foreign_link.clone()).filter(|link| !link.is_empty()),
        warnings: plan.warnings.clone(),
        errors: plan.errors.clone(),
    }
}

fn shown_health(health: &Health, links: &LinkService) -> Value {
    let broken = health.broken.iter().map(|one| {
        json!({
            "link_id": one.link.link_id,
            "target_path": one.target,
            "expected_source": links.absolute(&one.link.source_path),
            "model_id": one.link.model_id,
            "reason": one.reason,
        })
    });
    let backups = health.replaced.iter().map(|one| {
        json!({
            "target_path": links.absolute(&one.target_path),
            "backup_path": links.absolute(&one.kept_path),
        })
    });
    let errors = health.broken.iter().take(20);
    let errors = errors.map(|one| format!("{}: {}", one.target, one.reason));
    json!({
        "status": health.status(),
        "total_links": health.total,
        "healthy_links": health.healthy,
        "broken_links": broken.collect::<Vec<_>>(),
        "orphaned_links": health.orphaned,
        "backups": backups.collect::<Vec<_>>(),
        "warnings": health.warnings,
        "errors": errors.collect::<Vec<_>>(),
    })
}
