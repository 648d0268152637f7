//! What older sidecars left: `link_registry.db` without a schema version and with absolute paths, `link_registry.json`.
//!
//! Both are taken over without loss; the JSON file is left as it is and read again when it changed. A root that was moved
//! since is recognised by its links: their places are rewritten where the link is found at the new one. Whether a link is
//! really there is asked later, by whoever uses a row.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Map, Value};

use crate::contracts::schema;
use crate::library::moments::utc_moment;
use crate::links::linking::mtime_ns;
use crate::links::store::relative;
use crate::storage::clock;
use crate::storage::files::exists;
use crate::storage::json_file::{Unreadable, parse_object};

/// The setting that says which state of the JSON file was taken over.
pub(crate) const IMPORTED: &str = "imported_json";
const LIBRARY: &str = "/shared-resources/models/";
const KINDS: [&str; 3] = ["symlink", "hardlink", "copy"];
const ADDED: [&str; 5] = [
    "state TEXT NOT NULL DEFAULT 'made'",
    "link_text TEXT NOT NULL DEFAULT ''",
    "inode INTEGER NOT NULL DEFAULT 0",
    "size INTEGER NOT NULL DEFAULT 0",
    "mtime_ns INTEGER NOT NULL DEFAULT 0",
];
const OLDER_COLUMNS: [&str; 9] = [
    "link_id",
    "model_id",
    "source_path",
    "target_path",
    "link_type",
    "app_id",
    "app_version",
    "is_external",
    "created_at",
];

/// One entry of the JSON file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    model_id: String,
    source: String,
    target: String,
    kind: String,
    app_id: String,
    app_version: String,
    created_at: String,
}

// -- link_registry.db ------------------------------------------------------------------------------------------------

/// Bring the tables of an older sidecar up to date. Fails as for damage when the file is no registry.
pub(crate) fn migrate(c: &Connection) -> rusqlite::Result<()> {
    let columns: HashSet<String> = c
        .prepare("PRAGMA table_info(links)")?
        .query_map([], |row| row.get(1))?
        .collect::<rusqlite::Result<_>>()?;
    if !OLDER_COLUMNS.iter().all(|column| columns.contains(*column)) {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB),
            Some("the file is not a database of links".to_owned()),
        ));
    }
    for column in ADDED {
        if !columns.contains(column.split(' ').next().unwrap_or_default()) {
            c.execute(&format!("ALTER TABLE links ADD COLUMN {column}"), [])?;
        }
    }
    for statement in statements() {
        let statement = statement
            .replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ")
            .replace("CREATE INDEX ", "CREATE INDEX IF NOT EXISTS ");
        c.execute(&statement, [])?;
    }
    Ok(())
}

/// No semicolon stands inside of a statement of this schema.
fn statements() -> Vec<String> {
    let lines = schema::LINK_REGISTRY
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default());
    lines
        .collect::<Vec<_>>()
        .join("\n")
        .split(';')
        .map(|statement| statement.trim().to_owned())
        .filter(|statement| statement.starts_with("CREATE"))
        .collect()
}

/// Whether an older sidecar wrote rows: our own links are never stored by an absolute path.
pub(crate) fn has_absolute(c: &Connection) -> rusqlite::Result<bool> {
    let found: Option<i64> = c
        .query_row(
            "SELECT 1 FROM links WHERE target_path LIKE '/%' LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()?;
    Ok(found.is_some())
}

/// Rewrite absolute paths below the root. Where two rows then name one link, the newer one stays.
pub(crate) fn make_relative(c: &Connection, roots: &[String]) -> rusqlite::Result<()> {
    let rows: Vec<(i64, String, String, String)> = c
        .prepare(
            "SELECT link_id, model_id, source_path, target_path FROM links WHERE target_path LIKE '/%' \
             ORDER BY link_id",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (link_id, model_id, source, target) in rows {
        let (new_source, new_target) = new_place(&model_id, &source, &target, roots);
        if new_target != target {
            c.execute(
                "DELETE FROM links WHERE target_path = ? AND link_id <> ?",
                params![new_target, link_id],
            )?;
        }
        c.execute(
            "UPDATE links SET source_path = ?, target_path = ? WHERE link_id = ?",
            params![new_source, new_target, link_id],
        )?;
    }
    Ok(())
}

fn new_place(model_id: &str, source: &str, target: &str, roots: &[String]) -> (String, String) {
    let below = |roots: &[String]| (relative(source, roots), relative(target, roots));
    let old_root = source
        .split_once(&format!("{LIBRARY}{model_id}/"))
        .map_or("", |(root, _)| root);
    let rest = target
        .strip_prefix(old_root)
        .and_then(|rest| rest.strip_prefix('/'));
    let (Some(rest), Some(root)) = (rest, roots.first()) else {
        return below(roots);
    };
    let moved =
        !old_root.is_empty() && !roots.iter().any(|root| root == old_root) && !exists(Path::new(target));
    if moved && exists(&Path::new(root).join(rest)) {
        return below(&[old_root.to_owned()]);
    }
    below(roots)
}

// -- link_registry.json ----------------------------------------------------------------------------------------------

/// Changes when the file does; "" when there is none.
pub(crate) fn stamp(path: &Path) -> String {
    fs::metadata(path).map_or_else(
        |_| String::new(),
        |status| format!("{} {} {}", status.ino(), status.len(), mtime_ns(&status)),
    )
}

/// The entries of `by_target`; those that name no link are left out. Fails with a sentence when it is no such file.
pub(crate) fn read_json(path: &Path, roots: &[String]) -> Result<Vec<Row>, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let value = parse_object(path)
        .map_err(|error| format!("{name} of an older sidecar cannot be read: {}.", kind_of(&error)))?;
    let Some(Value::Object(by_target)) = value.get("by_target") else {
        return Err(format!("{name} of an older sidecar has no by_target."));
    };
    let entries = by_target.iter();
    Ok(entries
        .filter_map(|(target, entry)| row(target, entry.as_object()?, roots))
        .collect())
}

/// The kind of failure in the words that the other backend uses for it.
fn kind_of(error: &Unreadable) -> &'static str {
    match error {
        Unreadable::Content("not valid JSON") => "JSONDecodeError",
        Unreadable::Content(_) => "ValueError",
        Unreadable::Io(error) => match error.kind() {
            io::ErrorKind::NotFound => "FileNotFoundError",
            io::ErrorKind::PermissionDenied => "PermissionError",
            io::ErrorKind::IsADirectory => "IsADirectoryError",
            _ => "OSError",
        },
    }
}

fn row(target: &str, entry: &Map<String, Value>, roots: &[String]) -> Option<Row> {
    let text = |key: &str| entry.get(key)?.as_str();
    let (model_id, source) = (text("model_id")?, text("source")?);
    let (app_id, app_version) = (text("app_id")?, text("app_version")?);
    if !target.starts_with('/') {
        return None;
    }
    let (source, target) = new_place(model_id, source, target, roots);
    let kind = text("link_type")
        .unwrap_or_default()
        .to_lowercase()
        .replace('_', "");
    let kind = if KINDS.contains(&kind.as_str()) {
        kind
    } else {
        "symlink".to_owned()
    };
    let moment = text("created_at").and_then(utc_moment);
    Some(Row {
        model_id: model_id.to_owned(),
        source,
        target,
        kind,
        app_id: app_id.to_lowercase(),
        app_version: app_version.trim_start_matches(['v', 'V']).to_owned(),
        created_at: moment.map_or_else(clock::now, clock::text),
    })
}

/// Add what is not known yet; our own rows are not replaced.
pub(crate) fn take_over(c: &Connection, rows: &[Row], seen: &str) -> rusqlite::Result<()> {
    for row in rows {
        c.execute(
            "INSERT OR IGNORE INTO links (model_id, source_path, target_path, link_type, app_id, app_version, \
             is_external, created_at) VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
            params![
                row.model_id,
                row.source,
                row.target,
                row.kind,
                row.app_id,
                row.app_version,
                row.created_at
            ],
        )?;
    }
    c.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", [IMPORTED, seen])?;
    Ok(())
}
