//! The link registry: one row per link that we made, written before the link is. SQL stands here and in `noting`.
//!
//! Paths are kept relative to the launcher root where they lie below it, so that the root can be moved. What older
//! sidecars wrote into the same file, with absolute paths, is taken over; what they wrote into `link_registry.json` too
//! (`legacy`). Nothing here looks at a link itself. All calls block.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};

use crate::config::Layout;
use crate::contracts::schema;
use crate::error::{Error, Result};
use crate::library::facets::UsedBy;
use crate::links::legacy;
use crate::links::paths::{real, text};
use crate::links::rows::{Link, Replaced};
use crate::storage::clock::now;
use crate::storage::database::{Content, Database, Schema, Synchronous};
use crate::storage::locked;
use crate::storage::troubles::Troubles;

const MANY: usize = 500;
const NAME: &str = "link_registry.db";
const COLUMNS: &str = "link_id, model_id, source_path, target_path, link_type, app_id, app_version, is_external, \
                       created_at, state, link_text, inode, size, mtime_ns";

/// The registry.
pub struct LinkStore {
    json: PathBuf,
    troubles: Arc<Troubles>,
    root: String,
    roots: Vec<String>,
    /// The file itself, for whoever closes it.
    pub database: Database,
    ready: Mutex<bool>,
}

impl LinkStore {
    /// Of a launcher root. Nothing is opened before the first use, and asking makes no file.
    ///
    /// # Errors
    /// `Bug`: the schema cannot be used.
    pub fn new(layout: &Layout, troubles: &Arc<Troubles>) -> Result<Self> {
        let root = text(layout.root());
        let mut roots = vec![root.clone(), real(&root)];
        roots.dedup();
        let told = Arc::clone(troubles);
        let database = Database::new(
            layout.link_registry_db(),
            Schema::new(schema::LINK_REGISTRY)?,
            Content::Migrated(|c, _version| legacy::migrate(c)),
            Synchronous::Full,
            Box::new(move |kept, reason| say_damaged(&told, kept, reason)),
        );
        Ok(Self {
            json: layout.link_registry_json(),
            troubles: Arc::clone(troubles),
            root,
            roots,
            database,
            ready: Mutex::new(false),
        })
    }

    /// The launcher root, as text.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    // -- opening -----------------------------------------------------------------------------------------------------

    /// Whether anything was ever written, by us or by an older sidecar.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.database.path().exists() || self.json.exists()
    }

    /// Take over what older sidecars wrote, once per run.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn prepare(&self) -> Result<()> {
        let mut ready = locked(&self.ready);
        if *ready || !self.exists() {
            return Ok(());
        }
        self.put_empty_aside();
        let stamp = legacy::stamp(&self.json);
        let known = if self.database.path().exists() {
            self.database.read_sync(None, |c| setting(c, legacy::IMPORTED))?
        } else {
            String::new()
        };
        let mut rows = Vec::new();
        if !stamp.is_empty() && stamp != known {
            match legacy::read_json(&self.json, &self.roots) {
                Ok(found) => rows = found,
                Err(message) => {
                    let name = text(Path::new(self.json.file_name().unwrap_or_default()));
                    self.troubles.report(&name, "damaged_registry", &message);
                }
            }
        }
        match self.take_over(&rows, &stamp) {
            Err(error @ Error::ReadOnly(_)) if !rows.is_empty() && !self.database.path().exists() => {
                return Err(error);
            }
            Ok(()) | Err(Error::ReadOnly(_)) => {}
            Err(error) => return Err(error),
        }
        *ready = true;
        Ok(())
    }

    fn take_over(&self, rows: &[legacy::Row], stamp: &str) -> Result<()> {
        if self.database.path().exists() && self.database.read_sync(None, legacy::has_absolute)? {
            self.database
                .write_sync(|c| legacy::make_relative(c, &self.roots))?;
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.database.write_sync(|c| legacy::take_over(c, rows, stamp))
    }

    /// Whether there is a registry to ask, once what older sidecars wrote is in it. Asking makes none.
    pub(super) fn filled(&self) -> Result<bool> {
        self.prepare()?;
        Ok(self.database.path().exists())
    }

    /// A file without a byte is what a full disk leaves; to SQLite it would be a registry without a link.
    fn put_empty_aside(&self) {
        let path = self.database.path();
        let is_empty = path.metadata().is_ok_and(|status| status.len() == 0);
        if !is_empty || path.with_file_name(format!("{NAME}-wal")).exists() {
            return;
        }
        let moment = now()[..19].replace(':', "");
        let kept = path.with_file_name(format!("{NAME}.damaged-{moment}"));
        if fs::rename(path, &kept).is_ok() {
            say_damaged(&self.troubles, &kept, "it is empty");
        }
    }

    // -- paths -------------------------------------------------------------------------------------------------------

    /// The form in which a path is stored.
    #[must_use]
    pub fn kept(&self, path: &str) -> String {
        relative(path, &self.roots)
    }

    /// A stored path, absolute.
    #[must_use]
    pub fn absolute(&self, kept: &str) -> String {
        if kept.starts_with('/') || kept.get(1..2) == Some(":") {
            kept.to_owned()
        } else {
            format!("{}/{kept}", self.root)
        }
    }

    // -- reading -----------------------------------------------------------------------------------------------------

    /// Links in a folder (absolute) and in those below it, in order of their paths.
    ///
    /// # Errors
    /// The registry cannot be read; so with all that read.
    pub fn below(&self, folder: &str) -> Result<Vec<Link>> {
        let (from, to) = self.inside(folder);
        self.select(
            "target_path >= ? AND target_path < ? ORDER BY target_path",
            &[&from, &to],
        )
    }

    /// What lies in a folder, as a span of stored paths: "0" follows "/" in the alphabet.
    pub(super) fn inside(&self, folder: &str) -> (String, String) {
        let kept = self.kept(folder);
        (format!("{kept}/"), format!("{kept}0"))
    }

    /// The link at a place (absolute).
    pub fn at(&self, target: &str) -> Result<Option<Link>> {
        Ok(self
            .select("target_path = ?", &[&self.kept(target)])?
            .into_iter()
            .next())
    }

    /// All links of these models.
    pub fn of_models(&self, model_ids: &[String]) -> Result<Vec<Link>> {
        let mut seen = HashSet::new();
        let ids: Vec<&String> = model_ids.iter().filter(|id| seen.insert(*id)).collect();
        let mut found = Vec::new();
        for part in ids.chunks(MANY) {
            let marks = vec!["?"; part.len()].join(", ");
            let values: Vec<&dyn ToSql> = part.iter().map(|id| *id as &dyn ToSql).collect();
            found.extend(self.select(&format!("model_id IN ({marks}) ORDER BY target_path"), &values)?);
        }
        Ok(found)
    }

    /// Ids of the models that links were made to, in order, by the id of their app.
    pub fn models_by_app(&self) -> Result<UsedBy> {
        if !self.filled()? {
            return Ok(UsedBy::new());
        }
        let sql = "SELECT DISTINCT app_id, model_id FROM links WHERE state = 'made' ORDER BY 1, 2";
        let pairs: Vec<(String, String)> = self.database.read_sync(None, |c| {
            c.prepare(sql)?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })?;
        let mut found = UsedBy::new();
        for (app_id, model_id) in pairs {
            found.entry(app_id).or_default().push(model_id);
        }
        Ok(found)
    }

    /// All, in order of their paths.
    pub fn all(&self) -> Result<Vec<Link>> {
        self.select("1 ORDER BY target_path", &[])
    }

    /// Links whose making was not finished.
    pub fn making(&self) -> Result<Vec<Link>> {
        self.select("state = 'making' ORDER BY link_id", &[])
    }

    /// (in order of their paths, number of all)
    pub fn page(
        &self,
        app_id: Option<&str>,
        app_version: Option<&str>,
        limit: i64,
        offset: i64,
    ) -> Result<(Vec<Link>, i64)> {
        const CONDITION: &str = "(?1 IS NULL OR app_id = ?1) AND (?2 IS NULL OR app_version = ?2)";
        if !self.filled()? {
            return Ok((Vec::new(), 0));
        }
        let count = format!("SELECT count(*) FROM links WHERE {CONDITION}");
        let total = self.database.read_sync(None, |c| {
            c.query_row(&count, params![app_id, app_version], |row| row.get(0))
        })?;
        let page = format!("{CONDITION} ORDER BY target_path LIMIT ?3 OFFSET ?4");
        Ok((
            self.select(&page, &[&app_id, &app_version, &limit, &offset])?,
            total,
        ))
    }

    fn select(&self, condition: &str, values: &[&dyn ToSql]) -> Result<Vec<Link>> {
        if !self.filled()? {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT {COLUMNS} FROM links WHERE {condition}");
        self.database.read_sync(None, |c| {
            c.prepare(&sql)?.query_map(values, Link::read)?.collect()
        })
    }

    // -- what was moved aside, and marks -----------------------------------------------------------------------------

    /// Newest first.
    pub fn replaced(&self) -> Result<Vec<Replaced>> {
        if !self.filled()? {
            return Ok(Vec::new());
        }
        let read = |row: &Row<'_>| {
            Ok(Replaced {
                target_path: row.get(0)?,
                kept_path: row.get(1)?,
                model_id: row.get(2)?,
                moved_at: row.get(3)?,
            })
        };
        let sql = "SELECT target_path, kept_path, model_id, moved_at FROM replaced ORDER BY id DESC";
        self.database
            .read_sync(None, |c| c.prepare(sql)?.query_map([], read)?.collect())
    }

    /// "" when it was never set.
    pub fn setting(&self, key: &str) -> Result<String> {
        if !self.filled()? {
            return Ok(String::new());
        }
        self.database.read_sync(None, |c| setting(c, key))
    }

    /// Remember something about the registry itself.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        self.database.write_sync(|c| {
            c.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", [key, value])
                .map(|_| ())
        })
    }

    /// Names of registries that were damaged and kept, in order.
    #[must_use]
    pub fn put_aside(&self) -> Vec<String> {
        let marks = ["damaged", "foreign", "older"].map(|label| format!("{NAME}.{label}-"));
        let folder = self.database.path().parent().unwrap_or_else(|| Path::new("/"));
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let is_kept = |name: &String| {
            marks.iter().any(|mark| name.starts_with(mark))
                && !name.ends_with("-wal")
                && !name.ends_with("-shm")
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(is_kept)
            .collect();
        names.sort();
        names
    }
}

fn say_damaged(troubles: &Troubles, kept: &Path, reason: &str) {
    let name = kept.file_name().unwrap_or_default().to_string_lossy();
    troubles.report(
        NAME,
        "damaged_database",
        &format!(
            "The registry of links was damaged ({reason}) and was kept as {name}; links that lead into the library are \
             registered again."
        ),
    );
}

/// `path` relative to the first of the roots that it lies below, else unchanged.
#[must_use]
pub fn relative(path: &str, roots: &[String]) -> String {
    roots
        .iter()
        .find_map(|root| path.strip_prefix(root.as_str())?.strip_prefix('/'))
        .unwrap_or(path)
        .to_owned()
}

fn setting(c: &Connection, key: &str) -> rusqlite::Result<String> {
    let value = c
        .query_row("SELECT value FROM settings WHERE key = ?", [key], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(value.unwrap_or_default())
}
