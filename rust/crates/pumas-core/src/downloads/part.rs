//! A file that has not arrived yet: `<name>.part` holds its bytes, `<name>.blocks` says which blocks are there.
//!
//! Blocks are written in any order by several threads, each with its CRC-32, recorded after the bytes. A killed process
//! loses at most the blocks that were under way; after a power cut a record may be there without its bytes, and then the CRC
//! says so. The CRC only finds what the disk did to a block: whether the bytes are the right ones is decided by the whole
//! file's digest (`large`). Nothing here knows the network.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::library::hashing::Buffer;
use crate::storage::files::During as _;
use crate::storage::locked;
use crate::text::grouped;

pub(super) const MIB: u64 = 1024 * 1024;
const SMALLEST_BLOCK: u64 = MIB;
const LARGEST_BLOCK: u64 = 2 * MIB;
/// From this size on, a file's blocks are of two MiB.
const LARGE: u64 = 256 * MIB;
const MAGIC: &[u8; 8] = b"PUMASBK1";
/// Magic, size (8 bytes), block size (4 bytes), digest in hex (64), `ETag` (512); little-endian.
const HEADER: usize = 8 + 8 + 4 + DIGEST + ETAG;
const DIGEST: usize = 64;
const ETAG: usize = 512;
/// State (4 bytes), CRC-32 (4 bytes).
const RECORD: usize = 8;
const MISSING: u8 = 0;
const WHOLE: u8 = 1;
/// Of this many bytes are writes past the page cache on all usual disks (open(2), `O_DIRECT`).
const DIRECT_UNIT: usize = 4096;

/// Bytes per block: small enough that a kill costs little (each connection loses at most one), large enough that passing
/// blocks from thread to thread does not take longer than a fast line.
const fn block_size_for(size: u64) -> u64 {
    if size < LARGE {
        SMALLEST_BLOCK
    } else {
        LARGEST_BLOCK
    }
}

/// The bytes from `start` up to, not including, `stop`.
pub(super) type Span = Range<u64>;

/// The blocks of one file. All methods may be called from any thread, and all that touch the disk block.
pub(super) struct PartFile {
    name: String,
    path: PathBuf,
    /// Bytes.
    pub size: u64,
    pub block_size: u64,
    /// Blocks.
    pub count: usize,
    digest: String,
    data: File,
    records: File,
    /// Opened at the first write that asks for it; `None` where the disk takes no such writes.
    direct: OnceLock<Option<File>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    etag: String,
    arrived: u64,
    whole: Vec<u8>,
    crcs: Vec<u32>,
}

impl Known {
    fn nothing(count: usize) -> Self {
        Self {
            whole: vec![MISSING; count],
            crcs: vec![0; count],
            ..Self::default()
        }
    }
}

/// By which a block is known to be as it was written.
pub(super) fn crc(data: &[u8]) -> u32 {
    crc32fast::hash(data)
}

/// Where the bytes of a partial file are.
pub(super) fn data_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.part"))
}

/// Where its records are.
pub(super) fn records_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.blocks"))
}

impl PartFile {
    /// Open what is there, or create it. Its name is the expected digest in hex: another digest means another file.
    ///
    /// # Errors
    /// `DiskError`, `DiskFull`, `ReadOnly`.
    pub(super) fn open(folder: &Path, digest: &str, size: u64) -> Result<Self> {
        const WHAT: &str = "Opening a partial download";
        let block_size = block_size_for(size);
        let count = usize::try_from(size.div_ceil(block_size)).unwrap_or(usize::MAX);
        let part = Self {
            name: format!("{digest}.part"),
            path: data_path(folder, digest),
            size,
            block_size,
            count,
            digest: digest.to_owned(),
            data: open(&data_path(folder, digest), 0o644).during(WHAT)?,
            records: open(&records_path(folder, digest), 0o600).during(WHAT)?,
            direct: OnceLock::new(),
            known: Mutex::new(Known::nothing(count)),
        };
        if !part.load().during(WHAT)? {
            part.reset(&mut locked(&part.known)).during(WHAT)?;
        }
        part.data.set_len(size).map_err(|error| {
            if error.raw_os_error().map(Errno::from_raw_os_error) != Some(Errno::FBIG) {
                return crate::storage::files::disk_error(&error, WHAT);
            }
            // Waiting for room would be of no use.
            let size = grouped(size);
            Error::DiskError(format!(
                "The disk cannot hold a file of {size} bytes (as FAT, from 4 GiB on)."
            ))
        })?;
        Ok(part)
    }

    // -- what is there -----------------------------------------------------------------------------------------------

    /// The server's name for the content of which the blocks are parts; "" before the first.
    pub(super) fn etag(&self) -> String {
        locked(&self.known).etag.clone()
    }

    /// Bytes of whole blocks.
    pub(super) fn arrived(&self) -> u64 {
        locked(&self.known).arrived
    }

    pub(super) fn span(&self, block: usize) -> Span {
        let start = block as u64 * self.block_size;
        start..(start + self.block_size).min(self.size)
    }

    /// The bytes of these blocks.
    pub(super) fn spans(&self, blocks: &Range<usize>) -> Span {
        self.span(blocks.start).start..self.span(blocks.end.saturating_sub(1)).end
    }

    pub(super) fn length(&self, block: usize) -> usize {
        let span = self.span(block);
        usize::try_from(span.end - span.start).unwrap_or(usize::MAX)
    }

    /// The first run of missing blocks, at most `most` of them, of which `taken` says that nobody brings them.
    pub(super) fn free(&self, taken: &[bool], most: usize) -> Option<Range<usize>> {
        let known = locked(&self.known);
        let is_free = |block: &usize| known.whole[*block] == MISSING && !taken[*block];
        let first = (0..self.count).find(is_free)?;
        let end = (first..self.count.min(first + most.max(1))).find(|block| !is_free(block));
        Some(first..end.unwrap_or(self.count.min(first + most.max(1))))
    }

    /// Whether no block is missing.
    pub(super) fn is_complete(&self) -> bool {
        !locked(&self.known).whole.contains(&MISSING)
    }

    pub(super) fn is_whole(&self, block: usize) -> bool {
        locked(&self.known).whole[block] == WHOLE
    }

    // -- changes -----------------------------------------------------------------------------------------------------

    /// Remember the `ETag` of the content under way.
    pub(super) fn name_content(&self, etag: &str) -> Result<()> {
        let mut known = locked(&self.known);
        etag[..if etag.len() <= ETAG { etag.len() } else { 0 }].clone_into(&mut known.etag);
        self.records
            .write_all_at(&self.header(&known), 0)
            .during("Writing a partial download")
    }

    /// Keep a whole block: first its bytes, then the record of it.
    pub(super) fn write(&self, block: usize, data: &[u8]) -> Result<()> {
        self.write_known(block, data, crc(data))
    }

    /// As `write`, of a block whose [`crc`] is known.
    pub(super) fn write_known(&self, block: usize, data: &[u8], crc: u32) -> Result<()> {
        self.keep(block, data, crc, |at| self.data.write_all_at(data, at))
    }

    /// As `write_known`, but past the page cache where that can be: the kernel has less than half the work, and the block is on
    /// the disk afterwards. To be read soon, it should not be written so. `data` begins with a page of memory.
    pub(super) fn write_direct(&self, block: usize, data: &[u8], crc: u32) -> Result<()> {
        let direct = self.direct.get_or_init(|| open_direct(&self.path));
        let Some(file) = direct.as_ref().filter(|_| data.len().is_multiple_of(DIRECT_UNIT)) else {
            return self.write_known(block, data, crc);
        };
        self.keep(block, data, crc, |at| match file.write_at(data, at) {
            Ok(count) if count == data.len() => Ok(()),
            Err(error) if error.raw_os_error() != Some(Errno::INVAL.raw_os_error()) => Err(error),
            // Part of it, or a disk that wants larger units.
            _ => self.data.write_all_at(data, at),
        })
    }

    fn keep(
        &self,
        block: usize,
        data: &[u8],
        crc: u32,
        write: impl FnOnce(u64) -> io::Result<()>,
    ) -> Result<()> {
        write(self.span(block).start)
            .and_then(|()| self.record(block, WHOLE, crc))
            .during("Writing a download")?;
        let mut known = locked(&self.known);
        if known.whole[block] == MISSING {
            known.arrived += data.len() as u64;
        }
        (known.whole[block], known.crcs[block]) = (WHOLE, crc);
        Ok(())
    }

    /// Fill `buffer` from byte `at` of a file on.
    ///
    /// # Errors
    /// `DiskError`: the disk fails, or the file became shorter.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.data.read_exact_at(buffer, at).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                let name = &self.name;
                return Error::DiskError(format!("{name} became shorter while it was read; try again."));
            }
            crate::storage::files::disk_error(&error, "Reading a partial download")
        })
    }

    /// The blocks whose bytes are not those that were written. Reads the whole file; `check` may fail to stop.
    pub(super) fn damaged(&self, check: impl Fn() -> Result<()>) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        self.each_block(|block, data| {
            check()?;
            if !self.matches(block, data) {
                found.push(block);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Read all blocks in order.
    pub(super) fn each_block(&self, mut take: impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = self.buffer();
        for block in 0..self.count {
            let data = &mut buffer[..self.length(block)];
            self.read(self.span(block).start, data)?;
            take(block, data)?;
        }
        Ok(())
    }

    /// Room for a block.
    pub(super) fn buffer(&self) -> Buffer {
        Buffer::new(usize::try_from(self.block_size.min(self.size)).unwrap_or_default())
    }

    /// Whether these bytes are those of the block that was written.
    pub(super) fn matches(&self, block: usize, data: &[u8]) -> bool {
        let known = locked(&self.known);
        known.whole[block] == WHOLE && known.crcs[block] == crc(data)
    }

    /// Count a block as missing.
    pub(super) fn forget(&self, block: usize) -> Result<()> {
        let mut known = locked(&self.known);
        if known.whole[block] == WHOLE {
            known.arrived -= self.length(block) as u64;
        }
        known.whole[block] = MISSING;
        drop(known);
        self.record(block, MISSING, 0)
            .during("Writing a partial download")
    }

    /// Begin anew: the content is another one.
    pub(super) fn forget_all(&self) -> Result<()> {
        self.reset(&mut locked(&self.known))
            .during("Writing a partial download")
    }

    /// Ask the kernel to begin writing these blocks to the disk, so that `sync` has little left to wait for.
    pub(super) fn start_writing(&self, blocks: &Range<usize>) {
        #[cfg(target_os = "linux")]
        {
            let span = self.spans(blocks);
            // Dirty pages are queued for writing, not dropped (mm/fadvise.c).
            let length = std::num::NonZeroU64::new(span.end - span.start);
            let _ = rustix::fs::fadvise(&self.data, span.start, length, rustix::fs::Advice::DontNeed);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = blocks;
    }

    /// Make all bytes durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.data.sync_all().during("Writing a download")
    }

    // -- the records' form -------------------------------------------------------------------------------------------

    fn header(&self, known: &Known) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&self.size.to_le_bytes());
        header.extend_from_slice(&u32::try_from(self.block_size).unwrap_or_default().to_le_bytes());
        header.extend_from_slice(self.digest.as_bytes());
        header.resize(HEADER - ETAG, 0);
        header.extend_from_slice(known.etag.as_bytes());
        header.resize(HEADER, 0);
        header
    }

    fn record(&self, block: usize, state: u8, crc: u32) -> io::Result<()> {
        let record = [u32::from(state).to_le_bytes(), crc.to_le_bytes()].concat();
        self.records
            .write_all_at(&record, (HEADER + block * RECORD) as u64)
    }

    fn reset(&self, known: &mut Known) -> io::Result<()> {
        *known = Known::nothing(self.count);
        self.records.set_len(0)?;
        self.records.write_all_at(&self.header(known), 0)
    }

    /// False when there are no records, or those of another file.
    fn load(&self) -> io::Result<bool> {
        let mut data = vec![0; HEADER + self.count * RECORD];
        let length = read_up_to(&self.records, &mut data)?;
        data.truncate(length);
        let empty = self.header(&Known::default());
        if length < HEADER || data[..HEADER - ETAG] != empty[..HEADER - ETAG] {
            return Ok(false);
        }
        let etag = &data[HEADER - ETAG..HEADER];
        let end = etag.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        let on_disk = self.data.metadata()?.len();
        let mut known = locked(&self.known);
        known.etag = String::from_utf8_lossy(&etag[..end]).into_owned();
        for (block, record) in data[HEADER..].chunks_exact(RECORD).enumerate() {
            if record[..4] != u32::from(WHOLE).to_le_bytes() {
                continue;
            }
            if self.span(block).end > on_disk {
                // The file gets its length back, and would seem to have it.
                self.record(block, MISSING, 0)?;
                continue;
            }
            known.crcs[block] = u32::from_le_bytes([record[4], record[5], record[6], record[7]]);
            known.whole[block] = WHOLE;
            known.arrived += self.length(block) as u64;
        }
        Ok(true)
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> Option<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::DIRECT).bits()).ok()?;
    let opened = OpenOptions::new().write(true).custom_flags(flags).open(path);
    opened.ok()
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_path: &Path) -> Option<File> {
    None
}

fn open(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default())
        .open(path)
}

fn read_up_to(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 3 * MIB + 5;

    fn digest() -> String {
        "a".repeat(64)
    }

    #[test]
    fn blocks_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let part = PartFile::open(folder.path(), &digest(), SIZE).unwrap();
        assert_eq!((part.count, part.arrived(), part.length(3)), (4, 0, 5));
        part.name_content("\"tag\"").unwrap();
        part.write(3, b"12345").unwrap();
        part.write(1, &vec![7; part.length(1)]).unwrap();
        drop(part);
        let part = PartFile::open(folder.path(), &digest(), SIZE).unwrap();
        assert_eq!((part.etag().as_str(), part.arrived()), ("\"tag\"", MIB + 5));
        assert_eq!(part.free(&[false; 4], 9), Some(0..1));
        assert_eq!(part.free(&[true, false, false, false], 9), Some(2..3));
        assert!(part.is_whole(1) && !part.is_whole(0));
        assert!(part.matches(3, b"12345") && !part.matches(3, b"12346"));
        assert_eq!(
            std::fs::metadata(data_path(folder.path(), &digest()))
                .unwrap()
                .len(),
            SIZE
        );
    }

    #[test]
    fn records_have_the_form_of_the_other_backend() {
        let folder = tempfile::tempdir().unwrap();
        let part = PartFile::open(folder.path(), &digest(), SIZE).unwrap();
        part.name_content("x").unwrap();
        part.write(3, b"12345").unwrap();
        let records = std::fs::read(records_path(folder.path(), &digest())).unwrap();
        assert_eq!(records.len(), 596 + 4 * 8);
        assert_eq!(&records[..8], MAGIC);
        assert_eq!(records[8..20], [5, 0, 48, 0, 0, 0, 0, 0, 0, 0, 16, 0]);
        assert_eq!((records[84], records[85]), (b'x', 0));
        // As `zlib.crc32(b"12345")` says.
        assert_eq!(records[620..], [1, 0, 0, 0, 0x1c, 0x3a, 0xf5, 0xcb]);
    }

    #[test]
    fn what_the_disk_did_is_found_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let part = PartFile::open(folder.path(), &digest(), 2 * MIB).unwrap();
        for block in 0..2 {
            part.write(block, &vec![7; part.length(block)]).unwrap();
        }
        assert!(part.is_complete());
        part.data.write_all_at(b"8", MIB + 3).unwrap();
        assert_eq!(part.damaged(|| Ok(())).unwrap(), [1]);
        part.forget(1).unwrap();
        assert_eq!((part.arrived(), part.is_complete()), (MIB, false));
        part.forget_all().unwrap();
        assert_eq!(
            PartFile::open(folder.path(), &digest(), 2 * MIB)
                .unwrap()
                .arrived(),
            0
        );
    }

    #[test]
    fn a_file_that_was_cut_and_one_of_another_size_begin_anew() {
        let folder = tempfile::tempdir().unwrap();
        let part = PartFile::open(folder.path(), &digest(), 2 * MIB).unwrap();
        part.write(0, &vec![7; part.length(0)]).unwrap();
        part.write(1, &vec![7; part.length(1)]).unwrap();
        part.data.set_len(MIB).unwrap();
        drop(part);
        let part = PartFile::open(folder.path(), &digest(), 2 * MIB).unwrap();
        assert_eq!(part.arrived(), MIB);
        drop(part);
        assert_eq!(
            PartFile::open(folder.path(), &digest(), 3 * MIB)
                .unwrap()
                .arrived(),
            0
        );
    }
}
