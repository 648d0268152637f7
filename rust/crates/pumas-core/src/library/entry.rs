//! What one model folder gives the index: a row made from its `metadata.json`, or from its files when it has none.
//!
//! Both older sidecars' metadata is taken as it is (nulls, `base_model` as text or list, four forms of time stamps). The
//! folder's path below the library is the model's identity; `model_id` in the file is not. A value of a wrong type makes
//! the file damaged; a value that is too long is cut. Nothing here reads a disk or knows SQL.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value};

use crate::library::formats::quantization::detect_quantization;
use crate::library::moments::{timestamp, utc_text};
use crate::library::repo_ids::{names_a_repository, repo_id};
use crate::library::words::{facet, same, size_band, words};
use crate::storage::json_file::{JsonObject, is_true};
use crate::text::cut;

/// Longest text of one field, in characters.
pub const MAX_TEXT: usize = 512;
const MAX_DESCRIPTION: usize = 4000;
const MAX_TAG: usize = 100;
const MAX_TAGS: usize = 256;
const MAX_FILES: usize = 10_000;
const MAX_NAME: usize = 1024;
const MAX_METADATA_BYTES: usize = 64 * 1024;

/// What an app can load, and whether loading it may run code from it.
const MODEL_EXTENSIONS: [(&str, &str); 8] = [
    ("gguf", "safe"),
    ("safetensors", "safe"),
    ("onnx", "safe"),
    ("ggml", "safe"),
    ("ckpt", "pickle"),
    ("pt", "pickle"),
    ("pth", "pickle"),
    ("bin", "pickle"),
];
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
const TIERS: [&str; 3] = ["safe", "pickle", "unknown"];
const STORAGES: [&str; 4] = ["owned", "hardlink", "reflink", "reference"];
const NO_FAMILY: [&str; 3] = ["", "unknown", "imported"];

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

/// One row of the table `models`, in the order of its columns (`contracts/schema/models.sql` says what they mean).
#[expect(missing_docs, reason = "the schema documents the columns")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexEntry {
    pub id: String,
    pub cleaned_name: String,
    pub official_name: String,
    pub model_type: String,
    pub tags_json: String,
    pub hashes_json: String,
    pub metadata_json: String,
    pub updated_at: String,
    pub subtype: String,
    pub family: String,
    pub tags: String,
    pub description: String,
    pub kinds: String,
    pub facets: String,
    pub other_names: String,
    pub name_key: String,
    pub added_date: Option<String>,
    pub last_used: Option<String>,
    pub size_bytes: Option<i64>,
    pub primary_file: String,
    pub primary_size: Option<i64>,
    pub sha256: String,
    pub repo_id: String,
    pub security_tier: String,
    pub related_available: bool,
    pub pending_lookup: bool,
    pub derived: bool,
    pub storage: String,
    pub state: String,
}

/// A file of a model folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Relative to the model's folder.
    pub name: String,
    /// Bytes.
    pub size: i64,
}

/// What a model file's content tells; `""` where it does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContentIdentity {
    /// `llm`, `diffusion`, …
    pub model_type: String,
    /// `checkpoints`, `loras`, …
    pub subtype: String,
    /// `llama`, `sdxl`, …
    pub family: String,
}

/// What is known of a model before what follows from it is added.
#[derive(Default)]
struct Facts<'a> {
    model_type: String,
    subtype: String,
    family: String,
    official_name: String,
    cleaned_name: String,
    description: String,
    tags: Vec<Tag>,
    hashes: Option<&'a JsonObject>,
    metadata_json: String,
    added_date: Option<String>,
    updated_date: Option<String>,
    last_used: Option<String>,
    size: Option<i64>,
    files: Vec<FoundFile>,
    repo_id: String,
    has_base_repo: bool,
    security_tier: Option<&'a Value>,
    pending: bool,
    derived: bool,
    storage: Option<&'a Value>,
}

/// Makes the row of a model from its metadata.
///
/// # Errors
/// A field has a type that no sidecar ever wrote.
pub fn from_metadata(model_id: &str, metadata: &JsonObject) -> Result<IndexEntry, DamagedMetadata> {
    check_types(metadata)?;
    let text = |key: &str| clean_text(metadata.get(key), MAX_TEXT);
    let files = listed_files(metadata.get("files"));
    let size = metadata.get("size_bytes").and_then(integer);
    let size = size.or_else(|| (!files.is_empty()).then(|| total(&files)));
    let downloaded_from = metadata.get("download_url").and_then(repo_id);
    let card = metadata.get("model_card").and_then(Value::as_object);
    let in_card = |key: &str| card.and_then(|card| card.get(key));
    let description = metadata
        .get("description")
        .filter(|value| is_true(value))
        .or_else(|| in_card("description"));
    let encoded = serde_json::to_string(metadata).unwrap_or_default();
    let is_base = |value: Option<&Value>| value.is_some_and(names_a_repository);
    Ok(entry(
        model_id,
        Facts {
            model_type: text("model_type"),
            subtype: text("subtype"),
            family: text("family"),
            official_name: text("official_name"),
            cleaned_name: text("cleaned_name"),
            description: clean_text(description, MAX_DESCRIPTION),
            tags: tags(metadata.get("tags")),
            hashes: metadata.get("hashes").and_then(Value::as_object),
            metadata_json: if encoded.len() <= MAX_METADATA_BYTES {
                encoded
            } else {
                "{}".to_owned()
            },
            added_date: metadata.get("added_date").and_then(timestamp),
            updated_date: metadata.get("updated_date").and_then(timestamp),
            last_used: metadata.get("last_used").and_then(timestamp),
            size,
            files,
            has_base_repo: downloaded_from.is_some()
                || is_base(metadata.get("base_model"))
                || is_base(in_card("base_model")),
            repo_id: metadata
                .get("repo_id")
                .and_then(repo_id)
                .or(downloaded_from)
                .unwrap_or_default(),
            security_tier: metadata.get("security_tier"),
            pending: metadata.get("pending_online_lookup") == Some(&Value::Bool(true))
                && metadata.get("match_source").and_then(Value::as_str) != Some("manual"),
            derived: false,
            storage: metadata.get("storage"),
        },
    ))
}

/// Makes the row of a folder that holds model files but no metadata.
///
/// `modified` is when the folder changed last, in seconds since 1970. Where the content of the files is silent
/// (`identity`), the path decides.
#[must_use]
pub fn from_files(
    model_id: &str,
    files: Vec<FoundFile>,
    modified: f64,
    identity: &ContentIdentity,
) -> IndexEntry {
    let moment = utc_text(modified);
    entry(
        model_id,
        Facts {
            model_type: clean(&identity.model_type, MAX_TEXT),
            subtype: clean(&identity.subtype, MAX_TEXT),
            family: clean(&identity.family, MAX_TEXT),
            metadata_json: "{}".to_owned(),
            added_date: moment.clone(),
            updated_date: moment,
            size: Some(total(&files)),
            files,
            derived: true,
            ..Facts::default()
        },
    )
}

fn entry(model_id: &str, facts: Facts<'_>) -> IndexEntry {
    let parts: Vec<&str> = model_id.split('/').collect();
    let part = |position: usize, least: usize| if parts.len() > least { parts[position] } else { "" };
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    let model_type = or(or(facts.model_type, part(0, 1)), "unknown");
    let family = or(facts.family, part(1, 2));
    let cleaned_name = or(facts.cleaned_name, cut(parts.last().unwrap_or(&""), MAX_TEXT));
    let official_name = or(facts.official_name, &cleaned_name);
    let primary = primary_file(&facts.files);
    let primary_name = primary.map_or("", |file| file.name.as_str());

    let formats: BTreeSet<&str> = facts
        .files
        .iter()
        .filter_map(|file| known_extension(&file.name))
        .map(|(name, _)| name)
        .collect();
    let quantization = detect_quantization(primary_name);
    let mut properties = vec![
        ("type", model_type.clone()),
        ("subtype", facts.subtype.clone()),
        ("family", same(&family)),
        ("size", facts.size.map(size_band).unwrap_or_default()),
    ];
    properties.extend(formats.iter().map(|&name| ("format", name.to_owned())));
    properties.push(("quant", quantization.clone()));
    let mut facets: Vec<String> = properties
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(kind, value)| facet(kind, value))
        .collect();
    facets.extend(facts.tags.iter().map(|tag| tag.facet.clone()));

    let official_words = words(&official_name);
    let described: HashSet<String> = official_words
        .iter()
        .cloned()
        .chain(words(&model_type))
        .chain(words(&family))
        .collect();
    let mut seen = HashSet::new();
    let other_names: Vec<String> = words(&format!("{cleaned_name} {model_id}"))
        .into_iter()
        .filter(|word| !described.contains(word) && seen.insert(word.clone()))
        .collect();

    let mut kinds = vec![facts.subtype.as_str()];
    kinds.extend(formats);
    kinds.push(&quantization);

    let tag_texts: Vec<&str> = facts.tags.iter().map(|tag| tag.text.as_str()).collect();
    let hash = |name: &str| facts.hashes.and_then(|hashes| hashes.get(name));
    let mut shown_hashes = Map::new();
    for name in ["sha256", "blake3"] {
        shown_hashes.insert(name.to_owned(), clean_text(hash(name), MAX_TEXT).into());
    }
    let tier = facts
        .security_tier
        .and_then(Value::as_str)
        .filter(|tier| TIERS.contains(tier));
    let tier = tier
        .or_else(|| known_extension(primary_name).map(|(_, tier)| tier))
        .unwrap_or("unknown");
    let storage = facts
        .storage
        .and_then(Value::as_str)
        .filter(|storage| STORAGES.contains(storage))
        .unwrap_or("owned");
    IndexEntry {
        id: model_id.to_owned(),
        tags_json: serde_json::to_string(&tag_texts).unwrap_or_default(),
        hashes_json: Value::Object(shown_hashes).to_string(),
        metadata_json: facts.metadata_json,
        updated_at: facts
            .updated_date
            .or_else(|| facts.added_date.clone())
            .unwrap_or_default(),
        tags: tag_texts.join(" "),
        kinds: kinds.join(" ").trim_end().to_owned(),
        facets: facets.join(" "),
        other_names: other_names.join(" "),
        name_key: official_words.join(" "),
        added_date: facts.added_date,
        last_used: facts.last_used,
        size_bytes: facts.size,
        primary_file: primary_name.to_owned(),
        primary_size: primary.map(|file| file.size),
        sha256: hash("sha256")
            .and_then(Value::as_str)
            .and_then(digest)
            .unwrap_or_default(),
        repo_id: facts.repo_id,
        security_tier: tier.to_owned(),
        related_available: facts.has_base_repo && !NO_FAMILY.contains(&family.to_lowercase().as_str()),
        pending_lookup: facts.pending,
        derived: facts.derived,
        storage: storage.to_owned(),
        state: "ok".to_owned(),
        description: facts.description,
        subtype: facts.subtype,
        cleaned_name,
        official_name,
        model_type,
        family,
    }
}

// -- files -----------------------------------------------------------------------------------------------------------

/// The part of a name behind its last dot, in lower case; the whole name when it has no dot.
#[must_use]
pub fn extension(name: &str) -> String {
    name.rsplit('.').next().unwrap_or(name).to_lowercase()
}

fn known_extension(name: &str) -> Option<(&'static str, &'static str)> {
    let last = name.rsplit('.').next().unwrap_or(name);
    MODEL_EXTENSIONS
        .into_iter()
        .find(|(known, _)| last.eq_ignore_ascii_case(known))
}

/// Whether an app could load the file, by its name; hidden files are none.
#[must_use]
pub fn is_model_file(name: &str) -> bool {
    known_extension(name).is_some() && !name.starts_with('.')
}

/// The largest file that an app could load; of equal ones the first by name.
#[must_use]
pub fn primary_file(files: &[FoundFile]) -> Option<&FoundFile> {
    let candidates = files.iter().filter(|file| known_extension(&file.name).is_some());
    candidates.min_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)))
}

fn total(files: &[FoundFile]) -> i64 {
    files
        .iter()
        .fold(0_i64, |sum, file| sum.saturating_add(file.size))
}

fn listed_files(value: Option<&Value>) -> Vec<FoundFile> {
    let items = value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let listed = items
        .iter()
        .take(MAX_FILES)
        .filter_map(Value::as_object)
        .map(|fields| FoundFile {
            name: clean_text(fields.get("name"), MAX_NAME),
            size: fields.get("size").and_then(integer).unwrap_or(0),
        });
    listed.filter(|file| !file.name.is_empty()).collect()
}

/// What the column `kinds` says after the subtype: formats, and quantisations in capitals, as they are usually written.
#[must_use]
pub fn formats_and_quantizations(kinds: &str) -> (Vec<String>, Vec<String>) {
    let words: Vec<&str> = kinds.split_whitespace().collect();
    let is_format = |word: &&&str| MODEL_EXTENSIONS.iter().any(|(known, _)| known == *word);
    let formats: Vec<&str> = words.iter().filter(is_format).copied().collect();
    let end = formats
        .last()
        .and_then(|last| words.iter().position(|word| word == last));
    let rest = end.map_or(&[] as &[&str], |end| &words[end + 1..]);
    let owned = |word: &&str| (*word).to_owned();
    (
        formats.iter().map(owned).collect(),
        rest.iter().map(|word| word.to_uppercase()).collect(),
    )
}

// -- values of one field ---------------------------------------------------------------------------------------------

fn check_types(metadata: &JsonObject) -> Result<(), DamagedMetadata> {
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

fn clean_text(value: Option<&Value>, limit: usize) -> String {
    value
        .and_then(Value::as_str)
        .map(|text| clean(text, limit))
        .unwrap_or_default()
}

/// One clean line: no control or direction characters, at most `limit` characters.
fn clean(text: &str, limit: usize) -> String {
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

struct Tag {
    text: String,
    facet: String,
}

/// One of each, without regard to case: the first spelling, in the place of the last.
fn tags(value: Option<&Value>) -> Vec<Tag> {
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
fn integer(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    if let Some(whole) = number.as_i64() {
        return (whole >= 0).then_some(whole);
    }
    let float = number.as_f64().filter(|_| number.is_f64())?;
    #[expect(clippy::cast_possible_truncation, reason = "the bounds are checked")]
    (float.is_finite() && (0.0..=9_223_372_036_854_774_784.0).contains(&float)).then_some(float as i64)
}

/// A SHA-256 in lower-case hex, as it stands in the metadata.
fn digest(text: &str) -> Option<String> {
    (text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> JsonObject {
        value.as_object().cloned().unwrap()
    }

    fn read(value: &Value) -> IndexEntry {
        from_metadata("llm/llama/Llama-8B", &object(value)).unwrap()
    }

    #[test]
    fn the_path_says_what_the_metadata_does_not() {
        let entry = read(&json!({}));
        assert_eq!(
            (
                &*entry.model_type,
                &*entry.family,
                &*entry.official_name,
                &*entry.name_key
            ),
            ("llm", "llama", "Llama-8B", "llama 8b")
        );
        let entry = from_metadata("Alone", &JsonObject::new()).unwrap();
        assert_eq!((&*entry.model_type, &*entry.family), ("unknown", ""));
    }

    #[test]
    fn values_of_a_wrong_type_are_damage_and_nulls_are_not() {
        for (field, value) in [
            ("tags", json!({})),
            ("size_bytes", json!(true)),
            ("size_bytes", json!("7")),
            ("hashes", json!([])),
            ("official_name", json!(7)),
            ("base_model", json!(1)),
        ] {
            let metadata = object(&json!({field: value}));
            assert_eq!(from_metadata("a/b", &metadata), Err(DamagedMetadata { field }));
            assert!(from_metadata("a/b", &object(&json!({field: null}))).is_ok());
        }
    }

    #[test]
    fn the_primary_file_is_the_largest_that_can_be_loaded() {
        let entry = read(&json!({"files": [
            {"name": "readme.txt", "size": 900}, {"name": "b.GGUF", "size": 5}, {"name": "a.bin", "size": 5},
            {"name": "x.gguf"}, {"size": 3}, 7,
        ]}));
        assert_eq!(
            (&*entry.primary_file, entry.primary_size, &*entry.security_tier),
            ("a.bin", Some(5), "pickle")
        );
        assert_eq!(entry.size_bytes, Some(910));
        assert_eq!(entry.kinds, " bin gguf");
    }

    #[test]
    fn tags_are_one_of_each() {
        let entry = read(&json!({"tags": ["Chat", "code", "CHAT", "", 7, "new\nline"]}));
        assert_eq!(entry.tags_json, r#"["code","Chat","new line"]"#);
        assert_eq!(read(&json!({"tags": "one"})).tags_json, r#"["one"]"#);
    }

    #[test]
    fn texts_are_clean_lines() {
        assert_eq!(clean(" a\u{202e}\u{200b}b\n", MAX_TEXT), "a b");
        assert_eq!(clean(&"é".repeat(600), MAX_TEXT).chars().count(), MAX_TEXT);
    }

    #[test]
    fn numbers_are_counts() {
        for (value, expected) in [
            (json!(7), Some(7)),
            (json!(7.9), Some(7)),
            (json!(-1), None),
            (json!(1e300), None),
            (json!(u64::MAX), None),
            (json!(i64::MAX), Some(i64::MAX)),
            (json!("7"), None),
        ] {
            assert_eq!(integer(&value), expected, "{value}");
        }
    }

    #[test]
    fn kinds_name_formats_and_quantisations() {
        let entry = read(
            &json!({"subtype": "loras", "files": [{"name": "x-Q4_K_M.gguf", "size": 1}, {"name": "y.bin"}]}),
        );
        assert_eq!(entry.kinds, "loras bin gguf q4_k_m");
        let (formats, quants) = formats_and_quantizations(&entry.kinds);
        assert_eq!(
            (formats, quants),
            (
                vec!["bin".to_owned(), "gguf".to_owned()],
                vec!["Q4_K_M".to_owned()]
            )
        );
        assert_eq!(read(&json!({"subtype": "loras"})).kinds, "loras");
    }

    #[test]
    fn pending_until_somebody_says_manual() {
        assert!(read(&json!({"pending_online_lookup": true})).pending_lookup);
        assert!(!read(&json!({"pending_online_lookup": true, "match_source": "manual"})).pending_lookup);
        assert!(!read(&json!({"pending_online_lookup": 1})).pending_lookup);
    }

    #[test]
    fn related_needs_a_repository_and_a_family() {
        assert!(read(&json!({"base_model": "o/n"})).related_available);
        assert!(read(&json!({"base_model": [{"repo_id": "o/n"}]})).related_available);
        assert!(!read(&json!({"base_model": "o/n", "family": "Imported"})).related_available);
        assert!(!read(&json!({"base_model": "none"})).related_available);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::hash_map("name|size|repo_id|.{0,3}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_metadata_makes_a_row_or_is_damaged(values in proptest::collection::vec(any_json(), 12)) {
            let keys = ["tags", "files", "hashes", "base_model", "official_name", "size_bytes", "added_date",
                        "download_url", "model_card", "security_tier", "storage", "repo_id"];
            let metadata: JsonObject = keys.into_iter().map(str::to_owned).zip(values).collect();
            if let Ok(entry) = from_metadata("a/b/c", &metadata) {
                prop_assert!(entry.size_bytes.is_none_or(|size| size >= 0));
                prop_assert!(entry.official_name.chars().count() <= MAX_TEXT);
            }
        }
    }
}
