//! The launcher itself: its version, updates, restart.

use pumas_core::updates::Commit;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::registry::{NoParams, Row, row};

#[derive(Deserialize)]
struct CheckUpdates {
    force_refresh: bool,
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("get_launcher_version", |api, _: NoParams| async move {
            let one = api.updates.current().await?;
            Ok(json!({
                "version": one.version,
                "branch": one.branch,
                "isGitRepo": one.is_checkout,
                "currentCommit": one.commit,
            }))
        }),
        row("check_launcher_updates", |api, p: CheckUpdates| async move {
            let found = api.updates.check(p.force_refresh).await?;
            Ok(json!({
                "hasUpdate": found.has_update,
                "currentCommit": found.current,
                "latestCommit": found.latest,
                "commitsBehind": found.commits.len(),
                "commits": found.commits.iter().map(commit).collect::<Vec<Value>>(),
                "branch": found.branch,
                "stale": found.stale,
                "error": found.error,
            }))
        }),
        row("apply_launcher_update", |api, _: NoParams| async move {
            let (job_id, done) = api.updates.update().await?;
            let message = match &done {
                None => "The update goes on; get_job tells how far it is.",
                Some(step) if step.before == step.now => "The launcher is up to date.",
                Some(_) => "Updated; restart the launcher to use it.",
            };
            Ok(json!({
                "message": message,
                "newCommit": done.as_ref().map(|step| &step.now),
                "previousCommit": done.as_ref().map(|step| &step.before),
                "job_id": job_id,
                "pending": done.is_none(),
            }))
        }),
        row("restart_launcher", |api, _: NoParams| async move {
            api.updates.prepare_restart().await?;
            api.stop.ask();
            Ok(json!({"message": "The launcher is starting again."}))
        }),
    ]
}

fn commit(one: &Commit) -> Value {
    json!({
        "sha": one.sha,
        "hash": one.sha,
        "message": one.message,
        "author": one.author,
        "date": one.date,
    })
}
