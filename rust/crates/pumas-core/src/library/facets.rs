//! How many models have each value by which a search can be filtered: of all models, or of those that a search finds.
//!
//! A value's count is what choosing it would find: values of one kind are alternatives, so a kind is counted without its
//! own filter; tags, all of which must be there, are counted with theirs. [`crate::library::search`] says which models
//! match; nothing here knows how. The one pass over many models groups them first, so that their words are read once for
//! each group.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{Connection, Result, params_from_iter};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::library::entry::formats_and_quantizations;
use crate::library::words::{same, size_band};

/// Of each kind, so many values are worth showing.
const MOST_VALUES: usize = 100;

/// Kinds whose values are alternatives, each of which a model has few of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `llm`, …
    Type,
    /// `llama`, …
    Family,
    /// `gguf`, …
    Format,
    /// `Q4_K_M`, …
    Quant,
    /// A band, see [`size_band`].
    Size,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Type, Self::Family, Self::Format, Self::Quant, Self::Size];

    /// The form in which two values are compared.
    #[must_use]
    pub fn form(self, value: &str) -> String {
        match self {
            Self::Family | Self::Quant => same(value),
            Self::Type | Self::Format | Self::Size => value.to_owned(),
        }
    }
}

/// The values that were chosen of a kind, in their form; a kind that is not there has no filter.
pub type Chosen = Vec<(Kind, HashSet<String>)>;

/// The ids of the models that each app uses, by the app's id.
pub type UsedBy = BTreeMap<String, Vec<String>>;

/// Which models match: a condition on `models`, and the values of its parameters.
#[derive(Debug, Clone)]
pub struct Matching {
    pub(super) condition: String,
    pub(super) values: Vec<String>,
}

/// Value to number of models, the most frequent first, at most a hundred of each kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FacetCounts {
    /// By type.
    pub types: Map<String, Value>,
    /// By family.
    pub families: Map<String, Value>,
    /// By file format.
    pub formats: Map<String, Value>,
    /// By quantisation.
    pub quants: Map<String, Value>,
    /// By band, see [`size_band`].
    pub sizes: Map<String, Value>,
    /// By tag.
    pub tags: Map<String, Value>,
    /// By the id of the app that models are linked into.
    pub apps: Map<String, Value>,
}

/// A counter that remembers in which order its values came.
#[derive(Default)]
struct Counter {
    places: HashMap<String, usize>,
    counts: Vec<(String, i64)>,
}

impl Counter {
    fn add(&mut self, value: &str, count: i64) {
        if value.is_empty() {
            return;
        }
        match self.places.get(value) {
            Some(&place) => self.counts[place].1 += count,
            None => {
                self.places.insert(value.to_owned(), self.counts.len());
                self.counts.push((value.to_owned(), count));
            }
        }
    }

    fn most_common(mut self) -> Map<String, Value> {
        self.counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        self.counts
            .into_iter()
            .take(MOST_VALUES)
            .map(|(value, count)| (value, count.into()))
            .collect()
    }
}

/// Counts the kinds of [`Kind`]. `matching` holds all filters but those that are `chosen`.
pub(super) fn properties(c: &Connection, matching: &Matching, chosen: &Chosen) -> Result<FacetCounts> {
    let mut counters: [Counter; 5] = std::array::from_fn(|_| Counter::default());
    let mut statement = c.prepare(&format!(
        "SELECT model_type, family, kinds, size_bytes / 1073741824, count(*) FROM models WHERE {} \
         GROUP BY 1, 2, 3, 4",
        matching.condition
    ))?;
    let mut rows = statement.query(params_from_iter(&matching.values))?;
    while let Some(row) = rows.next()? {
        let (model_type, family, kinds): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (gib, count): (Option<i64>, i64) = (row.get(3)?, row.get(4)?);
        let (formats, quants) = formats_and_quantizations(&kinds);
        let band = gib.map(|gib| size_band(gib << 30));
        let values = [
            vec![model_type],
            vec![family],
            formats,
            quants,
            band.into_iter().collect(),
        ];
        let failed: Vec<Kind> = chosen
            .iter()
            .filter(|(kind, wanted)| {
                !values[*kind as usize]
                    .iter()
                    .any(|value| wanted.contains(&kind.form(value)))
            })
            .map(|(kind, _)| *kind)
            .collect();
        let counted: &[Kind] = match failed.len() {
            0 => &Kind::ALL,
            1 => &failed,
            _ => continue,
        };
        for kind in counted {
            for value in &values[*kind as usize] {
                counters[*kind as usize].add(value, count);
            }
        }
    }
    let [types, families, formats, quants, sizes] = counters.map(Counter::most_common);
    Ok(FacetCounts {
        types,
        families,
        formats,
        quants,
        sizes,
        ..FacetCounts::default()
    })
}

/// Counts tags.
pub(super) fn tags(c: &Connection, matching: &Matching) -> Result<Map<String, Value>> {
    let sql = format!(
        "SELECT value, count(*) FROM models, json_each(tags_json) WHERE {} GROUP BY 1 ORDER BY 2 DESC, 1 \
         LIMIT {MOST_VALUES}",
        matching.condition
    );
    c.prepare(&sql)?
        .query_map(params_from_iter(&matching.values), |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.into()))
        })?
        .collect()
}

/// Counts apps; one without a match is left out.
pub(super) fn apps(c: &Connection, matching: &Matching, used_by: &UsedBy) -> Result<Map<String, Value>> {
    let sql = format!(
        "SELECT count(*) FROM models WHERE id IN (SELECT value FROM json_each(?)) AND {}",
        matching.condition
    );
    let mut counter = Counter::default();
    let mut statement = c.prepare(&sql)?;
    for (app, ids) in used_by {
        let ids = serde_json::to_string(ids).unwrap_or_default();
        let values = std::iter::once(&ids).chain(&matching.values);
        let count: i64 = statement.query_row(params_from_iter(values), |row| row.get(0))?;
        if count > 0 {
            counter.add(app, count);
        }
    }
    Ok(counter.most_common())
}
