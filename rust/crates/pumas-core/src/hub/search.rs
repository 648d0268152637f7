//! What a search shows: results made from the hub's listing, and which of them belong to a model that we hold.
//!
//! A listing names files but not their sizes, so sizes are null until the repository itself was looked at; nothing is
//! estimated. The keys are those that desktop shells read. Nothing here asks anybody.

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::contents::Contents;
use super::model::{HUB, HubListing, is_place, parse_repo_id};
use crate::error::{Error, Result};
use crate::library::repo_ids::repo_id;

const MAX_QUERY: usize = 200;
pub(super) const MAX_LIMIT: i128 = 100;
/// Names of older sidecars, and the hub's tasks (<https://huggingface.co/tasks>).
const TASKS: [(&str, &str); 5] = [
    ("llm", "text-generation"),
    ("diffusion", "text-to-image"),
    ("audio", "automatic-speech-recognition"),
    ("vision", "image-classification"),
    ("embedding", "feature-extraction"),
];
/// A word in a tag, and the task it stands for, where the hub names none.
const KINDS: [(&str, &str); 10] = [
    ("text-to-image", "text-to-image"),
    ("image-to-image", "image-to-image"),
    ("text-to-video", "text-to-video"),
    ("text-to-audio", "text-to-audio"),
    ("tts", "text-to-audio"),
    ("audio-to-text", "audio-to-text"),
    ("asr", "audio-to-text"),
    ("speech-recognition", "audio-to-text"),
    ("text-to-3d", "text-to-3d"),
    ("image-to-3d", "image-to-3d"),
];
const KIND_WORDS: [&str; 5] = ["video", "audio", "image", "text", "3d"];
const FORMAT_TAGS: [&str; 4] = ["gguf", "onnx", "safetensors", "tflite"];
const NO_FAMILY: [&str; 3] = ["", "unknown", "imported"];

/// The text to search for. The address of a repository becomes its name.
pub(super) fn words_of(query: &str) -> Result<String> {
    let text = query.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() > MAX_QUERY {
        return Err(Error::invalid(
            "query",
            format!("must have at most {MAX_QUERY} characters"),
        ));
    }
    if is_place(&text) {
        return parse_repo_id(&text);
    }
    Ok(text)
}

/// The hub's name of a task, `""` for none.
pub(super) fn task_of(kind: &str) -> Result<String> {
    let text = kind.trim().to_lowercase().replace('_', "-");
    if let Some((_, task)) = TASKS.iter().find(|(name, _)| *name == text) {
        return Ok((*task).to_owned());
    }
    let word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    if text.is_empty() || (text.chars().count() <= 64 && text.split('-').all(word)) {
        return Ok(text);
    }
    Err(Error::invalid("kind", "must be a task such as text-generation"))
}

/// One search result, without sizes.
pub(super) fn result(listing: &HubListing) -> Value {
    let said = &listing.said;
    let contents = Contents::new(&listing.paths, &said.repo_id);
    let quants = contents.quants();
    let formats = if listing.paths.is_empty() {
        FORMAT_TAGS
            .into_iter()
            .filter(|format| said.tags.iter().any(|tag| tag == format))
            .collect()
    } else {
        contents.formats()
    };
    let options: Vec<Value> = quants
        .iter()
        .map(|quant| json!({"quant": quant, "sizeBytes": null}))
        .collect();
    json!({
        "repoId": said.repo_id,
        "name": said.name(),
        "developer": said.author,
        "kind": if said.pipeline_tag.is_empty() { kind_by_tags(&said.tags) } else { said.pipeline_tag.clone() },
        "formats": formats,
        "quants": quants,
        "url": format!("{HUB}/{}", said.repo_id),
        "releaseDate": said.last_modified,
        "downloads": said.downloads,
        "totalSizeBytes": null,
        "quantSizes": {},
        "downloadOptions": options,
        "likes": said.likes,
        "license": said.license,
        "gated": said.is_gated(),
        "baseModel": said.base_model,
        "parameters": listing.parameter_count,
        "commit": said.commit,
    })
}

/// Put the sizes of its quantisations into a search result; `""` is everything that a download without one takes.
pub(super) fn set_sizes(result: &mut Value, sizes: &IndexMap<String, u64>) {
    let quants: Vec<String> = result
        .get("quants")
        .and_then(Value::as_array)
        .map(|quants| {
            quants
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default();
    let known = quants
        .iter()
        .filter_map(|quant| Some((quant.clone(), json!(sizes.get(quant)?))));
    let known: Map<String, Value> = known.collect();
    let options: Vec<Value> = quants
        .iter()
        .map(|quant| json!({"quant": quant, "sizeBytes": known.get(quant)}))
        .collect();
    if let Value::Object(result) = result {
        result.insert("totalSizeBytes".to_owned(), json!(sizes.get("")));
        result.insert("quantSizes".to_owned(), Value::Object(known));
        result.insert("downloadOptions".to_owned(), json!(options));
    }
}

fn kind_by_tags(tags: &[String]) -> String {
    let lowered: Vec<String> = tags
        .iter()
        .filter(|tag| !tag.contains(':'))
        .map(|tag| tag.to_lowercase())
        .collect();
    let holds = |tag: &str, word: &str| {
        tag.match_indices(word).any(|(at, _)| {
            let before = tag[..at]
                .chars()
                .next_back()
                .is_none_or(|letter| !letter.is_ascii_lowercase());
            let after = tag[at + word.len()..].chars().next();
            before && after.is_none_or(|letter| !letter.is_ascii_lowercase() && !letter.is_ascii_digit())
        })
    };
    if let Some((_, kind)) = KINDS
        .iter()
        .find(|(word, _)| lowered.iter().any(|tag| holds(tag, word)))
    {
        return (*kind).to_owned();
    }
    let named = lowered
        .into_iter()
        .find(|tag| KIND_WORDS.iter().any(|word| tag.contains(word)));
    named.unwrap_or_else(|| "unknown".to_owned())
}

/// The family as it may stand in a repository's name; `""` when it is not known.
pub(super) fn family_token(metadata: &Map<String, Value>) -> String {
    let family = metadata
        .get("family")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .trim()
        .to_lowercase();
    if NO_FAMILY.contains(&family.as_str()) {
        String::new()
    } else {
        plain(&family)
    }
}

/// `owner/name` of where the model came from.
pub(super) fn own_repo(metadata: &Map<String, Value>) -> Option<String> {
    ["repo_id", "download_url"]
        .iter()
        .find_map(|key| repo_id(metadata.get(*key)?))
}

/// `owner/name` of what the model was made from, else of where it came from.
pub(super) fn base_repo(metadata: &Map<String, Value>) -> Option<String> {
    let card = metadata.get("model_card").and_then(|card| card.get("base_model"));
    let said = [metadata.get("base_model"), card];
    said.into_iter()
        .flatten()
        .find_map(repo_id)
        .or_else(|| own_repo(metadata))
}

/// Repositories of this owner whose name holds the family, without the model's own.
pub(super) fn related(listings: Vec<HubListing>, owner: &str, token: &str, own: &str) -> Vec<HubListing> {
    let belongs = |listing: &HubListing| {
        let repo_id = listing.said.repo_id.to_lowercase();
        repo_id.split('/').next() == Some(owner.to_lowercase().as_str())
            && plain(&repo_id).contains(token)
            && repo_id != own.to_lowercase()
    };
    listings.into_iter().filter(belongs).collect()
}

fn plain(text: &str) -> String {
    text.to_lowercase()
        .chars()
        .filter(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_have_several_names() {
        assert_eq!(task_of("LLM").unwrap(), "text-generation");
        assert_eq!(task_of(" text_to_image ").unwrap(), "text-to-image");
        assert_eq!(task_of("").unwrap(), "");
        assert_eq!(
            task_of("no/task").unwrap_err().to_string(),
            "kind: must be a task such as text-generation"
        );
    }

    #[test]
    fn kinds_are_read_from_tags() {
        let kind = |tags: &[&str]| kind_by_tags(&tags.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(kind(&["x", "en-tts"]), "text-to-audio");
        assert_eq!(kind(&["ttsx", "my-video"]), "my-video");
        assert_eq!(kind(&["license:text"]), "unknown");
    }

    #[test]
    fn an_address_becomes_a_name() {
        assert_eq!(words_of("  a   b ").unwrap(), "a b");
        assert_eq!(words_of("https://hf.co/acme/Lumen").unwrap(), "acme/Lumen");
        assert!(words_of(&"x".repeat(201)).is_err());
    }
}
