//! Reads tar archives, plain or packed.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;
use tar::{Archive, Entry, EntryType, Header, PaxExtensions};

use super::writer::Writer;
use super::{CHUNK, DURING, Form, Source, Told, damaged, refused, well_formed};
use crate::error::Result;
use crate::storage::files::During as _;

/// A frame may ask for a window of up to 2 GiB; no archive needs more than 128 MiB.
const WINDOW_LOG: u32 = 27;

/// A member's name and further facts of it are read whole; what is read ahead of the next member counts, too.
const LONGEST_HEAD: u64 = 2 << 20;

const NEVER_COMMON: [&[u8]; 3] = [b"path", b"linkpath", b"size"];

/// A decompressed stream that ends with an error when too much comes out, whoever reads it.
///
/// `head` is how much may still come before the next member begins; None inside a member.
struct Counted<'a> {
    inner: Box<dyn Read + 'a>,
    left: u64,
    head: &'a Cell<Option<u64>>,
    source: &'a Source<'a>,
}

impl Counted<'_> {
    fn allowed(&mut self, count: u64) -> std::result::Result<(), &'static str> {
        self.left = self
            .left
            .checked_sub(count)
            .ok_or("more comes out of it than its size allows")?;
        if let Some(head) = self.head.get() {
            let left = head
                .checked_sub(count)
                .ok_or("a member says more of itself than any real one")?;
            self.head.set(Some(left));
        }
        Ok(())
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.allowed(count as u64) {
            Ok(()) => Ok(count),
            Err(reason) => Err(self.source.stopped(refused(reason, ""))),
        }
    }
}

/// The members of a gzip file, one behind the other; zeros fill what is left of a tape's last block.
struct Gunzip<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gunzip<R> {
    fn new(packed: R) -> Self {
        Self {
            member: Some(GzDecoder::new(packed)),
        }
    }

    /// What follows the member that has just ended; None at the end of the file.
    fn next_member(&mut self) -> io::Result<Option<GzDecoder<R>>> {
        let Some(mut packed) = self.member.take().map(GzDecoder::into_inner) else {
            return Ok(None);
        };
        loop {
            let ahead = packed.fill_buf()?;
            if ahead.is_empty() {
                return Ok(None);
            }
            let zeros = ahead.iter().take_while(|byte| **byte == 0).count();
            let is_over = zeros < ahead.len();
            packed.consume(zeros);
            if is_over {
                return Ok(Some(GzDecoder::new(packed)));
            }
        }
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.member = self.next_member()?;
        }
        Ok(0)
    }
}

pub(super) fn unpack(archive: &Path, form: Form, source: &Source<'_>, writer: &mut Writer) -> Result<()> {
    let file = File::open(archive).during(DURING)?;
    let size = file.metadata().during(DURING)?.len();
    let limits = writer.limits();
    let most = limits.ratio_from.max(limits.ratio.saturating_mul(size)) + 1024 * limits.members;
    let packed = BufReader::with_capacity(CHUNK, Told { file, source });
    let inner: Box<dyn Read> = match form {
        Form::Gz => Box::new(Gunzip::new(packed)),
        Form::Zst => {
            let mut decoder = zstd::Decoder::with_buffer(packed).map_err(|error| damaged(&error))?;
            decoder
                .window_log_max(WINDOW_LOG)
                .map_err(|error| damaged(&error))?;
            Box::new(decoder)
        }
        _ => Box::new(packed),
    };
    let head = Cell::new(None);
    let counted = Counted {
        inner,
        left: most,
        head: &head,
        source,
    };
    let mut tape = Archive::new(BufReader::with_capacity(CHUNK, counted));
    let mut entries = tape.entries().map_err(|error| damaged(&error))?;
    loop {
        head.set(Some(LONGEST_HEAD));
        let entry = entries.next();
        head.set(None);
        match entry {
            Some(entry) => one(entry.map_err(|error| damaged(&error))?, writer)?,
            None => break,
        }
    }
    // To the very end: only there a gzip file says whether it is whole.
    io::copy(&mut tape.into_inner(), &mut io::sink()).map_err(|error| damaged(&error))?;
    Ok(())
}

fn one<R: Read>(mut entry: Entry<'_, R>, writer: &mut Writer) -> Result<()> {
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader) {
        return about_all(entry);
    }
    let mode = mode_of(entry.header()).ok_or_else(|| refused("it is damaged: invalid header", ""))?;
    let name = well_formed(&entry.path_bytes())?;
    if entry.size() > 0 && has_no_content(&entry, &name) {
        return Err(refused(
            "a member that is no file has content",
            name.trim_end_matches('/'),
        ));
    }
    let target = || match entry.link_name_bytes() {
        Some(target) => well_formed(&target),
        None => Err(refused("a link leads elsewhere", &name)),
    };
    match kind {
        EntryType::Directory => writer.folder(&name),
        EntryType::Regular if is_old_folder(entry.header(), &name) => writer.folder(&name),
        EntryType::Symlink => writer.link(&name, &target()?),
        EntryType::Link => writer.hard_link(&name, &target()?),
        EntryType::Regular | EntryType::Continuous if !is_sparse(&mut entry)? => {
            let size = entry.size();
            writer.file(&name, &mut entry, size, mode)
        }
        _ => Err(refused("a member is no file, folder or link", &name)),
    }
}

/// Facts about all members that follow: a remark, mostly. No two members can share a name, a target or a size.
fn about_all<R: Read>(mut entry: Entry<'_, R>) -> Result<()> {
    if entry.size() > LONGEST_HEAD {
        return Err(refused("a member says more of itself than any real one", ""));
    }
    let mut facts = Vec::new();
    entry.read_to_end(&mut facts).map_err(|error| damaged(&error))?;
    for fact in PaxExtensions::new(&facts) {
        let fact = fact.map_err(|error| damaged(&error))?;
        if NEVER_COMMON.contains(&fact.key_bytes()) {
            return Err(refused("it says of all members what can be so of one", ""));
        }
    }
    Ok(())
}

/// Folders and links: some programs read no content behind them, whatever size they tell, and others do.
fn has_no_content<R: Read>(entry: &Entry<'_, R>, name: &str) -> bool {
    match entry.header().entry_type() {
        EntryType::Directory | EntryType::Symlink | EntryType::Link => true,
        EntryType::Regular => is_old_folder(entry.header(), name),
        _ => false,
    }
}

/// As the oldest tars have folders.
fn is_old_folder(header: &Header, name: &str) -> bool {
    header.as_old().linkflag[0] == 0 && name.ends_with('/')
}

/// The mode, when that and the other numbers of a head are numbers.
fn mode_of(header: &Header) -> Option<u32> {
    let head = header.as_bytes();
    let others = [
        &head[108..116],
        &head[116..124],
        &head[136..148],
        &head[329..337],
        &head[337..345],
    ];
    let mode = number(&head[100..108])?;
    others
        .into_iter()
        .all(|field| number(field).is_some())
        .then_some(mode)
}

/// The lowest 32 bits of a number in a head: octal digits, or the bytes of a large or negative one.
fn number(field: &[u8]) -> Option<u32> {
    if let [0o200 | 0o377, .., a, b, c, d] = *field {
        return Some(u32::from_be_bytes([a, b, c, d]));
    }
    let text = field.split(|byte| *byte == 0).next()?;
    let digits = std::str::from_utf8(text).ok()?.trim();
    if digits.is_empty() {
        return Some(0);
    }
    let value = i64::from_str_radix(digits, 8).ok()?;
    u32::try_from(value & i64::from(u32::MAX)).ok()
}

/// Whether it has holes that only extended headers tell of.
fn is_sparse<R: Read>(entry: &mut Entry<'_, R>) -> Result<bool> {
    let Some(extensions) = entry.pax_extensions().map_err(|error| damaged(&error))? else {
        return Ok(false);
    };
    let mut keys = extensions
        .filter_map(std::result::Result::ok)
        .map(|one| one.key_bytes());
    Ok(keys.any(|key| key.starts_with(b"GNU.sparse.")))
}
