//! Custom nodes of versions.

use pumas_core::Error;
use pumas_core::nodes::{Answer, InstallNode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::registry::{Row, row};

#[derive(Deserialize)]
struct OfVersion {
    version_tag: String,
}

#[derive(Deserialize)]
struct NewNode {
    version_tag: String,
    git_url: String,
    node_name: Option<String>,
    commit: Option<String>,
    install_requirements: bool,
}

#[derive(Deserialize)]
struct OfNode {
    version_tag: String,
    node_name: String,
}

#[derive(Deserialize)]
struct Update {
    version_tag: String,
    node_name: String,
    install_requirements: bool,
}

#[derive(Deserialize)]
struct InTrash {
    version_tag: String,
    trash_id: String,
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = changes();
    rows.extend(trash());
    rows
}

fn changes() -> Vec<Row> {
    vec![
        row("get_custom_nodes", |api, p: OfVersion| async move {
            let found = match api.nodes.list(p.version_tag).await {
                // Older clients ask for any version.
                Err(Error::VersionNotFound { .. }) => Vec::new(),
                found => found?,
            };
            let names: Vec<&str> = found.iter().map(|node| node.name.as_str()).collect();
            Ok(json!({"nodes": names, "details": found}))
        }),
        row("install_custom_node", |api, p: NewNode| async move {
            let name = p.node_name.clone().unwrap_or_default();
            let wish = InstallNode {
                tag: p.version_tag,
                url: p.git_url,
                name: p.node_name,
                commit: p.commit,
                requirements: p.install_requirements,
            };
            Ok(changed(&name, &api.nodes.install(wish).await?))
        }),
        row("update_custom_node", |api, p: Update| async move {
            let name = p.node_name.clone();
            let answer = api
                .nodes
                .update(p.version_tag, p.node_name, p.install_requirements)
                .await?;
            Ok(changed(&name, &answer))
        }),
        row("remove_custom_node", |api, p: OfNode| async move {
            let trash_id = api.nodes.remove(p.version_tag, p.node_name).await?;
            Ok(json!({"trash_id": trash_id}))
        }),
    ]
}

fn trash() -> Vec<Row> {
    vec![
        row("list_removed_custom_nodes", |api, p: OfVersion| async move {
            Ok(json!({"nodes": api.nodes.removed(p.version_tag).await?}))
        }),
        row("restore_custom_node", |api, p: InTrash| async move {
            Ok(json!({"name": api.nodes.restore(p.version_tag, p.trash_id).await?}))
        }),
        row("purge_removed_custom_node", |api, p: InTrash| async move {
            api.nodes.purge(p.version_tag, p.trash_id).await?;
            Ok(json!({}))
        }),
    ]
}

fn changed(name: &str, answer: &Answer) -> Value {
    let pending = answer.done.is_none();
    let done = answer.done.as_ref();
    json!({
        "name": done.map_or(name, |done| &done.name),
        "commit": done.and_then(|done| done.commit.clone()),
        "previous_commit": done.and_then(|done| done.previous_commit.clone()),
        "job_id": answer.job_id,
        "pending": pending,
    })
}
