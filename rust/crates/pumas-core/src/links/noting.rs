//! What is written into the link registry: links before and after they are made, and those of deleted models.
//!
//! When a call returns, it is on disk. All calls block.

use std::collections::HashSet;

use rusqlite::params;

use crate::error::Result;
use crate::links::rows::{Link, Parked, Replaced};
use crate::links::store::LinkStore;

const PARKED: &str =
    "trash_id, model_id, source_path, target_path, link_type, app_id, app_version, created_at";

impl LinkStore {
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
        self.database.read_sync(None, |c| {
            c.prepare(&sql)?.query_map([trash_id], Parked::read)?.collect()
        })
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
}
