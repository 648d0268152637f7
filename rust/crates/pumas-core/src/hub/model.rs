//! What the hub says about one model repository at one commit, as plain values.

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The hub that everybody means.
pub(super) const HUB: &str = "https://huggingface.co";
/// What a caller means who names no revision.
pub(super) const DEFAULT_REVISION: &str = "main";
/// The file that the hub's page shows beside the others; its address is what one copies after a click on a quantisation.
const SHOWN_FILE: &str = "show_file_info=";
/// `owner/name:Q4_K_M`, as llama.cpp (`common_download_split_repo_tag`) and Ollama name a quantisation or a whole file;
/// this one names none.
const NO_TAG: &str = "latest";
/// Of hf-mirror.com only what an address names is taken; who is asked is decided by the settings.
const HUB_HOSTS: [&str; 5] = [
    "huggingface.co",
    "www.huggingface.co",
    "hf.co",
    "www.hf.co",
    "hf-mirror.com",
];
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

/// What an address on the hub names: a repository, and where its page is of one, a revision and a file or folder in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub repo_id: String,
    revision: String,
    /// The file, or a pattern for what is in the folder.
    names: Vec<String>,
    /// What stands behind a colon.
    quant: String,
}

impl Place {
    /// What a caller asks for besides has precedence; `main` is what stands there when nothing was asked for.
    pub(crate) fn revision_for(&self, asked: &str) -> String {
        let own = !self.revision.is_empty() && asked == DEFAULT_REVISION;
        if own { &self.revision } else { asked }.to_owned()
    }

    /// The same for the choice of files.
    pub(crate) fn names_for(&self, quant: Option<&str>, asked: &[String]) -> Vec<String> {
        if quant.is_some_and(|quant| !quant.is_empty()) || !asked.is_empty() {
            return asked.to_vec();
        }
        self.names.clone()
    }

    /// The same for the quantisation; files that are asked for take its place, too.
    pub(crate) fn quant_for(&self, quant: Option<&str>, asked: &[String]) -> String {
        match quant.filter(|quant| !quant.is_empty()) {
            Some(quant) => quant.to_owned(),
            None if asked.is_empty() => self.quant.clone(),
            None => String::new(),
        }
    }
}

/// The `owner/name` in what a user gave: itself, `hf.co/owner/name`, or the address of one of its pages on the hub, each
/// also with a quantisation behind a colon.
///
/// # Errors
/// `InvalidInput`: it names no model repository.
pub fn parse_repo_id(text: &str) -> Result<String> {
    Ok(parse_place(text)?.repo_id)
}

/// As [`parse_repo_id`], with what else an address names: `…/owner/name/blob/main/q8_0.gguf`, `owner/name:Q8_0`.
pub(crate) fn parse_place(text: &str) -> Result<Place> {
    let given = text.trim();
    let first = given
        .to_lowercase()
        .split('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let (parts, shown) = if given.contains("://") || HUB_HOSTS.contains(&first.as_str()) {
        of_address(given)?
    } else {
        (vec![given.to_owned()], String::new())
    };
    let (named, page) = parts.split_at(parts.len().min(2));
    let named = named.join("/");
    let (repo_id, tag) = match named.split_once(':') {
        Some((_, tag)) if !is_tag(tag) || !page.is_empty() => {
            return Err(Error::invalid(
                "repo_id",
                "must have one quantisation after its colon, as in owner/name:Q4_K_M",
            ));
        }
        Some((repo_id, tag)) => (repo_id.to_owned(), tag),
        None => (named.clone(), ""),
    };
    if !is_repo_id(&repo_id) {
        return Err(Error::invalid(
            "repo_id",
            "must be written as owner/name, or as the address of a model on the hub",
        ));
    }
    let place = Place {
        repo_id,
        ..Place::default()
    };
    let lowered = tag.to_lowercase();
    if lowered
        .rsplit_once('.')
        .is_some_and(|(_, ending)| ending == "gguf")
    {
        let names = vec![tag.to_owned()];
        return Ok(Place { names, ..place });
    }
    if !tag.is_empty() {
        let quant = if lowered == NO_TAG { "" } else { tag }.to_owned();
        return Ok(Place { quant, ..place });
    }
    let part = |at: usize| page.get(at).cloned().unwrap_or_default();
    let (kind, revision, path) = (part(0), part(1), page.get(2..).unwrap_or_default().join("/"));
    let listed = |name: String| if path.is_empty() { Vec::new() } else { vec![name] };
    let (revision, names) = match kind.as_str() {
        "tree" if !shown.is_empty() => (revision, vec![shown]),
        _ if !shown.is_empty() => (String::new(), vec![shown]),
        "blob" | "resolve" | "raw" => (revision, listed(path.clone())),
        "tree" => (revision, listed(format!("{path}/*"))),
        _ => Default::default(),
    };
    Ok(Place {
        revision,
        names,
        ..place
    })
}

/// Whether a text is an address on the hub, or names a quantisation: no words to search for.
pub(super) fn is_place(text: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && !part.contains([' ', '/', ':']);
    let Some((host, rest)) = text.split_once('/') else {
        return false;
    };
    let is_address = text.contains("://") || HUB_HOSTS.contains(&host);
    let tagged = rest.split_once(':');
    is_address || tagged.is_some_and(|(name, tag)| plain(host) && plain(name) && is_tag(tag))
}

fn is_tag(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=200).contains(&text.len()) && text.bytes().all(plain)
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

/// (the parts of its path, the file that its query names).
fn of_address(text: &str) -> Result<(Vec<String>, String)> {
    let whole = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let (scheme, rest) = whole.split_once("://").unwrap_or(("", &whole));
    let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let shown = query.split('&').find_map(|field| field.strip_prefix(SHOWN_FILE));
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
    let parts = path.split('/').filter(|part| !part.is_empty());
    let mut names: Vec<String> = parts.map(decoded).collect();
    if names.first().is_some_and(|name| name == "models") {
        names.remove(0);
    }
    if names
        .first()
        .is_some_and(|name| OTHER_KINDS.contains(&name.as_str()))
    {
        return Err(Error::invalid(
            "repo_id",
            "is the address of something other than a model",
        ));
    }
    Ok((names, shown.map(decoded).unwrap_or_default()))
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
    fn an_address_names_a_revision_and_files_too() {
        for (page, revision, names) in [
            ("", "main", None),
            ("/tree/4_25", "4_25", None),
            ("/tree/refs%2Fpr%2F1/", "refs/pr/1", None),
            ("/tree/main/UD-Q2_K_XL", "main", Some("UD-Q2_K_XL/*")),
            ("/blob/v1/sub/a%20b.gguf", "v1", Some("sub/a b.gguf")),
            ("/resolve/main/a.gguf?download=true", "main", Some("a.gguf")),
            ("/raw/main/100%", "main", Some("100%")),
            ("/discussions/3", "main", None),
            ("/blob", "main", None),
            ("?show_file_info=L-Q4_K_M.gguf", "main", Some("L-Q4_K_M.gguf")),
            (
                "/tree/v1?a=b&show_file_info=U%2FL%20a.gguf#x",
                "v1",
                Some("U/L a.gguf"),
            ),
            ("?show_file_info=", "main", None),
            (":L-IQ3_M.gguf", "main", Some("L-IQ3_M.gguf")),
        ] {
            let place = parse_place(&format!("https://huggingface.co/acme/Lumen-7B{page}")).unwrap();
            assert_eq!(place.repo_id, "acme/Lumen-7B", "{page}");
            assert_eq!(place.revision_for("main"), revision, "{page}");
            assert_eq!(
                place.names_for(None, &[]).first().map(String::as_str),
                names,
                "{page}"
            );
            assert_eq!(place.revision_for("mine"), "mine", "{page}");
            assert!(place.names_for(Some("q4_0"), &[]).is_empty(), "{page}");
        }
    }

    #[test]
    fn a_quantisation_behind_a_colon_holds_where_nothing_else_is_asked_for() {
        for (text, quant) in [
            ("acme/Lumen-7B:Q4_K_M", "Q4_K_M"),
            ("hf.co/acme/Lumen-7B:ud-q4_k_xl", "ud-q4_k_xl"),
            ("https://huggingface.co/acme/Lumen-7B:Q8_0", "Q8_0"),
            ("hf://acme/Lumen-7B:4.0bpw", "4.0bpw"),
            ("acme/Lumen-7B:latest", ""),
            ("acme/Lumen-7B", ""),
        ] {
            let place = parse_place(text).unwrap();
            assert_eq!(place.repo_id, "acme/Lumen-7B", "{text}");
            assert_eq!(place.quant_for(None, &[]), quant, "{text}");
            assert_eq!(place.quant_for(Some(""), &[]), quant, "{text}");
            assert_eq!(place.quant_for(Some("Q2_K"), &[]), "Q2_K", "{text}");
            assert_eq!(place.quant_for(None, &["mmproj*".to_owned()]), "", "{text}");
            assert!(place.names_for(None, &[]).is_empty(), "{text}");
        }
        for text in [
            "a/b:",
            "a/b:q4:q8",
            "a/b:q4/c",
            "a:b/c",
            "a/b: q4",
            "a/b:ä",
            "hf.co/a/b:q4/tree/main",
        ] {
            assert!(parse_place(text).is_err(), "{text}");
        }
    }

    #[test]
    fn repositories_are_named_in_several_ways() {
        for text in [
            "acme/Lumen-7B",
            " acme/Lumen-7B ",
            "hf.co/acme/Lumen-7B",
            "https://huggingface.co/acme/Lumen-7B/tree/main?x#y",
            "hf://acme/Lumen-7B",
            "https://www.hf.co/models/acme/Lumen-7B",
            "https://hf-mirror.com/acme/Lumen-7B/tree/main",
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
