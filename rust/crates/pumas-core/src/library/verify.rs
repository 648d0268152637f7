//! Hashes the library's files again and says where they differ from what is on record.
//!
//! A digest that is on record is never replaced, whatever the disk holds now: a difference is reported as a trouble and
//! in the job's result. A digest that is missing is filled in, because the bytes were hashed just now; one that another
//! program's file name claimed is compared first, and is `verified` from then on. Files of a reference are read where
//! they are. The job goes on after the last finished model when it was interrupted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::config::Layout;
use crate::error::{Error, Result};
use crate::library::hashing::{Digests, digest_file};
use crate::library::importing::Work;
use crate::library::index::Index;
use crate::library::metadata::ModelMetadata;
use crate::storage::files::exists;
use crate::storage::json_file::JsonObject;
use crate::storage::paths::display_name;
use crate::storage::troubles::Troubles;

mod findings;
mod place;
mod record;

use findings::Tally;
pub use findings::{Finding, Status};
use place::{OnDisk, Place};
use record::{Record, fill_in, records};

const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

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
        let mut tally = Tally::kept(work.checkpoint());
        let mut ids: Vec<String> = match params.get("model_ids").and_then(Value::as_array) {
            Some(ids) => ids
                .iter()
                .filter_map(|id| id.as_str().map(str::to_owned))
                .collect(),
            None => self.index.model_ids()?,
        };
        ids.retain(|id| !tally.is_past(id));
        ids.sort();
        ids.dedup();
        let total = tally.done() + ids.iter().map(|id| self.size(id)).sum::<u64>();
        let mut saved = Instant::now();
        for id in &ids {
            let mut done = tally.done();
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
            tally.count(id, done, findings);
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
        Place::of(folder, &metadata).size()
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
                return Ok(vec![Finding::new(
                    model_id,
                    "",
                    Status::Missing,
                    error.to_string(),
                )]);
            }
            Err(error) => {
                let finding = Finding::new(model_id, "", Status::Unreadable, error.to_string());
                return Ok(vec![self.told(finding)]);
            }
        };
        let place = Place::of(folder, &metadata);
        let mut findings = Vec::new();
        let mut hashed: IndexMap<String, Digests> = IndexMap::new();
        for (name, record) in &records(&metadata, place.on_disk()) {
            advance(0)?;
            let finding = check_file(model_id, &place, name, record, &mut hashed, advance)?;
            findings.push(self.told(finding));
        }
        if !hashed.is_empty()
            && let Err(error) = self.record(model_id, &mut metadata, &hashed, place.on_disk())
        {
            findings.push(Finding::new(
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
        if fill_in(metadata, hashed, on_disk) {
            self.models.update(model_id, |value| {
                fill_in(value, hashed, on_disk);
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

/// Hashes one file; into `hashed` goes what may be recorded: digests that contradict nothing.
///
/// # Errors
/// Only that the job should stop.
fn check_file(
    model_id: &str,
    place: &Place,
    name: &str,
    record: &Record,
    hashed: &mut IndexMap<String, Digests>,
    advance: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Finding> {
    let told = |status, message| Finding::new(model_id, name, status, message);
    let shown = display_name(name);
    let path = match place.path(name) {
        Ok(path) => path,
        Err(error) => return Ok(told(Status::Unreadable, error.to_string())),
    };
    if place.is_offline(name) {
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
    Ok(told(
        if record.has_digest() {
            Status::Ok
        } else {
            Status::Recorded
        },
        String::new(),
    ))
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
