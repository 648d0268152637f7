//! The door to SQLite: one writer, pooled readers, one transaction per write, damaged files put aside.
//!
//! A domain hands in its schema (`contracts/schema/<name>.sql`, with `PRAGMA user_version` as its version) and closures
//! that take a connection. SQL itself lives in the domain's store. The calls that end in `_sync` block; the others are
//! for the runtime and never do.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::Access;

use crate::error::{Error, Result};
use crate::storage::files::{aside_name, disk_full, has_no_room, reason};
use crate::storage::locked;

/// So many reads go on at once.
pub const READERS: usize = 4;

const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
const CLOSE_WAIT: Duration = Duration::from_millis(200);
const PAGE_BYTES: u32 = 4096;
const JOURNAL_PAGES: u32 = 2000;
/// What can be made again is made in bulk: the longer its journal, the fewer pages are written and synced twice.
const BULK_JOURNAL_PAGES: u32 = 16_000;
/// How many SQLite virtual-machine steps run between two looks at the clock: about a millisecond.
const STEPS_PER_CHECK: i32 = 20_000;
const PREPARED_STATEMENTS: usize = 64;

/// SQL that creates everything in an empty database, and the version it carries in `PRAGMA user_version`.
#[derive(Debug, Clone)]
pub struct Schema {
    sql: &'static str,
    version: i64,
}

/// Name and text of every table, index and trigger of a database.
type Objects = BTreeSet<(String, String)>;

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

    fn objects(&self) -> rusqlite::Result<Objects> {
        let memory = Connection::open_in_memory()?;
        memory.execute_batch(self.sql)?;
        objects(&memory)
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
    Disposable,
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

/// Why a file could not be opened as our database.
enum OpenFailure {
    /// It is no database of ours; the label becomes part of its new name.
    Foreign {
        reason: String,
        label: &'static str,
    },
    Sqlite(rusqlite::Error),
    Refused(Error),
}

impl From<rusqlite::Error> for OpenFailure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
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

    fn refusal(&self) -> Error {
        Error::ReadOnly(format!(
            "{} is on a read-only file system or may not be written by this user.",
            self.file_name()
        ))
    }

    fn newer(&self, version: i64) -> Error {
        Error::NewerSchema(format!(
            "{} was written by a newer version (schema {version}, this one knows {}); update, or move the file away to \
             start anew.",
            self.file_name(),
            self.schema.version
        ))
    }

    // -- opening -----------------------------------------------------------------------------------------------------

    fn open_locked(&self, writer: &mut Option<Connection>) -> Result<()> {
        if self.open.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.not_writable() {
            return self.open_read_only();
        }
        let (reason, label) = match self.connect_writer() {
            Ok(connection) => {
                self.opened(writer, connection);
                return Ok(());
            }
            Err(OpenFailure::Refused(error)) => return Err(error),
            Err(OpenFailure::Foreign { reason, label }) => (reason, label),
            Err(OpenFailure::Sqlite(error)) if is_damage(&error) => (message(&error), "damaged"),
            Err(OpenFailure::Sqlite(error)) => return Err(self.convert(&error)),
        };
        self.quarantine(writer, &reason, label)?;
        match self.connect_writer() {
            Ok(connection) => {
                self.opened(writer, connection);
                Ok(())
            }
            Err(OpenFailure::Refused(error)) => Err(error),
            Err(OpenFailure::Foreign { reason, .. }) => {
                Err(Error::DiskError(format!("{}: {reason}.", self.file_name())))
            }
            Err(OpenFailure::Sqlite(error)) => Err(self.convert(&error)),
        }
    }

    fn opened(&self, writer: &mut Option<Connection>, connection: Connection) {
        *writer = Some(connection);
        self.open.store(true, Ordering::Release);
    }

    /// access(2) says so for read-only file systems too, also to root.
    fn not_writable(&self) -> bool {
        let folder = self.path.parent().unwrap_or_else(|| Path::new("/"));
        let writable = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
        folder.is_dir() && !(writable(folder) && (!self.path.exists() || writable(&self.path)))
    }

    /// Serves what is there. Where no shared-memory file can be made SQLite reads only what is declared immutable.
    fn open_read_only(&self) -> Result<()> {
        if !self.path.is_file() {
            return Err(self.refusal());
        }
        let version = self
            .connect_immutable()
            .and_then(|connection| user_version(&connection));
        let version = version.map_err(|error| self.convert(&error))?;
        if version > self.schema.version {
            return Err(self.newer(version));
        }
        if version < self.schema.version {
            return Err(self.refusal());
        }
        self.read_only.store(true, Ordering::Release);
        self.open.store(true, Ordering::Release);
        Ok(())
    }

    fn connect_immutable(&self) -> rusqlite::Result<Connection> {
        let path = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut uri = String::from("file:");
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                    uri.push(char::from(*byte));
                }
                _ => {
                    let _ = write!(uri, "%{byte:02X}");
                }
            }
        }
        uri.push_str("?mode=ro&immutable=1");
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(uri, flags)
    }

    fn connect_writer(&self) -> Result<Connection, OpenFailure> {
        self.prepare_place()?;
        let connection = connect(&self.path)?;
        let synchronous = match self.synchronous {
            Synchronous::Normal => "NORMAL",
            Synchronous::Full => "FULL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        tune(&connection)?;
        let version = user_version(&connection)?;
        let empty: bool =
            connection.query_row("SELECT count(*) = 0 FROM sqlite_master", [], |row| row.get(0))?;
        if version > self.schema.version {
            return Err(OpenFailure::Refused(self.newer(version)));
        }
        // Only now: the pragma writes into the file, and a newer version's file is left as it is.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        let pages = if self.is_disposable() {
            BULK_JOURNAL_PAGES
        } else {
            JOURNAL_PAGES
        };
        connection.pragma_update(None, "wal_autocheckpoint", pages)?;
        connection.pragma_update(None, "journal_size_limit", JOURNAL_PAGES * PAGE_BYTES)?;
        if empty {
            connection.execute_batch(&format!("BEGIN IMMEDIATE;\n{}\nCOMMIT;", self.schema.sql))?;
        } else if version < self.schema.version {
            self.upgrade(&connection, version)?;
        } else {
            self.check_objects(&connection)?;
        }
        Ok(connection)
    }

    fn is_disposable(&self) -> bool {
        matches!(self.content, Content::Disposable)
    }

    /// Makes the folder. A folder or FIFO under our name is put aside before SQLite can hang on it; an emptied file is told.
    fn prepare_place(&self) -> Result<(), OpenFailure> {
        let refused = |error: io::Error| {
            OpenFailure::Refused(Error::DiskError(format!(
                "{}: {}.",
                self.file_name(),
                reason(&error)
            )))
        };
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(refused)?;
        }
        let foreign = |reason: &str| OpenFailure::Foreign {
            reason: reason.to_owned(),
            label: "damaged",
        };
        match self.path.metadata() {
            Ok(status) if !status.is_file() => Err(foreign("not a regular file")),
            Ok(status) if status.len() == 0 => Err(foreign("the file is empty")),
            _ => Ok(()),
        }
    }

    fn check_objects(&self, connection: &Connection) -> Result<(), OpenFailure> {
        let (found, expected) = (objects(connection)?, self.schema.objects()?);
        let foreign = |reason: &str| OpenFailure::Foreign {
            reason: reason.to_owned(),
            label: "foreign",
        };
        if self.is_disposable() && found != expected {
            return Err(foreign("another program changed its tables"));
        }
        let names: BTreeSet<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        if expected.iter().all(|(name, _)| names.contains(name.as_str())) {
            Ok(())
        } else {
            Err(foreign("its tables are missing"))
        }
    }

    fn upgrade(&self, connection: &Connection, version: i64) -> Result<(), OpenFailure> {
        let Content::Migrated(migrate) = self.content else {
            let reason = format!("schema {version}, expected {}", self.schema.version);
            return Err(OpenFailure::Foreign {
                reason,
                label: "older",
            });
        };
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        migrate(&transaction, version)?;
        transaction.pragma_update(None, "user_version", self.schema.version)?;
        Ok(transaction.commit()?)
    }

    /// Puts the file and its journals aside under a dated name. Nothing is deleted.
    fn quarantine(&self, writer: &mut Option<Connection>, reason: &str, label: &str) -> Result<()> {
        self.drop_connections(writer);
        let kept = aside_name(&self.path, label);
        for suffix in ["-wal", "-shm"] {
            let _ = fs::rename(with_suffix(&self.path, suffix), with_suffix(&kept, suffix));
        }
        match fs::rename(&self.path, &kept) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                let (name, why) = (self.file_name(), crate::storage::files::reason(&error));
                return Err(Error::DiskError(format!(
                    "{name} is damaged and cannot be moved: {why}."
                )));
            }
        }
        (self.on_quarantine)(&kept, reason);
        Ok(())
    }

    fn drop_connections(&self, writer: &mut Option<Connection>) {
        self.open.store(false, Ordering::Release);
        self.read_only.store(false, Ordering::Release);
        self.generation.fetch_add(1, Ordering::AcqRel);
        *writer = None;
    }

    // -- use ---------------------------------------------------------------------------------------------------------

    fn connect_reader(&self, generation: u64) -> rusqlite::Result<Reader> {
        let read_only = self.read_only.load(Ordering::Acquire);
        let connection = if read_only {
            self.connect_immutable()?
        } else {
            connect(&self.path)?
        };
        connection.pragma_update(None, "query_only", true)?;
        tune(&connection)?;
        Ok(Reader {
            connection,
            generation,
        })
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
            // SQLite knows a full disk, but calls a used-up quota an I/O error.
            Some(ErrorCode::SystemIoFailure) if has_no_room(folder) => disk_full(&format!("Writing {name}")),
            Some(ErrorCode::ReadOnly) => self.refusal(),
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

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn tune(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -2048)
}

fn user_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn objects(connection: &Connection) -> rusqlite::Result<Objects> {
    let sql = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_stat%'";
    connection
        .prepare(sql)?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
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
mod tests;
