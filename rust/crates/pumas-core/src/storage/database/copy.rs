//! A copy of a large database whose content could be made again, but not in a moment: beside it, as `<name>.bak`.
//!
//! It takes the place of a file that is damaged. It may be old: whoever fills the database finds what has changed since,
//! as after a time in which the program did not run. It is made in the background, one for every eighth that the
//! database grows, never where the disk is short of room; losing it costs nothing but time.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::error::Result;
use crate::storage::files::{During as _, free_space, fsync_folder, is_odd, temporary_name};

/// A smaller one is made again sooner than anybody notices.
const WORTH_BYTES: u64 = 4 << 20;
const GROWTH: u64 = 8;
const SHARE_OF_FREE_SPACE: u64 = 10;
const PAGES_AT_ONCE: i32 = 1024;
/// <https://www.sqlite.org/fileformat.html#the_database_header>
const HEADER_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
const USER_VERSION: usize = 60;

pub(super) fn copy_path(database: &Path) -> PathBuf {
    super::opening::with_suffix(database, ".bak")
}

/// Whether what `c` sees is large and has grown since it was copied, and there is room for a copy.
pub(super) fn is_due(c: &Connection, database: &Path, version: i64) -> rusqlite::Result<bool> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let size = c.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs();
    if size < WORTH_BYTES {
        return Ok(false);
    }
    let copy = copy_path(database);
    let kept = copy.metadata().map_or(0, |status| status.len());
    let is_current = is_usable(&copy, version) && size <= kept.saturating_mul(GROWTH + 1) / GROWTH;
    let folder = database.parent().unwrap_or_else(|| Path::new("/"));
    let has_room = || free_space(folder).is_ok_and(|free| size.saturating_mul(SHARE_OF_FREE_SPACE) <= free);
    Ok(!is_current && !is_odd(&copy) && has_room())
}

/// A copy that is thrown away unless it is [`Unfinished::keep`]t.
pub(super) struct Unfinished {
    temporary: PathBuf,
}

impl Unfinished {
    pub(super) fn beside(database: &Path) -> Self {
        Self {
            temporary: temporary_name(&copy_path(database)),
        }
    }

    /// Copies what `c` sees inside its transaction. False: `stopped` said so; it is asked every few MiB.
    pub(super) fn fill(&self, c: &Connection, stopped: &dyn Fn() -> bool) -> rusqlite::Result<bool> {
        let mut target = Connection::open(&self.temporary)?;
        // A copy that is cut off is thrown away, so nothing needs a journal.
        target.pragma_update(None, "journal_mode", "OFF")?;
        target.pragma_update(None, "synchronous", "OFF")?;
        let backup = Backup::new(c, &mut target)?;
        while !stopped() {
            if backup.step(PAGES_AT_ONCE)? == StepResult::Done {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives it its name, for good.
    pub(super) fn keep(self, database: &Path) -> Result<()> {
        let copy = copy_path(database);
        File::options()
            .write(true)
            .open(&self.temporary)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.temporary, &copy))
            .and_then(|()| fsync_folder(copy.parent().unwrap_or_else(|| Path::new("/"))))
            .during("Copying a database")
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Gives the copy the name of the database, which is gone. A copy of another schema is removed. Returns whether.
pub(super) fn put_in_place(database: &Path, version: i64) -> bool {
    let copy = copy_path(database);
    if is_usable(&copy, version) {
        let folder = database.parent().unwrap_or_else(|| Path::new("/"));
        return fs::rename(&copy, database)
            .and_then(|()| fsync_folder(folder))
            .is_ok();
    }
    if !is_odd(&copy) {
        let _ = fs::remove_file(&copy); // without it the content is made again
    }
    false
}

fn is_usable(copy: &Path, version: i64) -> bool {
    if is_odd(copy) {
        return false;
    }
    let mut header = [0_u8; HEADER_BYTES];
    let read = File::open(copy).and_then(|mut file| file.read_exact(&mut header));
    let found = header[USER_VERSION..]
        .first_chunk()
        .map(|bytes| i64::from(i32::from_be_bytes(*bytes)));
    read.is_ok() && header.starts_with(MAGIC) && found == Some(version)
}
