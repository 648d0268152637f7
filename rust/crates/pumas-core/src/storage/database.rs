//! The door to SQLite: one writer, pooled readers, one transaction per write, damaged files put aside.
//!
//! A domain hands in its schema (`contracts/schema/<name>.sql`, with `PRAGMA user_version` as its version) and closures
//! that take a connection. SQL itself lives in the domain's store. The calls that end in `_sync` block; the others are
//! for the runtime and never do.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use crate::error::{Error, Result};
use crate::storage::files::{disk_full, why_not_written};
use crate::storage::locked;

mod copy;
mod opening;

/// So many reads go on at once.
pub const READERS: usize = 4;

/// A file and its copy may be damaged one after the other; what comes after them is new.
pub(crate) const DAMAGED_FILES: usize = 2;

const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
const CLOSE_WAIT: Duration = Duration::from_millis(200);
const PAGE_BYTES: u32 = 4096;
const JOURNAL_PAGES: u32 = 2000;
/// What can be made again is made in bulk: the longer its journal, the fewer pages are written and synced twice.
const BULK_JOURNAL_PAGES: u32 = 16_000;
/// How many SQLite virtual-machine steps run between two looks at the clock: about a millisecond.
const STEPS_PER_CHECK: i32 = 20_000;
const PREPARED_STATEMENTS: usize = 64;
/// Of the page cache of a connection.
const CACHE_KIB: i64 = 2048;
/// Of the connection that writes what can be made again, in bulk; [`Database::settle_sync`] gives back what it holds.
const BULK_CACHE_KIB: i64 = 12_288;

/// SQL that creates everything in an empty database, and the version it carries in `PRAGMA user_version`.
#[derive(Debug, Clone)]
pub struct Schema {
    sql: &'static str,
    version: i64,
}

impl Schema {
    /// Reads the version out of the SQL.
    ///
    /// # Errors
    /// `Bug`: the text sets no `user_version`.
    pub fn new(sql: &'static str) -> Result<Self> {
        let version = sql
            .lines()
            .filter_map(|line| {
                line.trim()
                    .strip_suffix(';')?
                    .to_ascii_lowercase()
                    .strip_prefix("pragma user_version")?
                    .trim_start()
                    .strip_prefix('=')?
                    .trim()
                    .parse()
                    .ok()
            })
            .next_back();
        let version = version.ok_or_else(|| Error::Bug("a schema sets no user_version".to_owned()))?;
        Ok(Self { sql, version })
    }
}

/// Whether an answer promises that its row survives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// After a power cut the newest transactions may be missing; what is there is whole.
    Normal,
    /// What was acknowledged is on disk.
    Full,
}

/// What becomes of a file that holds an older schema, or one that another program changed.
pub enum Content {
    /// It can be made again from other files: it is put aside like a damaged file.
    Disposable {
        /// SQL for a copy that takes the place of a damaged file, where [`Database::keep_copy_sync`] is used.
        renewal: Option<&'static str>,
    },
    /// It is brought up to date, from the version given, inside one transaction.
    Migrated(fn(&Connection, i64) -> rusqlite::Result<()>),
    /// There was never an older schema: a file that has one is put aside.
    Kept,
}

/// Told the new name of a file that was put aside, and the reason.
pub type OnQuarantine = Box<dyn Fn(&Path, &str) + Send + Sync>;

/// One SQLite file in WAL mode. Clones share it.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    schema: Schema,
    content: Content,
    synchronous: Synchronous,
    on_quarantine: OnQuarantine,
    writer: Mutex<Option<Connection>>,
    readers: Readers,
    reads: tokio::sync::Semaphore,
    writes: tokio::sync::Semaphore,
    // Read without the writer's lock: a reader must not wait for a long write.
    open: AtomicBool,
    read_only: AtomicBool,
    generation: AtomicU64,
    /// What stands at `path` was the copy of a damaged file and is not renewed yet.
    is_copy: AtomicBool,
}

/// Connections for reading, made when first needed. `None` stands for one that is not made yet.
struct Readers {
    idle: Mutex<Vec<Option<Reader>>>,
    returned: Condvar,
}

struct Reader {
    connection: Connection,
    generation: u64,
}

impl Database {
    /// Names the file; nothing is opened before the first use.
    #[must_use]
    pub fn new(
        path: PathBuf,
        schema: Schema,
        content: Content,
        synchronous: Synchronous,
        on_quarantine: OnQuarantine,
    ) -> Self {
        let idle = (0..READERS).map(|_| None).collect();
        let shared = Shared {
            path,
            schema,
            content,
            synchronous,
            on_quarantine,
            writer: Mutex::default(),
            readers: Readers {
                idle: Mutex::new(idle),
                returned: Condvar::new(),
            },
            reads: tokio::sync::Semaphore::new(READERS),
            writes: tokio::sync::Semaphore::new(1),
            open: AtomicBool::new(false),
            read_only: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            is_copy: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Opens or creates the file.
    ///
    /// # Errors
    /// `NewerSchema`: a newer version of the program wrote it; it is left as it is. `DiskError`, `DiskFull`, `ReadOnly`:
    /// it cannot be created or opened.
    pub fn open_sync(&self) -> Result<()> {
        if self.shared.open.load(Ordering::Acquire) {
            return Ok(());
        }
        self.shared.open_locked(&mut locked(&self.shared.writer))
    }

    /// Closes all connections that are not in use; the last one checkpoints the file. A new call opens it again.
    ///
    /// A write that holds on longer than a moment keeps its connection: ending the process then rolls it back.
    pub fn close_sync(&self) {
        let end = Instant::now() + CLOSE_WAIT;
        let mut writer = loop {
            match self.shared.writer.try_lock() {
                Ok(writer) => break writer,
                Err(std::sync::TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(std::sync::TryLockError::WouldBlock) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(std::sync::TryLockError::WouldBlock) => return,
            }
        };
        for idle in locked(&self.shared.readers.idle).iter_mut() {
            *idle = None;
        }
        self.shared.drop_connections(&mut writer);
    }

    /// Opens every reader now, so that reads go on when the file's drive is pulled.
    ///
    /// # Errors
    /// As [`Database::open_sync`].
    pub fn connect_readers_sync(&self) -> Result<()> {
        self.open_sync()?;
        let mut turns: Vec<Turn<'_>> = (0..READERS).map(|_| self.shared.readers.turn()).collect();
        let generation = self.shared.generation.load(Ordering::Acquire);
        for turn in &mut turns {
            if turn
                .reader
                .as_ref()
                .is_none_or(|reader| reader.generation != generation)
            {
                let connected = self.shared.connect_reader(generation);
                turn.reader = Some(connected.map_err(|error| self.shared.convert(&error))?);
            }
        }
        Ok(())
    }

    /// Runs `query` on a pooled reader, inside one snapshot.
    ///
    /// # Errors
    /// `TimedOut`: it ran longer than `deadline` and was stopped. Otherwise what the disk refuses; a file that turns out
    /// to be damaged is put aside, so that the next call starts with a good one.
    pub fn read_sync<T>(
        &self,
        deadline: Option<Duration>,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        self.open_sync()?;
        let shared = &self.shared;
        let generation = shared.generation.load(Ordering::Acquire);
        let outcome = {
            let mut turn = shared.readers.turn();
            let connected = match turn
                .reader
                .take()
                .filter(|reader| reader.generation == generation)
            {
                Some(reader) => Ok(reader),
                None => shared.connect_reader(generation),
            };
            connected.and_then(|mut reader| {
                // A query that panics takes its connection with it.
                let outcome = in_snapshot(&mut reader.connection, deadline, query);
                turn.reader = Some(reader);
                outcome
            })
        };
        outcome.map_err(|error| shared.failed(&error, generation))
    }

    /// Runs `change` on the writer inside one transaction: all of it happens, or nothing.
    ///
    /// # Errors
    /// `ReadOnly`, `DiskFull`, `DiskError`: nothing was changed.
    pub fn write_sync<T>(&self, change: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let shared = &self.shared;
        let outcome = {
            let mut writer = locked(&shared.writer);
            if shared.read_only.load(Ordering::Acquire) && !shared.not_writable() {
                shared.drop_connections(&mut writer);
            }
            shared.open_locked(&mut writer)?;
            let generation = shared.generation.load(Ordering::Acquire);
            let Some(connection) = writer.as_mut() else {
                return Err(shared.refusal());
            };
            in_transaction(connection, change).map_err(|error| (error, generation))
        };
        outcome.map_err(|(error, generation)| shared.failed(&error, generation))
    }

    /// Copies what was written so far out of the journal into the file, beside further writes.
    ///
    /// What the disk refuses is met by the writer, too, and told there.
    pub fn checkpoint_sync(&self) {
        if self.shared.open.load(Ordering::Acquire) && !self.shared.read_only.load(Ordering::Acquire) {
            let _ = opening::checkpoint(&self.shared.path);
        }
    }

    /// Gives back the memory and the room on disk that much writing took.
    pub fn settle_sync(&self) {
        if let Some(writer) = locked(&self.shared.writer).as_ref() {
            // What is not given back is used again.
            let _ = opening::shorten_journal(&self.shared.path, writer);
            let _ = writer.execute_batch("PRAGMA shrink_memory");
        }
    }

    /// Makes or renews the copy that would take the place of a damaged file, when there is need. Returns whether one was
    /// made. `stopped` is asked every few MiB.
    ///
    /// # Errors
    /// What the disk refused; an older copy is as it was.
    pub fn keep_copy_sync(&self, stopped: &dyn Fn() -> bool) -> Result<bool> {
        self.open_sync()?;
        let (path, version) = (self.path(), self.shared.schema.version);
        if self.shared.read_only.load(Ordering::Acquire) {
            return Ok(false);
        }
        let filled = self.read_sync(None, |c| {
            if !copy::is_due(c, path, version)? {
                return Ok(None);
            }
            let unfinished = copy::Unfinished::beside(path);
            Ok(unfinished.fill(c, stopped)?.then_some(unfinished))
        })?;
        match filled {
            Some(copy) => copy.keep(path).map(|()| true),
            None => Ok(false),
        }
    }

    /// [`Database::read_sync`] in a worker thread.
    ///
    /// # Errors
    /// As there.
    pub async fn read<T: Send + 'static>(
        &self,
        deadline: Option<Duration>,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        // More threads than readers would only wait for each other.
        let _turn = self.shared.reads.acquire().await.map_err(bug)?;
        let database = self.clone();
        tokio::task::spawn_blocking(move || database.read_sync(deadline, query))
            .await
            .map_err(bug)?
    }

    /// [`Database::write_sync`] in a worker thread.
    ///
    /// # Errors
    /// As there.
    pub async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let _turn = self.shared.writes.acquire().await.map_err(bug)?;
        let database = self.clone();
        tokio::task::spawn_blocking(move || database.write_sync(change))
            .await
            .map_err(bug)?
    }
}

fn bug(error: impl std::fmt::Display) -> Error {
    Error::Bug(error.to_string())
}

impl Shared {
    fn file_name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Converts a failure, and puts the file aside when it says that the file is damaged.
    ///
    /// `generation` is that of the connection that met it: what came after is another file, and good.
    fn failed(&self, error: &rusqlite::Error, generation: u64) -> Error {
        if is_damage(error) {
            let mut writer = locked(&self.writer);
            let current = self.generation.load(Ordering::Acquire) == generation;
            if current && self.open.load(Ordering::Acquire) && !self.read_only.load(Ordering::Acquire) {
                let _ = self.quarantine(&mut writer, &message(error), "damaged");
            }
        }
        self.convert(error)
    }

    fn convert(&self, error: &rusqlite::Error) -> Error {
        let name = self.file_name();
        let code = error.sqlite_error_code();
        let folder = self.path.parent().unwrap_or_else(|| Path::new("/"));
        match code {
            Some(ErrorCode::OperationInterrupted) => Error::TimedOut(
                "The query took too long and was stopped; use more specific words.".to_owned(),
            ),
            Some(ErrorCode::DiskFull) => disk_full(&format!("Writing {name}")),
            Some(ErrorCode::ReadOnly) => self.refusal(),
            // SQLite knows a full disk, but calls a used-up quota an I/O error, and a disk that became read-only, too.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => match why_not_written(folder) {
                Some(Error::DiskFull(_)) => disk_full(&format!("Writing {name}")),
                Some(Error::ReadOnly(_)) => self.refusal(),
                _ => Error::DiskError(format!("{name}: {}.", message(error))),
            },
            Some(_) => Error::DiskError(format!("{name}: {}.", message(error))),
            None if is_damage(error) => Error::DiskError(format!("{name}: {error}.")),
            None => Error::Bug(format!("{name}: {error}")),
        }
    }
}

impl Readers {
    fn turn(&self) -> Turn<'_> {
        let idle = locked(&self.idle);
        let waited = self.returned.wait_while(idle, |idle| idle.is_empty());
        let mut idle = waited.unwrap_or_else(PoisonError::into_inner);
        // The most recently used one, whose pages are still in its cache.
        Turn {
            readers: self,
            reader: idle.pop().flatten(),
        }
    }
}

/// The right to read with one connection, given back when it is dropped.
struct Turn<'a> {
    readers: &'a Readers,
    reader: Option<Reader>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        locked(&self.readers.idle).push(self.reader.take());
        self.readers.returned.notify_one();
    }
}

fn in_snapshot<T>(
    connection: &mut Connection,
    deadline: Option<Duration>,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    if let Some(deadline) = deadline {
        let end = Instant::now() + deadline;
        connection.progress_handler(STEPS_PER_CHECK, Some(move || Instant::now() > end))?;
    }
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Deferred);
    let outcome = transaction.and_then(|transaction| {
        let outcome = query(&transaction);
        let ended = transaction.rollback();
        outcome.and_then(|value| ended.map(|()| value))
    });
    if deadline.is_some() {
        connection.progress_handler(0, None::<fn() -> bool>)?;
    }
    outcome
}

fn in_transaction<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = change(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

/// A value of a type that our statements never wrote is damage, too.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    match error {
        FromSqlConversionFailure(..)
        | IntegralValueOutOfRange(..)
        | InvalidColumnType(..)
        | Utf8Error(..) => true,
        other => matches!(
            other.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ),
    }
}

/// SQLite's own words.
fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod copy_tests;
#[cfg(test)]
mod tests;
