//! Opening and reading files that nobody has vouched for.
//!
//! [`open_regular`] refuses whatever could block or is not a plain file; [`BoundedReader`] hands out bytes until a budget
//! of bytes, elements or processor time is spent. Messages hold the file's own name only. Nothing here knows a format.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};

use super::text::message_name;
use crate::error::{Error, Result};
use crate::storage::files::reason as os_reason;

/// Bytes asked for at a time.
const WINDOW: u64 = 256 * 1024;
/// The budgets of bytes and steps keep every header below half a second; this is for machines that are much slower.
const MAX_TIME: Duration = Duration::from_secs(2);

/// A regular file that is open for reading, or bytes that were unpacked from one.
///
/// `name` is for messages, `size` in bytes as it was when opened.
#[derive(Debug)]
pub(crate) struct OpenedFile {
    source: Source,
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

#[derive(Debug)]
enum Source {
    File(File),
    Memory(Vec<u8>),
}

impl OpenedFile {
    /// Bytes that were taken out of `file`, to be read like a file.
    #[must_use]
    pub(crate) fn in_memory(file: &Self, data: Vec<u8>) -> Self {
        Self {
            name: file.name.clone(),
            size: data.len() as u64,
            device: file.device,
            inode: file.inode,
            source: Source::Memory(data),
        }
    }

    /// The open file itself; `None` for bytes in memory.
    #[must_use]
    pub(crate) fn file(&self) -> Option<&File> {
        match &self.source {
            Source::File(file) => Some(file),
            Source::Memory(_) => None,
        }
    }

    /// Up to `count` bytes; fewer only at the end of the file, also when it shrank since it was opened.
    ///
    /// # Errors
    /// [`Error::FileUnavailable`] when the disk fails.
    pub(crate) fn pread(&self, count: u64, offset: u64) -> Result<Vec<u8>> {
        match &self.source {
            Source::File(file) => self.pread_file(file, count, offset),
            Source::Memory(data) => {
                let start = offset.min(data.len() as u64) as usize;
                let end = offset.saturating_add(count).min(data.len() as u64) as usize;
                Ok(data[start..end].to_vec())
            }
        }
    }

    fn pread_file(&self, file: &File, count: u64, offset: u64) -> Result<Vec<u8>> {
        // A file that grew meanwhile is read as far as it reached when it was opened.
        let count = count.min(self.size.saturating_sub(offset)) as usize;
        let mut data = vec![0; count];
        let mut done = 0;
        while done < count {
            match file.read_at(&mut data[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(some) => done += some,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let reason = format!(
                        "cannot be read at byte {} ({})",
                        offset + done as u64,
                        os_reason(&error)
                    );
                    return Err(unavailable(&self.name, reason));
                }
            }
        }
        data.truncate(done);
        Ok(data)
    }
}

/// Open `path` (links are followed) if it is a regular file.
///
/// It is looked at before it is opened, because opening some devices has effects, and again through the descriptor,
/// because another file may stand there by then.
///
/// # Errors
/// [`Error::FileUnavailable`], at once, for anything else.
pub(crate) fn open_regular(path: &Path) -> Result<OpenedFile> {
    let name = message_name(path);
    let refuse = |error: io::Error| unavailable(&name, open_reason(&error));
    require_regular(&name, &fs::metadata(path).map_err(refuse)?)?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)
        .map_err(refuse)?;
    let facts = file.metadata().map_err(refuse)?;
    require_regular(&name, &facts)?;
    Ok(OpenedFile {
        source: Source::File(file),
        size: facts.size(),
        device: facts.dev(),
        inode: facts.ino(),
        name,
    })
}

fn require_regular(name: &str, facts: &Metadata) -> Result<()> {
    let kind = facts.file_type();
    if kind.is_dir() {
        return Err(unavailable(name, "is a folder, not a file".to_owned()));
    }
    if kind.is_fifo() || !kind.is_file() {
        return Err(unavailable(name, "is not a regular file".to_owned()));
    }
    Ok(())
}

fn open_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::InvalidInput => "is not a usable path".to_owned(),
        _ => format!("cannot be opened ({})", os_reason(error)),
    }
}

fn unavailable(name: &str, reason: String) -> Error {
    Error::unavailable(name, reason)
}

/// Processor time of the calling thread, so that a busy machine does not refuse good files.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// A moment in the calling thread's processor time after which work is refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Duration);

impl Deadline {
    /// So much work from now on.
    #[must_use]
    pub(crate) fn after(time: Duration) -> Self {
        Self(thread_time() + time)
    }

    fn passed(self) -> bool {
        thread_time() > self.0
    }
}

/// What a [`BoundedReader`] may spend: bytes really read, and elements walked one by one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) bytes: u64,
    pub(crate) steps: u64,
}

impl Budget {
    /// `bytes`, and two million elements.
    #[must_use]
    pub(crate) const fn bytes(bytes: u64) -> Self {
        Self {
            bytes,
            steps: 2_000_000,
        }
    }
}

/// Reads a file forwards from `pos`, with skips, until one of its budgets is spent.
///
/// Every violation is an [`Error::MalformedModelFile`]: real headers stay far below all of them.
#[derive(Debug)]
pub(crate) struct BoundedReader<'a> {
    pub(crate) file: &'a OpenedFile,
    pub(crate) pos: u64,
    pub(crate) end: u64,
    left: Budget,
    deadline: Deadline,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> BoundedReader<'a> {
    #[must_use]
    pub(crate) fn new(file: &'a OpenedFile, budget: Budget) -> Self {
        Self::until(file, budget, Deadline::after(MAX_TIME))
    }

    #[must_use]
    pub(crate) fn until(file: &'a OpenedFile, budget: Budget, deadline: Deadline) -> Self {
        Self {
            file,
            pos: 0,
            end: file.size,
            left: budget,
            deadline,
            window: Vec::new(),
            window_start: 0,
        }
    }

    /// Bytes from `pos` to `end`.
    #[must_use]
    pub(crate) fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.pos)
    }

    #[must_use]
    pub(crate) fn fail(&self, reason: impl AsRef<str>) -> Error {
        Error::MalformedModelFile(format!("{}: {}", self.file.name, reason.as_ref()))
    }

    /// Announce work of `steps` elements before doing it.
    pub(crate) fn spend(&mut self, steps: u64) -> Result<()> {
        match self.left.steps.checked_sub(steps) {
            Some(left) => self.left.steps = left,
            None => return Err(self.fail("its header holds more elements than any real model's")),
        }
        self.check_time()
    }

    pub(crate) fn check_time(&self) -> Result<()> {
        if self.deadline.passed() {
            return Err(self.fail("its header takes too long to read"));
        }
        Ok(())
    }

    /// `count` elements of at least `smallest` bytes must fit into what is left of the file.
    pub(crate) fn check_count(&self, what: &str, count: u64, smallest: u64) -> Result<()> {
        if count > self.remaining() / smallest {
            return Err(self.fail(format!(
                "its header claims {count} {what}, more than the file has room for"
            )));
        }
        Ok(())
    }

    /// As `check_count`, and no real model has more than `limit`.
    pub(crate) fn check_limited(&self, what: &str, count: u64, smallest: u64, limit: u64) -> Result<()> {
        self.check_count(what, count, smallest)?;
        if count > limit {
            return Err(self.fail(format!(
                "its header claims {count} {what}, more than any real model ({limit})"
            )));
        }
        Ok(())
    }

    /// Exactly `count` bytes.
    pub(crate) fn take(&mut self, count: u64) -> Result<&[u8]> {
        if !self.in_window(count) {
            self.fill(count)?;
        }
        let start = (self.pos - self.window_start) as usize;
        self.pos += count;
        Ok(&self.window[start..start + count as usize])
    }

    /// Exactly `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N as u64)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }

    fn in_window(&self, count: u64) -> bool {
        self.pos >= self.window_start
            && self.pos.saturating_add(count) <= self.window_start + self.window.len() as u64
    }

    pub(crate) fn skip(&mut self, count: u64) -> Result<()> {
        if count > self.remaining() {
            return Err(
                self.fail("is cut short: an element of its header reaches beyond the end of the file")
            );
        }
        self.pos += count;
        Ok(())
    }

    /// Pass over `count` strings, each a length of `width` bytes followed by that many bytes, without keeping any.
    pub(crate) fn skip_strings(
        &mut self,
        count: u64,
        width: u64,
        length: impl Fn(&[u8]) -> u64,
    ) -> Result<()> {
        self.spend(count)?;
        for number in 0..count {
            if number % 4096 == 0 {
                self.check_time()?;
            }
            let size = length(self.take(width)?);
            self.pos = self.pos.saturating_add(size);
            if self.pos > self.end {
                return Err(
                    self.fail("is cut short: a string of its header reaches beyond the end of the file")
                );
            }
        }
        Ok(())
    }

    /// Read a window that starts at `pos` and holds at least `count` bytes.
    fn fill(&mut self, count: u64) -> Result<()> {
        if count > self.remaining() {
            return Err(self.fail("is cut short: its header ends in the middle"));
        }
        self.check_time()?;
        let want = count.max(WINDOW).min(self.remaining());
        match self.left.bytes.checked_sub(want) {
            Some(left) => self.left.bytes = left,
            None => return Err(self.fail("its header is larger than any real model's")),
        }
        self.window = self.file.pread(want, self.pos)?;
        self.window_start = self.pos;
        let got = self.window.len() as u64;
        if got < count {
            return Err(self.fail("became shorter while it was being read"));
        }
        if got < want {
            self.end = self.pos + got;
        }
        Ok(())
    }
}
