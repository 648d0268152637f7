//! What a runner sees of its job.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::service::Shared;
use super::store::Job;
use crate::error::{Error, Result};
use crate::stop::Stop;
use crate::storage::{clock, locked};

/// Progress is told at most this often per job; the first and last word always.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// What a job was asked to do instead of going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub(super) enum Wish {
    None,
    Interrupt,
    Cancel,
}

impl Wish {
    pub(super) fn error(self, sentence: &str) -> Error {
        match self {
            Self::Cancel => Error::Cancelled(sentence.into()),
            Self::None | Self::Interrupt => Error::Interrupted(sentence.into()),
        }
    }
}

/// A job in memory. `fresh` says that it never ran, so that there is nothing to clean up when it is cancelled.
pub(super) struct Active {
    job: Mutex<Job>,
    pub(super) fresh: bool,
    wish: AtomicU8,
    pub(super) asked: Stop,
    pub(super) ended: Stop,
}

impl Active {
    pub(super) fn new(job: Job, fresh: bool) -> Self {
        let wish = AtomicU8::new(Wish::None as u8);
        Self {
            job: Mutex::new(job),
            fresh,
            wish,
            asked: Stop::default(),
            ended: Stop::default(),
        }
    }

    pub(super) fn job(&self) -> Job {
        locked(&self.job).clone()
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&Job) -> T) -> T {
        look(&locked(&self.job))
    }

    pub(super) fn wish(&self) -> Wish {
        match self.wish.load(Ordering::Acquire) {
            0 => Wish::None,
            1 => Wish::Interrupt,
            _ => Wish::Cancel,
        }
    }

    /// Tell the runner to stop. A request to cancel is never weakened to a pause.
    pub(super) fn ask(&self, wish: Wish) {
        self.wish.fetch_max(wish as u8, Ordering::AcqRel);
        self.asked.ask();
    }

    /// Worker threads report and save checkpoints at the same time; none may undo what another wrote.
    pub(super) fn change(&self, change: impl FnOnce(&mut Job)) -> Job {
        let mut job = locked(&self.job);
        change(&mut job);
        job.updated_at = clock::now();
        job.clone()
    }
}

/// How far a job is. Counts are in `unit`, bytes unless told; `total` 0 is unknown.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    stage: &'a str,
    done: u64,
    total: u64,
    item: &'a str,
    unit: &'a str,
    last: bool,
}

impl<'a> Progress<'a> {
    /// `done` of `total` at this stage.
    #[must_use]
    pub fn new(stage: &'a str, done: u64, total: u64) -> Self {
        Self {
            stage,
            done,
            total,
            item: "",
            unit: "bytes",
            last: false,
        }
    }

    /// What the stage is at, for example a file's name.
    #[must_use]
    pub fn item(self, item: &'a str) -> Self {
        Self { item, ..self }
    }

    /// What is counted.
    #[must_use]
    pub fn unit(self, unit: &'a str) -> Self {
        Self { unit, ..self }
    }

    /// Of a runner that stops before the end: what is kept of the job then says how far it came.
    #[must_use]
    pub fn last(self) -> Self {
        Self { last: true, ..self }
    }
}

#[derive(Default)]
struct Told {
    stage: String,
    at_end: bool,
    when: Option<Instant>,
}

/// The runner's side of a job. Cheap to clone; everything may be called from any thread.
#[derive(Clone)]
pub struct JobContext {
    shared: Arc<Shared>,
    active: Arc<Active>,
    told: Arc<Mutex<Told>>,
}

impl JobContext {
    pub(super) fn new(shared: Arc<Shared>, active: Arc<Active>) -> Self {
        Self {
            shared,
            active,
            told: Arc::default(),
        }
    }

    /// The job's id.
    #[must_use]
    pub fn job_id(&self) -> String {
        self.active.with(|job| job.id.clone())
    }

    /// What was reported last, also by an earlier run.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.active
            .with(|job| u64::try_from(job.done).unwrap_or_default())
    }

    /// What the runner saved last, an empty object at the first start.
    #[must_use]
    pub fn checkpoint(&self) -> Value {
        self.active.with(|job| job.checkpoint.clone())
    }

    /// Go on, or stop. Cheap: call it per block of work.
    ///
    /// # Errors
    /// `Cancelled` or `Interrupted` when the job should stop.
    pub fn check(&self) -> Result<()> {
        match self.active.wish() {
            Wish::None => Ok(()),
            wish => Err(wish.error("The job was stopped.")),
        }
    }

    /// Return when the job should stop; `check` then says how.
    pub async fn stopped(&self) {
        self.active.asked.asked().await;
    }

    /// Say how far the work is. Calls beyond a few per second are dropped, except at a new stage and at its end.
    pub fn report(&self, progress: Progress<'_>) {
        let at_end = progress.total > 0 && progress.total <= progress.done;
        {
            let mut told = locked(&self.told);
            let same = told.stage == progress.stage && told.at_end == at_end;
            if !progress.last && same && told.when.is_some_and(|when| when.elapsed() < PROGRESS_INTERVAL) {
                return;
            }
            *told = Told {
                stage: progress.stage.to_owned(),
                at_end,
                when: Some(Instant::now()),
            };
        }
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let job = self.active.change(|job| {
            progress.stage.clone_into(&mut job.stage);
            progress.item.clone_into(&mut job.item);
            progress.unit.clone_into(&mut job.unit);
            job.done = count(progress.done);
            job.total = count(progress.total);
        });
        self.shared.tell_progress(&job);
    }

    /// Keep `state` durably; a restarted runner finds it in `checkpoint`.
    pub async fn save_checkpoint(&self, state: Value) -> Result<()> {
        self.shared
            .store
            .save(self.active.change(|job| job.checkpoint = state))
            .await
    }

    /// [`JobContext::save_checkpoint`] for worker threads.
    pub fn save_checkpoint_sync(&self, state: Value) -> Result<()> {
        self.shared
            .store
            .save_sync(&self.active.change(|job| job.checkpoint = state))
    }
}
