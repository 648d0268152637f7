//! Unpacks archives that nobody has vouched for: zip, tar, tar.gz (tgz) and tar.zst, told apart by their first bytes.
//!
//! Each member is looked at before it is written, into a folder that was empty. Links are made last, so that nothing is
//! written through one. What cannot be meant refuses the whole archive; whoever called then throws the folder away. Blocks;
//! knows nothing of apps.

mod tape;
mod writer;
mod zip;

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::storage::files::{During as _, disk_error};
use crate::text::{cut, grouped};
use writer::Writer;

/// Those of [`Form`], as people write them.
pub(super) const FORMS: &str = "zip, tar, tar.gz or tar.zst";
/// What is read or written at a time, in bytes.
const CHUNK: usize = 256 * 1024;
const LONGEST_LINK: u64 = 1024;
const LONGEST_REASON: usize = 200;
const DURING: &str = "Unpacking";

/// Told how many bytes of the archive were read; fails to stop.
pub(super) type Advance<'a> = &'a dyn Fn(u64) -> Result<()>;

/// What an archive may hold. `members` counts entries, `total` bytes when unpacked; `ratio` is unpacked to packed, once
/// `ratio_from` bytes are out; `margin` bytes stay free on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) members: u64,
    pub(super) total: u64,
    pub(super) ratio: u64,
    pub(super) ratio_from: u64,
    pub(super) margin: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            members: 300_000,
            total: 64 << 30,
            ratio: 100,
            ratio_from: 256 << 20,
            margin: 256 << 20,
        }
    }
}

/// The forms that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Zip,
    Gz,
    Zst,
    Tar,
}

/// None for what is no archive.
///
/// # Errors
/// The disk's failures.
pub(super) fn form_of(archive: &Path) -> Result<Option<Form>> {
    let mut start = Vec::new();
    File::open(archive)
        .and_then(|file| file.take(512).read_to_end(&mut start))
        .during("Reading the archive")?;
    Ok(match &start[..] {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Form::Zip),
        [0x1f, 0x8b, ..] => Some(Form::Gz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Form::Zst),
        start => (start.get(257..262) == Some(b"ustar")).then_some(Form::Tar),
    })
}

/// Unpack into `target`, which is made with mode 0700 and must not exist. Returns the unpacked bytes.
///
/// # Errors
/// `UnsafeArchive`: damaged, hostile, larger than any limit, or no archive; `target` may hold a part of it. The disk's
/// failures; and what `advance` fails with.
pub(super) fn extract(archive: &Path, target: &Path, advance: Advance<'_>, limits: Limits) -> Result<u64> {
    let form = form_of(archive)?.ok_or_else(|| refused(format!("it is no {FORMS}"), ""))?;
    fs::DirBuilder::new().mode(0o700).create(target).during(DURING)?;
    let size = archive.metadata().during(DURING)?.len();
    let mut writer = Writer::new(target, size, limits)?;
    let source = Source {
        advance,
        failure: RefCell::default(),
    };
    let unpacked = match form {
        Form::Zip => zip::unpack(archive, &source, &mut writer),
        _ => tape::unpack(archive, form, &source, &mut writer),
    };
    // What a reader was stopped by says more than what became of it.
    match source.failure.take() {
        Some(failure) => return Err(failure),
        None => unpacked?,
    }
    writer.finish()
}

/// What the archivers of macOS put beside the files that were to be packed.
const OF_MACOS: [&str; 3] = ["__MACOSX", "._", ".DS_Store"];

/// The only folder inside `folder` when there is nothing of anybody's beside it, else `folder` itself.
///
/// # Errors
/// What the disk refuses.
pub(super) fn single_folder(folder: &Path) -> io::Result<PathBuf> {
    let mut only = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if OF_MACOS
            .iter()
            .any(|start| name.as_encoded_bytes().starts_with(start.as_bytes()))
        {
            continue;
        }
        if only.is_some() || !entry.file_type()?.is_dir() {
            return Ok(folder.to_path_buf());
        }
        only = Some(entry.path());
    }
    Ok(only.unwrap_or_else(|| folder.to_path_buf()))
}

/// An archive that is not unpacked.
fn refused(reason: impl Into<String>, member: &str) -> Error {
    Error::UnsafeArchive {
        reason: reason.into(),
        member: member.to_owned(),
    }
}

fn too_many(most: u64) -> Error {
    refused(format!("it has more than {} members", grouped(most)), "")
}

/// A name, or where a link leads.
fn well_formed(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| refused("a name is not well-formed text", &String::from_utf8_lossy(bytes)))
}

/// What reading an archive failed with: the disk's failures have a number, all others are the archive's own.
fn damaged(error: &io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return disk_error(error, DURING);
    }
    let text = error.to_string();
    refused(format!("it is damaged: {}", cut(&text, LONGEST_REASON)), "")
}

/// What the readers of one archive share: how to stop, and why they did.
struct Source<'a> {
    advance: Advance<'a>,
    failure: RefCell<Option<Error>>,
}

impl Source<'_> {
    fn stopped(&self, failure: Error) -> io::Error {
        *self.failure.borrow_mut() = Some(failure);
        io::Error::other("stopped")
    }
}

/// The packed file, telling what is read of it.
struct Told<'a> {
    file: File,
    source: &'a Source<'a>,
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        (self.source.advance)(count as u64).map_err(|failure| self.source.stopped(failure))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
