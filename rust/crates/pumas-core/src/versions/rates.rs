//! How often an action may be asked for: a sliding window per action, for all apps and tags together.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::storage::locked;

const WINDOW: Duration = Duration::from_mins(1);

/// What is counted, and how many calls of it a window takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Install,
    Remove,
    Cancel,
}

impl Action {
    fn limit(self) -> (&'static str, usize) {
        match self {
            Self::Install => ("install_version", 3),
            Self::Remove => ("remove_version", 5),
            Self::Cancel => ("cancel_installation", 10),
        }
    }
}

#[derive(Default)]
pub(super) struct Rates {
    calls: Mutex<HashMap<Action, VecDeque<Instant>>>,
}

impl Rates {
    /// # Errors
    /// `TooManyCalls`; such a call does not count.
    pub(super) fn count(&self, action: Action) -> Result<()> {
        self.count_at(action, Instant::now())
    }

    fn count_at(&self, action: Action, moment: Instant) -> Result<()> {
        let (name, limit) = action.limit();
        let mut all = locked(&self.calls);
        let calls = all.entry(action).or_default();
        if calls.len() == limit {
            let age = calls
                .front()
                .map_or(WINDOW, |first| moment.saturating_duration_since(*first));
            if age < WINDOW {
                return Err(Error::TooManyCalls {
                    action: name.to_owned(),
                    retry_after_s: WINDOW.saturating_sub(age).as_secs_f64(),
                });
            }
            calls.pop_front();
        }
        calls.push_back(moment);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_slides() {
        let (rates, begin) = (Rates::default(), Instant::now());
        let at = |seconds| rates.count_at(Action::Install, begin + Duration::from_secs(seconds));
        assert!([0, 10, 20].into_iter().all(|moment| at(moment).is_ok()));
        assert_eq!(
            at(30).unwrap_err().to_string(),
            "Too many calls of install_version; try again in 30 s."
        );
        assert!(at(60).is_ok());
        assert!(at(61).is_err());
        assert!(rates.count_at(Action::Cancel, begin).is_ok());
    }
}
