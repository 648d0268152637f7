//! Hub repositories (`owner/name`) as metadata names them: an id, a page's address, a list, or an object with one.

use serde_json::Value;

use crate::storage::unicode::is_word;
use crate::text::cut;

const LONGEST_ADDRESS: usize = 300;
const LONGEST_PART: usize = 96;
const MAX_ITEMS: usize = 16;
const MAX_NESTING: usize = 60;
const KEYS: [&str; 7] = ["repo_id", "repoId", "model_id", "modelId", "id", "name", "model"];

/// The repository that a value names; of a list the first.
#[must_use]
pub fn repo_id(value: &Value) -> Option<String> {
    match value {
        Value::Array(items) => items
            .iter()
            .take(MAX_ITEMS)
            .find_map(|item| of_item(item, MAX_NESTING)),
        other => of_item(other, MAX_NESTING),
    }
}

/// Whether [`repo_id`] finds one.
#[must_use]
pub fn names_a_repository(value: &Value) -> bool {
    repo_id(value).is_some()
}

fn of_item(value: &Value, nesting: usize) -> Option<String> {
    match value {
        Value::String(text) => of_text(text),
        Value::Object(fields) if nesting > 0 => KEYS
            .iter()
            .find_map(|key| fields.get(*key).and_then(|value| of_item(value, nesting - 1))),
        _ => None,
    }
}

fn of_text(text: &str) -> Option<String> {
    let text = cut(text, LONGEST_ADDRESS).trim();
    let id = of_address(text).unwrap_or(text);
    let (owner, name) = id.split_once('/')?;
    (is_part(owner) && is_part(name)).then(|| id.to_owned())
}

/// `owner/name` of an address on the hub that is no data set and no space.
fn of_address(text: &str) -> Option<&str> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))?;
    let rest = rest.strip_prefix("www.").unwrap_or(rest);
    let rest = rest
        .strip_prefix("huggingface.co/")
        .or_else(|| rest.strip_prefix("hf.co/"))?;
    if rest.starts_with("datasets/") || rest.starts_with("spaces/") {
        return None;
    }
    let part = |text: &str| {
        text.find(|c: char| matches!(c, '/' | '?' | '#') || c.is_whitespace())
            .unwrap_or(text.len())
    };
    let owner = part(rest);
    let name = part(rest[owner..].strip_prefix('/')?);
    (owner > 0 && name > 0).then(|| &rest[..owner + 1 + name])
}

fn is_part(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().count() <= LONGEST_PART
        && text.chars().all(|c| is_word(c) || c == '.' || c == '-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn repositories_in_all_their_forms() {
        for (value, expected) in [
            (json!("owner/name"), Some("owner/name")),
            (
                json!(" https://huggingface.co/o/n-1.0/tree/main?x"),
                Some("o/n-1.0"),
            ),
            (json!("http://www.hf.co/o/n"), Some("o/n")),
            (json!(["none", {"repoId": "o/n"}]), Some("o/n")),
            (json!({"model": {"id": "https://hf.co/o/n#x"}}), Some("o/n")),
            (json!("https://huggingface.co/datasets/o/n"), None),
            (json!("https://example.org/o/n"), None),
            (json!("a/b/c"), None),
            (json!("../etc"), None),
            (json!(""), None),
            (json!(7), None),
            (json!([["o/n"]]), None),
        ] {
            assert_eq!(repo_id(&value).as_deref(), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_found_has_two_parts(text in ".{0,60}") {
            if let Some(found) = repo_id(&json!(text)) {
                prop_assert_eq!(found.matches('/').count(), 1);
            }
        }
    }
}
