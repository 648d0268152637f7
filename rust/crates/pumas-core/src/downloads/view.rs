//! One download at a moment, as its callers see it.

use serde::Serialize;
use serde_json::Value;

use super::meter::{FileProgress, Snapshot};
use super::schedule::Schedule;
use crate::jobs::{Job, JobState};

/// One download at this moment; sizes in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Download {
    /// Of its job.
    pub id: String,
    /// `owner/name`.
    pub repo_id: String,
    /// The commit.
    pub revision: String,
    /// The model's name.
    pub title: String,
    /// Which one; "" for all.
    pub quant: String,
    /// `queued downloading retrying waiting verifying cancelling paused completed cancelled error`.
    pub status: &'static str,
    /// So far.
    pub downloaded: u64,
    /// Of so much.
    pub total: u64,
    /// Bytes per second.
    pub speed: f64,
    /// `None` when nobody can know.
    pub eta_s: Option<f64>,
    /// "" when fine.
    pub error: String,
    /// The kind of that.
    pub error_code: String,
    /// A sentence about a wait, a retry or a restart, or "".
    pub message: String,
    /// How often a file was begun again in this run.
    pub restarts: u32,
    /// How often a connection tried again in this run.
    pub retries: u32,
    /// How many wait before it; `None` when it does not wait.
    pub place: Option<usize>,
    /// Once it is completed.
    pub result: Option<Value>,
    /// ISO-8601 UTC.
    pub created_at: String,
    /// ISO-8601 UTC.
    pub finished_at: Option<String>,
    /// How many it brings.
    pub file_count: usize,
    /// Where they were asked for.
    pub files: Option<Vec<FileProgress>>,
}

/// What is only known in memory.
#[derive(Default)]
pub(super) struct Present {
    pub now: Option<Snapshot>,
    pub is_cancelling: bool,
    pub place: Option<usize>,
    /// What a killed run had brought.
    pub found: u64,
}

impl Download {
    pub(super) fn of(job: Job, present: Present) -> Self {
        let plan = &job.params["plan"];
        let text = |key: &str| plan[key].as_str().unwrap_or_default().to_owned();
        let total = job.params["total_bytes"].as_u64().unwrap_or_default();
        let running = present.now.clone().filter(|_| job.state == JobState::Running);
        let failed = job.state == JobState::Failed;
        let status = match &running {
            _ if present.is_cancelling => "cancelling",
            Some(now) => word(now.activity),
            None => status_of(job.state),
        };
        let kept = u64::try_from(job.done).unwrap_or_default().max(present.found);
        let downloaded = match (&present.now, job.state) {
            (_, JobState::Completed) => total,
            (Some(now), _) => now.downloaded,
            (None, _) => kept,
        };
        let error = job.error.clone().filter(|error| !error.is_empty());
        let error = error.unwrap_or_else(|| "The download failed.".to_owned());
        let now = present.now.unwrap_or_default();
        Self {
            repo_id: text("repo_id"),
            revision: text("commit"),
            quant: text("quant"),
            file_count: plan["files"].as_array().map_or(0, Vec::len),
            id: job.id,
            title: job.title,
            status,
            downloaded,
            total,
            speed: running.as_ref().map_or(0.0, |now| now.speed),
            eta_s: running.and_then(|now| now.eta_s),
            error: if failed { error } else { String::new() },
            error_code: job.error_code.filter(|_| failed).unwrap_or_default(),
            message: now.note,
            restarts: now.restarts,
            retries: now.retries,
            place: present.place,
            result: job.result,
            created_at: job.created_at,
            finished_at: job.finished_at,
            files: None,
        }
    }

    /// 0.0 to 1.0.
    #[must_use]
    pub fn progress(&self) -> f64 {
        match (self.status, self.total) {
            ("completed", _) => 1.0,
            (_, 0) => 0.0,
            (_, total) => (self.downloaded as f64 / total as f64).min(1.0),
        }
    }
}

fn status_of(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Running => "downloading",
        JobState::Paused => "paused",
        JobState::Completed => "completed",
        JobState::Cancelled => "cancelled",
        JobState::Failed => "error",
    }
}

/// The word on the wire for what a running download is at.
pub(super) fn word(activity: &'static str) -> &'static str {
    match activity {
        "publishing" => "verifying",
        "copying" => "downloading",
        same => same,
    }
}

/// The files of one that does not run: what its checkpoint says.
pub(super) fn files_of(job: &Job) -> Vec<FileProgress> {
    let completed = job.state == JobState::Completed;
    let progress = |file: &Value| {
        let path = file["path"].as_str().unwrap_or_default();
        let size = file["size"].as_u64().unwrap_or_default();
        let whole = completed || job.checkpoint["done"].get(path).is_some();
        FileProgress {
            path: path.to_owned(),
            size,
            downloaded: if whole { size } else { 0 },
            state: if whole { "done" } else { "waiting" },
        }
    };
    let files = job.params["plan"]["files"].as_array();
    files.into_iter().flatten().map(progress).collect()
}

/// How fast and when downloads run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// `None` means no limit.
    pub bytes_per_second: Option<u64>,
    /// How many at a time.
    pub at_once: u32,
    /// `None` means at any time.
    pub schedule: Option<Schedule>,
    /// Whether the schedule lets downloads run now.
    pub open: bool,
}
