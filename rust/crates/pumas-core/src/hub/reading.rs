//! Makes our values out of the hub's answers, believing nothing: any field may be missing or of any type.
//!
//! A field that is not what it should be counts as missing; only a reply without a name or a commit is refused.

use serde_json::{Map, Value, json};

use super::model::{Described, HubFile, HubListing, HubModel, is_commit, parse_repo_id};
use crate::library::formats::text::one_line;
use crate::library::moments::utc_moment;
use crate::storage::clock;
use crate::storage::json_file::is_true;
use crate::text::cut;

const MAX_TAGS: usize = 500;
const MAX_NODES: usize = 5_000;
const MAX_DEPTH: usize = 12;
const MAX_TEXT: usize = 10_000;
const RELATIONS: [&str; 4] = ["adapter", "finetune", "merge", "quantized"];

/// From an answer about one repository with its files' metadata. The error says why it cannot be one.
pub(super) fn read_model(info: &Value) -> Result<HubModel, String> {
    let mut files = Vec::new();
    let mut unusable = Vec::new();
    for sibling in list(info.get("siblings")) {
        match file(sibling) {
            Ok(file) => files.push(file),
            Err(path) => unusable.push(path),
        }
    }
    let card = card(info);
    Ok(HubModel {
        said: described(info, &card)?,
        files,
        unusable,
        private: info.get("private") == Some(&Value::Bool(true)),
        config: plain_object(info.get("config")),
        gguf: plain_object(info.get("gguf")),
        parameters: parameters(info)
            .into_iter()
            .map(|(name, count)| (name, json!(count)))
            .collect(),
        card,
    })
}

/// From an element of a listing.
pub(super) fn read_listing(info: &Value) -> Result<HubListing, String> {
    let path = |sibling: &Value| Some(sibling.get("rfilename")?.as_str()?.to_owned());
    let counted: u64 = parameters(info).iter().map(|(_, count)| count).sum();
    let total = if counted > 0 {
        Some(counted)
    } else {
        count(info.get("gguf").and_then(|gguf| gguf.get("total")))
    };
    Ok(HubListing {
        said: described(info, &card(info))?,
        paths: list(info.get("siblings"))
            .iter()
            .filter_map(path)
            .filter(|path| !is_half(path))
            .collect(),
        parameter_count: total.filter(|total| *total > 0),
    })
}

fn described(info: &Value, card: &Map<String, Value>) -> Result<Described, String> {
    let text = |key: &str| info.get(key).and_then(Value::as_str);
    let id = text("id").or(text("modelId")).unwrap_or_default();
    let Ok(repo_id) = parse_repo_id(id) else {
        return Err("a repository without a usable name".to_owned());
    };
    let Some(commit) = text("sha").filter(|commit| is_commit(commit)) else {
        return Err(format!("no commit for {repo_id}"));
    };
    let tags = texts(info.get("tags"));
    let line = |key: &str, limit: usize| one_line(text(key).unwrap_or_default(), limit);
    let owner = repo_id.split('/').next().unwrap_or_default().to_owned();
    let author = line("author", 256);
    let gated = match info.get("gated") {
        Some(Value::String(kind)) if matches!(kind.as_str(), "auto" | "manual") => json!(kind),
        Some(value) => json!(is_true(value)),
        None => json!(false),
    };
    Ok(Described {
        commit: commit.to_owned(),
        author: if author.is_empty() { owner } else { author },
        pipeline_tag: line("pipeline_tag", 64),
        library_name: line("library_name", 64),
        license: license(card, &tags),
        gated,
        base_model: base_models(card, &tags),
        downloads: count(info.get("downloads")),
        likes: count(info.get("likes")),
        last_modified: text("lastModified")
            .and_then(utc_moment)
            .map(clock::text)
            .unwrap_or_default(),
        repo_id,
        tags,
    })
}

/// The file, or its path when its entry makes no sense. A digest is looked at before it is used for anything.
fn file(sibling: &Value) -> Result<HubFile, String> {
    let text = |key: &str| sibling.get(key).and_then(Value::as_str);
    let Some(path) = text("rfilename") else {
        return Err(String::new());
    };
    if is_half(path) {
        return Err(path.to_owned());
    }
    let lfs = sibling.get("lfs").filter(|lfs| is_true(lfs));
    let sha256 = lfs.and_then(|lfs| lfs.get("sha256")).and_then(Value::as_str);
    let good_digest = lfs.is_none() || sha256.is_some_and(|digest| digest.len() == 64 && is_commit(digest));
    match (
        count(sibling.get("size")),
        text("blobId").filter(|oid| is_commit(oid)),
    ) {
        (Some(size), Some(oid)) if good_digest => Ok(HubFile {
            path: path.to_owned(),
            size,
            git_oid: oid.to_owned(),
            sha256: sha256.map(str::to_owned),
        }),
        _ => Err(path.to_owned()),
    }
}

/// Whether a name held half of a character, of which the network's door left the text of its escape.
fn is_half(path: &str) -> bool {
    let half = |rest: &str| {
        let digits = rest.get(..3).unwrap_or_default();
        digits.starts_with(['8', '9', 'a', 'b', 'c', 'd', 'e', 'f'])
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    path.match_indices("\\ud").any(|(at, _)| half(&path[at + 3..]))
}

fn card(info: &Value) -> Map<String, Value> {
    let mut card = plain_object(info.get("cardData"));
    card.retain(|key, value| !value.is_null() && key != "model-index");
    card
}

fn license(card: &Map<String, Value>, tags: &[String]) -> String {
    let said = card.get("license");
    let line = |value: Option<&Value>| one_line(value.and_then(Value::as_str).unwrap_or_default(), 100);
    if line(said) == "other" {
        let named = line(card.get("license_name"));
        if !named.is_empty() {
            return named;
        }
    }
    let listed = if said.is_some_and(Value::is_array) {
        texts(said).join(", ")
    } else {
        line(said)
    };
    if !listed.is_empty() {
        return listed;
    }
    tags.iter()
        .find_map(|tag| tag.strip_prefix("license:"))
        .unwrap_or_default()
        .to_owned()
}

fn base_models(card: &Map<String, Value>, tags: &[String]) -> Vec<String> {
    let said = match card.get("base_model") {
        Some(Value::String(text)) => texts(Some(&json!([text]))),
        said => texts(said),
    };
    let of_tags = || {
        let named = tags.iter().filter_map(|tag| tag.strip_prefix("base_model:"));
        named
            .filter(|text| !RELATIONS.contains(&text.split(':').next().unwrap_or_default()))
            .map(str::to_owned)
            .collect()
    };
    let found: Vec<String> = if said.is_empty() { of_tags() } else { said };
    let unique: indexmap::IndexSet<String> = found.into_iter().collect();
    unique.into_iter().take(20).collect()
}

fn parameters(info: &Value) -> Vec<(String, u64)> {
    let said = info
        .get("safetensors")
        .and_then(|said| said.get("parameters"))
        .and_then(Value::as_object);
    let counted = said.into_iter().flatten().take(100);
    counted
        .filter_map(|(name, value)| {
            Some((one_line(name, 32), count(Some(value)).filter(|count| *count > 0)?))
        })
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let lines = list(value)
        .iter()
        .take(MAX_TAGS)
        .map(|item| one_line(item.as_str().unwrap_or_default(), 200));
    lines.filter(|text| !text.is_empty()).collect()
}

fn list(value: Option<&Value>) -> &[Value] {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn count(value: Option<&Value>) -> Option<u64> {
    value?.as_i64().and_then(|number| u64::try_from(number).ok())
}

/// A copy with bounded depth, number and length; empty for anything but an object.
fn plain_object(value: Option<&Value>) -> Map<String, Value> {
    let mut room = MAX_NODES;
    match value {
        Some(value @ Value::Object(_)) => match plain(value, &mut room, MAX_DEPTH) {
            Value::Object(copied) => copied,
            _ => Map::new(),
        },
        _ => Map::new(),
    }
}

fn plain(value: &Value, room: &mut usize, depth: usize) -> Value {
    *room = room.saturating_sub(1);
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Number(number) if number.is_i64() || number.is_f64() => value.clone(),
        Value::Number(number) => json!(number.to_string()),
        Value::String(text) => json!(cut(text, MAX_TEXT)),
        Value::Object(object) if depth > 0 => {
            let mut copied = Map::new();
            for (key, item) in object {
                if *room == 0 {
                    break;
                }
                copied.insert(cut(key, 200).to_owned(), plain(item, room, depth - 1));
            }
            Value::Object(copied)
        }
        Value::Array(items) if depth > 0 => {
            let mut copied = Vec::new();
            for item in items {
                if *room == 0 {
                    break;
                }
                copied.push(plain(item, room, depth - 1));
            }
            Value::Array(copied)
        }
        Value::Object(_) | Value::Array(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_whose_digest_makes_no_sense_is_not_used() {
        let (oid, digest) = ("1".repeat(40), "a".repeat(64));
        for (lfs, usable) in [
            (json!(null), true),
            (json!({}), true),
            (json!({"sha256": digest}), true),
            (json!({"sha256": "abc"}), false),
            (json!({"size": 5}), false),
            (json!("x"), false),
            (json!([1]), false),
        ] {
            let sibling = json!({"rfilename": "a.gguf", "size": 5, "blobId": oid, "lfs": lfs});
            assert_eq!(file(&sibling).is_ok(), usable, "{lfs}");
        }
    }

    fn read(key: &str, value: &Value) -> HubModel {
        let mut info = json!({"id": "acme/Lumen", "sha": "c".repeat(40), "siblings": [], "likes": 3});
        info[key] = value.clone();
        let model = read_model(&info).unwrap();
        assert_eq!(model.said.likes, Some(3), "{value}");
        model
    }

    #[test]
    fn the_time_of_the_last_change() {
        for (said, shown) in [
            (json!("2025-06-01T12:00:00Z"), "2025-06-01T12:00:00.000000Z"),
            (json!("2025-06-01T12:00:00+02:00"), "2025-06-01T10:00:00.000000Z"),
            (
                json!("2025-06-01T12:00:00.1234567-00:30"),
                "2025-06-01T12:30:00.123456Z",
            ),
            (json!("2025-06-01T12:00:00"), "2025-06-01T12:00:00.000000Z"),
            (json!("2025-06-01T12:00:00 Z"), ""),
            (json!("lately"), ""),
            (json!(1_748_779_200), ""),
            (json!(null), ""),
        ] {
            assert_eq!(read("lastModified", &said).said.last_modified, shown, "{said}");
        }
    }

    #[test]
    fn the_parameters_of_safetensors_files() {
        for (said, counted) in [
            (
                json!({"parameters": {"BF16": 10}, "total": 10}),
                json!({"BF16": 10}),
            ),
            (json!({"parameters": {"BF16": 10}}), json!({"BF16": 10})),
            (
                json!({"parameters": {"BF16": "10", "F32": 2, "": 3, "I8": 0}, "total": null}),
                json!({"F32": 2}),
            ),
            (json!({"total": 10}), json!({})),
            (json!({"parameters": [10]}), json!({})),
            (json!([10]), json!({})),
            (json!("10"), json!({})),
            (json!(null), json!({})),
        ] {
            assert_eq!(json!(read("safetensors", &said).parameters), counted, "{said}");
        }
    }
}
