//! The page for people, served from `/` as it was built: files of one folder, with headers that allow no foreign code.
//!
//! Headers and content types stand in `contracts/page.json`, for every program that serves the page. It may be built
//! again, or for the first time, while the server runs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use pumas_core::storage::files::hex;
use serde::Deserialize;
use sha2::{Digest, Sha256};

const INDEX: &str = "/index.html";
/// The build gives each file below assets/ a name with a hash of its content: under that name it never changes.
const FOREVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";
const HASH: usize = 8;
const TAG_BYTES: usize = 16;

const NOT_BUILT: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>Pumas: the page is not built</title>
<h1>The page is not built yet</h1>
<p>The sidecar works; only its page is missing. In the checkout, with Node.js 20 or newer installed:</p>
<pre>./launcher page</pre>
<p>Then load this address again; where Pumas was installed as a package, install it from the checkout once more before:
<code>pip install .</code></p>
<p>Without Node.js the command does all that the page does:</p>
<pre>pumas --help</pre>
</html>
";

#[derive(Default, Deserialize)]
struct Rules {
    headers: HashMap<String, String>,
    types: HashMap<String, String>,
}

fn rules() -> &'static Rules {
    static RULES: OnceLock<Rules> = OnceLock::new();
    RULES.get_or_init(|| serde_json::from_str(pumas_core::contracts::PAGE).unwrap_or_default())
}

/// The files below one folder, which need not be there.
pub(super) struct Page {
    folder: Option<PathBuf>,
}

impl Page {
    /// None where nobody knows of a built page.
    #[must_use]
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Whether the path, as it was sent, can be a file of the page. The folder is not looked at.
    #[must_use]
    pub(super) fn has(path: &str) -> bool {
        path == "/" || kind_of(path).is_some()
    }

    /// Answer GET and HEAD for a path that `has` lets through.
    pub(super) async fn serve(&self, path: &str, headers: &HeaderMap) -> Response<Body> {
        let name = if path == "/" { INDEX } else { path };
        let kind = kind_of(name).and_then(|ending| rules().types.get(ending));
        let content = match (kind, &self.folder) {
            (Some(_), Some(folder)) => read(folder.join(&name[1..])).await,
            _ => None,
        };
        match (kind, content) {
            (Some(kind), Some(content)) => found(name, kind, content, headers),
            _ if name == INDEX => {
                let html = rules().types.get(".html").map_or("text/html", String::as_str);
                answer(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no-store",
                    html,
                    NOT_BUILT.into(),
                )
            }
            _ => answer(
                StatusCode::NOT_FOUND,
                "no-store",
                "text/plain; charset=utf-8",
                "Not found.".into(),
            ),
        }
    }
}

async fn read(path: PathBuf) -> Option<Vec<u8>> {
    tokio::task::spawn_blocking(move || std::fs::read(path).ok())
        .await
        .ok()
        .flatten()
}

fn found(name: &str, kind: &str, content: Vec<u8>, headers: &HeaderMap) -> Response<Body> {
    let digest = hex(&Sha256::digest(&content)[..TAG_BYTES]);
    let tag = format!("\"{digest}\"");
    let caching = if is_hashed(name) { FOREVER } else { ASK_AGAIN };
    let mut response = if is_known(&tag, headers) {
        let mut response = answer(StatusCode::NOT_MODIFIED, caching, kind, Body::empty());
        response.headers_mut().remove(CONTENT_TYPE);
        response
    } else {
        answer(StatusCode::OK, caching, kind, content.into())
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

fn answer(status: StatusCode, caching: &'static str, kind: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in &rules().headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        ) {
            headers.insert(name, value);
        }
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    if let Ok(kind) = HeaderValue::from_str(kind) {
        headers.insert(CONTENT_TYPE, kind);
    }
    response
}

/// <https://www.rfc-editor.org/rfc/rfc9110#name-if-none-match>
fn is_known(tag: &str, headers: &HeaderMap) -> bool {
    let given = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    given.flat_map(|list| list.split(',')).map(str::trim).any(|one| {
        let one = one.strip_prefix("W/").unwrap_or(one);
        one == tag || one == "*"
    })
}

/// The ending of `/name.ending` or `/assets/name.ending`, as the build writes names: no other path is looked up, so none
/// can leave the folder.
fn kind_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix('/')?;
    let name = name.strip_prefix("assets/").unwrap_or(name);
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let mut parts = name.split('.');
    let stem = parts.next()?;
    if stem.is_empty() || stem.starts_with('-') || !stem.bytes().all(letter) {
        return None;
    }
    let (mut last, mut count) = ("", 0);
    for part in parts {
        if part.is_empty() || !part.bytes().all(letter) {
            return None;
        }
        (last, count) = (part, count + 1);
    }
    let is_ending = last
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (count > 0 && is_ending).then(|| &path[path.len() - last.len() - 1..])
}

fn is_hashed(name: &str) -> bool {
    let Some((stem, _)) = name
        .strip_prefix("/assets/")
        .and_then(|name| name.rsplit_once('.'))
    else {
        return false;
    };
    let Some(at) = stem.len().checked_sub(HASH + 1).filter(|at| *at > 0) else {
        return false;
    };
    stem.as_bytes()[at] == b'-' && !stem[at + 1..].contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (path, ending) in [
            ("/index.html", Some(".html")),
            ("/assets/index-abcd1234.js", Some(".js")),
            ("/a.b.css", Some(".css")),
            ("/", None),
            ("/index", None),
            ("/.html", None),
            ("/-a.html", None),
            ("/assets/", None),
            ("/assets/../x.js", None),
            ("/other/x.js", None),
            ("/x.JS", None),
            ("/x..js", None),
            ("/x.js?y", None),
            ("/%78.js", None),
        ] {
            assert_eq!(kind_of(path), ending, "{path}");
        }
        assert!(
            is_hashed("/assets/index-abcd1234.js")
                && !is_hashed("/assets/index.js")
                && !is_hashed("/index-abcd1234.js")
        );
    }

    #[tokio::test]
    async fn files_and_their_tags() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("index.html"), "hello").unwrap();
        let page = Page::new(Some(folder.path().to_owned()));
        let first = page.serve("/", &HeaderMap::new()).await;
        assert_eq!(first.status(), StatusCode::OK);
        assert!(
            first.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("default-src 'none'")
        );
        let known = HeaderMap::from_iter([(IF_NONE_MATCH, first.headers()[ETAG].clone())]);
        assert_eq!(page.serve("/", &known).await.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(page.serve("/x.js", &known).await.status(), StatusCode::NOT_FOUND);
        let nothing = Page::new(None).serve("/", &HeaderMap::new()).await;
        assert_eq!(nothing.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
