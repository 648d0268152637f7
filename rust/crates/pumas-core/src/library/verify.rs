//! Hashes the library's files again and says where they differ from what is on record.
//!
//! A digest that is on record is never replaced, whatever the disk holds now: a difference is reported as a trouble and
//! in the job's result. A digest that is missing is filled in, because the bytes were hashed just now; one that another
//! program's file name claimed is compared first, and is `verified` from then on. Files of a reference are read where
//! they are. The job goes on after the last finished model when it was interrupted.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::Layout;
use crate::error::{Error, Result};
use crate::library::entry::{FoundFile, is_model_file, primary_file};
use crate::library::hashing::{Digests, digest_file};
use crate::library::importing::Work;
use crate::library::index::Index;
use crate::library::metadata::{FileEntry, METADATA, ModelMetadata, digest_text, file_entries};
use crate::library::references::{REFERENCES, Reference, State, file_path, references};
use crate::storage::files::exists;
use crate::storage::json_file::JsonObject;
use crate::storage::paths::display_name;
use crate::storage::troubles::Troubles;

const MAX_FINDINGS: usize = 1000;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

/// What became of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it is on record.
    Ok,
    /// Nothing was on record; now something is.
    Recorded,
    /// Not as it is on record.
    Mismatch,
    /// On record, not on disk.
    Missing,
    /// On a drive that is away.
    Offline,
    /// It could not be read.
    Unreadable,
}

impl Status {
    /// The kind of trouble that it is.
    fn trouble(self) -> Option<&'static str> {
        match self {
            Self::Ok | Self::Recorded => None,
            Self::Mismatch => Some("digest_mismatch"),
            Self::Missing => Some("file_missing"),
            Self::Offline => Some("file_offline"),
            Self::Unreadable => Some("file_unreadable"),
        }
    }
}

/// What became of one file; `file` is `""` when it concerns the model's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The model.
    pub model_id: String,
    /// Relative to the model's folder.
    pub file: String,
    /// What became of it.
    pub status: Status,
    /// A sentence.
    pub message: String,
    /// A digest (SHA-256 unless only BLAKE3 is on record), or a size.
    pub expected: String,
    /// Of the same kind as `expected`.
    pub observed: String,
}

/// What the job keeps, and all but the first two of it its result.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Tally {
    after: String,
    done: u64,
    models: u64,
    files: u64,
    ok: u64,
    recorded: u64,
    mismatch: u64,
    missing: u64,
    offline: u64,
    unreadable: u64,
    findings_omitted: u64,
    findings: Vec<Finding>,
}

impl Tally {
    fn count(&mut self, model_id: &str, findings: Vec<Finding>) {
        model_id.clone_into(&mut self.after);
        self.models += 1;
        for finding in findings {
            self.files += u64::from(!finding.file.is_empty());
            *match finding.status {
                Status::Ok => &mut self.ok,
                Status::Recorded => &mut self.recorded,
                Status::Mismatch => &mut self.mismatch,
                Status::Missing => &mut self.missing,
                Status::Offline => &mut self.offline,
                Status::Unreadable => &mut self.unreadable,
            } += 1;
            if finding.status.trouble().is_some() {
                if self.findings.len() < MAX_FINDINGS {
                    self.findings.push(finding);
                } else {
                    self.findings_omitted += 1;
                }
            }
        }
    }

    fn to_json(&self) -> JsonObject {
        match json!(self) {
            Value::Object(object) => object,
            _ => JsonObject::new(),
        }
    }

    fn result(&self) -> JsonObject {
        let mut result = self.to_json();
        result.shift_remove("after");
        result.shift_remove("done");
        result.insert("bytes".to_owned(), self.done.into());
        result
    }
}

/// What the metadata says about one file, the digests of `hashes` counted for the primary one.
struct Record {
    size: Option<u64>,
    sha256: String,
    blake3: String,
    claimed: String,
}

impl Record {
    /// (expected, observed) of the first difference.
    fn difference(&self, found: &Digests) -> Option<(String, String)> {
        let known = [
            (&self.sha256, &found.sha256),
            (&self.blake3, &found.blake3),
            (&self.claimed, &found.sha256),
        ];
        let different = known
            .into_iter()
            .find(|(expected, observed)| !expected.is_empty() && expected != observed);
        if let Some((expected, observed)) = different {
            return Some((expected.clone(), observed.clone()));
        }
        let size = self
            .size
            .filter(|size| *size != found.size && known.iter().all(|(expected, _)| expected.is_empty()))?;
        Some((format!("{size} bytes"), format!("{} bytes", found.size)))
    }
}

type Outside = BTreeMap<String, Reference>;
type OnDisk = IndexMap<String, u64>;

/// [`VerifyService::run`] is the runner of the job kind `verify`.
pub struct VerifyService {
    shown_root: String,
    models: ModelMetadata,
    index: Arc<dyn Index>,
    troubles: Arc<Troubles>,
}

impl VerifyService {
    /// For the library of `layout`.
    #[must_use]
    pub fn new(
        layout: &Layout,
        models: ModelMetadata,
        index: Arc<dyn Index>,
        troubles: Arc<Troubles>,
    ) -> Self {
        let library = layout.library();
        let shown_root = library
            .strip_prefix(layout.root())
            .unwrap_or(&library)
            .to_string_lossy()
            .into_owned();
        Self {
            shown_root,
            models,
            index,
            troubles,
        }
    }

    /// The parameters of a job that verifies these models, or all.
    #[must_use]
    pub fn job_params(model_ids: Option<&[String]>) -> Value {
        json!({ "model_ids": model_ids })
    }

    /// Does the work of a job; blocks. The result counts `models`, `files` and `bytes`, and files by [`Status`];
    /// `findings` lists the first 1,000 files that are not `ok` or `recorded`, `findings_omitted` counts the others.
    ///
    /// # Errors
    /// `Cancelled` or `Interrupted` when the job was told to stop.
    pub fn run(&self, work: &dyn Work, params: &JsonObject) -> Result<JsonObject> {
        work.check()?;
        let mut tally: Tally = serde_json::from_value(Value::Object(work.checkpoint())).unwrap_or_default();
        let mut ids: Vec<String> = match params.get("model_ids").and_then(Value::as_array) {
            Some(ids) => ids
                .iter()
                .filter_map(|id| id.as_str().map(str::to_owned))
                .collect(),
            None => self.index.model_ids()?,
        };
        ids.retain(|id| *id > tally.after);
        ids.sort();
        ids.dedup();
        let total = tally.done + ids.iter().map(|id| self.size(id)).sum::<u64>();
        let mut saved = Instant::now();
        for id in &ids {
            let mut done = tally.done;
            let mut advance = |count: u64| {
                work.check()?;
                done += count;
                work.report("hashing", done, total.max(done), id);
                Ok(())
            };
            let findings = match self.check_model(id, &mut advance) {
                Ok(findings) => findings,
                Err(stop) => {
                    work.save_checkpoint(tally.to_json())?;
                    return Err(stop);
                }
            };
            tally.done = done;
            tally.count(id, findings);
            if saved.elapsed() > CHECKPOINT_EVERY {
                work.save_checkpoint(tally.to_json())?;
                saved = Instant::now();
            }
        }
        Ok(tally.result())
    }

    /// Bytes to read for a model, 0 for one that cannot be looked at.
    fn size(&self, model_id: &str) -> u64 {
        let (Ok(folder), Ok(metadata)) = (self.models.folder(model_id), self.models.load(model_id)) else {
            return 0;
        };
        let inside: u64 = files_of(&folder).values().sum();
        let outside: u64 = outside(&metadata)
            .values()
            .map(|reference| reference.size.unsigned_abs())
            .sum();
        inside + outside
    }

    /// One finding per file that is on record or looks like a model file.
    ///
    /// # Errors
    /// Only that the job should stop.
    fn check_model(
        &self,
        model_id: &str,
        advance: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Vec<Finding>> {
        let loaded = self
            .models
            .folder(model_id)
            .and_then(|folder| Ok((folder, self.models.load(model_id)?)));
        let (folder, mut metadata) = match loaded {
            Ok(loaded) => loaded,
            Err(error @ Error::ModelNotFound(_)) => {
                return Ok(vec![finding(model_id, "", Status::Missing, error.to_string())]);
            }
            Err(error) => {
                let finding = finding(model_id, "", Status::Unreadable, error.to_string());
                return Ok(vec![self.told(finding)]);
            }
        };
        let (on_disk, outside) = (files_of(&folder), outside(&metadata));
        let mut records = records(&metadata, &on_disk);
        for name in on_disk.keys().filter(|name| is_model_file(name)) {
            records.entry(name.clone()).or_insert_with(|| Record {
                size: None,
                sha256: String::new(),
                blake3: String::new(),
                claimed: String::new(),
            });
        }
        let mut findings = Vec::new();
        let mut hashed: IndexMap<String, Digests> = IndexMap::new();
        for (name, record) in &records {
            advance(0)?;
            let place = Place {
                model_id,
                folder: &folder,
                outside: &outside,
            };
            findings.push(self.told(check_file(&place, name, record, &mut hashed, advance)?));
        }
        if !hashed.is_empty()
            && let Err(error) = self.record(model_id, &mut metadata, &hashed, &on_disk)
        {
            findings.push(finding(
                model_id,
                "",
                Status::Unreadable,
                format!("digests not recorded: {error}"),
            ));
        }
        Ok(findings)
    }

    /// Fills in missing digests; the metadata is only written when there are some.
    fn record(
        &self,
        model_id: &str,
        metadata: &mut JsonObject,
        hashed: &IndexMap<String, Digests>,
        on_disk: &OnDisk,
    ) -> Result<()> {
        let primary = primary(metadata, on_disk);
        if fill_in(metadata, hashed, &primary) {
            self.models.update(model_id, |value| {
                let primary = self::primary(value, on_disk);
                fill_in(value, hashed, &primary);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Reports what is wrong where the user sees it, and takes back what is right again.
    fn told(&self, finding: Finding) -> Finding {
        let parts = [self.shown_root.as_str(), &finding.model_id, &finding.file];
        let subject = parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/");
        match finding.status.trouble() {
            None => self.troubles.clear(&subject),
            Some(kind) => self.troubles.report(&subject, kind, &finding.message),
        }
        finding
    }
}

fn finding(model_id: &str, file: &str, status: Status, message: String) -> Finding {
    Finding {
        model_id: model_id.to_owned(),
        file: file.to_owned(),
        status,
        message,
        expected: String::new(),
        observed: String::new(),
    }
}

/// Where a model's files are.
struct Place<'a> {
    model_id: &'a str,
    folder: &'a Path,
    outside: &'a Outside,
}

/// Hashes one file; into `hashed` goes what may be recorded: digests that contradict nothing.
///
/// # Errors
/// Only that the job should stop.
fn check_file(
    place: &Place<'_>,
    name: &str,
    record: &Record,
    hashed: &mut IndexMap<String, Digests>,
    advance: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Finding> {
    let told = |status, message| finding(place.model_id, name, status, message);
    let shown = display_name(name);
    let path = match file_path(place.folder, place.outside, name) {
        Ok(path) => path,
        Err(error) => return Ok(told(Status::Unreadable, error.to_string())),
    };
    if place
        .outside
        .get(name)
        .is_some_and(|reference| reference.state() == State::Offline)
    {
        return Ok(told(
            Status::Offline,
            format!("{shown} lies on a drive that is away."),
        ));
    }
    if !exists(&path) {
        return Ok(told(
            Status::Missing,
            format!("{shown} is on record but not on disk."),
        ));
    }
    let found = match digest_file(&path, advance) {
        Ok(found) => found,
        Err(stop @ (Error::Cancelled(_) | Error::Interrupted(_))) => return Err(stop),
        Err(error) => return Ok(told(Status::Unreadable, error.to_string())),
    };
    if let Some((expected, observed)) = record.difference(&found) {
        let message = format!("{shown} is not what it was: {expected} on record, {observed} on disk.");
        return Ok(Finding {
            expected,
            observed,
            ..told(Status::Mismatch, message)
        });
    }
    hashed.insert(name.to_owned(), found);
    let was_recorded = !record.sha256.is_empty() || !record.blake3.is_empty();
    Ok(told(
        if was_recorded {
            Status::Ok
        } else {
            Status::Recorded
        },
        String::new(),
    ))
}

/// Name and bytes of the model's files, without hidden ones and without models nested in it.
fn files_of(top: &Path) -> OnDisk {
    let mut found = OnDisk::new();
    let mut waiting: Vec<(PathBuf, String)> = vec![(top.to_path_buf(), String::new())];
    while let Some((folder, base)) = waiting.pop() {
        let (mut folders, mut names) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(io::Result::ok)
        {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let is_folder = entry
                .file_type()
                .is_ok_and(|kind| kind.is_dir() || kind.is_symlink() && entry.path().is_dir());
            if !is_folder {
                names.push(name);
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !name.starts_with('.') {
                folders.push(name);
            }
        }
        if !base.is_empty() && names.iter().any(|name| name == METADATA) {
            continue;
        }
        names.sort();
        for name in names.iter().filter(|name| !name.starts_with('.')) {
            if let Ok(status) = folder.join(name).metadata() {
                found.insert(format!("{base}{name}"), status.len());
            }
        }
        folders.sort();
        waiting.extend(
            folders
                .iter()
                .rev()
                .map(|name| (folder.join(name), format!("{base}{name}/"))),
        );
    }
    found
}

fn records(metadata: &JsonObject, on_disk: &OnDisk) -> IndexMap<String, Record> {
    let hashes = metadata.get("hashes").and_then(Value::as_object);
    let primary = primary(metadata, on_disk);
    let mut entries = file_entries(metadata);
    if entries.is_empty() && !primary.is_empty() {
        entries.push(FileEntry {
            name: primary.clone(),
            size: None,
            sha256: String::new(),
            blake3: String::new(),
            claimed: String::new(),
        });
    }
    let mut records = IndexMap::new();
    for entry in entries {
        let of_model = hashes.filter(|_| entry.name == primary);
        let or = |digest: String, key: &str| match of_model {
            Some(hashes) if digest.is_empty() => digest_text(hashes.get(key)),
            _ => digest,
        };
        let record = Record {
            size: entry.size,
            sha256: or(entry.sha256, "sha256"),
            blake3: or(entry.blake3, "blake3"),
            claimed: entry.claimed,
        };
        records.insert(entry.name, record);
    }
    records
}

/// The file that `hashes` speaks of: named in the metadata, or the largest by the sizes on record.
fn primary(metadata: &JsonObject, on_disk: &OnDisk) -> String {
    if let Some(named) = metadata
        .get("primary_file")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty())
    {
        return named.to_owned();
    }
    let file = |name: &str, size: u64| FoundFile {
        name: name.to_owned(),
        size: i64::try_from(size).unwrap_or(i64::MAX),
    };
    let mut listed: Vec<FoundFile> = file_entries(metadata)
        .iter()
        .map(|entry| {
            let known = entry
                .size
                .filter(|size| *size > 0)
                .or_else(|| on_disk.get(&entry.name).copied());
            file(&entry.name, known.unwrap_or(0))
        })
        .collect();
    if listed.is_empty() {
        listed = on_disk.iter().map(|(name, size)| file(name, *size)).collect();
    }
    primary_file(&listed)
        .map(|file| file.name.clone())
        .unwrap_or_default()
}

/// Puts digests where there are none. Returns whether anything was added.
fn fill_in(metadata: &mut JsonObject, hashed: &IndexMap<String, Digests>, primary: &str) -> bool {
    let mut added = false;
    let mut entries = match metadata.get_mut("files").map(Value::take) {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    let mut known: Vec<String> = Vec::new();
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        let Some(name) = entry.get("name").and_then(Value::as_str).map(str::to_owned) else {
            continue;
        };
        if let Some(found) = hashed.get(&name) {
            known.push(name);
            added |= put(entry, found);
            if entry.get("digest_state").and_then(Value::as_str) == Some("claimed") {
                entry.insert("digest_state".to_owned(), "verified".into());
                added = true;
            }
        }
    }
    for (name, found) in hashed.iter().filter(|(name, _)| !known.contains(name)) {
        let mut entry = Map::new();
        entry.insert("name".to_owned(), name.as_str().into());
        entry.insert("original_name".to_owned(), name.as_str().into());
        entry.insert("size".to_owned(), found.size.into());
        added |= put(&mut entry, found);
        entries.push(Value::Object(entry));
    }
    if let Some(found) = hashed.get(primary) {
        let mut hashes = match metadata.get_mut("hashes").map(Value::take) {
            Some(Value::Object(hashes)) => hashes,
            _ => Map::new(),
        };
        added |= put(&mut hashes, found);
        metadata.insert("hashes".to_owned(), Value::Object(hashes));
    }
    metadata.insert("files".to_owned(), Value::Array(entries));
    added
}

fn put(target: &mut JsonObject, found: &Digests) -> bool {
    let mut added = false;
    for (key, value) in [("sha256", &found.sha256), ("blake3", &found.blake3)] {
        let is_missing = match target.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(_) => false,
        };
        if is_missing {
            target.insert(key.to_owned(), value.as_str().into());
            added = true;
        }
    }
    added
}

fn outside(metadata: &JsonObject) -> Outside {
    references(metadata.get(REFERENCES))
        .into_iter()
        .map(|reference| (reference.name.clone(), reference))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::library::testing::Library;
    use crate::storage::locked;

    /// A job that stops after so many looks at it.
    struct Job {
        checks_left: RefCell<usize>,
        checkpoint: RefCell<JsonObject>,
    }

    impl Job {
        fn new(checks: usize) -> Self {
            Self {
                checks_left: RefCell::new(checks),
                checkpoint: RefCell::default(),
            }
        }
    }

    impl Work for Job {
        fn job_id(&self) -> &'static str {
            "verify-1"
        }

        fn checkpoint(&self) -> JsonObject {
            self.checkpoint.borrow().clone()
        }

        fn check(&self) -> Result<()> {
            let mut left = self.checks_left.borrow_mut();
            *left = left
                .checked_sub(1)
                .ok_or_else(|| Error::Interrupted("stop".to_owned()))?;
            Ok(())
        }

        fn report(&self, _stage: &str, _done: u64, _total: u64, _item: &str) {}

        fn save_checkpoint(&self, state: JsonObject) -> Result<()> {
            *self.checkpoint.borrow_mut() = state;
            Ok(())
        }
    }

    struct Setup {
        place: Library,
        troubles: Arc<Troubles>,
        service: VerifyService,
    }

    fn setup(ids: &[&str]) -> Setup {
        let place = Library::new();
        *locked(&place.index.known) = ids.iter().map(|id| (*id).to_owned()).collect();
        let troubles = Arc::new(Troubles::default());
        let layout = Layout::new(place.root().parent().unwrap().parent().unwrap());
        let service = VerifyService::new(
            &layout,
            place.metadata(),
            place.index.clone(),
            Arc::clone(&troubles),
        );
        Setup {
            place,
            troubles,
            service,
        }
    }

    fn all(service: &VerifyService) -> JsonObject {
        service.run(&Job::new(usize::MAX), &JsonObject::new()).unwrap()
    }

    const SHA256_OF_HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    #[test]
    fn missing_digests_are_filled_in_and_known_ones_stay() {
        let s = setup(&["llm/a/A"]);
        s.place.file("llm/a/A/a.gguf", "hello");
        s.place.model(
            "llm/a/A",
            &json!({"hashes": {"sha256": ""}, "files": [{"name": "a.gguf", "size": 5}]}),
        );
        assert_eq!(all(&s.service)["recorded"], 1);
        let metadata = s.place.metadata().load("llm/a/A").unwrap();
        assert_eq!(metadata["hashes"]["sha256"], SHA256_OF_HELLO);
        assert_eq!(metadata["files"][0]["sha256"], SHA256_OF_HELLO);
        assert_eq!(all(&s.service)["ok"], 1);

        s.place.file("llm/a/A/a.gguf", "HELLO");
        let result = all(&s.service);
        assert_eq!(
            (&result["mismatch"], &result["findings"][0]["expected"]),
            (&json!(1), &json!(SHA256_OF_HELLO))
        );
        assert_eq!(
            s.place.metadata().load("llm/a/A").unwrap()["hashes"]["sha256"],
            SHA256_OF_HELLO
        );
        assert_eq!(
            s.troubles.list()[0].subject,
            "shared-resources/models/llm/a/A/a.gguf"
        );

        s.place.file("llm/a/A/a.gguf", "hello");
        assert_eq!(all(&s.service)["ok"], 1);
        assert_eq!(s.troubles.count(), 0);
    }

    #[test]
    fn what_is_gone_damaged_or_claimed_is_told() {
        let s = setup(&["llm/a/A", "llm/a/Bad", "llm/a/Claimed", "llm/a/None"]);
        s.place.model(
            "llm/a/A",
            &json!({"files": [{"name": "gone.gguf", "size": 5}, {"name": "../../x"}]}),
        );
        s.place.file("llm/a/Bad/metadata.json", "{ damaged");
        s.place.file("llm/a/Claimed/c.gguf", "hello");
        let claimed =
            json!([{"name": "c.gguf", "claimed_sha256": SHA256_OF_HELLO, "digest_state": "claimed"}]);
        s.place.model("llm/a/Claimed", &json!({ "files": claimed }));
        let result = all(&s.service);
        let counts =
            ["models", "files", "missing", "unreadable", "recorded", "bytes"].map(|key| result[key].as_u64());
        assert_eq!(counts, [4, 3, 2, 2, 1, 5].map(Some));
        let metadata = s.place.metadata().load("llm/a/Claimed").unwrap();
        assert_eq!(metadata["files"][0]["digest_state"], "verified");
    }

    #[test]
    fn an_interrupted_job_goes_on_after_the_last_model() {
        let s = setup(&["llm/a/A", "llm/a/B"]);
        for id in ["llm/a/A", "llm/a/B"] {
            s.place.file(&format!("{id}/x.gguf"), "hello");
            s.place.model(id, &json!({}));
        }
        let job = Job::new(4);
        assert!(matches!(
            s.service.run(&job, &JsonObject::new()),
            Err(Error::Interrupted(_))
        ));
        assert_eq!(job.checkpoint()["after"], "llm/a/A");
        *job.checks_left.borrow_mut() = usize::MAX;
        let result = s.service.run(&job, &JsonObject::new()).unwrap();
        assert_eq!((&result["models"], &result["bytes"]), (&json!(2), &json!(10)));
    }
}
