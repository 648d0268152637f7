//! Durable file operations: what was acknowledged is on disk, and a name never shows a half-written file.
//!
//! Order everywhere: data, fsync, rename, fsync of the folder. Nothing here decides what may be deleted. All calls
//! block.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// How the name of a file that is being written ends.
pub const TEMP_SUFFIX: &str = ".pumas-tmp";
/// Bytes that stay free on a disk when we write to it.
pub const MARGIN: u64 = 64 * 1024 * 1024;

const TEMP_DIGITS: usize = 8;
const STALE_AFTER: Duration = Duration::from_hours(24);
const PROBE_BYTES: usize = 64 * 1024;

/// Not later than the first file that this process wrote.
static STARTED: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);

/// What the operating system says about an error, as strerror(3) has it.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((reason, _)) => reason.to_owned(),
        None => text,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG)
    )
}

/// Converts an operating-system error into the failure that a user can act on. `what` names the operation.
#[must_use]
pub fn disk_error(error: &io::Error, what: &str) -> Error {
    if is_full(error) {
        return disk_full(what);
    }
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ROFS) => Error::ReadOnly(format!("{what}: the file system is read-only.")),
        Some(Errno::ACCESS | Errno::PERM) => Error::DiskError(format!("{what}: permission denied.")),
        _ => Error::DiskError(format!("{what}: {}.", reason(error))),
    }
}

/// The disk filled up during `what`; how much was missing is not known.
#[must_use]
pub fn disk_full(what: &str) -> Error {
    Error::DiskFull(format!(
        "{what}: the disk is full. Free some space and try again."
    ))
}

/// Names the operation in which an I/O error happened.
pub trait During<T> {
    /// Converts the error by [`disk_error`].
    ///
    /// # Errors
    /// `DiskError`, `DiskFull` or `ReadOnly`.
    fn during(self, what: &str) -> Result<T>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: &str) -> Result<T> {
        self.map_err(|error| disk_error(&error, what))
    }
}

/// Makes renames and new names in `folder` survive a power cut.
///
/// # Errors
/// What open(2) and fsync(2) refuse.
pub fn fsync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    File::open(folder)?.sync_all()
}

/// Creates `folder` and its missing parents durably. Returns those that were made, outermost first.
///
/// # Errors
/// A folder cannot be made or synced; those before it stay.
pub fn make_folders(folder: &Path, mode: u32) -> io::Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    let mut at = folder;
    while !at.is_dir() {
        missing.push(at.to_path_buf());
        at = at.parent().unwrap_or_else(|| Path::new("/"));
    }
    let mut made = Vec::new();
    for path in missing.into_iter().rev() {
        match fs::DirBuilder::new().mode(mode).create(&path) {
            Ok(()) => made.push(path.clone()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        fsync_folder(path.parent().unwrap_or_else(|| Path::new("/")))?;
    }
    Ok(made)
}

/// The mode of folders that are nobody's secret, before the umask.
pub const FOLDER_MODE: u32 = 0o777;
/// The mode of folders that only this user may enter.
pub const PRIVATE_FOLDER_MODE: u32 = 0o700;
/// The mode of new state files.
pub const FILE_MODE: u32 = 0o644;

/// Removes those folders that are empty, given outermost first; failures do not matter.
pub fn remove_if_empty(folders: &[PathBuf]) {
    for folder in folders.iter().rev() {
        let _ = fs::remove_dir(folder);
    }
}

/// The name beside `path` under which its next content is written.
#[must_use]
pub fn temporary_name(path: &Path) -> PathBuf {
    LazyLock::force(&STARTED);
    let mut name = path.file_name().unwrap_or_else(|| OsStr::new("file")).to_owned();
    name.push(format!(
        ".{}.{}{TEMP_SUFFIX}",
        std::process::id(),
        random_hex(TEMP_DIGITS / 2)
    ));
    path.with_file_name(name)
}

/// `bytes` random bytes in lower-case hex.
#[must_use]
pub fn random_hex(bytes: usize) -> String {
    let mut random = vec![0_u8; bytes];
    if getrandom::fill(&mut random).is_err() {
        // Without a source of randomness the clock tells two names apart; nothing secret is made here.
        let ticks = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        for (byte, tick) in random.iter_mut().zip(ticks.to_le_bytes().iter().cycle()) {
            *byte = *tick;
        }
    }
    hex(&random)
}

/// Bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    text
}

/// Replaces `path` by `data` at once: readers see the old or the new content, also after a power cut.
///
/// # Errors
/// What the disk refuses; `path` is as it was.
pub fn write_durably(path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary_name(path);
    let written = write_new(&temporary, data, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    fsync_folder(path.parent().unwrap_or_else(|| Path::new("/")))
}

fn write_new(path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(data)?;
    file.sync_all()
}

/// Why a file did not get its new name.
#[derive(Debug)]
pub enum RenameFailure {
    /// The name is taken, by an empty folder too.
    Taken,
    /// What the system refused.
    Io(io::Error),
}

impl RenameFailure {
    /// The failure that a caller sees. `what` names the operation, `target` the name that was wanted.
    #[must_use]
    pub fn into_error(self, target: &Path, what: &str) -> Error {
        match self {
            Self::Taken => already_exists(target),
            Self::Io(error) => disk_error(&error, what),
        }
    }
}

/// The failure to use a name that is taken.
#[must_use]
pub fn already_exists(target: &Path) -> Error {
    let name = |path: Option<&OsStr>| path.unwrap_or_default().to_string_lossy().into_owned();
    Error::AlreadyExists(format!(
        "{} already exists in {}.",
        name(target.file_name()),
        name(target.parent().and_then(Path::file_name))
    ))
}

/// Renames a file or folder to a name that must be free, and makes it durable on both sides.
///
/// # Errors
/// Nothing was changed: a rename that cannot be made durable is taken back.
pub fn rename_new(source: &Path, target: &Path) -> Result<(), RenameFailure> {
    rename_exclusively(source, target).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => RenameFailure::Taken,
        _ => RenameFailure::Io(error),
    })?;
    let synced = sync_parents(source, target);
    if let Err(error) = synced {
        let _ = rename_exclusively(target, source);
        return Err(RenameFailure::Io(error));
    }
    Ok(())
}

fn sync_parents(source: &Path, target: &Path) -> io::Result<()> {
    let (Some(from), Some(to)) = (source.parent(), target.parent()) else {
        return Ok(());
    };
    fsync_folder(to)?;
    if from == to { Ok(()) } else { fsync_folder(from) }
}

/// rename(2) that fails with EEXIST: one system call on Linux (renameat2), as safe as it gets elsewhere.
fn rename_exclusively(source: &Path, target: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, source, CWD, target, RenameFlags::NOREPLACE) {
        // EINVAL: this file system does not know the flag.
        Err(Errno::NOSYS | Errno::INVAL) => rename_onto_reserved_name(source, target),
        done => Ok(done?),
    }
}

/// Takes the name first in a way that fails when it is taken, then renames over what was put there.
fn rename_onto_reserved_name(source: &Path, target: &Path) -> io::Result<()> {
    if source.symlink_metadata()?.is_dir() {
        fs::create_dir(target)?;
    } else {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(target)?;
    }
    fs::rename(source, target).inspect_err(|_| {
        let _ = if target.is_dir() {
            fs::remove_dir(target)
        } else {
            fs::remove_file(target)
        };
    })
}

/// Keeps what cannot be used under a dated name, and returns that. A file keeps its old name too until it is replaced,
/// so that a crash in between leaves it damaged, not missing.
///
/// # Errors
/// What the disk refuses.
pub fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = aside_name(path, "damaged");
    if is_odd(path) || fs::hard_link(path, &aside).is_err() {
        fs::rename(path, &aside)?;
    }
    Ok(aside)
}

/// The dated name for what is put aside; `label` says why.
#[must_use]
pub fn aside_name(path: &Path, label: &str) -> PathBuf {
    let mut name: OsString = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{label}-{}", crate::storage::clock::compact_now()));
    path.with_file_name(name)
}

/// Something is there that is no regular file: a folder, FIFO, device, socket or symbolic link.
#[must_use]
pub fn is_odd(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|status| !status.is_file())
}

/// Whether the name is taken, by a broken link too.
#[must_use]
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Removes what a killed [`write_durably`] left in `folder`: names of our form whose process is gone.
///
/// # Errors
/// The folder cannot be read.
pub fn remove_stale_temporaries(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(pid) = name.to_str().and_then(writer_of)
            && is_stale(&entry.path(), pid)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// [`remove_stale_temporaries`] in each of these; one that cannot be read is none of its business.
pub fn sweep(folders: impl IntoIterator<Item = impl AsRef<Path>>) {
    for folder in folders {
        let _ = remove_stale_temporaries(folder.as_ref());
    }
}

/// The process that writes under this temporary name.
fn writer_of(name: &str) -> Option<u32> {
    let rest = name.strip_suffix(TEMP_SUFFIX)?;
    let (rest, random) = rest.rsplit_once('.')?;
    let is_random =
        random.len() == TEMP_DIGITS && random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (_, pid) = rest.rsplit_once('.')?;
    if is_random && pid.bytes().all(|b| b.is_ascii_digit()) {
        pid.parse().ok()
    } else {
        None
    }
}

/// A number may be in use again, by this process too (in a container it often is): then the age decides.
fn is_stale(path: &Path, pid: u32) -> bool {
    let own = pid == std::process::id();
    if !own && !process_exists(pid) {
        return true;
    }
    let Ok(age) = path
        .symlink_metadata()
        .and_then(|status| status.modified())
        .map(|at| at.elapsed())
    else {
        return false;
    };
    let age = age.unwrap_or_default();
    let running = STARTED.elapsed().unwrap_or_default();
    age > STALE_AFTER || (own && age > running + Duration::from_secs(1))
}

fn process_exists(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    !matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH))
}

/// Bytes that this user can still write on the file system of `folder` (or of its nearest existing parent).
///
/// # Errors
/// What statvfs(3) refuses.
pub fn free_space(folder: &Path) -> io::Result<u64> {
    let mut at = folder;
    while !at.exists() {
        at = at.parent().unwrap_or_else(|| Path::new("/"));
    }
    let status = rustix::fs::statvfs(at)?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

/// Whether the disk or the user's quota is used up, found out by writing a little.
#[must_use]
pub fn has_no_room(folder: &Path) -> bool {
    matches!(why_not_written(folder), Some(Error::DiskFull(_)))
}

/// What the disk says when a little is written into `folder`; None when it takes that.
///
/// Only writing tells: a file system that the kernel made read-only after an error may still call itself writable.
#[must_use]
pub fn why_not_written(folder: &Path) -> Option<Error> {
    let probe = temporary_name(&folder.join("probe"));
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(&probe);
    let written = opened.and_then(|file| file.write_all_at(&vec![0; PROBE_BYTES], 0));
    let _ = fs::remove_file(&probe);
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    written.during(&format!("Writing into {name}")).err()
}

/// Makes sure that `needed` bytes plus a margin are free where `folder` lies.
///
/// # Errors
/// `NotEnoughSpace`, or what statvfs(3) refuses.
pub fn require_space(folder: &Path, needed: u64, margin: u64) -> Result<()> {
    let free = free_space(folder).during("Asking for free space")?;
    let needed = needed.saturating_add(margin);
    if needed > free {
        return Err(Error::NotEnoughSpace { needed, free });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_the_whole_content_and_leaves_nothing_behind() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("state.json");
        write_durably(&path, b"one", FILE_MODE).unwrap();
        write_durably(&path, b"two", FILE_MODE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_rename_never_replaces() {
        let place = tempfile::tempdir().unwrap();
        let (a, b) = (place.path().join("a"), place.path().join("b"));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        assert!(matches!(rename_new(&a, &b), Err(RenameFailure::Taken)));
        fs::remove_dir(&b).unwrap();
        rename_new(&a, &b).unwrap();
        assert!(b.is_dir() && !a.exists());
        assert!(matches!(rename_new(&a, &b), Err(RenameFailure::Io(_))));
    }

    #[test]
    fn a_rename_onto_a_reserved_name_never_replaces() {
        let place = tempfile::tempdir().unwrap();
        let (a, b) = (place.path().join("a"), place.path().join("b"));
        fs::write(&a, b"a").unwrap();
        fs::write(&b, b"b").unwrap();
        assert!(rename_onto_reserved_name(&a, &b).is_err());
        assert_eq!(fs::read(&b).unwrap(), b"b");
        fs::remove_file(&b).unwrap();
        rename_onto_reserved_name(&a, &b).unwrap();
        assert_eq!(fs::read(&b).unwrap(), b"a");
    }

    #[test]
    fn only_what_dead_processes_left_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let dead = place
            .path()
            .join(format!("x.json.999999999.0123abcd{TEMP_SUFFIX}"));
        let own = temporary_name(&place.path().join("x.json"));
        let other = place.path().join(format!("x.1.zzzzzzzz{TEMP_SUFFIX}"));
        for path in [&dead, &own, &other] {
            fs::write(path, b"").unwrap();
        }
        remove_stale_temporaries(place.path()).unwrap();
        assert!(!dead.exists() && own.exists() && other.exists());
    }

    #[test]
    fn a_damaged_file_keeps_its_name_until_it_is_replaced() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x");
        fs::write(&path, b"bad").unwrap();
        let aside = put_aside(&path).unwrap();
        assert!(path.exists() && fs::read(aside).unwrap() == b"bad");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(put_aside(&path).unwrap().is_dir() && !path.exists());
    }

    #[test]
    fn space_is_asked_for_with_a_margin() {
        let place = tempfile::tempdir().unwrap();
        let free = free_space(&place.path().join("not/there")).unwrap();
        assert!(require_space(place.path(), free, MARGIN).is_err());
        assert!(require_space(place.path(), 0, 0).is_ok());
        assert!(!has_no_room(place.path()));
    }

    #[test]
    fn folders_are_made_with_their_parents() {
        let place = tempfile::tempdir().unwrap();
        let made = make_folders(&place.path().join("a/b"), FOLDER_MODE).unwrap();
        assert_eq!(made, [place.path().join("a"), place.path().join("a/b")]);
        assert!(
            make_folders(&place.path().join("a/b"), FOLDER_MODE)
                .unwrap()
                .is_empty()
        );
        remove_if_empty(&made);
        assert!(!place.path().join("a").exists());
    }
}
