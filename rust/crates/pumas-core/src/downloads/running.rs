//! Downloads at work: their jobs, how far each is, and what is told of them; and what is looked at before one begins.
//!
//! Each is carried out by `downloading` on a thread of its own. What callers ask for is in `service`.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::downloading::{Run, Tools};
use super::meter::Meter;
use super::plan::{DownloadPlan, DownloadRequest, make_plan};
use super::queue::Queue;
use super::schedule::Watch;
use super::settings::{DownloadSettings, SettingsFile};
use super::staged::{arrived, parts_of};
use super::view::{Download, Limits, Present, word};
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::events::EventStream;
use crate::jobs::{Job, JobContext, JobService, JobState, ListJobs, Progress};
use crate::net::Address;
use crate::storage::locked;

pub(super) const DOWNLOAD: &str = "download";
const TICK: Duration = Duration::from_millis(500);
/// How long a start waits for the hub.
const START: Duration = Duration::from_secs(8);
const SHOWN_FILES: usize = 16;
pub(super) const MOST_LISTED: u32 = 1000;
pub(super) const UNFINISHED: [JobState; 3] = [JobState::Queued, JobState::Running, JobState::Paused];

/// What all calls and all downloads share.
pub(super) struct Downloads {
    pub(super) events: EventStream,
    pub(super) jobs: JobService,
    pub(super) tools: Tools,
    pub(super) file: SettingsFile,
    pub(super) settings: Mutex<DownloadSettings>,
    pub(super) queue: Arc<Queue>,
    pub(super) live: Mutex<HashMap<String, Arc<Live>>>,
    /// What killed downloads had brought, until they run again: their jobs do not know how far they were.
    pub(super) found: Mutex<HashMap<String, u64>>,
    pub(super) ticks: AtomicBool,
    pub(super) closed: AtomicBool,
    /// Two equal calls at once get one download, and two different ones not the same room on the disk.
    pub(super) starting: tokio::sync::Mutex<()>,
    /// Settings are read, changed and written; two changes at once would undo each other.
    pub(super) changing: tokio::sync::Mutex<()>,
    pub(super) watch_clock: Watch,
}

/// A download that runs.
pub(super) struct Live {
    pub(super) context: JobContext,
    pub(super) plan: DownloadPlan,
    pub(super) meter: Arc<Meter>,
}

pub(super) async fn run(shared: Weak<Downloads>, context: JobContext, params: Value) -> Result<Value> {
    let Some(shared) = shared.upgrade() else {
        return Err(Error::Interrupted("The sidecar is stopping.".to_owned()));
    };
    let plan = DownloadPlan::of_job(&params)?;
    let id = context.job_id();
    let found = locked(&shared.found).remove(&id).unwrap_or_default();
    let meter = Arc::new(Meter::new(&plan.files, context.done().max(found)));
    let live = Arc::new(Live { context, plan, meter });
    locked(&shared.live).insert(id.clone(), Arc::clone(&live));
    watch(&shared);
    let runtime = Handle::current();
    let (running, tools) = (Arc::clone(&live), Arc::clone(&shared));
    let done = blocking(move || {
        let Live { context, plan, meter } = &*running;
        Run::new(&tools.tools, context.clone(), plan, Arc::clone(meter), runtime).run()
    })
    .await;
    shared.tell(&live, true);
    locked(&shared.live).remove(&id);
    done
}

/// It stopped, or never ran, whichever method was called for that.
pub(super) async fn ended(shared: Weak<Downloads>, job: Job) {
    let Some(shared) = shared.upgrade() else { return };
    shared.tools.space.release(&job.id);
    shared.queue.unexpect(&job.id);
    if job.state != JobState::Paused {
        shared.queue.forget(&job.id);
        if let Err(error) = shared.keep_order().await {
            tracing::warn!("the order of downloads is not kept: {error}");
        }
    }
}

/// Tell of all that run, as long as there are any.
fn watch(shared: &Arc<Downloads>) {
    if shared.ticks.swap(true, Ordering::AcqRel) {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        loop {
            let live: Vec<Arc<Live>> = locked(&shared.live).values().cloned().collect();
            if live.is_empty() {
                shared.ticks.store(false, Ordering::Release);
                // One that came in between has found it ticking.
                let came = !locked(&shared.live).is_empty();
                if !came || shared.ticks.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
            for one in live {
                shared.tell(&one, false);
            }
            sleep(TICK).await;
        }
    });
}

impl Downloads {
    pub(super) fn tell(&self, live: &Live, last: bool) {
        let now = live.meter.snapshot();
        let status = word(now.activity);
        let progress = Progress::new(status, now.downloaded, now.total).item(&live.plan.repo_id);
        live.context.report(if last { progress.last() } else { progress });
        let mut moving = live.meter.files();
        moving.retain(|file| file.state == "downloading");
        let shown = moving.iter().take(SHOWN_FILES);
        let files: Vec<Value> = shown
            .map(|file| json!({"path": file.path, "size": file.size, "downloaded": file.downloaded}))
            .collect();
        let told = json!({
            "download_id": live.context.job_id(),
            "repo_id": live.plan.repo_id,
            "status": status,
            "downloaded_bytes": now.downloaded,
            "total_bytes": now.total,
            "speed": now.speed,
            "eta_seconds": now.eta_s,
            "message": now.note,
            "files": files,
        });
        self.events.publish("download.progress", &told);
    }

    pub(super) fn live(&self, job_id: &str) -> Option<Arc<Live>> {
        locked(&self.live).get(job_id).cloned()
    }

    pub(super) fn describe(&self, job: Job) -> Download {
        let present = Present {
            now: self.live(&job.id).map(|live| live.meter.snapshot()),
            is_cancelling: self.jobs.is_cancelling(&job.id),
            place: self.queue.place_of(&job.id),
            found: locked(&self.found).get(&job.id).copied().unwrap_or_default(),
        };
        Download::of(job, present)
    }

    pub(super) async fn job(&self, download_id: &str) -> Result<Job> {
        let missing = || Error::DownloadNotFound(download_id.to_owned());
        match self.jobs.get(download_id).await {
            Ok(job) if job.kind == DOWNLOAD => Ok(job),
            Ok(_) | Err(Error::JobNotFound(_)) => Err(missing()),
            Err(error) => Err(error),
        }
    }

    /// Newest first.
    pub(super) async fn list(&self, states: &[JobState], limit: u32) -> Result<Vec<Job>> {
        let wanted = ListJobs {
            kind: Some(DOWNLOAD.to_owned()),
            states: states.to_vec(),
            limit,
            offset: 0,
        };
        self.jobs.list(wanted).await
    }

    pub(super) fn arrived(&self, job: &Job) -> u64 {
        let found = DownloadPlan::of_job(&job.params).and_then(|plan| {
            let parts = parts_of(&self.tools.library.staging, &job.id)?;
            let is_done = |path: &str| job.checkpoint["done"].get(path).is_some();
            Ok(arrived(&plan.files, is_done, &parts))
        });
        // It says what is wrong when it runs.
        found.unwrap_or_default()
    }

    // -- starting ----------------------------------------------------------------------------------------------------

    pub(super) async fn plan(&self, request: DownloadRequest) -> Result<DownloadPlan> {
        let hub = &self.tools.hub;
        if let Ok(planned) = timeout(START, make_plan(hub, request)).await {
            return planned;
        }
        let address = Address::parse(&hub.endpoint()?, "HF_ENDPOINT")?;
        Err(Error::ConnectionFailed {
            host: address.origin.netloc(),
            reason: "did not answer in time".to_owned(),
            cause: "timeout",
        })
    }

    /// One that brings the same files. Under another name, too: the library would refuse them a second time.
    pub(super) async fn unfinished_like(&self, plan: &DownloadPlan) -> Result<Option<Job>> {
        let states = [&UNFINISHED[..], &[JobState::Failed]].concat();
        for job in self.list(&states, MOST_LISTED).await? {
            let given = &job.params["plan"];
            let same = given["repo_id"] == plan.repo_id.as_str() && given["commit"] == plan.commit.as_str();
            if !same || self.jobs.is_cancelling(&job.id) {
                continue;
            }
            let other = DownloadPlan::of_job(&job.params)?;
            let again = plan.request == other.request || !plan.request.allow_duplicate;
            if again && plan.fetches_the_same_as(&other) {
                return Ok(Some(job));
            }
        }
        Ok(None)
    }

    /// The same job, running again if it had stopped or was about to.
    pub(super) async fn gone_on(&self, job: Job) -> Result<Job> {
        let stopped = matches!(job.state, JobState::Paused | JobState::Failed);
        if !stopped && !self.jobs.is_pausing(&job.id) {
            return Ok(job);
        }
        match self.jobs.resume(&job.id).await {
            // It came to its end meanwhile.
            Err(Error::WrongJobState(_)) => self.jobs.get(&job.id).await,
            resumed => resumed,
        }
    }

    pub(super) fn require_new_with_room(&self, plan: &DownloadPlan) -> Result<()> {
        let weights: HashSet<(String, u64)> = plan
            .files
            .iter()
            .filter(|file| plan.weights.contains(&file.path))
            .filter_map(|file| Some((file.sha256.clone()?, file.size)))
            .collect();
        if !weights.is_empty() && !plan.request.allow_duplicate {
            let twin = self.tools.library.imports.holdings.model_with(&weights)?;
            if let Some(model_id) = twin {
                return Err(Error::DuplicateModel { model_id });
            }
        }
        self.tools.space.require(plan.total_bytes(), "")
    }

    pub(super) async fn keep_order(self: &Arc<Self>) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let _changing = self.changing.lock().await;
        let (order, settings) = (self.queue.order(), locked(&self.settings).clone());
        let at_disk = Arc::clone(self);
        let kept = blocking(move || Ok(at_disk.file.save_order(&settings, order))).await?;
        *locked(&self.settings) = kept;
        Ok(())
    }

    pub(super) fn apply(&self, settings: &DownloadSettings) -> Result<()> {
        self.tools.bandwidth.limit(settings.bytes_per_second)?;
        self.tools.gate.set(settings.schedule.clone());
        self.queue.limit(settings.at_once)
    }

    pub(super) fn limits(&self) -> Limits {
        let settings = locked(&self.settings).clone();
        Limits {
            bytes_per_second: settings.bytes_per_second,
            at_once: settings.at_once,
            schedule: settings.schedule,
            open: self.tools.gate.is_open(),
        }
    }

    /// Tell when the schedule opens or closes by the clock; `known` is what was told last.
    pub(super) fn follow_clock(self: &Arc<Self>, known: bool) {
        let shared = Arc::downgrade(self);
        let changed = move |open| {
            let shared = shared.clone();
            async move {
                if let Some(shared) = shared.upgrade() {
                    let _changing = shared.changing.lock().await;
                    let limits = Limits {
                        open,
                        ..shared.limits()
                    };
                    shared.events.publish("download.limits", &limits);
                }
            }
        };
        self.watch_clock
            .follow(Arc::clone(&self.tools.gate), known, changed);
    }
}
