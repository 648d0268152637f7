//! The values of single fields, as other programs wrote them: checked for their types, cleaned and cut.

use std::collections::HashMap;

use serde_json::Value;

use crate::library::words::{facet, same};
use crate::storage::json_file::JsonObject;
use crate::text::cut;

const MAX_TAG: usize = 100;
const MAX_TAGS: usize = 256;
const TEXT_FIELDS: [&str; 9] = [
    "model_type",
    "subtype",
    "family",
    "official_name",
    "cleaned_name",
    "description",
    "download_url",
    "added_date",
    "updated_date",
];

/// The file is JSON but cannot be what it should be; the field is named, its content never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedMetadata {
    /// The key with a value of a wrong type.
    pub field: &'static str,
}

impl std::fmt::Display for DamagedMetadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} has a wrong type", self.field)
    }
}

pub(super) fn check_types(metadata: &JsonObject) -> Result<(), DamagedMetadata> {
    let check = |field: &'static str, fits: fn(&Value) -> bool| match metadata.get(field) {
        Some(value) if !value.is_null() && !fits(value) => Err(DamagedMetadata { field }),
        _ => Ok(()),
    };
    for field in TEXT_FIELDS {
        check(field, Value::is_string)?;
    }
    check("tags", |value| value.is_array() || value.is_string())?;
    check("base_model", |value| {
        value.is_string() || value.is_array() || value.is_object()
    })?;
    check("hashes", Value::is_object)?;
    check("files", Value::is_array)?;
    check("model_card", Value::is_object)?;
    check("size_bytes", Value::is_number)
}

pub(super) fn clean_text(value: Option<&Value>, limit: usize) -> String {
    value
        .and_then(Value::as_str)
        .map(|text| clean(text, limit))
        .unwrap_or_default()
}

/// One clean line: no control or direction characters, at most `limit` characters.
pub(super) fn clean(text: &str, limit: usize) -> String {
    if text.len() <= limit && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return text.trim().to_owned();
    }
    let mut line = String::with_capacity(text.len().min(4 * limit));
    let mut in_odd = false;
    for c in cut(text, 4 * limit).chars() {
        if !is_odd(c) {
            line.push(c);
        } else if !in_odd {
            line.push(' ');
        }
        in_odd = is_odd(c);
    }
    cut(line.trim(), limit).trim_end().to_owned()
}

fn is_odd(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

pub(super) struct Tag {
    pub(super) text: String,
    pub(super) facet: String,
}

/// One of each, without regard to case: the first spelling, in the place of the last.
pub(super) fn tags(value: Option<&Value>) -> Vec<Tag> {
    let texts: Vec<&str> = match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items.iter().take(MAX_TAGS).filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut found: Vec<Tag> = Vec::new();
    for text in texts.into_iter().rev() {
        let text = clean(cut(text, 4 * MAX_TAG), MAX_TAG);
        if text.is_empty() {
            continue;
        }
        let facet = facet("tag", &same(&text));
        match places.get(&facet) {
            Some(&place) => found[place].text = text,
            None => {
                places.insert(facet.clone(), found.len());
                found.push(Tag { text, facet });
            }
        }
    }
    found.reverse();
    found
}

/// A count that fits 63 bits; None for anything that is no such number.
pub(super) fn integer(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    if let Some(whole) = number.as_i64() {
        return (whole >= 0).then_some(whole);
    }
    let float = number.as_f64().filter(|_| number.is_f64())?;
    #[expect(clippy::cast_possible_truncation, reason = "the bounds are checked")]
    (float.is_finite() && (0.0..=9_223_372_036_854_774_784.0).contains(&float)).then_some(float as i64)
}

/// A SHA-256 in lower-case hex, as it stands in the metadata.
pub(super) fn digest(text: &str) -> Option<String> {
    (text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}
