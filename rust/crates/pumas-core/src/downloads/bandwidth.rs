//! How fast bytes may be fetched: one limit for all downloads together.
//!
//! It may change while threads wait in `take`; they notice at once. Knows neither files nor the network.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::storage::locked;

/// Bytes per second; less would look like silence.
pub(super) const SLOWEST: u64 = 1024;
const LARGEST_BITE: u64 = 1024 * 1024;
/// So small that bytes come every second at the slowest limit.
const SMALLEST_BITE: u64 = 1024;
/// A limit is kept over tenths of seconds: what was not used before that is lost.
const BURST_S: f64 = 0.1;
const LOOK_AROUND: Duration = Duration::from_millis(100);

/// A limit in bytes per second over all threads that `take`.
pub struct Bandwidth {
    /// 0 means none.
    rate: AtomicU64,
    pace: Mutex<Pace>,
    changed: Condvar,
}

struct Pace {
    /// Bytes that may have been taken by now.
    granted: f64,
    taken: u64,
    at: Instant,
}

impl Default for Bandwidth {
    fn default() -> Self {
        Self {
            rate: AtomicU64::new(0),
            pace: Mutex::new(Pace {
                granted: 0.0,
                taken: 0,
                at: Instant::now(),
            }),
            changed: Condvar::new(),
        }
    }
}

impl Bandwidth {
    /// Bytes per second; `None` means no limit.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        Some(self.rate.load(Ordering::Acquire)).filter(|rate| *rate > 0)
    }

    /// Change it, at once for those who wait.
    ///
    /// # Errors
    /// `InvalidInput`: `rate` is below one KiB per second.
    pub fn limit(&self, rate: Option<u64>) -> Result<()> {
        check_rate(rate)?;
        let mut pace = locked(&self.pace);
        pace.grant(self.rate(), Instant::now());
        self.rate.store(rate.unwrap_or(0), Ordering::Release);
        pace.granted = pace.taken as f64;
        drop(pace);
        self.changed.notify_all();
        Ok(())
    }

    /// How many bytes to fetch at a time, so that nobody waits long for the next.
    #[must_use]
    pub fn bite(&self) -> usize {
        let bite = self.rate().map_or(LARGEST_BITE, |rate| {
            (rate / 40).clamp(SMALLEST_BITE, LARGEST_BITE)
        });
        usize::try_from(bite).unwrap_or(usize::MAX)
    }

    /// Account for `count` bytes that were fetched, and wait until the limit has made up for them.
    ///
    /// # Errors
    /// What `check` fails with, which is called while waiting.
    pub fn take(&self, count: usize, check: &dyn Fn() -> Result<()>) -> Result<()> {
        if self.rate().is_none() {
            return Ok(());
        }
        let mut pace = locked(&self.pace);
        pace.grant(self.rate(), Instant::now());
        pace.taken += count as u64;
        let mine = pace.taken;
        loop {
            let wait = pace.wait_for(mine, self.rate());
            if wait.is_zero() {
                return Ok(());
            }
            pace = self
                .changed
                .wait_timeout(pace, wait.min(LOOK_AROUND))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            check()?;
            pace.grant(self.rate(), Instant::now());
        }
    }
}

impl Pace {
    fn grant(&mut self, rate: Option<u64>, moment: Instant) {
        if let Some(rate) = rate {
            let rate = rate as f64;
            self.granted += moment.saturating_duration_since(self.at).as_secs_f64() * rate;
            self.granted = self.granted.min(self.taken as f64 + rate * BURST_S);
        }
        self.at = moment;
    }

    /// Until `mine` bytes may have been taken.
    fn wait_for(&self, mine: u64, rate: Option<u64>) -> Duration {
        let wait =
            |rate: u64| Duration::try_from_secs_f64((mine as f64 - self.granted).max(0.0) / rate as f64);
        rate.map_or(Duration::ZERO, |rate| wait(rate).unwrap_or(LOOK_AROUND))
    }
}

/// Whether so little is a limit.
///
/// # Errors
/// `InvalidInput`: `rate` is below one KiB per second.
pub(super) fn check_rate(rate: Option<u64>) -> Result<()> {
    match rate {
        Some(..SLOWEST) => {
            let reason = format!("must be at least {SLOWEST}; pause downloads to stop them");
            Err(Error::invalid("bytes_per_second", reason))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_is_lost_and_what_was_taken_is_waited_for() {
        let begin = Instant::now();
        let mut pace = Pace {
            granted: 0.0,
            taken: 0,
            at: begin,
        };
        pace.grant(Some(10_000), begin + Duration::from_mins(1));
        assert!((pace.granted - 1000.0).abs() < 1.0);
        pace.taken += 11_000;
        let wait = pace.wait_for(pace.taken, Some(10_000)).as_secs_f64();
        assert!((wait - 1.0).abs() < 0.01, "{wait}");
        assert!(pace.wait_for(pace.taken, None).is_zero());
    }

    #[test]
    fn a_limit_that_goes_lets_everybody_go() {
        let bandwidth = Bandwidth::default();
        assert!(bandwidth.limit(Some(1023)).is_err());
        bandwidth.limit(Some(1024)).unwrap();
        assert_eq!(bandwidth.bite(), 1024);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| bandwidth.take(1 << 30, &|| Ok(())));
            while locked(&bandwidth.pace).taken == 0 {
                std::thread::yield_now();
            }
            bandwidth.limit(None).unwrap();
            waiting.join().unwrap().unwrap();
        });
        let stopped = || Err(Error::Cancelled(String::new()));
        bandwidth.limit(Some(1024)).unwrap();
        assert!(bandwidth.take(1 << 20, &stopped).is_err());
    }
}
