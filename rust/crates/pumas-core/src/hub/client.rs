//! Asks the hub: a listing, one repository at one revision; and says who we are.
//!
//! API: <https://huggingface.co/docs/hub/api>; environment:
//! <https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::model::{HUB, HubListing, HubModel, is_commit, parse_repo_id};
use super::reading::{read_listing, read_model};
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::library::formats::text::valid_text;
use crate::net::{Address, NetworkClient, Response, Timeouts};
use crate::storage::unicode::is_printable;

const MAX_REVISION: usize = 200;
/// A person waits for the answer, or nobody does any more.
const TIMEOUTS: Timeouts = Timeouts {
    read: Duration::from_secs(20),
};
const PATIENCE: Duration = Duration::from_secs(15);
const MAX_JSON: usize = 32 * 1024 * 1024;
const MAX_TOKEN_BYTES: u64 = 4096;
/// What a listing is asked for: everything that a search result shows, in one request. Sizes are not to be had this way.
const LISTED: [&str; 13] = [
    "author",
    "cardData",
    "downloads",
    "gated",
    "gguf",
    "lastModified",
    "library_name",
    "likes",
    "pipeline_tag",
    "safetensors",
    "sha",
    "siblings",
    "tags",
];

/// What a listing is asked about.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// In the repository's name; `""` for any.
    pub search: String,
    /// `""` for any.
    pub task: String,
    /// `""` for any.
    pub author: String,
    /// `downloads` or `trendingScore`.
    pub sort: &'static str,
    /// How many.
    pub limit: u32,
}

impl Listing {
    fn path(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let given = [
            ("author", self.author.as_str()),
            ("pipeline_tag", self.task.as_str()),
            ("search", self.search.as_str()),
            ("sort", self.sort),
            ("limit", &self.limit.to_string()),
        ];
        query.extend_pairs(given.into_iter().filter(|(_, value)| !value.is_empty()));
        query.extend_pairs(LISTED.map(|field| ("expand", field)));
        format!("/api/models?{}", query.finish())
    }
}

type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Cheap to clone.
#[derive(Clone)]
pub struct HubClient {
    network: NetworkClient,
    environment: Environment,
}

impl HubClient {
    /// Reads `HF_ENDPOINT`, `HF_TOKEN` and where the token file is from the environment of this process.
    #[must_use]
    pub fn new(network: NetworkClient) -> Self {
        Self {
            network,
            environment: Arc::new(|name| std::env::var(name).ok().filter(|value| !value.is_empty())),
        }
    }

    /// The hub's base address, without a slash at its end.
    ///
    /// # Errors
    /// `InvalidInput` when `HF_ENDPOINT` is not one.
    pub fn endpoint(&self) -> Result<String> {
        let given = self.variable("HF_ENDPOINT").unwrap_or_default();
        let url = if given.trim().is_empty() {
            HUB
        } else {
            given.trim()
        };
        Ok(Address::base(url, "HF_ENDPOINT")?
            .url()
            .trim_end_matches('/')
            .to_owned())
    }

    /// The page of a repository for a person to open.
    ///
    /// # Errors
    /// As [`HubClient::endpoint`].
    pub fn page_url(&self, repo_id: &str) -> Result<String> {
        Ok(format!("{}/{repo_id}", self.endpoint()?))
    }

    /// The repository at a branch, tag or commit, with the size and digest of every file. One request.
    ///
    /// # Errors
    /// `InvalidInput`: the name or revision cannot be one. `RepoNotFound`, `RevisionNotFound`, `GatedRepo`, `TokenRefused`:
    /// what the hub said. Those of the network: the hub could not be asked, or its answer makes no sense.
    pub async fn model(&self, repo_id: &str, revision: &str) -> Result<HubModel> {
        let repo_id = parse_repo_id(repo_id)?;
        check_revision(revision)?;
        let path = format!("/api/models/{repo_id}/revision/{}?blobs=true", quoted(revision));
        let info = self.ask(&path, &repo_id, revision).await?;
        read_model(&info).map_err(|reason| self.unusable(reason))
    }

    /// Repositories in the hub's order. One request. An entry that makes no sense is left out.
    ///
    /// # Errors
    /// As [`HubClient::model`].
    pub async fn models(&self, wanted: Listing) -> Result<Vec<HubListing>> {
        let path = wanted.path();
        let listed = self.ask(&path, "", "").await?;
        let Value::Array(items) = listed else {
            return Err(self.unusable("no description of a model".to_owned()));
        };
        let wanted = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
        Ok(items
            .iter()
            .take(wanted)
            .filter_map(|item| read_listing(item).ok())
            .collect())
    }

    /// Ask whether this user may have the repository's files.
    ///
    /// # Errors
    /// As [`HubClient::model`].
    pub async fn require_access(&self, repo_id: &str) -> Result<()> {
        let url = format!("{}/api/models/{repo_id}/auth-check", self.endpoint()?);
        let response = self.get(&url, None).await?;
        if response.status >= 400 {
            return Err(self.refusal(&response, repo_id, ""));
        }
        response.drain().await;
        Ok(())
    }

    /// Where the hub gives one file of a commit.
    ///
    /// # Errors
    /// As [`HubClient::endpoint`].
    pub fn file_url(&self, repo_id: &str, commit: &str, path: &str) -> Result<String> {
        let parts: Vec<String> = path.split('/').map(quoted).collect();
        Ok(format!(
            "{}/{repo_id}/resolve/{}/{}",
            self.endpoint()?,
            quoted(commit),
            parts.join("/")
        ))
    }

    /// The model card (README.md), cut after `limit` bytes; `""` when there is none.
    ///
    /// # Errors
    /// As [`HubClient::model`].
    pub async fn card_text(&self, repo_id: &str, commit: &str, limit: usize) -> Result<String> {
        let url = self.file_url(repo_id, commit, "README.md")?;
        let mut response = self.get(&url, None).await?;
        match response.status {
            404 => return Ok(String::new()),
            400.. => return Err(self.refusal(&response, repo_id, commit)),
            _ => {}
        }
        let mut text = Vec::new();
        while text.len() < limit
            && let Some(chunk) = response.chunk().await?
        {
            text.extend_from_slice(&chunk);
        }
        if text.len() < limit {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        text.truncate(limit);
        Ok(valid_text(&text))
    }

    async fn get(&self, url: &str, preload: Option<usize>) -> Result<Response> {
        let mut request = self
            .network
            .get(url)?
            .timeouts(TIMEOUTS)
            .patience(PATIENCE)
            .unchecked();
        if let Some(limit) = preload {
            request = request.preload(limit);
        }
        if let Some(token) = self.token_for(url).await? {
            request = request.header("Authorization", &format!("Bearer {token}"))?;
        }
        self.network.send(request).await
    }

    async fn ask(&self, path: &str, repo_id: &str, revision: &str) -> Result<Value> {
        let url = format!("{}{path}", self.endpoint()?);
        let mut response = self.get(&url, Some(MAX_JSON)).await?;
        if response.status >= 400 {
            return Err(self.refusal(&response, repo_id, revision));
        }
        response.json().await
    }

    fn refusal(&self, response: &Response, repo_id: &str, revision: &str) -> Error {
        let missing = |reason: &str| Error::RepoNotFound {
            repo_id: repo_id.to_owned(),
            reason: reason.to_owned(),
        };
        let code = response.header("x-error-code");
        let message = response.header("x-error-message");
        let page = self.page_url(repo_id).unwrap_or_default();
        let credentials = message == "Invalid credentials in Authorization header";
        match (code, response.status) {
            ("RevisionNotFound", _) => Error::RevisionNotFound {
                repo_id: repo_id.to_owned(),
                revision: revision.to_owned(),
            },
            ("GatedRepo", _) => Error::GatedRepo {
                repo_id: repo_id.to_owned(),
                page,
            },
            _ if message == "Access to this resource is disabled." => missing("has disabled this repository"),
            ("RepoNotFound", _) => missing("has no model repository of that name, or a private one"),
            (_, 401) if !credentials && !repo_id.is_empty() => {
                missing("has no model repository of that name, or a private one")
            }
            (_, 401) => Error::TokenRefused,
            _ => response.failure(),
        }
    }

    fn unusable(&self, reason: String) -> Error {
        let host = self
            .endpoint()
            .and_then(|url| Address::parse(&url, "HF_ENDPOINT"));
        Error::InvalidReply {
            host: host.map(|address| address.origin.netloc()).unwrap_or_default(),
            reason,
        }
    }

    /// The user's token, for the hub's own scheme, host and port alone. Read anew each time.
    ///
    /// # Errors
    /// As [`HubClient::endpoint`].
    pub async fn token_for(&self, url: &str) -> Result<Option<String>> {
        let hub = Address::parse(&self.endpoint()?, "HF_ENDPOINT")?;
        if !Address::parse(url, "url").is_ok_and(|address| address.origin == hub.origin) {
            return Ok(None);
        }
        let client = self.clone();
        blocking(move || Ok(client.token())).await
    }

    /// From the environment, or the file that `hf auth login` writes.
    fn token(&self) -> Option<String> {
        let disabled = self
            .variable("HF_HUB_DISABLE_IMPLICIT_TOKEN")
            .unwrap_or_default()
            .to_lowercase();
        if matches!(disabled.as_str(), "1" | "on" | "yes" | "true") {
            return None;
        }
        let names = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"];
        let given = names.iter().find_map(|name| clean(&self.variable(name)?));
        given.or_else(|| clean(&read_small(self.token_file()?)))
    }

    fn token_file(&self) -> Option<PathBuf> {
        if let Some(path) = self.variable("HF_TOKEN_PATH") {
            return Some(PathBuf::from(path));
        }
        if let Some(home) = self.variable("HF_HOME") {
            return Some(PathBuf::from(home).join("token"));
        }
        let cache = self.variable("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(self.variable("HOME")?).join(".cache")))?;
        Some(cache.join("huggingface/token"))
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name)
    }
}

/// A branch, tag, ref or commit as git allows it (<https://git-scm.com/docs/git-check-ref-format>).
///
/// # Errors
/// `InvalidInput`.
pub(super) fn check_revision(revision: &str) -> Result<()> {
    let odd = |letter: char| !is_printable(letter) || " ~^:?*[\\".contains(letter);
    let unusable = revision.is_empty()
        || revision.chars().count() > MAX_REVISION
        || revision.contains(odd)
        || revision.contains("..")
        || revision.starts_with(['/', '-']);
    if unusable && !is_commit(revision) {
        return Err(Error::invalid(
            "revision",
            "must be a branch, a tag or a commit id",
        ));
    }
    Ok(())
}

/// As one part of a path.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) {
            quoted.push(char::from(byte));
        } else {
            quoted.push('%');
            quoted.push_str(&crate::storage::files::hex(&[byte]).to_uppercase());
        }
    }
    quoted
}

/// A token as it may stand in a header.
fn clean(text: &str) -> Option<String> {
    let token = text.trim();
    let proper = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    proper.then(|| token.to_owned())
}

fn read_small(path: PathBuf) -> String {
    let mut text = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_end(&mut text));
    if read.is_ok() {
        String::from_utf8_lossy(&text).into_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::NetworkSettings;

    fn client(variables: &'static [(&str, &str)]) -> HubClient {
        let network = NetworkClient::new(&NetworkSettings::default()).unwrap();
        let find = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        HubClient {
            network,
            environment: Arc::new(find),
        }
    }

    #[tokio::test]
    async fn the_token_goes_to_the_hub_alone() {
        let hub = client(&[
            ("HF_ENDPOINT", "http://127.0.0.1:9000/"),
            ("HF_TOKEN", " hf_secret\n"),
        ]);
        assert_eq!(hub.endpoint().unwrap(), "http://127.0.0.1:9000");
        assert_eq!(
            hub.token_for("http://127.0.0.1:9000/api")
                .await
                .unwrap()
                .as_deref(),
            Some("hf_secret")
        );
        for url in [
            "http://127.0.0.1:9001/api",
            "https://127.0.0.1:9000/api",
            "nonsense",
        ] {
            assert_eq!(hub.token_for(url).await.unwrap(), None, "{url}");
        }
        let silent = client(&[("HF_TOKEN", "x"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]);
        assert_eq!(silent.token(), None);
    }

    #[test]
    fn revisions_are_refs() {
        for good in ["main", "v1.0", "refs/pr/3", "feature/x"] {
            assert!(check_revision(good).is_ok(), "{good}");
        }
        for bad in ["", "a..b", "/a", "-a", "a b", "a\n", "a~1"] {
            assert!(check_revision(bad).is_err(), "{bad}");
        }
        assert_eq!(quoted("refs/pr/é"), "refs%2Fpr%2F%C3%A9");
    }
}
