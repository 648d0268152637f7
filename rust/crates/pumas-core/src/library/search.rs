//! Search in the index: any text becomes a safe expression, filters and paging happen in SQL, totals are true.
//!
//! All words must match, each as the beginning of an indexed word; when nothing has them all, models with any of them
//! are shown and the result says so. Order, best first: the name is the query; all its words are words of the name; all
//! begin words of the name; all are in name, tags or other short fields; the rest, which needs the description. Up to
//! `NARROW` matches are weighed one by one inside that order. More than that are taken newest first, because weighing
//! all of, say, 30,000 matches (FTS5's bm25 does) takes 30 times longer than finding them.
//!
//! Filters are words too ([`crate::library::words::facet`]), so that counting stays one pass over the search table. Of a
//! large library the words are held in memory (`library::held`), once somebody has searched it; the search table
//! answers until then, and again from a change of the library on until they are read anew. Both find the same.
//! Nothing here writes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, Result, Row, params_from_iter};
use serde::Serialize;

use crate::library::facets::{self, Chosen, FacetCounts, Kind, Matching, UsedBy};
use crate::library::formats::quantization::detect_quantization;
use crate::library::held::{Asked, Held};
use crate::library::words::{facet, same, words};
use crate::storage::locked;
use crate::text::cut;

/// Results of a page when nothing else is asked for.
pub const DEFAULT_LIMIT: i64 = 100;
/// Most results of a page.
pub const MAX_LIMIT: i64 = 1000;
/// A search that takes longer is stopped.
pub const DEADLINE: Duration = Duration::from_secs(1);

const MAX_OFFSET: i64 = 1 << 31;
const MAX_TEXT: usize = 4096;
const MAX_TERMS: usize = 16;
const MAX_TERM: usize = 64;
const MAX_FILTERS: usize = 64;
const NARROW: usize = 256;
/// A filter that keeps fewer rows is read and sorted; one that keeps more is met soon by walking from the newest on.
const SORTED: i64 = 2000;
/// Of a library with fewer models the search table finds everything in a moment.
const LEAST_HELD: i64 = 5000;
const REMEMBERED: usize = 2000;

/// Between the words of an expression.
const ALL: &str = " AND ";
const ANY: &str = " OR ";
const NAME: &str = "{official_name other_names}";
const SHORT: &str = "{official_name other_names model_type tags family kinds}";
const FOUND: &str = "row IN (SELECT rowid FROM model_search WHERE model_search MATCH ?)";
/// Holds for both tables. The plus keeps `SQLite` from asking the search table for each row by itself.
const WITHIN: &str = " AND +rowid IN (SELECT row FROM models WHERE id IN (SELECT value FROM json_each(?)))";
const AMONG: &str = "models.id IN (SELECT value FROM json_each(?))";
const HIT_COLUMNS: &str = "row, id, official_name, cleaned_name, model_type, subtype, family, tags_json, description, \
    primary_file, repo_id, size_bytes, security_tier, added_date, last_used, updated_at, related_available, state, \
    storage, kinds";

/// What the models must be. Several types, families, formats, quantisations or sizes mean any of them; all tags must be
/// there. Types and formats are compared exactly, the rest without case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// `llm`, `diffusion`, …
    pub model_types: Vec<String>,
    /// All of these.
    pub tags: Vec<String>,
    /// `checkpoints`, `loras`, …
    pub subtype: Option<String>,
    /// `llama`, `sdxl`, …
    pub families: Vec<String>,
    /// `gguf`, …
    pub formats: Vec<String>,
    /// `Q4_K_M`, …
    pub quants: Vec<String>,
    /// Bands, see [`crate::library::words::size_band`].
    pub sizes: Vec<String>,
    /// Only models of these ids are looked at.
    pub ids: Option<Vec<String>>,
}

impl Filters {
    /// Groups of facets: of each group at least one must be there.
    fn facets(&self) -> Vec<Vec<String>> {
        let folded = |text: &String| same(text.trim());
        let of = |kind: &str, values: &[String], form: &dyn Fn(&String) -> String| -> Vec<String> {
            values
                .iter()
                .take(MAX_FILTERS)
                .map(|value| facet(kind, &form(value)))
                .collect()
        };
        let tags = self
            .tags
            .iter()
            .take(MAX_FILTERS)
            .map(|tag| vec![facet("tag", &folded(tag))]);
        let subtype: Vec<String> = self.subtype.iter().cloned().collect();
        let any_of = [
            of("type", &self.model_types, &String::clone),
            of("subtype", &subtype, &String::clone),
            of("family", &self.families, &folded),
            of("format", &self.formats, &String::clone),
            of("quant", &self.quants, &|text| quantization(text)),
            of("size", &self.sizes, &String::clone),
        ];
        tags.chain(any_of.into_iter().filter(|group| !group.is_empty()))
            .collect()
    }

    /// The filters of which each is left out where its own kind is counted.
    fn chosen(&self) -> Chosen {
        let trimmed = |text: &String| text.trim().to_owned();
        [
            (Kind::Type, self.model_types.clone()),
            (Kind::Family, self.families.iter().map(trimmed).collect()),
            (Kind::Format, self.formats.clone()),
            (
                Kind::Quant,
                self.quants.iter().map(|text| quantization(text)).collect(),
            ),
            (Kind::Size, self.sizes.clone()),
        ]
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(kind, values)| {
            let forms = values.iter().take(MAX_FILTERS).map(|value| kind.form(value));
            (kind, forms.collect())
        })
        .collect()
    }

    fn of_any_app(&self) -> Self {
        Self {
            ids: None,
            ..self.clone()
        }
    }

    fn without_chosen(&self) -> Self {
        Self {
            tags: self.tags.clone(),
            subtype: self.subtype.clone(),
            ids: self.ids.clone(),
            ..Self::default()
        }
    }
}

fn quantization(text: &str) -> String {
    let known = detect_quantization(text);
    if known.is_empty() {
        same(text.trim())
    } else {
        known
    }
}

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

/// Whether all words of the query were found, or only any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Match {
    /// All.
    All,
    /// No model has all; some have some.
    Any,
}

/// A piece of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Best first.
    pub hits: Vec<Hit>,
    /// All matches.
    pub total: i64,
    /// The full-text expression that was used; `""` without words.
    pub query: String,
    /// Whether all words were found.
    pub matched: Match,
    /// Milliseconds.
    pub took_ms: f64,
}

/// The totals of one revision of the library.
#[derive(Debug, Default)]
struct Counts {
    revision: i64,
    known: Mutex<HashMap<String, i64>>,
}

/// The different words of a query, at most 16, each cut to 64 characters.
#[must_use]
pub fn terms(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for word in words(cut(text, MAX_TEXT)) {
        let word = cut(&word, MAX_TERM).to_owned();
        if !found.contains(&word) {
            found.push(word);
            if found.len() == MAX_TERMS {
                break;
            }
        }
    }
    found
}

/// What is held of one revision of the library; nothing of a small one.
#[derive(Debug)]
struct Learned {
    revision: i64,
    held: Option<Arc<Held>>,
}

/// What a search knows of the library before it asks the search table.
#[derive(Clone)]
struct Known {
    counts: Arc<Counts>,
    held: Option<Arc<Held>>,
}

/// Stateless but for what it remembers until the library changes: totals, and all words once it was told to [`learn`].
/// Any thread may call it.
///
/// [`learn`]: Self::learn
#[derive(Debug)]
pub struct Searcher {
    counts: Mutex<Arc<Counts>>,
    learned: Mutex<Option<Learned>>,
    behind: AtomicBool,
    least_held: i64,
}

impl Default for Searcher {
    fn default() -> Self {
        Self::holding_from(LEAST_HELD)
    }
}

impl Searcher {
    /// One that holds the words of a library that has at least so many models.
    #[must_use]
    pub fn holding_from(models: i64) -> Self {
        Self {
            counts: Mutex::default(),
            learned: Mutex::default(),
            behind: AtomicBool::new(false),
            least_held: models,
        }
    }

    /// Whether a question came since the library changed, so that [`Self::learn`] would help the next.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    /// Reads what helps all questions until the library changes; for 100,000 models that takes a second or two.
    ///
    /// `stop` is asked now and then.
    pub fn learn(&self, c: &Connection, stop: &dyn Fn() -> bool) -> Result<()> {
        // What is held of another revision is of no use, and both would be one too many.
        *locked(&self.learned) = None;
        let revision = revision(c)?;
        let held = Held::read(c, self.least_held, stop)?.map(Arc::new);
        *locked(&self.learned) = Some(Learned { revision, held });
        self.behind.store(false, Ordering::Release);
        Ok(())
    }

    /// Finds models. `limit` None means [`DEFAULT_LIMIT`]; it is kept within 1 to [`MAX_LIMIT`], `offset` from 0 on.
    pub fn search(
        &self,
        c: &Connection,
        text: &str,
        filters: &Filters,
        limit: Option<i64>,
        offset: i64,
    ) -> Result<Page> {
        let started = Instant::now();
        let span = Span {
            limit: limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT),
            offset: offset.clamp(0, MAX_OFFSET),
        };
        let look = Look::new(c, self.known(c)?, filters);
        let found = terms(text);
        let mut matched = Match::All;
        let mut listing = if found.is_empty() {
            look.newest(span)?
        } else {
            look.find(&found, ALL, span)?
        };
        if listing.total == 0 && found.len() > 1 {
            matched = Match::Any;
            listing = look.find(&found, ANY, span)?;
        }
        let hits = look.hits(&listing.rows)?;
        let took_ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        Ok(Page {
            hits,
            total: listing.total,
            query: listing.query,
            matched,
            took_ms,
        })
    }

    /// Counts what [`Self::search`] finds, by kind.
    pub fn facets(
        &self,
        c: &Connection,
        text: &str,
        filters: &Filters,
        used_by: &UsedBy,
    ) -> Result<FacetCounts> {
        let (known, found) = (self.known(c)?, terms(text));
        if let Some(held) = &known.held
            && let Some(counts) = held_facets(held, c, &found, filters, used_by)?
        {
            return Ok(counts);
        }
        let whole = Look::new(c, known.clone(), filters);
        let operator = if found.len() > 1 && !whole.has_any(&found, ALL)? {
            ANY
        } else {
            ALL
        };
        let (others, of_any_app) = (filters.without_chosen(), filters.of_any_app());
        let others = Look::new(c, known.clone(), &others).condition(&found, operator);
        let of_any_app = Look::new(c, known, &of_any_app).condition(&found, operator);
        Ok(FacetCounts {
            tags: facets::tags(c, &whole.condition(&found, operator))?,
            apps: facets::apps(c, &of_any_app, used_by)?,
            ..facets::properties(c, &others, &filters.chosen())?
        })
    }

    fn known(&self, c: &Connection) -> Result<Known> {
        let revision = revision(c)?;
        let learned = locked(&self.learned);
        let current = learned.as_ref().filter(|learned| learned.revision == revision);
        if current.is_none() {
            self.behind.store(true, Ordering::Release);
        }
        Ok(Known {
            counts: self.counts_of(revision),
            held: current.and_then(|learned| learned.held.clone()),
        })
    }

    fn counts_of(&self, revision: i64) -> Arc<Counts> {
        let mut counts = locked(&self.counts);
        if counts.revision != revision || locked(&counts.known).len() > REMEMBERED {
            *counts = Arc::new(Counts {
                revision,
                known: Mutex::default(),
            });
        }
        Arc::clone(&counts)
    }
}

fn revision(c: &Connection) -> Result<i64> {
    c.prepare_cached("SELECT revision FROM library_state")?
        .query_row([], |row| row.get(0))
}

/// As [`Searcher::facets`]; `None` when what is held cannot tell.
fn held_facets(
    held: &Held,
    c: &Connection,
    found: &[String],
    filters: &Filters,
    used_by: &UsedBy,
) -> Result<Option<FacetCounts>> {
    let matching = |filters: &Filters, all: bool| -> Result<Option<_>> {
        let within = held.within(c, &filters.facets(), filters.ids.as_deref())?;
        Ok(held.matching(Asked { words: found, all }, within.as_ref()))
    };
    let mut all = true;
    let Some(mut whole) = matching(filters, all)? else {
        return Ok(None);
    };
    if found.len() > 1 && whole.count() == 0 {
        all = false;
        let Some(any) = matching(filters, all)? else {
            return Ok(None);
        };
        whole = any;
    }
    let (Some(others), Some(of_any_app)) = (
        matching(&filters.without_chosen(), all)?,
        matching(&filters.of_any_app(), all)?,
    ) else {
        return Ok(None);
    };
    Ok(Some(FacetCounts {
        tags: held.tags(&whole),
        apps: held.apps(c, &of_any_app, used_by)?,
        ..held.properties(&others, &filters.chosen())
    }))
}

#[derive(Debug, Clone, Copy)]
struct Span {
    limit: i64,
    offset: i64,
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
struct Listing {
    query: String,
    rows: Vec<i64>,
    total: i64,
}

/// One search over one snapshot of the index.
struct Look<'c> {
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
    fn new(c: &'c Connection, known: Known, filters: &'c Filters) -> Self {
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
    fn condition(&self, found: &[String], operator: &str) -> Matching {
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

    fn has_any(&self, found: &[String], operator: &str) -> Result<bool> {
        let one = Span { limit: 1, offset: 0 };
        Ok(!self.matching(&joined(found, operator, "*"), one, &[])?.is_empty())
    }

    // -- with words --------------------------------------------------------------------------------------------------

    fn find(&self, found: &[String], operator: &str, span: Span) -> Result<Listing> {
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
            let rows = span.cut(self.weighed(&matching, found)?);
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
            span.cut(self.weighed(&matches.rows(), found)?)
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

    /// Few matches, best first.
    fn weighed(&self, rows: &[i64], found: &[String]) -> Result<Vec<i64>> {
        let sql = "SELECT row, name_key, other_names, family, tags, model_type, kinds, updated_at FROM models \
                   WHERE row IN (SELECT value FROM json_each(?))";
        let mut statement = self.c.prepare_cached(sql)?;
        let weighed = statement.query_map([json(rows)], |row| weigh(row, found))?;
        let mut weighed = weighed.collect::<Result<Vec<Weight>>>()?;
        weighed.sort_by(|a, b| b.cmp(a));
        Ok(weighed.into_iter().map(|weight| weight.row).collect())
    }

    // -- without words -----------------------------------------------------------------------------------------------

    fn newest(&self, span: Span) -> Result<Listing> {
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

    // -- rows --------------------------------------------------------------------------------------------------------

    fn hits(&self, rows: &[i64]) -> Result<Vec<Hit>> {
        let sql = format!("SELECT {HIT_COLUMNS} FROM models WHERE row IN (SELECT value FROM json_each(?))");
        let mut statement = self.c.prepare_cached(&sql)?;
        let found = statement.query_map([json(rows)], |row| Ok((row.get::<_, i64>(0)?, hit(row)?)))?;
        let mut found = found.collect::<Result<HashMap<i64, Hit>>>()?;
        Ok(rows.iter().filter_map(|row| found.remove(row)).collect())
    }
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

/// What a match is worth; compared from the first field to the last.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Weight {
    tier: i32,
    score: i32,
    updated_at: String,
    row: i64,
}

fn weigh(row: &Row<'_>, found: &[String]) -> Result<Weight> {
    let text = |column: usize| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
    let padded = |texts: &str| format!(" {} ", words(texts).join(" "));
    let name = text(1)?;
    let names = format!(" {name} {} ", text(2)?);
    let labels = padded(&format!("{} {}", text(4)?, text(3)?));
    let others = padded(&format!("{} {}", text(5)?, text(6)?));
    let (tier, score) = weight(found, [&names, &labels, &others]);
    let tier = if name == found.join(" ") { 5 } else { tier };
    Ok(Weight {
        tier,
        score,
        updated_at: text(7)?.to_owned(),
        row: row.get(0)?,
    })
}

/// (tier, score) of one model: 4 all words are in its name, 3 all begin there, 2 all in short fields, 1 the rest.
///
/// Each text (names, labels, others) is folded words between spaces, so that ` term` finds a beginning and ` term ` a
/// whole word.
fn weight(found: &[String], texts: [&str; 3]) -> (i32, i32) {
    let (mut tier, mut score) = (4, 0);
    for term in found {
        let (whole, begun) = (format!(" {term} "), format!(" {term}"));
        let place = [(16, 4), (6, 2), (3, 2)]
            .into_iter()
            .zip(texts)
            .find(|(_, text)| text.contains(&begun));
        match place {
            Some(((weight, best), text)) if text.contains(&whole) => {
                score += weight;
                tier = tier.min(best);
            }
            Some(((weight, best), _)) => {
                score += weight - weight / 3;
                tier = tier.min(best).min(3);
            }
            None => tier = 1,
        }
    }
    (tier, score)
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

fn json(rows: &[i64]) -> String {
    serde_json::to_string(rows).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::contracts::schema;
    use crate::library::entry::from_metadata;
    use crate::library::store::{Batch, apply};

    fn library(models: &[(&str, serde_json::Value)]) -> Connection {
        let c = Connection::open_in_memory().unwrap();
        c.execute_batch(schema::MODELS).unwrap();
        let entries = models
            .iter()
            .map(|(id, metadata)| from_metadata(id, metadata.as_object().unwrap()).unwrap())
            .collect();
        apply(
            &c,
            &Batch {
                entries,
                ..Batch::default()
            },
        )
        .unwrap();
        c
    }

    fn check(c: &Connection, text: &str, filters: &Filters, expected: &[&str]) {
        let page = Searcher::default().search(c, text, filters, None, 0).unwrap();
        assert_eq!(
            page.hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(),
            expected,
            "{text:?}"
        );
        assert_eq!(page.total, i64::try_from(expected.len()).unwrap());
    }

    fn small() -> Connection {
        library(&[
            (
                "llm/llama/A",
                json!({"official_name": "Harbor 7B", "tags": ["chat"], "updated_date": "2030-01-01T00:00Z"}),
            ),
            (
                "llm/llama/B",
                json!({"official_name": "Lantern", "description": "better than harbor", "tags": ["Chat"]}),
            ),
            (
                "diffusion/sdxl/C",
                json!({"official_name": "Harbor", "files": [{"name": "c-Q4_K_M.gguf", "size": 5}]}),
            ),
            (
                "diffusion/sdxl/D",
                json!({"official_name": "Harbored ships", "tags": ["photo"]}),
            ),
        ])
    }

    #[test]
    fn names_come_before_beginnings_and_descriptions() {
        check(
            &small(),
            "harbor",
            &Filters::default(),
            &[
                "diffusion/sdxl/C",
                "llm/llama/A",
                "diffusion/sdxl/D",
                "llm/llama/B",
            ],
        );
        check(&small(), "HARBÓR 7", &Filters::default(), &["llm/llama/A"]);
    }

    #[test]
    fn any_word_when_no_model_has_all() {
        let c = small();
        let page = Searcher::default()
            .search(&c, "lantern nowhere", &Filters::default(), None, 0)
            .unwrap();
        assert_eq!(
            (page.matched, page.total, page.query.as_str()),
            (Match::Any, 1, "\"lantern\"* OR \"nowhere\"*")
        );
    }

    #[test]
    fn filters() {
        let of = |change: fn(&mut Filters)| {
            let mut filters = Filters::default();
            change(&mut filters);
            filters
        };
        let c = small();
        check(
            &c,
            "",
            &of(|f| f.model_types = vec!["diffusion".into()]),
            &["diffusion/sdxl/D", "diffusion/sdxl/C"],
        );
        check(
            &c,
            "",
            &of(|f| f.tags = vec![" CHAT ".into()]),
            &["llm/llama/A", "llm/llama/B"],
        );
        check(
            &c,
            "harbor",
            &of(|f| f.families = vec!["SDXL".into()]),
            &["diffusion/sdxl/C", "diffusion/sdxl/D"],
        );
        check(
            &c,
            "",
            &of(|f| f.quants = vec!["q4_k_m".into()]),
            &["diffusion/sdxl/C"],
        );
        check(&c, "", &of(|f| f.sizes = vec!["0".into()]), &["diffusion/sdxl/C"]);
        check(
            &c,
            "",
            &of(|f| f.formats = vec!["gguf".into(), "onnx".into()]),
            &["diffusion/sdxl/C"],
        );
        check(&c, "", &of(|f| f.tags = vec!["chat".into(), "photo".into()]), &[]);
    }

    fn large() -> Connection {
        let models: Vec<(String, serde_json::Value)> = (0..700)
            .map(|n| {
                let name = match n % 7 {
                    0 => "alpha".to_owned(),
                    1 => format!("alpha beta {n}"),
                    2 => format!("alphabet {n}"),
                    3 => format!("gamma {n}"),
                    _ => format!("delta {n}"),
                };
                let metadata = match n % 7 {
                    3 => json!({"official_name": name, "tags": ["alpha"]}),
                    4..7 => json!({"official_name": name, "description": "of alpha"}),
                    _ => json!({"official_name": name}),
                };
                (format!("llm/x/m{n:03}"), metadata)
            })
            .collect();
        let models: Vec<(&str, serde_json::Value)> =
            models.iter().map(|(id, m)| (id.as_str(), m.clone())).collect();
        library(&models)
    }

    #[test]
    fn pages_of_many_matches_cover_all_of_them_once() {
        let c = large();
        let searcher = Searcher::default();
        let whole = searcher
            .search(&c, "alpha", &Filters::default(), Some(1000), 0)
            .unwrap();
        assert_eq!((whole.hits.len(), whole.total), (700, 700));
        let mut paged = Vec::new();
        for offset in (0..700).step_by(33) {
            paged.extend(
                searcher
                    .search(&c, "alpha", &Filters::default(), Some(33), offset)
                    .unwrap()
                    .hits,
            );
        }
        let ids = |hits: &[Hit]| hits.iter().map(|hit| hit.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&paged), ids(&whole.hits));
        assert_eq!(whole.hits[0].official_name, "alpha");
        assert!(whole.hits[699].official_name.starts_with("delta"));
    }

    #[test]
    fn limits_are_kept_within_bounds() {
        let c = large();
        let searcher = Searcher::default();
        for (limit, offset, expected) in [
            (Some(0), -5, 1),
            (Some(-1), 0, 1),
            (Some(i64::MAX), 0, 700),
            (None, i64::MAX, 0),
        ] {
            let page = searcher
                .search(&c, "", &Filters::default(), limit, offset)
                .unwrap();
            assert_eq!(page.hits.len(), expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_text_is_a_syntax_error(text in ".{0,80}|[\"'()*:^ ANDORT-]{0,40}") {
            let page = Searcher::default().search(&small(), &text, &Filters::default(), None, 0);
            prop_assert!(page.is_ok(), "{:?}", page);
        }

        #[test]
        fn no_filter_is_a_syntax_error(text in ".{1,40}") {
            let filters = Filters {
                tags: vec![text.clone()], model_types: vec![text.clone()], families: vec![text], ..Filters::default()
            };
            prop_assert!(Searcher::default().search(&small(), "a", &filters, None, 0).is_ok());
        }
    }
}
