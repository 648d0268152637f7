//! The journal of adoptions: one row per model that was taken in without copying.
//!
//! A row is durable before its model appears in the library, so that a start after a kill can finish or take back what was
//! under way (`adopting`). All calls block.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Row, ToSql, params, params_from_iter};

use crate::config::Layout;
use crate::contracts::schema;
use crate::error::Result;
use crate::storage::clock::now;
use crate::storage::database::{Content, Database, Schema, Synchronous};
use crate::storage::json_file::JsonObject;
use crate::storage::troubles::Troubles;

const KEEP_UNDONE: i64 = 1000;
const COLUMNS: &str = "id, state, model_id, mode, kind, store, name, revision, size, job_id, item, result_json, \
                       trash_id, created_at, updated_at";

/// Where an adoption stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdoptionState {
    /// Its model may be there or not.
    Begun,
    /// Its model is in the library, unless it was deleted or moved.
    Adopted,
    /// Its model may be there or not.
    Undoing,
    /// Taken back.
    Undone,
}

impl AdoptionState {
    const ALL: [Self; 4] = [Self::Begun, Self::Adopted, Self::Undoing, Self::Undone];

    fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Adopted => "adopted",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
        }
    }
}

/// One row, in the order of the columns of `contracts/schema/adoptions.sql`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the schema documents the columns")]
pub struct Adoption {
    pub id: String,
    pub state: AdoptionState,
    pub model_id: String,
    pub mode: String,
    pub kind: String,
    pub store: String,
    pub name: String,
    pub revision: Option<String>,
    pub size: u64,
    pub job_id: String,
    pub item: usize,
    pub result_json: String,
    pub trash_id: Option<String>,
    pub created_at: String,
    pub updated_at: String,
}

impl Adoption {
    /// What its item of the job became.
    #[must_use]
    pub fn result(&self) -> JsonObject {
        serde_json::from_str(&self.result_json).unwrap_or_default()
    }

    /// Whether it was taken back.
    #[must_use]
    pub fn is_undone(&self) -> bool {
        self.state == AdoptionState::Undone
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let state: String = row.get(1)?;
        let known = AdoptionState::ALL.into_iter().find(|one| one.as_str() == state);
        let unknown =
            || rusqlite::Error::InvalidColumnType(1, "state".to_owned(), rusqlite::types::Type::Text);
        Ok(Self {
            id: row.get(0)?,
            state: known.ok_or_else(unknown)?,
            model_id: row.get(2)?,
            mode: row.get(3)?,
            kind: row.get(4)?,
            store: row.get(5)?,
            name: row.get(6)?,
            revision: row.get(7)?,
            size: number(row, 8)?,
            job_id: row.get(9)?,
            item: number(row, 10)?,
            result_json: row.get(11)?,
            trash_id: row.get(12)?,
            created_at: row.get(13)?,
            updated_at: row.get(14)?,
        })
    }
}

/// A column that counts something.
fn number<T: TryFrom<i64>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let value: i64 = row.get(column)?;
    T::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// SQLite knows signed numbers only.
fn signed(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// The rows of a launcher root.
#[derive(Clone)]
pub struct Journal {
    database: Database,
}

impl Journal {
    /// The table in `adoptions.db`. A damaged one begins anew, and the trouble is told.
    ///
    /// # Errors
    /// `Bug`: the schema cannot be used.
    pub fn new(layout: &Layout, troubles: &Arc<Troubles>) -> Result<Self> {
        let troubles = Arc::clone(troubles);
        let told = move |kept: &Path, reason: &str| {
            let kept = kept.file_name().unwrap_or_default().to_string_lossy();
            let sentence =
                format!("The list of adoptions was damaged ({reason}) and begins anew; see {kept}.");
            troubles.report("adoptions.db", "damaged_database", &sentence);
        };
        let database = Database::new(
            layout.adoptions_db(),
            Schema::new(schema::ADOPTIONS)?,
            Content::Kept,
            Synchronous::Full,
            Box::new(told),
        );
        Ok(Self { database })
    }

    /// Close the file, last of all.
    pub fn close_sync(&self) {
        self.database.close_sync();
    }

    /// Whether anything was ever written.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.database.path().exists()
    }

    /// Write a row, and answer it as it was written; it is on disk by then.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn save(&self, adoption: Adoption) -> Result<Adoption> {
        let row = Adoption {
            updated_at: now(),
            ..adoption
        };
        self.database.write_sync(|c| write(c, &row))?;
        Ok(row)
    }

    /// The adoption never was.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn forget(&self, adoption_id: &str) -> Result<()> {
        let change = |c: &Connection| c.execute("DELETE FROM adoptions WHERE id = ?", [adoption_id]);
        self.database.write_sync(change).map(|_| ())
    }

    /// The row with this id.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn get(&self, adoption_id: &str) -> Result<Option<Adoption>> {
        Ok(self.select("id = ?", &[&adoption_id])?.pop())
    }

    /// What a job's item became, once it was done.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn of_item(&self, job_id: &str, item: usize) -> Result<Option<Adoption>> {
        let condition = "job_id = ? AND item = ? AND state = 'adopted'";
        Ok(self
            .select(condition, &[&job_id, &signed(item)])?
            .into_iter()
            .next())
    }

    /// What a killed process may have left half done.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn unfinished(&self) -> Result<Vec<Adoption>> {
        self.select("state IN ('begun', 'undoing')", &[])
    }

    /// (newest first, number of all). What is `begun` is not shown.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn list(&self, undone: bool, limit: i64, offset: i64) -> Result<(Vec<Adoption>, i64)> {
        let states = if undone {
            "state IN ('adopted', 'undoing', 'undone')"
        } else {
            "state IN ('adopted', 'undoing')"
        };
        let count = format!("SELECT count(*) FROM adoptions WHERE {states}");
        let total = self
            .database
            .read_sync(None, |c| c.query_row(&count, [], |row| row.get(0)))?;
        Ok((self.select_some(states, &[], limit, offset)?, total))
    }

    fn select(&self, condition: &str, values: &[&dyn ToSql]) -> Result<Vec<Adoption>> {
        self.select_some(condition, values, -1, 0)
    }

    fn select_some(
        &self,
        condition: &str,
        values: &[&dyn ToSql],
        limit: i64,
        offset: i64,
    ) -> Result<Vec<Adoption>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM adoptions WHERE {condition} ORDER BY created_at DESC, id LIMIT ? OFFSET ?"
        );
        let wanted = [values, &[&limit, &offset]].concat();
        self.database.read_sync(None, |c| {
            let mut statement = c.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(wanted), Adoption::read)?;
            rows.collect()
        })
    }
}

fn write(c: &Connection, row: &Adoption) -> rusqlite::Result<()> {
    let holes = ["?"; 15].join(", ");
    let sql = format!("INSERT OR REPLACE INTO adoptions ({COLUMNS}) VALUES ({holes})");
    c.prepare_cached(&sql)?.execute(params![
        row.id,
        row.state.as_str(),
        row.model_id,
        row.mode,
        row.kind,
        row.store,
        row.name,
        row.revision,
        signed(row.size),
        row.job_id,
        signed(row.item),
        row.result_json,
        row.trash_id,
        row.created_at,
        row.updated_at,
    ])?;
    if row.state == AdoptionState::Undone {
        c.execute(
            "DELETE FROM adoptions WHERE state = 'undone' AND id NOT IN \
             (SELECT id FROM adoptions WHERE state = 'undone' ORDER BY created_at DESC LIMIT ?)",
            [KEEP_UNDONE],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> (tempfile::TempDir, Journal) {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("launcher-data")).unwrap();
        let journal = Journal::new(&Layout::new(place.path()), &Arc::default()).unwrap();
        (place, journal)
    }

    fn row(number: usize, state: AdoptionState) -> Adoption {
        Adoption {
            id: format!("adoption-{number}"),
            state,
            model_id: format!("llm/a/m{number}"),
            mode: "hardlink".to_owned(),
            kind: "folder".to_owned(),
            store: "/s".to_owned(),
            name: "m".to_owned(),
            revision: None,
            size: 7,
            job_id: "adopt-1".to_owned(),
            item: number,
            result_json: "{\"a\":1}".to_owned(),
            trash_id: None,
            created_at: format!("2030-01-01T00:00:{number:02}.000000Z"),
            updated_at: String::new(),
        }
    }

    #[test]
    fn rows_are_found_by_what_they_are() {
        let (_place, journal) = journal();
        assert!(!journal.exists());
        for (number, state) in AdoptionState::ALL.into_iter().enumerate() {
            journal.save(row(number, state)).unwrap();
        }
        let ids = |rows: Vec<Adoption>| rows.into_iter().map(|row| row.item).collect::<Vec<_>>();
        assert_eq!(ids(journal.unfinished().unwrap()), [2, 0]);
        let (rows, total) = journal.list(false, 10, 0).unwrap();
        assert_eq!((ids(rows), total), (vec![2, 1], 2));
        let (rows, total) = journal.list(true, 1, 1).unwrap();
        assert_eq!((ids(rows), total), (vec![2], 3));
        assert_eq!(journal.of_item("adopt-1", 1).unwrap().unwrap().result()["a"], 1);
        assert!(journal.of_item("adopt-1", 0).unwrap().is_none());
        journal.forget("adoption-1").unwrap();
        assert!(journal.get("adoption-1").unwrap().is_none());
        assert!(!journal.get("adoption-2").unwrap().unwrap().updated_at.is_empty());
    }
}
