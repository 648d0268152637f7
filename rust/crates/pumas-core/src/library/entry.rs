//! What one model folder gives the index: a row made from its `metadata.json`, or from its files when it has none.
//!
//! Both older sidecars' metadata is taken as it is (nulls, `base_model` as text or list, four forms of time stamps). The
//! folder's path below the library is the model's identity; `model_id` in the file is not. A value of a wrong type makes
//! the file damaged; a value that is too long is cut. Nothing here reads a disk or knows SQL.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value};

use crate::library::formats::quantization::detect_quantization;
use crate::library::moments::{timestamp, utc_text};
use crate::library::repo_ids::{names_a_repository, repo_id};
use crate::library::words::{facet, further, humps, same, size_band, words};
use crate::storage::json_file::{JsonObject, is_true};
use crate::text::cut;

mod files;
mod values;

pub use files::{FoundFile, extension, formats_and_quantizations, is_model_file, primary_file};
use files::{known_extension, listed_files, total};
pub use values::DamagedMetadata;
use values::{Tag, check_types, clean, clean_text, digest, integer, tags};

/// Longest text of one field, in characters.
pub const MAX_TEXT: usize = 512;
const MAX_DESCRIPTION: usize = 4000;
const MAX_METADATA_BYTES: usize = 64 * 1024;
const TIERS: [&str; 3] = ["safe", "pickle", "unknown"];
const STORAGES: [&str; 4] = ["owned", "hardlink", "reflink", "reference"];
const NO_FAMILY: [&str; 3] = ["", "unknown", "imported"];

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
    quantization: String,
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
            quantization: text("quantization"),
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

/// The words of other names that the columns lack, and what else leads to the model.
fn other_names(described: &[String], named: &[String], humps: &[String]) -> String {
    let mut seen: HashSet<String> = described.iter().filter(|word| word.is_ascii()).cloned().collect();
    let mut others = [named, &further(described), &further(named), humps].concat();
    others.retain(|word| seen.insert(word.clone()));
    others.join(" ")
}

/// Tags as they are searched for.
fn searched(tags: &[&str]) -> String {
    let text = tags.join(" ");
    let besides = tags
        .iter()
        .flat_map(|tag| [further(&words(tag)), humps(tag)].concat());
    std::iter::once(text).chain(besides).collect::<Vec<_>>().join(" ")
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
    let said = [facts.quantization.as_str(), primary_name];
    let mut quantizations = said.into_iter().map(detect_quantization);
    let quantization = quantizations.find(|token| !token.is_empty()).unwrap_or_default();
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
    let described = [official_words.clone(), words(&model_type), words(&family)].concat();
    let named = words(&format!("{cleaned_name} {model_id}"));
    let other_names = other_names(
        &described,
        &named,
        &humps(&format!("{official_name} {cleaned_name}")),
    );

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
        tags: searched(&tag_texts),
        kinds: kinds.join(" ").trim_end().to_owned(),
        facets: facets.join(" "),
        other_names,
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

#[cfg(test)]
mod tests;
