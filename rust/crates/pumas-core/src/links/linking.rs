//! One link on disk: what it should hold, whether it is ours, making it, taking it away.
//!
//! A link is ours while the place that its row names holds what we put there; anything else is foreign and is not touched.
//! A name that is taken is never replaced. The registry (`store`) and its order with these calls is the callers' matter
//! (`applying`, `keeping`).

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::Serialize;

use crate::error::Result;
use crate::links::paths::{name, normal, parent, read_link, real, relative};
use crate::links::rows::Link;
use crate::storage::files::{During as _, MARGIN, rename_new, require_space, temporary_name};

/// What is said of a link that the disk refused.
pub(crate) const CANNOT: &str = "it cannot be made";

/// How a file of the library is put into an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// A symbolic link.
    Symlink,
    /// A second name of the same bytes.
    Hardlink,
    /// Uses space of its own and is made only when the caller asks for it.
    Copy,
}

impl LinkKind {
    /// As the registry has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Symlink => "symlink",
            Self::Hardlink => "hardlink",
            Self::Copy => "copy",
        }
    }

    /// Of a row; what is no word of ours is handled as carefully as a copy.
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word {
            "symlink" => Self::Symlink,
            "hardlink" => Self::Hardlink,
            _ => Self::Copy,
        }
    }
}

/// Why a link was not made; nothing was changed.
#[derive(Debug)]
pub enum MakeFailure {
    /// The name is taken.
    Taken,
    /// This kind of link cannot be made in this place.
    Unsupported,
    /// What the disk refused.
    Io(io::Error),
}

/// The library as links name it: below the real path of the root, its own name kept, so that a library that is itself a
/// link can be moved to another drive.
#[must_use]
pub fn library_of(root: &str) -> String {
    format!("{}/shared-resources/models", real(root))
}

/// What a symbolic link in `folder` (links resolved) holds to lead to `source` (below the root, or anywhere).
///
/// Relative below the root on one volume, so that the root can be moved; else absolute.
#[must_use]
pub fn symlink_text(root: &str, source: &str, folder: &str, external: bool) -> String {
    match source.strip_prefix(root).filter(|rest| rest.starts_with('/')) {
        None => source.to_owned(),
        Some(rest) => {
            let place = format!("{}{rest}", real(root));
            if external { place } else { relative(&place, folder) }
        }
    }
}

/// The path that a symbolic link at `target` names, its folder's links resolved, its own source's not.
#[must_use]
pub fn leads_to(target: &str, text: &str) -> String {
    if text.starts_with('/') {
        return normal(text);
    }
    normal(&format!("{}/{text}", real(parent(target))))
}

/// Whether two paths name the same place, the links of the folders above resolved.
#[must_use]
pub fn same_place(one: &str, other: &str) -> bool {
    one == other || (name(one) == name(other) && real(parent(one)) == real(parent(other)))
}

/// Whether `target` (absolute) holds what the row says. A link of an older sidecar is ours when it leads to `source`
/// (absolute).
#[must_use]
pub fn is_ours(link: &Link, target: &str, source: &str) -> bool {
    let Ok(status) = fs::symlink_metadata(target) else {
        return false;
    };
    if link.kind() == LinkKind::Symlink {
        let Some(text) = read_link(target) else {
            return false;
        };
        return text == link.link_text || same_place(&leads_to(target, &text), source);
    }
    if !status.is_file() {
        return false;
    }
    if link.kind() == LinkKind::Hardlink {
        return if link.inode == 0 {
            fs::metadata(source).is_ok_and(|other| is_same(&status, &other))
        } else {
            inode_of(&status) == link.inode
        };
    }
    link.inode != 0
        && (inode_of(&status), size_of(&status), mtime_ns(&status)) == (link.inode, link.size, link.mtime_ns)
}

/// Whether both are one file.
#[must_use]
pub fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// As SQLite keeps it: it has no unsigned numbers.
#[must_use]
pub fn inode_of(status: &Metadata) -> i64 {
    status.ino().cast_signed()
}

/// Bytes.
#[must_use]
pub fn size_of(status: &Metadata) -> i64 {
    status.len().cast_signed()
}

/// Nanoseconds since 1970.
#[must_use]
pub fn mtime_ns(status: &Metadata) -> i64 {
    status
        .mtime()
        .saturating_mul(1_000_000_000)
        .saturating_add(status.mtime_nsec())
}

/// Remove a link that is ours; false when it is not, or when it is the last name of its bytes.
///
/// # Errors
/// It is still there.
pub fn take_away(link: &Link, target: &str, source: &str) -> io::Result<bool> {
    if !is_ours(link, target, source) {
        return Ok(false);
    }
    if link.kind() == LinkKind::Hardlink && fs::symlink_metadata(target)?.nlink() < 2 {
        return Ok(false);
    }
    fs::remove_file(target)?;
    Ok(true)
}

/// Make a link whose row was begun, in a folder that exists. A copy is made by [`prepare_copy`] and [`publish_copy`].
///
/// # Errors
/// See [`MakeFailure`].
pub fn make(link: &Link, target: &str, source: &str) -> Result<(), MakeFailure> {
    let symlink = link.kind() == LinkKind::Symlink;
    let made = if symlink {
        std::os::unix::fs::symlink(&link.link_text, target)
    } else {
        fs::hard_link(source, target)
    };
    made.map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::EXIST) => MakeFailure::Taken,
        // What a file system without such links says.
        Some(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::MLINK) => {
            MakeFailure::Unsupported
        }
        Some(Errno::XDEV) if !symlink => MakeFailure::Unsupported,
        _ => MakeFailure::Io(error),
    })
}

/// Copy beside the target under a name of our own; `remove_stale_temporaries` knows it.
///
/// # Errors
/// `NotEnoughSpace`, or what the disk refused; no copy is left.
pub fn prepare_copy(source: &str, target: &str) -> Result<(PathBuf, Metadata)> {
    let size = fs::metadata(source).during(CANNOT)?.len();
    require_space(Path::new(parent(target)), size, MARGIN)?;
    let temporary = temporary_name(Path::new(target));
    match copy(source, &temporary) {
        Ok(status) => Ok((temporary, status)),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error).during(CANNOT)
        }
    }
}

fn copy(source: &str, temporary: &Path) -> io::Result<Metadata> {
    let mut read = File::open(source)?;
    let mut written = OpenOptions::new().write(true).create_new(true).open(temporary)?;
    io::copy(&mut read, &mut written)?;
    written.sync_all()?;
    written.metadata()
}

/// Give a copy its name.
///
/// # Errors
/// `AlreadyExists`: the name is taken. What the disk refused. The copy is then gone.
pub fn publish_copy(temporary: &Path, target: &str) -> Result<()> {
    let target = Path::new(target);
    rename_new(temporary, target).map_err(|failure| {
        let _ = fs::remove_file(temporary);
        failure.into_error(target, CANNOT)
    })
}
