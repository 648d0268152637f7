//! Versions of apps: which there are, which is active, installing, removing, going back, and how much releases weigh.

use pumas_core::Error;
use pumas_core::versions::{
    AppOverview, CacheStatus, Dependencies, Offered, ReleaseSize, Update, formatted_size,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::registry::{NoParams, Row, row};

/// Texts of what is kept about a version; `size` is a number.
const TEXTS: [&str; 5] = [
    "path",
    "installedDate",
    "releaseTag",
    "pythonVersion",
    "downloadUrl",
];

#[derive(Deserialize)]
struct AppChoice {
    app_id: String,
}

#[derive(Deserialize)]
struct VersionChoice {
    app_id: String,
    tag: String,
}

#[derive(Deserialize)]
struct RemoveVersion {
    app_id: String,
    tag: String,
    last: bool,
}

#[derive(Deserialize)]
struct GetAvailable {
    app_id: String,
    force_refresh: bool,
}

#[derive(Deserialize)]
struct SetDefault {
    app_id: String,
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Validate {
    app_id: String,
    rebuild: bool,
}

#[derive(Deserialize)]
struct TrashId {
    app_id: String,
    trash_id: String,
}

#[derive(Deserialize)]
struct Install {
    app_id: String,
    tag: String,
    reinstall: bool,
    activate: bool,
}

#[derive(Deserialize)]
struct Cancel {
    app_id: Option<String>,
}

#[derive(Deserialize)]
struct CalculateSize {
    app_id: String,
    tag: String,
    force_refresh: bool,
}

#[derive(Deserialize)]
struct SizeInfoOf {
    app_id: String,
    tag: String,
    archive_size: u64,
}

#[derive(Deserialize)]
struct DependenciesOf {
    app_id: String,
    tag: String,
    top_n: Option<usize>,
}

pub(super) fn rows() -> Vec<Row> {
    let parts = [lists(), choice(), releases(), installing(), removing(), sizes()];
    parts.into_iter().flatten().collect()
}

fn lists() -> Vec<Row> {
    vec![
        row("list_apps", |api, _: NoParams| async move {
            let apps: Vec<Value> = api.versions.apps().await?.iter().map(app).collect();
            Ok(json!({ "apps": apps }))
        }),
        row("get_installed_versions", |api, p: AppChoice| async move {
            let found = api.versions.installed(&p.app_id).await?.into_iter();
            Ok(found.map(|version| version.tag).collect::<Vec<String>>())
        }),
        row("get_version_status", |api, p: AppChoice| async move {
            let found = api.versions.overview(&p.app_id).await?;
            let count = found.versions.len();
            let versions = found.versions.into_iter().map(|one| {
                let shown = json!({
                    "info": stored(one.version.info),
                    "dependencies": dependencies(&one.dependencies),
                    "isActive": one.active,
                });
                (one.version.tag, shown)
            });
            Ok(json!({
                "installedCount": count,
                "activeVersion": found.active,
                "defaultVersion": found.default,
                "versions": versions.collect::<Map<String, Value>>(),
            }))
        }),
        row("get_version_info", |api, p: VersionChoice| async move {
            match api.versions.get(&p.tag, &p.app_id).await {
                Ok(version) => Ok(Some(stored(version.info))),
                Err(
                    Error::VersionNotFound { .. } | Error::InvalidInput { .. } | Error::UnsafePath { .. },
                ) => Ok(None),
                Err(error) => Err(error.into()),
            }
        }),
        row("check_version_dependencies", |api, p: VersionChoice| async move {
            Ok(dependencies(&api.versions.dependencies(&p.tag, &p.app_id).await?))
        }),
        row("validate_installations", |api, p: Validate| async move {
            let found = api.versions.validate(&p.app_id, p.rebuild).await?;
            let had_invalid = !(found.incomplete.is_empty() && found.missing.is_empty());
            let result = json!({"had_invalid": had_invalid, "removed": [], "valid": found.valid});
            Ok(json!({
                "had_invalid": had_invalid,
                "removed": [],
                "valid": found.valid,
                "incomplete": found.incomplete,
                "missing": found.missing,
                "unknown": found.unknown,
                "result": result,
            }))
        }),
    ]
}

fn choice() -> Vec<Row> {
    vec![
        row("get_active_version", |api, p: AppChoice| async move {
            let active = api.versions.active(&p.app_id).await?;
            Ok(active.map(|version| version.tag).unwrap_or_default())
        }),
        row("get_default_version", |api, p: AppChoice| async move {
            Ok(api.versions.default(&p.app_id).await?.unwrap_or_default())
        }),
        row("set_default_version", |api, p: SetDefault| async move {
            api.versions.set_default(p.tag, &p.app_id).await?;
            Ok(json!({}))
        }),
        row("switch_version", |api, p: VersionChoice| async move {
            api.versions.switch(&p.tag, &p.app_id).await?;
            Ok(json!({}))
        }),
        row("rollback_version", |api, p: AppChoice| async move {
            Ok(json!({"tag": api.versions.rollback(&p.app_id).await?}))
        }),
    ]
}

fn releases() -> Vec<Row> {
    vec![
        row("get_available_versions", |api, p: GetAvailable| async move {
            let offers = &api.versions.offers;
            let offered = match offers.offered(&p.app_id, p.force_refresh).await {
                Ok(offered) => offered,
                Err(error @ Error::RateLimited { .. }) => return Ok(limited(&error)),
                Err(error) => return Err(error.into()),
            };
            let status = offers.cache_status(&p.app_id).await?;
            let versions: Vec<Value> = offered.iter().map(release).collect();
            Ok(json!({
                "success": true,
                "versions": versions,
                "rate_limited": !status.limited.is_zero(),
                "retry_after_secs": retry_after(&status),
                "stale": !status.is_valid,
            }))
        }),
        row("get_github_cache_status", |api, p: AppChoice| async move {
            let found = api.versions.offers.cache_status(&p.app_id).await?;
            let status = json!({
                "has_cache": found.has_cache,
                "is_valid": found.is_valid,
                "is_fetching": found.is_fetching,
                "age_seconds": found.age_s,
                "last_fetched": found.last_fetched,
                "ttl": found.ttl,
                "releases_count": found.count,
            });
            let mut reply = status.clone();
            reply["status"] = status;
            reply["error"] = json!(found.error);
            reply["retry_after_secs"] = json!(retry_after(&found));
            Ok(reply)
        }),
        row("has_background_fetch_completed", |api, _: NoParams| async move {
            Ok(json!({"completed": api.versions.offers.fetched_behind()}))
        }),
        row(
            "should_update_ui_from_background_fetch",
            |api, _: NoParams| async move { Ok(api.versions.offers.fetched_behind()) },
        ),
        row("reset_background_fetch_flag", |api, _: NoParams| async move {
            api.versions.offers.reset_fetched_behind();
            Ok(json!({}))
        }),
    ]
}

fn installing() -> Vec<Row> {
    vec![
        row("install_version", |api, p: Install| async move {
            let installs = &api.versions.installs;
            let job = installs
                .install(&p.tag, &p.app_id, p.reinstall, p.activate)
                .await?;
            Ok(json!({"job_id": job.id}))
        }),
        row("update_version", |api, p: AppChoice| async move {
            Ok(match api.versions.update(&p.app_id).await? {
                Update::Installing(job) => {
                    json!({"tag": job.params.pointer("/plan/tag"), "job_id": job.id})
                }
                Update::Active(tag) => json!({"tag": tag, "job_id": null}),
            })
        }),
        row("get_installation_progress", |api, p: AppChoice| async move {
            match api.versions.installs.progress(&p.app_id).await {
                Err(Error::UnknownApp { .. }) => Ok(None),
                found => Ok(found?),
            }
        }),
        row("cancel_installation", |api, p: Cancel| async move {
            api.versions.installs.cancel(p.app_id.as_deref()).await?;
            Ok(json!({}))
        }),
        row(
            "install_version_dependencies",
            |api, p: VersionChoice| async move {
                let job = api
                    .versions
                    .installs
                    .install_dependencies(&p.tag, &p.app_id)
                    .await?;
                Ok(json!({"job_id": job.id}))
            },
        ),
    ]
}

fn removing() -> Vec<Row> {
    vec![
        row("remove_version", |api, p: RemoveVersion| async move {
            let removed = api.versions.remove(&p.tag, &p.app_id, p.last).await?;
            Ok(json!({"trash_id": removed.id}))
        }),
        row("list_removed_versions", |api, p: AppChoice| async move {
            let found = api.versions.removed(&p.app_id).await?;
            let shown = found.iter().map(|one| {
                json!({
                    "trash_id": one.id,
                    "tag": one.tag,
                    "reason": one.reason,
                    "removed_at": one.removed_at,
                })
            });
            Ok(shown.collect::<Vec<Value>>())
        }),
        row("restore_version", |api, p: TrashId| async move {
            Ok(json!({"tag": api.versions.restore(&p.trash_id, &p.app_id).await?}))
        }),
        row("purge_removed_version", |api, p: TrashId| async move {
            api.versions.purge(&p.trash_id, &p.app_id).await?;
            Ok(json!({}))
        }),
    ]
}

fn sizes() -> Vec<Row> {
    vec![
        row("calculate_release_size", |api, p: CalculateSize| async move {
            let size = api
                .versions
                .offers
                .size(&p.tag, &p.app_id, p.force_refresh)
                .await?;
            Ok(info(&size))
        }),
        row("calculate_all_release_sizes", |api, _: NoParams| async move {
            let (known, pending) = api
                .versions
                .offers
                .all_sizes(pumas_core::apps::DEFAULT_APP)
                .await?;
            let mut shown: Map<String, Value> =
                known.iter().map(|size| (size.tag.clone(), info(size))).collect();
            let totals = known
                .iter()
                .map(|size| (size.tag.clone(), json!(size.total_size())));
            shown.insert("sizes".to_owned(), Value::Object(totals.collect()));
            shown.insert("pending".to_owned(), json!(pending));
            Ok(shown)
        }),
        row("get_release_size_info", |api, p: SizeInfoOf| async move {
            let mut size = api.versions.offers.size(&p.tag, &p.app_id, false).await?;
            if p.archive_size > 0 {
                size.archive_size = p.archive_size;
            }
            Ok(info(&size))
        }),
        row("get_release_size_breakdown", |api, p: VersionChoice| async move {
            let size = api.versions.offers.known_size(&p.tag, &p.app_id).await?;
            Ok(size.map_or_else(|| json!({}), |size| breakdown(&size)))
        }),
        row("get_release_dependencies", |api, p: DependenciesOf| async move {
            let size = api.versions.offers.known_size(&p.tag, &p.app_id).await?;
            let mut listed = size.map(|size| packages(&size)).unwrap_or_default();
            listed.truncate(p.top_n.unwrap_or(usize::MAX));
            Ok(listed)
        }),
    ]
}

fn app(one: &AppOverview) -> Value {
    let app = &one.app;
    json!({
        "app_id": app.id,
        "name": app.name,
        "description": app.description,
        "homepage": app.homepage,
        "folder": app.folder,
        "repository": app.releases.repository,
        "port": app.launch.port,
        "has_python": app.python.is_some(),
        "takes_models": app.models.is_some(),
        "installed": one.installed,
        "active": one.active,
    })
}

fn dependencies(found: &Dependencies) -> Value {
    json!({
        "installed": found.installed,
        "missing": found.missing,
        "requirementsFile": found.requirements,
    })
}

/// What is written about a version, less the values that are not what their names promise.
fn stored(mut info: Map<String, Value>) -> Map<String, Value> {
    info.retain(|name, value| {
        let is_promised = match name.as_str() {
            "size" => value.is_i64() || value.is_u64() || value.is_boolean(),
            name if TEXTS.contains(&name) => value.is_string(),
            _ => true,
        };
        value.is_null() || is_promised
    });
    info
}

fn retry_after(status: &CacheStatus) -> Option<u64> {
    (!status.limited.is_zero()).then(|| whole_and_one(status.limited.as_secs_f64()))
}

fn whole_and_one(seconds: f64) -> u64 {
    std::time::Duration::from_secs_f64(seconds.max(0.0)).as_secs() + 1
}

fn limited(error: &Error) -> Value {
    let seconds = match error {
        Error::RateLimited { retry_after_s, .. } => *retry_after_s,
        _ => 0.0,
    };
    json!({
        "success": false,
        "versions": [],
        "error": error.to_string(),
        "error_code": error.kind(),
        "rate_limited": true,
        "retry_after_secs": whole_and_one(seconds),
        "stale": true,
    })
}

fn release(one: &Offered) -> Value {
    let mut raw = one.release.raw.clone();
    let page = raw
        .get("html_url")
        .and_then(Value::as_str)
        .filter(|url| !url.is_empty());
    let page = page.unwrap_or(&one.page).to_owned();
    for (key, value) in [
        (
            "published_at",
            raw.get("published_at").cloned().unwrap_or_default(),
        ),
        ("body", raw.get("body").cloned().unwrap_or_default()),
        ("html_url", json!(page)),
        ("total_size", json!(one.total_size)),
        ("archive_size", json!(one.archive_size)),
        ("dependencies_size", json!(one.dependencies_size)),
        ("installing", json!(one.installing)),
    ] {
        raw.insert(key.to_owned(), value);
    }
    Value::Object(raw)
}

fn packages(size: &ReleaseSize) -> Vec<Value> {
    let of = |one: &Map<String, Value>| {
        let value = |key: &str| one.get(key).cloned().unwrap_or_default();
        json!({
            "package": value("package"),
            "version_spec": value("version_spec"),
            "size": value("size"),
        })
    };
    size.dependencies.iter().map(of).collect()
}

fn info(size: &ReleaseSize) -> Value {
    json!({
        "tag": size.tag,
        "total_size": size.total_size(),
        "total_bytes": size.total_size(),
        "archive_size": size.archive_size,
        "dependencies_size": size.dependencies_size,
        "dependency_count": size.dependency_count,
        "unknown_size_count": size.unknown_count,
        "dependencies": packages(size),
        "requirements_hash": size.requirements_hash,
        "calculated_at": size.calculated_at,
        "platform": size.platform,
        "python_version": size.python_version,
        "dependencies_size_source": size.source,
        "is_estimated": size.is_estimated(),
    })
}

fn breakdown(size: &ReleaseSize) -> Value {
    let total = size.total_size();
    let share = |part: u64| match total {
        0 => 0.0,
        total => part as f64 / total as f64 * 100.0,
    };
    json!({
        "total_size": total,
        "archive_size": size.archive_size,
        "dependencies_size": size.dependencies_size,
        "total_size_formatted": formatted_size(total),
        "archive_size_formatted": formatted_size(size.archive_size),
        "dependencies_size_formatted": formatted_size(size.dependencies_size),
        "archive_percentage": share(size.archive_size),
        "dependencies_percentage": share(size.dependencies_size),
        "dependency_count": size.dependency_count,
        "unknown_count": size.unknown_count,
    })
}
