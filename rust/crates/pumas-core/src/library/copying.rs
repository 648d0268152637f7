//! Bring one file of the user's into staging: cloned, hard-linked or copied, hashed on the way, durable at the end.
//!
//! The source is opened once; what is checked, read and linked is that open file, whatever its name points to by then. It
//! is never written or removed here: `importing` decides when a moved source may go.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::library::formats::reader::{OpenedFile, open_regular};
use crate::library::hashing::{Digests, Stamp, digest_open, open_file};
use crate::storage::files::{During as _, already_exists, exists, random_hex};

/// Written data is handed to the disk in pieces of this size: one long fsync at the end of a 100 GB file could neither be
/// cancelled nor let anyone else's fsync through.
const SYNC_EVERY: u64 = 64 * 1024 * 1024;

/// How the caller wants files to come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Leaves the source alone; blocks are shared only where the file system does copy-on-write.
    #[default]
    Copy,
    /// Removes the source files once the model is in the library.
    Move,
    /// One file under two names: no space is used, and whoever writes to it through either name changes both.
    Hardlink,
}

/// How two files share their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Until one of them is written.
    Reflink,
    /// For good: they are one file.
    Hardlink,
}

/// Make `target` (which must not exist, in an existing folder) hold the bytes of `source`, and hash them.
///
/// `expected` is the source as it was when the import was planned; anything else there now is refused.
///
/// # Errors
/// No target is left. `FileUnavailable`: the source is gone, another file, or was written meanwhile. `AlreadyExists`:
/// `target` exists, and stays. `InvalidInput`: hard links were asked for and cannot be made there. What the disk refuses,
/// and what `advance` fails with.
pub fn stage_file(
    source: &Path,
    target: &Path,
    mode: Mode,
    expected: Stamp,
    advance: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Digests> {
    let opened = open_for(source, target, expected)?;
    let brought = bring(source, &opened, target, mode, advance)
        .and_then(|digests| require_same(&opened, expected).map(|()| digests));
    if brought.is_err() {
        let _ = fs::remove_file(target);
    }
    brought
}

/// Make `target` (which must not exist) share the bytes of `source`, without reading them, durably.
///
/// Answers whether this pair of places can share in that way; with no target left when it cannot.
///
/// # Errors
/// As [`stage_file`].
pub fn share_file(source: &Path, target: &Path, sharing: Sharing, expected: Stamp) -> Result<bool> {
    let opened = open_for(source, target, expected)?;
    let shared = match sharing {
        Sharing::Hardlink => hardlink_durably(source, &opened, target),
        Sharing::Reflink => create(&opened, target).and_then(|file| clone_durably(&opened, &file, target)),
    };
    let shared = shared.and_then(|shared| require_same(&opened, expected).map(|()| shared));
    if !matches!(shared, Ok(true)) {
        let _ = fs::remove_file(target);
    }
    shared
}

fn open_for(source: &Path, target: &Path, expected: Stamp) -> Result<OpenedFile> {
    if exists(target) {
        // The folder is private to one import, so nobody else makes files in it; what is there is not ours to remove.
        return Err(already_exists(target));
    }
    let opened = open_regular(source)?;
    require_same(&opened, expected)?;
    Ok(opened)
}

fn facts(opened: &OpenedFile) -> Result<fs::Metadata> {
    open_file(opened)?
        .metadata()
        .during(&format!("Looking at {}", opened.name))
}

fn require_same(opened: &OpenedFile, expected: Stamp) -> Result<()> {
    if Stamp::of(&facts(opened)?) != expected {
        let reason = "was changed or replaced since the import began; import it again";
        return Err(Error::unavailable(&opened.name, reason));
    }
    Ok(())
}

fn bring(
    source: &Path,
    opened: &OpenedFile,
    target: &Path,
    mode: Mode,
    advance: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Digests> {
    // A file that already has a second name elsewhere is copied when it is moved: that name must not stay tied to the
    // library.
    if mode == Mode::Hardlink || (mode == Mode::Move && facts(opened)?.nlink() == 1) {
        if hardlink_durably(source, opened, target)? {
            return digest_open(&opened.name, open_file(opened)?, advance, &mut |_, _| Ok(()));
        }
        if mode == Mode::Hardlink {
            let reason = format!(
                "{} cannot be hard-linked into the library's volume; use copy",
                opened.name
            );
            return Err(Error::invalid("mode", reason));
        }
    }
    let file = create(opened, target)?;
    if clone_durably(opened, &file, target)? {
        let cloned = open_regular(target)?;
        return digest_open(&cloned.name, open_file(&cloned)?, advance, &mut |_, _| Ok(()));
    }
    copy(opened, &file, &name_of(target), advance)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// A new file with the permissions of the source, without execute bits, open for writing.
fn create(opened: &OpenedFile, target: &Path) -> Result<File> {
    let permissions = (facts(opened)?.permissions().mode() & 0o666) | 0o600;
    File::options()
        .write(true)
        .create_new(true)
        .mode(permissions)
        .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0))
        .open(target)
        .during(&format!("Creating {}", name_of(target)))
}

/// Blocks of zeros of a source with holes become holes: it takes no more room here than where it is from.
fn copy(
    opened: &OpenedFile,
    file: &File,
    name: &str,
    advance: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Digests> {
    let what = format!("Writing {name}");
    let mut unsynced = 0;
    let source = facts(opened)?;
    let has_holes = source.blocks() * 512 < source.len();
    let mut write = |block: &[u8], offset: u64| {
        if has_holes && block.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        file.write_all_at(block, offset).during(&what)?;
        unsynced += block.len() as u64;
        if unsynced >= SYNC_EVERY {
            unsynced = 0;
            file.sync_all().during(&what)?;
        }
        Ok(())
    };
    let digests = digest_open(&opened.name, open_file(opened)?, advance, &mut write)?;
    file.set_len(digests.size).during(&what)?; // the file may end in a hole
    file.sync_all().during(&what)?;
    Ok(digests)
}

/// False when this pair of places cannot be linked.
fn hardlink_durably(source: &Path, opened: &OpenedFile, target: &Path) -> Result<bool> {
    if let Err(error) = fs::hard_link(source, target) {
        if is_impossible(&error) {
            return Ok(false);
        }
        return Err(error).during(&format!("Linking {}", name_of(target)));
    }
    let linked = target
        .symlink_metadata()
        .during(&format!("Linking {}", name_of(target)))?;
    if (linked.dev(), linked.ino()) != (opened.device, opened.inode) {
        return Err(Error::unavailable(
            &opened.name,
            "was replaced while it was linked; import it again",
        ));
    }
    // Whoever wrote the source may not have synced it.
    open_file(opened)?
        .sync_all()
        .during(&format!("Writing {}", name_of(target)))?;
    Ok(true)
}

/// Share the blocks copy-on-write; false when the file system or the pair of volumes cannot.
fn clone_durably(opened: &OpenedFile, file: &File, target: &Path) -> Result<bool> {
    if !clone(opened, file)? {
        return Ok(false);
    }
    file.sync_all().during(&format!("Writing {}", name_of(target)))?;
    Ok(true)
}

#[cfg(target_os = "linux")]
fn clone(opened: &OpenedFile, file: &File) -> Result<bool> {
    match rustix::fs::ioctl_ficlone(file, open_file(opened)?).map_err(io::Error::from) {
        Ok(()) => Ok(true),
        Err(error) if is_impossible(&error) => Ok(false),
        Err(error) => Err(error).during("Cloning a file"),
    }
}

#[cfg(not(target_os = "linux"))]
fn clone(_opened: &OpenedFile, _file: &File) -> Result<bool> {
    Ok(false)
}

fn is_impossible(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(
            Errno::XDEV
                | Errno::PERM
                | Errno::ACCESS
                | Errno::MLINK
                | Errno::OPNOTSUPP
                | Errno::NOSYS
                | Errno::NOTTY
                | Errno::INVAL
                | Errno::TXTBSY
                | Errno::BADF
        )
    )
}

/// Whether files of `source`'s kind can be cloned into `folder`: tried with a file that is removed at once.
///
/// # Errors
/// What the source or the disk refuses.
pub fn can_clone(source: &Path, folder: &Path) -> Result<bool> {
    let trial = folder.join(format!(".clone-{}-{}", std::process::id(), random_hex(4)));
    let opened = open_regular(source)?;
    let cloned = create(&opened, &trial).and_then(|file| clone(&opened, &file));
    let _ = fs::remove_file(&trial);
    cloned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(mode: Mode) -> (tempfile::TempDir, Result<Digests>) {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::write(&source, b"weights").unwrap();
        let expected = Stamp::of(&source.metadata().unwrap());
        let staged = stage_file(
            &source,
            &folder.path().join("target"),
            mode,
            expected,
            &mut |_| Ok(()),
        );
        (folder, staged)
    }

    #[test]
    fn bytes_arrive_whole_in_every_mode() {
        for mode in [Mode::Copy, Mode::Move, Mode::Hardlink] {
            let (folder, staged) = stage(mode);
            assert_eq!(
                staged.unwrap().blake3,
                blake3::hash(b"weights").to_hex().to_string()
            );
            assert_eq!(fs::read(folder.path().join("target")).unwrap(), b"weights");
            let links = folder.path().join("source").metadata().unwrap().nlink();
            assert_eq!(links, if mode == Mode::Copy { 1 } else { 2 });
        }
    }

    #[test]
    fn holes_stay_holes() {
        const MIB: u64 = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        let file = File::create(&source).unwrap();
        file.set_len(12 * MIB + 5).unwrap();
        file.write_all_at(b"weights", 9 * MIB - 3).unwrap();
        let opened = open_regular(&source).unwrap();
        let copied = copy(&opened, &create(&opened, &target).unwrap(), "target", &mut |_| {
            Ok(())
        });
        let bytes = fs::read(&source).unwrap();
        assert_eq!(copied.unwrap().blake3, blake3::hash(&bytes).to_hex().to_string());
        assert_eq!(fs::read(&target).unwrap(), bytes);
        assert!(target.metadata().unwrap().blocks() * 512 <= 3 * MIB);
    }

    #[test]
    fn a_source_that_changed_is_refused_and_a_target_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        fs::write(&source, b"weights").unwrap();
        let old = Stamp {
            size: 3,
            ..Stamp::of(&source.metadata().unwrap())
        };
        assert!(matches!(
            stage_file(&source, &target, Mode::Copy, old, &mut |_| Ok(())),
            Err(Error::FileUnavailable { .. })
        ));
        fs::write(&target, b"mine").unwrap();
        let now = Stamp::of(&source.metadata().unwrap());
        assert!(matches!(
            stage_file(&source, &target, Mode::Copy, now, &mut |_| Ok(())),
            Err(Error::AlreadyExists(_))
        ));
        assert_eq!(fs::read(&target).unwrap(), b"mine");
    }

    #[test]
    fn what_is_stopped_leaves_no_target() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        fs::write(&source, b"weights").unwrap();
        let stamp = Stamp::of(&source.metadata().unwrap());
        let mut stop = |_| Err(Error::Cancelled(String::new()));
        assert!(stage_file(&source, &target, Mode::Copy, stamp, &mut stop).is_err());
        assert!(!target.exists() && source.exists());
    }
}
