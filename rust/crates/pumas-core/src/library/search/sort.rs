//! Orders that a person may choose. Each ends with what no two models share, so that pages never overlap.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Result};
use serde::Deserialize;

use super::json;

/// Which of the models found come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// The best match; without words the newest.
    #[default]
    Relevance,
    /// What was changed last.
    Newest,
    /// By the words of the name, folded.
    Name,
    /// By size; what has no known size comes last.
    Largest,
    /// The other way round, but what has no known size comes last, too.
    Smallest,
}

impl Sort {
    fn sql(self) -> &'static str {
        match self {
            Self::Relevance | Self::Newest => "updated_at DESC, row DESC",
            Self::Name => "name_key, id",
            Self::Largest => "size_bytes IS NULL, size_bytes DESC, id",
            Self::Smallest => "size_bytes IS NULL, size_bytes, id",
        }
    }

    /// These rows in this order.
    pub(super) fn few(self, c: &Connection, rows: &[i64]) -> Result<Vec<i64>> {
        let sql = format!(
            "SELECT row FROM models WHERE row IN (SELECT value FROM json_each(?)) ORDER BY {}",
            self.sql()
        );
        c.prepare_cached(&sql)?
            .query_map([json(rows)], |row| row.get(0))?
            .collect()
    }
}

/// All rows of one revision of the library, for each order that was asked for.
#[derive(Debug, Default)]
pub(super) struct Orders {
    revision: i64,
    known: HashMap<Sort, Arc<[u32]>>,
}

impl Orders {
    /// All rows in this order. `revision` is that of the snapshot that `c` looks at.
    pub(super) fn read(&mut self, c: &Connection, revision: i64, sort: Sort) -> Result<Arc<[u32]>> {
        if self.revision != revision {
            self.known = HashMap::new();
            self.revision = revision;
        }
        if let Some(order) = self.known.get(&sort) {
            return Ok(Arc::clone(order));
        }
        let mut statement = c.prepare(&format!("SELECT row FROM models ORDER BY {}", sort.sql()))?;
        let order: Arc<[u32]> = statement
            .query_map([], |row| row.get(0))?
            .collect::<Result<Vec<u32>>>()?
            .into();
        self.known.insert(sort, Arc::clone(&order));
        Ok(order)
    }
}
