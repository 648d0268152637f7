//! The jobs methods: follow and steer long work.

use pumas_core::jobs::{Job, JobState, ListJobs};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::registry::{Row, row};

#[derive(Deserialize)]
struct JobId {
    job_id: String,
}

#[derive(Deserialize)]
struct List {
    kind: Option<String>,
    states: Vec<JobState>,
    limit: u32,
    offset: u32,
}

#[derive(Serialize)]
struct JobInfo {
    job_id: String,
    kind: String,
    title: String,
    state: JobState,
    progress: f64,
    stage: String,
    item: String,
    done: i64,
    total: i64,
    unit: String,
    error: Option<String>,
    error_code: Option<String>,
    result: Option<Value>,
    created_at: String,
    updated_at: String,
    finished_at: Option<String>,
}

#[derive(Serialize)]
struct OneJob {
    job: JobInfo,
}

#[derive(Serialize)]
struct JobList {
    jobs: Vec<JobInfo>,
}

impl From<Job> for JobInfo {
    fn from(job: Job) -> Self {
        Self {
            progress: job.progress(),
            job_id: job.id,
            kind: job.kind,
            title: job.title,
            state: job.state,
            stage: job.stage,
            item: job.item,
            done: job.done,
            total: job.total,
            unit: job.unit,
            error: job.error,
            error_code: job.error_code,
            result: job.result,
            created_at: job.created_at,
            updated_at: job.updated_at,
            finished_at: job.finished_at,
        }
    }
}

impl From<Job> for OneJob {
    fn from(job: Job) -> Self {
        Self { job: job.into() }
    }
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("list_jobs", |api, p: List| async move {
            let wanted = ListJobs {
                kind: p.kind,
                states: p.states,
                limit: p.limit,
                offset: p.offset,
            };
            let jobs = api
                .jobs
                .list(wanted)
                .await?
                .into_iter()
                .map(JobInfo::from)
                .collect();
            Ok(JobList { jobs })
        }),
        row("get_job", |api, p: JobId| async move {
            Ok(OneJob::from(api.jobs.get(&p.job_id).await?))
        }),
        row("cancel_job", |api, p: JobId| async move {
            Ok(OneJob::from(api.jobs.cancel(&p.job_id).await?))
        }),
        row("pause_job", |api, p: JobId| async move {
            Ok(OneJob::from(api.jobs.pause(&p.job_id).await?))
        }),
        row("resume_job", |api, p: JobId| async move {
            Ok(OneJob::from(api.jobs.resume(&p.job_id).await?))
        }),
    ]
}
