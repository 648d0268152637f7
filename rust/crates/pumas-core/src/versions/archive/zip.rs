//! Reads zip archives by their list of members: <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT> (4.3.6–4.3.16).

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use super::writer::Writer;
use super::{CHUNK, DURING, LONGEST_LINK, Source, damaged, refused};
use crate::error::{Error, Result};
use crate::storage::files::During as _;

const END: &[u8] = b"PK\x05\x06";
const END_SIZE: usize = 22;
const END64_SIZE: usize = 56;
const LOCATOR_SIZE: u64 = 20;
const ENTRY_SIZE: usize = 46;
const LOCAL_SIZE: usize = 30;
const LONGEST_COMMENT: u64 = 65_536;
const LARGEST_DIRECTORY: u64 = 64 * 1024 * 1024;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const ENCRYPTED: u16 = 1;
/// Where the mode of a Unix file system stands: <https://man7.org/linux/man-pages/man7/inode.7.html>.
const KIND: u32 = 0o170_000;
const LINK: u32 = 0o120_000;
const FILE: u32 = 0o100_000;

struct Member {
    name: String,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    mode: u32,
    offset: u64,
}

pub(super) fn unpack(archive: &Path, source: &Source<'_>, writer: &mut Writer) -> Result<()> {
    let mut file = File::open(archive).during(DURING)?;
    for member in directory(&mut file)? {
        let name = &member.name;
        if member.flags & ENCRYPTED != 0 {
            return Err(refused("a member is encrypted", name));
        }
        if name.ends_with('/') {
            writer.folder(name)?;
        } else {
            match member.mode & KIND {
                LINK if member.size > LONGEST_LINK => {
                    return Err(refused("a link leads elsewhere", name));
                }
                LINK => {
                    let mut target = String::new();
                    let read = content(&mut file, &member)?.read_to_string(&mut target);
                    read.map_err(|error| damaged(&error))?;
                    writer.link(name, &target)?;
                }
                0 | FILE => {
                    let mut content = content(&mut file, &member)?;
                    writer.file(name, &mut content, member.size, member.mode)?;
                }
                _ => return Err(refused("a member is no file, folder or link", name)),
            }
        }
        (source.advance)(member.packed)?;
    }
    Ok(())
}

fn broken(what: &str) -> Error {
    refused(format!("it is damaged: {what}"), "")
}

/// The list of members, which is read whole, so that it must not be out of all proportion.
fn directory(file: &mut File) -> Result<Vec<Member>> {
    let size = file.seek(SeekFrom::End(0)).during(DURING)?;
    let start = size.saturating_sub(LONGEST_COMMENT + END_SIZE as u64);
    let tail = read_at(file, start, size - start)?;
    let at = memchr::memmem::rfind(&tail, END).filter(|at| tail.len() - at >= END_SIZE);
    let at = at.ok_or_else(|| broken("it has no list of members"))?;
    let end = &tail[at..];
    let here = start + at as u64;
    let (mut length, mut offset) = (u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
    // Where the list really ends; what stands before the archive moves everything.
    let mut ends = here;
    if u32::MAX == u32_at(end, 12) || u32::MAX == u32_at(end, 16) || u16::MAX == u16_at(end, 10) {
        let locator = read_at(file, here.saturating_sub(LOCATOR_SIZE), LOCATOR_SIZE)?;
        if !locator.starts_with(b"PK\x06\x07") {
            return Err(broken("it has no list of members"));
        }
        ends = here - LOCATOR_SIZE - END64_SIZE as u64;
        let end64 = read_at(file, ends, END64_SIZE as u64)?;
        if !end64.starts_with(b"PK\x06\x06") {
            return Err(broken("it has no list of members"));
        }
        (length, offset) = (u64_at(&end64, 40), u64_at(&end64, 48));
    }
    if length > LARGEST_DIRECTORY {
        return Err(refused("its list of members is longer than any real one", ""));
    }
    let begins = ends
        .checked_sub(length)
        .ok_or_else(|| broken("its list of members is cut"))?;
    let moved = begins
        .checked_sub(offset)
        .ok_or_else(|| broken("its list of members is not where it should be"))?;
    members(&read_at(file, begins, length)?, moved)
}

fn members(list: &[u8], moved: u64) -> Result<Vec<Member>> {
    let mut found = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        if rest.len() < ENTRY_SIZE || !rest.starts_with(b"PK\x01\x02") {
            return Err(broken("its list of members is cut"));
        }
        let lengths = [28, 30, 32].map(|at| usize::from(u16_at(rest, at)));
        let whole = ENTRY_SIZE + lengths.iter().sum::<usize>();
        let entry = rest
            .get(..whole)
            .ok_or_else(|| broken("its list of members is cut"))?;
        let name = &entry[ENTRY_SIZE..ENTRY_SIZE + lengths[0]];
        // What follows a NUL is for other readers than those that look.
        let name = name.split(|c| *c == 0).next().unwrap_or_default();
        let name = String::from_utf8(name.to_vec())
            .map_err(|_| refused("a name is not well-formed text", &String::from_utf8_lossy(name)))?;
        let extra = &entry[ENTRY_SIZE + lengths[0]..ENTRY_SIZE + lengths[0] + lengths[1]];
        let (size, packed, offset) = wide(extra, u32_at(entry, 24), u32_at(entry, 20), u32_at(entry, 42));
        found.push(Member {
            name,
            flags: u16_at(entry, 8),
            method: u16_at(entry, 10),
            crc: u32_at(entry, 16),
            packed,
            size,
            mode: u32_at(entry, 38) >> 16,
            offset: offset.saturating_add(moved),
        });
        rest = &rest[whole..];
    }
    Ok(found)
}

/// Sizes and places that need more than 32 bits stand in the extra field 1, in this order.
fn wide(extra: &[u8], size: u32, packed: u32, offset: u32) -> (u64, u64, u64) {
    let mut fields = extra;
    let mut values: &[u8] = &[];
    while fields.len() >= 4 {
        let (id, length) = (u16_at(fields, 0), usize::from(u16_at(fields, 2)));
        let body = fields.get(4..4 + length).unwrap_or_default();
        if id == 1 {
            values = body;
        }
        fields = fields.get(4 + length..).unwrap_or_default();
    }
    let mut next = |narrow: u32| {
        if narrow == u32::MAX && values.len() >= 8 {
            let value = u64_at(values, 0);
            values = &values[8..];
            return value;
        }
        u64::from(narrow)
    };
    (next(size), next(packed), next(offset))
}

/// The unpacked bytes of a member, ending with an error when they are not those that the list tells of.
fn content<'a>(file: &'a mut File, member: &Member) -> Result<Checked<'a>> {
    let head = read_at(file, member.offset, LOCAL_SIZE as u64)?;
    if !head.starts_with(b"PK\x03\x04") {
        return Err(broken("a member is not where it should be"));
    }
    let names = u64::from(u16_at(&head, 26)) + u64::from(u16_at(&head, 28));
    let start = member.offset + LOCAL_SIZE as u64 + names;
    file.seek(SeekFrom::Start(start)).during(DURING)?;
    let packed = BufReader::with_capacity(CHUNK, file.take(member.packed));
    let inner: Box<dyn Read> = match member.method {
        STORED => Box::new(packed),
        DEFLATED => Box::new(DeflateDecoder::new(packed)),
        _ => {
            return Err(refused(
                "it cannot be read: a member is packed in an unusual way",
                &member.name,
            ));
        }
    };
    Ok(Checked {
        inner,
        crc: Crc::new(),
        expected: member.crc,
    })
}

struct Checked<'a> {
    inner: Box<dyn Read + 'a>,
    crc: Crc,
    expected: u32,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.crc.update(&buffer[..count]);
        if count == 0 && !buffer.is_empty() && self.crc.sum() != self.expected {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a member has another checksum than it says",
            ));
        }
        Ok(count)
    }
}

fn read_at(file: &mut File, start: u64, length: u64) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    file.seek(SeekFrom::Start(start)).during(DURING)?;
    file.take(length).read_to_end(&mut data).during(DURING)?;
    if (data.len() as u64) < length {
        return Err(broken("it is cut"));
    }
    Ok(data)
}

fn u16_at(data: &[u8], at: usize) -> u16 {
    data.get(at..at + 2)
        .map_or(0, |part| u16::from_le_bytes([part[0], part[1]]))
}

fn u32_at(data: &[u8], at: usize) -> u32 {
    u32::from(u16_at(data, at)) | u32::from(u16_at(data, at + 2)) << 16
}

fn u64_at(data: &[u8], at: usize) -> u64 {
    u64::from(u32_at(data, at)) | u64::from(u32_at(data, at + 4)) << 32
}
