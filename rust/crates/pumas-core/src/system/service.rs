//! What `get_status`, `get_system_resources` and their like report.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use serde::Serialize;

use super::dependencies::{self, Dependencies};
use super::disk::{self, DiskSpace, rounded};
use super::resources::{ResourceMonitor, Resources};
use super::sampling::{Pace, Sampler};
use super::sandbox::{self, Sandbox};
use crate::blocking::blocking;
use crate::error::{Error, Result};

/// The app that older parts of the interface are about.
const COMFYUI: &str = "comfyui";
const DISK_MAX_AGE: Duration = Duration::from_secs(2);
/// Often, because the user may be installing what was missing. While somebody polls, the thread lives.
const DEPENDENCIES: Pace = Pace {
    max_age: Duration::from_secs(6),
    interval: Duration::from_secs(5),
    park_after: Duration::from_secs(10),
    window: Duration::ZERO,
    answer_within: Duration::from_secs(2),
};
const STATUS_MAX_AGE: Duration = Duration::from_secs(10);

/// A running app with all its children.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AppProcess {
    /// Of its first process.
    pub pid: u32,
    /// Which app.
    pub app_id: String,
    /// `pid_file`, and then `pid_file` says which, or `process_scan`, and then `cmd` is its command line.
    pub source: String,
    /// Its version.
    pub tag: Option<String>,
    /// Percent of one core; may exceed 100.
    pub cpu_usage: f64,
    /// GiB.
    pub ram_memory: f64,
    /// GiB.
    pub gpu_memory: f64,
    /// See `source`.
    pub pid_file: Option<String>,
    /// See `source`.
    pub cmd: Option<String>,
}

/// The last known release check of the app; nothing known, nothing claimed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReleaseInfo {
    /// Whether a newer version is there.
    pub has_update: bool,
    /// The newest.
    pub latest_version: Option<String>,
    /// The active one.
    pub current_version: Option<String>,
}

/// What is known of the apps. All but `processes` is about `ComfyUI`.
#[derive(Debug, Clone, Default)]
pub struct AppsReport {
    /// What runs.
    pub processes: Vec<AppProcess>,
    /// The active version.
    pub active_tag: Option<String>,
    /// Path of the newest log.
    pub last_launch_log: Option<String>,
    /// Why the last launch failed.
    pub last_launch_error: Option<String>,
    /// Whether the active version is patched.
    pub patched: bool,
    /// Whether its shortcut stands in the menu.
    pub menu_shortcut: bool,
    /// Whether its shortcut lies on the desktop.
    pub desktop_shortcut: bool,
    /// The newest release.
    pub release_info: ReleaseInfo,
    /// A sentence only when the user should act.
    pub message: String,
}

/// Who knows the apps. Asked twice a second: it answers from memory.
pub trait RunningApps: Send + Sync {
    /// What is known now.
    fn report(&self) -> BoxFuture<'_, Result<AppsReport>>;
}

/// Sums over an app's processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct AppResources {
    /// Percent of one core.
    pub cpu: f64,
    /// GiB.
    pub ram_memory: f64,
    /// GiB.
    pub gpu_memory: f64,
}

/// The facts of `get_status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Of this program.
    pub version: &'static str,
    /// Whether nothing is missing.
    pub deps_ready: bool,
    /// What is.
    pub missing_deps: Vec<String>,
    /// Whether the active version is patched.
    pub patched: bool,
    /// Whether its shortcut stands in the menu.
    pub menu_shortcut: bool,
    /// Whether its shortcut lies on the desktop.
    pub desktop_shortcut: bool,
    /// The active tag of `ComfyUI`.
    pub shortcut_version: Option<String>,
    /// Whether it runs.
    pub comfyui_running: bool,
    /// What runs.
    pub running_processes: Vec<AppProcess>,
    /// By app, for those that run.
    pub app_resources: serde_json::Map<String, serde_json::Value>,
    /// A sentence only when the user should act.
    pub message: String,
    /// The newest release.
    pub release_info: ReleaseInfo,
    /// Path of the newest log.
    pub last_launch_log: Option<String>,
    /// Why the last launch failed.
    pub last_launch_error: Option<String>,
}

/// Everything here may be polled. Fails with `TimedOut` where the machine does not answer within two seconds.
pub struct SystemService {
    apps: Option<Arc<dyn RunningApps>>,
    resources: ResourceMonitor,
    disk: Sampler<DiskSpace>,
    sandbox: Sampler<Sandbox>,
    dependencies: Sampler<Dependencies>,
}

impl SystemService {
    /// `root` is the launcher root, whose disk is measured; without `apps`, nothing is known to run.
    #[must_use]
    pub fn new(root: PathBuf, apps: Option<Arc<dyn RunningApps>>) -> Self {
        let resources = ResourceMonitor::new(root.clone());
        let root: Arc<PathBuf> = Arc::new(root);
        let detect = || {
            let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
            Ok(sandbox::detect(std::path::Path::new("/"), is_set))
        };
        Self {
            apps,
            resources,
            disk: Sampler::when_asked("free disk space", move || disk::measure(&root), DISK_MAX_AGE),
            sandbox: Sampler::when_asked("sandbox", detect, Duration::MAX),
            dependencies: Sampler::new(
                "dependencies",
                Arc::new(|| Box::new(|| Ok(dependencies::look()))),
                DEPENDENCIES,
            ),
        }
    }

    /// The load of processor, memory, disk and GPUs, at most three seconds old.
    ///
    /// # Errors
    /// `DiskError`, `TimedOut`.
    pub async fn resources(&self) -> Result<Resources> {
        self.resources.latest().await
    }

    /// The file system of the launcher root.
    ///
    /// # Errors
    /// `DiskError`, `TimedOut`.
    pub async fn disk_space(&self) -> Result<DiskSpace> {
        self.disk.latest().await
    }

    /// The sandbox around the sidecar; it cannot change while the process lives.
    ///
    /// # Errors
    /// `TimedOut`.
    pub async fn sandbox(&self) -> Result<Sandbox> {
        self.sandbox.latest().await
    }

    /// Which programs are there.
    ///
    /// # Errors
    /// `TimedOut`.
    pub async fn dependencies(&self) -> Result<Dependencies> {
        self.dependencies.latest().await
    }

    /// Done when nothing is missing: programs of the system are never installed by us.
    ///
    /// # Errors
    /// `InstallFailed` names what the user has to install.
    pub async fn install_missing(&self) -> Result<()> {
        let found = blocking(|| Ok(dependencies::look())).await?;
        if found.ready() {
            return Ok(());
        }
        Err(Error::InstallFailed {
            stage: "packages".to_owned(),
            reason: format!(
                "Still missing after the installation: {}.",
                found.missing.join(", ")
            ),
        })
    }

    /// The apps that run, with what they use.
    ///
    /// # Errors
    /// `TimedOut`.
    pub async fn processes(&self) -> Result<Vec<AppProcess>> {
        match &self.apps {
            Some(apps) => Ok(apps.report().await?.processes),
            None => Ok(Vec::new()),
        }
    }

    /// The state of the launcher; never the network, never another program.
    ///
    /// # Errors
    /// `TimedOut`.
    pub async fn status(&self) -> Result<Status> {
        let found = self.dependencies.recent(STATUS_MAX_AGE).await?;
        let apps = match &self.apps {
            Some(apps) => apps.report().await?,
            None => AppsReport::default(),
        };
        let resources = sums(&apps.processes);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            deps_ready: found.ready(),
            message: if found.ready() {
                apps.message
            } else {
                what_to_add(&found.missing)
            },
            missing_deps: found.missing,
            patched: apps.patched,
            menu_shortcut: apps.menu_shortcut,
            desktop_shortcut: apps.desktop_shortcut,
            shortcut_version: apps.active_tag,
            comfyui_running: resources.contains_key(COMFYUI),
            running_processes: apps.processes,
            app_resources: resources
                .into_iter()
                .map(|(app_id, used)| (app_id, serde_json::json!(used)))
                .collect(),
            release_info: apps.release_info,
            last_launch_log: apps.last_launch_log,
            last_launch_error: apps.last_launch_error,
        })
    }

    /// Stop all reading; callers still waiting get `Interrupted`.
    pub async fn close(&self) {
        tokio::join!(
            self.resources.close(),
            self.disk.close(),
            self.sandbox.close(),
            self.dependencies.close()
        );
    }
}

fn what_to_add(missing: &[String]) -> String {
    let missing = missing.join(", ");
    format!("Parts of this installation are missing ({missing}); run './launcher setup' to add them.")
}

/// Each app once, in the order of its first process.
fn sums(processes: &[AppProcess]) -> IndexMap<String, AppResources> {
    let mut sums: IndexMap<String, AppResources> = IndexMap::new();
    for process in processes {
        let sum = sums.entry(process.app_id.clone()).or_default();
        sum.cpu += process.cpu_usage;
        sum.ram_memory += process.ram_memory;
        sum.gpu_memory += process.gpu_memory;
    }
    for sum in sums.values_mut() {
        sum.cpu = rounded(sum.cpu, 1);
        sum.ram_memory = rounded(sum.ram_memory, 2);
        sum.gpu_memory = rounded(sum.gpu_memory, 2);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(app_id: &str, cpu_usage: f64) -> AppProcess {
        AppProcess {
            pid: 1,
            app_id: app_id.to_owned(),
            source: "pid_file".to_owned(),
            tag: None,
            cpu_usage,
            ram_memory: 0.111,
            gpu_memory: 0.0,
            pid_file: None,
            cmd: None,
        }
    }

    struct Apps;

    impl RunningApps for Apps {
        fn report(&self) -> BoxFuture<'_, Result<AppsReport>> {
            let processes = vec![
                process(COMFYUI, 10.04),
                process("ollama", 5.0),
                process(COMFYUI, 0.1),
            ];
            Box::pin(async {
                Ok(AppsReport {
                    processes,
                    ..AppsReport::default()
                })
            })
        }
    }

    #[tokio::test]
    async fn the_status_sums_what_each_app_uses() {
        let service = SystemService::new(PathBuf::from("/"), Some(Arc::new(Apps)));
        let status = service.status().await.unwrap();
        assert!(status.comfyui_running);
        assert_eq!(status.app_resources[COMFYUI]["cpu"].to_string(), "10.1");
        assert_eq!(status.app_resources[COMFYUI]["ram_memory"].to_string(), "0.22");
        assert!(service.disk_space().await.unwrap().total > 0);
        service.sandbox().await.unwrap();
        service.close().await;
        assert!(matches!(service.status().await, Err(Error::Interrupted(_))));
    }
}
