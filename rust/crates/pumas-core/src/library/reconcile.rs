//! Makes the index agree with the files: what changed since the last look is read again, the rest only looked at.
//!
//! A folder is read again when its own stamp (mtime, inode) changed, or that of its witness: `metadata.json`, or the
//! primary file of a folder without one. A stamp so young that a further change could hide behind it proves nothing. A
//! folder's row is settled only after those of everything below it, in batches of one transaction each, so that readers
//! see the old or the new state, and a run that was killed is finished by the next one, without a mark or a journal.
//!
//! What could not be read is never taken for gone: rows stay, the trouble is listed, the parent is looked at again. When
//! the library itself is missing, unreadable or another volume than before, nothing is removed (`LibraryOffline`). Links
//! to folders are not followed, names that begin with a dot are not looked into, nothing is written outside the index.
//! Everything here blocks; when to run is decided in [`crate::library::catalog`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Instant, SystemTime};

use crate::error::{Error, Result};
use crate::library::batch_writer::{BatchWriter, Sink};
use crate::library::reading::{
    Identify, METADATA, OVERRIDES, Reading, file_stamp, folder_status, load_metadata, mtime_ns, read_folder,
};
use crate::library::references::{REFERENCES, references, state_of};
use crate::library::store::{self, Batch, FolderStamp};
use crate::storage::clock;
use crate::storage::database::Database;
use crate::storage::files::reason;
use crate::storage::paths::{MAX_RELATIVE_BYTES, display_name, relative_path};
use crate::storage::troubles::{Trouble, Troubles};

const BATCH: usize = 1000;
const CHUNK: usize = 1000;
/// So many new folders are worth several threads.
const TOGETHER_FROM: usize = 64;
/// Young stamps are not trusted: a change within one tick of the file system's clock leaves no trace in it.
const FINE_CLOCK_NS: u64 = 100_000_000;
const COARSE_CLOCK_NS: u64 = 2_500_000_000;

const DAMAGED: &str = "damaged_metadata";
const DAMAGED_OVERRIDES: &str = "damaged_overrides";
const UNREADABLE: &str = "unreadable";
const ODD_NAME: &str = "unusable_name";
const LOOSE: &str = "loose_files";
const LOOSE_FILES: &str =
    "holds model files outside of a model's folder, which are not listed; import them to have them here";

/// What one run did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Models that were not there before.
    pub added: usize,
    /// Models whose row is another now.
    pub changed: usize,
    /// Models that are gone.
    pub removed: usize,
    /// Folders looked at.
    pub seen: usize,
    /// Folders listed again.
    pub read: usize,
    /// Seconds.
    pub seconds: f64,
}

/// Asked between two folders whether to stop.
pub type Stopped = Arc<dyn Fn() -> bool + Send + Sync>;

/// Device and inode of the library's folder.
type RootIdentity = (i64, i64);

/// One library and its index. Runs do not overlap: [`crate::library::catalog`] sees to that.
pub struct Reconciler {
    root: PathBuf,
    subject: String,
    identify: Identify,
    readers: usize,
    sink: Arc<Sink>,
    stopped: Stopped,
}

impl Reconciler {
    /// `subject` stands before a model's id when a trouble names it, such as `shared-resources/models`. `readers` is how
    /// many threads may read at once.
    #[must_use]
    pub fn new(
        root: PathBuf,
        subject: String,
        identify: Identify,
        readers: usize,
        sink: Arc<Sink>,
        stopped: Stopped,
    ) -> Self {
        Self {
            root,
            subject,
            identify,
            readers,
            sink,
            stopped,
        }
    }

    fn database(&self) -> &Database {
        &self.sink.database
    }

    fn troubles(&self) -> &Troubles {
        &self.sink.troubles
    }

    /// Looks at the whole library.
    ///
    /// # Errors
    /// `LibraryOffline`: the library is missing, cannot be read, or is an empty folder where its volume should be; the
    /// index is as it was. Others: the index could not be written; what was written so far stays and is right.
    pub fn run(&self) -> Result<Summary> {
        let started = Instant::now();
        let identity = self.check_root(true)?;
        let mut summary = self.walk(
            &[Start {
                path: String::new(),
                forced: false,
            }],
            identity,
        )?;
        summary.changed += self.follow_references()?;
        if !(self.stopped)() {
            let moment = clock::now();
            self.database()
                .write_sync(|c| store::finish_scan(c, identity, &moment))?;
        }
        summary.seconds = started.elapsed().as_secs_f64();
        Ok(summary)
    }

    /// What can wait until a run has told its results: a search index in few pieces is faster, not more right.
    ///
    /// Returns whether there was anything to do.
    pub fn tidy(&self) -> bool {
        let mut done = false;
        while !(self.stopped)() {
            match self.database().write_sync(store::merge_search_segments) {
                Ok(true) => done = true,
                Ok(false) | Err(_) => break,
            }
        }
        done
    }

    /// Reads these folders again, whatever their stamps say; those that are gone are removed.
    ///
    /// # Errors
    /// As [`Reconciler::run`].
    pub fn refresh(&self, model_ids: &[String]) -> Result<Summary> {
        let identity = self.check_root(false)?;
        let usable = |id: &&String| !id.is_empty() && !id.starts_with(['.', '/']) && !id.contains("/.");
        let mut starts: Vec<Start> = Vec::new();
        for id in model_ids.iter().filter(usable) {
            if !starts.iter().any(|start| start.path == *id) {
                starts.push(Start {
                    path: id.clone(),
                    forced: true,
                });
            }
        }
        self.walk(&starts, identity)
    }

    /// Forgets these models and all below them, without a look at the disk.
    ///
    /// # Errors
    /// The index cannot be written.
    pub fn remove(&self, model_ids: &[String]) -> Result<Summary> {
        let mut run = Run::new(self, None);
        run.batch
            .removed_trees
            .extend(model_ids.iter().filter(|id| !id.is_empty()).cloned());
        run.finish()
    }

    /// Lists again what earlier runs found: unchanged folders are not read after a restart.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn load_troubles(&self) -> Result<()> {
        for trouble in self.database().read_sync(None, store::troubles)? {
            self.troubles()
                .report(&trouble.subject, &trouble.kind, &trouble.message);
        }
        Ok(())
    }

    /// Files outside the library come and go without a trace in its folders: looks at each. Returns the changes.
    fn follow_references(&self) -> Result<usize> {
        let mut states = Vec::new();
        for model in self.database().read_sync(None, store::referencing)? {
            if (self.stopped)() {
                return Ok(0);
            }
            let listed = model
                .references
                .as_deref()
                .and_then(|text| serde_json::from_str(text).ok());
            let listed = match listed {
                Some(listed) => Some(listed),
                None => match load_metadata(&self.root.join(&model.id)) {
                    Ok((mut metadata, _)) => metadata.remove(REFERENCES),
                    Err(_) => continue,
                },
            };
            let state = state_of(&references(listed.as_ref())).as_str();
            if state != model.state {
                states.push((model.id, state));
            }
        }
        if states.is_empty() {
            return Ok(0);
        }
        let changes = self.database().write_sync(|c| store::set_states(c, &states))?;
        self.sink.committed(&Batch::default(), &changes);
        Ok(changes.count())
    }

    fn check_root(&self, first: bool) -> Result<RootIdentity> {
        let away = |error: io::Error| {
            Error::LibraryOffline(format!("The model library cannot be read: {}.", reason(&error)))
        };
        let status = self.root.metadata().map_err(away)?;
        let mut entries = fs::read_dir(&self.root).map_err(away)?;
        let identity = (status.dev().cast_signed(), status.ino().cast_signed());
        let is_shown_folder = |entry: io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| {
                !entry.file_name().as_encoded_bytes().starts_with(b".")
                    && entry.file_type().is_ok_and(|kind| kind.is_dir())
            })
        };
        if first && !entries.any(is_shown_folder) {
            let known = self
                .database()
                .read_sync(None, |c| Ok((store::state(c)?.root, store::model_count(c)?)))?;
            if known.1 > 0 && known.0 != identity {
                return Err(Error::LibraryOffline(
                    "The model library's folder is empty and is not the one that was indexed.".to_owned(),
                ));
            }
        }
        Ok(identity)
    }

    fn walk(&self, starts: &[Start], identity: RootIdentity) -> Result<Summary> {
        let mut run = Run::new(self, Some(identity));
        let outcome = run.walk(starts);
        let finished = run.finish();
        outcome?;
        finished
    }

    fn named(&self, path: &str) -> String {
        if path.is_empty() {
            self.subject.clone()
        } else {
            format!("{}/{}", self.subject, display_name(path))
        }
    }

    /// Reads folders in several threads; the readings are in the order of `paths`.
    fn read_together(&self, paths: &[String], inside: bool) -> VecDeque<io::Result<Reading>> {
        let share = paths.len().div_ceil(self.readers.max(1));
        thread::scope(|scope| {
            let read = |part: &[String]| -> Vec<io::Result<Reading>> {
                part.iter()
                    .map(|path| read_folder(&self.root, path, inside, &self.identify))
                    .collect()
            };
            let threads: Vec<_> = paths
                .chunks(share.max(1))
                .map(|part| scope.spawn(move || read(part)))
                .collect();
            // A reading that panics is a folder that cannot be read.
            let parts = threads.into_iter().zip(paths.chunks(share.max(1)));
            let readings = parts.flat_map(|(thread, part)| {
                thread.join().unwrap_or_else(|_| {
                    part.iter()
                        .map(|_| Err(io::Error::other("internal error")))
                        .collect()
                })
            });
            readings.collect()
        })
    }
}

struct Start {
    path: String,
    forced: bool,
}

/// A folder being read that has folders below it.
struct Frame {
    path: String,
    stamp: Option<FolderStamp>,
    inside: bool,
    below: Below,
    /// The last name that was looked at.
    after: String,
}

/// Where the folders below one are listed.
enum Below {
    /// In the index: the folder is unchanged.
    Known,
    /// Here, in order; the index is asked for those that are gone.
    Listed {
        names: Vec<String>,
        position: usize,
        begun: bool,
    },
}

/// One walk: a stack of folders being read, and the batch that is being filled.
struct Run<'a> {
    reconciler: &'a Reconciler,
    identity: Option<RootIdentity>,
    stack: Vec<Frame>,
    owners: BTreeSet<String>,
    writer: BatchWriter,
    now_ns: i64,
    batch: Batch,
    summary: Summary,
}

impl<'a> Run<'a> {
    fn new(reconciler: &'a Reconciler, identity: Option<RootIdentity>) -> Self {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            reconciler,
            identity,
            stack: Vec::new(),
            owners: BTreeSet::new(),
            writer: BatchWriter::new(Arc::clone(&reconciler.sink)),
            now_ns: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
            batch: Batch::default(),
            summary: Summary::default(),
        }
    }

    fn walk(&mut self, starts: &[Start]) -> Result<()> {
        for start in starts {
            let path = start.path.as_str();
            let (known, inside) = self.reconciler.database().read_sync(None, |c| {
                Ok((store::folder(c, path)?, store::any_model(c, &ancestors(path))?))
            })?;
            self.lead_to(path)?;
            self.look(path, known, inside, start.forced, None)?;
            self.drain()?;
        }
        self.look_again_at_owners()
    }

    /// Every folder that has a row is reached from the library's own row: makes those above `path`.
    fn lead_to(&mut self, path: &str) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        for above in ancestors(path).into_iter().chain([""]) {
            let known = self
                .reconciler
                .database()
                .read_sync(None, |c| store::folder(c, above))?;
            match known {
                None => self.batch.folders.push(FolderStamp {
                    has_children: true,
                    ..FolderStamp::at(above)
                }),
                Some(known) if !known.has_children => {
                    self.batch.folders.push(FolderStamp {
                        settled: false,
                        has_children: true,
                        ..known
                    });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        while let Some(mut frame) = self.stack.pop() {
            if (self.reconciler.stopped)() {
                self.stack.clear();
                return Ok(());
            }
            let children = self.next_chunk(&mut frame)?;
            match children {
                Some(children) => {
                    self.stack.push(frame);
                    self.look_at_all(children)?;
                }
                None => {
                    if let Some(stamp) = frame.stamp {
                        self.add_folder(stamp)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The next children of a folder; None when there are no more. Those that are gone go into the batch.
    fn next_chunk(&mut self, frame: &mut Frame) -> Result<Option<Vec<Child>>> {
        let database = self.reconciler.database();
        let (path, inside) = (frame.path.as_str(), frame.inside);
        let Below::Listed {
            names,
            position,
            begun,
        } = &mut frame.below
        else {
            let rows = database.read_sync(None, |c| store::children(c, path, &frame.after, CHUNK))?;
            let Some(last) = rows.last() else {
                return Ok(None);
            };
            frame.after.clone_from(&last.name);
            let child = |row: FolderStamp| Child {
                path: below(path, &row.name),
                known: Some(row),
                inside,
                ahead: None,
            };
            return Ok(Some(rows.into_iter().map(child).collect()));
        };
        if *begun && *position >= names.len() {
            return Ok(None);
        }
        *begun = true;
        let end = (*position + CHUNK).min(names.len());
        let chunk = &names[*position..end];
        let is_last = end >= names.len();
        *position = end;
        let rows = database.read_sync(None, |c| match chunk.last() {
            Some(last) if !is_last => store::children_until(c, path, &frame.after, last),
            _ => store::children(c, path, &frame.after, usize::MAX),
        })?;
        let mut known: BTreeMap<String, FolderStamp> =
            rows.into_iter().map(|row| (row.name.clone(), row)).collect();
        frame.after = chunk.last().cloned().unwrap_or_default();
        let mut children: Vec<Child> = chunk
            .iter()
            .map(|name| Child {
                path: below(path, name),
                known: known.remove(name),
                inside,
                ahead: None,
            })
            .collect();
        self.batch
            .removed_trees
            .extend(known.into_keys().map(|name| below(path, &name)));
        self.read_ahead(&mut children, inside);
        Ok(Some(children))
    }

    fn read_ahead(&self, children: &mut [Child], inside: bool) {
        let new: Vec<String> = children
            .iter()
            .filter(|child| child.known.is_none())
            .map(|child| child.path.clone())
            .collect();
        if self.reconciler.readers < 2 || new.len() < TOGETHER_FROM {
            return;
        }
        let mut readings = self.reconciler.read_together(&new, inside);
        for child in children.iter_mut().filter(|child| child.known.is_none()) {
            child.ahead = readings.pop_front();
        }
    }

    fn look_at_all(&mut self, children: Vec<Child>) -> Result<()> {
        for child in children {
            self.look(&child.path, child.known, child.inside, false, child.ahead)?;
        }
        Ok(())
    }

    /// Looks at one folder, or at what was read of it `ahead`, and queues what is below it.
    fn look(
        &mut self,
        path: &str,
        known: Option<FolderStamp>,
        inside: bool,
        forced: bool,
        ahead: Option<io::Result<Reading>>,
    ) -> Result<()> {
        self.summary.seen += 1;
        if path.len() > MAX_RELATIVE_BYTES {
            let trouble = self.trouble(path, ODD_NAME, "its path is too long; nothing below it is listed");
            self.note(path, vec![trouble], known.is_some());
            return Ok(());
        }
        let full = self.reconciler.root.join(path);
        let reading = if let Some(known) = known.as_ref().filter(|_| !forced) {
            match folder_status(&full, path) {
                Ok(status) if unchanged(&full, &status, known, inside) => {
                    if known.has_children {
                        let inside = inside || known.is_model;
                        let below = Below::Known;
                        self.stack.push(Frame {
                            path: path.to_owned(),
                            stamp: None,
                            inside,
                            below,
                            after: String::new(),
                        });
                    }
                    return Ok(());
                }
                Ok(_) => self.read(path, inside, ahead),
                Err(error) => Err(error),
            }
        } else {
            self.read(path, inside, ahead)
        };
        match reading {
            Ok(reading) => self.take(path, reading, known.as_ref(), inside),
            Err(error) if is_gone(&error) && path.is_empty() => Err(went_away()),
            Err(error) if is_gone(&error) => {
                self.batch.removed_trees.push(path.to_owned());
                Ok(())
            }
            Err(error) => {
                // Rows of models stay as they are. An unsettled row brings the next run here again.
                let trouble = self.trouble(path, UNREADABLE, &format!("cannot be read: {}", reason(&error)));
                self.note(path, vec![trouble], known.is_some());
                let row = known.unwrap_or_else(|| FolderStamp {
                    inside,
                    ..FolderStamp::at(path)
                });
                self.add_folder(FolderStamp {
                    settled: false,
                    ..row
                })
            }
        }
    }

    fn read(&self, path: &str, inside: bool, ahead: Option<io::Result<Reading>>) -> io::Result<Reading> {
        let reconciler = self.reconciler;
        ahead.unwrap_or_else(|| read_folder(&reconciler.root, path, inside, &reconciler.identify))
    }

    /// Puts what was read into the batch, and goes on to the folders below.
    fn take(
        &mut self,
        path: &str,
        reading: Reading,
        known: Option<&FolderStamp>,
        inside: bool,
    ) -> Result<()> {
        self.summary.read += 1;
        let mut troubles: Vec<Trouble> = reading
            .odd_names
            .iter()
            .map(|name| self.odd_name(path, name))
            .collect();
        if let Some(damage) = &reading.damage {
            troubles.push(self.damaged(path, damage));
        }
        if let Some(damage) = &reading.overrides_damage {
            troubles.push(self.trouble(&format!("{path}/{OVERRIDES}"), DAMAGED_OVERRIDES, damage));
        }
        if reading.loose {
            troubles.push(self.trouble(path, LOOSE, LOOSE_FILES));
        }
        if reading.entry.is_some() {
            troubles.extend(self.not_for_calls(path));
        }
        let is_model = reading.entry.is_some() || (!path.is_empty() && reading.has_metadata);
        let had_children = known.is_some_and(|known| known.has_children);
        match reading.entry {
            Some(entry) => self.batch.entries.push(*entry),
            None if known.is_some_and(|known| known.is_model) => {
                self.batch.removed_models.push(path.to_owned());
            }
            None => {}
        }
        if inside {
            self.owners.extend(ancestors(path).into_iter().map(str::to_owned));
        }
        self.note(path, troubles, known.is_some());
        let row = FolderStamp {
            mtime_ns: reading.mtime_ns,
            inode: reading.inode,
            settled: self.settled(reading.mtime_ns) && self.settled(reading.stamp.mtime_ns),
            is_model,
            inside,
            has_children: !reading.folders.is_empty(),
            witness: reading.witness,
            witness_stamp: reading.stamp,
            ..FolderStamp::at(path)
        };
        if reading.folders.is_empty() && !had_children {
            return self.add_folder(row);
        }
        if !had_children {
            // Unsettled, it promises nothing, but leads to the rows below it should this run be killed.
            self.batch.folders.push(FolderStamp {
                settled: false,
                has_children: true,
                ..row.clone()
            });
        }
        let mut names = reading.folders;
        names.sort();
        self.stack.push(Frame {
            path: path.to_owned(),
            stamp: Some(row),
            inside: inside || is_model,
            below: Below::Listed {
                names,
                position: 0,
                begun: false,
            },
            after: String::new(),
        });
        Ok(())
    }

    fn settled(&self, mtime_ns: i64) -> bool {
        let coarse = mtime_ns % 1_000_000_000 == 0;
        self.now_ns.abs_diff(mtime_ns) > if coarse { COARSE_CLOCK_NS } else { FINE_CLOCK_NS }
    }

    /// A folder inside a model without metadata changed: that model's size and primary file are made again.
    fn look_again_at_owners(&mut self) -> Result<()> {
        if self.owners.is_empty() || (self.reconciler.stopped)() {
            return Ok(());
        }
        self.flush()?;
        self.writer.wait()?;
        let owners: Vec<String> = self.owners.iter().cloned().collect();
        let database = self.reconciler.database();
        for path in database.read_sync(None, |c| store::derived(c, &owners))? {
            let known = database.read_sync(None, |c| store::folder(c, &path))?;
            let inside = known.as_ref().is_some_and(|known| known.inside);
            self.look(&path, known, inside, true, None)?;
            self.drain()?;
        }
        Ok(())
    }

    // -- what goes into the batch ------------------------------------------------------------------------------------

    fn add_folder(&mut self, row: FolderStamp) -> Result<()> {
        self.batch.folders.push(row);
        if self.batch.size() >= BATCH {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// A new folder has no troubles to clear, and nearly all folders have none to add.
    fn note(&mut self, path: &str, troubles: Vec<Trouble>, is_known: bool) {
        if is_known || !troubles.is_empty() {
            self.batch.troubles.insert(path.to_owned(), troubles);
        }
    }

    fn trouble(&self, path: &str, kind: &str, what: &str) -> Trouble {
        let shown = if path.is_empty() {
            "The library".to_owned()
        } else {
            display_name(path)
        };
        Trouble {
            subject: self.reconciler.named(path),
            kind: kind.to_owned(),
            message: format!("{shown}: {what}."),
        }
    }

    fn damaged(&self, path: &str, what: &str) -> Trouble {
        self.trouble(&format!("{path}/{METADATA}"), DAMAGED, what)
    }

    /// A folder that somebody made can have a name that no call takes for a model's.
    fn not_for_calls(&self, path: &str) -> Option<Trouble> {
        match relative_path(path, "path") {
            Err(Error::UnsafePath { reason, .. }) => {
                let what = format!("its path {reason}; rename it to change or delete it here");
                Some(self.trouble(path, ODD_NAME, &what))
            }
            _ => None,
        }
    }

    fn odd_name(&self, path: &str, shown_name: &str) -> Trouble {
        let shown = if path.is_empty() {
            shown_name.to_owned()
        } else {
            format!("{}/{shown_name}", display_name(path))
        };
        Trouble {
            subject: format!("{}/{shown}", self.reconciler.subject),
            kind: ODD_NAME.to_owned(),
            message: format!("{shown}: its name is not UTF-8 or its path is too long; rename it."),
        }
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        // The volume may have gone while we looked: then everything seemed removed, and nothing may be.
        let removes = !self.batch.removed_trees.is_empty() || !self.batch.removed_models.is_empty();
        if let Some(identity) = self.identity.filter(|_| removes)
            && self.reconciler.check_root(false).ok() != Some(identity)
        {
            self.batch = Batch::default();
            return Err(went_away());
        }
        self.writer.put(std::mem::take(&mut self.batch))
    }

    fn finish(mut self) -> Result<Summary> {
        let flushed = self.flush();
        let counts = self.writer.close();
        flushed?;
        let (added, changed, removed) = counts?;
        Ok(Summary {
            added,
            changed,
            removed,
            ..self.summary
        })
    }
}

/// One folder to look at.
struct Child {
    path: String,
    known: Option<FolderStamp>,
    inside: bool,
    ahead: Option<io::Result<Reading>>,
}

fn unchanged(full: &Path, status: &fs::Metadata, known: &FolderStamp, inside: bool) -> bool {
    let same = known.settled
        && mtime_ns(status) == known.mtime_ns
        && status.ino().cast_signed() == known.inode
        && known.inside == inside;
    if !same || known.witness.is_empty() {
        return same;
    }
    match file_stamp(&full.join(&known.witness)) {
        Ok(stamp) => stamp == known.witness_stamp,
        Err(error) => error.kind() == io::ErrorKind::NotFound && known.witness_stamp.inode == 0,
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn went_away() -> Error {
    Error::LibraryOffline("The model library went away while it was being read.".to_owned())
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}/{name}")
    }
}

/// The folders above a path, the nearest first, without the library itself.
fn ancestors(path: &str) -> Vec<&str> {
    path.match_indices('/')
        .map(|(end, _)| &path[..end])
        .rev()
        .collect()
}
