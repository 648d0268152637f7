//! SHA-256 and BLAKE3 of a file in one read, each on a thread of its own.
//!
//! The caller's thread reads (and, in `copying`, writes); blocks travel reader -> SHA-256 -> BLAKE3 -> reader, so that the
//! slowest of the three sets the pace and memory stays at a few blocks. Files are read with pread, never mapped: a file
//! that shrinks under us is an error for that file. What digests are compared with is not known here.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::library::formats::reader::{OpenedFile, open_regular};
use crate::storage::files::{During as _, hex, reason};

/// Bytes of a block.
pub const BLOCK: usize = 1024 * 1024;
const BLOCKS_UNDER_WAY: usize = 6;
/// Bytes, fewer than a processor's own cache holds.
const FETCHED_AT_ONCE: usize = 16 * 1024;
/// How far threads that hash stand behind those that answer calls, as nice(2) counts: those are woken first, and when the
/// processors are busy with other programs' work this one still gets its share.
const BEHIND: i32 = 1;

/// Which file it is and whether it was written since: what fstat(2) says about identity, size and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The volume.
    pub device: u64,
    /// The file on it.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl Stamp {
    /// The stamp of what was looked at.
    #[must_use]
    pub fn of(facts: &std::fs::Metadata) -> Self {
        Self {
            device: facts.dev(),
            inode: facts.ino(),
            size: facts.size(),
            mtime_ns: facts
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(facts.mtime_nsec()),
        }
    }
}

/// Lower-case hex of all bytes that were read, and how many there were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// SHA-256.
    pub sha256: String,
    /// BLAKE3, 256 bit.
    pub blake3: String,
    /// Bytes.
    pub size: u64,
}

/// Bytes that begin with a page of memory, as writes past the page cache need.
#[derive(Debug)]
pub struct Buffer {
    data: Vec<u8>,
    start: usize,
    size: usize,
}

impl Buffer {
    /// So many zeros.
    #[must_use]
    pub fn new(size: usize) -> Self {
        const PAGE: usize = 4096;
        let data = vec![0; size + PAGE];
        let start = data.as_ptr().align_offset(PAGE).min(PAGE);
        Self { data, start, size }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.data[self.start..self.start + self.size]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.start..self.start + self.size]
    }
}

type Block = (Buffer, usize);

/// A ring of buffers with a hashing thread at two of its stations. Dropping it ends the threads.
#[derive(Debug)]
pub struct DigestPair {
    to_sha256: Option<Sender<Block>>,
    free: Receiver<Block>,
    buffers: usize,
    buffer_size: usize,
    size: u64,
    sha256: Option<JoinHandle<String>>,
    blake3: Option<JoinHandle<String>>,
}

impl DigestPair {
    /// `buffers` of `buffer_size` bytes each go round, at least two.
    ///
    /// # Errors
    /// `OperationFailed`: no thread can be started.
    pub fn start(buffers: usize, buffer_size: usize) -> Result<Self> {
        let (to_sha256, sha256_inbox) = channel::<Block>();
        let (to_blake3, blake3_inbox) = channel::<Block>();
        let (to_free, free) = channel::<Block>();
        let sha256 = station("hash-sha256", move || {
            let mut digest = Sha256::new();
            pass_on(&sha256_inbox, &to_blake3, |data| {
                for part in data.chunks(FETCHED_AT_ONCE) {
                    fetch(part);
                    digest.update(part);
                }
            });
            hex(&digest.finalize())
        })?;
        let blake3 = station("hash-blake3", move || {
            let mut digest = blake3::Hasher::new();
            pass_on(&blake3_inbox, &to_free, |data| {
                digest.update(data);
            });
            digest.finalize().to_hex().to_string()
        })?;
        let buffers = buffers.max(2);
        Ok(Self {
            to_sha256: Some(to_sha256),
            free,
            buffers,
            buffer_size,
            size: 0,
            sha256: Some(sha256),
            blake3: Some(blake3),
        })
    }

    /// A buffer that no thread reads any more; waits for one when all are under way.
    pub fn buffer(&mut self) -> Buffer {
        if self.buffers > 0 {
            self.buffers -= 1;
            return Buffer::new(self.buffer_size);
        }
        // A thread that died shows when the digests are asked for.
        self.free
            .recv()
            .map_or_else(|_| Buffer::new(self.buffer_size), |(buffer, _)| buffer)
    }

    /// Hash the first `length` bytes of `buffer`.
    pub fn put(&mut self, buffer: Buffer, length: usize) {
        self.size += length as u64;
        if let Some(inbox) = &self.to_sha256 {
            let _ = inbox.send((buffer, length));
        }
    }

    /// The digests of everything that was put.
    ///
    /// # Errors
    /// `Bug`: a thread ended before its work did.
    pub fn digests(mut self) -> Result<Digests> {
        self.to_sha256 = None;
        let ended = || Error::Bug("a hashing thread ended before its work did".to_owned());
        let join = |thread: Option<JoinHandle<String>>| thread.and_then(|thread| thread.join().ok());
        let sha256 = join(self.sha256.take()).ok_or_else(ended)?;
        let blake3 = join(self.blake3.take()).ok_or_else(ended)?;
        Ok(Digests {
            sha256,
            blake3,
            size: self.size,
        })
    }
}

impl Drop for DigestPair {
    fn drop(&mut self) {
        self.to_sha256 = None;
        for thread in [self.sha256.take(), self.blake3.take()].into_iter().flatten() {
            let _ = thread.join();
        }
    }
}

fn station(name: &str, work: impl FnOnce() -> String + Send + 'static) -> Result<JoinHandle<String>> {
    let patient = move || {
        give_way();
        work()
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(patient)
        .map_err(|error| Error::OperationFailed(format!("No thread can be started: {}.", reason(&error))))
}

/// Let threads that answer calls come first. Each thread has a priority of its own on Linux (sched(7)).
pub fn give_way() {
    // Behind the main thread, whose number is the process's: a sidecar may have been started behind others.
    let process = rustix::process::getpid();
    if let Ok(before) = rustix::process::getpriority_process(Some(process)) {
        let _ = rustix::process::setpriority_process(None, before + BEHIND);
    }
}

/// Has the processor load bytes that another one has just written, all of them at once: SHA-256 asks for them one after the
/// other, and waits each time.
fn fetch(data: &[u8]) {
    const LINE: usize = 64;
    let sum = data
        .iter()
        .step_by(LINE)
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
    std::hint::black_box(sum);
}

fn pass_on(inbox: &Receiver<Block>, outbox: &Sender<Block>, mut hash: impl FnMut(&[u8])) {
    while let Ok((buffer, length)) = inbox.recv() {
        hash(&buffer[..length]);
        // Nobody may be waiting for buffers any more.
        let _ = outbox.send((buffer, length));
    }
}

/// Read an open file once, from start to end, for both digests and for `sink`, which gets each block and its offset.
///
/// `advance` is called with the bytes done since the last call, and fails to stop the work.
///
/// # Errors
/// `FileUnavailable`: it became shorter or was written while it was read. `DiskError`: the disk failed; the message
/// names the file and the offset. What `advance` and `sink` fail with.
pub(crate) fn digest_open(
    name: &str,
    file: &File,
    advance: &mut dyn FnMut(u64) -> Result<()>,
    sink: &mut dyn FnMut(&[u8], u64) -> Result<()>,
) -> Result<Digests> {
    let look = || {
        file.metadata()
            .map(|facts| Stamp::of(&facts))
            .during(&format!("Looking at {name}"))
    };
    let stamp = look()?;
    let mut pair = DigestPair::start(BLOCKS_UNDER_WAY, BLOCK)?;
    let mut offset = 0;
    while offset < stamp.size {
        let mut buffer = pair.buffer();
        let wanted = usize::try_from(stamp.size - offset).map_or(BLOCK, |left| left.min(BLOCK));
        let count = read_at(name, file, &mut buffer[..wanted], offset)?;
        if count == 0 {
            let reason = format!("became shorter while it was read (at byte {offset})");
            return Err(Error::unavailable(name, reason));
        }
        sink(&buffer[..count], offset)?;
        pair.put(buffer, count);
        offset += count as u64;
        advance(count as u64)?;
    }
    let digests = pair.digests()?;
    if look()? != stamp {
        let reason = "was changed while it was read; try again when nothing writes to it";
        return Err(Error::unavailable(name, reason));
    }
    Ok(digests)
}

fn read_at(name: &str, file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let reason = reason(&error);
                return Err(Error::DiskError(format!(
                    "Reading {name} failed at byte {offset}: {reason}."
                )));
            }
        }
    }
}

/// Both digests of a regular file. `advance` as for an import's progress: called with the bytes done since the last call.
///
/// # Errors
/// `FileUnavailable`: it is no regular file, became shorter or was written meanwhile. `DiskError`: the disk failed. What
/// `advance` fails with.
pub fn digest_file(path: &Path, advance: &mut dyn FnMut(u64) -> Result<()>) -> Result<Digests> {
    let opened = open_regular(path)?;
    digest_open(&opened.name, open_file(&opened)?, advance, &mut |_, _| Ok(()))
}

/// The file behind what was opened by its path.
pub(crate) fn open_file(opened: &OpenedFile) -> Result<&File> {
    opened
        .file()
        .ok_or_else(|| Error::Bug("bytes in memory are no file".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests_of(data: &[u8]) -> Digests {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.bin");
        std::fs::write(&path, data).unwrap();
        let mut done = 0;
        let digests = digest_file(&path, &mut |count| {
            done += count;
            Ok(())
        });
        assert_eq!(done, data.len() as u64);
        digests.unwrap()
    }

    #[test]
    fn both_digests_are_of_all_bytes() {
        for size in [0, 1, BLOCK - 1, BLOCK, 9 * BLOCK + 7] {
            let data: Vec<u8> = (0..=250).cycle().take(size).collect();
            let found = digests_of(&data);
            assert_eq!(found.sha256, hex(&Sha256::digest(&data)));
            assert_eq!(found.blake3, blake3::hash(&data).to_hex().to_string());
            assert_eq!(found.size, size as u64);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn threads_that_hash_stand_behind_those_that_answer() {
        use rustix::process::{getpid, getpriority_process};
        let behind = thread::spawn(|| {
            give_way();
            getpriority_process(None).unwrap()
        });
        let first = getpriority_process(Some(getpid())).unwrap();
        assert_eq!(behind.join().unwrap(), first + BEHIND);
    }

    #[test]
    fn who_follows_may_stop_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.bin");
        std::fs::write(&path, vec![7; 3 * BLOCK]).unwrap();
        let stopped = digest_file(&path, &mut |_| {
            Err(Error::Cancelled("The job was stopped.".to_owned()))
        });
        assert!(matches!(stopped, Err(Error::Cancelled(_))));
        assert!(matches!(
            digest_file(folder.path(), &mut |_| Ok(())),
            Err(Error::FileUnavailable { .. })
        ));
    }
}
