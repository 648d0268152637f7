//! The words of the search table and in which rows they stand, packed: about two bytes for each word of each model.
//!
//! They come from FTS5 itself (`fts5vocab`, <https://www.sqlite.org/fts5.html#the_fts5vocab_virtual_table_module>), so
//! that a row is found here by exactly the words by which the search table finds it. The words lie in order, so those
//! that begin alike lie together. What a query is, and which rows come first, is decided elsewhere.

use std::ops::Range;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

use super::rows::Rows;

/// Rows below this leave room for a place beside the gap between two of them.
pub(super) const MOST_ROWS: usize = 1 << 28;
const NAMES: [&[u8]; 2] = [b"official_name", b"other_names"];
const SHORT: [&[u8]; 4] = [b"model_type", b"tags", b"family", b"kinds"];
/// Bits of a packed number that say where the word stands.
const PLACE_BITS: u32 = 2;
/// So many words of models are read between two looks whether to stop.
const LOOK_EVERY: u32 = 4096;

/// The best place in which a row has a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Name,
    Short,
    Elsewhere,
}

impl Place {
    fn of_column(name: &[u8]) -> Self {
        if NAMES.contains(&name) {
            Self::Name
        } else if SHORT.contains(&name) {
            Self::Short
        } else {
            Self::Elsewhere
        }
    }
}

/// Rows by how well they match; each set holds the one before it.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// It is a word of a name.
    pub(super) whole: Rows,
    /// A word of a name begins so.
    pub(super) named: Rows,
    /// A word of a name, tag, type, family or kind begins so.
    pub(super) short: Rows,
    /// Any word begins so.
    pub(super) any: Rows,
}

impl Standing {
    /// Joins each set with the other's.
    pub(super) fn join(&mut self, other: &Self, join: fn(&mut Rows, &Rows)) {
        join(&mut self.whole, &other.whole);
        join(&mut self.named, &other.named);
        join(&mut self.short, &other.short);
        join(&mut self.any, &other.any);
    }

    /// Keeps only these rows.
    pub(super) fn keep(&mut self, rows: &Rows) {
        for set in [&mut self.whole, &mut self.named, &mut self.short, &mut self.any] {
            set.keep(rows);
        }
    }
}

/// Where a word and the list of its rows end; they begin where those of the word before end.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    text: u32,
    rows: u32,
}

/// All words of all models.
#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    text: Vec<u8>,
    /// For each row the gap to the one before and the best place, as one number of seven bits a byte, the lowest first.
    rows: Vec<u8>,
    ends: Vec<Ends>,
    end: usize,
}

impl Vocabulary {
    /// Reads the search table. `end` is beyond every row. `None` when `stop` said so, or when there is more than fits.
    pub(super) fn read(c: &Connection, end: usize, stop: &dyn Fn() -> bool) -> Result<Option<Self>> {
        let mut reading = Reading::new(end);
        with_words(c, |c| {
            let mut statement = c.prepare("SELECT term, doc, col FROM temp.model_words ORDER BY term")?;
            let mut found = statement.query([])?;
            let mut seen: u32 = 0;
            while let Some(row) = found.next()? {
                let (ValueRef::Text(word), ValueRef::Text(column)) = (row.get_ref(0)?, row.get_ref(2)?)
                else {
                    continue;
                };
                seen = seen.wrapping_add(1);
                let fits = reading.take(word, row.get(1)?, Place::of_column(column));
                if !fits || (seen.is_multiple_of(LOOK_EVERY) && stop()) {
                    return Ok(None);
                }
            }
            Ok(reading.finish())
        })
    }

    /// The rows in which a word begins with `beginning`.
    pub(super) fn beginning_with(&self, beginning: &str) -> Standing {
        let mut standing = Standing {
            whole: Rows::none(self.end),
            named: Rows::none(self.end),
            short: Rows::none(self.end),
            any: Rows::none(self.end),
        };
        let words = self.words_beginning_with(beginning.as_bytes());
        for word in words.clone() {
            for (row, place) in self.rows_of(word) {
                match place {
                    Place::Name => standing.named.insert(row),
                    Place::Short => standing.short.insert(row),
                    Place::Elsewhere => standing.any.insert(row),
                }
            }
        }
        standing.short.add(&standing.named);
        standing.any.add(&standing.short);
        // The shortest of those that begin so comes first.
        if !words.is_empty() && self.word(words.start) == beginning.as_bytes() {
            let in_names = self
                .rows_of(words.start)
                .filter(|(_, place)| *place == Place::Name);
            in_names.for_each(|(row, _)| standing.whole.insert(row));
        }
        standing
    }

    /// Adds the rows that have exactly this word, wherever.
    pub(super) fn add_rows_with(&self, word: &str, rows: &mut Rows) {
        let words = self.words_beginning_with(word.as_bytes());
        if !words.is_empty() && self.word(words.start) == word.as_bytes() {
            self.rows_of(words.start).for_each(|(row, _)| rows.insert(row));
        }
    }

    fn words_beginning_with(&self, beginning: &[u8]) -> Range<usize> {
        let first = self.partition_point(|word| word < beginning);
        let end = self.partition_point(|word| word < beginning || word.starts_with(beginning));
        first..end
    }

    /// The first word of which `before` is false.
    fn partition_point(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if before(self.word(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn start(&self, word: usize) -> Ends {
        word.checked_sub(1)
            .map_or_else(Ends::default, |before| self.ends[before])
    }

    fn word(&self, number: usize) -> &[u8] {
        &self.text[self.start(number).text as usize..self.ends[number].text as usize]
    }

    fn rows_of(&self, word: usize) -> impl Iterator<Item = (usize, Place)> + '_ {
        let mut packed = self.rows[self.start(word).rows as usize..self.ends[word].rows as usize].iter();
        let mut row = 0;
        std::iter::from_fn(move || {
            let mut number = 0;
            let mut shift = 0;
            loop {
                let byte = u32::from(*packed.next()?);
                number |= (byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
                shift += 7;
            }
            row += (number >> PLACE_BITS) as usize;
            let place = match number & 3 {
                0 => Place::Name,
                1 => Place::Short,
                _ => Place::Elsewhere,
            };
            Some((row, place))
        })
    }
}

/// The lowest seven.
fn lowest_bits(number: u32) -> u8 {
    number.to_le_bytes()[0] & 0x7f
}

/// Runs `read` with `temp.model_words`: each word, row and column that the search table has, in order.
fn with_words<T>(c: &Connection, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    // A reader may write nothing, and that table, which has no content, is made in the connection's own memory.
    let query_only: bool = c.pragma_query_value(None, "query_only", |row| row.get(0))?;
    c.pragma_update(None, "query_only", false)?;
    let made = c.execute_batch(
        "DROP TABLE IF EXISTS temp.model_words; \
         CREATE VIRTUAL TABLE temp.model_words USING fts5vocab('main', 'model_search', 'instance')",
    );
    let outcome = made.and_then(|()| read(c));
    let gone = c.execute_batch("DROP TABLE IF EXISTS temp.model_words");
    c.pragma_update(None, "query_only", query_only)?;
    outcome.and_then(|value| gone.map(|()| value))
}

/// A vocabulary that is being read, word after word, and of each word row after row.
struct Reading {
    vocabulary: Vocabulary,
    word: Vec<u8>,
    /// The last row, of which more may come, with its best place so far; and the one before it.
    last: Option<(usize, Place)>,
    before: usize,
}

impl Reading {
    fn new(end: usize) -> Self {
        Self {
            vocabulary: Vocabulary {
                end,
                ..Vocabulary::default()
            },
            word: Vec::new(),
            last: None,
            before: 0,
        }
    }

    /// False when it does not fit.
    fn take(&mut self, word: &[u8], row: i64, place: Place) -> bool {
        let Some(row) = usize::try_from(row).ok().filter(|row| *row < self.vocabulary.end) else {
            return false;
        };
        if word != self.word {
            if !self.end_word() {
                return false;
            }
            self.word.extend_from_slice(word);
        }
        match &mut self.last {
            Some((last, best)) if *last == row => *best = place.min(*best),
            Some((last, _)) if row < *last => return false,
            _ => {
                self.pack();
                self.last = Some((row, place));
            }
        }
        true
    }

    fn pack(&mut self) {
        let Some((row, place)) = self.last.take() else {
            return;
        };
        let gap = u32::try_from(row - self.before).unwrap_or(u32::MAX >> PLACE_BITS);
        self.before = row;
        let mut number = gap << PLACE_BITS | place as u32;
        while number >= 0x80 {
            self.vocabulary.rows.push(lowest_bits(number) | 0x80);
            number >>= 7;
        }
        self.vocabulary.rows.push(lowest_bits(number));
    }

    /// False when its end cannot be written down.
    fn end_word(&mut self) -> bool {
        if self.last.is_none() {
            return true;
        }
        self.pack();
        self.before = 0;
        let vocabulary = &mut self.vocabulary;
        vocabulary.text.append(&mut self.word);
        let (text, rows) = (vocabulary.text.len(), vocabulary.rows.len());
        let (Ok(text), Ok(rows)) = (u32::try_from(text), u32::try_from(rows)) else {
            return false;
        };
        vocabulary.ends.push(Ends { text, rows });
        true
    }

    fn finish(mut self) -> Option<Vocabulary> {
        if !self.end_word() {
            return None;
        }
        let vocabulary = &mut self.vocabulary;
        vocabulary.text.shrink_to_fit();
        vocabulary.rows.shrink_to_fit();
        vocabulary.ends.shrink_to_fit();
        Some(self.vocabulary)
    }
}
