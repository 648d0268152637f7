//! The content of one file at the hub: where it is, how a span of it is asked for, and whether the answer is that span.
//!
//! The hub sends large files' requests on to another host with a signed address that is good for a while; it is kept, so
//! that each span costs one request. The rules of ranges are those of RFC 9110 §13.1.5 and §14. Who writes the bytes, and
//! what a failure leads to, is decided in `large` and `fetching`.

use std::sync::Mutex;

use bytes::{Buf as _, Bytes};
use tokio::runtime::Handle;

use super::part::Span;
use super::wanted::WantedFile;
use crate::error::{Error, Result};
use crate::net::{Address, Response};
use crate::stop::Stop;
use crate::storage::locked;
use crate::text::{cut, grouped};

const REFUSED: [u16; 4] = [401, 403, 404, 410];
/// So few digits that reading the number can be no attack.
const MOST_DIGITS: usize = 18;

/// An answer that a thread reads; another thread may end it.
pub(super) struct Reply {
    response: Response,
    rest: Bytes,
    ended: Stop,
    runtime: Handle,
}

impl Reply {
    pub(super) fn new(response: Response, runtime: Handle) -> Self {
        Self {
            response,
            rest: Bytes::new(),
            ended: Stop::default(),
            runtime,
        }
    }

    /// Asking it ends a read that is under way.
    pub(super) fn ended(&self) -> &Stop {
        &self.ended
    }

    pub(super) fn status(&self) -> u16 {
        self.response.status
    }

    /// What a status from 400 on means.
    pub(super) fn failure(&self) -> Error {
        self.response.failure()
    }

    /// "" when it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        self.response.header(name)
    }

    /// Whether the bytes are not those of the file itself.
    pub(super) fn is_encoded(&self) -> bool {
        !matches!(self.header("content-encoding"), "" | "identity")
    }

    /// Put what has arrived into `target` and say how many bytes; 0 at the end.
    ///
    /// # Errors
    /// As [`Response::chunk`], and `ConnectionFailed` when another thread has ended it.
    pub(super) fn read_into(&mut self, target: &mut [u8]) -> Result<usize> {
        while self.rest.is_empty() {
            let (response, ended) = (&mut self.response, &self.ended);
            let chunk = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = ended.asked() => None,
                    chunk = response.chunk() => Some(chunk),
                }
            });
            match chunk.ok_or_else(|| self.closed_here())?? {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        if self.ended.is_asked() {
            return Err(self.closed_here());
        }
        let count = target.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut target[..count]);
        Ok(count)
    }

    /// The whole body, unpacked; nothing of it was read before.
    ///
    /// # Errors
    /// As [`Response::read`], and `ConnectionFailed` when another thread has ended it.
    pub(super) fn read(&mut self, limit: usize) -> Result<Bytes> {
        let (response, ended) = (&mut self.response, &self.ended);
        let body = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = ended.asked() => None,
                body = response.read(limit) => Some(body),
            }
        });
        body.ok_or_else(|| self.closed_here())?
    }

    /// Whether nothing comes any more.
    pub(super) fn is_over(&mut self) -> Result<bool> {
        Ok(self.read_into(&mut [0])? == 0)
    }

    fn closed_here(&self) -> Error {
        Error::ConnectionFailed {
            host: self.host(),
            reason: "was not read to the end: the connection was closed here".to_owned(),
            cause: "cut",
        }
    }

    fn host(&self) -> String {
        netloc(&self.response.url)
    }

    /// What came is not what was asked for.
    pub(super) fn invalid(&self, reason: String) -> Error {
        Error::InvalidReply {
            host: self.host(),
            reason,
        }
    }
}

fn netloc(url: &str) -> String {
    Address::parse(url, "url").map_or_else(|_| String::new(), |address| address.origin.netloc())
}

/// What the server has now is not what the blocks on disk are of, or it gives no spans: the file begins anew.
#[derive(Debug, PartialEq)]
pub(super) struct Changed {
    pub reason: &'static str,
    /// Whether spans can be asked for.
    pub ranges: bool,
}

const CHANGED: &str = "it has changed on the server";

/// Why bytes did not come.
#[derive(Debug)]
pub(super) enum Refused {
    Changed(Changed),
    Failed(Error),
}

impl Refused {
    pub(super) fn changed() -> Self {
        Self::Changed(Changed {
            reason: CHANGED,
            ranges: true,
        })
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Makes one GET of an address with these headers, adding what the address's host may see of us.
pub(super) type Send<'a> = &'a dyn Fn(&str, &[(&str, String)]) -> Result<Reply>;

/// One file at the hub. Calls block and may come from several threads at once.
pub(super) struct Content {
    pub wanted: WantedFile,
    pub repo_id: String,
    /// Where a person accepts the repository's terms.
    pub page: String,
    pub url: String,
    signed: Mutex<Option<String>>,
}

impl Content {
    pub(super) fn new(wanted: WantedFile, repo_id: String, page: String, url: String) -> Self {
        Self {
            wanted,
            repo_id,
            page,
            url,
            signed: Mutex::default(),
        }
    }

    /// Ask for a span of the file, or with `None` for all of it; `etag` names the content that a span must be of, "" while
    /// that is unknown.
    ///
    /// # Errors
    /// `Changed`: the server has another content, or gives no spans. `InvalidReply`: the answer is none of this file.
    /// `GatedRepo`, `RateLimited`, those of the network: refused, told to come back later, or not reached.
    pub(super) fn open(&self, send: Send<'_>, span: Option<&Span>, etag: &str) -> Result<Reply, Refused> {
        let mut headers = vec![("accept-encoding", "identity".to_owned())];
        if let Some(span) = span {
            headers.push(("range", format!("bytes={}-{}", span.start, span.end - 1)));
            // Only a strong validator may guard a range (RFC 9110 §13.1.5).
            if !etag.is_empty() && !etag.starts_with("W/") {
                headers.push(("if-range", etag.to_owned()));
            }
        }
        let reply = self.reply(send, &headers)?;
        self.check(&reply, span, etag)?;
        Ok(reply)
    }

    fn reply(&self, send: Send<'_>, headers: &[(&str, String)]) -> Result<Reply> {
        let signed = locked(&self.signed).clone();
        if let Some(signed) = signed {
            let reply = send(&signed, headers)?;
            if !REFUSED.contains(&reply.response.status) {
                return Ok(reply);
            }
            // The signature ran out; the hub gives a new one.
            let mut known = locked(&self.signed);
            if *known == Some(signed) {
                *known = None;
            }
        }
        let reply = send(&self.url, headers)?;
        if reply.response.status < 400 && reply.response.url != self.url {
            *locked(&self.signed) = Some(reply.response.url.clone());
        }
        Ok(reply)
    }

    fn check(&self, reply: &Reply, span: Option<&Span>, etag: &str) -> Result<(), Refused> {
        let (name, status) = (&self.wanted.path, reply.response.status);
        if matches!(status, 401 | 403) && reply.header("x-error-code") == "GatedRepo" {
            let (repo_id, page) = (self.repo_id.clone(), self.page.clone());
            return Err(Error::GatedRepo { repo_id, page }.into());
        }
        if let Some(wait) = reply.response.wait.filter(|_| status >= 400) {
            let (host, retry_after_s) = (reply.host(), wait.as_secs_f64());
            return Err(Error::RateLimited { host, retry_after_s }.into());
        }
        let found = reply.header("etag");
        let is_other = !etag.is_empty() && !found.is_empty() && found != etag;
        match (status, span) {
            (status, _) if REFUSED.contains(&status) && reply.host() != netloc(&self.url) => Err(reply
                .invalid(format!("it refuses the signed address of {name} (HTTP {status})"))
                .into()),
            (416, _) => Err(reply
                .invalid(format!("{name} is shorter there than the hub lists"))
                .into()),
            (200, _) => {
                if reply.header("content-encoding").is_empty() {
                    self.check_length(reply, self.wanted.size)?;
                }
                match span {
                    None => Ok(()),
                    Some(_) if is_other => Err(Refused::changed()),
                    Some(_) => Err(Refused::Changed(Changed {
                        reason: "the server gives no parts",
                        ranges: false,
                    })),
                }
            }
            (206, None) => Err(reply
                .invalid(format!("a part of {name}, although all of it was asked for"))
                .into()),
            (206, Some(_)) if is_other => Err(Refused::changed()),
            (206, Some(span)) => self.check_range(reply, span),
            (status, _) => Err(Error::HttpStatus {
                status,
                host: reply.host(),
            }
            .into()),
        }
    }

    fn check_range(&self, reply: &Reply, span: &Span) -> Result<(), Refused> {
        let (name, listed) = (&self.wanted.path, self.wanted.size);
        let Some((first, last, size)) = content_range(reply.header("content-range").trim()) else {
            let reason = format!("it does not say which part of {name} it is");
            return Err(reply.invalid(reason).into());
        };
        if let Some(size) = size.filter(|size| *size != listed) {
            let (size, listed) = (grouped(size), grouped(listed));
            let reason = format!("{name} has {size} bytes there, and {listed} as the hub lists it");
            return Err(reply.invalid(reason).into());
        }
        if (first, last.saturating_add(1)) != (span.start, span.end) {
            return Err(Refused::Changed(Changed {
                reason: "the server sent another part than was asked for",
                ranges: true,
            }));
        }
        self.check_length(reply, span.end - span.start)?;
        Ok(())
    }

    fn check_length(&self, reply: &Reply, size: u64) -> Result<()> {
        let said = cut(reply.header("content-length"), 20);
        if said.is_empty() || number(said, 20) == Some(size) {
            return Ok(());
        }
        let what = if reply.header("content-type").contains("html") {
            "a web page (is a sign-in to this network needed?)".to_owned()
        } else {
            format!("{said} bytes")
        };
        let (size, path) = (grouped(size), &self.wanted.path);
        Err(reply.invalid(format!("{what} instead of {size} bytes of {path}")))
    }
}

fn number(text: &str, most: usize) -> Option<u64> {
    let plain = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Of `bytes 0-99/1000`: first, last, and the size if it is told.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (span, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let size = match size {
        "*" => None,
        size => Some(number(size, MOST_DIGITS)?),
    };
    Some((number(first, MOST_DIGITS)?, number(last, MOST_DIGITS)?, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        for (text, expected) in [
            ("bytes 0-99/1000", Some((0, 99, Some(1000)))),
            ("bytes 5-9/*", Some((5, 9, None))),
            ("bytes 5-9", None),
            ("bytes -9/10", None),
            ("bytes 0-9/10, 1", None),
            ("bytes +1-9/10", None),
            ("items 0-9/10", None),
            ("bytes 0-9/1000000000000000000000", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_range_or_none(text in ".{0,40}") {
            let _ = content_range(&text);
            let _ = content_range(&format!("bytes {text}"));
        }
    }
}
