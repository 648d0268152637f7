//! What the index is asked: about the library and its folders for a look at the disk, about its models for all others.

use rusqlite::{Connection, OptionalExtension as _, Result, params};

use super::{FolderStamp, ROOT_PARENT, split, texts};
use crate::storage::troubles::Trouble;

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
