//! Batches, and what else is written into the index.

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension as _, Result, params};

use super::{FolderStamp, texts};
use crate::library::entry::IndexEntry;
use crate::storage::troubles::Trouble;

const COLUMNS: [&str; 30] = [
    "id",
    "path",
    "cleaned_name",
    "official_name",
    "model_type",
    "tags_json",
    "hashes_json",
    "metadata_json",
    "updated_at",
    "subtype",
    "family",
    "tags",
    "description",
    "kinds",
    "facets",
    "other_names",
    "name_key",
    "added_date",
    "last_used",
    "size_bytes",
    "primary_file",
    "primary_size",
    "sha256",
    "repo_id",
    "security_tier",
    "related_available",
    "pending_lookup",
    "derived",
    "storage",
    "state",
];
const SEARCH_NEW_ROWS: &str = "\
    INSERT INTO model_search (rowid, official_name, other_names, model_type, tags, family, description, kinds, facets) \
    SELECT row, official_name, other_names, model_type, tags, family, description, kinds, facets \
    FROM models WHERE row > ? ORDER BY row";
/// An older index that is used again begins at a revision that no earlier one had, as a new one does (see the schema).
pub const RENEWAL: &str = "\
    UPDATE library_state \
    SET revision = 1000000 + max(revision, 1000000 * CAST(strftime('%s', 'now') AS INTEGER))";
/// A batch of at least so many rows is one of many: segments are merged when all are written.
const BULK: usize = 500;
const SEGMENTS: i64 = 16;
const SEGMENTS_IN_BULK: i64 = 1000;

/// A row that is there and equal is left alone: no trigger runs, no change is told.
static UPSERT_MODEL: LazyLock<String> = LazyLock::new(|| {
    let of = |table: &str| COLUMNS.map(|name| format!("{table}.{name}")).join(", ");
    let updates: Vec<String> = COLUMNS
        .iter()
        .filter(|name| **name != "id")
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    format!(
        "INSERT INTO models ({}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET {} WHERE ({}) IS NOT ({})",
        COLUMNS.join(", "),
        ["?"; COLUMNS.len()].join(", "),
        updates.join(", "),
        of("excluded"),
        of("models")
    )
});

/// What one transaction changes.
#[derive(Debug, Default)]
pub struct Batch {
    /// Rows that are new or may have changed.
    pub entries: Vec<IndexEntry>,
    /// Folders that were looked at.
    pub folders: Vec<FolderStamp>,
    /// Models that are none any more.
    pub removed_models: Vec<String>,
    /// Folders that are gone with all that was below them.
    pub removed_trees: Vec<String>,
    /// Folder to what is wrong in it now; an empty list clears what was known.
    pub troubles: BTreeMap<String, Vec<Trouble>>,
}

impl Batch {
    /// How much work it is, in rows of models.
    #[must_use]
    pub fn size(&self) -> usize {
        let rows = self.entries.len() + self.removed_models.len() + self.removed_trees.len();
        rows + self.folders.len() / 8 + self.troubles.len() / 8
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.size() == 0 && self.folders.is_empty() && self.troubles.is_empty()
    }
}

/// What a batch did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Ids of models that were not there before.
    pub added: Vec<String>,
    /// Ids of models whose row is another now.
    pub changed: Vec<String>,
    /// Ids of models that are gone.
    pub removed: Vec<String>,
    /// Subjects of troubles that are gone.
    pub cleared: Vec<String>,
}

impl Changes {
    /// How many models it is about.
    #[must_use]
    pub fn count(&self) -> usize {
        self.added.len() + self.changed.len() + self.removed.len()
    }
}

/// Writes a batch. The revision grows when a model changed.
pub fn apply(c: &Connection, batch: &Batch) -> Result<Changes> {
    let mut changes = Changes::default();
    for tree in &batch.removed_trees {
        remove_tree(c, tree, &mut changes)?;
    }
    for id in &batch.removed_models {
        changes
            .removed
            .extend(texts(c, "DELETE FROM models WHERE id = ? RETURNING id", &[id])?);
    }
    if !batch.entries.is_empty() {
        write_entries(c, &batch.entries, &mut changes)?;
    }
    replace_folders(c, &batch.folders)?;
    for (folder, troubles) in &batch.troubles {
        changes.cleared.extend(texts(
            c,
            "DELETE FROM troubles WHERE folder = ? RETURNING subject",
            &[folder],
        )?);
        for trouble in troubles {
            c.prepare_cached("INSERT OR REPLACE INTO troubles VALUES (?, ?, ?, ?)")?
                .execute(params![folder, trouble.subject, trouble.kind, trouble.message])?;
        }
    }
    if changes.count() > 0 {
        c.execute("UPDATE library_state SET revision = revision + 1", [])?;
    }
    Ok(changes)
}

fn write_entries(c: &Connection, entries: &[IndexEntry], changes: &mut Changes) -> Result<()> {
    if entries.len() >= BULK {
        merge_segments_from(c, SEGMENTS_IN_BULK)?;
    }
    let newest: i64 = c.query_row("SELECT coalesce(max(row), 0) FROM models", [], |row| row.get(0))?;
    c.execute("UPDATE library_state SET searchable = ?", [newest])?;
    let mut upsert = c.prepare_cached(&UPSERT_MODEL)?;
    let mut written = Vec::new();
    for entry in entries {
        if upsert.execute(&columns(entry)[..])? > 0 {
            written.push(&entry.id);
        }
    }
    // Each row that says its id makes a table of its own for that: the new ones are asked for all at once.
    let mut new_rows = c.prepare_cached("SELECT id FROM models WHERE row > ? ORDER BY row")?;
    let added: Vec<String> = new_rows
        .query_map([newest], |row| row.get(0))?
        .collect::<Result<_>>()?;
    if !added.is_empty() {
        c.execute(SEARCH_NEW_ROWS, [newest])?;
    }
    let new: HashSet<&String> = added.iter().collect();
    changes
        .changed
        .extend(written.into_iter().filter(|id| !new.contains(id)).cloned());
    changes.added.extend(added);
    c.execute("UPDATE library_state SET searchable = ?", [i64::MAX])?;
    Ok(())
}

/// The values of a row in the order of [`COLUMNS`].
fn columns(e: &IndexEntry) -> [&dyn ToSql; COLUMNS.len()] {
    [
        &e.id,
        &e.id,
        &e.cleaned_name,
        &e.official_name,
        &e.model_type,
        &e.tags_json,
        &e.hashes_json,
        &e.metadata_json,
        &e.updated_at,
        &e.subtype,
        &e.family,
        &e.tags,
        &e.description,
        &e.kinds,
        &e.facets,
        &e.other_names,
        &e.name_key,
        &e.added_date,
        &e.last_used,
        &e.size_bytes,
        &e.primary_file,
        &e.primary_size,
        &e.sha256,
        &e.repo_id,
        &e.security_tier,
        &e.related_available,
        &e.pending_lookup,
        &e.derived,
        &e.storage,
        &e.state,
    ]
}

fn replace_folders(c: &Connection, folders: &[FolderStamp]) -> Result<()> {
    let mut replace =
        c.prepare_cached("INSERT OR REPLACE INTO folders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    for f in folders {
        let witness = &f.witness_stamp;
        replace.execute(params![
            f.parent,
            f.name,
            f.mtime_ns,
            f.inode,
            f.settled,
            f.is_model,
            f.inside,
            f.has_children,
            f.witness,
            witness.mtime_ns,
            witness.size,
            witness.inode
        ])?;
    }
    Ok(())
}

/// <https://www.sqlite.org/fts5.html#the_crisismerge_configuration_option>
fn merge_segments_from(c: &Connection, count: i64) -> Result<()> {
    c.execute(
        "INSERT INTO model_search (model_search, rank) VALUES ('crisismerge', ?)",
        [count],
    )?;
    Ok(())
}

fn remove_tree(c: &Connection, path: &str, changes: &mut Changes) -> Result<()> {
    // "0" follows "/" in the alphabet, so [path/, path0) is everything below path.
    let (below, end) = (format!("{path}/"), format!("{path}0"));
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let sql = "DELETE FROM models WHERE id = ? OR (id >= ? AND id < ?) RETURNING id";
    changes.removed.extend(texts(c, sql, &[path, &below, &end])?);
    c.prepare_cached(
        "DELETE FROM folders WHERE (parent = ? AND name = ?) OR parent = ? OR (parent >= ? AND parent < ?)",
    )?
    .execute([parent, name, path, &below, &end])?;
    let sql = "DELETE FROM troubles WHERE folder = ? OR (folder >= ? AND folder < ?) RETURNING subject";
    changes.cleared.extend(texts(c, sql, &[path, &below, &end])?);
    Ok(())
}

/// Writes (id, state) pairs. The revision grows when one of them was another.
pub fn set_states(c: &Connection, states: &[(String, &'static str)]) -> Result<Changes> {
    let mut changes = Changes::default();
    for (id, state) in states {
        let sql = "UPDATE models SET state = ? WHERE id = ? AND state <> ? RETURNING id";
        changes
            .changed
            .extend(texts(c, sql, &[state, id.as_str(), state])?);
    }
    if changes.count() > 0 {
        c.execute("UPDATE library_state SET revision = revision + 1", [])?;
    }
    Ok(changes)
}

/// Writes down that a look at the disk was finished at `moment`. `root` is device and inode of the library's folder.
pub fn finish_scan(c: &Connection, root: (i64, i64), moment: &str) -> Result<()> {
    let sql = "UPDATE library_state SET root_device = ?, root_inode = ?, last_scan = ?";
    c.execute(sql, params![root.0, root.1, moment])?;
    Ok(())
}

/// Does a bounded piece of the merging that was put off in bulk; true while there may be more to do.
///
/// <https://www.sqlite.org/fts5.html#the_merge_command>
pub fn merge_search_segments(c: &Connection) -> Result<bool> {
    let sql = "SELECT v FROM model_search_config WHERE k = 'crisismerge'";
    let known: Option<i64> = c.query_row(sql, [], |row| row.get(0)).optional()?;
    if known != Some(SEGMENTS_IN_BULK) {
        return Ok(false);
    }
    let before = c.total_changes();
    c.execute(
        "INSERT INTO model_search (model_search, rank) VALUES ('merge', -200)",
        [],
    )?;
    if c.total_changes() - before >= 2 {
        return Ok(true);
    }
    merge_segments_from(c, SEGMENTS)?;
    Ok(false)
}
