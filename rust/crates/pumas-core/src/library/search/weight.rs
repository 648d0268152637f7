//! Few matches, weighed one by one: the words of each are read from its row and compared with those of the query.
//!
//! Many matches are never weighed: [`super::look`] takes them tier by tier from the search table.

use rusqlite::{Connection, Result, Row};

use super::json;
use crate::library::words::words;

/// What it adds to a score that the name begins with the first word: no more than any other difference.
const FIRST: i32 = 1;

/// These rows, best first.
pub(super) fn weighed(c: &Connection, rows: &[i64], found: &[String]) -> Result<Vec<i64>> {
    let sql = "SELECT row, name_key, other_names, family, tags, model_type, kinds, updated_at FROM models \
               WHERE row IN (SELECT value FROM json_each(?))";
    let mut statement = c.prepare_cached(sql)?;
    let weighed = statement.query_map([json(rows)], |row| weigh(row, found))?;
    let mut weighed = weighed.collect::<Result<Vec<Weight>>>()?;
    weighed.sort_by(|a, b| b.cmp(a));
    Ok(weighed.into_iter().map(|weight| weight.row).collect())
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
/// whole word; a number behind a word of the names ends it as well.
fn weight(found: &[String], texts: [&str; 3]) -> (i32, i32) {
    let first = found
        .first()
        .is_some_and(|first| texts[0][1..].starts_with(first.as_str()));
    let (mut tier, mut score) = (4, if first { FIRST } else { 0 });
    for term in found {
        let (whole, begun) = (format!(" {term} "), format!(" {term}"));
        let place = [(16, 4), (6, 2), (3, 2)]
            .into_iter()
            .zip(texts)
            .find(|(_, text)| text.contains(&begun));
        match place {
            Some(((weight, best), text))
                if text.contains(&whole) || (best == 4 && numbered(text, &begun)) =>
            {
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

/// Whether a number follows on the word, as in `qwen2` or `phi3`.
fn numbered(names: &str, begun: &str) -> bool {
    let behind = names
        .find(begun)
        .and_then(|at| names.as_bytes().get(at + begun.len()));
    !begun.ends_with(|last: char| last.is_ascii_digit()) && behind.is_some_and(u8::is_ascii_digit)
}
