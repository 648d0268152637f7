//! What models are counted by, packed: for each row the group of models that are alike, and its tags.

use std::collections::HashMap;

use rusqlite::types::Type;
use rusqlite::{Connection, Error, Result};

use super::rows::Rows;
use crate::library::facets::{Group, TagCount};

/// So many rows are read between two looks whether to stop.
const LOOK_EVERY: usize = 1024;
/// The group of a row that is none.
const NO_MODEL: u32 = u32::MAX;

/// The values by which models are counted.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// In order.
    groups: Vec<Group>,
    /// By row.
    group_of: Vec<u32>,
    tags: Vec<Box<str>>,
    /// The tags of all rows, one row after the other; where those of each row end.
    tags_of: Vec<u32>,
    tags_end: Vec<u32>,
}

impl Columns {
    /// Reads the models. `end` is beyond every row. `None` when `stop` said so.
    pub(super) fn read(c: &Connection, end: usize, stop: &dyn Fn() -> bool) -> Result<Option<Self>> {
        let mut reading = Reading::new(end);
        let mut statement = c.prepare(
            "SELECT row, model_type, family, kinds, size_bytes / 1073741824, tags_json FROM models ORDER BY row",
        )?;
        let mut found = statement.query([])?;
        let mut seen: usize = 0;
        while let Some(row) = found.next()? {
            let text = |column: usize| row.get_ref(column)?.as_str().map_err(Error::from);
            let number = usize::try_from(row.get::<_, i64>(0)?).unwrap_or(usize::MAX);
            let tags: Vec<String> = serde_json::from_str(text(5)?)
                .map_err(|error| Error::FromSqlConversionFailure(5, Type::Text, error.into()))?;
            let group = (text(1)?, text(2)?, text(3)?, row.get(4)?);
            reading.take(number, group, &tags);
            seen += 1;
            if seen.is_multiple_of(LOOK_EVERY) && stop() {
                return Ok(None);
            }
        }
        Ok(Some(reading.finish()))
    }

    /// All rows that have a model; `end` is beyond every one.
    pub(super) fn rows(&self, end: usize) -> Rows {
        let mut rows = Rows::none(end);
        let models = self.group_of.iter().enumerate();
        for (row, _) in models.filter(|(_, group)| **group != NO_MODEL) {
            rows.insert(row);
        }
        rows
    }

    /// The groups of these rows in order, each with how many of its models are among them.
    pub(super) fn groups(&self, rows: &Rows) -> impl Iterator<Item = (&Group, i64)> {
        let mut counts = vec![0; self.groups.len()];
        for row in rows.newest_first() {
            if let Some(count) = self
                .group_of
                .get(row)
                .and_then(|group| counts.get_mut(*group as usize))
            {
                *count += 1;
            }
        }
        self.groups.iter().zip(counts).filter(|(_, count)| *count > 0)
    }

    /// How often each tag is on these rows.
    pub(super) fn tags(&self, rows: &Rows) -> Vec<TagCount<'_>> {
        let mut counts = vec![0; self.tags.len()];
        for row in rows.newest_first() {
            let Some(end) = self.tags_end.get(row) else {
                continue;
            };
            let start = row.checked_sub(1).map_or(0, |before| self.tags_end[before]);
            for tag in &self.tags_of[start as usize..*end as usize] {
                counts[*tag as usize] += 1;
            }
        }
        let counted = self.tags.iter().zip(counts).filter(|(_, count)| *count > 0);
        counted.map(|(tag, count)| (tag.as_ref(), count)).collect()
    }
}

/// Numbers that were given to texts, in the order in which they came.
#[derive(Default)]
struct Numbers {
    known: HashMap<Box<str>, u32>,
}

impl Numbers {
    fn of(&mut self, text: &str) -> u32 {
        if let Some(number) = self.known.get(text) {
            return *number;
        }
        let number = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        self.known.insert(text.into(), number);
        number
    }

    fn texts(self) -> Vec<Box<str>> {
        let mut texts: Vec<_> = self.known.into_iter().collect();
        texts.sort_unstable_by_key(|(_, number)| *number);
        texts.into_iter().map(|(text, _)| text).collect()
    }
}

struct Reading {
    end: usize,
    columns: Columns,
    tags: Numbers,
    groups: HashMap<Group, u32>,
}

impl Reading {
    fn new(end: usize) -> Self {
        Self {
            end,
            columns: Columns::default(),
            tags: Numbers::default(),
            groups: HashMap::new(),
        }
    }

    /// A model; they come in the order of their rows.
    fn take(
        &mut self,
        row: usize,
        (model_type, family, kinds, gib): (&str, &str, &str, Option<i64>),
        tags: &[String],
    ) {
        if row >= self.end {
            return;
        }
        let columns = &mut self.columns;
        let so_far = u32::try_from(columns.tags_of.len()).unwrap_or(u32::MAX);
        columns.tags_end.resize(row, so_far);
        columns.group_of.resize(row, NO_MODEL);
        columns.tags_of.extend(tags.iter().map(|tag| self.tags.of(tag)));
        let end = u32::try_from(columns.tags_of.len()).unwrap_or(u32::MAX);
        columns.tags_end.push(end);
        let group = Group {
            model_type: model_type.to_owned(),
            family: family.to_owned(),
            kinds: kinds.to_owned(),
            gib,
        };
        let next = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        columns.group_of.push(*self.groups.entry(group).or_insert(next));
    }

    fn finish(self) -> Columns {
        let mut columns = self.columns;
        let mut groups: Vec<(Group, u32)> = self.groups.into_iter().collect();
        groups.sort_unstable();
        let mut places = vec![0; groups.len()];
        for (place, (_, number)) in groups.iter().enumerate() {
            places[*number as usize] = u32::try_from(place).unwrap_or(u32::MAX);
        }
        for group in &mut columns.group_of {
            *group = places.get(*group as usize).copied().unwrap_or(NO_MODEL);
        }
        columns.groups = groups.into_iter().map(|(group, _)| group).collect();
        columns.tags = self.tags.texts();
        columns.group_of.shrink_to_fit();
        columns.tags_of.shrink_to_fit();
        columns.tags_end.shrink_to_fit();
        columns
    }
}
