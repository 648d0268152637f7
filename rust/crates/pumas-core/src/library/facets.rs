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

/// What models have in common that are counted together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Group {
    pub(super) model_type: String,
    pub(super) family: String,
    /// As the index has them: subtype, file formats and quantisations.
    pub(super) kinds: String,
    /// Whole GiB.
    pub(super) gib: Option<i64>,
}

/// A tag, and on how many models it is.
pub(super) type TagCount<'a> = (&'a str, i64);

/// Counts the kinds of [`Kind`]. `matching` holds all filters but those that are `chosen`.
pub(super) fn properties(c: &Connection, matching: &Matching, chosen: &Chosen) -> Result<FacetCounts> {
    let mut statement = c.prepare(&format!(
        "SELECT model_type, family, kinds, size_bytes / 1073741824, count(*) FROM models WHERE {} \
         GROUP BY 1, 2, 3, 4",
        matching.condition
    ))?;
    let groups = statement.query_map(params_from_iter(&matching.values), |row| {
        let group = Group {
            model_type: row.get(0)?,
            family: row.get(1)?,
            kinds: row.get(2)?,
            gib: row.get(3)?,
        };
        Ok((group, row.get(4)?))
    })?;
    let mut counting = Counting::new(chosen);
    for group in groups {
        let (group, count) = group?;
        counting.add(&group, count);
    }
    Ok(counting.finish())
}

/// As [`properties`], of groups that were counted already; they come in order.
pub(super) fn of_groups<'a>(groups: impl Iterator<Item = (&'a Group, i64)>, chosen: &Chosen) -> FacetCounts {
    let mut counting = Counting::new(chosen);
    for (group, count) in groups {
        counting.add(group, count);
    }
    counting.finish()
}

/// Groups become counts of each kind.
struct Counting<'a> {
    chosen: &'a Chosen,
    counters: [Counter; 5],
}

impl<'a> Counting<'a> {
    fn new(chosen: &'a Chosen) -> Self {
        Self {
            chosen,
            counters: std::array::from_fn(|_| Counter::default()),
        }
    }

    fn add(&mut self, group: &Group, count: i64) {
        let (formats, quants) = formats_and_quantizations(&group.kinds);
        let band = group.gib.map(|gib| size_band(gib << 30));
        let values = [
            vec![group.model_type.clone()],
            vec![group.family.clone()],
            formats,
            quants,
            band.into_iter().collect(),
        ];
        let fails = |(kind, wanted): &&(Kind, HashSet<String>)| {
            let has_wanted = |value: &String| wanted.contains(&kind.form(value));
            !values[*kind as usize].iter().any(has_wanted)
        };
        let failed: Vec<Kind> = self.chosen.iter().filter(fails).map(|(kind, _)| *kind).collect();
        let counted: &[Kind] = match failed.len() {
            0 => &Kind::ALL,
            1 => &failed,
            _ => return,
        };
        for kind in counted {
            for value in &values[*kind as usize] {
                self.counters[*kind as usize].add(value, count);
            }
        }
    }

    fn finish(self) -> FacetCounts {
        let [types, families, formats, quants, sizes] = self.counters.map(Counter::most_common);
        FacetCounts {
            types,
            families,
            formats,
            quants,
            sizes,
            ..FacetCounts::default()
        }
    }
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

/// As [`tags`], of tags that were counted already.
pub(super) fn most_tags(mut counted: Vec<TagCount<'_>>) -> Map<String, Value> {
    counted.sort_unstable_by_key(|(tag, count)| (std::cmp::Reverse(*count), *tag));
    let most = counted.into_iter().take(MOST_VALUES);
    most.map(|(tag, count)| (tag.to_owned(), count.into())).collect()
}

/// Counts apps; one without a match is left out.
pub(super) fn apps(c: &Connection, matching: &Matching, used_by: &UsedBy) -> Result<Map<String, Value>> {
    let sql = format!(
        "SELECT count(*) FROM models WHERE id IN (SELECT value FROM json_each(?)) AND {}",
        matching.condition
    );
    let mut statement = c.prepare(&sql)?;
    apps_with(used_by, |ids| {
        let ids = serde_json::to_string(ids).unwrap_or_default();
        let values = std::iter::once(&ids).chain(&matching.values);
        statement.query_row(params_from_iter(values), |row| row.get(0))
    })
}

/// As [`apps`], where `count` says how many of some models match.
pub(super) fn apps_with(
    used_by: &UsedBy,
    mut count: impl FnMut(&[String]) -> Result<i64>,
) -> Result<Map<String, Value>> {
    let mut counter = Counter::default();
    for (app, ids) in used_by {
        let count = count(ids)?;
        if count > 0 {
            counter.add(app, count);
        }
    }
    Ok(counter.most_common())
}
