//! What apps print: the end of a log without reading all of it, and what is new in it.
//!
//! The keeper writes the logs and puts full ones aside as `NAME.1`, `NAME.2`. Lines are made fit for people and terminals:
//! without escape sequences and control characters, of bounded length. Blocks.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::storage::files::reason;

const MAX_LINE: usize = 2000;
const MAX_LINES: usize = 2000;
const MAX_TAIL: usize = 1024 * 1024;
const MAX_NEWS: u64 = 64 * 1024;
const BLOCK: u64 = 64 * 1024;

/// One line as text. Of a line that was written over again and again (a progress bar), the last state is shown.
fn clean(raw: &[u8]) -> String {
    let end = &raw[raw.len().saturating_sub(4 * MAX_LINE)..];
    let text = without_escapes(&String::from_utf8_lossy(end));
    let text = text.trim_end_matches('\r');
    let text = text.rsplit('\r').next().unwrap_or_default();
    let is_control =
        |c: char| matches!(c, '\0'..='\x08' | '\x0b'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}');
    let shown: String = text.chars().filter(|c| !is_control(*c)).collect();
    match shown.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

/// Without ECMA-48 control sequences, and operating-system commands up to their end.
fn without_escapes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = rest.find('\x1b') {
        kept.push_str(&rest[..place]);
        let behind = &rest[place + 1..];
        match escape_end(behind) {
            Some(end) => rest = &behind[end..],
            None => {
                kept.push('\x1b');
                rest = behind;
            }
        }
    }
    kept.push_str(rest);
    kept
}

/// The length of what belongs to an escape; None when it is none.
fn escape_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let skip = |from: usize, span: std::ops::RangeInclusive<u8>| {
        let more = bytes[from..].iter().take_while(|c| span.contains(c));
        from + more.count()
    };
    match bytes.first()? {
        b'[' => {
            let end = skip(skip(1, 0x30..=0x3f), 0x20..=0x2f);
            (0x40..=0x7e).contains(bytes.get(end)?).then_some(end + 1)
        }
        b']' => {
            let end = 1 + bytes[1..].iter().position(|c| matches!(c, 0x07 | 0x1b))?;
            match bytes[end] {
                0x07 => Some(end + 1),
                _ => (bytes.get(end + 1) == Some(&b'\\')).then_some(end + 2),
            }
        }
        _ => {
            let end = skip(0, 0x20..=0x2f);
            (0x30..=0x7e).contains(bytes.get(end)?).then_some(end + 1)
        }
    }
}

/// The last `count` lines of a log and of what was put aside before it, read from the end; whether there are more.
///
/// # Errors
/// `FileUnavailable`: there is no such log. `DiskError`: it cannot be read.
pub(super) fn tail(path: &Path, count: usize) -> Result<(Vec<String>, bool)> {
    let count = count.min(MAX_LINES);
    let mut backwards = Backwards::new(path);
    let mut data: Vec<u8> = Vec::new();
    let mut enough = false;
    while let Some(mut piece) = backwards.next()? {
        piece.extend_from_slice(&data);
        data = piece;
        let ends = data[..data.len().saturating_sub(1)]
            .iter()
            .filter(|c| **c == b'\n');
        enough = ends.count() >= count || data.len() >= MAX_TAIL;
        if enough {
            break;
        }
    }
    let text = data.strip_suffix(b"\n").unwrap_or(&data);
    let lines: Vec<&[u8]> = if data.is_empty() {
        Vec::new()
    } else {
        text.split(|c| *c == b'\n').collect()
    };
    let first = lines.len().saturating_sub(count);
    let shown = lines[first..].iter().map(|line| clean(line)).collect();
    Ok((shown, enough || first > 0))
}

/// The log's bytes, the last block first, then those of the older files.
struct Backwards {
    path: PathBuf,
    number: usize,
    at: Option<(File, u64)>,
    read: HashSet<(u64, u64)>,
}

impl Backwards {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            number: 0,
            at: None,
            read: HashSet::new(),
        }
    }

    fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let name = self.name();
            let failed = |error: io::Error| Error::DiskError(format!("Reading {name}: {}.", reason(&error)));
            if let Some((file, end)) = &mut self.at {
                if *end > 0 {
                    let start = end.saturating_sub(BLOCK);
                    let mut piece = vec![0; usize::try_from(*end - start).unwrap_or_default()];
                    file.read_exact_at(&mut piece, start).map_err(failed)?;
                    *end = start;
                    return Ok(Some(piece));
                }
                self.number += 1;
            }
            let path = match self.number {
                0 => self.path.clone(),
                number => self.path.with_file_name(format!("{}.{number}", self.name())),
            };
            let file = match open_log(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.number == 0 => {
                    return Err(Error::unavailable(self.name(), "there is no such log"));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened.map_err(failed)?,
            };
            let facts = file.metadata().map_err(failed)?;
            // A file that is put aside while this goes on comes up a second time, under its next name.
            let end = if self.read.insert((facts.dev(), facts.ino())) {
                facts.len()
            } else {
                0
            };
            self.at = Some((file, end));
        }
    }
}

/// What is no regular file is not there.
fn open_log(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// What is new in one log since the last look.
pub(super) struct Follower {
    path: PathBuf,
    file: Option<File>,
    at: u64,
    rest: Vec<u8>,
    skipped: u64,
}

impl Follower {
    pub(super) fn new(path: &Path, from_start: bool) -> Self {
        let mut follower = Self {
            path: path.to_path_buf(),
            file: open_log(path).ok(),
            at: 0,
            rest: Vec::new(),
            skipped: 0,
        };
        if !from_start {
            follower.at = follower.size();
        }
        follower
    }

    fn size(&self) -> u64 {
        let facts = self.file.as_ref().and_then(|file| file.metadata().ok());
        facts.map_or(0, |facts| facts.len())
    }

    /// Lines that were not given out before, and how many bytes before them were too many. Whole lines only; an unfinished
    /// one waits, unless it is too long. A log that is gone has no news.
    pub(super) fn news(&mut self) -> (Vec<String>, u64) {
        let new = self.read();
        let mut data = std::mem::take(&mut self.rest);
        data.extend(new);
        let mut lines: Vec<&[u8]> = data.split(|c| *c == b'\n').collect();
        let rest = lines.pop().unwrap_or_default();
        if rest.len() > 4 * MAX_LINE {
            lines.push(rest);
        } else {
            self.rest = rest.to_vec();
        }
        let shown = lines.into_iter().map(clean).collect();
        (shown, std::mem::take(&mut self.skipped))
    }

    fn read(&mut self) -> Vec<u8> {
        let mut data = self.new_bytes();
        if self.has_moved() {
            // What came between the look and the moving.
            data.extend(self.new_bytes());
            (self.file, self.at) = (open_log(&self.path).ok(), 0);
            data.extend(self.new_bytes());
        }
        let most = usize::try_from(MAX_NEWS).unwrap_or(usize::MAX);
        if data.len() > most {
            self.skip((data.len() - most) as u64);
            let end = &data[data.len() - most..];
            let line = end
                .iter()
                .position(|c| *c == b'\n')
                .map_or(end.len(), |place| place + 1);
            data = end[line..].to_vec();
        }
        data
    }

    fn new_bytes(&mut self) -> Vec<u8> {
        if self.file.is_none() {
            (self.file, self.at) = (open_log(&self.path).ok(), 0);
        }
        let size = self.size();
        if size < self.at {
            // It was cut.
            self.at = 0;
        }
        if size - self.at > MAX_NEWS {
            self.skip(size - self.at - MAX_NEWS);
            self.at = size - MAX_NEWS;
        }
        let mut data = vec![0; usize::try_from(size - self.at).unwrap_or_default()];
        let Some(Ok(count)) = self.file.as_ref().map(|file| file.read_at(&mut data, self.at)) else {
            return Vec::new();
        };
        data.truncate(count);
        self.at += count as u64;
        data
    }

    fn skip(&mut self, size: u64) {
        self.rest.clear();
        self.skipped += size;
    }

    fn has_moved(&self) -> bool {
        let place = |facts: std::fs::Metadata| (facts.dev(), facts.ino());
        let here = self
            .file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map(place);
        let there = std::fs::metadata(&self.path).ok().map(place);
        here.is_some() && there.is_some() && here != there
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_fit_for_people() {
        for (raw, expected) in [
            (&b"a\x1b[31mred\x1b[0m"[..], "ared"),
            (b"\x1b]0;title\x07x\x1b]0;t\x1b\\y", "xy"),
            (b"10%\r50%\r100%\r", "100%"),
            (b"a\x00b\x7f\xc2\x85c\td", "abc\td"),
            (b"\xff", "\u{fffd}"),
            (b"\x1b(Bx", "x"),
        ] {
            assert_eq!(clean(raw), expected);
        }
        assert_eq!(clean(&[b'x'; 5000]).chars().count(), MAX_LINE + 1);
    }

    #[test]
    fn the_end_goes_on_in_older_files() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("launch-a.log");
        assert!(matches!(tail(&path, 5), Err(Error::FileUnavailable { .. })));
        std::fs::write(place.path().join("launch-a.log.1"), "1\n2\n").unwrap();
        std::fs::write(&path, "3\n4").unwrap();
        assert_eq!(
            tail(&path, 3).unwrap(),
            (vec!["2".into(), "3".into(), "4".into()], true)
        );
        assert!(!tail(&path, 9).unwrap().1);
        std::fs::write(&path, "").unwrap();
        assert_eq!(tail(&path, 9).unwrap().0, ["1", "2"]);
    }

    #[test]
    fn news_are_whole_lines_also_over_a_change_of_files() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("launch-a.log");
        std::fs::write(&path, "old\n").unwrap();
        let mut follower = Follower::new(&path, false);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(follower.news(), (vec!["one".to_owned()], 0));
        file.write_all(b"o\n").unwrap();
        std::fs::rename(&path, place.path().join("launch-a.log.1")).unwrap();
        std::fs::write(&path, "three\n").unwrap();
        assert_eq!(follower.news().0, ["two", "three"]);
        assert_eq!(follower.news(), (Vec::new(), 0));
    }

    proptest! {
        #[test]
        fn whatever_is_printed_has_no_control_characters(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(clean(&raw).chars().all(|c| c == '\t' || c == '\n' || !c.is_control()));
        }
    }
}
