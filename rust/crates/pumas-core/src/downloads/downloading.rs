//! One download from its plan to a model in the library.
//!
//! What arrives stands in staging: whole files where they will be in the model, partial ones beside it. The checkpoint says
//! which files are whole and verified, and from the moment of publishing on under which id; so a killed download goes on
//! where it was, and one that had published is finished, not repeated.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::bandwidth::Bandwidth;
use super::content::Content;
use super::fetching::{Arrived, Fetch, name_whole};
use super::meter::Meter;
use super::part::data_path;
use super::plan::DownloadPlan;
use super::schedule::Gate;
use super::shared::{LOOK, OUTSIDE_HOURS, Shared, Surroundings};
use super::space::Space;
use super::staged::{arrived, parts_of};
use super::wanted::WantedFile;
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::hub::HubClient;
use crate::jobs::JobContext;
use crate::library::copying::{Mode, stage_file};
use crate::library::hashing::{Digests, Stamp};
use crate::library::publishing::size_of;
use crate::library::service::LibraryParts;
use crate::library::staging::Staging;
use crate::net::{NetworkClient, Timeouts};
use crate::storage::files::{During as _, FOLDER_MODE, make_folders};
use crate::storage::json_file::JsonObject;
use crate::storage::locked;
use crate::storage::paths::contained;

/// How long to look away before looking again whether the disk has room.
const SPACE_LOOK: Duration = Duration::from_secs(1);
const LONGEST_SPACE_LOOK: Duration = Duration::from_secs(4);
const SILENCE: Timeouts = Timeouts {
    read: Duration::from_secs(15),
};

/// What all downloads use together.
pub(super) struct Tools {
    pub layout: Arc<Layout>,
    pub library: LibraryParts,
    pub hub: HubClient,
    pub network: NetworkClient,
    pub bandwidth: Arc<Bandwidth>,
    pub gate: Arc<Gate>,
    pub space: Arc<Space>,
    /// How long one tries while nothing arrives.
    pub patience: Duration,
}

/// One run of one download; `run` blocks until it ends.
pub(super) struct Run<'a> {
    pub tools: &'a Tools,
    pub plan: &'a DownloadPlan,
    pub id: String,
    context: JobContext,
    meter: Arc<Meter>,
    runtime: Handle,
    kept: Mutex<Kept>,
}

/// The checkpoint.
struct Kept {
    state: JsonObject,
    done: Arrived,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        tools: &'a Tools,
        context: JobContext,
        plan: &'a DownloadPlan,
        meter: Arc<Meter>,
        runtime: Handle,
    ) -> Self {
        let state = match context.checkpoint() {
            Value::Object(state) => state,
            _ => JsonObject::new(),
        };
        let done = state
            .get("done")
            .and_then(|done| Arrived::deserialize(done).ok())
            .unwrap_or_default();
        Self {
            tools,
            plan,
            id: context.job_id(),
            context,
            meter,
            runtime,
            kept: Mutex::new(Kept { state, done }),
        }
    }

    /// The job's result: `model_id`, `model_path`, `files`, `size`, and by which digest how many were `verified`.
    ///
    /// # Errors
    /// What ends it.
    pub(super) fn run(&self) -> Result<Value> {
        let done = self.carried_out();
        self.tools.space.release(&self.id);
        let is_useless = |error: &Error| {
            matches!(
                error,
                Error::DuplicateModel { .. } | Error::PickleNotAcknowledged(_) | Error::Cancelled(_)
            )
        };
        if done.as_ref().is_err_and(is_useless) {
            self.staging().discard_job(&self.id);
        }
        done
    }

    fn carried_out(&self) -> Result<Value> {
        self.context.check()?;
        match self.finish_killed() {
            Some(finished) => Ok(finished),
            None => self.bring(),
        }
    }

    /// Try until there is room for all of it: whoever filled the disk, it goes on by itself.
    fn bring(&self) -> Result<Value> {
        let mut wait = SPACE_LOOK;
        loop {
            self.wait_for_room()?;
            match self.attempt() {
                // The disk may say that it has room, and a quota that it has none.
                Err(error @ (Error::NotEnoughSpace { .. } | Error::DiskFull(_))) => {
                    self.look_away(wait, &error)?;
                    wait = LONGEST_SPACE_LOOK.min(2 * wait);
                }
                done => return done,
            }
        }
    }

    fn attempt(&self) -> Result<Value> {
        let (folder, parts) = self.open()?;
        self.forget_lost(&folder, &parts)?;
        let found = arrived(&self.plan.files, |path| self.is_done(path), &parts);
        self.meter.resumed(found);
        self.copy_held(&folder)?;
        self.fetch(&folder, &parts)?;
        self.meter.phase("publishing", String::new());
        self.publish(&folder)
    }

    // -- what is kept ------------------------------------------------------------------------------------------------

    pub(super) fn staging(&self) -> &Staging {
        &self.tools.library.staging
    }

    fn is_done(&self, path: &str) -> bool {
        locked(&self.kept).done.contains_key(path)
    }

    /// The digests of all whole files, by path.
    pub(super) fn digests(&self) -> HashMap<String, Digests> {
        let kept = locked(&self.kept);
        kept.done
            .iter()
            .map(|(path, digests)| (path.clone(), digests.clone()))
            .collect()
    }

    fn keep(&self, files: Arrived) -> Result<()> {
        let mut kept = locked(&self.kept);
        kept.done.extend(files);
        let done = json!(kept.done);
        kept.state.insert("done".to_owned(), done);
        self.context
            .save_checkpoint_sync(Value::Object(kept.state.clone()))
    }

    fn keep_one(&self, file: &WantedFile, digests: Digests) -> Result<()> {
        self.keep(Arrived::from_iter([(file.path.clone(), digests)]))?;
        self.meter.done(&file.path, file.size);
        Ok(())
    }

    /// What the job will have brought once it is renamed.
    pub(super) fn announce(&self, result: Value) -> Result<()> {
        self.context.check()?;
        let mut kept = locked(&self.kept);
        kept.state.insert("result".to_owned(), result);
        self.context
            .save_checkpoint_sync(Value::Object(kept.state.clone()))
    }

    pub(super) fn announced(&self) -> Option<Value> {
        locked(&self.kept)
            .state
            .get("result")
            .filter(|result| !result.is_null())
            .cloned()
    }

    // -- staging -----------------------------------------------------------------------------------------------------

    fn open(&self) -> Result<(PathBuf, PathBuf)> {
        let whole: HashSet<String> = locked(&self.kept).done.keys().cloned().collect();
        let folder = self.staging().open(&self.id, &self.id, &whole)?;
        let parts = parts_of(self.staging(), &self.id)?;
        make_folders(&parts, FOLDER_MODE).during("Preparing the download")?;
        Ok((folder, parts))
    }

    /// Keep those verified files that are there, and give the ones that a kill left unnamed their names.
    fn forget_lost(&self, folder: &Path, parts: &Path) -> Result<()> {
        let mut lost = false;
        for file in self.plan.files.iter().filter(|file| self.is_done(&file.path)) {
            if size_of(folder, &file.path) != Some(file.size) {
                let part = data_path(parts, file.expected());
                if part.metadata().is_ok_and(|facts| facts.len() == file.size) {
                    name_whole(parts, folder, &file.path, file.expected())?;
                } else {
                    lost = true;
                    locked(&self.kept).done.shift_remove(&file.path);
                    continue;
                }
            }
            self.meter.done(&file.path, file.size);
        }
        if lost {
            // Before any of them is begun again: a partial file must not pass for the verified one.
            self.keep(Arrived::new())?;
        }
        Ok(())
    }

    /// What the library has already is copied (cloned where the file system can), and verified like all else.
    fn copy_held(&self, folder: &Path) -> Result<()> {
        for file in self.missing() {
            let Some(sha256) = file.sha256.clone().filter(|_| file.size > 0) else {
                continue;
            };
            let holdings = &self.tools.library.imports.holdings;
            if let Some(held) = holdings.copy_of(&(sha256, file.size))? {
                self.copy(file, &held, folder)?;
            }
        }
        Ok(())
    }

    fn copy(&self, file: &WantedFile, source: &Path, folder: &Path) -> Result<()> {
        let note = format!("Copying {} from the library.", file.path);
        self.meter.phase("copying", note);
        let target = contained(folder, &file.path, "file")?;
        let what = format!("Copying {}", file.path);
        fs::create_dir_all(target.parent().unwrap_or(folder)).during(&what)?;
        let staged = self.stage(source, &target, &what);
        self.meter.phase("", String::new());
        match staged {
            Ok(digests) if Some(&digests.sha256) == file.sha256.as_ref() => self.keep_one(file, digests),
            Ok(_) => fs::remove_file(&target).during(&what),
            Err(stop @ (Error::Interrupted(_) | Error::Cancelled(_) | Error::Bug(_))) => Err(stop),
            // Then it is fetched like any other.
            Err(_) => Ok(()),
        }
    }

    fn stage(&self, source: &Path, target: &Path, what: &str) -> Result<Digests> {
        let stamp = Stamp::of(&fs::metadata(source).during(what)?);
        stage_file(source, target, Mode::Copy, stamp, &mut |_| self.context.check())
    }

    /// Wait until the schedule is open and the disk has room.
    fn wait_for_room(&self) -> Result<()> {
        if !self.tools.gate.is_open() {
            self.meter.phase("waiting", OUTSIDE_HOURS.to_owned());
            self.tools.gate.wait(|| self.context.check())?;
        }
        loop {
            let meter = Arc::clone(&self.meter);
            let remaining = move || {
                let progress = meter.snapshot();
                progress.total - progress.downloaded
            };
            match self.tools.space.promise(&self.id, remaining) {
                Err(error @ Error::NotEnoughSpace { .. }) => self.look_away(SPACE_LOOK, &error)?,
                Err(error) => return Err(error),
                Ok(()) => {
                    self.meter.phase("", String::new());
                    return Ok(());
                }
            }
        }
    }

    fn look_away(&self, long: Duration, why: &Error) -> Result<()> {
        self.meter.phase("waiting", why.to_string());
        let until = Instant::now() + long;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.context.check()?;
            thread::sleep(left.min(LOOK));
        }
    }

    /// One of each content that is not there yet, under any name.
    fn missing(&self) -> Vec<&WantedFile> {
        let files = &self.plan.files;
        let there: HashSet<&str> = files
            .iter()
            .filter(|file| self.is_done(&file.path))
            .map(WantedFile::expected)
            .collect();
        let unique: IndexMap<&str, &WantedFile> = files
            .iter()
            .map(|file| (file.expected(), file))
            .filter(|(digest, _)| !there.contains(digest))
            .collect();
        unique.into_values().collect()
    }

    // -- fetching ----------------------------------------------------------------------------------------------------

    fn fetch(&self, folder: &Path, parts: &Path) -> Result<()> {
        let (tools, context) = (self.tools, self.context.clone());
        let around = Surroundings {
            meter: Arc::clone(&self.meter),
            bandwidth: Arc::clone(&tools.bandwidth),
            gate: Arc::clone(&tools.gate),
            check: Arc::new(move || context.check()),
            network: tools.network.clone(),
            hub: Some(tools.hub.clone()),
            silence: SILENCE,
            runtime: self.runtime.clone(),
        };
        let shared = Arc::new(Shared::new(around, tools.patience));
        let contents = self
            .missing()
            .into_iter()
            .map(|file| self.content(file))
            .collect::<Result<Vec<_>>>()?;
        Fetch::new(contents, parts, folder, shared, &|files| self.keep(files)).run()?;
        self.copy_repeated(folder)
    }

    fn content(&self, file: &WantedFile) -> Result<Content> {
        let plan = self.plan;
        let url = self.tools.hub.file_url(&plan.repo_id, &plan.commit, &file.path)?;
        Ok(Content::new(
            file.clone(),
            plan.repo_id.clone(),
            plan.page.clone(),
            url,
        ))
    }

    /// Files of the repository with the same content were fetched once.
    fn copy_repeated(&self, folder: &Path) -> Result<()> {
        let (done, repeated): (Vec<&WantedFile>, Vec<&WantedFile>) =
            self.plan.files.iter().partition(|file| self.is_done(&file.path));
        let by_digest: HashMap<&str, &str> = done
            .into_iter()
            .map(|file| (file.expected(), file.path.as_str()))
            .collect();
        for file in repeated {
            let Some(twin) = by_digest.get(file.expected()) else {
                return Err(Error::Bug(format!("{} was not fetched", file.path)));
            };
            let what = format!("Copying {}", file.path);
            let target = contained(folder, &file.path, "file")?;
            fs::create_dir_all(target.parent().unwrap_or(folder)).during(&what)?;
            match fs::remove_file(&target) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).during(&what),
                _ => {}
            }
            let digests = self.stage(&contained(folder, twin, "file")?, &target, &what)?;
            self.keep_one(file, digests)?;
        }
        Ok(())
    }
}
