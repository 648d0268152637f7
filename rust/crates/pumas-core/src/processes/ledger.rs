//! What this root's sidecars have started, kept on disk so that the next sidecar finds it again.
//!
//! One JSON file. It is a list of names to look for, never a licence to signal: a record is believed only when the process
//! that has its number was started then, in this boot, and carries the run's mark ([`is_recognised`]). A forged, copied or
//! outdated record therefore leads to nobody. Blocks.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::family::{MARK, Marks};
use super::kernel::{self, Identity};
use super::values::OnExit;
use crate::error::{Error, Result};
use crate::storage::files::{During as _, FOLDER_MODE, exists, make_folders, put_aside};
use crate::storage::json_file::{self, JsonObject, backup_path};
use crate::storage::locked;
use crate::storage::state_lock::StateLock;

const KEPT_LOGS: usize = 10;
const RUNS: &str = "runs";
const LOGS: &str = "logs";
const ON_EXIT: &str = "when_sidecar_ends";

/// One start of an app. Unknown processes have the number 0; all numbers hold in `boot`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct Record {
    pub(super) run_id: String,
    pub(super) app_id: String,
    pub(super) tag: String,
    pub(super) boot: String,
    pub(super) keeper: u32,
    pub(super) keeper_start: u64,
    pub(super) leader: u32,
    pub(super) leader_start: u64,
    pub(super) port: u16,
    pub(super) command: Vec<String>,
    pub(super) programs: Vec<String>,
    pub(super) folder: String,
    pub(super) log: String,
    pub(super) started_at: String,
}

impl Record {
    pub(super) fn keeper(&self) -> Identity {
        Identity {
            pid: self.keeper,
            start: self.keeper_start,
            boot: self.boot.clone(),
        }
    }

    pub(super) fn leader(&self) -> Identity {
        Identity {
            pid: self.leader,
            start: self.leader_start,
            boot: self.boot.clone(),
        }
    }

    pub(super) fn marks(&self) -> Marks {
        Marks {
            leader: self.leader,
            leader_start: self.leader_start,
            programs: self.programs.clone(),
            folder: self.folder.clone(),
        }
    }

    pub(super) fn led_by(mut self, pid: u32, start: u64) -> Self {
        (self.leader, self.leader_start) = (pid, start);
        self
    }

    /// Fails with the name of what is wrong.
    fn read(raw: &Value) -> Result<Self, String> {
        let record: Self = serde_json::from_value(raw.clone()).map_err(|error| error.to_string())?;
        let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if record.run_id.len() == 32 && record.run_id.bytes().all(is_digit) {
            return Ok(record);
        }
        Err("run_id".to_owned())
    }
}

/// Where the keeper writes how the first process ended.
pub(super) fn exit_file(cache: &Path, run_id: &str) -> PathBuf {
    cache.join(format!("run-{run_id}.json"))
}

/// Whether it is a log of an app in the folder of logs: no other is read or removed, whatever a record says.
pub(super) fn is_log(folder: &Path, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    path.parent() == Some(folder) && name.starts_with(b"launch-")
}

/// Whether one of the record's processes is there and proves to be it.
pub(super) fn is_recognised(record: &Record) -> bool {
    let proves = |who: &Identity| {
        who.pid > 1
            && who.pid != std::process::id()
            && kernel::alive(who)
            && kernel::has_variable(who.pid, MARK, &record.run_id)
    };
    proves(&record.keeper()) || proves(&record.leader())
}

/// What is written down.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) runs: Vec<Record>,
    pub(super) on_exit: OnExit,
    /// What could not be read.
    pub(super) wrong: Option<String>,
}

/// What cannot be read is put aside and begun anew with what this object knows: the file is no one's only copy of anything,
/// and an app must not be hindered by it.
pub(super) struct Ledger {
    pub(super) path: PathBuf,
    lock: StateLock,
    own: Mutex<HashMap<String, Record>>,
}

impl Ledger {
    pub(super) fn new(path: PathBuf, lock: StateLock) -> Self {
        Self {
            path,
            lock,
            own: Mutex::default(),
        }
    }

    fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// # Errors
    /// A damaged file cannot be put aside.
    pub(super) fn load(&self) -> Result<Contents> {
        let value = match json_file::load(&self.path) {
            Ok(loaded) => loaded.value.unwrap_or_default(),
            Err(error) => {
                self.put_aside()?;
                return Ok(Contents {
                    wrong: Some(error.to_string()),
                    ..Contents::default()
                });
            }
        };
        let mut found = Contents::default();
        for entry in value.get(RUNS).and_then(Value::as_object).into_iter().flatten() {
            match Record::read(entry.1) {
                Ok(record) => found.runs.push(record),
                Err(reason) => {
                    let text = format!("{} holds a run that makes no sense ({reason})", self.name());
                    found.wrong = Some(text);
                }
            }
        }
        if value.get(ON_EXIT).and_then(Value::as_str) == Some("keep") {
            found.on_exit = OnExit::Keep;
        }
        Ok(found)
    }

    /// # Errors
    /// What the disk refuses; nothing was changed then. So with all that follow.
    pub(super) fn set_on_exit(&self, wish: OnExit) -> Result<()> {
        self.update(|value| {
            value.insert(ON_EXIT.to_owned(), json!(wish));
        })
    }

    pub(super) fn put(&self, record: &Record) -> Result<()> {
        self.update(|value| {
            object(value, RUNS).insert(record.run_id.clone(), json!(record));
        })?;
        locked(&self.own).insert(record.run_id.clone(), record.clone());
        Ok(())
    }

    pub(super) fn remove(&self, run_ids: &[String]) -> Result<()> {
        if run_ids.is_empty() {
            return Ok(());
        }
        locked(&self.own).retain(|run_id, _| !run_ids.contains(run_id));
        self.update(|value| {
            let runs = object(value, RUNS);
            for run_id in run_ids {
                runs.shift_remove(run_id);
            }
        })
    }

    /// Remember a log, newest last, and return those of the app that may go.
    pub(super) fn add_log(&self, app_id: &str, log: &str) -> Result<Vec<String>> {
        let mut spare = Vec::new();
        self.update(|value| {
            let logs = object(value, LOGS);
            let known = logs.get(app_id).and_then(Value::as_array).into_iter().flatten();
            let mut names: Vec<String> = known
                .filter_map(|name| name.as_str())
                .filter(|name| *name != log)
                .map(str::to_owned)
                .collect();
            names.push(log.to_owned());
            let kept = names.split_off(names.len().saturating_sub(KEPT_LOGS));
            spare = names;
            logs.insert(app_id.to_owned(), json!(kept));
        })?;
        Ok(spare)
    }

    /// Of the newest run of an app, ended or not.
    pub(super) fn last_log(&self, app_id: &str) -> Option<String> {
        let value = json_file::load(&self.path).ok()?.value?;
        let logs = value.get(LOGS)?.get(app_id)?.as_array()?;
        logs.last()?.as_str().map(str::to_owned)
    }

    fn update(&self, mut change: impl FnMut(&mut JsonObject)) -> Result<()> {
        let during = format!("Writing {}", self.name());
        make_folders(self.path.parent().unwrap_or(&self.path), FOLDER_MODE).during(&during)?;
        let changed = json_file::update(&self.path, &self.lock, |value| {
            change(value);
            Ok(())
        });
        if !matches!(changed, Err(Error::CorruptState { .. })) {
            return changed.map(|_| ());
        }
        self.put_aside()?;
        json_file::update(&self.path, &self.lock, |value| {
            let runs = object(value, RUNS);
            for (run_id, record) in &*locked(&self.own) {
                runs.insert(run_id.clone(), json!(record));
            }
            change(value);
            Ok(())
        })
        .map(|_| ())
    }

    /// The file and its backup, both under a dated name.
    fn put_aside(&self) -> Result<()> {
        let during = format!("Putting {} aside", self.name());
        for path in [self.path.clone(), backup_path(&self.path)] {
            if exists(&path) {
                put_aside(&path).during(&during)?;
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

fn object<'a>(value: &'a mut JsonObject, key: &str) -> &'a mut JsonObject {
    let inner = value.entry(key.to_owned()).or_insert_with(|| json!({}));
    if !inner.is_object() {
        *inner = json!({});
    }
    match inner {
        Value::Object(inner) => inner,
        _ => unreachable!("it was made an object above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            run_id: "0123456789abcdef0123456789abcdef".to_owned(),
            app_id: "tiny".to_owned(),
            tag: "v1".to_owned(),
            boot: String::new(),
            keeper: 0,
            keeper_start: 0,
            leader: 0,
            leader_start: 0,
            port: 9,
            command: vec!["/a".to_owned()],
            programs: Vec::new(),
            folder: "/x".to_owned(),
            log: "/x/launch-a.log".to_owned(),
            started_at: String::new(),
        }
    }

    fn ledger(place: &Path) -> Ledger {
        Ledger::new(place.join("m/processes.json"), StateLock::new(place.join("lock")))
    }

    #[test]
    fn runs_are_found_again() {
        let place = tempfile::tempdir().unwrap();
        let one = ledger(place.path());
        one.put(&record()).unwrap();
        one.set_on_exit(OnExit::Keep).unwrap();
        let found = ledger(place.path()).load().unwrap();
        assert_eq!(
            (found.runs.len(), found.on_exit, found.wrong),
            (1, OnExit::Keep, None)
        );
        one.remove(&[record().run_id]).unwrap();
        assert!(one.load().unwrap().runs.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_told_and_left_out() {
        let place = tempfile::tempdir().unwrap();
        let one = ledger(place.path());
        one.put(&record()).unwrap();
        for (key, bad) in [
            ("run_id", json!("../x")),
            ("port", json!("9")),
            ("keeper", json!(-1)),
        ] {
            let mut value = json!(record());
            value[key] = bad;
            let file = json!({"runs": {"a": value}});
            fs::write(&one.path, file.to_string()).unwrap();
            let found = one.load().unwrap();
            assert!(found.runs.is_empty() && found.wrong.is_some(), "{key}");
        }
    }

    #[test]
    fn a_damaged_file_is_begun_anew_with_what_is_known() {
        let place = tempfile::tempdir().unwrap();
        let one = ledger(place.path());
        one.put(&record()).unwrap();
        fs::write(&one.path, "{").unwrap();
        let _ = fs::remove_file(backup_path(&one.path));
        one.set_on_exit(OnExit::Stop).unwrap();
        assert_eq!(one.load().unwrap().runs.len(), 1);
    }

    #[test]
    fn only_the_newest_logs_are_kept() {
        let place = tempfile::tempdir().unwrap();
        let one = ledger(place.path());
        for number in 0..KEPT_LOGS {
            assert!(one.add_log("tiny", &number.to_string()).unwrap().is_empty());
        }
        assert_eq!(one.add_log("tiny", "new").unwrap(), ["0"]);
        assert_eq!(one.last_log("tiny").as_deref(), Some("new"));
    }
}
