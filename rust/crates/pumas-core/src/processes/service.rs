//! Running apps: start, watch, stop, and find again what an earlier sidecar of this root started.
//!
//! Knows apps by their descriptions, and versions by [`VersionService`]. At most one run per app. Events: `process.state` at
//! each change of a run, `process.log` with new lines while somebody follows them, `process.settings` when somebody chose
//! what becomes of them. What a poll asks is answered from memory.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use indexmap::IndexMap;
use serde_json::json;
use tokio::task::JoinSet;

use super::kernel;
use super::ledger::{Ledger, Record, exit_file, is_log, is_recognised};
use super::output;
use super::ports::{Holder, holder};
use super::run::{Run, with_leader};
use super::starting::{Wish, begin, check_arguments};
use super::usage::{Families, UsageMonitor};
use super::values::{GRACE, LogTail, OnExit, RunInfo, RunState, Stopped};
use super::watching::{follow_log, until_over, until_ready, who};
use crate::apps::{AppDescription, Apps, DEFAULT_APP};
use crate::blocking::blocking;
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::events::EventStream;
use crate::installed::Version;
use crate::storage::locked;
use crate::storage::state_lock::StateLock;
use crate::storage::troubles::Troubles;
use crate::versions::VersionService;

const STATE_TOPIC: &str = "process.state";
const SETTINGS_TOPIC: &str = "process.settings";
/// How long a start waits for the app to be ready before it answers that it is not yet.
const READY_WAIT: Duration = Duration::from_secs(8);
const OVER: Duration = Duration::from_millis(2500);
const LEAVE: Duration = Duration::from_millis(400);
const REMEMBERED: usize = 20;
const SUBJECT: &str = "launcher-data/metadata/processes.json";

/// Opens the page of an app: address, app, tag.
pub type ShowPage = Box<dyn Fn(String, String, String) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// What is to be started, and how.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// The app.
    pub app_id: String,
    /// None: the active version.
    pub tag: Option<String>,
    /// Go to the app as they are, after its own arguments.
    pub extra_args: Vec<String>,
    /// None: the app's own when it is free, else any; and another one when the app ends at once because somebody has
    /// taken that meanwhile.
    pub port: Option<u16>,
    /// Make the version the active one first.
    pub switch: bool,
    /// Note log and failure for [`ProcessService::last_launch`].
    pub remember: bool,
    /// Show the app's page once it is ready.
    pub open_page: bool,
}

/// Whether it ended at once, and somebody has bound the port that was free when it was chosen.
async fn lost_its_port(run: &Arc<Run>) -> Result<bool> {
    if run.is_going() || run.with(|now| now.asked_to_stop) {
        return Ok(false);
    }
    let port = run.record.port;
    blocking(move || Ok(holder(port, &[]) != Holder::Nobody)).await
}

#[derive(Default)]
struct Remembered {
    run: Option<Arc<Run>>,
    refusal: Option<String>,
}

struct Shared {
    layout: Arc<Layout>,
    events: EventStream,
    troubles: Arc<Troubles>,
    apps: Arc<Apps>,
    versions: VersionService,
    ledger: Ledger,
    show: OnceLock<ShowPage>,
    on_exit: Mutex<OnExit>,
    /// Two who choose at once: what is told last is what holds.
    changing: Mutex<()>,
    runs: Mutex<IndexMap<String, Arc<Run>>>,
    past: Mutex<VecDeque<Arc<Run>>>,
    starting: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    tasks: Mutex<JoinSet<()>>,
    closing: AtomicBool,
    usage: UsageMonitor,
    remembered: Mutex<Remembered>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct ProcessService {
    shared: Arc<Shared>,
}

impl ProcessService {
    /// Touches no disk.
    #[must_use]
    pub fn new(
        layout: &Arc<Layout>,
        events: EventStream,
        troubles: &Arc<Troubles>,
        apps: &Arc<Apps>,
        versions: VersionService,
    ) -> Self {
        let lock = StateLock::new(layout.state_lock());
        let shared = Shared {
            layout: Arc::clone(layout),
            events,
            troubles: Arc::clone(troubles),
            apps: Arc::clone(apps),
            versions,
            ledger: Ledger::new(layout.processes_file(), lock),
            show: OnceLock::new(),
            on_exit: Mutex::default(),
            changing: Mutex::default(),
            runs: Mutex::default(),
            past: Mutex::default(),
            starting: Mutex::default(),
            tasks: Mutex::default(),
            closing: AtomicBool::new(false),
            usage: UsageMonitor::default(),
            remembered: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Have `show(url, app_id, tag)` open the page of an app.
    pub fn show_pages_by(&self, show: ShowPage) {
        let _ = self.shared.show.set(show);
    }

    // -- life --------------------------------------------------------------------------------------------------------

    /// Find what an earlier sidecar started.
    ///
    /// # Errors
    /// The ledger cannot be put in order.
    pub async fn open(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let (found, gone) = blocking(move || shared.recall()).await?;
        for (record, app) in found {
            let (app_id, tag) = (&record.app_id, &record.tag);
            tracing::info!("{app_id} {tag}, process {}, runs on", record.leader);
            self.keep(record, None, app);
        }
        let shared = Arc::clone(&self.shared);
        // A root that cannot be written: the next start looks again.
        let _ = blocking(move || shared.ledger.remove(&gone)).await;
        Ok(())
    }

    /// Do with the apps what the setting says, and stop watching. Takes half a second at most.
    pub async fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        let going = self.shared.going();
        if *locked(&self.shared.on_exit) == OnExit::Stop && !going.is_empty() {
            let leaving = going.clone();
            let _ = blocking(move || {
                for run in leaving {
                    run.leave_to_keeper();
                }
                Ok(())
            })
            .await;
            join_all(going.iter().map(|run| run.wait(LEAVE))).await;
        }
        locked(&self.shared.tasks).abort_all();
    }

    // -- acting ------------------------------------------------------------------------------------------------------

    /// Start an app and wait some seconds for it to be ready; the state tells whether it is, or has ended already.
    ///
    /// # Errors
    /// `UnknownApp`, `NoActiveVersion`, `VersionNotFound`, `InvalidInput`, `FileUnavailable`: it is not there, or not whole.
    /// `DependencyFailed`: packages that it needs are missing. `AlreadyRunning`: this or another version of the app runs.
    /// `LaunchFailed`: it could not be started. What the disk refuses: nor written down.
    pub async fn launch(&self, wish: Launch) -> Result<RunInfo> {
        let mut run = self.launched(wish.clone(), None).await?;
        if wish.port.is_none() && lost_its_port(&run).await? {
            let port = run.record.port;
            tracing::info!(
                "{} is started again: another program took port {port} first",
                wish.app_id
            );
            run = self.launched(wish, Some(port)).await?;
        }
        Ok(self.info(&run))
    }

    /// Start it, and wait a while until it is ready or has ended. `avoid` is a port that it must not get.
    async fn launched(&self, wish: Launch, avoid: Option<u16>) -> Result<Arc<Run>> {
        let remember = wish.remember;
        let service = self.clone();
        // A caller that hangs up must not leave something half started.
        let started = tokio::spawn(async move { service.start(wish, avoid).await }).await;
        let started = started.unwrap_or_else(|error| Err(Error::Bug(error.to_string())));
        // What is known of a run that goes on stays.
        if remember && !matches!(started, Err(Error::AlreadyRunning { .. })) {
            *locked(&self.shared.remembered) = Remembered {
                run: started.as_ref().ok().map(Arc::clone),
                refusal: started.as_ref().err().map(ToString::to_string),
            };
        }
        let run = started?;
        let _ = tokio::time::timeout(READY_WAIT, run.settled.asked()).await;
        Ok(run)
    }

    /// End a run with all its processes: TERM, some seconds of grace, KILL. Without a run, the one of the app.
    ///
    /// # Errors
    /// `UnknownApp`, `ProcessNotFound`: there is no such app or run. `NotRunning`: nothing of it runs that we started.
    /// `StopFailed`: it is still there.
    pub async fn stop(&self, app_id: Option<String>, run_id: Option<String>) -> Result<Stopped> {
        let shared = Arc::clone(&self.shared);
        let app_id = app_id.unwrap_or_else(|| DEFAULT_APP.to_owned());
        let (run, name) = blocking(move || {
            let run = shared.find(&app_id, run_id.as_deref())?;
            let name = shared.name(run.as_ref().map_or(&app_id, |run| &run.record.app_id));
            Ok((run, name))
        })
        .await?;
        let Some(run) = run.filter(|run| run.is_going()) else {
            return Err(Error::NotRunning(name));
        };
        let stopped = run.end(GRACE).await?;
        run.wait(OVER).await;
        if stopped.processes == 0 {
            return Err(Error::NotRunning(name));
        }
        Ok(stopped)
    }

    /// What becomes of running apps when the sidecar ends.
    ///
    /// # Errors
    /// What the disk refuses.
    pub async fn set_on_exit(&self, wish: OnExit) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let _changing = locked(&shared.changing);
            shared.ledger.set_on_exit(wish)?;
            *locked(&shared.on_exit) = wish;
            let told = json!({"on_exit": wish});
            shared.events.publish(SETTINGS_TOPIC, &told);
            Ok(())
        })
        .await
    }

    // -- asking ------------------------------------------------------------------------------------------------------

    /// What becomes of running apps when the sidecar ends.
    #[must_use]
    pub fn on_exit(&self) -> OnExit {
        *locked(&self.shared.on_exit)
    }

    /// Where the numbers of what runs are kept.
    #[must_use]
    pub fn ledger_path(&self) -> String {
        self.shared.ledger.path.to_string_lossy().into_owned()
    }

    /// Log and failure of the last launch that was to be remembered, or what became of it since.
    #[must_use]
    pub fn last_launch(&self) -> (Option<String>, Option<String>) {
        let remembered = locked(&self.shared.remembered);
        match &remembered.run {
            Some(run) => (Some(run.record.log.clone()), run.with(|now| now.error.clone())),
            None => (None, remembered.refusal.clone()),
        }
    }

    /// Whether something of the app runs. From memory.
    #[must_use]
    pub fn is_running(&self, app_id: &str) -> bool {
        self.shared.going_of(app_id).is_some()
    }

    /// Whether this version runs. From memory, and from any thread.
    #[must_use]
    pub fn runs(&self, app_id: &str, tag: &str) -> bool {
        let run = self.shared.going_of(app_id);
        run.is_some_and(|run| run.record.tag == tag)
    }

    /// What runs, newest first, and what has ended of late when asked for. From memory.
    #[must_use]
    pub fn list(&self, ended: bool) -> Vec<RunInfo> {
        let mut runs = self.shared.going();
        if ended {
            runs.extend(locked(&self.shared.past).iter().cloned());
        }
        runs.sort_by(|one, other| other.record.started_at.cmp(&one.record.started_at));
        runs.iter().map(|run| self.info(run)).collect()
    }

    /// The end of a run's log; of the app's newest run when none is named. Reads no more than that.
    ///
    /// # Errors
    /// `UnknownApp`, `ProcessNotFound`, `FileUnavailable`, `DiskError`.
    pub async fn log(&self, app_id: Option<String>, run_id: Option<String>, lines: usize) -> Result<LogTail> {
        let shared = Arc::clone(&self.shared);
        let app_id = app_id.unwrap_or_else(|| DEFAULT_APP.to_owned());
        blocking(move || {
            let path = match shared.find(&app_id, run_id.as_deref())? {
                Some(run) => Some(run.record.log.clone()),
                None => shared.ledger.last_log(&shared.apps.get(&app_id)?.id),
            };
            let path = path.filter(|path| is_log(&shared.layout.logs(), Path::new(path)));
            let path = path.ok_or_else(|| {
                let reason = "it was not started yet, so there is no log";
                Error::unavailable(shared.name(&app_id), reason)
            })?;
            let (lines, cut) = output::tail(Path::new(&path), lines)?;
            Ok(LogTail {
                log_path: path,
                lines,
                cut,
            })
        })
        .await
    }

    // -- inside ------------------------------------------------------------------------------------------------------

    async fn start(&self, wish: Launch, avoid: Option<u16>) -> Result<Arc<Run>> {
        check_arguments(&wish.extra_args)?;
        let shared = Arc::clone(&self.shared);
        let app_id = wish.app_id.clone();
        let app = blocking(move || shared.apps.get(&app_id)).await?;
        let turn = {
            let mut starting = locked(&self.shared.starting);
            Arc::clone(starting.entry(app.id.clone()).or_default())
        };
        let _turn = turn.lock().await;
        let versions = &self.shared.versions;
        let version = match &wish.tag {
            None => versions.require_active(&app.id).await?,
            Some(tag) => versions.get(tag, &app.id).await?,
        };
        if let Some(running) = self.shared.going_of(&app.id) {
            return Err(Error::AlreadyRunning {
                app: app.name.clone(),
                tag: running.record.tag.clone(),
            });
        }
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(Error::Interrupted("The sidecar is stopping.".to_owned()));
        }
        versions.prepare(&version.tag, &app.id).await?;
        if wish.switch {
            versions.switch(&version.tag, &app.id).await?;
        }
        let begun = Wish {
            app: Arc::clone(&app),
            version: Version::from(version),
            extra_args: wish.extra_args,
            port: wish.port,
            taken: (self.shared.going().iter().map(|run| run.record.port))
                .chain(avoid)
                .collect(),
            grace: GRACE,
        };
        let shared = Arc::clone(&self.shared);
        let (record, keeper) = blocking(move || begin(&shared.layout, &shared.ledger, &begun)).await?;
        let run = self.keep(record, Some(keeper), Some(Arc::clone(&app)));
        if wish.open_page && !app.launch.page.is_empty() {
            let (service, run) = (self.clone(), Arc::clone(&run));
            self.spawn(async move { service.show_when_ready(&run, &app).await });
        }
        Ok(run)
    }

    async fn show_when_ready(&self, run: &Run, app: &AppDescription) -> Result<()> {
        run.settled.asked().await;
        let Some(show) = self.shared.show.get() else {
            return Ok(());
        };
        if run.state() == RunState::Ready {
            let url = format!("{}{}", run.url(), app.launch.page);
            let shown = show(url, run.record.app_id.clone(), run.record.tag.clone()).await;
            if let Err(error) = shown {
                // The app runs all the same.
                tracing::info!("the page of {} was not opened: {error}", app.name);
            }
        }
        Ok(())
    }

    /// Watch a run to its end; `app` is None when its description is gone, so that nobody can tell readiness.
    fn keep(&self, record: Record, keeper: Option<Child>, app: Option<Arc<AppDescription>>) -> Arc<Run> {
        let exits = exit_file(&self.shared.layout.cache(), &record.run_id);
        let run = Arc::new(Run::new(record, exits, keeper));
        locked(&self.shared.runs).insert(run.record.run_id.clone(), Arc::clone(&run));
        self.tell(&run);
        let name = app.as_ref().map_or(&run.record.app_id, |app| &app.name).clone();
        let (service, watched) = (self.clone(), Arc::clone(&run));
        self.spawn(async move { service.watch(watched, &name).await });
        self.spawn(follow_log(Arc::clone(&run), self.shared.events.clone()));
        if let Some(app) = app {
            let (service, waited) = (self.clone(), Arc::clone(&run));
            self.spawn(until_ready(waited, app, move |run| service.tell(run)));
        }
        run
    }

    async fn watch(&self, run: Arc<Run>, name: &str) -> Result<()> {
        until_over(&run, name).await?;
        // Off the list before anybody is told, so that a new start is possible at once.
        locked(&self.shared.runs).shift_remove(&run.record.run_id);
        {
            let mut past = locked(&self.shared.past);
            past.push_back(Arc::clone(&run));
            while past.len() > REMEMBERED {
                past.pop_front();
            }
        }
        let (shared, run_id) = (Arc::clone(&self.shared), run.record.run_id.clone());
        if let Err(error) = blocking(move || shared.ledger.remove(&[run_id])).await {
            // The next start finds that it is gone.
            tracing::warn!("the ledger of processes keeps an ended run: {error}");
        }
        run.over.ask();
        run.settled.ask();
        self.tell(&run);
        Ok(())
    }

    fn info(&self, run: &Run) -> RunInfo {
        let record = &run.record;
        let shared = Arc::clone(&self.shared);
        let usage = if run.is_going() {
            let latest = self.shared.usage.latest(move || shared.families());
            latest.get(&record.run_id).copied().unwrap_or_default()
        } else {
            super::values::Usage::default()
        };
        run.with(|now| RunInfo {
            run_id: record.run_id.clone(),
            app_id: record.app_id.clone(),
            tag: record.tag.clone(),
            state: now.state,
            ready: now.state == RunState::Ready,
            pid: record.leader,
            port: record.port,
            url: run.url(),
            log_path: record.log.clone(),
            started_at: record.started_at.clone(),
            adopted: run.adopted,
            exit_code: now.exit_code,
            error: now.error.clone(),
            usage,
        })
    }

    fn tell(&self, run: &Run) {
        let mut facts = who(run);
        run.with(|now| {
            facts["state"] = json!(now.state);
            facts["pid"] = json!(run.record.leader);
            facts["port"] = json!(run.record.port);
            facts["exit_code"] = json!(now.exit_code);
            facts["error"] = json!(now.error);
        });
        self.shared.events.publish(STATE_TOPIC, &facts);
    }

    fn spawn(&self, work: impl Future<Output = Result<()>> + Send + 'static) {
        let mut tasks = locked(&self.shared.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            if let Err(Error::Bug(error)) = work.await {
                tracing::error!("watching an app failed by a bug: {error}");
            }
        });
    }
}

impl Shared {
    /// Blocks. (what runs on, ids of what does not)
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn recall(&self) -> Result<(Vec<(Record, Option<Arc<AppDescription>>)>, Vec<String>)> {
        let contents = self.ledger.load()?;
        if let Some(wrong) = contents.wrong {
            let text = format!("{wrong}; what it named is left alone.");
            self.troubles.report(SUBJECT, "damaged_state", &text);
            tracing::warn!("{wrong}");
        }
        *locked(&self.on_exit) = contents.on_exit;
        let (mut found, mut gone) = (Vec::new(), Vec::new());
        for record in contents.runs {
            if is_recognised(&record) && is_log(&self.layout.logs(), Path::new(&record.log)) {
                let app = self.apps.get(&record.app_id).ok();
                found.push((with_leader(record), app));
            } else {
                let _ = std::fs::remove_file(exit_file(&self.layout.cache(), &record.run_id));
                gone.push(record.run_id);
            }
        }
        Ok((found, gone))
    }

    fn going(&self) -> Vec<Arc<Run>> {
        let runs = locked(&self.runs);
        runs.values().filter(|run| run.is_going()).cloned().collect()
    }

    fn going_of(&self, app_id: &str) -> Option<Arc<Run>> {
        self.going().into_iter().find(|run| run.record.app_id == app_id)
    }

    fn families(&self) -> Families {
        let runs = self.going();
        let everyone = if runs.is_empty() {
            kernel::Table::new()
        } else {
            kernel::table()
        };
        let family = |run: Arc<Run>| (run.record.run_id.clone(), run.family_in(&everyone));
        runs.into_iter().map(family).collect()
    }

    /// The run meant. Blocks.
    fn find(&self, app_id: &str, run_id: Option<&str>) -> Result<Option<Arc<Run>>> {
        let mut runs: Vec<Arc<Run>> = locked(&self.runs).values().cloned().collect();
        runs.extend(locked(&self.past).iter().cloned());
        if let Some(run_id) = run_id {
            let found = runs.into_iter().find(|run| run.record.run_id == run_id);
            return found
                .map(Some)
                .ok_or_else(|| Error::ProcessNotFound(run_id.to_owned()));
        }
        let app_id = &self.apps.get(app_id)?.id;
        runs.retain(|run| run.record.app_id == *app_id);
        let going = runs.iter().find(|run| run.is_going()).cloned();
        Ok(going.or_else(|| runs.pop()))
    }

    fn name(&self, app_id: &str) -> String {
        let app = self.apps.get(app_id);
        app.map_or_else(|_| app_id.to_owned(), |app| app.name.clone())
    }
}
