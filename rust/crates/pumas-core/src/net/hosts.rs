//! What is known about each host: its breaker, its gates, and what went to and fro.
//!
//! Bounded: the host that was used longest ago is forgotten first, unless it is being left alone.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indexmap::IndexMap;

use super::address::Origin;
use super::breaker::{Breaker, Circuit};
use super::ratelimit::Gates;
use crate::error::Error;
use crate::storage::locked;
use crate::system::disk::rounded;

const MAX_HOSTS: usize = 256;

/// Since the start. A request counts once, however often it was tried; all are `succeeded` and `failed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Answers.
    pub succeeded: u64,
    /// No answer, one that is no HTTP, 5xx, or a request to come back later.
    pub failed: u64,
    /// Not sent, because the host is left alone.
    pub rejected: u64,
    /// Not sent, because it asked to wait or offline mode is on.
    pub withheld: u64,
    /// Attempts but the first.
    pub retries: u64,
    /// Bodies that broke off after a good beginning.
    pub interrupted: u64,
    /// Bytes of bodies.
    pub received: u64,
}

impl Counted {
    /// Requests that were sent.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.succeeded + self.failed
    }

    /// Percent, 0 when nothing was asked yet.
    #[must_use]
    pub fn success_rate(&self) -> f64 {
        match self.total() {
            0 => 0.0,
            total => rounded(100.0 * self.succeeded as f64 / total as f64, 1),
        }
    }
}

/// One host as it is now.
#[derive(Debug, Clone)]
pub struct HostState {
    /// How it is shown.
    pub host: String,
    /// Whether it is asked.
    pub circuit: Circuit,
    /// Until its circuit lets a request through.
    pub circuit_wait: Duration,
    /// Until it wants to be asked again.
    pub rate_limit_wait: Duration,
    /// What went to and fro.
    pub counted: Counted,
    /// One sentence.
    pub last_error: Option<String>,
}

/// Everything that is known.
#[derive(Debug, Clone)]
pub struct NetworkStatus {
    /// The setting.
    pub offline: bool,
    /// What requests to most hosts go through, without its password.
    pub proxy: Option<String>,
    /// Over all hosts.
    pub counted: Counted,
    /// Each that was asked.
    pub hosts: Vec<HostState>,
}

impl NetworkStatus {
    /// Whether something is out of reach now: by choice, or because a host failed repeatedly.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.offline || self.hosts.iter().any(|host| host.circuit == Circuit::Open)
    }
}

pub(super) struct Host {
    pub origin: Origin,
    pub breaker: Breaker,
    pub gates: Gates,
    own: Mutex<Counted>,
    all: Arc<Mutex<Counted>>,
    last_error: Mutex<Option<String>>,
}

impl Host {
    pub(super) fn count(&self, add: impl Fn(&mut Counted)) {
        add(&mut locked(&self.own));
        add(&mut locked(&self.all));
    }

    /// Remember what went wrong last; errors hold neither addresses nor tokens.
    pub(super) fn blame(&self, error: &Error) {
        *locked(&self.last_error) = Some(error.to_string());
    }

    /// Nothing would be lost but numbers if this host were forgotten.
    fn is_idle(&self, now: Instant) -> bool {
        self.breaker.circuit(now) == Circuit::Closed && self.gates.longest(now).is_zero()
    }

    fn state(&self, now: Instant) -> HostState {
        HostState {
            host: self.origin.label(),
            circuit: self.breaker.circuit(now),
            circuit_wait: self.breaker.wait(now),
            rate_limit_wait: self.gates.longest(now),
            counted: *locked(&self.own),
            last_error: locked(&self.last_error).clone(),
        }
    }
}

#[derive(Default)]
pub(super) struct Hosts {
    known: Mutex<IndexMap<Origin, Arc<Host>>>,
    all: Arc<Mutex<Counted>>,
}

impl Hosts {
    pub(super) fn get(&self, origin: &Origin) -> Arc<Host> {
        let mut known = locked(&self.known);
        let host = known.shift_remove(origin).unwrap_or_else(|| {
            Arc::new(Host {
                origin: origin.clone(),
                breaker: Breaker::default(),
                gates: Gates::default(),
                own: Mutex::default(),
                all: Arc::clone(&self.all),
                last_error: Mutex::default(),
            })
        });
        if known.len() >= MAX_HOSTS {
            let now = Instant::now();
            let idle = known.values().position(|host| host.is_idle(now));
            known.shift_remove_index(idle.unwrap_or(0));
        }
        known.insert(origin.clone(), Arc::clone(&host));
        host
    }

    pub(super) fn counted(&self) -> Counted {
        *locked(&self.all)
    }

    pub(super) fn states(&self) -> Vec<HostState> {
        let hosts: Vec<Arc<Host>> = locked(&self.known).values().cloned().collect();
        let now = Instant::now();
        hosts.iter().map(|host| host.state(now)).collect()
    }
}
