//! The folders of an app's versions: where one is built, how it takes its place, where a removed one goes.
//!
//! All of it lies in the app's own folder, so that every change of place is a rename on one volume. Blocks; knows nothing
//! of lists and jobs.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::error::Result;
use crate::storage::clock;
use crate::storage::files::{
    During as _, FOLDER_MODE, PRIVATE_FOLDER_MODE, exists, fsync_folder, make_folders, random_hex,
    rename_new, sweep, temporary_name,
};
use crate::storage::json_file::{self, JsonObject, Readers};
use crate::storage::listing::entries;
use crate::storage::paths::contained;

const BUILD: &str = ".pumas-build-";
const WORK: &str = ".pumas-work";
const TRASH: &str = ".pumas-trash";
/// What is being removed for good: out of sight by one rename, so that nobody ever meets a half of it.
const GONE: &str = ".pumas-gone-";
const ENTRY: &str = "entry.json";
const CONTENT: &str = "version";
const LONGEST_ID: usize = 200;

/// A version in the trash.
#[derive(Clone, Debug)]
pub struct Removed {
    /// For restoring it.
    pub id: String,
    /// Its tag.
    pub tag: String,
    /// `removed` by the user, or `replaced` by a new build of the same tag.
    pub reason: String,
    /// When.
    pub removed_at: String,
    /// What the list held about it.
    pub info: JsonObject,
}

/// `folder` is the app's, below the launcher root.
#[derive(Clone, Debug)]
pub(super) struct Places {
    folder: PathBuf,
}

impl Places {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    // -- building ----------------------------------------------------------------------------------------------------

    /// Where a version is built: as deep below the root as it will lie, so that relative links stay right.
    pub(super) fn tree(&self, job_id: &str) -> Result<PathBuf> {
        contained(&self.folder, &format!("{BUILD}{job_id}"), "path")
    }

    /// A folder for the archive and notes of one installation; made when missing.
    pub(super) fn work(&self, job_id: &str) -> Result<PathBuf> {
        let folder = contained(&self.folder, &format!("{WORK}/{job_id}"), "path")?;
        let during = "Preparing the installation";
        make_folders(&self.folder, FOLDER_MODE).during(during)?;
        loop {
            match make_folders(&folder, PRIVATE_FOLDER_MODE) {
                // The end of another installation removed the folder of all of them; not that of the app.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.folder.is_dir() => {}
                made => return made.map(|_| folder).during(during),
            }
        }
    }

    /// Remove all that an installation left behind, or leave the long part to the next start; what cannot be removed now is
    /// removed another time.
    pub(super) fn discard(&self, job_id: &str, at_once: bool) {
        let work = contained(&self.folder, &format!("{WORK}/{job_id}"), "path");
        for path in [self.tree(job_id), work].into_iter().flatten() {
            let _ = self.destroy(&path, at_once);
        }
        let _ = fs::remove_dir(self.folder.join(WORK));
    }

    /// Ids of installations that left something behind.
    pub(super) fn leftovers(&self) -> Result<HashSet<String>> {
        let built = names(&self.folder)?
            .into_iter()
            .filter_map(|name| name.strip_prefix(BUILD).map(str::to_owned));
        Ok(built.chain(names(&self.folder.join(WORK))?).collect())
    }

    /// Let a finished tree take a place that is free.
    ///
    /// # Errors
    /// `AlreadyExists` and the disk's failures.
    pub(super) fn put(tree: &Path, place: &Path) -> Result<()> {
        let during = "Putting the new version in place";
        sync(tree).during(during)?;
        rename_new(tree, place).map_err(|failure| failure.into_error(place, during))
    }

    /// Let a finished tree take the place of another, which is then where the tree was.
    ///
    /// # Errors
    /// The disk's failures.
    pub(super) fn exchange(tree: &Path, place: &Path) -> Result<()> {
        sync(tree)
            .and_then(|()| swap(tree, place))
            .during("Putting the new version in place")
    }

    // -- trash -------------------------------------------------------------------------------------------------------

    /// Move a version's folder to the trash. Doing it again after a crash finishes it.
    pub(super) fn remove(
        &self,
        path: &Path,
        trash_id: &str,
        tag: &str,
        reason: &str,
        info: JsonObject,
    ) -> Result<Removed> {
        let during = "Moving the version to the trash";
        let entry = contained(&self.folder, &format!("{TRASH}/{trash_id}"), "path")?;
        let removed = Removed {
            id: trash_id.to_owned(),
            tag: tag.to_owned(),
            reason: reason.to_owned(),
            removed_at: clock::now(),
            info,
        };
        make_folders(&entry, PRIVATE_FOLDER_MODE).during(during)?;
        if !entry.join(ENTRY).exists() {
            let value = JsonObject::from_iter([
                ("tag".to_owned(), json!(tag)),
                ("reason".to_owned(), json!(reason)),
                ("removed_at".to_owned(), json!(removed.removed_at)),
                ("info".to_owned(), json!(removed.info)),
            ]);
            json_file::save(&entry.join(ENTRY), &value, Readers::Anybody)?;
        }
        let content = entry.join(CONTENT);
        if !content.exists() {
            rename_new(path, &content).map_err(|failure| failure.into_error(&content, during))?;
        }
        Ok(removed)
    }

    /// Newest first.
    pub(super) fn trash(&self) -> Result<Vec<Removed>> {
        let mut found = self.noted()?;
        found.retain(|one| self.content(one).is_dir());
        found.sort_by(|one, other| other.removed_at.cmp(&one.removed_at));
        Ok(found)
    }

    pub(super) fn find(&self, trash_id: &str) -> Result<Option<Removed>> {
        Ok(self.trash()?.into_iter().find(|one| one.id == trash_id))
    }

    /// Where a version in the trash lies.
    pub(super) fn content(&self, removed: &Removed) -> PathBuf {
        self.folder.join(TRASH).join(&removed.id).join(CONTENT)
    }

    /// Put a version from the trash back; its entry stays.
    ///
    /// # Errors
    /// `AlreadyExists` and the disk's failures.
    pub(super) fn take_out(&self, removed: &Removed, place: &Path) -> Result<()> {
        rename_new(&self.content(removed), place)
            .map_err(|failure| failure.into_error(place, "Restoring the version"))
    }

    /// Undo `take_out`.
    pub(super) fn take_back(&self, removed: &Removed, place: &Path) -> Result<()> {
        let content = self.content(removed);
        rename_new(place, &content).map_err(|failure| failure.into_error(&content, "Restoring the version"))
    }

    /// Exchange a version with the one in the trash.
    ///
    /// # Errors
    /// The disk's failures; nothing was changed then.
    pub(super) fn swap_in(&self, removed: &Removed, place: &Path) -> Result<()> {
        swap(&self.content(removed), place).during("Restoring the version")
    }

    /// Remove an entry of the trash for good.
    ///
    /// # Errors
    /// The disk's failures; nothing was changed then.
    pub(super) fn forget(&self, removed: &Removed) -> Result<()> {
        self.destroy(&self.folder.join(TRASH).join(&removed.id), true)
            .during("Emptying the trash")
    }

    /// Clear the trash of what killed writes left, remove folders of ours that hold nothing, and return those that are to
    /// be removed for good, which takes long. Call while nothing is being installed or removed: what begins later is not
    /// among them.
    pub(super) fn tidy(&self) -> Result<Vec<PathBuf>> {
        let _ = fs::remove_dir(self.folder.join(WORK));
        for name in names(&self.folder.join(TRASH))? {
            let entry = self.folder.join(TRASH).join(name);
            sweep([&entry]);
            if !entry.join(CONTENT).exists() {
                let _ = fs::remove_dir(&entry);
            }
        }
        let mut gone = names(&self.folder)?;
        gone.retain(|name| name.starts_with(GONE));
        Ok(gone.into_iter().map(|name| self.folder.join(name)).collect())
    }

    /// Nothing was changed when it fails.
    fn destroy(&self, path: &Path, at_once: bool) -> io::Result<()> {
        let gone = self.folder.join(format!("{GONE}{}", random_hex(8)));
        match fs::rename(path, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        if at_once {
            remove_tree(&gone);
        }
        Ok(())
    }

    /// Entries without a version: a crash came before it was moved in, or after it was moved out.
    pub(super) fn half_done(&self) -> Result<Vec<Removed>> {
        let mut found = self.noted()?;
        found.retain(|one| !self.content(one).exists());
        Ok(found)
    }

    /// What cannot be read is not among them, and stays.
    fn noted(&self) -> Result<Vec<Removed>> {
        let trash = self.folder.join(TRASH);
        let read = |name: String| {
            let value = json_file::parse_object(&trash.join(&name).join(ENTRY)).ok()?;
            let text = |key: &str| {
                value
                    .get(key)
                    .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            };
            Some(Removed {
                tag: text("tag")?,
                reason: text("reason")?,
                removed_at: text("removed_at")?,
                info: value
                    .get("info")
                    .and_then(Value::as_object)
                    .cloned()
                    .unwrap_or_default(),
                id: name,
            })
        };
        Ok(names(&trash)?.into_iter().filter_map(read).collect())
    }
}

/// Whether a text can be an entry's id.
pub(super) fn is_id(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    !text.is_empty() && text.len() <= LONGEST_ID && text.bytes().all(plain) && !text.starts_with('.')
}

/// Remove a folder of ours, never through a link. What cannot be removed now is removed another time.
pub(crate) fn remove_tree(path: &Path) {
    let removed = if path.is_symlink() {
        fs::remove_file(path)
    } else if path.exists() {
        fs::remove_dir_all(path)
    } else {
        Ok(())
    };
    if let Err(error) = removed {
        tracing::debug!("{} is not removed: {error}", path.display());
    }
}

/// Replace a file at once for readers, but not durably: for what a power cut may take.
pub(crate) fn write_lightly(path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary_name(path);
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(mode).open(&temporary);
    let written = opened
        .and_then(|mut file| file.write_all(data))
        .and_then(|()| fs::rename(&temporary, path));
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Make all that was written below `folder` durable, at once for the whole volume: single files are too many.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let folder = File::open(folder)?;
        if rustix::fs::syncfs(&folder).is_ok() {
            return Ok(());
        }
    }
    #[cfg(not(target_os = "linux"))]
    drop(File::open(folder)?);
    rustix::fs::sync();
    Ok(())
}

/// Exchange two folders durably; an exchange that cannot be made durable is taken back.
fn swap(one: &Path, other: &Path) -> io::Result<()> {
    exchange_names(one, other)?;
    let synced = [one, other]
        .into_iter()
        .filter_map(Path::parent)
        .try_for_each(fsync_folder);
    synced.inspect_err(|_| drop(exchange_names(one, other)))
}

/// Exchange two names: by one system call on Linux, elsewhere by three renames.
fn exchange_names(one: &Path, other: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    match rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Err(Errno::NOSYS | Errno::INVAL) => {}
        done => return Ok(done?),
    }
    let mut aside = one.as_os_str().to_owned();
    aside.push(".aside");
    let aside = PathBuf::from(aside);
    fs::rename(other, &aside)?;
    if let Err(error) = fs::rename(one, other) {
        fs::rename(&aside, other)?;
        return Err(error);
    }
    fs::rename(&aside, one)
}

/// What a folder holds; nothing when there is no such folder.
///
/// # Errors
/// The disk's failures: nobody can say, which is not the same as nothing.
pub(super) fn entries_of(folder: &Path) -> Result<Vec<fs::DirEntry>> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    entries(folder).during(&format!("Looking into {name}"))
}

/// The names of ours in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let is_ours = |name: &String| is_id(name) || name.starts_with(BUILD) || name.starts_with(GONE);
    let named = entries_of(folder)?
        .into_iter()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = named.filter(is_ours).collect();
    names.sort();
    Ok(names)
}

/// Whether a name is taken, by a broken link too.
pub(super) fn is_there(path: &Path) -> bool {
    exists(path)
}
