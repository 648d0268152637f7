//! Starting, steering and running jobs.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::context::{Active, JobContext, Wish};
use super::store::{Job, JobState, JobStore};
use super::turns::{Slots, Turns};
use crate::error::{Error, Result};
use crate::events::EventStream;
use crate::storage::files::random_hex;
use crate::storage::{clock, locked};
use crate::text::quoted;

const PARK_TIMEOUT: Duration = Duration::from_millis(500);
/// How long `resume` waits for a job that was told to pause and has not stopped yet.
const STOP: Duration = Duration::from_secs(5);
const ID_BYTES: usize = 8;
const MOST_INTERRUPTED: u32 = 10_000;
const PARKED: &str = "Interrupted: the sidecar stopped while this job ran. Resume it to go on.";
const STOPPED: &str = "Interrupted: the sidecar stopped. Resume it to go on.";
const BUG: &str = "Internal error; the log has the details.";

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Runner = Box<dyn Fn(JobContext, Value) -> Boxed<Result<Value>> + Send + Sync>;
type Ended = Box<dyn Fn(Job) -> Boxed<()> + Send + Sync>;

/// How jobs of one kind are run.
pub struct Kind {
    run: Runner,
    turns: Arc<dyn Turns>,
    keeps_failed: bool,
    ended: Option<Ended>,
}

impl Kind {
    /// One at a time, by this function.
    pub fn new<F, Fut>(run: F) -> Self
    where
        F: Fn(JobContext, Value) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Value>> + Send + 'static,
    {
        let run: Runner = Box::new(move |context, params| Box::pin(run(context, params)));
        Self {
            run,
            turns: Arc::new(Slots::new(1)),
            keeps_failed: false,
            ended: None,
        }
    }

    /// At most so many at a time; others wait as `queued`.
    #[must_use]
    pub fn at_once(self, count: usize) -> Self {
        self.turns(Arc::new(Slots::new(count)))
    }

    /// In an order of the domain's own.
    #[must_use]
    pub fn turns(mut self, turns: Arc<dyn Turns>) -> Self {
        self.turns = turns;
        self
    }

    /// A failed job keeps what it had done for `resume`, so it can still be cancelled, and its runner then cleans up.
    #[must_use]
    pub fn keeps_failed(mut self) -> Self {
        self.keeps_failed = true;
        self
    }

    /// Told of each job that has stopped, also of one that never ran.
    #[must_use]
    pub fn ended<F, Fut>(mut self, ended: F) -> Self
    where
        F: Fn(Job) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.ended = Some(Box::new(move |job| Box::pin(ended(job))));
        self
    }
}

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub struct ListJobs {
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only in these states; empty means all.
    pub states: Vec<JobState>,
    /// At most so many.
    pub limit: u32,
    /// After so many.
    pub offset: u32,
}

/// What the service, its runs and their contexts share.
pub(super) struct Shared {
    pub(super) store: JobStore,
    events: EventStream,
    kinds: Mutex<HashMap<String, Arc<Kind>>>,
    active: Mutex<HashMap<String, Arc<Active>>>,
    /// What the disk refused to take: told from here, and written as soon as it can be.
    unwritten: Mutex<HashMap<String, Job>>,
    closing: AtomicBool,
    /// Cancel, pause and resume look at a job and then act on it; two at once could both start it.
    steering: tokio::sync::Mutex<()>,
}

/// All jobs of a launcher root. Cheap to clone.
#[derive(Clone)]
pub struct JobService {
    shared: Arc<Shared>,
}

impl JobService {
    /// Kinds are registered next, then the service is opened.
    #[must_use]
    pub fn new(store: JobStore, events: EventStream) -> Self {
        let shared = Shared {
            store,
            events,
            kinds: Mutex::default(),
            active: Mutex::default(),
            unwritten: Mutex::default(),
            closing: AtomicBool::new(false),
            steering: tokio::sync::Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Say how jobs of a kind are run.
    pub fn register(&self, name: &str, kind: Kind) {
        locked(&self.shared.kinds).insert(name.to_owned(), Arc::new(kind));
    }

    /// Park what a killed process left running.
    pub async fn open(&self) -> Result<()> {
        let parked = self.shared.store.park_unfinished(PARKED, "interrupted").await?;
        if parked > 0 {
            tracing::warn!("{parked} interrupted job(s) parked; resume_job continues them");
        }
        Ok(())
    }

    /// Park all running jobs: they stop at their next check, or are left for the next start to park.
    pub async fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        let active: Vec<_> = locked(&self.shared.active).values().cloned().collect();
        for one in &active {
            one.ask(Wish::Interrupt);
        }
        let all_ended = async {
            for one in &active {
                one.ended.asked().await;
            }
        };
        // Whoever takes longer is parked at the next start.
        let _ = timeout(PARK_TIMEOUT, all_ended).await;
        self.write_rest().await;
    }

    /// Close the file of the jobs, after everything else has stopped.
    pub fn close_files_sync(&self) {
        self.shared.store.close_sync();
    }

    /// Accept a job and return at once; it runs as soon as its kind has a free slot.
    pub async fn start(&self, kind: &str, params: Value, title: &str) -> Result<Job> {
        let job = Job::new(format!("{kind}-{}", random_hex(ID_BYTES)), kind, title, params);
        self.shared.store.save(job.clone()).await?;
        self.launch(job.clone(), true, Wish::None);
        Ok(job)
    }

    fn active(&self, job_id: &str) -> Option<Arc<Active>> {
        locked(&self.shared.active).get(job_id).cloned()
    }

    /// The job as it is now.
    ///
    /// # Errors
    /// `JobNotFound`; `CorruptState` when its row is damaged.
    pub async fn get(&self, job_id: &str) -> Result<Job> {
        self.write_rest().await;
        if let Some(active) = self.active(job_id) {
            return Ok(active.job());
        }
        if let Some(job) = locked(&self.shared.unwritten).get(job_id) {
            return Ok(job.clone());
        }
        self.shared
            .store
            .get(job_id)
            .await?
            .ok_or_else(|| Error::JobNotFound(job_id.into()))
    }

    /// Newest first, with the live progress of running ones.
    pub async fn list(&self, wanted: ListJobs) -> Result<Vec<Job>> {
        let ListJobs {
            kind,
            states,
            limit,
            offset,
        } = wanted;
        self.write_rest().await;
        // One that ends while the rows are read may stand in them as it was.
        let mut live = locked(&self.shared.active).clone();
        // Nor does a row hold a state before it is written.
        let known = self.known(&live);
        let also = known.values().filter(|job| states.contains(&job.state));
        let also = also.map(|job| job.id.clone()).collect();
        let rows = self
            .shared
            .store
            .list(kind, states.clone(), also, limit, offset)
            .await?;
        live.extend(locked(&self.shared.active).clone());
        let mut known = self.known(&live);
        Ok(rows
            .into_iter()
            .map(|job| known.remove(&job.id).unwrap_or(job))
            .filter(|job| states.is_empty() || states.contains(&job.state))
            .collect())
    }

    /// What is known better than from the rows.
    fn known(&self, active: &HashMap<String, Arc<Active>>) -> HashMap<String, Job> {
        let mut known = locked(&self.shared.unwritten).clone();
        known.extend(active.iter().map(|(id, one)| (id.clone(), one.job())));
        known
    }

    /// Write what the disk refused before.
    async fn write_rest(&self) {
        let rest: Vec<String> = locked(&self.shared.unwritten).keys().cloned().collect();
        for id in rest {
            // Meanwhile it may have gone on, or ended in another way.
            let job = locked(&self.shared.unwritten).get(&id).cloned();
            if let Some(job) = job.filter(|_| self.active(&id).is_none())
                && self.write(job).await.is_err()
            {
                return;
            }
        }
    }

    /// # Errors
    /// Those of the store; the job is kept until the disk takes it.
    async fn write(&self, job: Job) -> Result<()> {
        locked(&self.shared.unwritten).insert(job.id.clone(), job.clone());
        self.shared.store.save(job.clone()).await?;
        let mut unwritten = locked(&self.shared.unwritten);
        if unwritten
            .get(&job.id)
            .is_some_and(|kept| kept.updated_at == job.updated_at)
        {
            unwritten.remove(&job.id);
        }
        Ok(())
    }

    /// Whether the job was told to stop for good and has not ended yet; answered from memory.
    #[must_use]
    pub fn is_cancelling(&self, job_id: &str) -> bool {
        let cancelling =
            |one: Arc<Active>| one.wish() == Wish::Cancel && !one.with(|job| job.state.is_final());
        self.active(job_id).is_some_and(cancelling)
    }

    /// Whether the job was told to pause and has not stopped yet; answered from memory.
    #[must_use]
    pub fn is_pausing(&self, job_id: &str) -> bool {
        self.active(job_id)
            .is_some_and(|one| one.wish() == Wish::Interrupt && !one.ended.is_asked())
    }

    /// Whether a job of this kind runs or waits; answered from memory.
    #[must_use]
    pub fn is_active(&self, kind: &str) -> bool {
        locked(&self.shared.active)
            .values()
            .any(|one| one.with(|job| job.kind == kind))
    }

    /// The job once it is final or paused, or as it is when the time is over.
    pub async fn wait(&self, job_id: &str, patience: Duration) -> Result<Job> {
        if let Some(active) = self.active(job_id) {
            let _ = timeout(patience, active.ended.asked()).await;
        }
        self.get(job_id).await
    }

    /// Ask the job to stop for good. The state says when it has.
    ///
    /// # Errors
    /// `JobNotFound`; `WrongJobState` when it has already ended.
    pub async fn cancel(&self, job_id: &str) -> Result<Job> {
        let _steering = self.shared.steering.lock().await;
        let mut job = self.get(job_id).await?;
        let kept =
            job.state == JobState::Failed && self.kind(&job.kind).is_some_and(|kind| kind.keeps_failed);
        if job.state.is_final() && !kept {
            return Err(Error::WrongJobState(format!(
                "Job {job_id} is already {}.",
                job.state
            )));
        }
        if let Some(active) = self.active(job_id) {
            active.ask(Wish::Cancel);
            return Ok(active.job());
        }
        // Paused or failed: the runner still has to clean up what it staged, so it runs once more, told to stop.
        job.state = JobState::Queued;
        job.updated_at = clock::now();
        Ok(self.launch(job, false, Wish::Cancel).job())
    }

    /// Ask the job to stop where it is, to be resumed later.
    ///
    /// # Errors
    /// `JobNotFound`; `WrongJobState` when it is not under way, or told to cancel already.
    pub async fn pause(&self, job_id: &str) -> Result<Job> {
        let _steering = self.shared.steering.lock().await;
        let job = self.get(job_id).await?;
        match self.active(job_id) {
            Some(active) if !job.state.is_final() => {
                if active.wish() == Wish::Cancel {
                    return Err(Error::WrongJobState(format!("Job {job_id} is being cancelled.")));
                }
                active.ask(Wish::Interrupt);
                Ok(active.job())
            }
            _ => {
                let state = job.state;
                let reason = format!("Job {job_id} is {state}; only a queued or running job can be paused.");
                Err(Error::WrongJobState(reason))
            }
        }
    }

    /// Run a paused job from its checkpoint, or a failed one again.
    ///
    /// # Errors
    /// `JobNotFound`; `WrongJobState` when it is neither.
    pub async fn resume(&self, job_id: &str) -> Result<Job> {
        let _steering = self.shared.steering.lock().await;
        let resumable = |state: JobState| matches!(state, JobState::Paused | JobState::Failed);
        if let Some(active) = self.active(job_id)
            && (self.is_pausing(job_id) || active.with(|job| resumable(job.state)))
        {
            // It is about to stop, or shows its state already but is still recording it.
            let _ = timeout(STOP, active.ended.asked()).await;
        }
        let mut job = self.get(job_id).await?;
        if self.active(job_id).is_some() || !resumable(job.state) {
            let state = job.state;
            let reason = format!("Job {job_id} is {state}; only a paused or failed job can be resumed.");
            return Err(Error::WrongJobState(reason));
        }
        job.state = JobState::Queued;
        (job.error, job.error_code, job.finished_at) = (None, None, None);
        job.updated_at = clock::now();
        self.shared.store.save(job.clone()).await?;
        Ok(self.launch(job, false, Wish::None).job())
    }

    /// Resume what a stop or a kill interrupted, in the order it came; what the user paused stays paused. Whether there was
    /// something to resume.
    ///
    /// Call at a start.
    ///
    /// # Errors
    /// The list of jobs cannot be read or written.
    pub async fn go_on(&self, kind: &str) -> Result<bool> {
        let wanted = ListJobs {
            kind: Some(kind.to_owned()),
            states: vec![JobState::Paused],
            limit: MOST_INTERRUPTED,
            offset: 0,
        };
        let interrupted = Error::Interrupted(String::new()).kind();
        let mut found = false;
        for job in self.list(wanted).await?.into_iter().rev() {
            if job.error_code.as_deref() == Some(interrupted) {
                found = true;
                match self.resume(&job.id).await {
                    Ok(_) | Err(Error::WrongJobState(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    // -- running -----------------------------------------------------------------------------------------------------

    fn kind(&self, name: &str) -> Option<Arc<Kind>> {
        locked(&self.shared.kinds).get(name).cloned()
    }

    fn launch(&self, job: Job, fresh: bool, wish: Wish) -> Arc<Active> {
        let active = Arc::new(Active::new(job, fresh));
        if wish != Wish::None {
            active.ask(wish);
        } else if self.shared.closing.load(Ordering::Acquire) {
            active.ask(Wish::Interrupt);
        }
        let id = active.with(|job| job.id.clone());
        locked(&self.shared.unwritten).remove(&id);
        locked(&self.shared.active).insert(id, Arc::clone(&active));
        active.with(|job| self.shared.tell_state(job));
        tokio::spawn(self.clone().run(Arc::clone(&active)));
        active
    }

    async fn run(self, active: Arc<Active>) {
        let job = active.job();
        let kind = self.kind(&job.kind);
        let outcome = match &kind {
            Some(kind) => self.in_turn(kind, &active, &job).await,
            None => {
                let reason = format!(
                    "This version cannot run jobs of kind {}.",
                    quoted(&job.kind, usize::MAX)
                );
                Err(Error::WrongJobState(reason))
            }
        };
        self.record(&active, outcome).await;
        if let Some(ended) = kind.as_ref().and_then(|kind| kind.ended.as_ref()) {
            ended(active.job()).await;
        }
        locked(&self.shared.active).remove(&job.id);
        active.ended.ask();
        let mut job = active.job();
        let closing = self.shared.closing.load(Ordering::Acquire);
        if active.wish() == Wish::Cancel && job.state == JobState::Paused && !closing {
            // Asked for while the pause was being recorded: what is staged still has to be cleaned up.
            job.state = JobState::Queued;
            self.launch(job, false, Wish::Cancel);
        }
    }

    /// Run when it is the job's turn; one that is asked to stop while it waits goes on without.
    async fn in_turn(&self, kind: &Kind, active: &Arc<Active>, job: &Job) -> Result<Value> {
        let has_turn = tokio::select! {
            () = kind.turns.take(&job.id) => true,
            () = active.asked.asked() => false,
        };
        let work = AssertUnwindSafe(self.begin(kind, active, job)).catch_unwind();
        let outcome = work
            .await
            .unwrap_or_else(|_| Err(Error::Bug("the runner panicked".into())));
        if has_turn {
            kind.turns.give_back(&job.id);
        }
        outcome
    }

    async fn begin(&self, kind: &Kind, active: &Arc<Active>, job: &Job) -> Result<Value> {
        match active.wish() {
            Wish::None => {
                self.set(active, |job| job.state = JobState::Running).await;
            }
            wish if active.fresh || wish == Wish::Interrupt => {
                return Err(wish.error("The job was stopped before it began."));
            }
            _ => {}
        }
        let context = JobContext::new(Arc::clone(&self.shared), Arc::clone(active));
        (kind.run)(context, job.params.clone()).await
    }

    async fn record(&self, active: &Arc<Active>, outcome: Result<Value>) {
        let finish = |job: &mut Job, state: JobState, error: Option<(String, &str)>| {
            job.state = state;
            job.finished_at = Some(clock::now());
            if let Some((sentence, code)) = error {
                job.error = Some(sentence);
                job.error_code = Some(code.to_owned());
            }
        };
        match outcome {
            Ok(result) => {
                self.set(active, |job| {
                    job.result = Some(result);
                    job.done = job.total;
                    finish(job, JobState::Completed, None);
                })
                .await;
            }
            Err(Error::Cancelled(_)) => {
                let told = Some(("Cancelled.".to_owned(), "cancelled"));
                self.set(active, |job| finish(job, JobState::Cancelled, told))
                    .await;
            }
            Err(error @ Error::Interrupted(_)) => {
                let closing = self.shared.closing.load(Ordering::Acquire);
                self.set(active, |job| {
                    job.state = JobState::Paused;
                    job.error = closing.then(|| STOPPED.to_owned());
                    job.error_code = closing.then(|| error.kind().to_owned());
                })
                .await;
            }
            Err(error) => {
                if let Error::Bug(what) = &error {
                    tracing::error!(
                        "job {} failed by a bug: {what}",
                        active.with(|job| job.id.clone())
                    );
                }
                let is_bug = matches!(error, Error::Bug(_));
                let sentence = if is_bug { BUG.to_owned() } else { error.to_string() };
                let told = Some((sentence, error.kind()));
                self.set(active, |job| finish(job, JobState::Failed, told)).await;
            }
        }
    }

    async fn set(&self, active: &Active, change: impl FnOnce(&mut Job)) {
        let job = active.change(change);
        if let Err(error) = self.write(job.clone()).await {
            // A full disk must hide from nobody how the job ended. What is never written is parked by the next start.
            tracing::error!("state of job {} not saved: {error}", job.id);
        }
        self.shared.tell_state(&job);
    }
}

impl Shared {
    pub(super) fn tell_progress(&self, job: &Job) {
        let told = json!({
            "job_id": job.id,
            "kind": job.kind,
            "stage": job.stage,
            "item": job.item,
            "done": job.done,
            "total": job.total,
            "unit": job.unit,
            "progress": job.progress(),
        });
        self.events.publish("job.progress", &told);
    }

    fn tell_state(&self, job: &Job) {
        let told = json!({
            "job_id": job.id,
            "kind": job.kind,
            "title": job.title,
            "state": job.state,
            "error": job.error,
            "error_code": job.error_code,
        });
        self.events.publish("job.state", &told);
    }
}

#[cfg(test)]
mod tests;
