//! How long a download goes on trying while it gets no further.
//!
//! Waits double from half a second to half a minute, with jitter
//! (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>), or last as long as the server asks.
//! Bytes that bring the download further than it was begin the count anew; those that are lost again and again do not, or
//! a server that always breaks off would be asked for ever. One instance serves all connections of a job.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::net::random;
use crate::storage::locked;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long to try without getting further.
pub(super) const PATIENCE: Duration = Duration::from_mins(5);

/// Who decides how long the next wait is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Asked {
    /// We do.
    Nobody,
    /// Nothing is sent before so long (the circuit breaker).
    ByBreaker(Duration),
    /// The server asks for it, or the user does (offline mode): that is no time in which we tried.
    ByServer(Duration),
}

pub(super) struct Patience {
    limit: Duration,
    fails: AtomicBool,
    state: Mutex<State>,
}

struct State {
    failures: u32,
    until: Instant,
    ends: Option<Instant>,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            fails: AtomicBool::new(false),
            state: Mutex::new(State {
                failures: 0,
                until: Instant::now(),
                ends: None,
            }),
        }
    }

    /// More is there than ever before.
    pub(super) fn progressed(&self) {
        if self.fails.swap(false, Ordering::AcqRel) {
            let mut state = locked(&self.state);
            (state.failures, state.ends) = (0, None);
        }
    }

    /// Whether the wait after the last failure is not over.
    pub(super) fn waits(&self) -> bool {
        let state = locked(&self.state);
        state.ends.is_some() && Instant::now() < state.until
    }

    /// How long to wait before the next try.
    ///
    /// # Errors
    /// `error`, when it was tried for long enough.
    pub(super) fn after(&self, error: Error, asked: Asked) -> Result<Duration> {
        self.after_at(error, asked, Instant::now())
    }

    fn after_at(&self, error: Error, asked: Asked, moment: Instant) -> Result<Duration> {
        let mut state = locked(&self.state);
        self.fails.store(true, Ordering::Release);
        let mut ends = state.ends.unwrap_or(moment + self.limit);
        match asked {
            Asked::ByServer(wait) => {
                ends += wait;
                state.until = state.until.max(moment + wait);
            }
            Asked::ByBreaker(wait) => state.until = state.until.max(moment + wait),
            Asked::Nobody if moment >= state.until => {
                // Connections that fail together are one failure.
                state.failures += 1;
                let doubled = FIRST_WAIT.saturating_mul(1 << (state.failures - 1).min(16));
                state.until = moment + doubled.min(LONGEST_WAIT).mul_f64(0.5 + random() / 2.0);
            }
            Asked::Nobody => {}
        }
        state.ends = Some(ends);
        if state.until > ends {
            return Err(error);
        }
        Ok(state.until.saturating_duration_since(moment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn error() -> Error {
        Error::TimedOut("late".to_owned())
    }

    #[test]
    fn waits_double_until_patience_ends_and_bytes_begin_it_anew() {
        let patience = Patience::new(10 * SECOND);
        let mut at = Instant::now();
        let mut waits = Vec::new();
        while let Ok(wait) = patience.after_at(error(), Asked::Nobody, at) {
            waits.push(wait);
            at += wait;
        }
        assert!((3..9).contains(&waits.len()), "{waits:?}");
        assert!(waits[0] <= FIRST_WAIT && waits[2] >= SECOND, "{waits:?}");
        patience.after_at(error(), Asked::Nobody, Instant::now()).ok();
        assert!(patience.waits());
        patience.progressed();
        assert!(!patience.waits());
        assert!(
            patience
                .after_at(error(), Asked::Nobody, at + 60 * SECOND)
                .unwrap()
                <= FIRST_WAIT
        );
    }

    #[test]
    fn connections_that_fail_together_are_one_failure() {
        let patience = Patience::new(60 * SECOND);
        let at = Instant::now();
        let first = patience.after_at(error(), Asked::Nobody, at).unwrap();
        assert_eq!(patience.after_at(error(), Asked::Nobody, at).unwrap(), first);
    }

    #[test]
    fn a_wait_that_was_asked_for_is_not_counted() {
        let patience = Patience::new(SECOND);
        let at = Instant::now();
        let wait = patience
            .after_at(error(), Asked::ByServer(60 * SECOND), at)
            .unwrap();
        assert_eq!(wait, 60 * SECOND);
        assert!(
            patience
                .after_at(error(), Asked::ByBreaker(90 * SECOND), at)
                .is_err()
        );
    }
}
