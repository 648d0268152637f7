//! SQL of the hub's cache: answers by what was asked. All calls block.
//!
//! The cache is an aid: where it cannot be read or written (a full disk, a read-only root), the hub is asked again, and
//! that is all.

use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::config::Layout;
use crate::contracts::schema;
use crate::error::Result;
use crate::library::hashing::Stamp;
use crate::storage::database::{Content, Database, Schema, Synchronous};

const MAX_DIGESTS: i64 = 20_000;
const MAX_ANSWERS: i64 = 5_000;
const MAX_TOTAL_BYTES: i64 = 64 * 1024 * 1024;
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
const MAX_JSON_BYTES: usize = 64 * 1024 * 1024;
const FASTEST: u8 = 1;

#[derive(Clone)]
pub(super) struct HubStore {
    database: Database,
}

impl HubStore {
    pub(super) fn new(layout: &Layout) -> Result<Self> {
        let schema = Schema::new(schema::HUB)?;
        let told = |_: &std::path::Path, _: &str| {};
        let database = Database::new(
            layout.hub_db(),
            schema,
            Content::Disposable { renewal: None },
            Synchronous::Normal,
            Box::new(told),
        );
        Ok(Self { database })
    }

    /// When it was fetched (seconds since 1970), and the answer as JSON; `None` when nothing is kept.
    pub(super) fn answer(&self, key: &str) -> Option<(f64, Vec<u8>)> {
        let query = |c: &Connection| {
            let mut statement = c.prepare_cached("SELECT fetched_at, body FROM answers WHERE key = ?")?;
            statement
                .query_row([key], |row| {
                    Ok((row.get::<_, f64>(0)?, row.get::<_, Vec<u8>>(1)?))
                })
                .optional()
        };
        if !self.database.path().exists() {
            return None;
        }
        let (fetched_at, packed) = tried(self.database.read_sync(None, query))??;
        let body = decompress_to_vec_zlib_with_limit(&packed, MAX_JSON_BYTES).ok()?;
        Some((fetched_at, body))
    }

    /// Keep an answer, and forget the oldest ones beyond what there is room for.
    pub(super) fn keep(&self, key: &str, fetched_at: f64, answer: &[u8]) {
        let body = compress_to_vec_zlib(answer, FASTEST);
        if body.len() > MAX_BODY_BYTES {
            return;
        }
        let change = |c: &Connection| {
            c.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)",
                params![key, fetched_at, body],
            )?;
            c.execute(
                "DELETE FROM answers WHERE key IN (SELECT key FROM (SELECT key, row_number() OVER newest AS place, \
                 sum(length(body)) OVER newest AS bytes FROM answers \
                 WINDOW newest AS (ORDER BY fetched_at DESC, key)) WHERE place > ? OR bytes > ?)",
                params![MAX_ANSWERS, MAX_TOTAL_BYTES],
            )
        };
        tried(self.database.write_sync(change));
    }

    /// The SHA-256 of the file as it is now, when it was hashed before.
    pub(super) fn digest(&self, stamp: Stamp) -> Option<String> {
        let query = |c: &Connection| {
            let sql = "SELECT sha256 FROM digests WHERE (device, inode, size, mtime_ns) = (?, ?, ?, ?)";
            let [device, inode, size] = [stamp.device, stamp.inode, stamp.size].map(u64::cast_signed);
            c.prepare_cached(sql)?
                .query_row(params![device, inode, size, stamp.mtime_ns], |row| row.get(0))
                .optional()
        };
        if !self.database.path().exists() {
            return None;
        }
        tried(self.database.read_sync(None, query))?
    }

    pub(super) fn keep_digest(&self, stamp: Stamp, sha256: &str) {
        let hashed_at = jiff::Timestamp::now().as_duration().as_secs_f64();
        let change = |c: &Connection| {
            // Device and inode numbers are unsigned 64 bit on some file systems, SQLite's integers are signed.
            let [device, inode, size] = [stamp.device, stamp.inode, stamp.size].map(u64::cast_signed);
            c.execute(
                "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)",
                params![device, inode, size, stamp.mtime_ns, sha256, hashed_at],
            )?;
            c.execute(
                "DELETE FROM digests WHERE rowid IN \
                 (SELECT rowid FROM digests ORDER BY hashed_at DESC LIMIT -1 OFFSET ?)",
                [MAX_DIGESTS],
            )
        };
        tried(self.database.write_sync(change));
    }

    pub(super) fn close_sync(&self) {
        self.database.close_sync();
    }
}

fn tried<T>(done: Result<T>) -> Option<T> {
    done.inspect_err(|error| tracing::debug!("the hub's cache cannot be used now: {error}"))
        .ok()
}
