//! The circuit breaker of one host: after several failures in a row it is left alone for a while, then tried once.
//!
//! Nothing here knows what a failure is. Times are monotonic.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::storage::locked;

const FAILURES: u32 = 3;
const RECOVERY: Duration = Duration::from_mins(1);
/// What others are told to wait while the one trial is under way.
const TRIAL: Duration = Duration::from_secs(1);

/// Whether a host is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// It is.
    Closed,
    /// Nobody is let through.
    Open,
    /// The time is over, one trial may go or is under way.
    HalfOpen,
}

impl Circuit {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    opened: Option<Instant>,
    trial: bool,
}

impl State {
    fn wait(&self, now: Instant) -> Duration {
        match self.opened {
            None => Duration::ZERO,
            Some(_) if self.trial => TRIAL,
            Some(opened) => (opened + RECOVERY).saturating_duration_since(now),
        }
    }
}

/// How a call changed the circuit.
pub(super) type Changed = bool;

impl Breaker {
    pub(super) fn circuit(&self, now: Instant) -> Circuit {
        match locked(&self.state).opened {
            None => Circuit::Closed,
            Some(opened) if now < opened + RECOVERY => Circuit::Open,
            Some(_) => Circuit::HalfOpen,
        }
    }

    /// Until a request would be let through.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        locked(&self.state).wait(now)
    }

    /// Let a request through, and say whether it is the one trial. Who was let through reports how it ended.
    ///
    /// # Errors
    /// `CircuitOpen`: not now.
    pub(super) fn admit(&self, host: &str, now: Instant) -> Result<bool> {
        let mut state = locked(&self.state);
        let wait = state.wait(now);
        if !wait.is_zero() {
            return Err(Error::CircuitOpen {
                host: host.to_owned(),
                retry_after_s: wait.as_secs_f64(),
            });
        }
        state.trial = state.opened.is_some();
        Ok(state.trial)
    }

    pub(super) fn succeeded(&self) -> Changed {
        std::mem::take(&mut *locked(&self.state)).opened.is_some()
    }

    pub(super) fn failed(&self, now: Instant) -> Changed {
        let mut state = locked(&self.state);
        state.failures += 1;
        let opens = state.trial || (state.opened.is_none() && state.failures >= FAILURES);
        if opens {
            state.opened = Some(now);
            state.trial = false;
        }
        opens
    }

    /// The trial ended without telling anything about the host; somebody else may try.
    pub(super) fn abandoned(&self) {
        locked(&self.state).trial = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_open_it_and_one_trial_closes_it() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        assert!(!breaker.failed(start) && !breaker.failed(start) && breaker.failed(start));
        assert_eq!(breaker.circuit(start), Circuit::Open);
        assert!(breaker.admit("h", start).is_err());
        let later = start + RECOVERY;
        assert_eq!(breaker.circuit(later), Circuit::HalfOpen);
        assert!(breaker.admit("h", later).unwrap());
        assert!(breaker.admit("h", later).is_err());
        breaker.abandoned();
        assert!(breaker.admit("h", later).unwrap() && breaker.failed(later));
        assert_eq!(breaker.circuit(later), Circuit::Open);
        assert!(breaker.admit("h", later + RECOVERY).unwrap() && breaker.succeeded());
        assert_eq!(breaker.circuit(later), Circuit::Closed);
        assert!(!breaker.failed(later) && !breaker.succeeded());
    }
}
