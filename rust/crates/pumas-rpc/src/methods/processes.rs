//! Running apps: start, stop, list, log, and the server's title.

use pumas_core::Error;
use pumas_core::apps::DEFAULT_APP;
use pumas_core::processes::{Launch, OnExit, RunInfo, RunState};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::registry::{NoParams, Row, row};

#[derive(Deserialize)]
struct LaunchComfyui {
    open_page: bool,
}

#[derive(Deserialize)]
struct LaunchVersion {
    tag: String,
    extra_args: Option<Vec<String>>,
    app_id: String,
    open_page: bool,
}

#[derive(Deserialize)]
struct LaunchApp {
    app_id: String,
    tag: Option<String>,
    extra_args: Option<Vec<String>>,
    port: Option<u16>,
    open_page: bool,
}

#[derive(Deserialize)]
struct WhichRun {
    app_id: Option<String>,
    run_id: Option<String>,
}

#[derive(Deserialize)]
struct WhichLog {
    app_id: Option<String>,
    run_id: Option<String>,
    lines: usize,
}

#[derive(Deserialize)]
struct List {
    ended: bool,
}

#[derive(Deserialize)]
struct WhichVersion {
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Set {
    on_exit: OnExit,
}

#[derive(Deserialize)]
struct Check {
    force_refresh: bool,
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = launches();
    rows.extend(runs());
    rows.extend(title());
    rows
}

fn launches() -> Vec<Row> {
    vec![
        row("launch_comfyui", |api, p: LaunchComfyui| async move {
            let wish = Launch {
                app_id: DEFAULT_APP.to_owned(),
                remember: true,
                open_page: p.open_page,
                ..Launch::default()
            };
            Ok(launched(&api.processes.launch(wish).await?))
        }),
        row("launch_version", |api, p: LaunchVersion| async move {
            let wish = Launch {
                app_id: p.app_id,
                tag: Some(p.tag),
                extra_args: p.extra_args.unwrap_or_default(),
                switch: true,
                open_page: p.open_page,
                ..Launch::default()
            };
            Ok(launched(&api.processes.launch(wish).await?))
        }),
        row("launch_app", |api, p: LaunchApp| async move {
            let wish = Launch {
                app_id: p.app_id,
                tag: p.tag,
                extra_args: p.extra_args.unwrap_or_default(),
                port: p.port,
                open_page: p.open_page,
                ..Launch::default()
            };
            Ok(launched(&api.processes.launch(wish).await?))
        }),
        row("stop_comfyui", |api, _: NoParams| async move {
            Ok(api.processes.stop(Some(DEFAULT_APP.to_owned()), None).await?)
        }),
        row("stop_app", |api, p: WhichRun| async move {
            Ok(api.processes.stop(p.app_id, p.run_id).await?)
        }),
    ]
}

fn runs() -> Vec<Row> {
    vec![
        row("is_comfyui_running", |api, _: NoParams| async move {
            Ok(api.processes.is_running(DEFAULT_APP))
        }),
        row("list_processes", |api, p: List| async move {
            Ok(json!({"processes": api.processes.list(p.ended)}))
        }),
        row("get_process_log", |api, p: WhichLog| async move {
            Ok(api.processes.log(p.app_id, p.run_id, p.lines).await?)
        }),
        row("get_process_settings", |api, _: NoParams| async move {
            Ok(json!({"on_exit": api.processes.on_exit()}))
        }),
        row("set_process_settings", |api, p: Set| async move {
            api.processes.set_on_exit(p.on_exit).await?;
            Ok(json!({"on_exit": api.processes.on_exit()}))
        }),
        row("get_comfyui_version", |api, _: NoParams| async move {
            let release = api.apps_status.release(true).await?;
            Ok(release.current_version.unwrap_or_else(|| "Unknown".to_owned()))
        }),
        row("check_for_new_release", |api, p: Check| async move {
            Ok(api.apps_status.release(p.force_refresh).await?)
        }),
    ]
}

fn title() -> Vec<Row> {
    vec![
        row("is_patched", |api, p: WhichVersion| async move {
            Ok(api.patching.is_patched(p.tag).await?)
        }),
        row("patch_main_py", |api, p: WhichVersion| async move {
            Ok(api.patching.patch(p.tag).await?)
        }),
        row("revert_main_py", |api, p: WhichVersion| async move {
            Ok(api.patching.revert(p.tag).await?)
        }),
        row("toggle_patch", |api, p: WhichVersion| async move {
            Ok(json!({"patched": api.patching.toggle(p.tag).await?}))
        }),
    ]
}

fn launched(run: &RunInfo) -> Value {
    let runs = run.state != RunState::Exited;
    let mut reply = json!({
        "success": runs,
        "ready": runs.then_some(run.ready),
        "log_path": run.log_path,
        "error": run.error,
        "run_id": run.run_id,
        "pid": run.pid,
        "port": run.port,
        "url": run.url,
    });
    if !runs {
        reply["error_code"] = json!(Error::LaunchFailed(String::new()).kind());
        if run.error.is_none() {
            reply["error"] = json!("It was stopped before it was ready.");
        }
    }
    reply
}
