//! One search over one snapshot of the index: which rows match, in which order, and how many there are.
//!
//! Words and filters become one expression of the search table, or are asked of the words that are held in memory
//! ([`crate::library::held`]). What a query's words are is known to [`super`], few matches are put in order by
//! [`super::weight`].

use std::sync::Mutex;

use rusqlite::{Connection, Result, params_from_iter};

use super::sort::{Orders, Sort};
use super::weight::weighed;
use super::{Filters, Known, json};
use crate::library::facets::Matching;
use crate::library::held::Asked;
use crate::library::held::Rows;
use crate::storage::locked;

const NARROW: usize = 256;
/// A filter that keeps fewer rows is read and sorted; one that keeps more is met soon by walking from the newest on.
const SORTED: i64 = 2000;
/// Of more matches the order comes from that of all models, which is remembered.
const MANY: usize = 2000;

/// Between the words of an expression.
pub(super) const ALL: &str = " AND ";
pub(super) const ANY: &str = " OR ";
const NAME: &str = "{official_name other_names}";
const SHORT: &str = "{official_name other_names model_type tags family kinds}";
const FOUND: &str = "row IN (SELECT rowid FROM model_search WHERE model_search MATCH ?)";
/// Holds for both tables. The plus keeps `SQLite` from asking the search table for each row by itself.
const WITHIN: &str = " AND +rowid IN (SELECT row FROM models WHERE id IN (SELECT value FROM json_each(?)))";
const AMONG: &str = "models.id IN (SELECT value FROM json_each(?))";

/// Which of all matches are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) limit: i64,
    pub(super) offset: i64,
}

impl Span {
    /// How many to skip, and how many to take then.
    fn whole(self) -> (usize, usize) {
        let whole = |count: i64| usize::try_from(count).unwrap_or_default();
        (whole(self.offset), whole(self.limit))
    }

    fn cut<T>(self, items: Vec<T>) -> Vec<T> {
        let (skip, take) = self.whole();
        items.into_iter().skip(skip).take(take).collect()
    }
}

/// The rows of a page, the count of all matches, and the expression without filters.
pub(super) struct Listing {
    pub(super) query: String,
    pub(super) rows: Vec<i64>,
    pub(super) total: i64,
}

/// One search over one snapshot of the index.
pub(super) struct Look<'c> {
    c: &'c Connection,
    known: Known,
    filters: &'c Filters,
    groups: Vec<Vec<String>>,
    filter: String,
    /// A further condition, for both tables, and its value.
    within: &'static str,
    ids: Option<String>,
}

impl<'c> Look<'c> {
    pub(super) fn new(c: &'c Connection, known: Known, filters: &'c Filters) -> Self {
        let groups = filters.facets();
        let either = |group: &Vec<String>| {
            group
                .iter()
                .map(|facet| quoted(facet))
                .collect::<Vec<_>>()
                .join(" OR ")
        };
        let filter = groups
            .iter()
            .map(|group| format!("({})", either(group)))
            .collect::<Vec<_>>()
            .join(" AND ");
        Self {
            c,
            known,
            filters,
            groups,
            filter,
            within: if filters.ids.is_some() { WITHIN } else { "" },
            ids: filters
                .ids
                .as_ref()
                .map(|ids| serde_json::to_string(ids).unwrap_or_default()),
        }
    }

    /// All that matches, as a condition on `models`.
    pub(super) fn condition(&self, found: &[String], operator: &str) -> Matching {
        let expression = if found.is_empty() {
            self.filter.clone()
        } else {
            self.filtered(&joined(found, operator, "*"))
        };
        let words = Some(expression).filter(|expression| !expression.is_empty());
        let conditions = [words.as_ref().map(|_| FOUND), self.ids.as_ref().map(|_| AMONG)];
        let conditions: Vec<&str> = conditions.into_iter().flatten().collect();
        Matching {
            condition: if conditions.is_empty() {
                "1".to_owned()
            } else {
                conditions.join(" AND ")
            },
            values: words.into_iter().chain(self.ids.clone()).collect(),
        }
    }

    pub(super) fn has_any(&self, found: &[String], operator: &str) -> Result<bool> {
        let one = Span { limit: 1, offset: 0 };
        Ok(!self.matching(&joined(found, operator, "*"), one, &[])?.is_empty())
    }

    // -- with words --------------------------------------------------------------------------------------------------

    pub(super) fn find(&self, found: &[String], operator: &str, span: Span) -> Result<Listing> {
        if let Some(listing) = self.find_held(found, operator, span)? {
            return Ok(listing);
        }
        let query = joined(found, operator, "*");
        let few = i64::try_from(NARROW + 1).unwrap_or(i64::MAX);
        let matching = self.matching(
            &query,
            Span {
                limit: few,
                offset: 0,
            },
            &[],
        )?;
        if matching.len() <= NARROW {
            let total = i64::try_from(matching.len()).unwrap_or(i64::MAX);
            let rows = span.cut(weighed(self.c, &matching, found)?);
            return Ok(Listing { query, rows, total });
        }
        let rows = self.tiers(found, operator, span)?;
        let total = self.count(&self.filtered(&query))?;
        Ok(Listing { query, rows, total })
    }

    /// As [`Self::find`], without the search table; `None` when what is held cannot tell.
    fn find_held(&self, found: &[String], operator: &str, span: Span) -> Result<Option<Listing>> {
        let Some(held) = &self.known.held else {
            return Ok(None);
        };
        let within = held.within(self.c, &self.groups, self.filters.ids.as_deref())?;
        let all = operator == ALL;
        let Some(matches) = held.matches(Asked { words: found, all }, within.as_ref()) else {
            return Ok(None);
        };
        let count = matches.count();
        let rows = if count <= NARROW {
            span.cut(weighed(self.c, &matches.rows(), found)?)
        } else {
            let (skip, take) = span.whole();
            matches.page(&self.named(found)?, skip, take)
        };
        Ok(Some(Listing {
            query: joined(found, operator, "*"),
            rows,
            total: i64::try_from(count).unwrap_or(i64::MAX),
        }))
    }

    fn filtered(&self, expression: &str) -> String {
        if self.filter.is_empty() {
            expression.to_owned()
        } else {
            format!("{} AND ({expression})", self.filter)
        }
    }

    /// Rows in the search table's own order, so that it can stop early.
    fn matching(&self, expression: &str, span: Span, without: &[i64]) -> Result<Vec<i64>> {
        let condition = if without.is_empty() {
            ""
        } else {
            " AND rowid NOT IN (SELECT value FROM json_each(?))"
        };
        let sql = format!(
            "SELECT rowid FROM model_search WHERE model_search MATCH ?{condition}{} ORDER BY rowid DESC LIMIT ? OFFSET ?",
            self.within
        );
        let mut statement = self.c.prepare_cached(&sql)?;
        let mut values: Vec<rusqlite::types::Value> = vec![self.filtered(expression).into()];
        if !without.is_empty() {
            values.push(json(without).into());
        }
        values.extend(self.ids.clone().map(Into::into));
        values.extend([span.limit.into(), span.offset.into()]);
        statement
            .query_map(params_from_iter(values), |row| row.get(0))?
            .collect()
    }

    fn count(&self, expression: &str) -> Result<i64> {
        let sql = "SELECT count(*) FROM model_search WHERE model_search MATCH ?";
        self.counted(expression, sql, Some(expression))
    }

    /// Totals among some models are not remembered: which models they are is nobody's to say here.
    fn counted(&self, key: &str, sql: &str, expression: Option<&str>) -> Result<i64> {
        if self.ids.is_none()
            && let Some(count) = locked(&self.known.counts.known).get(key)
        {
            return Ok(*count);
        }
        let values = expression.into_iter().chain(self.ids.as_deref());
        let count = self
            .c
            .prepare_cached(&format!("{sql}{}", self.within))?
            .query_row(params_from_iter(values), |row| row.get(0))?;
        if self.ids.is_none() {
            locked(&self.known.counts.known).insert(key.to_owned(), count);
        }
        Ok(count)
    }

    /// A page of many matches: tier after tier, inside each the newest first.
    fn tiers(&self, found: &[String], operator: &str, span: Span) -> Result<Vec<i64>> {
        let named = self.named(found)?;
        let shown = i64::try_from(named.len()).unwrap_or(i64::MAX);
        let mut rows = span.cut(named.clone());
        let mut skip = (span.offset - shown).max(0);
        let (whole, begun) = (joined(found, operator, ""), joined(found, operator, "*"));
        let steps = [
            format!("{NAME} : ({whole})"),
            format!("{NAME} : ({begun})"),
            format!("{SHORT} : ({begun})"),
            begun,
        ];
        let mut better = String::new();
        for step in steps {
            let missing = span.limit - i64::try_from(rows.len()).unwrap_or(i64::MAX);
            if missing <= 0 {
                break;
            }
            let tier = if better.is_empty() {
                step.clone()
            } else {
                format!("({step}) NOT ({better})")
            };
            // What was shown as `named` has all words in its name: it is part of the first tier and of no other.
            let without: &[i64] = if better.is_empty() { &named } else { &[] };
            better = step;
            if skip > 0 {
                let size = self.count(&self.filtered(&tier))? - i64::try_from(without.len()).unwrap_or(0);
                if skip >= size {
                    skip -= size;
                    continue;
                }
            }
            rows.extend(self.matching(
                &tier,
                Span {
                    limit: missing,
                    offset: skip,
                },
                without,
            )?);
            skip = 0;
        }
        Ok(rows)
    }

    /// Rows whose whole name is the query; the filters hold for them too.
    fn named(&self, found: &[String]) -> Result<Vec<i64>> {
        let sql = format!(
            "SELECT row FROM models WHERE name_key = ? AND length(name_key) <= 32{} ORDER BY row DESC LIMIT 100",
            self.conditions()
        );
        let key = found.join(" ");
        let values = std::iter::once(key).chain(self.condition_values());
        self.c
            .prepare_cached(&sql)?
            .query_map(params_from_iter(values), |row| row.get(0))?
            .collect()
    }

    /// The filters as they apply to the table of models.
    fn conditions(&self) -> String {
        let either = |group: &Vec<String>| vec!["instr(facets, ?)"; group.len()].join(" OR ");
        self.groups
            .iter()
            .flat_map(|group| [" AND (".to_owned(), either(group), ")".to_owned()])
            .chain([self.within.to_owned()])
            .collect()
    }

    fn condition_values(&self) -> impl Iterator<Item = String> {
        self.groups.iter().flatten().chain(&self.ids).cloned()
    }

    // -- in another order --------------------------------------------------------------------------------------------

    /// As [`Self::find`], in another order than the best first; without words all that the filters leave.
    pub(super) fn sorted(
        &self,
        found: &[String],
        operator: &str,
        span: Span,
        sort: Sort,
        orders: &Mutex<Orders>,
    ) -> Result<Listing> {
        let query = joined(found, operator, "*");
        let (skip, take) = span.whole();
        let matching = self.all(found, operator)?;
        let listing = |rows, total| Listing { query, rows, total };
        let order = || locked(orders).read(self.c, self.known.counts.revision, sort);
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let Some(matching) = matching else {
            let order = order()?;
            let rows = order.iter().skip(skip).take(take);
            return Ok(listing(
                rows.map(|row| i64::from(*row)).collect(),
                whole(order.len()),
            ));
        };
        let total = matching.count();
        if skip >= total {
            return Ok(listing(Vec::new(), whole(total)));
        }
        if total <= MANY {
            let rows: Vec<i64> = matching.newest_first().map(whole).collect();
            return Ok(listing(span.cut(sort.few(self.c, &rows)?), whole(total)));
        }
        let order = order()?;
        let among = order.iter().filter(|row| matching.contains(**row as usize));
        let rows = among.skip(skip).take(take).map(|row| i64::from(*row));
        Ok(listing(rows.collect(), whole(total)))
    }

    /// All that matches, in no order; `None` for everything.
    fn all(&self, found: &[String], operator: &str) -> Result<Option<Rows>> {
        if found.is_empty() && self.filter.is_empty() && self.ids.is_none() {
            return Ok(None);
        }
        if let Some(held) = &self.known.held {
            let within = held.within(self.c, &self.groups, self.filters.ids.as_deref())?;
            let asked = Asked {
                words: found,
                all: operator == ALL,
            };
            if let Some(rows) = held.matching(asked, within.as_ref()) {
                return Ok(Some(rows));
            }
        }
        let Matching { values, .. } = self.condition(found, operator);
        let sql = if found.is_empty() && self.filter.is_empty() {
            format!("SELECT row FROM models WHERE {AMONG}")
        } else {
            format!(
                "SELECT rowid FROM model_search WHERE model_search MATCH ?{}",
                self.within
            )
        };
        let mut statement = self.c.prepare_cached(&sql)?;
        let numbers = statement.query_map(params_from_iter(values), |row| row.get(0))?;
        let numbers = numbers.collect::<Result<Vec<u32>>>()?;
        let end = numbers.iter().max().map_or(0, |row| *row as usize + 1);
        let mut rows = Rows::none(end);
        for row in numbers {
            rows.insert(row as usize);
        }
        Ok(Some(rows))
    }

    // -- without words -----------------------------------------------------------------------------------------------

    pub(super) fn newest(&self, span: Span) -> Result<Listing> {
        let order = "ORDER BY updated_at DESC, row DESC LIMIT ? OFFSET ?";
        let total = if self.filter.is_empty() {
            self.counted("", "SELECT count(*) FROM models WHERE 1", None)?
        } else {
            self.count_filtered()?
        };
        let Matching { condition, values } = if !self.filter.is_empty() && total <= SORTED {
            self.condition(&[], "")
        } else {
            Matching {
                condition: format!("1{}", self.conditions()),
                values: self.condition_values().collect(),
            }
        };
        let sql = format!("SELECT row FROM models WHERE {condition} {order}");
        let mut values: Vec<rusqlite::types::Value> = values.into_iter().map(Into::into).collect();
        values.extend([span.limit.into(), span.offset.into()]);
        let mut statement = self.c.prepare_cached(&sql)?;
        let rows = statement
            .query_map(params_from_iter(values), |row| row.get(0))?
            .collect::<Result<_>>()?;
        Ok(Listing {
            query: String::new(),
            rows,
            total,
        })
    }

    fn count_filtered(&self) -> Result<i64> {
        if let Some(held) = &self.known.held
            && let Some(rows) = held.within(self.c, &self.groups, self.filters.ids.as_deref())?
        {
            return Ok(i64::try_from(rows.count()).unwrap_or(i64::MAX));
        }
        self.count(&self.filter)
    }
}

/// A word holds letters and digits only (or is a facet); the quotes keep AND, OR, NOT and NEAR plain words.
fn quoted(word: &str) -> String {
    format!("\"{word}\"")
}

fn joined(found: &[String], operator: &str, suffix: &str) -> String {
    found
        .iter()
        .map(|term| format!("{}{suffix}", quoted(term)))
        .collect::<Vec<_>>()
        .join(operator)
}
