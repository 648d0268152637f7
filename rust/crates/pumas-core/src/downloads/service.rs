//! Downloads as their callers see them: start, follow, pause, resume, cancel, order, limit.
//!
//! Each download is a job of the kind `download`; `downloading` carries it out on a thread of its own. What one is at while
//! it runs is answered from memory. Knows jobs and the hub, nothing of the wire.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::bandwidth::Bandwidth;
use super::downloading::Tools;
use super::patience::PATIENCE;
use super::plan::DownloadRequest;
use super::queue::Queue;
use super::running::{DOWNLOAD, Downloads, MOST_LISTED, UNFINISHED, ended, run};
use super::schedule::Watch;
use super::settings::{DownloadSettings, SettingsFile};
use super::space::Space;
use super::view::{Download, Limits, files_of};
use crate::blocking::blocking;
use crate::config::Layout;
use crate::error::Result;
use crate::events::EventStream;
use crate::hub::HubClient;
use crate::jobs::{Job, JobService, JobState, Kind};
use crate::library::service::LibraryParts;
use crate::net::NetworkClient;
use crate::storage::locked;
use crate::storage::state_lock::StateLock;
use crate::storage::troubles::Troubles;

/// How long the answer to a pause waits for the download to have stopped.
const PAUSE: Duration = Duration::from_secs(2);
const MOST: u32 = 10_000;

/// The downloads of one library. Cheap to clone.
#[derive(Clone)]
pub struct DownloadService {
    shared: Arc<Downloads>,
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
        let shared = Arc::new(Downloads {
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
            watch_clock: Watch::default(),
        });
        let (runs, ends) = (Arc::downgrade(&shared), Arc::downgrade(&shared));
        let kind = Kind::new(move |context, params| run(runs.clone(), context, params))
            .turns(queue)
            .keeps_failed()
            .ended(move |job| ended(ends.clone(), job));
        jobs.register(DOWNLOAD, kind);
        Self { shared }
    }

    /// Bytes that a new download may take of the library's disk. Blocks.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn room(&self) -> Result<u64> {
        self.shared.tools.space.room()
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
        shared.follow_clock(shared.tools.gate.is_open());
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
        self.shared.watch_clock.stop();
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
        let told = json!({"first": download_ids});
        self.shared.events.publish("download.order", &told);
        self.list(false, MOST_LISTED).await
    }

    /// How fast and when downloads run.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.shared.limits()
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
        let _changing = shared.changing.lock().await;
        let mut settings = locked(&shared.settings).clone();
        change(&mut settings)?;
        settings.check()?;
        let at_disk = Arc::clone(shared);
        let settings = blocking(move || at_disk.file.save(&settings).map(|()| settings)).await?;
        shared.apply(&settings)?;
        *locked(&shared.settings) = settings;
        let limits = self.limits();
        shared.events.publish("download.limits", &limits);
        shared.follow_clock(limits.open);
        Ok(limits)
    }
}
