//! Downloads as their callers see them: start, follow, pause, resume, cancel, order, limit.
//!
//! Each download is a job of the kind `download`; `downloading` carries it out on a thread of its own. What one is at while
//! it runs is answered from memory. Knows jobs and the hub, nothing of the wire.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::bandwidth::Bandwidth;
use super::downloading::{Run, Tools};
use super::meter::Meter;
use super::patience::PATIENCE;
use super::plan::{DownloadPlan, DownloadRequest, make_plan};
use super::queue::Queue;
use super::settings::{DownloadSettings, SettingsFile};
use super::space::Space;
use super::staged::{arrived, parts_of};
use super::view::{Download, Limits, Present, files_of, word};
use crate::blocking::blocking;
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::events::EventStream;
use crate::hub::HubClient;
use crate::jobs::{Job, JobContext, JobService, JobState, Kind, ListJobs, Progress};
use crate::library::service::LibraryParts;
use crate::net::{Address, NetworkClient};
use crate::storage::locked;
use crate::storage::state_lock::StateLock;
use crate::storage::troubles::Troubles;

const DOWNLOAD: &str = "download";
const TICK: Duration = Duration::from_millis(500);
/// How long a start waits for the hub.
const START: Duration = Duration::from_secs(8);
/// How long the answer to a pause waits for the download to have stopped.
const PAUSE: Duration = Duration::from_secs(2);
const SHOWN_FILES: usize = 16;
const MOST: u32 = 10_000;
const MOST_LISTED: u32 = 1000;
const UNFINISHED: [JobState; 3] = [JobState::Queued, JobState::Running, JobState::Paused];

/// The downloads of one library. Cheap to clone.
#[derive(Clone)]
pub struct DownloadService {
    shared: Arc<Shared>,
}

struct Shared {
    events: EventStream,
    jobs: JobService,
    tools: Tools,
    file: SettingsFile,
    settings: Mutex<DownloadSettings>,
    queue: Arc<Queue>,
    live: Mutex<HashMap<String, Arc<Live>>>,
    /// What killed downloads had brought, until they run again: their jobs do not know how far they were.
    found: Mutex<HashMap<String, u64>>,
    ticks: AtomicBool,
    closed: AtomicBool,
    /// Two equal calls at once get one download, and two different ones not the same room on the disk.
    starting: tokio::sync::Mutex<()>,
    /// Settings are read, changed and written; two changes at once would undo each other.
    changing: tokio::sync::Mutex<()>,
}

/// A download that runs.
struct Live {
    context: JobContext,
    plan: DownloadPlan,
    meter: Arc<Meter>,
}

impl DownloadService {
    /// Registers its jobs; opens nothing.
    #[must_use]
    pub fn new(
        layout: &Arc<Layout>,
        events: EventStream,
        troubles: &Arc<Troubles>,
        jobs: &JobService,
        library: LibraryParts,
        network: NetworkClient,
        hub: HubClient,
    ) -> Self {
        let lock = StateLock::new(layout.state_lock());
        let settings = DownloadSettings::default();
        let queue = Arc::new(Queue::new(settings.at_once));
        let shared = Arc::new(Shared {
            events,
            jobs: jobs.clone(),
            file: SettingsFile::new(layout.download_settings(), lock, Arc::clone(troubles)),
            tools: Tools {
                layout: Arc::clone(layout),
                library,
                hub,
                network,
                bandwidth: Arc::default(),
                gate: Arc::default(),
                space: Arc::new(Space::new(layout.library())),
                patience: PATIENCE,
            },
            settings: Mutex::new(settings),
            queue: Arc::clone(&queue),
            live: Mutex::default(),
            found: Mutex::default(),
            ticks: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            starting: tokio::sync::Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        });
        let (runs, ends) = (Arc::downgrade(&shared), Arc::downgrade(&shared));
        let kind = Kind::new(move |context, params| run(runs.clone(), context, params))
            .turns(queue)
            .keeps_failed()
            .ended(move |job| ended(ends.clone(), job));
        jobs.register(DOWNLOAD, kind);
        Self { shared }
    }

    /// The limit that the user set, for whoever else brings large files.
    #[must_use]
    pub fn bandwidth(&self) -> Arc<Bandwidth> {
        Arc::clone(&self.shared.tools.bandwidth)
    }

    /// Go on with what a stop or a kill interrupted, in its order. Call after jobs and library are open.
    ///
    /// # Errors
    /// The jobs cannot be read.
    pub async fn open(&self) -> Result<()> {
        let shared = &self.shared;
        let at_disk = Arc::clone(shared);
        let settings = blocking(move || Ok(at_disk.file.load())).await?;
        shared.apply(&settings)?;
        let paused = shared.list(&[JobState::Paused], MOST).await?;
        let known: HashSet<&str> = paused.iter().map(|job| job.id.as_str()).collect();
        let order = settings.order.iter().map(String::as_str);
        shared.queue.add(order.filter(|job_id| known.contains(job_id)));
        shared.queue.add(paused.iter().rev().map(|job| job.id.as_str()));
        *locked(&shared.settings) = settings;
        let interrupted = |job: &Job| job.error_code.as_deref() == Some("interrupted");
        let killed: Vec<Job> = paused.into_iter().filter(interrupted).collect();
        let ids: HashSet<String> = killed.iter().map(|job| job.id.clone()).collect();
        let at_disk = Arc::clone(shared);
        let found = blocking(move || {
            Ok(killed
                .iter()
                .map(|job| (job.id.clone(), at_disk.arrived(job)))
                .collect())
        })
        .await?;
        *locked(&shared.found) = found;
        let mut order = shared.queue.order();
        order.retain(|job_id| ids.contains(job_id));
        shared.queue.expect(&order);
        for job_id in order {
            shared
                .jobs
                .resume(&job_id)
                .await
                .inspect_err(|_| shared.queue.unexpect(&job_id))?;
        }
        Ok(())
    }

    /// Nothing is written any more; running downloads stop at their next block and go on at the next start.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
    }

    // -- calls -------------------------------------------------------------------------------------------------------

    /// Ask the hub what there is and begin; the same download that is not finished yet goes on instead.
    ///
    /// # Errors
    /// `DuplicateModel`: the library has all of its weights. `NotEnoughSpace`: not with what other downloads were promised.
    /// `InvalidInput`, `PickleNotAcknowledged`, and those of the hub and the network: there is no plan.
    pub async fn start(&self, request: DownloadRequest) -> Result<Download> {
        let shared = &self.shared;
        let plan = shared.plan(request).await?;
        let job = {
            let _starting = shared.starting.lock().await;
            if let Some(same) = shared.unfinished_like(&plan).await? {
                let job = shared.gone_on(same).await?;
                return Ok(shared.describe(job));
            }
            let (at_disk, params, total) = (Arc::clone(shared), plan.job_params(), plan.total_bytes());
            let plan = blocking(move || at_disk.require_new_with_room(&plan).map(|()| plan)).await?;
            let job = shared.jobs.start(DOWNLOAD, params, plan.title()).await?;
            shared.queue.add([job.id.as_str()]);
            shared.tools.space.keep(&job.id, move || total);
            if shared.jobs.get(&job.id).await?.state.is_final() {
                shared.tools.space.release(&job.id);
            }
            job
        };
        shared.keep_order().await?;
        Ok(shared.describe(job))
    }

    /// One download.
    ///
    /// # Errors
    /// `DownloadNotFound`.
    pub async fn status(&self, download_id: &str, files: bool) -> Result<Download> {
        let job = self.shared.job(download_id).await?;
        let listed = files.then(|| match self.shared.live(&job.id) {
            Some(live) => live.meter.files(),
            None => files_of(&job),
        });
        Ok(Download {
            files: listed,
            ..self.shared.describe(job)
        })
    }

    /// Unfinished ones in the order of the queue, failed ones, then finished ones, newest first.
    ///
    /// # Errors
    /// The jobs cannot be read.
    pub async fn list(&self, finished: bool, limit: u32) -> Result<Vec<Download>> {
        let shared = &self.shared;
        let mut jobs = shared.list(&UNFINISHED, limit).await?;
        let order = shared.queue.order();
        let place = |job: &Job| {
            order
                .iter()
                .position(|known| *known == job.id)
                .unwrap_or(order.len())
        };
        jobs.sort_by_cached_key(place);
        let ended = [JobState::Failed, JobState::Completed, JobState::Cancelled];
        let ended = if finished { &ended[..] } else { &ended[..1] };
        jobs.extend(shared.list(ended, limit).await?);
        jobs.truncate(limit as usize);
        Ok(jobs.into_iter().map(|job| shared.describe(job)).collect())
    }

    /// What has arrived stays. The answer waits a little for the end of what was under way.
    ///
    /// # Errors
    /// `DownloadNotFound`, `WrongJobState`.
    pub async fn pause(&self, download_id: &str) -> Result<Download> {
        let shared = &self.shared;
        shared.job(download_id).await?;
        shared.jobs.pause(download_id).await?;
        Ok(shared.describe(shared.jobs.wait(download_id, PAUSE).await?))
    }

    /// Go on with a paused or failed one.
    ///
    /// # Errors
    /// `DownloadNotFound`, `WrongJobState`.
    pub async fn resume(&self, download_id: &str) -> Result<Download> {
        self.shared.job(download_id).await?;
        let job = self.shared.jobs.resume(download_id).await?;
        Ok(self.shared.describe(job))
    }

    /// Stop for good and remove what has arrived.
    ///
    /// # Errors
    /// `DownloadNotFound`, `WrongJobState`.
    pub async fn cancel(&self, download_id: &str) -> Result<Download> {
        self.shared.job(download_id).await?;
        let job = self.shared.jobs.cancel(download_id).await?;
        Ok(self.shared.describe(job))
    }

    /// These come first in the queue, in this order.
    ///
    /// # Errors
    /// `DownloadNotFound`, before anything is moved.
    pub async fn move_first(&self, download_ids: &[String]) -> Result<Vec<Download>> {
        for download_id in download_ids {
            self.shared.job(download_id).await?;
        }
        self.shared.queue.move_first(download_ids);
        self.shared.keep_order().await?;
        self.list(false, MOST_LISTED).await
    }

    /// How fast and when downloads run.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let settings = locked(&self.shared.settings).clone();
        Limits {
            bytes_per_second: settings.bytes_per_second,
            at_once: settings.at_once,
            schedule: settings.schedule,
            open: self.shared.tools.gate.is_open(),
        }
    }

    /// Change what `change` changes, at once for all running downloads.
    ///
    /// # Errors
    /// What `change` fails with, `InvalidInput`, what the disk refuses: nothing was changed.
    pub async fn set_limits(
        &self,
        change: impl FnOnce(&mut DownloadSettings) -> Result<()>,
    ) -> Result<Limits> {
        let shared = &self.shared;
        {
            let _changing = shared.changing.lock().await;
            let mut settings = locked(&shared.settings).clone();
            change(&mut settings)?;
            settings.check()?;
            let at_disk = Arc::clone(shared);
            let settings = blocking(move || at_disk.file.save(&settings).map(|()| settings)).await?;
            shared.apply(&settings)?;
            *locked(&shared.settings) = settings;
        }
        Ok(self.limits())
    }
}

// -- one download ----------------------------------------------------------------------------------------------------

async fn run(shared: Weak<Shared>, context: JobContext, params: Value) -> Result<Value> {
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
async fn ended(shared: Weak<Shared>, job: Job) {
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
fn watch(shared: &Arc<Shared>) {
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

impl Shared {
    fn tell(&self, live: &Live, last: bool) {
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

    fn live(&self, job_id: &str) -> Option<Arc<Live>> {
        locked(&self.live).get(job_id).cloned()
    }

    fn describe(&self, job: Job) -> Download {
        let present = Present {
            now: self.live(&job.id).map(|live| live.meter.snapshot()),
            is_cancelling: self.jobs.is_cancelling(&job.id),
            place: self.queue.place_of(&job.id),
            found: locked(&self.found).get(&job.id).copied().unwrap_or_default(),
        };
        Download::of(job, present)
    }

    async fn job(&self, download_id: &str) -> Result<Job> {
        let missing = || Error::DownloadNotFound(download_id.to_owned());
        match self.jobs.get(download_id).await {
            Ok(job) if job.kind == DOWNLOAD => Ok(job),
            Ok(_) | Err(Error::JobNotFound(_)) => Err(missing()),
            Err(error) => Err(error),
        }
    }

    /// Newest first.
    async fn list(&self, states: &[JobState], limit: u32) -> Result<Vec<Job>> {
        let wanted = ListJobs {
            kind: Some(DOWNLOAD.to_owned()),
            states: states.to_vec(),
            limit,
            offset: 0,
        };
        self.jobs.list(wanted).await
    }

    fn arrived(&self, job: &Job) -> u64 {
        let found = DownloadPlan::of_job(&job.params).and_then(|plan| {
            let parts = parts_of(&self.tools.library.staging, &job.id)?;
            let is_done = |path: &str| job.checkpoint["done"].get(path).is_some();
            Ok(arrived(&plan.files, is_done, &parts))
        });
        // It says what is wrong when it runs.
        found.unwrap_or_default()
    }

    // -- starting ----------------------------------------------------------------------------------------------------

    async fn plan(&self, request: DownloadRequest) -> Result<DownloadPlan> {
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
    async fn unfinished_like(&self, plan: &DownloadPlan) -> Result<Option<Job>> {
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
    async fn gone_on(&self, job: Job) -> Result<Job> {
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

    fn require_new_with_room(&self, plan: &DownloadPlan) -> Result<()> {
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
        let (needed, free) = (plan.total_bytes(), self.tools.space.available("")?);
        if needed > free {
            return Err(Error::NotEnoughSpace { needed, free });
        }
        Ok(())
    }

    async fn keep_order(self: &Arc<Self>) -> Result<()> {
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

    fn apply(&self, settings: &DownloadSettings) -> Result<()> {
        self.tools.bandwidth.limit(settings.bytes_per_second)?;
        self.tools.gate.set(settings.schedule.clone());
        self.queue.limit(settings.at_once)
    }
}
