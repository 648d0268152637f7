//! Addresses: what may be asked, what counts as one host, and where a mirror stands in for another.
//!
//! A URL is taken apart once and put together again from checked parts, so that no two parsers can read a different host
//! out of it. Nothing here resolves a name or opens a connection.

use std::net::{IpAddr, Ipv6Addr};

use indexmap::IndexMap;

use crate::error::{Error, Result};

const MAX_URL: usize = 16_384;
const MAX_HOST: usize = 253;

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What counts as one host: scheme, name in lower case, port (RFC 6454).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Plain or over TLS.
    pub scheme: Scheme,
    /// Its name or number.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Origin {
    /// Name, and port where it is unusual.
    #[must_use]
    pub fn netloc(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == self.scheme.default_port() {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// How it is shown: without `https://`, which is what everybody expects.
    #[must_use]
    pub fn label(&self) -> String {
        match self.scheme {
            Scheme::Https => self.netloc(),
            Scheme::Http => format!("http://{}", self.netloc()),
        }
    }

    /// Whether it is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.ends_with(".localhost")
            || self
                .host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

/// A checked http(s) URL. `target` is path and query as they go on the wire; a fragment is not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Who is asked.
    pub origin: Origin,
    target: String,
}

/// The target may hold what is secret.
impl std::fmt::Debug for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Address({})", self.origin.label())
    }
}

impl Address {
    /// Take a URL apart.
    ///
    /// # Errors
    /// `InvalidInput`: not http(s), no host, a user name or password in it, or characters that no URL has. The message
    /// holds nothing of the URL.
    pub fn parse(url: &str, field: &str) -> Result<Self> {
        let refuse = |reason: &str| Err(Error::invalid(field, reason));
        let unusable = |letter: char| letter <= ' ' || letter == '\u{7f}' || letter == '\\';
        if url.chars().count() > MAX_URL || url.contains(unusable) {
            return refuse("it is too long or has characters that no URL has");
        }
        let Some(parts) = Parts::of(url) else {
            return refuse("it cannot be read");
        };
        let scheme = match parts.scheme.as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return refuse("only http and https are possible"),
        };
        if parts.netloc.contains('@') {
            return refuse("it must not hold a user name or password");
        }
        if parts.port == Some(0) {
            return refuse("port 0 is none");
        }
        let host = host(parts.host, field)?;
        let path = if parts.path.is_empty() { "/" } else { parts.path };
        let target = if parts.query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", parts.query)
        };
        let port = parts.port.unwrap_or(scheme.default_port());
        Ok(Self {
            origin: Origin { scheme, host, port },
            target,
        })
    }

    /// A URL that others can be built on.
    ///
    /// # Errors
    /// As [`Address::parse`], and for a query or fragment.
    pub fn base(url: &str, field: &str) -> Result<Self> {
        let address = Self::parse(url, field)?;
        if address.target.contains('?') || url.contains('#') {
            return Err(Error::invalid(field, "a base URL has no query and no fragment"));
        }
        Ok(address)
    }

    /// As it goes on the wire.
    #[must_use]
    pub fn url(&self) -> String {
        format!(
            "{}://{}{}",
            self.origin.scheme.as_str(),
            self.origin.netloc(),
            self.target
        )
    }

    /// Path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Resolve a `Location`.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn join(&self, reference: &str) -> Result<Self> {
        let joined = url::Url::parse(&self.url()).and_then(|base| base.join(reference));
        let Ok(mut joined) = joined else {
            return Err(Error::invalid("url", "it cannot be read"));
        };
        joined.set_fragment(None);
        Self::parse(joined.as_str(), "url")
    }
}

/// The parts of a URL as they stand there (RFC 3986 3).
struct Parts<'a> {
    scheme: String,
    netloc: &'a str,
    host: &'a str,
    port: Option<u16>,
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = match url.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            _ => (String::new(), url),
        };
        let (netloc, rest) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
            None => ("", rest),
        };
        if netloc.contains('[') != netloc.contains(']') {
            return None;
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = netloc.rsplit('@').next().unwrap_or_default();
        let (host, port) = match place.split_once('[') {
            Some((_, bracketed)) => {
                let (host, after) = bracketed.split_once(']')?;
                (host, after.split_once(':').map_or("", |(_, port)| port))
            }
            None => place.split_once(':').unwrap_or((place, "")),
        };
        let port = match port {
            "" => None,
            digits if digits.bytes().all(|digit| digit.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        Some(Self {
            scheme,
            netloc,
            host,
            port,
            path,
            query,
        })
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn host(text: &str, field: &str) -> Result<String> {
    let unusable = || Error::invalid(field, "it has no usable host");
    let lower = text.to_lowercase();
    let mut host = lower.strip_suffix('.').unwrap_or(&lower).to_owned();
    if !host.is_ascii() {
        host = idna::domain_to_ascii(&host).map_err(|_| unusable())?;
    }
    // A zone (fe80::1%eth0) names an interface of this machine; no host outside needs one.
    if host.contains(':') && !host.contains('%') {
        let address: std::result::Result<Ipv6Addr, _> = host.parse();
        return address
            .map(|address| address.to_string())
            .map_err(|_| Error::invalid(field, "its host is not an address"));
    }
    // RFC 3986 3.2.2 allows more in a registered name; no host that can be looked up has it.
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    let label = |label: &str| !label.is_empty() && label.bytes().all(plain);
    if host.len() > MAX_HOST || !host.split('.').all(label) {
        return Err(unusable());
    }
    // `2130706433` and `0x7f.1` are ways to write an address of four numbers: it is known by its usual form.
    match url::Host::parse(&host) {
        Ok(url::Host::Ipv4(address)) => Ok(address.to_string()),
        Ok(_) => Ok(host),
        Err(_) => Err(unusable()),
    }
}

/// Rewrites addresses: `{host or base URL: base URL}`. The longest base that fits wins; one step, never a chain.
#[derive(Debug, Default)]
pub struct Mirrors {
    rules: Vec<(Source, Address)>,
}

/// What a rule is for. Without a scheme it is for both, each on its default port unless `port` is given.
#[derive(Debug)]
struct Source {
    scheme: Option<Scheme>,
    host: String,
    port: Option<u16>,
    path: String,
}

impl Mirrors {
    /// The rules that a user set.
    ///
    /// # Errors
    /// `InvalidInput` for a key or value that is neither a host nor an http(s) URL without a query.
    pub fn new(mirrors: &IndexMap<String, String>) -> Result<Self> {
        let rule =
            |(key, value): (&String, &String)| Ok((Source::of(key)?, Address::base(value, "mirrors")?));
        let mut rules = mirrors.iter().map(rule).collect::<Result<Vec<_>>>()?;
        rules.sort_by_key(|(source, _)| std::cmp::Reverse(source.path.len()));
        Ok(Self { rules })
    }

    /// Where the request really goes; the address itself when no rule fits.
    #[must_use]
    pub fn apply(&self, address: &Address) -> Address {
        let fits =
            |(source, mirror): &(Source, Address)| Some((source.rest(address)?.to_owned(), mirror.clone()));
        let Some((rest, mirror)) = self.rules.iter().find_map(fits) else {
            return address.clone();
        };
        let target = format!("{}{rest}", mirror.target.trim_end_matches('/'));
        let target = if target.starts_with('/') {
            target
        } else {
            format!("/{target}")
        };
        Address {
            origin: mirror.origin,
            target,
        }
    }
}

impl Source {
    fn of(key: &str) -> Result<Self> {
        if key.contains("://") {
            let address = Address::base(key, "mirrors")?;
            return Ok(Self {
                scheme: Some(address.origin.scheme),
                port: Some(address.origin.port),
                path: address.target.trim_end_matches('/').to_owned(),
                host: address.origin.host,
            });
        }
        let url = format!("http://{key}");
        let address = Address::base(&url, "mirrors")?;
        if address.target != "/" {
            return Err(Error::invalid("mirrors", "a key is a host or a whole URL"));
        }
        let port = Parts::of(&url).and_then(|parts| parts.port);
        Ok(Self {
            scheme: None,
            host: address.origin.host,
            port,
            path: String::new(),
        })
    }

    /// The part of the address behind this base, `None` when it lies elsewhere.
    fn rest<'a>(&self, address: &'a Address) -> Option<&'a str> {
        let origin = &address.origin;
        let port = self.port.unwrap_or(origin.scheme.default_port());
        if self.scheme.unwrap_or(origin.scheme) != origin.scheme
            || self.host != origin.host
            || port != origin.port
        {
            return None;
        }
        let rest = address.target.strip_prefix(&self.path)?;
        (rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> String {
        Address::parse(text, "url").map_or_else(|error| error.to_string(), |address| address.url())
    }

    #[test]
    fn addresses_are_put_together_from_checked_parts() {
        for (text, expected) in [
            ("HTTPS://Example.ORG", "https://example.org/"),
            ("http://h:80/a?b#c", "http://h/a?b"),
            ("https://h.:8443/a", "https://h:8443/a"),
            ("http://[0:0::1]:8080/", "http://[::1]:8080/"),
            ("https://bücher.example/", "https://xn--bcher-kva.example/"),
            ("ftp://h/", "url: only http and https are possible"),
            ("https://a:b@h/", "url: it must not hold a user name or password"),
            (
                "https://h\\evil/",
                "url: it is too long or has characters that no URL has",
            ),
            ("https://h:0/", "url: port 0 is none"),
            ("https://h:99999/", "url: it cannot be read"),
            ("https:///path", "url: it has no usable host"),
            ("http://2130706433/", "http://127.0.0.1/"),
            ("https://[::1%25eth0]/", "url: it has no usable host"),
        ] {
            assert_eq!(url(text), expected, "{text}");
        }
    }

    #[test]
    fn redirects_are_resolved() {
        let address = Address::parse("https://h/a/b?x", "url").unwrap();
        for (reference, expected) in [
            ("c", "https://h/a/c"),
            ("/c?d#e", "https://h/c?d"),
            ("//g/c", "https://g/c"),
        ] {
            assert_eq!(address.join(reference).unwrap().url(), expected);
        }
        assert!(address.join("ftp://h/").is_err());
    }

    #[test]
    fn the_longest_mirror_that_fits_wins() {
        let rules = [
            ("huggingface.co", "https://m/hf"),
            ("https://huggingface.co/api", "http://api:81"),
        ];
        let rules = rules.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mirrors = Mirrors::new(&IndexMap::from(rules)).unwrap();
        for (text, expected) in [
            ("https://huggingface.co/x?y", "https://m/hf/x?y"),
            ("https://huggingface.co/api/models", "http://api:81/models"),
            ("https://huggingface.co/apis", "https://m/hf/apis"),
            ("https://huggingface.co:8443/x", "https://huggingface.co:8443/x"),
            ("https://other/x", "https://other/x"),
        ] {
            assert_eq!(
                mirrors.apply(&Address::parse(text, "url").unwrap()).url(),
                expected
            );
        }
        let bad = IndexMap::from([("a/b".to_owned(), "https://m".to_owned())]);
        assert_eq!(
            Mirrors::new(&bad).unwrap_err().to_string(),
            "mirrors: a key is a host or a whole URL"
        );
    }

    proptest::proptest! {
        #[test]
        fn what_is_accepted_is_read_alike_by_others(text in "https?://[a-z0-9.:@\\[\\]%/?#_-]{0,30}") {
            if let Ok(address) = Address::parse(&text, "url")
                && let Ok(other) = url::Url::parse(&address.url())
            {
                proptest::prop_assert_eq!(other.host_str().unwrap_or_default().trim_matches(['[', ']']), address.origin.host);
                proptest::prop_assert_eq!(other.port_or_known_default(), Some(address.origin.port));
            }
        }
    }
}
