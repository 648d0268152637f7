//! The list of members of a ZIP file, read boundedly. Knows nothing about what the members mean.

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};

use super::reader::{BoundedReader, Budget, OpenedFile};
use crate::error::Result;
use crate::zip_records::{
    DEFLATED, END_MAGIC, END_SIZE, END64_MAGIC, END64_SIZE, ENTRY_MAGIC, ENTRY_SIZE, LOCAL_MAGIC, LOCAL_SIZE,
    LOCATOR64_SIZE, STORED, WIDE_EXTRA, u16_at, u32_at, u64_at,
};

const MAX_COMMENT: u64 = 65_535;
const MAX_DIRECTORY_BYTES: u64 = 8 * 1024 * 1024;
const MAX_MEMBERS: u64 = 50_000;

/// One file in the archive; sizes and places in bytes.
#[derive(Debug)]
pub(super) struct Member {
    pub name: String,
    method: u16,
    packed_size: u64,
    offset: u64,
}

/// Every member.
///
/// # Errors
/// [`crate::error::Error::MalformedModelFile`] when there is no usable central directory.
pub(super) fn read_directory(file: &OpenedFile) -> Result<Vec<Member>> {
    let (mut reader, count) = at_directory(file)?;
    let mut members = Vec::new();
    for _ in 0..count {
        reader.spend(1)?;
        let entry = reader.take(ENTRY_SIZE as u64)?.to_vec();
        if !entry.starts_with(ENTRY_MAGIC) {
            return Err(reader.fail("has a damaged ZIP directory"));
        }
        let name = String::from_utf8_lossy(reader.take(u16_at(&entry, 28).into())?).into_owned();
        let extra = reader.take(u16_at(&entry, 30).into())?.to_vec();
        reader.skip(u16_at(&entry, 32).into())?;
        let (packed_size, offset) = wide(&extra, u32_at(&entry, 24), u32_at(&entry, 20), u32_at(&entry, 42));
        members.push(Member {
            name,
            method: u16_at(&entry, 10),
            packed_size,
            offset,
        });
    }
    Ok(members)
}

/// The member's first `limit` bytes, or `None` when it is stored in a way that we do not read.
pub(super) fn read_member(file: &OpenedFile, member: &Member, limit: u64) -> Result<Option<Vec<u8>>> {
    let head = file.pread(LOCAL_SIZE as u64, member.offset.min(file.size))?;
    if head.len() < LOCAL_SIZE || !head.starts_with(LOCAL_MAGIC) {
        return Ok(None);
    }
    let names = u64::from(u16_at(&head, 26)) + u64::from(u16_at(&head, 28));
    let start = member.offset.saturating_add(LOCAL_SIZE as u64 + names);
    let packed = || file.pread(limit.min(member.packed_size), start);
    match member.method {
        STORED => Ok(Some(packed()?)),
        DEFLATED => Ok(inflate(&packed()?, limit as usize)),
        _ => Ok(None),
    }
}

fn inflate(packed: &[u8], limit: usize) -> Option<Vec<u8>> {
    match decompress_to_vec_with_limit(packed, limit) {
        Ok(data) => Some(data),
        Err(stopped) => match stopped.status {
            TINFLStatus::HasMoreOutput
            | TINFLStatus::FailedCannotMakeProgress
            | TINFLStatus::NeedsMoreInput => Some(stopped.output),
            _ => None,
        },
    }
}

/// The name in the very first local header, which need not agree with the directory.
pub(super) fn first_local_name(file: &OpenedFile) -> Result<String> {
    let head = file.pread(LOCAL_SIZE as u64 + 512, 0)?;
    if head.len() < LOCAL_SIZE {
        return Ok(String::new());
    }
    let end = (LOCAL_SIZE + usize::from(u16_at(&head, 26))).min(head.len());
    Ok(String::from_utf8_lossy(&head[LOCAL_SIZE..end]).into_owned())
}

/// A reader placed on the first entry, and how many entries there are.
fn at_directory(file: &OpenedFile) -> Result<(BoundedReader<'_>, u64)> {
    let tail_start = file
        .size
        .saturating_sub(END_SIZE as u64 + MAX_COMMENT + LOCATOR64_SIZE as u64);
    let tail = file.pread(file.size - tail_start, tail_start)?;
    let mut reader = BoundedReader::new(file, Budget::bytes(MAX_DIRECTORY_BYTES));
    let damaged = "has a damaged ZIP directory";
    let Some(at) = memchr::memmem::rfind(&tail, END_MAGIC).filter(|at| at + END_SIZE <= tail.len()) else {
        return Err(reader.fail("is a ZIP file without directory: damaged or cut short"));
    };
    let end = &tail[at..];
    let mut count = u64::from(u16_at(end, 10));
    let mut size = u64::from(u32_at(end, 12));
    let mut offset = u64::from(u32_at(end, 16));
    let short = u64::from(u32::MAX);
    if count == 0xFFFF || u16_at(end, 8) == 0xFFFF || size == short || offset == short {
        let Some(locator) = at.checked_sub(LOCATOR64_SIZE) else {
            return Err(reader.fail(damaged));
        };
        let raw = file.pread(END64_SIZE as u64, u64_at(&tail, locator + 8).min(file.size))?;
        if raw.len() < END64_SIZE || !raw.starts_with(END64_MAGIC) {
            return Err(reader.fail(damaged));
        }
        (count, size, offset) = (u64_at(&raw, 32), u64_at(&raw, 40), u64_at(&raw, 48));
    }
    let Some(directory_end) = offset.checked_add(size).filter(|end| *end <= file.size) else {
        return Err(reader.fail(damaged));
    };
    (reader.pos, reader.end) = (offset, directory_end);
    reader.check_limited("ZIP members", count, ENTRY_SIZE as u64, MAX_MEMBERS)?;
    Ok((reader, count))
}

/// Sizes beyond 32 bit stand in an extra field, in this order, each only if its short form is all ones.
fn wide(extra: &[u8], size: u32, packed: u32, offset: u32) -> (u64, u64) {
    let (mut long_packed, mut long_offset) = (u64::from(packed), u64::from(offset));
    let mut at = 0;
    while at + 4 <= extra.len() {
        let (kind, length) = (u16_at(extra, at), usize::from(u16_at(extra, at + 2)));
        at += 4;
        if kind == WIDE_EXTRA {
            let field = &extra[at..(at + length.next_multiple_of(8)).min(extra.len())];
            let mut numbers = field.chunks(8).map(|chunk| {
                let mut raw = [0; 8];
                raw[..chunk.len()].copy_from_slice(chunk);
                u64::from_le_bytes(raw)
            });
            if size == u32::MAX {
                numbers.next();
            }
            if packed == u32::MAX {
                long_packed = numbers.next().unwrap_or(long_packed);
            }
            if offset == u32::MAX {
                long_offset = numbers.next().unwrap_or(long_offset);
            }
            break;
        }
        at += length;
    }
    (long_packed, long_offset)
}
