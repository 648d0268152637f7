//! Long work with an id: start, follow, pause, resume, cancel, and go on after a crash.
//!
//! A domain registers one runner per kind of job. A runner is an async function that gets a [`JobContext`] (to report, to
//! keep a checkpoint, and to learn that it should stop) and the job's parameters; it returns the result object or fails.
//! Runners must be able to start again from their checkpoint. No kind is known by name here.

mod context;
mod service;
mod store;
mod turns;

pub use context::{JobContext, Progress};
pub use service::{JobService, Kind, ListJobs};
pub use store::{Job, JobState, JobStore, KEEP_FINISHED};
pub use turns::{Slots, Turns};
