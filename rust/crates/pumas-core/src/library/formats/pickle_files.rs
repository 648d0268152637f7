//! Pickle files and torch archives: telling them apart, listing names in them, and looking for dangerous imports.
//!
//! Nothing here loads a pickle. The scan is a tripwire, not a wall: a clean report does not make a pickle safe.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use super::opcodes::{self, Bytes, Halt, Opcode, Operand};
use super::pickle_globals::{COMPUTED, Safety, judge};
use super::reader::{BoundedReader, Budget, Deadline, OpenedFile, open_regular};
use super::text::one_line;
use super::zip_directory::{Member, first_local_name, read_directory, read_member};
use crate::error::{Error, Result};
use crate::storage::unicode::is_printable;
use crate::zip_records::LOCAL_MAGIC;

const PROTO: u8 = 0x80;
const HIGHEST_PROTOCOL: u8 = 5;
const SNIFFED_BYTES: u64 = 64 * 1024;
const PICKLE_ENDINGS: [&str; 7] = [".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".joblib"];

const MAX_SCANNED_BYTES: u64 = 64 * 1024 * 1024;
const MAX_OBJECT_BYTES: u64 = 8 * 1024 * 1024;
const MAX_OPCODES: u64 = 3_000_000;
const MAX_IMPORTS: usize = 1_000;
const MAX_REPORTED: usize = 50;
const SCAN_TIME: Duration = Duration::from_secs(2);
const MAX_NAMES_BYTES: u64 = 4 * 1024 * 1024;
const NAMES_TIME: Duration = Duration::from_millis(300);
const SNIFF_TIME: Duration = Duration::from_millis(50);
const MAX_MEMO: usize = 200_000;
const MAX_NAMES: usize = 20_000;
const MAX_NAME: usize = 512;
const MAX_LINE: usize = 4096;
/// A torch file before 1.6 is five pickles in a row.
const MAX_PICKLES: usize = 8;

type Import = (String, String);

/// A raw pickle: protocols 2–5 by their mark, 0 and 1 by whether the file's beginning runs as one.
pub(super) fn is_pickle(file: &OpenedFile) -> Result<bool> {
    let head = file.pread(SNIFFED_BYTES, 0)?;
    if let [PROTO, protocol, ..] = head[..] {
        return Ok(protocol <= HIGHEST_PROTOCOL);
    }
    Ok(runs_as_pickle(&head, head.len() as u64 == file.size))
}

/// Whether `head` is a run of opcodes that each find their operands on the stack and ends as a pickle does.
///
/// Short texts can be valid opcodes by accident, so something that only a pickle has is asked for as well: a stored
/// import or a memo entry.
fn runs_as_pickle(head: &[u8], whole: bool) -> bool {
    let (mut depth, mut marks, mut telling) = (0_usize, 0_usize, false);
    let mut source = Slice { rest: head };
    loop {
        let Ok((opcode, _)) = opcodes::next(&mut source) else {
            return telling && !whole;
        };
        let before = if opcode.to_mark { 0 } else { opcode.before };
        if opcode.to_mark {
            if marks == 0 {
                return false;
            }
            marks -= 1;
        }
        if opcode.name == "MARK" {
            marks += 1;
        }
        if before > depth && marks == 0 {
            return false;
        }
        depth = depth.saturating_sub(before) + opcode.after;
        telling |= opcode.puts_memo() || opcode.names_import() || opcode.name == "STACK_GLOBAL";
        if opcode.name == "STOP" {
            return telling;
        }
    }
}

struct Slice<'a> {
    rest: &'a [u8],
}

impl Bytes for Slice<'_> {
    type Stop = std::convert::Infallible;

    fn read(&mut self, count: u64) -> std::result::Result<Vec<u8>, Self::Stop> {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len() as u64) as usize);
        self.rest = rest;
        Ok(taken.to_vec())
    }

    fn line(&mut self) -> std::result::Result<Vec<u8>, Self::Stop> {
        let end = memchr::memchr(b'\n', self.rest).map_or(self.rest.len(), |at| at + 1);
        self.read(end as u64)
    }
}

/// Whether the file, whatever it looks like, would import something by name when it is unpickled.
pub(super) fn hides_imports(file: &OpenedFile) -> Result<bool> {
    let budget = Budget {
        bytes: MAX_NAMES_BYTES,
        steps: MAX_OPCODES,
    };
    let mut stream = Stream::new(BoundedReader::until(file, budget, Deadline::after(SNIFF_TIME)));
    let mut imports = BTreeSet::new();
    collect_imports(&mut stream, &mut imports)?;
    Ok(imports.iter().any(|(module, name)| {
        module != COMPUTED && name != COMPUTED && is_module_name(module) && name.chars().all(is_printable)
    }))
}

fn is_module_name(module: &str) -> bool {
    !module.starts_with(|letter: char| letter.is_ascii_digit())
        && !module.is_empty()
        && module
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.'))
}

/// The pickles inside a torch archive, or `None` when this ZIP file is something else.
///
/// # Errors
/// [`Error::MalformedModelFile`] for a damaged archive.
pub(super) fn torch_members(file: &OpenedFile) -> Result<Option<Vec<Member>>> {
    let first_is_torch = is_torch_pickle(&first_local_name(file)?);
    let members = match read_directory(file) {
        Ok(members) => members,
        Err(error @ Error::MalformedModelFile(_)) if first_is_torch => return Err(error),
        Err(Error::MalformedModelFile(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    if !first_is_torch && !members.iter().any(|member| is_torch_pickle(&member.name)) {
        return Ok(None);
    }
    Ok(Some(
        members
            .into_iter()
            .filter(|member| has_ending(&member.name, &PICKLE_ENDINGS))
            .collect(),
    ))
}

fn has_ending(name: &str, endings: &[&str]) -> bool {
    let name = name.to_lowercase();
    endings.iter().any(|ending| name.ends_with(ending))
}

/// torch writes `<archive>/data.pkl`, `TorchScript` also `constants.pkl`; any other pickle is as dangerous.
fn is_torch_pickle(name: &str) -> bool {
    has_ending(name, &PICKLE_ENDINGS[..2])
}

/// Texts in the main pickle, in order: among them the names of a state dict's tensors. Best effort, bounded.
///
/// # Errors
/// [`Error::FileUnavailable`] when the disk fails.
pub(super) fn pickled_names(file: &OpenedFile) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let walked = each_stream(file, MAX_NAMES_BYTES, NAMES_TIME, |_, stream| {
        walk(stream, |opcode, operand| {
            if opcode.is_text()
                && let Operand::Text(text) = operand
                && text.chars().count() <= MAX_NAME
            {
                found.push(text);
            }
            if found.len() >= MAX_NAMES {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
    });
    match walked {
        Ok(()) | Err(Unwalkable::Damaged(_)) => Ok(found),
        Err(Unwalkable::Unavailable(error)) => Err(error),
    }
}

/// What a scan found; imports are written as `module.name`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PickleReport {
    /// False when part of the file could not be walked.
    pub scanned: bool,
    /// Why it could not; `""` when it could.
    pub reason: String,
    /// Imports known as dangerous.
    pub issues: Vec<String>,
    /// Imports on no list.
    pub unknown: Vec<String>,
}

/// Look through every pickle in the file.
///
/// # Errors
/// [`Error::FileUnavailable`]; never anything because of the file's contents.
pub fn scan_pickle(path: &Path) -> Result<PickleReport> {
    let file = open_regular(path)?;
    let mut report = PickleReport {
        scanned: true,
        ..PickleReport::default()
    };
    let mut imports = BTreeSet::new();
    let walked = each_stream(&file, MAX_SCANNED_BYTES, SCAN_TIME, |name, stream| {
        collect_imports(stream, &mut imports)?;
        if !stream.unfinished.is_empty() {
            report.scanned = false;
            report.reason = format!("{}: {}", one_line(name, 256), stream.unfinished);
        }
        Ok(ControlFlow::Continue(()))
    });
    match walked {
        Ok(()) => {}
        Err(Unwalkable::Damaged(reason)) => {
            report.scanned = false;
            report.reason = reason;
        }
        Err(Unwalkable::Unavailable(error)) => return Err(error),
    }
    sort_by_danger(imports, &mut report);
    Ok(report)
}

fn sort_by_danger(imports: BTreeSet<Import>, report: &mut PickleReport) {
    // What no program is named is told like a name that is computed.
    let plain = |text: &str| text.is_ascii() && !text.contains(['\n', ' ', '\\']);
    let named = |text: String| if plain(&text) { text } else { COMPUTED.to_owned() };
    let imports: BTreeSet<Import> = imports
        .into_iter()
        .map(|(module, name)| (named(module), named(name)))
        .collect();
    for (module, name) in imports {
        let line = one_line(&format!("{module}.{name}"), 256);
        match judge(&module, &name) {
            Safety::Dangerous => report.issues.push(line),
            Safety::Unknown => report.unknown.push(line),
            Safety::Innocuous => {}
        }
    }
    for names in [&mut report.issues, &mut report.unknown] {
        names.sort();
        names.truncate(MAX_REPORTED);
    }
}

/// Why the pickles of a file cannot be walked.
enum Unwalkable {
    /// The file's fault, in words.
    Damaged(String),
    Unavailable(Error),
}

impl From<Error> for Unwalkable {
    fn from(error: Error) -> Self {
        match error {
            Error::MalformedModelFile(reason) => Self::Damaged(reason),
            other => Self::Unavailable(other),
        }
    }
}

/// One pickle, bounded in bytes, in the size of one object, and in time.
struct Stream<'a> {
    reader: BoundedReader<'a>,
    unfinished: String,
}

impl<'a> Stream<'a> {
    fn new(reader: BoundedReader<'a>) -> Self {
        Self {
            reader,
            unfinished: String::new(),
        }
    }

    fn stop(&mut self, reason: &str) {
        if self.unfinished.is_empty() {
            reason.clone_into(&mut self.unfinished);
        }
    }
}

impl Bytes for Stream<'_> {
    type Stop = Error;

    fn read(&mut self, count: u64) -> Result<Vec<u8>> {
        if count > MAX_OBJECT_BYTES {
            "holds an object too large to look through".clone_into(&mut self.unfinished);
            return Ok(Vec::new());
        }
        let count = count.min(self.reader.remaining());
        Ok(self.reader.take(count)?.to_vec())
    }

    fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        while line.len() < MAX_LINE && self.reader.remaining() > 0 {
            let [byte] = self.reader.array()?;
            line.push(byte);
            if byte == b'\n' {
                break;
            }
        }
        Ok(line)
    }
}

/// Each pickle in the file: the file itself, or the members of a torch archive. `time` is for all together.
fn each_stream(
    file: &OpenedFile,
    max_bytes: u64,
    time: Duration,
    mut look: impl FnMut(&str, &mut Stream<'_>) -> Result<ControlFlow<()>>,
) -> std::result::Result<(), Unwalkable> {
    let deadline = Deadline::after(time);
    let budget = Budget {
        bytes: max_bytes,
        steps: MAX_OPCODES,
    };
    if !file.pread(4, 0)?.starts_with(LOCAL_MAGIC) {
        let mut stream = Stream::new(BoundedReader::until(file, budget, deadline));
        let _: ControlFlow<()> = look(&file.name, &mut stream)?;
        return Ok(());
    }
    let members = torch_members(file)?.unwrap_or_default();
    if members.is_empty() {
        return Err(Unwalkable::Damaged(format!(
            "{}: no pickle was found in the archive",
            file.name
        )));
    }
    for member in members {
        let Some(data) = read_member(file, &member, MAX_OBJECT_BYTES)? else {
            let reason = "a pickle is stored in a way that cannot be looked through";
            return Err(Unwalkable::Damaged(format!("{}: {reason}", file.name)));
        };
        let unpacked = OpenedFile::in_memory(file, data);
        let mut stream = Stream::new(BoundedReader::until(&unpacked, budget, deadline));
        if unpacked.size >= MAX_OBJECT_BYTES {
            stream.stop("is too large to look through");
        }
        if look(&member.name, &mut stream)?.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// The opcodes of some pickles in a row; ends quietly where the bytes stop being a pickle.
fn walk(
    stream: &mut Stream<'_>,
    mut see: impl FnMut(&'static Opcode, Operand) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    for number in 0..MAX_PICKLES {
        if stream.reader.remaining() == 0 {
            break;
        }
        loop {
            let next = opcodes::next(stream).and_then(|found| {
                stream.reader.spend(1)?;
                Ok(found)
            });
            match next {
                Ok((opcode, operand)) => {
                    if see(opcode, operand).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    if opcode.name == "STOP" {
                        break;
                    }
                }
                Err(Halt::Stopped(
                    error @ (Error::MalformedModelFile(_) | Error::FileUnavailable { .. }),
                )) => {
                    stream.stop(&error.to_string());
                    return Ok(ControlFlow::Continue(()));
                }
                Err(Halt::Stopped(error)) => return Err(error),
                // Storage data follows the pickles of old torch files.
                Err(Halt::NotPickle) => {
                    if number == 0 {
                        stream.stop("does not end as a pickle does");
                    }
                    return Ok(ControlFlow::Continue(()));
                }
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Every `module, name` that the pickle would import, followed through the memo as the unpickler does.
fn collect_imports(stream: &mut Stream<'_>, imports: &mut BTreeSet<Import>) -> Result<()> {
    let mut seen = Seen {
        imports,
        memo: HashMap::new(),
        last: (String::new(), String::new()),
    };
    if walk(stream, |opcode, operand| seen.opcode(opcode, operand))?.is_break() {
        "holds too much to look through".clone_into(&mut stream.unfinished);
    }
    Ok(())
}

/// `last` are the two newest values on the stack, `""` for what is not a text.
struct Seen<'a> {
    imports: &'a mut BTreeSet<Import>,
    memo: HashMap<i128, String>,
    last: (String, String),
}

impl Seen<'_> {
    fn opcode(&mut self, opcode: &Opcode, operand: Operand) -> ControlFlow<()> {
        match (opcode.name, operand) {
            ("MEMOIZE", _) => self.remember(self.memo.len() as i128),
            (_, Operand::Number(key)) if opcode.puts_memo() => self.remember(key),
            (_, Operand::Number(key)) if opcode.gets_memo() => {
                let value = self.memo.get(&key).cloned().unwrap_or_default();
                self.push(value);
            }
            ("GLOBAL" | "INST", Operand::Text(pair)) => {
                let (module, name) = pair.split_once(' ').unwrap_or((&pair, ""));
                self.imports.insert((module.to_owned(), name.to_owned()));
                self.push(String::new());
            }
            ("STACK_GLOBAL", _) => {
                let (module, name) = std::mem::take(&mut self.last);
                let known = |text: String| {
                    if text.is_empty() {
                        COMPUTED.to_owned()
                    } else {
                        text
                    }
                };
                self.imports.insert((known(module), known(name)));
            }
            ("PROTO" | "FRAME", _) => {}
            (_, Operand::Text(text)) if opcode.is_text() => self.push(text.chars().take(MAX_NAME).collect()),
            _ => self.push(String::new()),
        }
        if self.imports.len() >= MAX_IMPORTS || self.memo.len() >= MAX_MEMO {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn push(&mut self, text: String) {
        self.last = (std::mem::take(&mut self.last.1), text);
    }

    fn remember(&mut self, key: i128) {
        self.memo.insert(key, self.last.1.clone());
    }
}
