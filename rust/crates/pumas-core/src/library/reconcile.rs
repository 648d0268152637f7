//! Makes the index agree with the files: what changed since the last look is read again, the rest only looked at.
//!
//! A folder is read again when its own stamp (mtime, inode) changed, or that of its witness: `metadata.json`, or the
//! primary file of a folder without one. A stamp so young that a further change could hide behind it proves nothing. A
//! folder's row is settled only after those of everything below it, in batches of one transaction each, so that readers
//! see the old or the new state, and a run that was killed is finished by the next one, without a mark or a journal.
//!
//! What could not be read is never taken for gone: rows stay, the trouble is listed, the parent is looked at again. When
//! the library itself is missing, unreadable or another volume than before, nothing is removed (`LibraryOffline`). Links
//! to folders are not followed (those that hide models are told), names that begin with a dot are not looked into, nothing
//! is written outside the index.
//! Everything here blocks; when to run is decided in [`crate::library::catalog`].

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::library::batch_writer::Sink;
use crate::library::reading::{Identify, Reading, load_metadata, read_folder};
use crate::library::references::{REFERENCES, references, state_of};
use crate::library::store::{self, Batch};
use crate::storage::clock;
use crate::storage::database::Database;
use crate::storage::files::reason;
use crate::storage::paths::display_name;
use crate::storage::troubles::Troubles;

mod walk;

use walk::{Run, Start};

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
        self.database().settle_sync();
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
