//! The client that every domain asks hosts outside with, and what it can say about a request.
//!
//! What then happens to the request is in `sending`; what the bytes mean is known to the callers alone.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::address::{Address, Mirrors};
use super::hosts::{Hosts, NetworkStatus};
use super::ratelimit::quota_of;
use super::response::Response;
use super::settings::NetworkSettings;
use super::transport::Transport;
use crate::error::{Error, Result};
use crate::stop::Stop;
use crate::storage::locked;
use crate::text::quoted;

mod sending;

use sending::exchange;

const USER_AGENT: &str = concat!("pumas/", env!("CARGO_PKG_VERSION"));

/// How long a host may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// The longest silence, also before the head of an answer.
    pub read: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            read: Duration::from_mins(1),
        }
    }
}

/// Told the length and the reason of a wait before it begins.
pub type OnWait = Arc<dyn Fn(Duration, &str) + Send + Sync>;

/// One call. Made by [`NetworkClient::request`].
#[derive(Clone)]
pub struct Request {
    method: Method,
    address: Address,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    timeouts: Timeouts,
    retry: bool,
    check: bool,
    accept: Vec<u16>,
    follow: bool,
    patience: Duration,
    preload: Option<usize>,
    on_wait: Option<OnWait>,
}

impl Request {
    /// Send a header; `Accept-Encoding` is `identity` unless it is set here, so that lengths are those of the file.
    ///
    /// # Errors
    /// `InvalidInput`: it cannot be sent.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self> {
        // The value may be a token, so that only the name is shown.
        let refused = || Error::invalid("headers", format!("{} cannot be sent", quoted(name, 40)));
        let known = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| refused())?;
        self.headers.insert(known, value);
        Ok(self)
    }

    /// With these bytes.
    #[must_use]
    pub fn body(self, body: Vec<u8>) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    /// How long the host may be silent.
    #[must_use]
    pub fn timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// A single attempt that never waits.
    #[must_use]
    pub fn once(self) -> Self {
        Self { retry: false, ..self }
    }

    /// Take these statuses for answers too.
    #[must_use]
    pub fn accept(self, statuses: &[u16]) -> Self {
        Self {
            accept: statuses.to_vec(),
            ..self
        }
    }

    /// Take every status for an answer.
    #[must_use]
    pub fn unchecked(self) -> Self {
        Self { check: false, ..self }
    }

    /// Give back redirects as they are.
    #[must_use]
    pub fn no_redirects(self) -> Self {
        Self {
            follow: false,
            ..self
        }
    }

    /// The longest time to spend waiting between attempts, all waits together.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Read a body of at most so many bytes as a part of the attempt: one that breaks off is fetched again.
    #[must_use]
    pub fn preload(self, limit: usize) -> Self {
        Self {
            preload: Some(limit),
            ..self
        }
    }

    /// Tell of waits before they begin.
    #[must_use]
    pub fn on_wait(self, on_wait: OnWait) -> Self {
        Self {
            on_wait: Some(on_wait),
            ..self
        }
    }
}

/// The HTTP client of the sidecar. Cheap to clone; dropping the future of a request ends it.
#[derive(Clone)]
pub struct NetworkClient {
    shared: Arc<Shared>,
}

type OnChange = Box<dyn Fn(&NetworkStatus) + Send + Sync>;

struct Shared {
    hosts: Hosts,
    way: RwLock<Way>,
    changed: Mutex<Option<OnChange>>,
    closed: Stop,
}

/// What the settings mean for requests.
#[derive(Clone)]
struct Way {
    offline: bool,
    mirrors: Arc<Mirrors>,
    transport: Arc<Transport>,
}

impl Way {
    fn of(settings: &NetworkSettings) -> Result<Self> {
        Ok(Self {
            offline: settings.offline,
            mirrors: Arc::new(Mirrors::new(&settings.mirrors)?),
            transport: Arc::new(Transport::new(settings.proxy.clone(), settings.ca_bundle.clone())),
        })
    }
}

impl NetworkClient {
    /// A client that knows no host yet.
    ///
    /// # Errors
    /// `InvalidInput` for mirrors that are none.
    pub fn new(settings: &NetworkSettings) -> Result<Self> {
        let shared = Shared {
            hosts: Hosts::default(),
            way: RwLock::new(Way::of(settings)?),
            changed: Mutex::default(),
            closed: Stop::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Call `changed` with what is known when offline mode or a host's circuit changes.
    pub(super) fn on_change(&self, changed: impl Fn(&NetworkStatus) + Send + Sync + 'static) {
        *locked(&self.shared.changed) = Some(Box::new(changed));
    }

    /// Use other settings from the next request on.
    ///
    /// # Errors
    /// `InvalidInput` for mirrors that are none; nothing was changed.
    pub fn configure(&self, settings: &NetworkSettings) -> Result<()> {
        let mut next = Way::of(settings)?;
        let before = self.way();
        if before
            .transport
            .is_for(settings.proxy.as_ref(), settings.ca_bundle.as_ref())
        {
            next.transport = before.transport;
        }
        *self.shared.way.write().unwrap_or_else(PoisonError::into_inner) = next;
        if before.offline != settings.offline {
            self.tell();
        }
        Ok(())
    }

    /// Whether offline mode is on: then nothing is sent, not even to this machine.
    #[must_use]
    pub fn offline(&self) -> bool {
        self.way().offline
    }

    /// What is known now; from memory.
    #[must_use]
    pub fn status(&self) -> NetworkStatus {
        let way = self.way();
        NetworkStatus {
            offline: way.offline,
            proxy: way.transport.usual_proxy(),
            counted: self.shared.hosts.counted(),
            hosts: self.shared.hosts.states(),
        }
    }

    /// How long the host's breaker or rate limit still asks to wait.
    ///
    /// # Errors
    /// `InvalidInput`: no http(s) URL.
    pub fn wait_for(&self, url: &str) -> Result<Duration> {
        let address = self.way().mirrors.apply(&Address::parse(url, "url")?);
        let (host, now) = (self.shared.hosts.get(&address.origin), Instant::now());
        Ok(host
            .breaker
            .wait(now)
            .max(host.gates.wait(quota_of(&address), now)))
    }

    /// A request that tries idempotent methods up to five times, waits where the host asks for it, follows redirects, and
    /// fails for statuses from 400 on.
    ///
    /// # Errors
    /// `InvalidInput`: no http(s) URL.
    pub fn request(&self, method: Method, url: &str) -> Result<Request> {
        let headers = HeaderMap::from_iter([
            (header::USER_AGENT, HeaderValue::from_static(USER_AGENT)),
            (header::ACCEPT, HeaderValue::from_static("*/*")),
            (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        ]);
        Ok(Request {
            method,
            address: Address::parse(url, "url")?,
            headers,
            body: None,
            timeouts: Timeouts::default(),
            retry: true,
            check: true,
            accept: Vec::new(),
            follow: true,
            patience: Duration::MAX,
            preload: None,
            on_wait: None,
        })
    }

    /// [`NetworkClient::request`] with GET.
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, url: &str) -> Result<Request> {
        self.request(Method::GET, url)
    }

    /// One exchange; the answer's body is left to be read.
    ///
    /// # Errors
    /// `Offline`, `CircuitOpen`: nothing was sent. `RateLimited`: the host asks to wait longer than the caller does.
    /// `ConnectionFailed`, `InvalidReply`: no usable answer. `HttpStatus`: an answer that means failure. `Interrupted`: the
    /// client was closed.
    pub async fn send(&self, request: Request) -> Result<Response> {
        let (check, accept) = (request.check, request.accept.clone());
        let response = tokio::select! {
            response = exchange(self, request) => response?,
            () = self.shared.closed.asked() => return Err(Error::Interrupted("The sidecar is stopping.".to_owned())),
        };
        if check && response.status >= 400 && !accept.contains(&response.status) {
            let failure = response.failure();
            response.drain().await;
            return Err(failure);
        }
        Ok(response)
    }

    /// End everything that is under way, waits and reads included.
    pub fn close(&self) {
        self.shared.closed.ask();
    }

    fn way(&self) -> Way {
        self.shared
            .way
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn tell(&self) {
        if let Some(changed) = &*locked(&self.shared.changed) {
            changed(&self.status());
        }
    }
}
