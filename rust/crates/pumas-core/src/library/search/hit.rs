//! A model as a search shows it, read from its row. Which rows those are is decided in [`super::look`].

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Result, Row};
use serde::Serialize;

use super::json;

const HIT_COLUMNS: &str = "row, id, official_name, cleaned_name, model_type, subtype, family, tags_json, description, \
    primary_file, repo_id, size_bytes, security_tier, added_date, last_used, updated_at, related_available, state, \
    storage, kinds";

/// One model found.
#[expect(missing_docs, reason = "contracts/schema/models.sql documents the columns")]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    pub id: String,
    pub official_name: String,
    pub cleaned_name: String,
    pub model_type: String,
    pub subtype: String,
    pub family: String,
    pub tags: Vec<String>,
    pub description: String,
    pub primary_file: String,
    pub repo_id: String,
    pub size_bytes: Option<i64>,
    pub security_tier: String,
    pub added_date: Option<String>,
    pub last_used: Option<String>,
    pub updated_at: String,
    pub related_available: bool,
    pub state: String,
    pub storage: String,
    pub kinds: String,
}

/// The models of these rows, in their order; rows that are gone are left out.
pub(super) fn hits(c: &Connection, rows: &[i64]) -> Result<Vec<Hit>> {
    let sql = format!("SELECT {HIT_COLUMNS} FROM models WHERE row IN (SELECT value FROM json_each(?))");
    let mut statement = c.prepare_cached(&sql)?;
    let found = statement.query_map([json(rows)], |row| Ok((row.get::<_, i64>(0)?, hit(row)?)))?;
    let mut found = found.collect::<Result<HashMap<i64, Hit>>>()?;
    Ok(rows.iter().filter_map(|row| found.remove(row)).collect())
}

/// One model by its id.
pub fn one(c: &Connection, id: &str) -> Result<Option<Hit>> {
    c.prepare_cached(&format!("SELECT {HIT_COLUMNS} FROM models WHERE id = ?"))?
        .query_row([id], hit)
        .optional()
}

fn hit(row: &Row<'_>) -> Result<Hit> {
    let tags: String = row.get(7)?;
    Ok(Hit {
        id: row.get(1)?,
        official_name: row.get(2)?,
        cleaned_name: row.get(3)?,
        model_type: row.get(4)?,
        subtype: row.get(5)?,
        family: row.get(6)?,
        tags: serde_json::from_str(&tags).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(7, rusqlite::types::Type::Text, error.into())
        })?,
        description: row.get(8)?,
        primary_file: row.get(9)?,
        repo_id: row.get(10)?,
        size_bytes: row.get(11)?,
        security_tier: row.get(12)?,
        added_date: row.get(13)?,
        last_used: row.get(14)?,
        updated_at: row.get(15)?,
        related_available: row.get(16)?,
        state: row.get(17)?,
        storage: row.get(18)?,
        kinds: row.get(19)?,
    })
}
