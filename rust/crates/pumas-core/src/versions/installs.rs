//! Installations for callers, and the runner of their jobs: accept, follow, cancel, and end whatever happens.
//!
//! Each is a job of the kind `install`; what it does stands in `installing`. At most one per app.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::dependencies::install_dependencies;
use super::fetching::Archive;
use super::installing::{Install, Plan};
use super::known::{Known, OneApp};
use super::offers::newest_of;
use super::progress::Progress;
use super::rates::{Action, Rates};
use super::releases::not_found;
use super::running::{Check, InstallLog, Programs};
use super::service::OfVersion;
use super::state::InstalledVersion;
use super::tags::check_tag;
use super::undoing::prune_replaced;
use crate::apps::DEFAULT_APP;
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::jobs::{Job, JobContext, JobService, JobState, Kind, ListJobs, Progress as JobProgress};
use crate::storage::json_file::JsonObject;
use crate::storage::locked;

const INSTALL: &str = "install";
const AT_ONCE: usize = 2;
const LONGEST: Duration = Duration::from_hours(30 * 24);
const LOGS_KEPT: usize = 20;
const MOST_JOBS: u32 = 1000;
const TELL: Duration = Duration::from_millis(250);
const BUG: &str = "Internal error; the log has the details.";
const CANCELLED: &str = "Installation cancelled";

/// Installations of all apps. Cheap to clone.
#[derive(Clone)]
pub struct Installs {
    known: Arc<Known>,
    jobs: JobService,
    rates: Arc<Rates>,
    after: Arc<Mutex<Vec<OfVersion>>>,
}

impl Installs {
    pub(super) fn new(known: Arc<Known>, jobs: JobService, rates: Arc<Rates>) -> Self {
        let installs = Self {
            known,
            jobs,
            rates,
            after: Arc::default(),
        };
        let runner = installs.clone();
        let run = move |context, params| {
            let runner = runner.clone();
            async move { runner.run(context, params).await }
        };
        installs.jobs.register(INSTALL, Kind::new(run).at_once(AT_ONCE));
        installs
    }

    /// Have `call` done at the end of each installation (mapping models, patching, …). What it fails with is a warning of
    /// the installation.
    pub fn after(&self, call: OfVersion) {
        locked(&self.after).push(call);
    }

    /// Ids of the jobs that may go on.
    pub(super) async fn unfinished(&self) -> Result<HashSet<String>> {
        let wanted = ListJobs {
            kind: Some(INSTALL.to_owned()),
            states: vec![JobState::Queued, JobState::Running, JobState::Paused],
            limit: MOST_JOBS,
            offset: 0,
        };
        let jobs = self.jobs.list(wanted).await?;
        Ok(jobs.into_iter().map(|job| job.id).collect())
    }

    /// Resume what a stop or a kill interrupted.
    pub(super) async fn go_on(&self) -> Result<()> {
        self.jobs.go_on(INSTALL).await.map(|_| ())
    }

    // -- calls -------------------------------------------------------------------------------------------------------

    /// Accept an installation and return its job at once. `replace`: build it anew although it is there; `activate`: use
    /// it then.
    ///
    /// # Errors
    /// `UnknownApp`, `InvalidInput`, `TooManyCalls`, `ReleaseNotFound`, `AlreadyExists`, `Busy`, `CorruptState`.
    pub async fn install(&self, tag: &str, app_id: &str, replace: bool, activate: bool) -> Result<Job> {
        let one = self.known.of(app_id).await?;
        let tag = check_tag(tag)?.to_owned();
        self.rates.count(Action::Install)?;
        let _installing = one.installing.lock().await;
        if one.now().job_id.is_some() {
            let name = &one.app.name;
            let text = format!("Another version of {name} is being installed; wait for it or cancel it.");
            return Err(Error::Busy(text));
        }
        let (known, of, wanted) = (Arc::clone(&self.known), Arc::clone(&one), tag.clone());
        let plan = blocking(move || plan(&known, &of, &wanted, replace, activate)).await?;
        let title = format!("{} {tag}", one.app.name);
        self.start(&one, &tag, json!({"plan": plan}), &title).await
    }

    /// The tag that an update brings.
    pub(super) async fn newest(&self, app_id: &str) -> Result<String> {
        let newest = |one: &OneApp| {
            newest_of(one).ok_or_else(|| not_found(&one.app.name, "newest", "is not known yet"))
        };
        self.known.with(app_id, newest).await
    }

    /// Bring what an installed version lacks into its environment; a job.
    ///
    /// # Errors
    /// `UnknownApp`, `VersionNotFound`, `InvalidInput`, `CorruptState`, `Busy`.
    pub async fn install_dependencies(&self, tag: &str, app_id: &str) -> Result<Job> {
        let one = self.known.of(app_id).await?;
        if one.app.python.is_none() {
            let reason = format!("{} has no Python environment", one.app.name);
            return Err(Error::invalid("app_id", reason));
        }
        let (of, tag) = (Arc::clone(&one), tag.to_owned());
        let tag = blocking(move || {
            of.state.require_trusted()?;
            Ok(with_or_without_environment(&of, &tag)?.tag)
        })
        .await?;
        let _installing = one.installing.lock().await;
        if one.now().job_id.is_some() {
            let name = &one.app.name;
            let text = format!("A version of {name} is being installed; wait for it or cancel it.");
            return Err(Error::Busy(text));
        }
        let params = json!({"dependencies": {"app_id": one.app.id, "tag": tag}});
        let title = format!("Dependencies of {} {tag}", one.app.name);
        self.start(&one, &tag, params, &title).await
    }

    /// The newest installation of this run, None when there was none.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub async fn progress(&self, app_id: &str) -> Result<Option<JsonObject>> {
        let one = self.known.of(app_id).await?;
        Ok(one.now().progress.map(|progress| progress.snapshot()))
    }

    /// Stop the installation of an app, or with None of whichever app is installing, the default app first.
    ///
    /// # Errors
    /// `TooManyCalls`, `WrongJobState`: nothing is being installed. `UnknownApp`.
    pub async fn cancel(&self, app_id: Option<&str>) -> Result<Job> {
        self.rates.count(Action::Cancel)?;
        let one = match app_id {
            Some(app_id) => Some(self.known.of(app_id).await?),
            None => {
                let busy = self
                    .known
                    .made()
                    .into_iter()
                    .filter(|one| one.now().job_id.is_some());
                busy.min_by_key(|one| one.app.id != DEFAULT_APP)
            }
        };
        match one.and_then(|one| one.now().job_id) {
            Some(job_id) => self.jobs.cancel(&job_id).await,
            None => Err(Error::WrongJobState("Nothing is being installed.".to_owned())),
        }
    }

    // -- accepting ---------------------------------------------------------------------------------------------------

    async fn start(&self, one: &Arc<OneApp>, tag: &str, params: Value, title: &str) -> Result<Job> {
        let progress = self.new_progress(one, tag);
        {
            let mut now = locked(&one.now);
            now.progress = Some(Arc::clone(&progress));
            now.job_id = Some("starting".to_owned());
        }
        let started = self.jobs.start(INSTALL, params, title).await;
        let job = started.inspect_err(|_| *locked(&one.now) = super::known::Now::default())?;
        {
            let mut now = locked(&one.now);
            // It may have ended already.
            if now.job_id.as_deref() == Some("starting") {
                now.job_id = Some(job.id.clone());
            }
        }
        let (installs, one, job_id) = (self.clone(), Arc::clone(one), job.id.clone());
        self.known
            .spawn(async move { installs.see_end(&one, &job_id, &progress).await });
        Ok(job)
    }

    /// A job that is stopped before it began never comes to the runner.
    async fn see_end(&self, one: &OneApp, job_id: &str, progress: &Arc<Progress>) {
        let Ok(job) = self.jobs.wait(job_id, LONGEST).await else {
            return;
        };
        let is_its = {
            let mut now = locked(&one.now);
            let is_its = now.job_id.as_deref() == Some(job_id);
            if is_its {
                now.job_id = None;
            }
            is_its
        };
        if is_its {
            let progress = Arc::clone(progress);
            let _ = blocking(move || {
                progress.end(Some(job.error.as_deref().unwrap_or(CANCELLED)));
                Ok(())
            })
            .await;
        }
    }

    fn new_progress(&self, one: &OneApp, tag: &str) -> Arc<Progress> {
        let layout = &self.known.layout;
        let log = layout
            .logs()
            .join(format!("install-{tag}-{}.log", Timestamp::now().as_second()));
        let path = layout.cache().join(one.app.progress_file());
        let (events, app_id) = (self.known.events.clone(), one.app.id.clone());
        let told = move |record: &JsonObject| {
            // An event need not repeat every package.
            let mut brief = JsonObject::from_iter([("app_id".to_owned(), json!(app_id))]);
            let kept = record.iter().filter(|(key, _)| *key != "completed_items");
            brief.extend(kept.map(|(key, value)| (key.clone(), value.clone())));
            events.publish("install.progress", &brief);
        };
        Arc::new(Progress::new(tag, path, log, Box::new(told)))
    }

    // -- running -----------------------------------------------------------------------------------------------------

    /// The runner of installs: everything that is not the job's state ends here, whatever happens.
    async fn run(&self, context: JobContext, params: Value) -> Result<Value> {
        let is_install = params.get("plan").is_some();
        let wanted = params.get("plan").or_else(|| params.get("dependencies"));
        let word = |key: &str| {
            let value = wanted.and_then(|wanted| wanted.get(key)).and_then(Value::as_str);
            value.ok_or_else(|| Error::Bug(format!("an installation without {key}")))
        };
        let (app_id, tag) = (word("app_id")?, word("tag")?.to_owned());
        let one = self.known.of(app_id).await?;
        let progress = self.taken_up(&one, &context.job_id(), &tag)?;
        let mut guard = Ending {
            installs: self.clone(),
            one: Arc::clone(&one),
            progress: Some(Arc::clone(&progress)),
        };
        let outcome = self
            .carried_out(&context, &one, &progress, params.clone(), is_install)
            .await;
        let told = match &outcome {
            Ok(_) => None,
            Err(Error::Cancelled(_)) => Some(CANCELLED.to_owned()),
            Err(Error::Bug(_)) => Some(BUG.to_owned()),
            Err(failure) => Some(failure.to_string()),
        };
        guard.progress = None;
        let worked = told.is_none();
        blocking(move || {
            progress.end(told.as_deref());
            Ok(())
        })
        .await?;
        locked(&one.now).job_id = None;
        if worked {
            self.known.tell(&one.app.id, "installed", &tag);
        }
        outcome
    }

    /// The progress of this run.
    fn taken_up(&self, one: &OneApp, job_id: &str, tag: &str) -> Result<Arc<Progress>> {
        let mut now = locked(&one.now);
        let is_others = |known: &str| known != "starting" && known != job_id;
        if now.job_id.as_deref().is_some_and(is_others) {
            let name = &one.app.name;
            let text = format!("Another version of {name} is being installed; wait for it or cancel it.");
            return Err(Error::Busy(text));
        }
        now.job_id = Some(job_id.to_owned());
        let current = now.progress.clone();
        let current = current.filter(|progress| !progress.is_finished() && progress.tag() == tag);
        let progress = current.unwrap_or_else(|| self.new_progress(one, tag));
        now.progress = Some(Arc::clone(&progress));
        Ok(progress)
    }

    async fn carried_out(
        &self,
        context: &JobContext,
        one: &Arc<OneApp>,
        progress: &Arc<Progress>,
        params: Value,
        is_install: bool,
    ) -> Result<Value> {
        let (known, of, runtime) = (Arc::clone(&self.known), Arc::clone(one), Handle::current());
        let (job, told) = (context.clone(), Arc::clone(progress));
        let mut result = blocking(move || carry_out(&known, &runtime, &job, &of, &told, &params)).await?;
        if is_install {
            let warnings = self.follow_up(one, progress.tag()).await?;
            if let Some(Value::Array(all)) = result.get_mut("warnings") {
                all.extend(warnings.into_iter().map(Value::from));
            }
        }
        Ok(result)
    }

    async fn follow_up(&self, one: &Arc<OneApp>, tag: &str) -> Result<Vec<String>> {
        let (state, tag) = (Arc::clone(&one.state), tag.to_owned());
        let version = blocking(move || state.get(&tag)).await?;
        let mut warnings = Vec::new();
        let calls = locked(&self.after).clone();
        for call in calls {
            if let Err(error) = call(version.clone()).await {
                tracing::warn!("after installing {} {}: {error}", one.app.id, version.tag);
                warnings.push(error.to_string());
            }
        }
        Ok(warnings)
    }
}

/// A runner that ends by a bug leaves no installation that seems to go on.
struct Ending {
    installs: Installs,
    one: Arc<OneApp>,
    progress: Option<Arc<Progress>>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(progress) = self.progress.take() {
            locked(&self.one.now).job_id = None;
            let work = async move {
                let _ = blocking(move || {
                    progress.end(Some(BUG));
                    Ok(())
                })
                .await;
            };
            self.installs.known.spawn(work);
        }
    }
}

/// A version that is whole, or would be with a Python environment.
///
/// # Errors
/// `VersionNotFound`, `InvalidInput`.
fn with_or_without_environment(one: &OneApp, tag: &str) -> Result<InstalledVersion> {
    let found = one.state.get_listed(tag)?;
    if one.state.lacks_environment(&found) {
        return Ok(found);
    }
    one.state.get(tag)
}

fn plan(known: &Known, one: &OneApp, tag: &str, mut replace: bool, activate: bool) -> Result<Plan> {
    one.state.require_trusted()?;
    let named = format!("{} {tag}", one.app.name);
    let place = one.state.place(tag)?;
    if replace && !place.exists() {
        return Err(one.state.not_installed(tag));
    }
    if place.exists() {
        if !one.state.listed()?.contains(tag) && one.state.built_by(&place).is_none() {
            let place = format!(
                "{}/{tag} is there already and is no version of ours",
                one.app.folder
            );
            return Err(Error::AlreadyExists(format!(
                "{place}; move it away, then install."
            )));
        }
        if one.state.is_whole(tag) && !replace {
            return Err(Error::AlreadyExists(format!(
                "{named} is there already; pass reinstall to build it anew."
            )));
        }
        // Also what is left of one that nobody can start.
        replace = true;
        if known.runs(&one.app.id, tag) {
            return Err(Error::Busy(format!("{named} runs now; stop it first.")));
        }
    }
    let release = one.releases.get(tag)?;
    Ok(Plan {
        app_id: one.app.id.clone(),
        tag: tag.to_owned(),
        archive: Archive::of(&one.app, &release)?,
        published_at: release.published_at().to_owned(),
        replace,
        activate,
    })
}

fn carry_out(
    known: &Known,
    runtime: &Handle,
    job: &JobContext,
    one: &OneApp,
    progress: &Arc<Progress>,
    params: &Value,
) -> Result<Value> {
    prune_logs(&known.layout.logs());
    let log = Arc::new(InstallLog::new(progress.log_path()));
    let check = reporting(job, progress);
    let Some(plan) = params.get("plan") else {
        return bring_dependencies(known, job, one, progress, &log, check);
    };
    let plan =
        Plan::deserialize(plan).map_err(|error| Error::Bug(format!("an installation's plan: {error}")))?;
    let install = Install {
        known,
        runtime,
        job,
        check: &check,
        one,
        plan: &plan,
        progress,
        log: &log,
        kept: job.checkpoint().as_object().cloned().unwrap_or_default(),
        warnings: Vec::new(),
    };
    let result = install.run()?;
    prune_replaced(one);
    Ok(result)
}

/// Asked whether to go on, it also tells the job how far the work is.
fn reporting(job: &JobContext, progress: &Arc<Progress>) -> Check {
    let (job, progress) = (job.clone(), Arc::clone(progress));
    let told: Mutex<Option<Instant>> = Mutex::default();
    Arc::new(move || {
        job.check()?;
        let mut told = locked(&told);
        if told.is_none_or(|last| last.elapsed() > TELL) {
            *told = Some(Instant::now());
            let (stage, percent, item) = progress.brief();
            job.report(JobProgress::new(stage, percent, 100).item(&item).unit("percent"));
        }
        Ok(())
    })
}

fn bring_dependencies(
    known: &Known,
    job: &JobContext,
    one: &OneApp,
    progress: &Arc<Progress>,
    log: &Arc<InstallLog>,
    check: Check,
) -> Result<Value> {
    let version = with_or_without_environment(one, progress.tag())?;
    progress.stage("dependencies", None);
    let job_id = job.job_id();
    let note = one.places.work(&job_id)?.join("running.json");
    let programs = Programs::new(note, Arc::clone(log), check);
    programs.end_leftover();
    let brought = install_dependencies(&one.app, &version.folder, &known.layout, &programs);
    one.places.discard(&job_id, true);
    brought?;
    Ok(json!({"app_id": one.app.id, "tag": version.tag, "path": version.folder, "warnings": []}))
}

fn prune_logs(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut logs: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let is_log =
                name.starts_with("install-") && entry.path().extension().is_some_and(|end| end == "log");
            is_log.then_some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    logs.sort();
    for (_, path) in logs.iter().rev().skip(LOGS_KEPT) {
        let _ = fs::remove_file(path);
    }
}
