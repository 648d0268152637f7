//! How far the installation of an app is, in the shape that older clients poll (`get_installation_progress`).
//!
//! Threads report, polls read from memory, and the file that older sidecars keep is written at most once a second. The
//! record always ends with `completed_at` and `success`.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::places::write_lightly;
use crate::storage::files::{FILE_MODE, FOLDER_MODE, make_folders};
use crate::storage::json_file::{JsonObject, encode};
use crate::storage::locked;
use crate::text::cut;

/// Stage -> weight in percent.
const STAGES: [(&str, f64); 5] = [
    ("download", 15.0),
    ("extract", 5.0),
    ("venv", 5.0),
    ("dependencies", 70.0),
    ("setup", 5.0),
];
const PACKAGE_WEIGHTS: [(&str, u64); 19] = [
    ("torch", 15),
    ("tensorflow-gpu", 15),
    ("tensorflow", 12),
    ("opencv-contrib-python", 6),
    ("torchvision", 5),
    ("onnxruntime-gpu", 5),
    ("opencv-python", 4),
    ("opencv-python-headless", 4),
    ("xformers", 4),
    ("onnxruntime", 4),
    ("torchaudio", 3),
    ("scipy", 3),
    ("scikit-learn", 3),
    ("scikit-image", 3),
    ("transformers", 3),
    ("pandas", 2),
    ("matplotlib", 2),
    ("diffusers", 2),
    ("accelerate", 2),
];
const WRITE: Duration = Duration::from_secs(1);
const MOST_ITEMS: usize = 1000;
const LONGEST_ITEM: usize = 200;

struct Item {
    name: String,
    kind: &'static str,
    size: Option<u64>,
    completed_at: String,
}

#[derive(Default)]
struct Record {
    started_at: String,
    stage: &'static str,
    fraction: f64,
    current_item: Option<String>,
    speed: Option<f64>,
    eta_s: Option<f64>,
    total: Option<u64>,
    downloaded: u64,
    dependencies: Option<usize>,
    completed: u64,
    items: Vec<Item>,
    error: Option<String>,
    weight: Option<u64>,
    weight_done: u64,
    completed_at: Option<String>,
    success: Option<bool>,
    written: Option<Instant>,
}

type Told = Box<dyn Fn(&JsonObject) + Send + Sync>;

/// One installation.
pub(super) struct Progress {
    tag: String,
    path: PathBuf,
    log_path: PathBuf,
    told: Told,
    record: Mutex<Record>,
}

impl Progress {
    /// `path` is the file of older sidecars; `told` hears of each change.
    pub(super) fn new(tag: &str, path: PathBuf, log_path: PathBuf, told: Told) -> Self {
        let record = Record {
            started_at: moment(),
            stage: STAGES[0].0,
            ..Record::default()
        };
        Self {
            tag: tag.to_owned(),
            path,
            log_path,
            told,
            record: Mutex::new(record),
        }
    }

    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    pub(super) fn log_path(&self) -> &PathBuf {
        &self.log_path
    }

    pub(super) fn is_finished(&self) -> bool {
        locked(&self.record).completed_at.is_some()
    }

    pub(super) fn stage(&self, name: &'static str, item: Option<&str>) {
        self.change(true, |record| {
            (record.stage, record.fraction) = (name, 0.0);
            record.current_item = item.map(str::to_owned);
            (record.speed, record.eta_s) = (None, None);
        });
    }

    /// How far the stage is, 0 to 1; it never goes back.
    pub(super) fn at(&self, fraction: f64, item: Option<&str>) {
        self.change(false, |record| {
            record.reached(fraction);
            if let Some(item) = item {
                record.current_item = Some(cut(item, LONGEST_ITEM).to_owned());
            }
        });
    }

    /// Bytes, bytes per second, seconds.
    pub(super) fn download(&self, done: u64, total: Option<u64>, speed: Option<f64>, eta_s: Option<f64>) {
        self.change(false, |record| {
            (record.downloaded, record.total) = (done, total);
            (record.speed, record.eta_s) = (speed, eta_s);
            if let Some(total) = total.filter(|total| *total > 0) {
                record.fraction = (done as f64 / total as f64).min(1.0);
            }
        });
    }

    /// These packages (normalised names) will be installed.
    pub(super) fn plan<'a>(&self, packages: impl Iterator<Item = &'a str>) {
        let weights: Vec<u64> = packages.map(weight_of).collect();
        let mut record = locked(&self.record);
        record.dependencies = Some(weights.len());
        record.weight = Some(weights.into_iter().sum());
    }

    /// An archive or a package is done.
    pub(super) fn arrived(&self, name: &str, kind: &'static str, size: Option<u64>) {
        self.change(false, |record| {
            if record.items.len() < MOST_ITEMS {
                record.items.push(Item {
                    name: name.to_owned(),
                    kind,
                    size,
                    completed_at: moment(),
                });
            }
            if kind == "package" {
                record.completed += 1;
                record.weight_done += weight_of(name);
                if let Some(weight) = record.weight.filter(|weight| *weight > 0) {
                    record.reached(record.weight_done as f64 / weight as f64);
                }
            }
        });
    }

    /// None: it worked.
    pub(super) fn end(&self, error: Option<&str>) {
        if self.is_finished() {
            return;
        }
        self.change(true, |record| {
            record.error = error.map(str::to_owned);
            (record.success, record.completed_at) = (Some(error.is_none()), Some(moment()));
            (record.speed, record.eta_s) = (None, None);
            if error.is_none() {
                record.fraction = 1.0;
            }
        });
    }

    pub(super) fn snapshot(&self) -> JsonObject {
        self.shown(&locked(&self.record))
    }

    /// (stage, percent of all, what it is at)
    pub(super) fn brief(&self) -> (&'static str, u64, String) {
        let record = locked(&self.record);
        (
            record.stage,
            record.overall(),
            record.current_item.clone().unwrap_or_default(),
        )
    }

    fn change(&self, at_once: bool, change: impl FnOnce(&mut Record)) {
        let (shown, write) = {
            let mut record = locked(&self.record);
            change(&mut record);
            let write = at_once || record.written.is_none_or(|last| last.elapsed() > WRITE);
            if write {
                record.written = Some(Instant::now());
            }
            (self.shown(&record), write)
        };
        (self.told)(&shown);
        if write {
            // Of use to older sidecars only; a full disk must not end an installation that has its room already.
            let folder = self.path.parent().unwrap_or(&self.path);
            let _ = make_folders(folder, FOLDER_MODE)
                .and_then(|_| write_lightly(&self.path, &encode(&shown), FILE_MODE));
        }
    }

    fn shown(&self, record: &Record) -> JsonObject {
        let items: Vec<Value> = record
            .items
            .iter()
            .map(|item| {
                json!({"name": item.name, "type": item.kind, "size": item.size, "completed_at": item.completed_at})
            })
            .collect();
        let speed = record.speed.map(|speed| (speed * 10.0).round_ties_even() / 10.0);
        let mut shown = json!({
            "tag": self.tag,
            "started_at": record.started_at,
            "stage": record.stage,
            "stage_progress": whole(record.fraction * 100.0),
            "overall_progress": record.overall(),
            "current_item": record.current_item,
            "download_speed": speed,
            "eta_seconds": record.eta_s.map(whole),
            "total_size": record.total,
            "downloaded_bytes": record.downloaded,
            "dependency_count": record.dependencies,
            "completed_dependencies": record.completed,
            "completed_items": items,
            "error": record.error,
            "pid": null,
            "log_path": self.log_path,
        });
        if let Some(weight) = record.weight {
            shown["total_weight"] = json!(weight);
            shown["completed_weight"] = json!(record.weight_done);
        }
        if let Some(completed_at) = &record.completed_at {
            shown["completed_at"] = json!(completed_at);
            shown["success"] = json!(record.success);
        }
        match shown {
            Value::Object(shown) => shown,
            _ => JsonObject::new(),
        }
    }
}

impl Record {
    fn reached(&mut self, fraction: f64) {
        self.fraction = self.fraction.max(fraction.clamp(0.0, 1.0));
    }

    fn overall(&self) -> u64 {
        if self.success == Some(true) {
            return 100;
        }
        let before = STAGES.iter().take_while(|(name, _)| *name != self.stage);
        let before: f64 = before.map(|(_, weight)| weight).sum();
        let own = STAGES.iter().find(|(name, _)| *name == self.stage);
        whole(before + own.map_or(0.0, |(_, weight)| weight * self.fraction))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "percent and seconds"
)]
fn whole(number: f64) -> u64 {
    number.max(0.0) as u64
}

/// How much of the time a package takes, in comparison.
fn weight_of(package: &str) -> u64 {
    let known = PACKAGE_WEIGHTS.iter().find(|(name, _)| *name == package);
    known.map_or(1, |(_, weight)| *weight)
}

/// Now, as older sidecars write it here.
pub(super) fn moment() -> String {
    Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_goes_forward_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache/state.json");
        let progress = Progress::new("v1", path.clone(), "/log".into(), Box::new(|_| {}));
        let percent = || progress.snapshot()["overall_progress"].as_u64().unwrap();
        progress.download(50, Some(100), Some(12.34), Some(4.9));
        assert_eq!(percent(), 7);
        assert_eq!(
            (
                &progress.snapshot()["download_speed"],
                &progress.snapshot()["eta_seconds"]
            ),
            (&json!(12.3), &json!(4))
        );
        progress.stage("dependencies", None);
        progress.plan(["torch", "tiny"].into_iter());
        progress.arrived("torch", "package", Some(7));
        progress.at(0.1, Some("later"));
        assert_eq!(percent(), 25 + 65);
        assert_eq!(progress.snapshot()["total_weight"], 16);
        progress.end(Some("no"));
        progress.end(None);
        let kept: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!((&kept["success"], &kept["error"]), (&json!(false), &json!("no")));
        assert!(progress.is_finished());
    }
}
