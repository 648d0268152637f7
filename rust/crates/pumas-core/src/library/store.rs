//! The index's SQL: rows of models and folders, written in batches that are seen whole or not at all.
//!
//! Every function takes a connection inside a transaction that [`crate::storage::database`] began. This file has what
//! `writing` and `reading` share. What the rows mean is known to [`crate::library::entry`] and
//! [`crate::library::reconcile`]; search has its own SQL.

use rusqlite::{Connection, Result, Row, params_from_iter};

mod reading;
mod writing;

pub use reading::{
    FolderAbove, LibraryState, Mappable, Referencing, Totals, any_model, children, children_until, contains,
    derived, entry_objects, folder, folders_above_models, from_hub, ids, ids_by_primary_size, ids_by_sha256,
    ids_of_duplicates, mappable, model_count, referencing, state, totals, troubles,
};
pub use writing::{Batch, Changes, RENEWAL, apply, finish_scan, merge_search_segments, set_states};

/// The parent of the library's own row.
pub const ROOT_PARENT: &str = "/";

/// When a file was changed last (nanoseconds since 1970), its size in bytes, its inode. Zeros for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Bytes.
    pub size: i64,
    /// Of the file.
    pub inode: i64,
}

/// What a folder looked like when it was read; one row of the table `folders` (see `contracts/schema/models.sql`).
#[expect(missing_docs, reason = "the schema documents the columns")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderStamp {
    pub parent: String,
    pub name: String,
    pub mtime_ns: i64,
    pub inode: i64,
    pub settled: bool,
    pub is_model: bool,
    pub inside: bool,
    pub has_children: bool,
    pub witness: String,
    pub witness_stamp: Stamp,
}

impl FolderStamp {
    /// A folder of which nothing is known but its place.
    #[must_use]
    pub fn at(path: &str) -> Self {
        let (parent, name) = split(path);
        Self {
            parent: parent.to_owned(),
            name: name.to_owned(),
            ..Self::default()
        }
    }

    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            parent: row.get(0)?,
            name: row.get(1)?,
            mtime_ns: row.get(2)?,
            inode: row.get(3)?,
            settled: row.get(4)?,
            is_model: row.get(5)?,
            inside: row.get(6)?,
            has_children: row.get(7)?,
            witness: row.get(8)?,
            witness_stamp: Stamp {
                mtime_ns: row.get(9)?,
                size: row.get(10)?,
                inode: row.get(11)?,
            },
        })
    }
}

/// (parent, name) of a folder as the table knows it; the library itself is `/` and no name.
#[must_use]
pub fn split(path: &str) -> (&str, &str) {
    if path.is_empty() {
        return (ROOT_PARENT, "");
    }
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The first column of all rows.
fn texts<S: AsRef<str>>(c: &Connection, sql: &str, values: &[S]) -> Result<Vec<String>> {
    let mut statement = c.prepare_cached(sql)?;
    let rows = statement.query_map(params_from_iter(values.iter().map(AsRef::as_ref)), |row| {
        row.get(0)
    })?;
    rows.collect()
}
