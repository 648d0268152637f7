//! Reads zip archives by their list of members. Names: <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>
//! (4.6.9, appendix D).

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use super::writer::Writer;
use super::{CHUNK, DURING, LONGEST_LINK, Source, damaged, refused, too_many, well_formed};
use crate::error::{Error, Result};
use crate::storage::files::During as _;
use crate::zip_records::{
    DEFLATED, END_MAGIC, END_SIZE, END64_MAGIC, END64_SIZE, ENTRY_MAGIC, ENTRY_SIZE, LOCAL_MAGIC, LOCAL_SIZE,
    LOCATOR64_MAGIC, LOCATOR64_SIZE, STORED, WIDE_EXTRA, u16_at, u32_at, u64_at,
};

const LONGEST_COMMENT: u64 = 65_536;
const LARGEST_LIST: u64 = 64 * 1024 * 1024;
const ENCRYPTED: u16 = 1;
const UTF8: u16 = 1 << 11;
const UNICODE_FIELD: u16 = 0x7075;
/// Where the mode of a Unix file system stands: <https://man7.org/linux/man-pages/man7/inode.7.html>.
const KIND: u32 = 0o170_000;
const LINK: u32 = 0o120_000;
const FILE: u32 = 0o100_000;
/// The upper half of code page 437; the lower one is ASCII.
const CODE_PAGE_437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
                             αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

pub(super) fn unpack(archive: &Path, source: &Source<'_>, writer: &mut Writer) -> Result<()> {
    let file = File::open(archive).during(DURING)?;
    let zip = Zip::open(&file, writer.limits().members)?;
    for entry in entries(&zip.list) {
        let member = zip.member(&entry?)?;
        one(&zip, &member, writer)?;
        (source.advance)(member.packed)?;
    }
    Ok(())
}

fn one(zip: &Zip<'_>, member: &Member<'_>, writer: &mut Writer) -> Result<()> {
    let name = &member.name;
    if member.flags & ENCRYPTED != 0 {
        return Err(refused("a member is encrypted", name));
    }
    if name.ends_with('/') {
        return writer.folder(name);
    }
    match member.mode & KIND {
        LINK => {
            let target = zip.link_target(member)?;
            writer.link(name, &target)
        }
        0 | FILE => {
            let mut content = zip.content(member)?;
            writer.file(name, &mut content, member.size, member.mode)
        }
        _ => Err(refused("a member is no file, folder or link", name)),
    }
}

fn broken(what: &str) -> Error {
    refused(format!("it is damaged: {what}"), "")
}

/// `raw` is the name as it stands in the archive, `offset` the place of the member's own head.
struct Member<'a> {
    name: String,
    raw: &'a [u8],
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    mode: u32,
    offset: u64,
}

struct Zip<'a> {
    file: &'a File,
    list: Vec<u8>,
    /// Where the list begins.
    begins: u64,
    /// By how much all places are moved: by what stands before the archive.
    moved: u64,
    /// Where the members' own heads begin, in order.
    starts: Vec<u64>,
}

impl<'a> Zip<'a> {
    /// At most `most` members are let through.
    fn open(file: &'a File, most: u64) -> Result<Self> {
        let Found {
            begins,
            length,
            moved,
            count,
        } = find_list(file, most)?;
        let list = read_at(file, begins, length)?;
        let mut starts = Vec::new();
        for entry in entries(&list) {
            // How many there are is counted, too: what is said of it may be a lie.
            if starts.len() as u64 == most {
                return Err(too_many(most));
            }
            starts.push(entry?.sizes(moved).2);
        }
        if !count.fits(starts.len() as u64) {
            return Err(broken("it has another number of members than it says"));
        }
        starts.sort_unstable();
        Ok(Self {
            file,
            list,
            begins,
            moved,
            starts,
        })
    }

    fn member<'b>(&self, entry: &Entry<'b>) -> Result<Member<'b>> {
        let (size, packed, offset) = entry.sizes(self.moved);
        Ok(Member {
            name: entry.name()?,
            raw: entry.raw,
            flags: entry.flags(),
            method: u16_at(entry.fixed, 10),
            crc: u32_at(entry.fixed, 16),
            packed,
            size,
            mode: u32_at(entry.fixed, 38) >> 16,
            offset,
        })
    }

    fn link_target(&self, member: &Member<'_>) -> Result<String> {
        let name = &member.name;
        if member.size > LONGEST_LINK {
            return Err(refused("a link leads elsewhere", name));
        }
        let mut target = Vec::new();
        let content = self.content(member)?;
        let read = content.take(member.size + 1).read_to_end(&mut target);
        match read.map_err(|error| damaged(&error))? as u64 {
            read if read < member.size => Err(refused("a member ends too early", name)),
            read if read > member.size => Err(refused("a member is longer than it says", name)),
            _ => well_formed(&target),
        }
    }

    /// The unpacked bytes of a member, ending with an error when they are not those that the list tells of.
    fn content(&self, member: &Member<'_>) -> Result<Checked<'a>> {
        let start = self.content_at(member)?;
        let mut file = self.file;
        file.seek(SeekFrom::Start(start)).during(DURING)?;
        let capacity = usize::try_from(member.packed).map_or(CHUNK, |packed| packed.clamp(1, CHUNK));
        let packed = BufReader::with_capacity(capacity, file.take(member.packed));
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

    /// Behind the member's own head, which must tell of the same member, and ends before the next.
    fn content_at(&self, member: &Member<'_>) -> Result<u64> {
        let misplaced = || broken("a member is not where it should be");
        let after = self.starts.partition_point(|start| *start <= member.offset);
        let ends = self.starts.get(after).copied().unwrap_or(self.begins);
        if member.offset.saturating_add(LOCAL_SIZE as u64) > self.begins {
            return Err(misplaced());
        }
        let head = read_at(self.file, member.offset, LOCAL_SIZE as u64)?;
        if !head.starts_with(LOCAL_MAGIC) {
            return Err(misplaced());
        }
        let [name_size, extra_size] = [26, 28].map(|at| u64::from(u16_at(&head, at)));
        let name_at = member.offset + LOCAL_SIZE as u64;
        let is_same = name_size == member.raw.len() as u64
            && name_at + name_size <= self.begins
            && read_at(self.file, name_at, name_size)? == member.raw;
        if !is_same {
            return Err(broken("a member has another name than in the list of members"));
        }
        let start = name_at + name_size + extra_size;
        if start.saturating_add(member.packed) > ends {
            return Err(broken("its members overlap"));
        }
        Ok(start)
    }
}

/// Where the list of members is, and how many they are said to be.
struct Found {
    begins: u64,
    length: u64,
    moved: u64,
    count: Count,
}

enum Count {
    Whole(u64),
    /// Some writers tell no more than the lower 16 bits of a larger number.
    Lower(u16),
}

impl Count {
    fn fits(&self, count: u64) -> bool {
        match *self {
            Self::Whole(said) => count == said,
            Self::Lower(said) => count & u64::from(u16::MAX) == u64::from(said),
        }
    }

    fn least(&self) -> u64 {
        match *self {
            Self::Whole(said) => said,
            Self::Lower(said) => said.into(),
        }
    }
}

fn find_list(file: &File, most: u64) -> Result<Found> {
    let whole = file.metadata().during(DURING)?.len();
    let start = whole.saturating_sub(LONGEST_COMMENT + END_SIZE as u64);
    let tail = read_at(file, start, whole - start)?;
    let at = memchr::memmem::rfind(&tail, END_MAGIC).filter(|at| tail.len() - at >= END_SIZE);
    let at = at.ok_or_else(|| broken("it has no list of members"))?;
    let end = &tail[at..];
    let mut count = Count::Lower(u16_at(end, 10));
    let (mut length, mut offset) = (u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
    let mut ends = start + at as u64;
    let short = u64::from(u32::MAX);
    if (count.least() == u64::from(u16::MAX) || length == short || offset == short)
        && let Some((here, end64)) = find_end64(file, ends)?
    {
        ends = here;
        count = Count::Whole(u64_at(&end64, 32));
        (length, offset) = (u64_at(&end64, 40), u64_at(&end64, 48));
    }
    if count.least() > most {
        return Err(too_many(most));
    }
    if length > LARGEST_LIST {
        return Err(refused("its list of members is longer than any real one", ""));
    }
    let begins = ends
        .checked_sub(length)
        .ok_or_else(|| broken("its list of members is cut"))?;
    let moved = begins
        .checked_sub(offset)
        .ok_or_else(|| broken("its list of members is not where it should be"))?;
    Ok(Found {
        begins,
        length,
        moved,
        count,
    })
}

/// Where ZIP64's end stands, and what it says; None when the archive has none.
fn find_end64(file: &File, ends: u64) -> Result<Option<(u64, Vec<u8>)>> {
    let size = (END64_SIZE + LOCATOR64_SIZE) as u64;
    let Some(here) = ends.checked_sub(size) else {
        return Ok(None);
    };
    let data = read_at(file, here, size)?;
    let is_there = data.starts_with(END64_MAGIC) && data[END64_SIZE..].starts_with(LOCATOR64_MAGIC);
    Ok(is_there.then_some((here, data)))
}

/// What the list says of one member.
struct Entry<'a> {
    fixed: &'a [u8],
    raw: &'a [u8],
    extra: &'a [u8],
}

impl Entry<'_> {
    fn flags(&self) -> u16 {
        u16_at(self.fixed, 8)
    }

    /// (unpacked, packed, where its own head begins). What needs more than 32 bits stands in a field of its own, in this
    /// order.
    fn sizes(&self, moved: u64) -> (u64, u64, u64) {
        let mut wide = field(self.extra, WIDE_EXTRA).unwrap_or_default();
        let [size, packed, offset] =
            [24, 20, 42].map(|at| match (u32_at(self.fixed, at), wide.split_at_checked(8)) {
                (u32::MAX, Some((value, rest))) => {
                    wide = rest;
                    u64_at(value, 0)
                }
                (narrow, _) => u64::from(narrow),
            });
        (size, packed, offset.saturating_add(moved))
    }

    /// A name is UTF-8 where a flag says so, or where a field of Info-ZIP repeats it so; all others are code page 437.
    fn name(&self) -> Result<String> {
        let encoded = if self.flags() & UTF8 != 0 {
            Some(self.raw)
        } else {
            self.repeated()
        };
        match encoded {
            Some(encoded) => well_formed(until_nul(encoded)),
            None => Ok(until_nul(self.raw)
                .iter()
                .map(|byte| of_code_page_437(*byte))
                .collect()),
        }
    }

    /// The name in UTF-8; None where it was not repeated, or of another name (changed since by a program that does not know
    /// the field).
    fn repeated(&self) -> Option<&[u8]> {
        let (head, name) = field(self.extra, UNICODE_FIELD)?.split_at_checked(5)?;
        let mut crc = Crc::new();
        crc.update(self.raw);
        (!name.is_empty() && head[0] == 1 && u32_at(head, 1) == crc.sum()).then_some(name)
    }
}

/// What follows a NUL is for other readers than those that look.
fn until_nul(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn of_code_page_437(byte: u8) -> char {
    let upper = byte
        .checked_sub(128)
        .and_then(|at| CODE_PAGE_437.chars().nth(at.into()));
    upper.unwrap_or(char::from(byte))
}

/// Ends behind the first that is damaged.
fn entries(list: &[u8]) -> impl Iterator<Item = Result<Entry<'_>>> {
    let mut rest = list;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = first_entry(&mut rest);
        if entry.is_none() {
            rest = &[];
        }
        Some(entry.ok_or_else(|| broken("its list of members is cut")))
    })
}

fn first_entry<'a>(rest: &mut &'a [u8]) -> Option<Entry<'a>> {
    let (fixed, behind) = rest.split_at_checked(ENTRY_SIZE)?;
    if !fixed.starts_with(ENTRY_MAGIC) {
        return None;
    }
    let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(fixed, at)));
    let (raw, behind) = behind.split_at_checked(name)?;
    let (extra, behind) = behind.split_at_checked(extra)?;
    *rest = behind.get(comment..)?;
    Some(Entry { fixed, raw, extra })
}

/// One of the fields that follow the name; the last where there are several.
fn field(extra: &[u8], wanted: u16) -> Option<&[u8]> {
    let (mut rest, mut found) = (extra, None);
    while let Some((head, behind)) = rest.split_at_checked(4) {
        let Some((body, behind)) = behind.split_at_checked(u16_at(head, 2).into()) else {
            break;
        };
        if u16_at(head, 0) == wanted {
            found = Some(body);
        }
        rest = behind;
    }
    found
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

/// `start` lies inside the file.
fn read_at(file: &File, start: u64, length: u64) -> Result<Vec<u8>> {
    let mut data = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    match file.read_exact_at(&mut data, start) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(broken("it is cut")),
        read => read.during(DURING).map(|()| data),
    }
}
