//! Where a model is put together before it is shown: `.staging/<id>/`, private, on the library's own volume.
//!
//! `.staging/<id>.json` says who owns the folder and since when. It is written before the folder is made and removed after
//! it, so a folder of ours is never without an owner, and clean-up removes only what such a file names. Staging never holds
//! the only copy of anything: imports copy or link into it. What older sidecars left behind may be an only copy (they moved
//! the user's files into `.tmp_import_*`), so it is listed by [`Staging::leftovers`] and never touched.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::Result;
use crate::storage::clock::now;
use crate::storage::files::{
    During as _, FOLDER_MODE, PRIVATE_FOLDER_MODE, fsync_folder, make_folders, remove_stale_temporaries,
    write_durably,
};
use crate::storage::json_file::{self, JsonObject};
use crate::storage::owner::process_start_time;
use crate::storage::paths::{contained, display_name};

const MODEL: &str = "model";
const MARKER_SUFFIX: &str = ".json";
/// Seconds by which two readings of one process's start may differ.
const START_TOLERANCE: f64 = 2.0;

/// A folder that may hold the only copy of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Relative to the library.
    pub path: String,
    /// What a person should do.
    pub message: &'static str,
}

/// The staging folders of one library. Calls block; they come from worker threads.
#[derive(Debug)]
pub struct Staging {
    library: PathBuf,
    root: PathBuf,
}

impl Staging {
    /// `root` is the folder that holds them all; it is made when first needed.
    #[must_use]
    pub fn new(library: PathBuf, root: PathBuf) -> Self {
        Self { library, root }
    }

    /// The private folder of `staging_id`.
    ///
    /// # Errors
    /// `UnsafePath`: the id could name something outside.
    pub fn folder(&self, staging_id: &str) -> Result<PathBuf> {
        contained(&self.root, staging_id, "staging_id")
    }

    /// The folder that will be renamed into the library: the private one is its parent.
    ///
    /// # Errors
    /// As [`Staging::folder`].
    pub fn model(&self, staging_id: &str) -> Result<PathBuf> {
        Ok(self.folder(staging_id)?.join(MODEL))
    }

    /// Make the model folder of `staging_id`, or find it again for a job that goes on.
    ///
    /// `keep` are names of the files in it that are known to be whole; whatever else a killed run left is removed, or it
    /// would be published with them.
    ///
    /// # Errors
    /// `UnsafePath`, and what the disk refuses.
    pub fn open(&self, staging_id: &str, job_id: &str, keep: &HashSet<String>) -> Result<PathBuf> {
        let marker = self.marker(staging_id)?;
        let folder = self.folder(staging_id)?;
        let open = || -> io::Result<PathBuf> {
            make_folders(&self.root, PRIVATE_FOLDER_MODE)?;
            write_durably(&marker, &json_file::encode(&owner(job_id)?), 0o600)?;
            make_folders(&folder, PRIVATE_FOLDER_MODE)?;
            let model = folder.join(MODEL);
            make_folders(&model, FOLDER_MODE)?;
            for file in files_below(&model)? {
                let name = file
                    .strip_prefix(&model)
                    .unwrap_or(&file)
                    .to_string_lossy()
                    .into_owned();
                if !keep.contains(&name) {
                    fs::remove_file(&file)?;
                }
            }
            Ok(model)
        };
        open().during("Preparing the staging folder")
    }

    /// Make every folder below the model folder durable; the files were synced when they were written.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn seal(&self, staging_id: &str) -> Result<()> {
        let folder = self.folder(staging_id)?;
        let seal = || {
            for inner in folders_below(&folder.join(MODEL))?.iter().rev() {
                fsync_folder(inner)?;
            }
            fsync_folder(&folder)
        };
        seal().during("Syncing the staging folder")
    }

    /// Remove the folder and then its marker. What cannot be removed now is removed by the next [`Staging::sweep`].
    ///
    /// A link in the place of the folder leads elsewhere, so it stays, with its marker.
    pub fn discard(&self, staging_id: &str) {
        let (Ok(folder), Ok(marker)) = (self.folder(staging_id), self.marker(staging_id)) else {
            return;
        };
        let removed = remove_tree(&folder)
            .and_then(|()| missing_is_fine(fs::remove_file(&marker)))
            .and_then(|()| fsync_folder(&self.root));
        if let Err(error) = removed {
            tracing::debug!("the staging folder {staging_id} stays for now: {error}");
        }
    }

    /// [`Staging::discard`] everything of one job.
    pub fn discard_job(&self, job_id: &str) {
        for (staging_id, owner) in self.owned() {
            if owner.get("job_id").and_then(Value::as_str) == Some(job_id) {
                self.discard(&staging_id);
            }
        }
    }

    /// Remove the folders whose process is gone and whose job will not go on; answers their ids.
    ///
    /// `is_open`: whether the job with this id can still be resumed, and so may want its files.
    pub fn sweep(&self, is_open: impl Fn(&str) -> bool) -> Vec<String> {
        let mut removed = Vec::new();
        for (staging_id, owner) in self.owned() {
            let job_id = owner.get("job_id").and_then(Value::as_str).unwrap_or_default();
            if !is_alive(&owner) && !is_open(job_id) {
                self.discard(&staging_id);
                removed.push(staging_id);
            }
        }
        if self.root.is_dir()
            && let Err(error) = remove_stale_temporaries(&self.root)
        {
            tracing::debug!("temporary files in the staging folder stay for now: {error}");
        }
        removed
    }

    fn marker(&self, staging_id: &str) -> Result<PathBuf> {
        contained(&self.root, &format!("{staging_id}{MARKER_SUFFIX}"), "staging_id")
    }

    /// The folders with a marker that can be read; nothing else is ever removed.
    fn owned(&self) -> Vec<(String, JsonObject)> {
        let owner = |name: String| {
            let staging_id = name.strip_suffix(MARKER_SUFFIX)?;
            let owner = json_file::load(&self.root.join(&name)).ok()?.value?;
            owner
                .contains_key("job_id")
                .then(|| (staging_id.to_owned(), owner))
        };
        names(&self.root).into_iter().filter_map(owner).collect()
    }

    /// Folders that may hold the only copy of a model: shown to the user, never removed by us.
    #[must_use]
    pub fn leftovers(&self) -> Vec<Leftover> {
        let mut found = Vec::new();
        for name in names(&self.library.join(".downloads")) {
            let message = "An unfinished download of an older sidecar; look into it before you remove it.";
            found.push(Leftover {
                path: format!(".downloads/{}", display_name(name)),
                message,
            });
        }
        self.add_older_imports(&mut found);
        self.add_unknown(&mut found);
        found
    }

    /// Older sidecars staged in the library root or beside the final folder (`type/family/.tmp_import_*`).
    fn add_older_imports(&self, found: &mut Vec<Leftover>) {
        for folder in folders_above_models(&self.library) {
            for name in names(&folder)
                .into_iter()
                .filter(|name| name.starts_with(".tmp_import_"))
            {
                let path = folder.join(name);
                found.push(Leftover {
                    path: display_name(path.strip_prefix(&self.library).unwrap_or(&path)),
                    message: "An import of an older sidecar was cut off here; it may hold the only copy of the files. \
                              Import the folder to keep them.",
                });
            }
        }
    }

    fn add_unknown(&self, found: &mut Vec<Leftover>) {
        let owned: HashSet<String> = self
            .owned()
            .into_iter()
            .map(|(staging_id, _)| staging_id)
            .collect();
        let root = self
            .root
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        for name in names(&self.root) {
            if self.root.join(&name).is_dir() && !owned.contains(&name) {
                let message = "Nothing says who made this folder, so it was left alone; look into it before you remove it.";
                found.push(Leftover {
                    path: format!("{root}/{}", display_name(name)),
                    message,
                });
            }
        }
    }
}

fn owner(job_id: &str) -> io::Result<JsonObject> {
    let pid = std::process::id();
    let owner = json!({
        "job_id": job_id,
        "pid": pid,
        "process_started": started(pid)?,
        "since": now(),
    });
    Ok(match owner {
        Value::Object(owner) => owner,
        _ => JsonObject::new(),
    })
}

/// Whether the process that made the folder still runs, as itself and not as a later one with its number.
///
/// A process of this very sidecar counts as gone: [`Staging::sweep`] runs at start, before any import.
fn is_alive(owner: &JsonObject) -> bool {
    let pid = owner
        .get("pid")
        .and_then(Value::as_u64)
        .and_then(|pid| u32::try_from(pid).ok());
    let noted = owner.get("process_started").and_then(Value::as_f64);
    let (Some(pid), Some(noted)) = (pid, noted) else {
        return false;
    };
    pid != std::process::id() && started(pid).is_ok_and(|found| (found - noted).abs() < START_TOLERANCE)
}

/// When a process began, in seconds since 1970.
fn started(pid: u32) -> io::Result<f64> {
    Ok(process_start_time(pid)?.as_duration().as_secs_f64())
}

/// Remove a folder without ever following a link.
fn remove_tree(folder: &Path) -> io::Result<()> {
    match folder.symlink_metadata() {
        Ok(facts) if facts.is_dir() => fs::remove_dir_all(folder),
        Ok(_) => Err(io::Error::other("what stands there is no folder")),
        Err(error) => missing_is_fine(Err(error)),
    }
}

fn missing_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// `folder` and the folders in it, outermost first; links are not followed.
fn folders_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![folder.to_path_buf()];
    let mut at = 0;
    while at < found.len() {
        for entry in fs::read_dir(&found[at])? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        at += 1;
    }
    Ok(found)
}

/// Everything below `folder` that is no folder.
fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for inner in folders_below(folder)? {
        for entry in fs::read_dir(inner)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// The names in a folder, sorted; none when it cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn folders_above_models(library: &Path) -> Vec<PathBuf> {
    let mut found = vec![library.to_path_buf()];
    for kind in plain_folders(library) {
        let families = plain_folders(&kind);
        found.push(kind);
        found.extend(families);
    }
    found
}

fn plain_folders(folder: &Path) -> Vec<PathBuf> {
    let plain = |name: &String| {
        let facts = folder.join(name).symlink_metadata();
        !name.starts_with('.') && facts.is_ok_and(|facts| facts.is_dir())
    };
    names(folder)
        .into_iter()
        .filter(plain)
        .map(|name| folder.join(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staging(folder: &tempfile::TempDir) -> Staging {
        let library = folder.path().join("models");
        Staging::new(library.clone(), library.join(".staging"))
    }

    #[test]
    fn a_folder_is_found_again_with_what_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let staging = staging(&folder);
        let model = staging.open("job-1.0", "job-1", &HashSet::new()).unwrap();
        fs::create_dir(model.join("sub")).unwrap();
        for name in ["whole", "half", "sub/whole"] {
            fs::write(model.join(name), b"x").unwrap();
        }
        let keep = HashSet::from(["whole".to_owned(), "sub/whole".to_owned()]);
        assert_eq!(staging.open("job-1.0", "job-1", &keep).unwrap(), model);
        assert!(
            model.join("sub/whole").exists() && model.join("whole").exists() && !model.join("half").exists()
        );
        staging.seal("job-1.0").unwrap();
        assert_eq!(staging.leftovers(), []);
    }

    #[test]
    fn only_marked_folders_of_ended_jobs_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let staging = staging(&folder);
        for id in ["a", "b"] {
            staging.open(&format!("{id}.0"), id, &HashSet::new()).unwrap();
        }
        fs::create_dir(folder.path().join("models/.staging/strange")).unwrap();
        assert_eq!(staging.sweep(|job| job == "b"), ["a.0"]);
        assert!(!staging.folder("a.0").unwrap().exists() && staging.folder("b.0").unwrap().exists());
        assert_eq!(staging.leftovers()[0].path, ".staging/strange");
        staging.discard_job("b");
        assert!(!staging.folder("b.0").unwrap().exists());
    }
}
