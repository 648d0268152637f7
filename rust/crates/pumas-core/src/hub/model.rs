//! What the hub says about one model repository at one commit, as plain values.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The hub that everybody means.
pub(super) const HUB: &str = "https://huggingface.co";
const HUB_HOSTS: [&str; 4] = ["huggingface.co", "www.huggingface.co", "hf.co", "www.hf.co"];
const OTHER_KINDS: [&str; 8] = [
    "datasets",
    "spaces",
    "buckets",
    "kernels",
    "collections",
    "papers",
    "docs",
    "api",
];

/// One file of a commit. `path` is the hub's own text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubFile {
    /// Not checked.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// The git blob id: of the content for small files, of the pointer for large ones.
    pub git_oid: String,
    /// Of files in large-file storage.
    pub sha256: Option<String>,
}

/// What repositories and listings have in common.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Described {
    /// `owner/name`.
    pub repo_id: String,
    /// The commit.
    pub commit: String,
    /// Who publishes it.
    pub author: String,
    /// As the hub lists them.
    pub tags: Vec<String>,
    /// The task.
    pub pipeline_tag: String,
    /// What loads it.
    pub library_name: String,
    /// Its terms.
    pub license: String,
    /// `"auto"`, `"manual"` or false.
    pub gated: Value,
    /// What it was made from.
    pub base_model: Vec<String>,
    /// In the last month.
    pub downloads: Option<u64>,
    /// Ever.
    pub likes: Option<u64>,
    /// ISO-8601 UTC, or empty.
    pub last_modified: String,
}

impl Described {
    /// The repository's own name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.repo_id.rsplit('/').next().unwrap_or_default()
    }

    /// Whether its terms have to be accepted.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        self.gated.is_string() || self.gated == Value::Bool(true)
    }
}

/// One repository at one commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HubModel {
    /// What listings say too.
    #[serde(flatten)]
    pub said: Described,
    /// Every file whose entry makes sense.
    pub files: Vec<HubFile>,
    /// Paths of the others.
    pub unusable: Vec<String>,
    /// Whether only its owner sees it.
    pub private: bool,
    /// The model card's data.
    pub card: Map<String, Value>,
    /// What the hub read from a config.
    pub config: Map<String, Value>,
    /// What the hub read from a GGUF header.
    pub gguf: Map<String, Value>,
    /// Weights by the type they are stored in.
    pub parameters: Map<String, Value>,
}

/// One repository in a search result: the hub lists only the names of the files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HubListing {
    /// What is known of it.
    #[serde(flatten)]
    pub said: Described,
    /// Not checked.
    pub paths: Vec<String>,
    /// Number of weights, where the hub has counted them.
    pub parameter_count: Option<u64>,
}

/// The `owner/name` in what a user gave: itself, `hf.co/owner/name`, or the address of one of its pages on the hub.
///
/// # Errors
/// `InvalidInput`: it names no model repository.
pub fn parse_repo_id(text: &str) -> Result<String> {
    let given = text.trim();
    let first = given
        .to_lowercase()
        .split('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let repo_id = if given.contains("://") || HUB_HOSTS.contains(&first.as_str()) {
        of_address(given)?
    } else {
        given.to_owned()
    };
    if is_repo_id(&repo_id) {
        return Ok(repo_id);
    }
    Err(Error::invalid(
        "repo_id",
        "must be written as owner/name, or as the address of a model on the hub",
    ))
}

/// <https://github.com/huggingface/huggingface_hub/blob/main/src/huggingface_hub/utils/_validators.py>
fn is_repo_id(text: &str) -> bool {
    let Some((owner, name)) = text.split_once('/') else {
        return false;
    };
    let proper = |part: &str, first: fn(u8) -> bool| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        (1..=96).contains(&part.len())
            && part.bytes().all(plain)
            && part.bytes().next().is_some_and(first)
            && !part.ends_with(['.', '-'])
    };
    let odd = text.contains("--") || text.contains("..") || name.strip_suffix(".git").is_some();
    let letter = |byte: u8| byte.is_ascii_alphanumeric();
    text.len() <= 200
        && !odd
        && proper(owner, letter)
        && proper(name, |byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn of_address(text: &str) -> Result<String> {
    let whole = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let (scheme, rest) = whole.split_once("://").unwrap_or(("", &whole));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (netloc, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = netloc
        .rsplit('@')
        .next()
        .unwrap_or_default()
        .split(':')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let path = match scheme.to_lowercase().as_str() {
        "hf" => format!("{netloc}/{path}"),
        "http" | "https" if HUB_HOSTS.contains(&host.as_str()) => path.to_owned(),
        _ => {
            return Err(Error::invalid(
                "repo_id",
                "is an address outside of huggingface.co",
            ));
        }
    };
    let mut names: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if names.first() == Some(&"models") {
        names.remove(0);
    }
    if names.first().is_some_and(|name| OTHER_KINDS.contains(name)) {
        return Err(Error::invalid(
            "repo_id",
            "is the address of something other than a model",
        ));
    }
    names.truncate(2);
    Ok(names.join("/"))
}

/// Whether this is a full commit id, which always means the same files.
pub(super) fn is_commit(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    matches!(text.len(), 40 | 64) && text.bytes().all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_named_in_several_ways() {
        for text in [
            "acme/Lumen-7B",
            " acme/Lumen-7B ",
            "hf.co/acme/Lumen-7B",
            "https://huggingface.co/acme/Lumen-7B/tree/main?x#y",
            "hf://acme/Lumen-7B",
            "https://www.hf.co/models/acme/Lumen-7B",
        ] {
            assert_eq!(parse_repo_id(text).unwrap(), "acme/Lumen-7B", "{text}");
        }
        for text in [
            "",
            "acme",
            "a/b/c",
            "a--b/c",
            "a/b.git",
            "-a/b",
            "a/..",
            "https://other/a/b",
            "hf.co/datasets/a/b",
        ] {
            assert!(parse_repo_id(text).is_err(), "{text}");
        }
    }
}
