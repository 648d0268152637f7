//! The one door to hosts outside: every request of the sidecar goes through [`NetworkClient`].
//!
//! Time-outs, retries, rate limits, a breaker per host, redirects, proxies, mirrors, offline mode. Nothing here knows what
//! is asked for; the domains do.

mod address;
mod breaker;
mod certificates;
pub(crate) mod children;
mod client;
mod encoding;
mod hosts;
mod ratelimit;
mod response;
mod retry;
mod service;
mod settings;
mod transport;

pub use address::{Address, Mirrors, Origin};
pub use breaker::Circuit;
pub use client::{NetworkClient, OnWait, Request, Timeouts};
pub use hosts::{Counted, HostState, NetworkStatus};
pub use response::Response;
pub(crate) use retry::random;
pub use service::NetworkService;
pub use settings::{Changes, NetworkSettings};
