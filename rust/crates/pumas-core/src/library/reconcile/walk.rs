//! One walk over the library's folders: a stack of those that are being read, and the batch that is being filled.
//!
//! What a walk begins with, and what comes after it, is decided in [`super`], which also says how a change is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Reconciler, RootIdentity, Summary};
use crate::error::{Error, Result};
use crate::library::batch_writer::BatchWriter;
use crate::library::reading::{
    METADATA, OVERRIDES, Reading, file_stamp, folder_status, mtime_ns, read_folder,
};
use crate::library::store::{self, Batch, FolderStamp};
use crate::storage::files::reason;
use crate::storage::paths::{MAX_RELATIVE_BYTES, display_name, relative_path};
use crate::storage::troubles::Trouble;

const BATCH: usize = 800;
const CHUNK: usize = 400;
/// So many new folders are worth several threads.
const TOGETHER_FROM: usize = 64;
/// Young stamps are not trusted: a change within one tick of the file system's clock leaves no trace in it.
const FINE_CLOCK_NS: u64 = 100_000_000;
const COARSE_CLOCK_NS: u64 = 2_500_000_000;

const DAMAGED: &str = "damaged_metadata";
const DAMAGED_OVERRIDES: &str = "damaged_overrides";
const UNREADABLE: &str = "unreadable";
const ODD_NAME: &str = "unusable_name";
const ODD_CHILD: &str = "its name is not UTF-8 or its path is too long; rename it";
const LOOSE: &str = "loose_files";
const LOOSE_FILES: &str =
    "holds model files outside of a model's folder, which are not listed; import them to have them here";

const LINKED: &str = "linked_folder";
const LINKED_FOLDER: &str = "is a link to a folder outside of the library, which is not followed; take its models in where they are \
     (adopt_models with that folder) or move it here, and remove the link";
const BROKEN: &str = "broken_link";
const BROKEN_LINK: &str =
    "is a link to nothing that can be read; connect the drive that it leads to, or remove it";

/// Where a walk begins; `forced`: whatever the folder's stamp says.
pub(super) struct Start {
    pub(super) path: String,
    pub(super) forced: bool,
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
pub(super) struct Run<'a> {
    reconciler: &'a Reconciler,
    identity: Option<RootIdentity>,
    stack: Vec<Frame>,
    owners: BTreeSet<String>,
    writer: BatchWriter,
    now_ns: i64,
    pub(super) batch: Batch,
    summary: Summary,
}

impl<'a> Run<'a> {
    pub(super) fn new(reconciler: &'a Reconciler, identity: Option<RootIdentity>) -> Self {
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

    pub(super) fn walk(&mut self, starts: &[Start]) -> Result<()> {
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
            .map(|name| self.child(path, name, ODD_NAME, ODD_CHILD))
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
        let linked = reading
            .linked
            .iter()
            .map(|name| self.child(path, name, LINKED, LINKED_FOLDER));
        troubles.extend(linked);
        let broken = reading
            .broken
            .iter()
            .map(|name| self.child(path, name, BROKEN, BROKEN_LINK));
        troubles.extend(broken);
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
        // What is at the other end of a link comes and goes without a trace here.
        let is_fixed = reading.linked.is_empty() && reading.broken.is_empty();
        let row = FolderStamp {
            mtime_ns: reading.mtime_ns,
            inode: reading.inode,
            settled: is_fixed && self.settled(reading.mtime_ns) && self.settled(reading.stamp.mtime_ns),
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

    /// Something in a folder, by its name as it can be shown.
    fn child(&self, path: &str, shown_name: &str, kind: &str, what: &str) -> Trouble {
        let shown = if path.is_empty() {
            shown_name.to_owned()
        } else {
            format!("{}/{shown_name}", display_name(path))
        };
        Trouble {
            subject: format!("{}/{shown}", self.reconciler.subject),
            kind: kind.to_owned(),
            message: format!("{shown}: {what}."),
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

    pub(super) fn finish(mut self) -> Result<Summary> {
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
