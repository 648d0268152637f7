//! The words and values of a large library, held in memory until it changes: what is asked of thousands of models at a
//! time is answered from here, and only the models that are shown are read from the index.
//!
//! All of it comes from one snapshot of the index and fits that revision alone; at another the index answers, in the same
//! way. 100,000 models take some 15 MB. Which matches come first is written in [`crate::library::search`].

use rusqlite::{Connection, Result};
use serde_json::{Map, Value};

use crate::library::facets::{self, Chosen, FacetCounts, UsedBy};

mod columns;
mod rows;
mod vocabulary;

use columns::Columns;
pub(super) use rows::Rows;
use vocabulary::{MOST_ROWS, Standing, Vocabulary};

/// Row numbers may have so many gaps: each costs a bit in every set of rows.
const SPARSE: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Held {
    vocabulary: Vocabulary,
    columns: Columns,
    everything: Rows,
    end: usize,
}

/// The words of a query, and whether all or any of them must be there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) words: &'a [String],
    pub(super) all: bool,
}

impl Held {
    /// Reads the index. `None` when it has fewer than `least` models, when it does not fit, or when `stop` said so.
    pub(super) fn read(c: &Connection, least: i64, stop: &dyn Fn() -> bool) -> Result<Option<Self>> {
        let (count, highest): (i64, i64) =
            c.query_row("SELECT count(*), coalesce(max(row), 0) FROM models", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let (Ok(models), Ok(highest)) = (usize::try_from(count), usize::try_from(highest)) else {
            return Ok(None);
        };
        let end = highest.saturating_add(1);
        if count < least || end > MOST_ROWS || end / SPARSE > models {
            return Ok(None);
        }
        let Some(vocabulary) = Vocabulary::read(c, end, stop)? else {
            return Ok(None);
        };
        let Some(columns) = Columns::read(c, end, stop)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            vocabulary,
            everything: columns.rows(end),
            columns,
            end,
        }))
    }

    /// What matches words, of which there is at least one, and is among `within`. `None` for words that `SQLite` may fold
    /// in a way of its own.
    pub(super) fn matches(&self, asked: Asked<'_>, within: Option<&Rows>) -> Option<Matches> {
        if !asked.words.iter().all(|word| word.is_ascii()) {
            return None;
        }
        let join = if asked.all { Rows::keep } else { Rows::add };
        let mut standings = asked
            .words
            .iter()
            .map(|word| self.vocabulary.beginning_with(word));
        let mut standing = standings.next()?;
        standings.for_each(|other| standing.join(&other, join));
        if let Some(within) = within {
            standing.keep(within);
        }
        Some(Matches { standing })
    }

    /// As [`Held::matches`], in no order; without words all of `within`.
    pub(super) fn matching(&self, asked: Asked<'_>, within: Option<&Rows>) -> Option<Rows> {
        if asked.words.is_empty() {
            return Some(within.unwrap_or(&self.everything).clone());
        }
        self.matches(asked, within).map(|matches| matches.standing.any)
    }

    /// The rows that have one facet of each group, and one of `ids`; `None` when every row does.
    pub(super) fn within(
        &self,
        c: &Connection,
        groups: &[Vec<String>],
        ids: Option<&[String]>,
    ) -> Result<Option<Rows>> {
        let either = |group: &Vec<String>| {
            let mut rows = Rows::none(self.end);
            for facet in group {
                self.vocabulary.add_rows_with(facet, &mut rows);
            }
            rows
        };
        let ids = ids.map(|ids| self.rows_of(c, ids)).transpose()?;
        let sets = groups.iter().map(either).chain(ids);
        Ok(sets.reduce(|mut kept, rows| {
            kept.keep(&rows);
            kept
        }))
    }

    fn rows_of(&self, c: &Connection, ids: &[String]) -> Result<Rows> {
        let mut rows = Rows::none(self.end);
        let ids = serde_json::to_string(ids).unwrap_or_default();
        let mut statement =
            c.prepare_cached("SELECT row FROM models WHERE id IN (SELECT value FROM json_each(?))")?;
        let mut found = statement.query([ids])?;
        while let Some(row) = found.next()? {
            rows.insert(usize::try_from(row.get::<_, i64>(0)?).unwrap_or(usize::MAX));
        }
        Ok(rows)
    }

    /// Counts models by type, family, format, quantisation and size, see [`facets::properties`].
    pub(super) fn properties(&self, rows: &Rows, chosen: &Chosen) -> FacetCounts {
        facets::of_groups(self.columns.groups(rows), chosen)
    }

    /// Counts tags, see [`facets::tags`].
    pub(super) fn tags(&self, rows: &Rows) -> Map<String, Value> {
        facets::most_tags(self.columns.tags(rows))
    }

    /// Counts apps, see [`facets::apps`].
    pub(super) fn apps(&self, c: &Connection, rows: &Rows, used_by: &UsedBy) -> Result<Map<String, Value>> {
        facets::apps_with(used_by, |ids| {
            let mut used = self.rows_of(c, ids)?;
            used.keep(rows);
            Ok(used.count().try_into().unwrap_or(i64::MAX))
        })
    }
}

/// Models that match some words.
pub(super) struct Matches {
    standing: Standing,
}

impl Matches {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.standing.any.count()
    }

    /// All of them, the newest row first.
    pub(super) fn rows(&self) -> Vec<i64> {
        self.standing.any.newest_first().map(number).collect()
    }

    /// A page of them: `first`, which are among the best; those of which the words are words of the name; those whose name
    /// has words that begin so; those where other short fields have; the rest. Inside each the newest first.
    pub(super) fn page(self, first: &[i64], skip: usize, take: usize) -> Vec<i64> {
        let Standing {
            mut whole,
            mut named,
            mut short,
            mut any,
        } = self.standing;
        any.leave_out(&short);
        short.leave_out(&named);
        named.leave_out(&whole);
        for row in first {
            whole.remove(usize::try_from(*row).unwrap_or(usize::MAX));
        }
        let tiers = [whole, named, short, any];
        let others = tiers.iter().flat_map(Rows::newest_first).map(number);
        first
            .iter()
            .copied()
            .chain(others)
            .skip(skip)
            .take(take)
            .collect()
    }
}

fn number(row: usize) -> i64 {
    i64::try_from(row).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
