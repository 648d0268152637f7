//! Sends one request to one host and gives back the answer with its body unread.
//!
//! The only place that knows the HTTP library: connections, TLS, proxies, and the table that turns its errors into ours.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use http::HeaderMap;
use reqwest::{Client, NoProxy, Proxy, redirect};
use rustix::io::Errno;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::address::{Address, Scheme};
use super::settings::{DIRECT, masked};
use crate::error::{Error, Result};
use crate::storage::locked;

/// For one address of a host.
const CONNECT: Duration = Duration::from_secs(10);
/// Addresses of one name that get a full connect time-out each.
const ADDRESSES: u32 = 3;
/// Idle connections kept per host; more may be open at once.
const CONNECTIONS: usize = 64;

/// Connections by one way out: `proxy` and `ca_bundle` as in the settings.
pub(super) struct Transport {
    proxy: Option<String>,
    ca_bundle: Option<String>,
    surroundings: HashMap<String, String>,
    clients: Mutex<HashMap<Option<String>, Client>>,
    tls: OnceLock<Option<ClientConfig>>,
}

impl Transport {
    pub(super) fn new(proxy: Option<String>, ca_bundle: Option<String>) -> Self {
        let surroundings = proxies_of(std::env::vars());
        Self {
            proxy,
            ca_bundle,
            surroundings,
            clients: Mutex::default(),
            tls: OnceLock::new(),
        }
    }

    /// Whether connections made for these settings can be used.
    pub(super) fn is_for(&self, proxy: Option<&String>, ca_bundle: Option<&String>) -> bool {
        self.proxy.as_ref() == proxy && self.ca_bundle.as_ref() == ca_bundle
    }

    /// The head of the answer, which has to be there `read` after the connection is.
    ///
    /// # Errors
    /// `ConnectionFailed`, `InvalidReply`.
    pub(super) async fn send(
        &self,
        method: &http::Method,
        address: &Address,
        headers: &HeaderMap,
        body: Option<&[u8]>,
        read: Duration,
    ) -> Result<reqwest::Response> {
        let host = address.origin.netloc();
        let mut request = self
            .client(address)?
            .request(method.clone(), address.url())
            .headers(headers.clone());
        if let Some(body) = body {
            request = request.body(body.to_vec());
        }
        match tokio::time::timeout(CONNECT * ADDRESSES + read, request.send()).await {
            Ok(answer) => answer.map_err(|error| translate(&error, &host)),
            Err(_) => Err(failed(
                &host,
                ("stopped sending: nothing came for too long", "timeout"),
            )),
        }
    }

    /// The URL of the proxy that a request goes through, `None` when it goes straight.
    fn proxy_for(&self, address: &Address) -> Option<String> {
        if address.origin.is_loopback() || self.proxy.as_deref() == Some(DIRECT) {
            return None;
        }
        let named = |scheme: &str| self.surroundings.get(scheme).cloned();
        let found = self.proxy.clone().or_else(|| match address.origin.scheme {
            Scheme::Https => named("https").or_else(|| named("all")),
            Scheme::Http => named("http").or_else(|| named("all")),
        })?;
        Some(if found.contains("://") {
            found
        } else {
            format!("http://{found}")
        })
    }

    /// What requests outside go through, unless `NO_PROXY` names their host; without a password.
    pub(super) fn usual_proxy(&self) -> Option<String> {
        match self.proxy.as_deref() {
            Some(DIRECT) => None,
            Some(proxy) => Some(masked(proxy)),
            None => ["https", "all", "http"]
                .iter()
                .find_map(|scheme| self.surroundings.get(*scheme))
                .map(|found| masked(found)),
        }
    }

    fn client(&self, address: &Address) -> Result<Client> {
        let way = self.proxy_for(address);
        let mut clients = locked(&self.clients);
        if let Some(client) = clients.get(&way) {
            return Ok(client.clone());
        }
        let client = self.build(way.as_deref(), &address.origin.netloc())?;
        clients.insert(way, client.clone());
        Ok(client)
    }

    fn build(&self, proxy: Option<&str>, host: &str) -> Result<Client> {
        let unusable = || {
            failed(
                host,
                (
                    "cannot be reached: the address of it or of the proxy is not usable",
                    "proxy",
                ),
            )
        };
        let mut builder = Client::builder()
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(CONNECTIONS)
            .redirect(redirect::Policy::none())
            .http1_only()
            .no_proxy();
        if let Some(tls) = self.tls() {
            builder = builder.tls_backend_preconfigured(tls);
        }
        if let Some(proxy) = proxy {
            let proxy = Proxy::all(proxy).map_err(|_| unusable())?;
            builder = builder.proxy(proxy.no_proxy(NoProxy::from_env()));
        }
        builder.build().map_err(|_| unusable())
    }

    fn tls(&self) -> Option<ClientConfig> {
        self.tls.get_or_init(|| tls(self.ca_bundle.as_deref())).clone()
    }
}

/// The system's roots (or Mozilla's where the system has none) and those of the bundle.
fn tls(bundle: Option<&str>) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(text) = bundle.and_then(|path| std::fs::read(path).ok()) {
        roots.add_parsable_certificates(certificates(&text));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?;
    Some(config.with_root_certificates(roots).with_no_client_auth())
}

/// The certificates in a PEM file.
pub(super) fn certificates(text: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(text)
        .filter_map(std::result::Result::ok)
        .collect()
}

/// Proxies by scheme.
fn proxies_of(environment: impl Iterator<Item = (String, String)>) -> HashMap<String, String> {
    let mut variables: Vec<(String, String)> = environment.filter(|(_, value)| !value.is_empty()).collect();
    // Lower case last: it wins, as everywhere.
    variables.sort();
    // httpoxy (CVE-2016-5385): under CGI a caller's header becomes HTTP_PROXY.
    let is_cgi = variables.iter().any(|(name, _)| name == "REQUEST_METHOD");
    let named = variables.into_iter().filter_map(|(name, value)| {
        let scheme = name.to_lowercase().strip_suffix("_proxy")?.to_owned();
        matches!(scheme.as_str(), "http" | "https" | "all").then_some((scheme, value))
    });
    named
        .filter(|(scheme, _)| !(is_cgi && scheme == "http"))
        .collect()
}

fn failed(host: &str, (reason, cause): (&str, &'static str)) -> Error {
    Error::ConnectionFailed {
        host: host.to_owned(),
        reason: reason.to_owned(),
        cause,
    }
}

/// What a user can understand of an error of the library. Never holds an address.
pub(super) fn translate(error: &reqwest::Error, host: &str) -> Error {
    let chain: Vec<&(dyn StdError + 'static)> =
        std::iter::successors(error.source(), |error| (*error).source()).collect();
    let said = |words: &str| {
        chain
            .iter()
            .any(|error| error.to_string().to_lowercase().contains(words))
    };
    if said("tunnel") || said("proxy") {
        let reason = if said("authorization required") || said("407") {
            "cannot be reached: the proxy wants a password"
        } else {
            "cannot be reached: the proxy did not let the request through, or is not there"
        };
        return failed(host, (reason, "proxy"));
    }
    if said("dns error") {
        return failed(host, ("is not known: its name could not be looked up", "dns"));
    }
    if said("certificate") {
        return failed(host, ("shows a certificate that is not trusted", "tls"));
    }
    if chain.iter().any(|error| error.is::<rustls::Error>()) {
        return failed(host, ("could not agree on a safe connection", "tls"));
    }
    if let Some(known) = chain
        .iter()
        .find_map(|error| of_system(error.downcast_ref::<io::Error>()?))
    {
        return failed(host, known);
    }
    if error.is_timeout() {
        let connecting = error.is_connect();
        let reason = if connecting {
            "did not accept a connection in time"
        } else {
            "stopped sending: nothing came for too long"
        };
        return failed(host, (reason, "timeout"));
    }
    if said("message completed") || said("incomplete") || said("unexpected eof") || said("end of file before")
    {
        let begun = error.is_body() || error.is_decode();
        let reason = if begun {
            "ended the connection before everything was sent"
        } else {
            "ended the connection without an answer"
        };
        return failed(host, (reason, "cut"));
    }
    if said("invalid") || said("parse") {
        return Error::InvalidReply {
            host: host.to_owned(),
            reason: "it is not well-formed HTTP".to_owned(),
        };
    }
    failed(host, ("broke the connection", "cut"))
}

fn of_system(error: &io::Error) -> Option<(&'static str, &'static str)> {
    match Errno::from_raw_os_error(error.raw_os_error()?) {
        Errno::CONNREFUSED => Some(("refused the connection", "refused")),
        Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE => Some(("reset the connection", "reset")),
        Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::ADDRNOTAVAIL => {
            Some(("cannot be reached: this machine has no way there", "unreachable"))
        }
        Errno::TIMEDOUT => Some(("did not answer in time", "timeout")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_case_wins_and_a_callers_header_is_no_proxy() {
        let of = |pairs: &[(&str, &str)]| {
            proxies_of(
                pairs
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            )
        };
        let found = of(&[
            ("https_proxy", "b"),
            ("HTTPS_PROXY", "a"),
            ("ALL_PROXY", ""),
            ("NO_PROXY", "x"),
        ]);
        assert_eq!(found, HashMap::from([("https".to_owned(), "b".to_owned())]));
        assert!(of(&[("HTTP_PROXY", "evil"), ("REQUEST_METHOD", "GET")]).is_empty());
    }

    #[test]
    fn this_machine_is_asked_directly() {
        let transport = Transport::new(Some("http://me:x@p:1".to_owned()), None);
        let way = |url: &str| transport.proxy_for(&Address::parse(url, "url").unwrap());
        assert_eq!(way("https://h/").as_deref(), Some("http://me:x@p:1"));
        assert_eq!(way("http://127.0.0.1:8000/"), None);
        assert_eq!(transport.usual_proxy().as_deref(), Some("http://me:***@p:1"));
        assert_eq!(Transport::new(Some(DIRECT.to_owned()), None).usual_proxy(), None);
    }
}
