//! GitHub's release list of one repository, page by page, each asked for only when it changed.
//!
//! <https://docs.github.com/rest/releases/releases#list-releases> and
//! <https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api> (conditional requests do not count
//! against the rate limit). The base address is the setting `PUMAS_GITHUB_API`. Nothing is kept here.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::net::{NetworkClient, Response, Timeouts};
use crate::storage::json_file::JsonObject;

const API_VARIABLE: &str = "PUMAS_GITHUB_API";
const API: &str = "https://api.github.com";
const RAW: &str = "https://raw.githubusercontent.com";
/// Releases of one page.
pub(super) const PAGE: usize = 100;
const LARGEST_PAGE: usize = 16 * 1024 * 1024;
const LARGEST_FILE: usize = 1024 * 1024;
const LONGEST_ETAG: usize = 200;
pub(super) const TIMEOUTS: Timeouts = Timeouts {
    read: Duration::from_secs(10),
};
const PATIENCE: Duration = Duration::from_secs(4);
const LONGEST_WAIT_S: f64 = 24.0 * 3600.0;
/// Big, of no use to anybody here, and about people.
const LEFT_OUT: [&str; 4] = ["author", "reactions", "uploader", "mentions_count"];

/// `releases` as the API gave them, `etag` names this state of the page.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) etag: String,
    pub(super) releases: Vec<JsonObject>,
}

/// The base address of the API.
pub(crate) fn api() -> String {
    let given = std::env::var(API_VARIABLE).unwrap_or_default();
    match given.trim_end_matches('/') {
        "" => API.to_owned(),
        given => given.to_owned(),
    }
}

#[derive(Clone)]
pub(super) struct GitHub {
    network: NetworkClient,
}

impl GitHub {
    pub(super) fn new(network: NetworkClient) -> Self {
        Self { network }
    }

    /// Put all pages up to `most` into `pages`, each when it comes; a page of `known` that has not changed is not sent again.
    ///
    /// # Errors
    /// `RateLimited`: with the seconds until the host's own time of reset. Those of the network; `ReleaseNotFound`: there is
    /// no such repository.
    pub(super) async fn pages(
        &self,
        repository: &str,
        known: &[Page],
        most: u32,
        pages: &mut Vec<Page>,
    ) -> Result<()> {
        for number in 0..most as usize {
            let page = self.page(repository, number + 1, known.get(number)).await?;
            let is_last = page.releases.len() < PAGE;
            pages.push(page);
            if is_last {
                break;
            }
        }
        Ok(())
    }

    /// A small file of the repository at a tag.
    ///
    /// # Errors
    /// Those of the network; `HttpStatus` 404 when it has none.
    pub(super) async fn file(&self, repository: &str, tag: &str, path: &str) -> Result<Bytes> {
        let (tag, path) = (escaped(tag), escaped(path));
        let url = if std::env::var(API_VARIABLE).is_ok_and(|given| !given.is_empty()) {
            format!("{}/repos/{repository}/contents/{path}?ref={tag}", api())
        } else {
            format!("{RAW}/{repository}/{tag}/{path}")
        };
        let request = self
            .network
            .get(&url)?
            .header("Accept", "application/vnd.github.raw")?
            .timeouts(TIMEOUTS)
            .patience(PATIENCE);
        self.network.send(request).await?.read(LARGEST_FILE).await
    }

    async fn page(&self, repository: &str, number: usize, known: Option<&Page>) -> Result<Page> {
        let url = format!(
            "{}/repos/{repository}/releases?per_page={PAGE}&page={number}",
            api()
        );
        let mut request = self
            .network
            .request(Method::GET, &url)?
            .header("Accept", "application/vnd.github+json")?
            .header("X-GitHub-Api-Version", "2022-11-28")?;
        if let Some(page) = known.filter(|page| !page.etag.is_empty()) {
            request = request.header("If-None-Match", &page.etag)?;
        }
        let request = request
            .timeouts(TIMEOUTS)
            .patience(PATIENCE)
            .unchecked()
            .preload(LARGEST_PAGE);
        let mut reply = self.network.send(request).await?;
        if let (304, Some(page)) = (reply.status, known) {
            return Ok(page.clone());
        }
        if reply.status >= 400 {
            return Err(failure(repository, &reply));
        }
        let Value::Array(listed) = reply.json::<Value>().await? else {
            return Err(Error::InvalidReply {
                host: host_of(&reply),
                reason: "no list of releases".to_owned(),
            });
        };
        let etag = crate::text::cut(reply.header("etag"), LONGEST_ETAG).to_owned();
        let releases = listed.into_iter().filter_map(cleaned).collect();
        Ok(Page { etag, releases })
    }
}

/// The host that answered, as failures name it.
pub(crate) fn host_of(reply: &Response) -> String {
    match reply.failure() {
        Error::HttpStatus { host, .. } | Error::RateLimited { host, .. } => host,
        _ => String::new(),
    }
}

fn failure(repository: &str, reply: &Response) -> Error {
    let reset = reply.header("x-ratelimit-reset");
    match reply.failure() {
        Error::RateLimited { host, retry_after_s } if reset.bytes().all(|c| c.is_ascii_digit()) => {
            let until: f64 = crate::text::cut(reset, 15).parse().unwrap_or_default();
            let now = Timestamp::now().as_duration().as_secs_f64();
            Error::RateLimited {
                host,
                retry_after_s: retry_after_s.max(until - now).min(LONGEST_WAIT_S),
            }
        }
        Error::HttpStatus { status: 404, .. } => Error::ReleaseNotFound {
            app: repository.to_owned(),
            tag: "releases".to_owned(),
            reason: "are not listed by GitHub".to_owned(),
        },
        error => error,
    }
}

fn cleaned(release: Value) -> Option<JsonObject> {
    let Value::Object(mut release) = release else {
        return None;
    };
    if !release.get("tag_name").is_some_and(Value::is_string) {
        return None;
    }
    release.retain(|key, _| !LEFT_OUT.contains(&key.as_str()));
    let assets = match release.remove("assets") {
        Some(Value::Array(assets)) => assets,
        _ => Vec::new(),
    };
    let assets = assets.into_iter().filter_map(|asset| match asset {
        Value::Object(mut asset) => {
            asset.retain(|key, _| !LEFT_OUT.contains(&key.as_str()));
            Some(Value::Object(asset))
        }
        _ => None,
    });
    let assets = Value::Array(assets.collect());
    release.insert("assets".to_owned(), assets);
    Some(release)
}

/// A path as it stands in an address.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' | b'/' => {
                out.push(byte.into());
            }
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}
