//! The machine, this installation, and the summary that a shell polls.

use pumas_core::system::disk::DiskSpace;
use pumas_core::system::resources::Resources;
use serde::Serialize;
use serde_json::{Value, json};

use crate::registry::{NoParams, Row, row};

#[derive(Serialize)]
struct Space {
    total: u64,
    used: u64,
    free: u64,
    percent: f64,
}

#[derive(Serialize)]
struct Load {
    resources: Value,
}

#[derive(Serialize)]
struct Found {
    is_sandboxed: bool,
    sandbox_type: &'static str,
    limitations: Vec<&'static str>,
}

/// Nothing but success.
#[derive(Serialize)]
struct Done {}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("get_status", |api, _: NoParams| async move {
            Ok(api.system.status().await?)
        }),
        row("get_disk_space", |api, _: NoParams| async move {
            let DiskSpace {
                total,
                used,
                free,
                percent,
            } = api.system.disk_space().await?;
            Ok(Space {
                total,
                used,
                free,
                percent,
            })
        }),
        row("get_system_resources", |api, _: NoParams| async move {
            Ok(Load {
                resources: load(&api.system.resources().await?),
            })
        }),
        row("get_sandbox_info", |api, _: NoParams| async move {
            let found = api.system.sandbox().await?;
            Ok(Found {
                is_sandboxed: found.is_sandboxed(),
                sandbox_type: found.kind.as_str(),
                limitations: found.limitations,
            })
        }),
        row("check_git", |api, _: NoParams| async move {
            Ok(api.system.dependencies().await?.git)
        }),
        row("check_brave", |api, _: NoParams| async move {
            Ok(api.system.dependencies().await?.brave)
        }),
        row("check_setproctitle", |api, _: NoParams| async move {
            Ok(api.system.dependencies().await?.setproctitle)
        }),
        row("get_missing_dependencies", |api, _: NoParams| async move {
            Ok(api.system.dependencies().await?.missing)
        }),
        row("install_missing_dependencies", |api, _: NoParams| async move {
            api.system.install_missing().await?;
            Ok(true)
        }),
        row("install_deps", |api, _: NoParams| async move {
            api.system.install_missing().await?;
            Ok(Done {})
        }),
    ]
}

/// The first GPU is shown without its name.
fn load(resources: &Resources) -> Value {
    let mut shown = json!(resources);
    if let Some(Value::Object(gpu)) = shown.get_mut("gpu") {
        gpu.shift_remove("name");
    }
    shown
}
