//! Who may call: the guards of every request, as functions over plain values.
//!
//! Order (each step tells nothing of what the next would say): framing 400, Host 421, Origin and Sec-Fetch-Site 403, token
//! or user 401 or 403, then content type and encoding 415, length 413.

use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Method};

/// Names under which a server on loopback can be reached.
pub const LOOPBACK_NAMES: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DESTINATION: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// An HTTP status and one sentence for the person who reads the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The sentence.
    pub message: std::borrow::Cow<'static, str>,
}

impl Refusal {
    pub(super) const fn new(status: u16, message: &'static str) -> Self {
        Self {
            status,
            message: std::borrow::Cow::Borrowed(message),
        }
    }
}

/// Not HTTP as we read it.
pub(super) const MALFORMED: Refusal = Refusal::new(400, "Malformed HTTP request.");
const FOREIGN: Refusal = Refusal::new(
    403,
    "Forbidden: requests from web pages of other origins are not answered.",
);
const MISDIRECTED: Refusal = Refusal::new(
    421,
    "Misdirected request: the Host header must be this server's loopback address and port.",
);
const UNAUTHORIZED: Refusal = Refusal::new(
    401,
    "Unauthorized: send the token of launcher-data/rpc.json as 'Authorization: Bearer TOKEN'.",
);
const COMPRESSED: Refusal = Refusal::new(415, "Unsupported: compressed request bodies are not accepted.");
const NOT_JSON: Refusal = Refusal::new(
    415,
    "Unsupported media type: send 'Content-Type: application/json'.",
);

/// The access rules of one listening server.
pub struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
    token: Option<Vec<u8>>,
}

impl Guard {
    /// `token` None means that callers are told apart by user id; `extra_hosts` are IP addresses, besides loopback, under
    /// which the server was told to listen.
    #[must_use]
    pub fn new(port: u16, token: Option<&str>, extra_hosts: &[String]) -> Self {
        let names = LOOPBACK_NAMES
            .iter()
            .copied()
            .chain(extra_hosts.iter().map(String::as_str));
        let bracketed = |name: &str| {
            if name.contains(':') {
                format!("[{name}]:{port}")
            } else {
                format!("{name}:{port}")
            }
        };
        let hosts: Vec<String> = names.map(bracketed).collect();
        // As browsers write them: https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin
        let origins = hosts.iter().map(|host| format!("http://{host}")).collect();
        Self {
            hosts,
            origins,
            token: token.map(|token| token.as_bytes().to_vec()),
        }
    }

    /// Whether callers are known by a token, not by their user.
    #[must_use]
    pub fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    /// The checks of every request up to the token. `for_page` is the request of a browser for a file of the page, which
    /// holds no secret; `without_token` that of a page that has none yet.
    pub fn check(&self, headers: &HeaderMap, without_token: bool, opens_page: bool) -> Result<(), Refusal> {
        self.check_host(&values(headers, &HOST))?;
        let sites = if opens_page {
            Vec::new()
        } else {
            values(headers, &SITE)
        };
        self.check_origin(&values(headers, &ORIGIN), &sites)?;
        if without_token {
            Ok(())
        } else {
            self.check_token(&values(headers, &AUTHORIZATION))
        }
    }

    /// Exactly one Host header, equal to a name of ours with our port: stops DNS rebinding.
    fn check_host(&self, values: &[&[u8]]) -> Result<(), Refusal> {
        // Whole texts are compared: what is never taken apart cannot be taken apart wrongly.
        let ours = |value: &[u8]| {
            self.hosts
                .iter()
                .any(|host| host.as_bytes().eq_ignore_ascii_case(value))
        };
        if matches!(values, [value] if ours(value)) {
            Ok(())
        } else {
            Err(MISDIRECTED)
        }
    }

    /// A browser names the page that sends the request; only pages of this server may.
    fn check_origin(&self, origins: &[&[u8]], fetch_sites: &[&[u8]]) -> Result<(), Refusal> {
        let allowed = |site: &&[u8]| {
            let site = site.trim_ascii();
            site.eq_ignore_ascii_case(b"none") || site.eq_ignore_ascii_case(b"same-origin")
        };
        let ours = |origin: &[u8]| self.origins.iter().any(|one| one.as_bytes() == origin);
        match origins {
            _ if !fetch_sites.iter().all(allowed) => Err(FOREIGN),
            [] => Ok(()),
            [origin] if ours(origin) => Ok(()),
            _ => Err(FOREIGN),
        }
    }

    /// `Authorization: Bearer TOKEN`, compared in constant time.
    fn check_token(&self, values: &[&[u8]]) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        let [value] = values else { return Err(UNAUTHORIZED) };
        let gap = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
        let (scheme, given) = value.split_at(gap);
        let same = same_bytes(trim_spaces(given), token);
        if same && scheme.eq_ignore_ascii_case(b"bearer") {
            Ok(())
        } else {
            Err(UNAUTHORIZED)
        }
    }
}

fn trim_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

/// Takes as long for a wrong text as for the right one.
#[must_use]
pub fn same_bytes(given: &[u8], secret: &[u8]) -> bool {
    let mut difference = given.len() ^ secret.len();
    for (place, byte) in secret.iter().enumerate() {
        difference |= usize::from(byte ^ given.get(place).copied().unwrap_or(!byte));
    }
    std::hint::black_box(difference) == 0
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .map(http::HeaderValue::as_bytes)
        .collect()
}

/// Whether a browser asks for what it will show as a whole tab, whoever led it there: a link, a file, the user.
///
/// Such a request may name another site in `Sec-Fetch-Site`; who sent it learns nothing of the answer.
/// <https://www.w3.org/TR/fetch-metadata/>
pub(super) fn opens_a_page(method: &Method, headers: &HeaderMap) -> bool {
    let is = |name: &HeaderName, word: &[u8]| matches!(values(headers, name)[..], [one] if one.eq_ignore_ascii_case(word));
    matches!(*method, Method::GET | Method::HEAD) && is(&MODE, b"navigate") && is(&DESTINATION, b"document")
}

/// Only plain JSON bodies: a form or a text body can be sent by any web page without asking.
pub(super) fn check_content(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(COMPRESSED);
    }
    let types = values(headers, &CONTENT_TYPE);
    let [value] = types[..] else { return Err(NOT_JSON) };
    let text = String::from_utf8_lossy(value).to_ascii_lowercase();
    let (media, parameters) = text.split_once(';').unwrap_or((&text, ""));
    let charset: String = parameters.chars().filter(|c| *c != ' ' && *c != '"').collect();
    let utf8 = matches!(charset.trim(), "" | "charset=utf-8" | "charset=utf8");
    if media.trim() == "application/json" && utf8 {
        Ok(())
    } else {
        Err(NOT_JSON)
    }
}

pub(super) fn too_long(limit: usize) -> Refusal {
    Refusal {
        status: 413,
        message: format!("Too large: a request body may have at most {limit} bytes.").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 43210;
    const TOKEN: &str = "s3cret-token-abcdefghijklmnop";

    fn guard() -> Guard {
        Guard::new(PORT, Some(TOKEN), &[])
    }

    fn bytes<'a>(texts: &'a [&str]) -> Vec<&'a [u8]> {
        texts.iter().map(|text| text.as_bytes()).collect()
    }

    fn let_in(check: impl Fn(&[&[u8]]) -> Result<(), Refusal>, good: &[&[&str]], bad: &[&[&str]]) {
        for values in good {
            assert!(check(&bytes(values)).is_ok(), "{values:?}");
        }
        for values in bad {
            assert!(check(&bytes(values)).is_err(), "{values:?}");
        }
    }

    #[test]
    fn hosts() {
        let bad: &[&[&str]] = &[
            &[],
            &[""],
            &["127.0.0.1:43210", "127.0.0.1:43210"],
            &["evil.example:43210"],
            &["127.0.0.1.evil.example:43210"],
            &["127.0.0.1"],
            &["127.0.0.1:43211"],
            &["127.0.0.1:043210"],
            &["127.0.0.1:43210 "],
            &["localhost.:43210"],
            &["0.0.0.0:43210"],
            &["[::ffff:127.0.0.1]:43210"],
            &["::1:43210"],
            &["user@127.0.0.1:43210"],
            &["http://127.0.0.1:43210"],
        ];
        let good: &[&[&str]] = &[&["127.0.0.1:43210"], &["LocalHost:43210"], &["[::1]:43210"]];
        let_in(|values| guard().check_host(values), good, bad);
    }

    #[test]
    fn origins_and_sites() {
        let good: &[&[&str]] = &[
            &[],
            &["http://127.0.0.1:43210"],
            &["http://localhost:43210"],
            &["http://[::1]:43210"],
        ];
        let bad: &[&[&str]] = &[
            &[""],
            &["null"],
            &["*"],
            &["https://127.0.0.1:43210"],
            &["http://127.0.0.1:43210/"],
            &["http://127.0.0.1:43210.evil.example"],
            &["http://127.0.0.1:43210", "http://127.0.0.1:43210"],
            &["HTTP://127.0.0.1:43210"],
        ];
        let_in(|values| guard().check_origin(values, &[]), good, bad);
        let good: &[&[&str]] = &[&[], &["none"], &["SAME-ORIGIN"]];
        let bad: &[&[&str]] = &[
            &["cross-site"],
            &["same-site"],
            &[""],
            &["none, cross-site"],
            &["none", "cross-site"],
        ];
        let_in(|values| guard().check_origin(&[], values), good, bad);
    }

    #[test]
    fn tokens() {
        let with = |text: &str| text.replace("{T}", TOKEN);
        let good = [with("Bearer {T}"), with("bearer {T}"), with("BEARER  {T}")];
        let bad = [
            "",
            "Bearer",
            "Bearer ",
            "{T}",
            "Basic {T}",
            "Bearer{T}",
            "Bearer {T}x",
            "Bearer x{T}",
            "Bearer {T} {T}",
        ];
        for value in good {
            assert!(guard().check_token(&[value.as_bytes()]).is_ok(), "{value}");
        }
        for value in bad.map(with) {
            assert!(guard().check_token(&[value.as_bytes()]).is_err(), "{value}");
        }
        let right = with("Bearer {T}");
        assert!(
            guard()
                .check_token(&[right.as_bytes(), right.as_bytes()])
                .is_err()
        );
        assert!(guard().check_token(&[]).is_err());
        assert!(Guard::new(PORT, None, &[]).check_token(&[]).is_ok());
    }

    #[test]
    fn contents() {
        let check = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_TYPE, http::HeaderValue::from_bytes(value).unwrap());
            }
            check_content(&headers)
        };
        let good: &[&[&str]] = &[
            &["application/json"],
            &["Application/JSON"],
            &["application/json; charset=\"utf-8\""],
        ];
        let bad: &[&[&str]] = &[
            &[],
            &[""],
            &["text/plain"],
            &["text/plain; application/json"],
            &["application/jsonp"],
            &["application/json, text/plain"],
            &["application/json; charset=utf-16"],
            &["application /json"],
            &["application/json", "application/json"],
        ];
        let_in(check, good, bad);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, http::HeaderValue::from_static("identity"));
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        assert_eq!(check_content(&headers).unwrap_err().status, 415);
    }

    #[test]
    fn bytes_are_compared_whole() {
        assert!(same_bytes(b"abc", b"abc"));
        for other in [b"abd".as_slice(), b"ab", b"abcd", b""] {
            assert!(!same_bytes(other, b"abc"));
        }
    }
}
