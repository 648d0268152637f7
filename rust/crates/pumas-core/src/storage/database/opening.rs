//! Opening a database file: as ours, or read-only, or put aside under a dated name when it cannot be used.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::Access;

use super::copy::put_in_place;
use super::{
    BULK_CACHE_KIB, BULK_JOURNAL_PAGES, BUSY_TIMEOUT, CACHE_KIB, Content, DAMAGED_FILES, JOURNAL_PAGES,
    PAGE_BYTES, PREPARED_STATEMENTS, Reader, Schema, Shared, Synchronous, is_damage, message,
};
use crate::error::{Error, Result};
use crate::storage::files::{aside_name, disk_error};

/// Name and text of every table, index and trigger of a database.
type Objects = BTreeSet<(String, String)>;

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

impl Schema {
    fn objects(&self) -> rusqlite::Result<Objects> {
        let memory = Connection::open_in_memory()?;
        memory.execute_batch(self.sql)?;
        objects(&memory)
    }
}

impl Shared {
    pub(super) fn refusal(&self) -> Error {
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

    pub(super) fn open_locked(&self, writer: &mut Option<Connection>) -> Result<()> {
        if self.open.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.not_writable() {
            return self.open_read_only();
        }
        // What cannot be used is put aside: the file, then the copy that took its place; then there is a new one.
        for _ in 0..DAMAGED_FILES {
            let (reason, label) = match self.connect_writer() {
                Ok(connection) => {
                    self.opened(writer, connection);
                    return Ok(());
                }
                Err(OpenFailure::Refused(error)) => return Err(error),
                Err(OpenFailure::Foreign { reason, label }) => (reason, label),
                Err(OpenFailure::Sqlite(error)) if is_damage(&error) => (message(&error), "damaged"),
                Err(OpenFailure::Sqlite(error)) => {
                    return match self.convert(&error) {
                        Error::ReadOnly(_) => self.open_read_only(),
                        failure => Err(failure),
                    };
                }
            };
            self.quarantine(writer, &reason, label)?;
        }
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

    /// access(2) says so for read-only file systems too, also to root; for some, only writing does.
    pub(super) fn not_writable(&self) -> bool {
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
        // A journal that is cut each time it begins anew grows each time, too.
        connection.pragma_update(None, "journal_size_limit", pages * PAGE_BYTES)?;
        if self.is_disposable() {
            connection.pragma_update(None, "cache_size", -BULK_CACHE_KIB)?;
        }
        if empty {
            connection.execute_batch(&format!("BEGIN IMMEDIATE;\n{}\nCOMMIT;", self.schema.sql))?;
        } else if version < self.schema.version {
            self.upgrade(&connection, version)?;
        } else {
            self.check_objects(&connection)?;
            if self.is_copy.load(Ordering::Acquire)
                && let Some(renewal) = self.renewal()
            {
                connection.execute(renewal, [])?;
                self.is_copy.store(false, Ordering::Release);
            }
        }
        Ok(connection)
    }

    fn is_disposable(&self) -> bool {
        matches!(self.content, Content::Disposable { .. })
    }

    fn renewal(&self) -> Option<&'static str> {
        match self.content {
            Content::Disposable { renewal } => renewal,
            Content::Migrated(_) | Content::Kept => None,
        }
    }

    /// Makes the folder. A folder or FIFO under our name is put aside before SQLite can hang on it; an emptied file is told.
    fn prepare_place(&self) -> Result<(), OpenFailure> {
        let refused = |error: io::Error| {
            OpenFailure::Refused(disk_error(&error, &format!("Opening {}", self.file_name())))
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
    pub(super) fn quarantine(
        &self,
        writer: &mut Option<Connection>,
        reason: &str,
        label: &str,
    ) -> Result<()> {
        self.drop_connections(writer);
        let kept = aside_name(&self.path, label);
        for suffix in ["-wal", "-shm"] {
            let _ = fs::rename(with_suffix(&self.path, suffix), with_suffix(&kept, suffix));
        }
        match fs::rename(&self.path, &kept) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                let what = format!("Moving {}, which is damaged", self.file_name());
                return Err(disk_error(&error, &what));
            }
        }
        let is_copy = self.renewal().is_some() && put_in_place(&self.path, self.schema.version);
        self.is_copy.store(is_copy, Ordering::Release);
        (self.on_quarantine)(&kept, reason);
        Ok(())
    }

    pub(super) fn drop_connections(&self, writer: &mut Option<Connection>) {
        self.open.store(false, Ordering::Release);
        self.read_only.store(false, Ordering::Release);
        self.generation.fetch_add(1, Ordering::AcqRel);
        *writer = None;
    }

    pub(super) fn connect_reader(&self, generation: u64) -> rusqlite::Result<Reader> {
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
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// One that waits for nobody, <https://www.sqlite.org/pragma.html#pragma_wal_checkpoint>, on a connection of its own. It
/// makes no file where there is none.
pub(super) fn checkpoint(path: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Copies a long journal into the file and empties it, unless a reader still needs it.
pub(super) fn shorten_journal(path: &Path, writer: &Connection) -> rusqlite::Result<()> {
    let bytes = with_suffix(path, "-wal")
        .metadata()
        .map_or(0, |status| status.len());
    if bytes <= u64::from(JOURNAL_PAGES * PAGE_BYTES) {
        return Ok(());
    }
    writer.busy_timeout(Duration::ZERO)?;
    let emptied = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    writer.busy_timeout(BUSY_TIMEOUT)?;
    emptied
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
    connection.pragma_update(None, "cache_size", -CACHE_KIB)
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
