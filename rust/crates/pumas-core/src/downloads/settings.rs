//! What the user set for downloads, and their order: `launcher-data/metadata/downloads.json`.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::bandwidth::{SLOWEST, check_rate};
use super::queue::{MOST_AT_ONCE, check_at_once};
use super::schedule::Schedule;
use crate::error::Result;
use crate::storage::files::{During as _, FOLDER_MODE, make_folders};
use crate::storage::json_file::{self, JsonObject, Readers};
use crate::storage::state_lock::StateLock;
use crate::storage::troubles::Troubles;

const AT_ONCE: u32 = 3;

/// How downloads run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadSettings {
    /// `None` means no limit.
    pub bytes_per_second: Option<u64>,
    /// How many run at a time.
    pub at_once: u32,
    /// `None` means at any time.
    pub schedule: Option<Schedule>,
    /// Ids of unfinished ones.
    pub order: Vec<String>,
}

impl Default for DownloadSettings {
    fn default() -> Self {
        Self {
            bytes_per_second: None,
            at_once: AT_ONCE,
            schedule: None,
            order: Vec::new(),
        }
    }
}

impl DownloadSettings {
    /// Whether the numbers are possible ones.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn check(&self) -> Result<()> {
        check_rate(self.bytes_per_second)?;
        check_at_once(self.at_once)
    }

    fn written(&self) -> JsonObject {
        let schedule = self.schedule.as_ref();
        JsonObject::from_iter([
            ("bytes_per_second".to_owned(), json!(self.bytes_per_second)),
            ("at_once".to_owned(), json!(self.at_once)),
            ("schedule".to_owned(), json!(schedule)),
            ("order".to_owned(), json!(self.order)),
        ])
    }

    /// Each value by itself: one that makes no sense is as good as not there.
    fn read(value: &JsonObject) -> Self {
        let number = |key: &str| value.get(key).and_then(Value::as_u64);
        let at_once = number("at_once").and_then(|count| u32::try_from(count).ok());
        Self {
            bytes_per_second: number("bytes_per_second").filter(|rate| *rate >= SLOWEST),
            at_once: at_once
                .filter(|count| (1..=MOST_AT_ONCE).contains(count))
                .unwrap_or(AT_ONCE),
            schedule: value.get("schedule").and_then(schedule),
            order: texts(value.get("order")),
        }
    }
}

fn schedule(value: &Value) -> Option<Schedule> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let days = value.get("days");
    let is_text = |day: &Value| day.is_string();
    if days
        .and_then(Value::as_array)
        .is_some_and(|days| !days.iter().all(is_text))
    {
        return None;
    }
    Schedule::new(text("start")?, text("end")?, texts(days)).ok()
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    items
        .iter()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

/// Calls block; they come from worker threads. Keys that are not ours are kept.
pub(super) struct SettingsFile {
    path: PathBuf,
    lock: StateLock,
    troubles: Arc<Troubles>,
}

impl SettingsFile {
    pub(super) fn new(path: PathBuf, lock: StateLock, troubles: Arc<Troubles>) -> Self {
        Self { path, lock, troubles }
    }

    /// The defaults where nothing usable is written; what is damaged is reported, and kept when it is replaced.
    pub(super) fn load(&self) -> DownloadSettings {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let loaded = match json_file::load(&self.path) {
            Ok(loaded) => loaded,
            Err(error) => {
                self.troubles.report(&name, error.kind(), &error.to_string());
                return DownloadSettings::default();
            }
        };
        if let Some(why) = loaded.recovered {
            let message = format!("{name} was damaged ({why}); its backup is used.");
            self.troubles.report(&name, "recovered_state", &message);
        }
        let value = loaded.value.unwrap_or_default();
        let settings = DownloadSettings::read(&value);
        let unusable: Vec<String> = settings
            .written()
            .into_iter()
            .filter(|(key, kept)| {
                value
                    .get(key)
                    .is_some_and(|given| !given.is_null() && !same(given, kept))
            })
            .map(|(key, _)| key)
            .collect();
        if !unusable.is_empty() {
            let message = format!(
                "{name}: {} cannot be used; the defaults hold for that.",
                unusable.join(", ")
            );
            self.troubles.report(&name, "damaged_settings", &message);
        }
        settings
    }

    /// # Errors
    /// What the disk refuses; then nothing was changed.
    pub(super) fn save(&self, settings: &DownloadSettings) -> Result<()> {
        let _held = self.lock.hold()?;
        let loaded = json_file::load(&self.path).unwrap_or_default();
        let mut value = loaded.value.unwrap_or_default();
        if let Some(folder) = self.path.parent() {
            make_folders(folder, FOLDER_MODE).during("Writing the settings of downloads")?;
        }
        value.extend(settings.written());
        json_file::save(&self.path, &value, Readers::Anybody)
    }

    /// Keep the order; a disk that refuses costs the order at the next start, not the download.
    pub(super) fn save_order(&self, settings: &DownloadSettings, order: Vec<String>) -> DownloadSettings {
        let changed = DownloadSettings {
            order,
            ..settings.clone()
        };
        if changed != *settings
            && let Err(error) = self.save(&changed)
        {
            tracing::warn!("the order of downloads is not kept: {error}");
        }
        changed
    }
}

/// Whether a value was taken; of objects and lists only that they were, not what was left out of them.
fn same(given: &Value, kept: &Value) -> bool {
    match (given, kept) {
        (Value::Object(_), Value::Object(_)) | (Value::Array(_), Value::Array(_)) => true,
        _ => given == kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &tempfile::TempDir) -> SettingsFile {
        let lock = StateLock::new(folder.path().join("state.lock"));
        SettingsFile::new(
            folder.path().join("metadata/downloads.json"),
            lock,
            Arc::default(),
        )
    }

    #[test]
    fn settings_are_found_again_with_keys_that_are_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        assert_eq!(file.load(), DownloadSettings::default());
        let settings = DownloadSettings {
            bytes_per_second: Some(4096),
            at_once: 2,
            schedule: Some(Schedule::new("22:00".into(), "06:00".into(), vec!["mon".into()]).unwrap()),
            order: vec!["a".to_owned()],
        };
        std::fs::create_dir_all(folder.path().join("metadata")).unwrap();
        std::fs::write(&file.path, b"{\"theirs\": 1, \"at_once\": 9}").unwrap();
        file.save(&settings).unwrap();
        assert_eq!(file.load(), settings);
        assert_eq!(json_file::load(&file.path).unwrap().value.unwrap()["theirs"], 1);
        assert_eq!(file.troubles.count(), 0);
    }

    #[test]
    fn what_makes_no_sense_is_said_and_the_rest_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        std::fs::create_dir_all(folder.path().join("metadata")).unwrap();
        std::fs::write(
            &file.path,
            br#"{"bytes_per_second": 10, "at_once": true, "schedule": "x", "order": ["a", 1]}"#,
        )
        .unwrap();
        let expected = DownloadSettings {
            order: vec!["a".to_owned()],
            ..DownloadSettings::default()
        };
        assert_eq!(file.load(), expected);
        assert_eq!(
            file.troubles.list()[0].message,
            "downloads.json: bytes_per_second, at_once, schedule cannot be used; the defaults hold for that."
        );
    }
}
