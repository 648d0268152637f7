//! The index's SQL: rows of models and folders, written in batches that are seen whole or not at all.
//!
//! Every function takes a connection inside a transaction that [`crate::storage::database`] began. What the rows mean is
//! known to [`crate::library::entry`] and [`crate::library::reconcile`]; search has its own SQL.

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params, params_from_iter};

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
/// The parent of the library's own row.
pub const ROOT_PARENT: &str = "/";

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

/// The one row about the whole library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryState {
    /// Grows with every batch that changed a model.
    pub revision: i64,
    /// Device and inode of the library's folder when it was last read.
    pub root: (i64, i64),
    /// When a look at the disk was last finished, ISO-8601 UTC.
    pub last_scan: Option<String>,
}

// -- writing ---------------------------------------------------------------------------------------------------------

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

/// The first column of all rows.
fn texts<S: AsRef<str>>(c: &Connection, sql: &str, values: &[S]) -> Result<Vec<String>> {
    let mut statement = c.prepare_cached(sql)?;
    let rows = statement.query_map(params_from_iter(values.iter().map(AsRef::as_ref)), |row| {
        row.get(0)
    })?;
    rows.collect()
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

// -- reading ---------------------------------------------------------------------------------------------------------

/// The row about the whole library.
pub fn state(c: &Connection) -> Result<LibraryState> {
    let mut statement =
        c.prepare_cached("SELECT revision, root_device, root_inode, last_scan FROM library_state")?;
    statement.query_row([], |row| {
        Ok(LibraryState {
            revision: row.get(0)?,
            root: (row.get(1)?, row.get(2)?),
            last_scan: row.get(3)?,
        })
    })
}

/// What is known of a folder.
pub fn folder(c: &Connection, path: &str) -> Result<Option<FolderStamp>> {
    let (parent, name) = split(path);
    let mut statement = c.prepare_cached("SELECT * FROM folders WHERE parent = ? AND name = ?")?;
    statement.query_row([parent, name], FolderStamp::read).optional()
}

/// At most `limit` known folders directly in `parent` whose names follow `after`, in order of name.
pub fn children(c: &Connection, parent: &str, after: &str, limit: usize) -> Result<Vec<FolderStamp>> {
    let sql = "SELECT * FROM folders WHERE parent = ? AND name > ? ORDER BY name LIMIT ?";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = c.prepare_cached(sql)?;
    statement
        .query_map(params![parent, after, limit], FolderStamp::read)?
        .collect()
}

/// All known folders directly in `parent` whose names follow `after`, up to `until`.
pub fn children_until(c: &Connection, parent: &str, after: &str, until: &str) -> Result<Vec<FolderStamp>> {
    let sql = "SELECT * FROM folders WHERE parent = ? AND name > ? AND name <= ? ORDER BY name";
    let mut statement = c.prepare_cached(sql)?;
    statement
        .query_map([parent, after, until], FolderStamp::read)?
        .collect()
}

/// A folder that is no model and lies in none: where models may come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderAbove {
    /// Relative to the library; `""` is the library itself.
    pub path: String,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Of the folder.
    pub inode: i64,
}

/// At most `limit` folders that are no models and lie in none.
pub fn folders_above_models(c: &Connection, limit: usize) -> Result<Vec<FolderAbove>> {
    let sql = "SELECT parent, name, mtime_ns, inode FROM folders WHERE is_model = 0 AND inside = 0 LIMIT ?";
    let mut statement = c.prepare_cached(sql)?;
    let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        let (parent, name): (String, String) = (row.get(0)?, row.get(1)?);
        let path = if parent.is_empty() || parent == ROOT_PARENT {
            name
        } else {
            format!("{parent}/{name}")
        };
        Ok(FolderAbove {
            path,
            mtime_ns: row.get(2)?,
            inode: row.get(3)?,
        })
    })?;
    rows.collect()
}

/// Whether one of these folders is a model.
pub fn any_model(c: &Connection, paths: &[&str]) -> Result<bool> {
    for path in paths {
        if folder(c, path)?.is_some_and(|known| known.is_model) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Which of these models have no metadata.
pub fn derived(c: &Connection, ids: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for id in ids {
        found.extend(texts(
            c,
            "SELECT id FROM models WHERE id = ? AND derived = 1",
            &[id],
        )?);
    }
    Ok(found)
}

/// What could not be read, by folder.
pub fn troubles(c: &Connection) -> Result<Vec<Trouble>> {
    let mut statement = c.prepare("SELECT subject, kind, message FROM troubles ORDER BY folder, subject")?;
    let rows = statement.query_map([], |row| {
        Ok(Trouble {
            subject: row.get(0)?,
            kind: row.get(1)?,
            message: row.get(2)?,
        })
    })?;
    rows.collect()
}

/// (parent, name) of a folder as the table knows it; the library itself is `/` and no name.
#[must_use]
pub fn split(path: &str) -> (&str, &str) {
    if path.is_empty() {
        return (ROOT_PARENT, "");
    }
    path.rsplit_once('/').unwrap_or(("", path))
}

/// A model whose files lie elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referencing {
    /// The model.
    pub id: String,
    /// As the index has it.
    pub state: String,
    /// The metadata's `references` (JSON); None where the row does not hold them.
    pub references: Option<String>,
}

/// All models whose files lie elsewhere.
pub fn referencing(c: &Connection) -> Result<Vec<Referencing>> {
    let mut statement = c.prepare(
        "SELECT id, state, CASE json_type(metadata_json, '$.references') WHEN 'array' \
         THEN json_extract(metadata_json, '$.references') END FROM models WHERE storage = 'reference'",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Referencing {
            id: row.get(0)?,
            state: row.get(1)?,
            references: row.get(2)?,
        })
    })?;
    rows.collect()
}

/// How many models there are.
pub fn model_count(c: &Connection) -> Result<i64> {
    c.prepare_cached("SELECT count(*) FROM models")?
        .query_row([], |row| row.get(0))
}

/// Sums over all models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Models.
    pub models: i64,
    /// Bytes.
    pub size: i64,
    /// How many wait for an online look-up.
    pub pending: i64,
}

/// The sums over all models.
pub fn totals(c: &Connection) -> Result<Totals> {
    let sql = "SELECT count(*), coalesce(total(size_bytes), 0) FROM models";
    let (models, size): (i64, f64) = c.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let sql = "SELECT count(*) FROM models WHERE pending_lookup = 1";
    let pending = c.query_row(sql, [], |row| row.get(0))?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast of a float saturates, which is what is wanted"
    )]
    Ok(Totals {
        models,
        size: size as i64,
        pending,
    })
}

/// Models whose primary file has this digest.
pub fn ids_by_sha256(c: &Connection, digest: &str) -> Result<Vec<String>> {
    texts(
        c,
        "SELECT id FROM models INDEXED BY models_by_digest \
         WHERE digest_key = substr(?1, 1, 12) AND sha256 = ?1 AND sha256 <> '' ORDER BY id",
        &[digest],
    )
}

/// Models whose primary file has this size in bytes, or one that nobody knows.
pub fn ids_by_primary_size(c: &Connection, size: i64) -> Result<Vec<String>> {
    let sql = "SELECT id FROM models WHERE primary_size = ? OR primary_size IS NULL ORDER BY id";
    c.prepare_cached(sql)?
        .query_map([size], |row| row.get(0))?
        .collect()
}

/// Models whose primary file has the digest of another one's.
pub fn ids_of_duplicates(c: &Connection) -> Result<Vec<String>> {
    let sql = "SELECT id FROM ( \
                   SELECT id, count(*) OVER (PARTITION BY sha256) AS held FROM models \
                   WHERE sha256 <> '' AND digest_key IN ( \
                       SELECT digest_key FROM models WHERE sha256 <> '' \
                       GROUP BY digest_key HAVING count(*) > 1) \
               ) WHERE held > 1";
    texts::<&str>(c, sql, &[])
}

/// Whether the index knows the model.
pub fn contains(c: &Connection, id: &str) -> Result<bool> {
    c.prepare_cached("SELECT 1 FROM models WHERE id = ?")?
        .exists([id])
}

/// All ids, in order.
pub fn ids(c: &Connection) -> Result<Vec<String>> {
    texts::<&str>(c, "SELECT id FROM models ORDER BY id", &[])
}

/// What decides where a model's files belong; one row of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mappable {
    /// The model.
    pub id: String,
    /// The shown name.
    pub official_name: String,
    /// `llm`, `diffusion`, …
    pub model_type: String,
    /// `checkpoints`, `loras`, …
    pub subtype: String,
    /// `llama`, `sdxl`, …
    pub family: String,
    /// A JSON list.
    pub tags_json: String,
    /// `owned`, `hardlink`, `reflink` or `reference`.
    pub storage: String,
}

/// All models in order of their ids.
pub fn mappable(c: &Connection) -> Result<Vec<Mappable>> {
    let sql =
        "SELECT id, official_name, model_type, subtype, family, tags_json, storage FROM models ORDER BY id";
    let mut statement = c.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(Mappable {
            id: row.get(0)?,
            official_name: row.get(1)?,
            model_type: row.get(2)?,
            subtype: row.get(3)?,
            family: row.get(4)?,
            tags_json: row.get(5)?,
            storage: row.get(6)?,
        })
    })?;
    rows.collect()
}

/// Id and hub repository (`owner/name`) of each model that is known to be from one.
pub fn from_hub(c: &Connection) -> Result<Vec<(String, String)>> {
    let mut statement = c.prepare("SELECT id, repo_id FROM models WHERE repo_id <> '' ORDER BY id")?;
    statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// A piece of the list of all models: members of one JSON object, made by SQLite, and the last id; None at the end.
pub fn entry_objects(c: &Connection, after: &str, limit: i64) -> Result<Option<(String, String)>> {
    let mut statement = c.prepare_cached(
        "SELECT json_group_object(id, json_object('path', id, 'size', size_bytes, 'addedDate', added_date, \
         'modelType', CASE WHEN subtype <> '' THEN subtype WHEN model_type <> '' THEN model_type ELSE 'unknown' END, \
         'officialName', official_name, 'cleanedName', cleaned_name, \
         'relatedAvailable', json(CASE related_available WHEN 1 THEN 'true' ELSE 'false' END), \
         'state', state, 'storage', storage)), max(id) \
         FROM (SELECT * FROM models WHERE id > ? ORDER BY id LIMIT ?)",
    )?;
    let (object, last): (String, Option<String>) =
        statement.query_row(params![after, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(last.map(|last| (object[1..object.len() - 1].to_owned(), last)))
}
