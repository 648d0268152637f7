//! An answer whose body has not been read yet. Knows how a body ends, and nothing of what it means.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::de::DeserializeOwned;

use super::encoding::Forms;
use super::hosts::Host;
use super::transport::translate;
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::stop::Stop;
use crate::text::grouped;

/// A body that is wanted whole is given up after this long, however steadily it trickles.
const WHOLE_BODY: Duration = Duration::from_mins(5);
/// A rest that is cheaper to read than a new connection.
const DRAIN: usize = 64 * 1024;
/// What a compressed form may be longer than the body: the heads and checksums of short or random ones.
const PACKING: usize = 64 * 1024;
/// JSON documents are at most so long.
const JSON_LIMIT: usize = 32 * 1024 * 1024;

/// Dropping it ends the exchange.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Where the answer came from, after redirects and mirrors.
    pub url: String,
    /// As they came.
    pub headers: HeaderMap,
    /// How long the answer asks to wait before the next request.
    pub wait: Option<Duration>,
    raw: reqwest::Response,
    host: Arc<Host>,
    silence: Duration,
    closed: Stop,
    body: Option<Bytes>,
}

impl Response {
    pub(super) fn new(
        raw: reqwest::Response,
        url: String,
        host: Arc<Host>,
        silence: Duration,
        closed: Stop,
    ) -> Self {
        Self {
            status: raw.status().as_u16(),
            headers: raw.headers().clone(),
            wait: None,
            url,
            raw,
            host,
            silence,
            closed,
            body: None,
        }
    }

    /// The value of a header that is text; `""` when it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// What has arrived, as it came; `None` at the end.
    ///
    /// # Errors
    /// `ConnectionFailed`: the body broke off or nothing came for too long. `InvalidReply`: it is no HTTP. `Interrupted`:
    /// the client was closed.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        if let Some(body) = self.body.take() {
            return Ok(Some(body).filter(|body| !body.is_empty()));
        }
        let netloc = self.host.origin.netloc();
        let next = tokio::time::timeout(self.silence, self.raw.chunk());
        let read = tokio::select! {
            read = next => read,
            () = self.closed.asked() => return Err(Error::Interrupted("The sidecar is stopping.".to_owned())),
        };
        let failed = match read {
            Ok(Ok(chunk)) => {
                let size = chunk.as_ref().map_or(0, Bytes::len) as u64;
                self.host.count(|counted| counted.received += size);
                return Ok(chunk);
            }
            Ok(Err(error)) => translate(&error, &netloc),
            Err(_) => Error::ConnectionFailed {
                host: netloc,
                reason: "stopped sending: nothing came for too long".to_owned(),
                cause: "timeout",
            },
        };
        self.host.count(|counted| counted.interrupted += 1);
        Err(failed)
    }

    /// The whole body, unpacked.
    ///
    /// # Errors
    /// As [`Response::chunk`], and `InvalidReply` when it is longer than `limit` bytes, or not packed as it says.
    pub async fn read(&mut self, limit: usize) -> Result<Bytes> {
        let body = match self.body.take() {
            Some(body) => body,
            None => self.unpacked(limit).await?,
        };
        if body.len() > limit {
            return Err(self.too_long(limit));
        }
        Ok(body)
    }

    async fn unpacked(&mut self, limit: usize) -> Result<Bytes> {
        let forms = Forms::of(self.header("content-encoding"));
        if forms.is_plain() {
            return self.arrived(limit, limit).await;
        }
        let body = self.arrived(limit.saturating_add(PACKING), limit).await?;
        let plain = blocking(move || Ok(forms.undone(&body, limit))).await?;
        plain
            .map(Bytes::from)
            .map_err(|_| self.invalid("it is not well-formed HTTP".to_owned()))
    }

    /// The body as it comes, `most` bytes of it; who asks has room for `limit`.
    async fn arrived(&mut self, most: usize, limit: usize) -> Result<Bytes> {
        let whole = async {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk().await? {
                body.extend_from_slice(&chunk);
                if body.len() > most {
                    return Err(self.too_long(limit));
                }
            }
            Ok(Bytes::from(body))
        };
        match tokio::time::timeout(WHOLE_BODY, whole).await {
            Ok(read) => read,
            Err(_) => Err(Error::ConnectionFailed {
                host: self.host.origin.netloc(),
                reason: "sends too slowly".to_owned(),
                cause: "timeout",
            }),
        }
    }

    fn too_long(&self, limit: usize) -> Error {
        self.invalid(format!("it is longer than {} bytes", grouped(limit as u64)))
    }

    fn invalid(&self, reason: String) -> Error {
        Error::InvalidReply {
            host: self.host.origin.netloc(),
            reason,
        }
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// As [`Response::read`], and `InvalidReply` when it is something else.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let body = self.read(JSON_LIMIT).await?;
        let parsed =
            serde_json::from_slice(&body).or_else(|_| serde_json::from_slice(&without_halves(&body)));
        parsed.map_err(|_| self.invalid(looks_like(&body).to_owned()))
    }

    /// Read the body now; it is then there to be read.
    ///
    /// # Errors
    /// As [`Response::read`].
    pub(super) async fn preload(mut self, limit: usize) -> Result<Self> {
        self.body = Some(self.read(limit).await?);
        Ok(self)
    }

    /// Read a short rest, so that the connection can be used again.
    pub async fn drain(mut self) {
        let mut left = DRAIN;
        while let Ok(Some(chunk)) = self.chunk().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                return;
            }
        }
    }

    /// Whether the host did not do its part: 5xx, or a request to come back later. Other refusals are answers.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.status >= 500 || self.asks_to_wait()
    }

    fn asks_to_wait(&self) -> bool {
        self.status == 429 || (self.wait.is_some() && matches!(self.status, 403 | 503))
    }

    /// What a status from 400 on means.
    #[must_use]
    pub fn failure(&self) -> Error {
        let host = self.host.origin.netloc();
        if self.asks_to_wait() {
            return Error::RateLimited {
                host,
                retry_after_s: self.wait.unwrap_or_default().as_secs_f64(),
            };
        }
        Error::HttpStatus {
            status: self.status,
            host,
        }
    }
}

/// JSON may hold halves of characters (`\ud800` alone), which no text has: each becomes the text of its escape.
fn without_halves(json: &[u8]) -> Vec<u8> {
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut whole = Vec::with_capacity(json.len());
    let mut at = 0;
    while at < json.len() {
        let length = match (json[at], unit(at)) {
            (b'\\', Some(0xD800..=0xDBFF))
                if unit(at + 6).is_some_and(|low| (0xDC00..=0xDFFF).contains(&low)) =>
            {
                12
            }
            (b'\\', Some(0xD800..=0xDFFF)) => {
                whole.push(b'\\');
                6
            }
            (b'\\', _) => 2,
            _ => 1,
        };
        let end = (at + length).min(json.len());
        // An escaped backslash, and then the rest of the half as plain text.
        whole.extend_from_slice(&json[at..end]);
        at = end;
    }
    whole
}

fn looks_like(body: &[u8]) -> &'static str {
    let start = body[..body.len().min(256)].trim_ascii_start();
    match start.first() {
        None => "it is empty where JSON was expected",
        Some(b'<') => "a web page came where JSON was expected (is there a login page of this network?)",
        Some(_) => "no JSON",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_characters_become_text() {
        let parsed = |json: &str| serde_json::from_slice::<String>(&without_halves(json.as_bytes())).unwrap();
        assert_eq!(parsed(r#""a\ud800b""#), "a\\ud800b");
        assert_eq!(parsed(r#""\ud83d\ude00\udc00\\ud800""#), "😀\\udc00\\ud800");
        assert_eq!(parsed(r#""\u00e9\n""#), "é\n");
    }
}
