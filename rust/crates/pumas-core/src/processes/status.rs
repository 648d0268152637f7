//! What `get_status` says of the apps, put together from memory and from facts that are looked up behind.
//!
//! Which version is active, which shortcuts it has and which release is newest is asked of others, at most once a second
//! while somebody polls, and never while somebody waits: a poll is answered with what was found before. Only the first
//! after a change that was made here looks itself, so that who did something sees it done.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::patch;
use super::patching::Patching;
use super::service::ProcessService;
use super::values::{RunInfo, RunState};
use crate::apps::DEFAULT_APP;
use crate::blocking::blocking;
use crate::desktop::DesktopService;
use crate::error::{Error, Result};
use crate::storage::locked;
use crate::system::{AppProcess, AppsReport, ReleaseInfo, RunningApps};
use crate::versions::VersionService;

/// Facts are looked up anew when they are so old.
const MAX_AGE: Duration = Duration::from_secs(1);
/// They are not given out at all then: who asks now and then is not told what was long ago.
const USELESS: Duration = Duration::from_secs(2);
/// They are waited for so long when there are none.
const ANSWER: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Default)]
struct Facts {
    patched: bool,
    menu: bool,
    desktop: bool,
    release: ReleaseInfo,
}

#[derive(Clone)]
struct Found {
    at: Instant,
    /// So many changes were made before it was looked.
    changes: u64,
    facts: Facts,
}

#[derive(Default)]
struct State {
    found: Option<Found>,
    is_looking: bool,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct AppsStatus {
    processes: ProcessService,
    versions: VersionService,
    desktop: DesktopService,
    patching: Patching,
    state: Arc<Mutex<State>>,
}

impl AppsStatus {
    /// Looks at nothing yet.
    #[must_use]
    pub fn new(
        processes: ProcessService,
        versions: VersionService,
        desktop: DesktopService,
        patching: Patching,
    ) -> Self {
        Self {
            processes,
            versions,
            desktop,
            patching,
            state: Arc::default(),
        }
    }

    /// The version in use and the newest release that is known; `anew` looks now.
    ///
    /// # Errors
    /// `TimedOut`.
    pub async fn release(&self, anew: bool) -> Result<ReleaseInfo> {
        let facts = if anew {
            self.soon().await?
        } else {
            self.recent().await?
        };
        Ok(facts.release)
    }

    async fn recent(&self) -> Result<Facts> {
        let known = locked(&self.state).found.clone();
        match known {
            Some(found) if found.at.elapsed() <= USELESS && found.changes >= self.changes() => {
                if found.at.elapsed() > MAX_AGE {
                    self.look_behind();
                }
                Ok(found.facts)
            }
            _ => self.soon().await,
        }
    }

    /// From memory; grows with each change that was made here of what is looked at.
    fn changes(&self) -> u64 {
        self.versions.changes() + self.desktop.changes() + self.patching.changes()
    }

    fn look_behind(&self) {
        if std::mem::replace(&mut locked(&self.state).is_looking, true) {
            return;
        }
        let status = self.clone();
        tokio::spawn(async move {
            let _ = status.look().await;
            locked(&status.state).is_looking = false;
        });
    }

    async fn soon(&self) -> Result<Facts> {
        tokio::time::timeout(ANSWER, self.look())
            .await
            .unwrap_or_else(|_| {
                Err(Error::TimedOut(format!(
                    "Looking at the installed versions takes longer than {} s.",
                    ANSWER.as_secs()
                )))
            })
    }

    /// A part that cannot be known takes nothing from the rest; its own methods say why.
    async fn look(&self) -> Result<Facts> {
        let changes = self.changes();
        let version = self.versions.active(DEFAULT_APP).await.ok().flatten();
        let newest = self.versions.offers.newest(DEFAULT_APP).await.ok().flatten();
        let mut facts = Facts::default();
        if let Some(version) = &version {
            if let Ok(state) = self.desktop.state(version.tag.clone()).await {
                (facts.menu, facts.desktop) = (state.menu, state.desktop);
            }
            let folder = version.folder.clone();
            facts.patched = blocking(move || Ok(patch::is_patched(&folder))).await?;
        }
        let current = version.map(|version| version.tag);
        facts.release = ReleaseInfo {
            has_update: current.is_some() && newest.is_some() && newest != current,
            latest_version: newest,
            current_version: current,
        };
        let mut state = locked(&self.state);
        if state.found.as_ref().is_none_or(|found| found.changes <= changes) {
            state.found = Some(Found {
                at: Instant::now(),
                changes,
                facts: facts.clone(),
            });
        }
        Ok(facts)
    }

    async fn told(&self) -> Result<AppsReport> {
        let facts = self.recent().await?;
        let runs = self.processes.list(false);
        let (last_launch_log, last_launch_error) = self.processes.last_launch();
        let ledger = self.processes.ledger_path();
        Ok(AppsReport {
            processes: runs.iter().map(|run| process(run, &ledger)).collect(),
            active_tag: facts.release.current_version.clone(),
            last_launch_log,
            last_launch_error,
            patched: facts.patched,
            menu_shortcut: facts.menu,
            desktop_shortcut: facts.desktop,
            release_info: facts.release,
            message: message(&runs),
        })
    }
}

impl RunningApps for AppsStatus {
    fn report(&self) -> BoxFuture<'_, Result<AppsReport>> {
        self.told().boxed()
    }
}

fn process(run: &RunInfo, ledger: &str) -> AppProcess {
    AppProcess {
        pid: run.pid,
        app_id: run.app_id.clone(),
        source: "pid_file".to_owned(),
        tag: Some(run.tag.clone()),
        cpu_usage: run.usage.cpu,
        ram_memory: run.usage.ram,
        gpu_memory: run.usage.gpu,
        pid_file: Some(ledger.to_owned()),
        cmd: None,
    }
}

/// Only an app that does not get ready asks something of the user.
fn message(runs: &[RunInfo]) -> String {
    let mut stuck = runs.iter().filter(|run| run.state == RunState::NotAnswering);
    stuck.find_map(|run| run.error.clone()).unwrap_or_default()
}
