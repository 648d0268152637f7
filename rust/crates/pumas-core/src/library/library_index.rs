//! The index for worker threads: opens it, brings it up to date, answers what import and trash ask.
//!
//! It lies in the library. When that cannot be written, is away, or holds an index of a newer version, it lies in the
//! launcher's data folder instead. What a look at the disk does is written in [`crate::library::reconcile`].

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rusqlite::Connection;
use rustix::fs::Access;
use serde::Serialize;
use serde_json::json;

use crate::config::Layout;
use crate::contracts::schema;
use crate::error::{Error, Result};
use crate::events::EventStream;
use crate::library::batch_writer::Sink;
use crate::library::index::Index;
use crate::library::reading::{Identify, identify_file, mtime_ns};
use crate::library::reconcile::{Reconciler, Summary};
use crate::library::store::{self, Changes, FolderAbove, Mappable};
use crate::storage::database::{Content, DAMAGED_FILES, Database, OnQuarantine, Schema, Synchronous};
use crate::storage::files::exists;
use crate::storage::locked;
use crate::storage::troubles::Troubles;

/// More changes than this in one batch are told as one event.
const EVENTS_PER_BATCH: usize = 100;
const SHALLOW_FOLDERS: usize = 2000;
/// More than there are processors: a first look mostly waits for the disk.
const MOST_READERS: usize = 6;

const STALE: &str = "index_stale";
const OFFLINE: &str = "offline";

/// How the library is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum LibraryState {
    /// It can be read and written.
    Ready,
    /// It is missing, or its volume is away.
    Offline,
    /// It can be read.
    ReadOnly,
}

/// Flags that callbacks share with the index.
struct Flags {
    stopped: AtomicBool,
    complete: AtomicBool,
    busy: AtomicBool,
    /// The last look could not be written.
    failed: AtomicBool,
    /// The index file was replaced by an empty one.
    replaced: AtomicBool,
    state: AtomicU8,
}

#[derive(Default)]
struct Opened {
    database: Option<Database>,
    file: Option<(u64, u64)>,
    /// The file in the library that could not be used.
    refused: Option<(u64, u64)>,
    /// Neither place can be written, as on a disk that is mounted read-only: what the library's index says is served.
    nowhere: bool,
}

/// See the module. All calls block.
pub struct LibraryIndex {
    layout: Arc<Layout>,
    events: EventStream,
    troubles: Arc<Troubles>,
    identify: Identify,
    subject: String,
    // Order: `running` before `opened`; neither is held while an event is published.
    running: Mutex<()>,
    opened: Mutex<Opened>,
    flags: Arc<Flags>,
    above: Mutex<Vec<FolderAbove>>,
    meanwhile: Mutex<Vec<String>>,
}

impl LibraryIndex {
    /// Nothing is opened before the first use.
    #[must_use]
    pub fn new(layout: Arc<Layout>, events: EventStream, troubles: Arc<Troubles>) -> Self {
        Self::with_identify(layout, events, troubles, Arc::new(identify_file))
    }

    /// As [`LibraryIndex::new`], with another way to tell what a file without metadata is.
    #[must_use]
    pub fn with_identify(
        layout: Arc<Layout>,
        events: EventStream,
        troubles: Arc<Troubles>,
        identify: Identify,
    ) -> Self {
        let library = layout.library();
        let subject = library
            .strip_prefix(layout.root())
            .unwrap_or(&library)
            .to_string_lossy()
            .into_owned();
        let flags = Flags {
            stopped: AtomicBool::new(false),
            complete: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            replaced: AtomicBool::new(false),
            state: AtomicU8::new(LibraryState::Ready as u8),
        };
        Self {
            layout,
            events,
            troubles,
            identify,
            subject,
            running: Mutex::default(),
            opened: Mutex::default(),
            flags: Arc::new(flags),
            above: Mutex::default(),
            meanwhile: Mutex::default(),
        }
    }

    // -- the file ----------------------------------------------------------------------------------------------------

    /// How the library was at the last look.
    #[must_use]
    pub fn state(&self) -> LibraryState {
        match self.flags.state.load(Ordering::Acquire) {
            0 => LibraryState::Ready,
            1 => LibraryState::Offline,
            _ => LibraryState::ReadOnly,
        }
    }

    fn set_state(&self, state: LibraryState) {
        self.flags.state.store(state as u8, Ordering::Release);
    }

    /// A first look at the disk was finished, or could not be because the library is away.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.flags.complete.load(Ordering::Acquire)
    }

    /// A look at the disk is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.flags.busy.load(Ordering::Acquire)
    }

    /// It is being closed.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.flags.stopped.load(Ordering::Acquire)
    }

    /// The index when it is open already; never waits.
    #[must_use]
    pub fn opened(&self) -> Option<Database> {
        self.opened
            .try_lock()
            .ok()
            .and_then(|opened| opened.database.clone())
    }

    /// The open index.
    ///
    /// # Errors
    /// What the disk refused, when no place could be used.
    pub fn database(&self) -> Result<Database> {
        let mut opened = locked(&self.opened);
        if let Some(database) = &opened.database {
            return Ok(database.clone());
        }
        let database = self.open(&mut opened)?;
        database.connect_readers_sync()?;
        opened.file = identity(database.path());
        self.reconciler(&database).load_troubles()?;
        opened.database = Some(database.clone());
        Ok(database)
    }

    fn open(&self, opened: &mut Opened) -> Result<Database> {
        let own = self.layout.models_db();
        opened.nowhere = false;
        if self.is_usable(opened) {
            let database = self.database_at(own.clone())?;
            let Err(error) = database.open_sync() else {
                opened.refused = None;
                return Ok(database);
            };
            opened.refused = identity(&own);
            let kind = if matches!(error, Error::NewerSchema(_)) {
                "newer_index"
            } else {
                "index_unusable"
            };
            let message = format!("{error} Until then the index is elsewhere.");
            self.troubles
                .report(&format!("{}/{}", self.subject, file_name(&own)), kind, &message);
        }
        let database = self.database_at(self.spare())?;
        let opening = database.open_sync();
        opened.nowhere = matches!(opening, Err(Error::ReadOnly(_))) && own.is_file();
        if !opened.nowhere {
            return opening.map(|()| database);
        }
        let database = self.database_at(own)?;
        database.open_sync()?;
        Ok(database)
    }

    fn spare(&self) -> PathBuf {
        self.layout.cache().join("models.db")
    }

    fn database_at(&self, path: PathBuf) -> Result<Database> {
        let (flags, troubles) = (Arc::clone(&self.flags), Arc::clone(&self.troubles));
        let subject = format!("{}/{}", self.subject, file_name(&self.layout.models_db()));
        // What is there after a quarantine is empty until the next look at the disk.
        let on_quarantine: OnQuarantine = Box::new(move |kept, reason| {
            flags.complete.store(false, Ordering::Release);
            flags.replaced.store(true, Ordering::Release);
            let message = format!(
                "The index could not be used ({reason}) and is being made anew; the old file was kept as {}.",
                file_name(kept)
            );
            troubles.report(&subject, "index_rebuilt", &message);
        });
        let schema = Schema::new(schema::MODELS)?;
        Ok(Database::new(
            path,
            schema,
            Content::Disposable {
                renewal: Some(store::RENEWAL),
            },
            Synchronous::Normal,
            on_quarantine,
        ))
    }

    /// Whether the library's folder can hold the index; makes the folder when nothing was ever there.
    fn is_usable(&self, opened: &Opened) -> bool {
        let library = self.layout.library();
        if !exists(&library) && fs::create_dir_all(&library).is_err() {
            self.set_state(LibraryState::ReadOnly);
            return false;
        }
        if !library.is_dir() {
            self.set_state(LibraryState::Offline);
            return false;
        }
        if rustix::fs::access(&library, Access::WRITE_OK | Access::EXEC_OK).is_err() {
            self.set_state(LibraryState::ReadOnly);
            return false;
        }
        self.set_state(LibraryState::Ready);
        opened.refused.is_none() || opened.refused != identity(&self.layout.models_db())
    }

    /// Opens the index again when its file was replaced, deleted, or belongs elsewhere by now.
    fn follow_file(&self) {
        let mut opened = locked(&self.opened);
        let Some(database) = opened.database.clone() else {
            return;
        };
        let usable = self.is_usable(&opened);
        if self.state() == LibraryState::Offline {
            return;
        }
        let place = if usable || opened.nowhere {
            self.layout.models_db()
        } else {
            self.spare()
        };
        if database.path() == place && identity(&place) == opened.file {
            return;
        }
        database.close_sync();
        opened.database = None;
        self.flags.complete.store(false, Ordering::Release);
    }

    /// Stops a look that is under way at its next folder, and closes the file.
    pub fn close(&self) {
        self.flags.stopped.store(true, Ordering::Release);
        let _running = locked(&self.running);
        if let Some(database) = locked(&self.opened).database.take() {
            database.close_sync();
        }
    }

    // -- looking at the disk -----------------------------------------------------------------------------------------

    /// Looks at the whole library. None when it is away; [`LibraryIndex::state`] says so.
    ///
    /// # Errors
    /// The index cannot be written.
    pub fn reconcile(&self) -> Result<Option<Summary>> {
        let _running = locked(&self.running);
        if self.flags.stopped.load(Ordering::Acquire) {
            return Ok(None);
        }
        let first = !self.is_complete();
        let summary = {
            let _busy = Busy::begin(&self.flags);
            self.look()?
        };
        if first {
            // Who was told that the library is being read hears of the end, also when nothing was found.
            tell_counts(&self.events, &self.database()?);
        }
        if summary.is_some() {
            let database = self.database()?;
            self.reconciler(&database).tidy();
            let stopped = || self.flags.stopped.load(Ordering::Acquire);
            if let Err(error) = database.keep_copy_sync(&stopped) {
                tracing::warn!("no copy of the index could be kept: {error}");
            }
        }
        Ok(summary)
    }

    fn look(&self) -> Result<Option<Summary>> {
        self.follow_file();
        let database = self.database()?;
        let reconciler = self.reconciler(&database);
        locked(&self.meanwhile).clear();
        self.flags.replaced.store(false, Ordering::Release);
        self.flags.failed.store(false, Ordering::Release);
        let summary = match self.run(&reconciler) {
            Ok(summary) => summary,
            Err(Error::LibraryOffline(reason)) => {
                self.set_state(LibraryState::Offline);
                self.flags.complete.store(true, Ordering::Release);
                let message = format!("{reason} Nothing was removed from the index.");
                self.troubles.report(&self.subject, OFFLINE, &message);
                return Ok(None);
            }
            Err(error) => {
                // What the index holds is still served; the next call tries again.
                self.flags.failed.store(true, Ordering::Release);
                self.flags.complete.store(true, Ordering::Release);
                if matches!(error, Error::ReadOnly(_)) {
                    self.set_state(LibraryState::ReadOnly);
                }
                let message = format!("The index cannot be brought up to date: {error}");
                self.troubles.report(&self.subject, STALE, &message);
                return Err(error);
            }
        };
        self.troubles.clear_kind(OFFLINE);
        self.troubles.clear_kind(STALE);
        *locked(&self.above) =
            database.read_sync(None, |c| store::folders_above_models(c, SHALLOW_FOLDERS))?;
        self.flags.complete.store(true, Ordering::Release);
        Ok(Some(summary))
    }

    fn run(&self, reconciler: &Reconciler) -> Result<Summary> {
        let mut outcome = reconciler.run();
        for _ in 0..DAMAGED_FILES {
            match outcome {
                // The index was damaged and put aside: bring what took its place up to date.
                Err(error)
                    if !matches!(error, Error::LibraryOffline(_))
                        && self.flags.replaced.swap(false, Ordering::AcqRel) =>
                {
                    outcome = reconciler.run();
                }
                _ => break,
            }
        }
        let summary = outcome?;
        let meanwhile = std::mem::take(&mut *locked(&self.meanwhile));
        if !meanwhile.is_empty() {
            reconciler.refresh(&meanwhile)?;
        }
        Ok(summary)
    }

    fn reconciler(&self, database: &Database) -> Reconciler {
        let (events, flags) = (self.events.clone(), Arc::clone(&self.flags));
        let sink = Sink {
            database: database.clone(),
            troubles: Arc::clone(&self.troubles),
            on_changes: Box::new(move |database, changes| tell(&events, database, changes)),
        };
        Reconciler::new(
            self.layout.library(),
            self.subject.clone(),
            Arc::clone(&self.identify),
            reader_count(),
            Arc::new(sink),
            Arc::new(move || flags.stopped.load(Ordering::Acquire)),
        )
    }

    /// Whether a folder above the models changed since the last look: a model came or went. About a millisecond.
    #[must_use]
    pub fn shallow_changed(&self) -> bool {
        if !self.is_complete() || self.flags.failed.load(Ordering::Acquire) {
            return true;
        }
        let root = self.layout.library();
        let above = locked(&self.above).clone();
        // The library's own folder changes with every journal of the index; its children are looked at below.
        let changed = |folder: &FolderAbove| {
            root.join(&folder.path).metadata().map_or(true, |status| {
                mtime_ns(&status) != folder.mtime_ns || status.ino().cast_signed() != folder.inode
            })
        };
        if above.iter().filter(|folder| !folder.path.is_empty()).any(changed) {
            return true;
        }
        self.top_changed(&root, &above)
    }

    fn top_changed(&self, root: &Path, above: &[FolderAbove]) -> bool {
        if above.len() >= SHALLOW_FOLDERS {
            return false;
        }
        let Ok(entries) = fs::read_dir(root) else {
            return self.state() != LibraryState::Offline;
        };
        let folders = entries.filter_map(|entry| {
            let entry = entry
                .ok()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))?;
            entry
                .file_name()
                .into_string()
                .ok()
                .filter(|name| !name.starts_with('.'))
        });
        let new: Vec<String> = folders
            .filter(|name| !above.iter().any(|folder| folder.path == *name))
            .collect();
        if new.is_empty() {
            return false;
        }
        let known = self
            .database()
            .and_then(|database| database.read_sync(None, |c| store::children(c, "", "", SHALLOW_FOLDERS)));
        known.map_or(true, |known| {
            new.iter()
                .any(|name| !known.iter().any(|folder| folder.name == *name))
        })
    }

    fn note(&self, model_ids: &[String]) -> Result<Database> {
        // A look under way may have read these folders before the change: it reads them once more at its end.
        if self.is_busy() {
            locked(&self.meanwhile).extend_from_slice(model_ids);
        }
        self.database()
    }

    /// What decides where each model's files belong, in order of ids.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn mappable(&self) -> Result<Vec<Mappable>> {
        self.ask(store::mappable)
    }

    /// Answers are about all models, so a first look must have been finished.
    fn ask<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        if !self.is_complete() {
            self.reconcile()?;
        }
        self.database()?.read_sync(None, query)
    }
}

impl Index for LibraryIndex {
    fn refresh(&self, model_ids: &[String]) -> Result<()> {
        let database = self.note(model_ids)?;
        self.reconciler(&database).refresh(model_ids)?;
        Ok(())
    }

    fn remove(&self, model_ids: &[String]) -> Result<()> {
        let database = self.note(model_ids)?;
        self.reconciler(&database).remove(model_ids)?;
        Ok(())
    }

    fn find_by_sha256(&self, digest: &str) -> Result<Vec<String>> {
        let digest = digest.to_ascii_lowercase();
        self.ask(|c| store::ids_by_sha256(c, &digest))
    }

    fn find_by_size(&self, primary_size: u64) -> Result<Vec<String>> {
        let size = i64::try_from(primary_size).unwrap_or(i64::MAX);
        self.ask(|c| store::ids_by_primary_size(c, size))
    }

    fn duplicated(&self) -> Result<Vec<String>> {
        self.ask(store::ids_of_duplicates)
    }

    fn contains(&self, model_id: &str) -> Result<bool> {
        self.ask(|c| store::contains(c, model_id))
    }

    fn model_ids(&self) -> Result<Vec<String>> {
        self.ask(store::ids)
    }
}

/// True while a look is under way, however it ends.
struct Busy<'a>(&'a Flags);

impl<'a> Busy<'a> {
    fn begin(flags: &'a Flags) -> Self {
        flags.busy.store(true, Ordering::Release);
        Self(flags)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

fn tell_counts(events: &EventStream, database: &Database) {
    let counts = database.read_sync(None, |c| Ok((store::state(c)?.revision, store::model_count(c)?)));
    if let Ok((revision, model_count)) = counts {
        events.publish(
            "library.changed",
            &json!({"revision": revision, "model_count": model_count}),
        );
    }
}

fn tell(events: &EventStream, database: &Database, changes: &Changes) {
    if changes.count() > EVENTS_PER_BATCH {
        tell_counts(events, database);
        return;
    }
    let topics = [
        ("model.added", &changes.added),
        ("model.changed", &changes.changed),
        ("model.removed", &changes.removed),
    ];
    for (topic, ids) in topics {
        for id in ids {
            events.publish(topic, &json!({"model_id": id}));
        }
    }
}

fn reader_count() -> usize {
    (2 * thread::available_parallelism().map_or(1, usize::from)).min(MOST_READERS)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|status| (status.dev(), status.ino()))
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
