//! Reads tar archives, plain or packed.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::writer::Writer;
use super::{CHUNK, DURING, Form, Source, Told, damaged, refused};
use crate::error::Result;
use crate::storage::files::During as _;

/// A frame may ask for a window of up to 2 GiB; no archive needs more than 128 MiB.
const WINDOW_LOG: u32 = 27;

/// A member's name and further facts of it are read whole; what is read ahead of the next member counts, too.
const LONGEST_HEAD: u64 = 2 << 20;

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

pub(super) fn unpack(archive: &Path, form: Form, source: &Source<'_>, writer: &mut Writer) -> Result<()> {
    let file = File::open(archive).during(DURING)?;
    let size = file.metadata().during(DURING)?.len();
    let limits = writer.limits();
    let most = limits.ratio_from.max(limits.ratio.saturating_mul(size)) + 1024 * limits.members;
    let packed = BufReader::with_capacity(CHUNK, Told { file, source });
    let inner: Box<dyn Read> = match form {
        Form::Gz => Box::new(MultiGzDecoder::new(packed)),
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
        return Ok(());
    }
    let name = text(&entry.path_bytes())?;
    let target = || match entry.link_name_bytes() {
        Some(target) => text(&target),
        None => Err(refused("a link leads elsewhere", &name)),
    };
    match kind {
        EntryType::Directory => writer.folder(&name),
        EntryType::Symlink => writer.link(&name, &target()?),
        EntryType::Link => writer.hard_link(&name, &target()?),
        EntryType::Regular | EntryType::Continuous if !is_sparse(&mut entry)? => {
            let mode = entry.header().mode().map_err(|error| damaged(&error))?;
            let size = entry.size();
            writer.file(&name, &mut entry, size, mode)
        }
        _ => Err(refused("a member is no file, folder or link", &name)),
    }
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

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| refused("a name is not well-formed text", &String::from_utf8_lossy(bytes)))
}
