//! Carries out one installation: download, extract, venv, dependencies, setup, and the rename that makes it visible.
//!
//! A version is built beside the others, started once, and takes its place whole; until then nothing that was there is
//! touched. Each step can be done again, so an interrupted installation goes on where it was. Blocks. Knows apps by their
//! descriptions alone.

use std::cell::Cell;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::archive::{FORMS, Limits, extract, form_of, single_folder};
use super::fetching::{Archive, ArchiveFetch};
use super::filling::{Filling, Resolving};
use super::known::{Known, OneApp};
use super::packages::{Packages, Resolved, Wish, relocate};
use super::places::{remove_tree, sync, write_lightly};
use super::placing::Placing;
use super::progress::Progress;
use super::requirements::digest;
use super::running::{Check, InstallLog, Programs, failed};
use super::setup_links::make;
use super::smoke::smoke_launch;
use super::state::MARKER;
use crate::apps::{PackageKind, Python as PythonPart, VENV, missing_of, python_of};
use crate::downloads::Way;
use crate::error::{Error, Result};
use crate::jobs::JobContext;
use crate::storage::clock;
use crate::storage::files::{
    During as _, FILE_MODE, FOLDER_MODE, disk_full, has_no_room, make_folders, remove_stale_temporaries,
    write_durably,
};
use crate::storage::json_file::{self, JsonObject};
use crate::text::grouped;

const PROGRAM_STARTS: [&[u8]; 5] = [b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"MZ", b"#!"];
const UNPACKING: &str = "Unpacking";
/// What took less is sooner done again after a kill than kept: that waits for all that anybody writes on the volume.
const WORTH_KEEPING: Duration = Duration::from_secs(1);

/// What is to be installed. `replace`: build the tag anew although it is there; `activate`: use it then.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Plan {
    pub(super) app_id: String,
    pub(super) tag: String,
    pub(super) archive: Archive,
    pub(super) published_at: String,
    pub(super) replace: bool,
    pub(super) activate: bool,
}

/// One run of one installation.
pub(super) struct Install<'a> {
    pub(super) known: &'a Known,
    pub(super) runtime: &'a Handle,
    pub(super) job: &'a JobContext,
    /// Fails when the job should stop, and tells how far it is.
    pub(super) check: &'a Check,
    pub(super) one: &'a OneApp,
    pub(super) plan: &'a Plan,
    pub(super) progress: &'a Arc<Progress>,
    pub(super) log: &'a Arc<InstallLog>,
    pub(super) kept: JsonObject,
    pub(super) warnings: Vec<String>,
}

impl Install<'_> {
    /// The job's result: `app_id`, `tag`, `path`, `warnings`.
    ///
    /// # Errors
    /// `InstallFailed`, `DependencyFailed`, `SmokeLaunchFailed`, `UnsafeArchive`, `DigestMismatch`, those of the network and
    /// the disk; what was built is removed then. `Cancelled` likewise; `Interrupted` leaves it for the next run.
    pub(super) fn run(mut self) -> Result<Value> {
        let (app, tag) = (&self.one.app.name, &self.plan.tag);
        self.log.say(&format!("Installing {app} {tag}."));
        let job_id = self.job.job_id();
        let outcome = self.carried_out(&job_id);
        match outcome {
            Err(error @ Error::Interrupted(_)) => {
                self.log
                    .say("Interrupted; it goes on when the sidecar runs again.");
                Err(error)
            }
            Err(error @ Error::Cancelled(_)) => {
                self.log.say("Cancelled.");
                self.discard(&job_id);
                Err(error)
            }
            Err(failure) => {
                let said = failure.to_string();
                let error = self.cause_of(failure);
                let told = error.to_string();
                let text = if said == told {
                    said
                } else {
                    format!("{said} {told}")
                };
                self.log.say(&format!("Failed: {text}"));
                self.discard(&job_id);
                Err(error)
            }
            done => done,
        }
    }

    fn carried_out(&mut self, job_id: &str) -> Result<Value> {
        if !self.placing(job_id).is_placed() {
            (self.check)()?;
            self.build(job_id)?;
        }
        self.finish(job_id)
    }

    fn placing<'b>(&'b self, job_id: &'b str) -> Placing<'b> {
        Placing {
            state: &self.one.state,
            places: &self.one.places,
            tag: &self.plan.tag,
            job_id,
        }
    }

    /// Programs that we start say in words of their own that the disk is full.
    fn cause_of(&self, failure: Error) -> Error {
        let by_program = matches!(
            failure,
            Error::InstallFailed { .. } | Error::DependencyFailed { .. } | Error::SmokeLaunchFailed { .. }
        );
        if by_program && has_no_room(self.one.places.folder()) {
            return disk_full("Installing");
        }
        failure
    }

    // -- steps -------------------------------------------------------------------------------------------------------

    fn build(&mut self, job_id: &str) -> Result<()> {
        let work = self.one.places.work(job_id)?;
        let tree = self.one.places.tree(job_id)?;
        let programs = self.programs(work.join("running.json"));
        programs.end_leftover();
        if !tree.is_dir() || !self.is_done("extract") {
            self.kept.insert("steps".to_owned(), json!([]));
        }
        let mut needless = None;
        if !self.is_done("extract") {
            let archive = self.download(&work)?;
            let took = self.stage("extract", |install| install.unpack(&archive, &work, &tree))?;
            if took > WORTH_KEEPING {
                self.kept.insert("steps".to_owned(), json!(["extract"]));
                keep_done(self.job, &self.kept, &tree, Some(&archive));
            } else {
                needless = Some(archive);
            }
        }
        let (tree, needless) = (&tree, needless.as_deref());
        std::thread::scope(|scope| {
            if let Some(python) = self
                .one
                .app
                .python
                .clone()
                .filter(|_| !self.is_done("dependencies"))
            {
                self.build_environment(&python, &programs, &work, tree)?;
                self.kept
                    .insert("steps".to_owned(), json!(["extract", "dependencies"]));
                // Little is left to write then when the version takes its place.
                let (job, kept) = (self.job, self.kept.clone());
                scope.spawn(move || keep_done(job, &kept, tree, needless));
            }
            self.progress.stage("setup", Some("Trying to start it"));
            self.set_up(&programs, tree, job_id)
        })
    }

    fn programs(&self, note: PathBuf) -> Programs {
        Programs::new(note, Arc::clone(self.log), Arc::clone(self.check))
    }

    fn is_done(&self, step: &str) -> bool {
        let steps = self.kept.get("steps").and_then(Value::as_array);
        steps.is_some_and(|steps| steps.iter().any(|done| done == step))
    }

    /// How long it took.
    fn stage(&mut self, name: &'static str, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<Duration> {
        (self.check)()?;
        let began = Instant::now();
        self.progress.stage(name, None);
        self.log.say(&format!("Stage {name}."));
        work(self)?;
        let took = began.elapsed();
        self.log
            .say(&format!("Stage {name} took {:.1} s.", took.as_secs_f64()));
        Ok(took)
    }

    fn download(&mut self, work: &Path) -> Result<PathBuf> {
        let archive = &self.plan.archive;
        self.progress.stage("download", Some(&archive.name));
        self.log.say(&format!("Stage download: {}", archive.url));
        let fetch = ArchiveFetch {
            archive,
            folder: work,
        };
        let (progress, total) = (Arc::clone(self.progress), archive.size);
        let (place, sha256, compared) = fetch.run(Way {
            network: self.known.network.clone(),
            bandwidth: Arc::clone(&self.known.bandwidth),
            runtime: self.runtime.clone(),
            check: Arc::clone(self.check),
            report: Box::new(move |done, speed, eta_s| progress.download(done, total, Some(speed), eta_s)),
        })?;
        let size = place.metadata().during("Installing")?.len();
        self.progress.download(size, Some(size), None, None);
        let verified = if compared {
            "as published"
        } else {
            "not compared with a published one"
        };
        self.log
            .say(&format!("{} bytes, sha256 {sha256} ({verified}).", grouped(size)));
        self.progress.arrived(&archive.name, "archive", Some(size));
        self.keep([("sha256", json!(sha256)), ("size", json!(size))])?;
        Ok(place)
    }

    fn unpack(&mut self, archive: &Path, work: &Path, tree: &Path) -> Result<()> {
        let package = &self.one.app.package;
        remove_tree(tree);
        let fresh = work.join("unpacked");
        remove_tree(&fresh);
        if package.kind == PackageKind::Bundle && form_of(archive)?.is_none() {
            self.place_program(archive, &fresh)?;
        } else {
            self.extract(archive, &fresh)?;
        }
        let first = package.complete[0].split('|').next().unwrap_or_default();
        let placed = || -> std::io::Result<()> {
            let top = if fresh.join(first).exists() {
                fresh.clone()
            } else {
                single_folder(&fresh)?
            };
            fs::set_permissions(&top, fs::Permissions::from_mode(0o755))?;
            package
                .programs
                .iter()
                .try_for_each(|name| let_run(&top.join(name)))?;
            fs::rename(&top, tree)
        };
        placed().during(UNPACKING)?;
        remove_tree(&fresh);
        Ok(())
    }

    fn extract(&self, archive: &Path, fresh: &Path) -> Result<()> {
        let size = archive.metadata().during(UNPACKING)?.len().max(1);
        let (done, told) = (Cell::new(0_u64), Cell::new(0));
        let advance = |count| {
            done.set(done.get() + count);
            (self.check)()?;
            // Of hundreds of thousands of small members nobody hears one by one.
            if done.get() * 100 / size > told.get() {
                told.set(done.get() * 100 / size);
                self.progress.at(done.get() as f64 / size as f64, None);
            }
            Ok(())
        };
        let written = extract(archive, fresh, &advance, Limits::default())?;
        self.log.say(&format!("Unpacked {} bytes.", grouped(written)));
        Ok(())
    }

    /// Some releases are the program itself.
    fn place_program(&self, file: &Path, fresh: &Path) -> Result<()> {
        let mut start = Vec::new();
        let opened = fs::File::open(file).during(UNPACKING)?;
        opened.take(4).read_to_end(&mut start).during(UNPACKING)?;
        if !PROGRAM_STARTS.iter().any(|known| start.starts_with(known)) {
            return Err(Error::UnsafeArchive {
                reason: format!("it is no program and no archive that is known ({FORMS})"),
                member: String::new(),
            });
        }
        let name = self
            .one
            .app
            .package
            .programs
            .last()
            .map(|name| Path::new(name).file_name().unwrap_or_default());
        let target = fresh.join(name.unwrap_or_default());
        let placed = || -> std::io::Result<()> {
            fs::create_dir(fresh)?;
            fs::copy(file, &target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755))
        };
        placed().during(UNPACKING)
    }

    /// Make the environment and fill it.
    ///
    /// One that was being filled when a kill came may hold halves of packages: it is made anew.
    fn build_environment(
        &mut self,
        python: &PythonPart,
        programs: &Programs,
        work: &Path,
        tree: &Path,
    ) -> Result<()> {
        let requirements = Some(tree.join(&python.requirements)).filter(|path| path.is_file());
        let wish = Wish {
            requirements,
            extra: python.extra.clone(),
            before: self.plan.published_at.clone(),
        };
        let cache = self.known.layout.cache();
        let packages = Packages::new(&cache, programs.clone())?;
        let resolving = self.programs(work.join("resolving.json"));
        resolving.end_leftover();
        let aside = Packages::new(&cache, resolving)?;
        let own = python_of(tree);
        let found = OnceLock::new();
        let resolve = || {
            let _ = found.set(aside.resolve(&wish, true, Some(&own)));
        };
        std::thread::scope(|scope| {
            let start = || {
                scope.spawn(resolve);
            };
            let resolving = Resolving::new(&found, self.check, &start);
            self.stage("venv", |install| {
                let version = &packages.python().version;
                install
                    .log
                    .say(&format!("Python {version} by {}.", packages.tool()));
                packages.make(&tree.join(VENV))
            })?;
            self.stage("dependencies", |install| {
                install.install_dependencies(&packages, &wish, &resolving, tree)
            })
        })?;
        Ok(())
    }

    fn install_dependencies(
        &mut self,
        packages: &Packages,
        wish: &Wish,
        resolving: &Resolving<'_>,
        tree: &Path,
    ) -> Result<()> {
        if wish.requirements.is_none() && wish.extra.is_empty() {
            return Ok(());
        }
        self.progress.at(0.0, Some("Resolving"));
        let mut filling = Filling::new(tree, packages, wish, self.progress);
        let before = if packages.resolves_by_itself() {
            let before = filling.fill_by_itself(resolving)?;
            match filling.listed(resolving) {
                // The environment is whole: nothing depends on it.
                Err(error @ Error::DependencyFailed { .. }) => {
                    self.log
                        .say(&format!("What was installed cannot be listed. {error}"));
                }
                listed => {
                    self.keep_constraints(wish, &listed?)?;
                }
            }
            before
        } else {
            let (resolved, before) = resolving.wait()?;
            let constraints = self.keep_constraints(wish, &resolved)?;
            filling.fill(&resolved, &constraints)?;
            before
        };
        if !wish.before.is_empty() && before.is_empty() {
            self.log.say(packages.why_undated());
            self.warnings.push(packages.why_undated().to_owned());
        }
        Ok(())
    }

    /// Exactly what was resolved, kept for a look; named by what it was made from, so that it is never stale.
    fn keep_constraints(&self, wish: &Wish, resolved: &[Resolved]) -> Result<PathBuf> {
        let during = "Writing the constraints";
        let text = match &wish.requirements {
            Some(path) => fs::read(path).during(during)?,
            None => Vec::new(),
        };
        let name = format!("{}-{}.txt", self.plan.tag, &digest(&text)[7..19]);
        let folder = self.known.layout.data().join("cache/constraints");
        let lines = resolved
            .iter()
            .filter(|one| !one.version.is_empty() && !is_direct(one));
        let lines: Vec<String> = lines
            .map(|one| format!("{}=={}\n", one.name, one.version))
            .collect();
        make_folders(&folder, FOLDER_MODE).during(during)?;
        let path = folder.join(name);
        write_lightly(&path, lines.concat().as_bytes(), FILE_MODE).during(during)?;
        Ok(path)
    }

    fn set_up(&mut self, programs: &Programs, tree: &Path, job_id: &str) -> Result<()> {
        let (app, root) = (&self.one.app, self.known.layout.root());
        let before: Vec<_> = fs::read_dir(tree)
            .during("Installing")?
            .filter_map(|entry| Some(entry.ok()?.file_name()))
            .collect();
        let missing: Vec<&str> = missing_of(app, tree).collect();
        if !missing.is_empty() {
            let text = format!("The release of {} lacks {}.", app.name, missing.join(", "));
            return Err(failed("setup", text));
        }
        let seconds = smoke_launch(app, tree, root, programs)?;
        self.log
            .say(&format!("Started and answered after {seconds:.1} s."));
        self.progress.at(0.6, Some("Finishing"));
        let place = self.one.state.place(&self.plan.tag)?;
        for link in &app.links {
            let came_with_release = before.iter().any(|name| *name == *link.name);
            make(link, tree, &place, root, came_with_release)?;
        }
        if let Some(models) = &app.models {
            make_folders(&tree.join(&models.folder), FOLDER_MODE).during("Preparing the models' folder")?;
        }
        if app.python.is_some() {
            relocate(&tree.join(VENV), &place)?;
        }
        self.mark(tree, job_id)?;
        (self.check)()?;
        let began = Instant::now();
        self.placing(job_id)
            .take(self.plan.replace, |app_id, tag| self.known.runs(app_id, tag))?;
        let seconds = began.elapsed().as_secs_f64();
        self.log.say(&format!("In place after {seconds:.2} s."));
        Ok(())
    }

    // -- taking its place --------------------------------------------------------------------------------------------

    fn mark(&self, tree: &Path, job_id: &str) -> Result<()> {
        let value = JsonObject::from_iter([
            ("app".to_owned(), json!(self.one.app.id)),
            ("tag".to_owned(), json!(self.plan.tag)),
            ("job".to_owned(), json!(job_id)),
            ("info".to_owned(), json!(self.info()?)),
        ]);
        // Of an earlier run that was killed here.
        remove_stale_temporaries(tree)
            .and_then(|()| write_durably(&tree.join(MARKER), &json_file::encode(&value), FILE_MODE))
            .during("Preparing the version")
    }

    fn info(&self) -> Result<JsonObject> {
        let (app, plan) = (&self.one.app, self.plan);
        let published = Some(&plan.published_at).filter(|text| !text.is_empty());
        let mut info = json!({
            "path": format!("{}/{}", app.folder, plan.tag),
            "installedDate": clock::now(),
            "releaseTag": plan.tag,
            "releaseDate": published,
            "downloadUrl": plan.archive.url,
            "size": self.kept.get("size"),
            "sha256": self.kept.get("sha256"),
        });
        if app.python.is_some() {
            info["pythonVersion"] = json!(format!("Python {}", super::python::Python::get()?.version));
            info["dependenciesInstalled"] = json!(true);
        }
        let mut info = super::placing::entry(&info);
        info.retain(|_, value| !value.is_null());
        Ok(info)
    }

    fn finish(&self, job_id: &str) -> Result<Value> {
        let (app, tag) = (&self.one.app, &self.plan.tag);
        self.placing(job_id).settle(&self.info()?, self.plan.activate)?;
        self.progress.at(1.0, Some("Installed"));
        self.log.say(&format!("{} {tag} is installed.", app.name));
        let place = self.one.state.place(tag)?;
        Ok(json!({"app_id": app.id, "tag": tag, "path": place, "warnings": self.warnings}))
    }

    // -- inside ------------------------------------------------------------------------------------------------------

    fn keep<const N: usize>(&mut self, values: [(&str, Value); N]) -> Result<()> {
        self.kept
            .extend(values.map(|(key, value)| (key.to_owned(), value)));
        self.job.save_checkpoint_sync(Value::Object(self.kept.clone()))
    }

    /// Never what took its place already: then the tree is the former build.
    fn discard(&self, job_id: &str) {
        if !self.placing(job_id).is_placed() {
            self.one.places.discard(job_id, true);
        }
    }
}

/// Keep which steps are done, once a power cut would take nothing that they made, and remove what it was made of. A step
/// that is not kept is done again.
fn keep_done(job: &JobContext, kept: &JsonObject, tree: &Path, needless: Option<&Path>) {
    if sync(tree).is_ok()
        && job.save_checkpoint_sync(Value::Object(kept.clone())).is_ok()
        && let Some(needless) = needless
    {
        let _ = fs::remove_file(needless);
    }
}

/// Archives that were packed on Windows, or from stored artifacts of a build, say of no file that it may be run.
fn let_run(program: &Path) -> std::io::Result<()> {
    match fs::metadata(program) {
        Ok(facts) if facts.is_file() => {
            let mode = facts.permissions().mode() | 0o111;
            fs::set_permissions(program, fs::Permissions::from_mode(mode))
        }
        _ => Ok(()),
    }
}

/// From an address of its own rather than an index; such cannot be constrained by a version.
fn is_direct(one: &Resolved) -> bool {
    one.url
        .as_ref()
        .is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://"))
}
