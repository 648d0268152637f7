//! Plain values about running apps, for callers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long an app may take to end before it is killed.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It is not ready yet.
    Starting,
    /// It answers.
    Ready,
    /// It runs, but was not ready in the time its description gives it.
    NotAnswering,
    /// It was told to end.
    Stopping,
    /// Nothing of it is left.
    Exited,
}

/// What becomes of running apps when the sidecar ends in an orderly way, its parent's death included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExit {
    /// They end, too.
    #[default]
    Stop,
    /// They run on.
    Keep,
}

/// Sums over all processes of a run; memory that they share counts in each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Percent of one core; may exceed 100.
    #[serde(rename = "cpu_usage")]
    pub cpu: f64,
    /// GiB.
    #[serde(rename = "ram_memory")]
    pub ram: f64,
    /// GiB; 0 where the driver does not tell, as inside containers.
    #[serde(rename = "gpu_memory")]
    pub gpu: f64,
}

/// A run as it is now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunInfo {
    /// Names it.
    pub run_id: String,
    /// Its app.
    pub app_id: String,
    /// Its version.
    pub tag: String,
    /// Where it stands.
    pub state: RunState,
    /// Whether it answers.
    pub ready: bool,
    /// Of its first process.
    pub pid: u32,
    /// Where it listens.
    pub port: u16,
    /// Where it answers.
    pub url: String,
    /// Absolute.
    pub log_path: String,
    /// ISO-8601 UTC.
    pub started_at: String,
    /// An earlier sidecar started it.
    pub adopted: bool,
    /// Of its first process: negative for a signal, None while it runs or when unknown.
    pub exit_code: Option<i32>,
    /// What went wrong.
    pub error: Option<String>,
    /// What it uses.
    #[serde(flatten)]
    pub usage: Usage,
}

/// What became of a request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// How many processes were told to end.
    #[serde(rename = "stopped")]
    pub processes: usize,
    /// How many of them had to be killed.
    pub killed: usize,
}

/// The end of a run's log, oldest line first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogTail {
    /// Absolute.
    pub log_path: String,
    /// Without control characters.
    pub lines: Vec<String>,
    /// There are more before them.
    #[serde(rename = "truncated")]
    pub cut: bool,
}
