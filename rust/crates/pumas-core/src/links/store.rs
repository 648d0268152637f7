//! The link registry: one row per link that we made, written before the link is. SQL stands here and nowhere else.
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
use crate::links::linking::LinkKind;
use crate::links::paths::{real, text};
use crate::storage::clock::now;
use crate::storage::database::{Content, Database, Schema, Synchronous};
use crate::storage::locked;
use crate::storage::troubles::Troubles;

const MANY: usize = 500;
const NAME: &str = "link_registry.db";
const COLUMNS: &str = "link_id, model_id, source_path, target_path, link_type, app_id, app_version, is_external, \
                       created_at, state, link_text, inode, size, mtime_ns";
const PARKED: &str =
    "trash_id, model_id, source_path, target_path, link_type, app_id, app_version, created_at";

/// One row, in the order of the columns of `contracts/schema/link_registry.sql`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Link {
    /// 0 for one that was not written yet.
    pub link_id: i64,
    /// Whose file it is.
    pub model_id: String,
    /// The model's file, in the stored form.
    pub source_path: String,
    /// The link, in the stored form.
    pub target_path: String,
    /// See [`Link::kind`].
    pub link_type: String,
    /// The app.
    pub app_id: String,
    /// The tag without a leading v.
    pub app_version: String,
    /// Link and file lie on different volumes.
    pub is_external: bool,
    /// ISO-8601 UTC.
    pub created_at: String,
    /// What a symlink holds.
    pub link_text: String,
    /// Of a hard link or a copy.
    pub inode: i64,
    /// Bytes of a copy.
    pub size: i64,
    /// Nanoseconds since 1970, of a copy.
    pub mtime_ns: i64,
}

impl Link {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> LinkKind {
        LinkKind::of(&self.link_type)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            link_id: row.get(0)?,
            model_id: row.get(1)?,
            source_path: row.get(2)?,
            target_path: row.get(3)?,
            link_type: row.get(4)?,
            app_id: row.get(5)?,
            app_version: row.get(6)?,
            is_external: row.get::<_, i64>(7)? != 0,
            created_at: row.get(8)?,
            link_text: row.get(10)?,
            inode: row.get(11)?,
            size: row.get(12)?,
            mtime_ns: row.get(13)?,
        })
    }
}

/// A link that went with its model: a row of `parked`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The trash's entry.
    pub trash_id: String,
    /// Whose file it was.
    pub model_id: String,
    /// As in [`Link`].
    pub source_path: String,
    /// As in [`Link`].
    pub target_path: String,
    /// As in [`Link`].
    pub link_type: String,
    /// As in [`Link`].
    pub app_id: String,
    /// As in [`Link`].
    pub app_version: String,
    /// As in [`Link`].
    pub created_at: String,
}

/// Something that was moved aside for a link; paths in the stored form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Where it was.
    pub target_path: String,
    /// Where it is.
    pub kept_path: String,
    /// For whose link.
    pub model_id: String,
    /// ISO-8601 UTC.
    pub moved_at: String,
}

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
    fn filled(&self) -> Result<bool> {
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
    fn inside(&self, folder: &str) -> (String, String) {
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

    // -- writing: when a call returns, it is on disk -----------------------------------------------------------------

    /// Note links that are about to be made, and what will be moved aside for them.
    ///
    /// # Errors
    /// Nothing was written; so with all that write.
    pub fn begin(&self, links: &[Link], replaced: &[Replaced]) -> Result<()> {
        self.prepare()?;
        self.database.write_sync(|c| {
            let mut insert = c.prepare_cached(
                "INSERT OR REPLACE INTO links (model_id, source_path, target_path, link_type, app_id, app_version, \
                 is_external, created_at, state, link_text, inode, size, mtime_ns) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'making', ?, ?, ?, ?)",
            )?;
            for link in links {
                insert.execute(params![
                    link.model_id,
                    link.source_path,
                    link.target_path,
                    link.link_type,
                    link.app_id,
                    link.app_version,
                    i64::from(link.is_external),
                    link.created_at,
                    link.link_text,
                    link.inode,
                    link.size,
                    link.mtime_ns,
                ])?;
            }
            for one in replaced {
                // A kill may have come after such a row was written and before anything was moved.
                c.execute("DELETE FROM replaced WHERE kept_path = ?", [&one.kept_path])?;
                c.execute(
                    "INSERT INTO replaced (target_path, kept_path, model_id, moved_at) VALUES (?, ?, ?, ?)",
                    params![one.target_path, one.kept_path, one.model_id, one.moved_at],
                )?;
            }
            Ok(())
        })
    }

    /// All links that were begun are made, but for those at the `failed` places, whose rows go.
    ///
    /// `unreplaced` are `kept_path`s where nothing was moved to.
    pub fn finish(&self, failed: &[String], unreplaced: &[String]) -> Result<()> {
        self.database.write_sync(|c| {
            for target in failed {
                c.execute(
                    "DELETE FROM links WHERE state = 'making' AND target_path = ?",
                    [target],
                )?;
            }
            for kept in unreplaced {
                c.execute("DELETE FROM replaced WHERE kept_path = ?", [kept])?;
            }
            c.execute("UPDATE links SET state = 'made' WHERE state = 'making'", [])?;
            Ok(())
        })
    }

    /// Forget these rows.
    pub fn forget(&self, link_ids: &[i64]) -> Result<()> {
        if link_ids.is_empty() {
            return Ok(());
        }
        self.database.write_sync(|c| {
            let mut delete = c.prepare_cached("DELETE FROM links WHERE link_id = ?")?;
            link_ids
                .iter()
                .try_for_each(|id| delete.execute([id]).map(|_| ()))
        })
    }

    /// Forget all that is noted of a folder (absolute): links, those of deleted models, and what was moved aside.
    pub fn forget_below(&self, folder: &str) -> Result<()> {
        let (from, to) = self.inside(folder);
        self.prepare()?;
        self.database.write_sync(|c| {
            for table in ["links", "parked", "replaced"] {
                let sql = format!("DELETE FROM {table} WHERE target_path >= ? AND target_path < ?");
                c.execute(&sql, [&from, &to])?;
            }
            Ok(())
        })
    }

    // -- links of deleted models -------------------------------------------------------------------------------------

    /// Note which links go with a model, before they do.
    pub fn park(&self, trash_id: &str, links: &[&Link]) -> Result<()> {
        self.database.write_sync(|c| {
            let mut insert =
                c.prepare_cached("INSERT OR REPLACE INTO parked VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
            for link in links {
                insert.execute(params![
                    trash_id,
                    link.model_id,
                    link.source_path,
                    link.target_path,
                    link.link_type,
                    link.app_id,
                    link.app_version,
                    link.created_at,
                ])?;
            }
            Ok(())
        })
    }

    /// Those of one entry of the trash, or all.
    pub fn parked(&self, trash_id: Option<&str>) -> Result<Vec<Parked>> {
        if !self.filled()? {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT {PARKED} FROM parked WHERE ?1 IS NULL OR trash_id = ?1");
        let read = |row: &Row<'_>| {
            Ok(Parked {
                trash_id: row.get(0)?,
                model_id: row.get(1)?,
                source_path: row.get(2)?,
                target_path: row.get(3)?,
                link_type: row.get(4)?,
                app_id: row.get(5)?,
                app_version: row.get(6)?,
                created_at: row.get(7)?,
            })
        };
        self.database
            .read_sync(None, |c| c.prepare(&sql)?.query_map([trash_id], read)?.collect())
    }

    /// Forget an entry's links, but for those at the places to `keep`.
    pub fn unpark(&self, trash_id: &str, keep: &HashSet<String>) -> Result<()> {
        self.database.write_sync(|c| {
            let mut listed = c.prepare("SELECT target_path FROM parked WHERE trash_id = ?")?;
            let targets: Vec<String> = listed
                .query_map([trash_id], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for target in targets.iter().filter(|target| !keep.contains(*target)) {
                c.execute(
                    "DELETE FROM parked WHERE trash_id = ? AND target_path = ?",
                    [trash_id, target],
                )?;
            }
            Ok(())
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

/// A row that was not written yet; paths in the stored form.
#[must_use]
pub fn new_link(
    model_id: &str,
    source: String,
    target: String,
    link_type: &str,
    (app_id, app_version): (&str, &str),
    external: bool,
) -> Link {
    Link {
        link_id: 0,
        model_id: model_id.to_owned(),
        source_path: source,
        target_path: target,
        link_type: link_type.to_owned(),
        app_id: app_id.to_owned(),
        app_version: app_version.to_owned(),
        is_external: external,
        created_at: now(),
        link_text: String::new(),
        inode: 0,
        size: 0,
        mtime_ns: 0,
    }
}
