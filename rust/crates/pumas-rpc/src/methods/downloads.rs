//! Downloads from the hub.

use pumas_core::Error;
use pumas_core::downloads::{Download, DownloadRequest, DownloadSettings, FileProgress, Limits, Schedule};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::registry::{NoParams, Row, row};

#[derive(Deserialize)]
struct Start {
    repo_id: String,
    family: String,
    official_name: String,
    model_type: String,
    subtype: String,
    quant: String,
    filename: String,
    filenames: Vec<String>,
    revision: String,
    security_acknowledged: bool,
    allow_duplicate: bool,
}

#[derive(Serialize)]
struct Started {
    download_id: String,
    total_bytes: u64,
    repo_id: String,
    revision: String,
    status: &'static str,
    files: usize,
}

#[derive(Deserialize)]
struct DownloadId {
    download_id: String,
}

#[derive(Deserialize)]
struct GetStatus {
    download_id: String,
    files: bool,
}

#[derive(Deserialize)]
struct List {
    finished: bool,
    limit: u32,
}

#[derive(Deserialize)]
struct Reorder {
    download_ids: Vec<String>,
}

#[derive(Deserialize)]
struct SetLimits {
    bytes_per_second: Option<u64>,
    at_once: Option<u32>,
    schedule: Option<GivenSchedule>,
    any_time: bool,
}

#[derive(Deserialize)]
struct GivenSchedule {
    start: String,
    end: String,
    days: Vec<String>,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the name on the wire")]
struct Status {
    download_id: String,
    repo_id: String,
    revision: String,
    title: String,
    quant: String,
    status: &'static str,
    progress: f64,
    downloaded_bytes: u64,
    total_bytes: u64,
    speed: f64,
    eta_seconds: Option<f64>,
    error: String,
    error_code: String,
    message: String,
    restarts: u32,
    retries: u32,
    place: Option<usize>,
    model_id: Value,
    model_path: Value,
    warnings: Value,
    created_at: String,
    finished_at: Option<String>,
    files: Option<Vec<FileProgress>>,
}

#[derive(Serialize)]
struct Downloads {
    downloads: Vec<Status>,
}

#[derive(Serialize)]
struct LimitsInfo {
    bytes_per_second: Option<u64>,
    at_once: u32,
    schedule: Option<Schedule>,
    open: bool,
}

impl From<Download> for Started {
    fn from(found: Download) -> Self {
        Self {
            download_id: found.id,
            total_bytes: found.total,
            repo_id: found.repo_id,
            revision: found.revision,
            status: found.status,
            files: found.file_count,
        }
    }
}

impl From<Download> for Status {
    fn from(found: Download) -> Self {
        let result = found.result.as_ref();
        let said = |key: &str| result.and_then(|result| result.get(key)).cloned();
        Self {
            model_id: said("model_id").unwrap_or_default(),
            model_path: said("model_path").unwrap_or_default(),
            warnings: said("warnings").unwrap_or_else(|| json!([])),
            progress: found.progress(),
            download_id: found.id,
            repo_id: found.repo_id,
            revision: found.revision,
            title: found.title,
            quant: found.quant,
            status: found.status,
            downloaded_bytes: found.downloaded,
            total_bytes: found.total,
            speed: tenths(found.speed),
            eta_seconds: found.eta_s.map(tenths),
            error: found.error,
            error_code: found.error_code,
            message: found.message,
            restarts: found.restarts,
            retries: found.retries,
            place: found.place,
            created_at: found.created_at,
            finished_at: found.finished_at,
            files: found.files,
        }
    }
}

impl From<Vec<Download>> for Downloads {
    fn from(found: Vec<Download>) -> Self {
        Self {
            downloads: found.into_iter().map(Status::from).collect(),
        }
    }
}

impl From<Limits> for LimitsInfo {
    fn from(limits: Limits) -> Self {
        Self {
            bytes_per_second: limits.bytes_per_second,
            at_once: limits.at_once,
            schedule: limits.schedule,
            open: limits.open,
        }
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

impl From<Start> for DownloadRequest {
    fn from(p: Start) -> Self {
        let mut filenames = p.filenames;
        filenames.extend(Some(p.filename).filter(|name| !name.is_empty()));
        Self {
            repo_id: p.repo_id,
            revision: p.revision,
            quant: p.quant,
            filenames,
            family: p.family,
            official_name: p.official_name,
            model_type: p.model_type,
            subtype: p.subtype,
            security_acknowledged: p.security_acknowledged,
            allow_duplicate: p.allow_duplicate,
        }
    }
}

/// Both names of the start do the same.
fn start(name: &'static str) -> Row {
    row(name, |api, p: Start| async move {
        Ok(Started::from(api.downloads.start(p.into()).await?))
    })
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        start("start_model_download_from_hf"),
        start("download_model_from_hf"),
        row("get_model_download_status", |api, p: GetStatus| async move {
            Ok(Status::from(api.downloads.status(&p.download_id, p.files).await?))
        }),
        row("list_model_downloads", |api, p: List| async move {
            Ok(Downloads::from(api.downloads.list(p.finished, p.limit).await?))
        }),
        row("pause_model_download", |api, p: DownloadId| async move {
            Ok(Status::from(api.downloads.pause(&p.download_id).await?))
        }),
        row("resume_model_download", |api, p: DownloadId| async move {
            Ok(Status::from(api.downloads.resume(&p.download_id).await?))
        }),
        row("cancel_model_download", |api, p: DownloadId| async move {
            api.downloads.cancel(&p.download_id).await?;
            Ok(json!({}))
        }),
        row("reorder_model_downloads", |api, p: Reorder| async move {
            Ok(Downloads::from(api.downloads.move_first(&p.download_ids).await?))
        }),
        row("get_download_limits", |api, _: NoParams| async move {
            Ok(LimitsInfo::from(api.downloads.limits()))
        }),
        row("set_download_limits", |api, p: SetLimits| async move {
            let limits = api.downloads.set_limits(|settings| change(settings, p)).await?;
            Ok(LimitsInfo::from(limits))
        }),
    ]
}

fn change(settings: &mut DownloadSettings, p: SetLimits) -> Result<(), Error> {
    if let Some(rate) = p.bytes_per_second {
        settings.bytes_per_second = Some(rate).filter(|rate| *rate > 0);
    }
    if let Some(at_once) = p.at_once {
        settings.at_once = at_once;
    }
    // What is wrong with a number is told before what is wrong with the hours.
    settings.check()?;
    match (p.schedule, p.any_time) {
        (Some(_), true) => {
            let reason = "cannot be true together with a schedule";
            return Err(Error::invalid("any_time", reason));
        }
        (Some(given), false) => {
            settings.schedule = Some(Schedule::tidy(given.start, given.end, given.days)?);
        }
        (None, true) => settings.schedule = None,
        (None, false) => {}
    }
    Ok(())
}
