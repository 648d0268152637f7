//! Ends the processes of one app: TERM to each, a grace, KILL to what is left. Signals exactly what it is given.
//!
//! Used by the sidecar and, for what the sidecar leaves behind when it stops, by the keeper; both ask `family` who belongs.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::kernel::{Seen, tell};
use super::values::Stopped;

/// One that is stopped could not even see the first signal.
const POLITE: [Signal; 2] = [Signal::TERM, Signal::CONT];
const KILL: [Signal; 1] = [Signal::KILL];

type Who = (u32, u64);

/// One attempt. Call `step` again and again until it says true, or until patience is over.
pub(crate) struct Ending {
    kill_at: Instant,
    told: HashSet<Who>,
    killed: HashSet<Who>,
    refused: HashSet<Who>,
}

impl Ending {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            kill_at: Instant::now() + grace,
            told: HashSet::new(),
            killed: HashSet::new(),
            refused: HashSet::new(),
        }
    }

    /// How many there were that could be signalled, and how many of them did not end by themselves.
    pub(super) fn outcome(&self) -> Stopped {
        let met: HashSet<&Who> = self.told.union(&self.killed).collect();
        let count =
            |all: &mut dyn Iterator<Item = &Who>| all.filter(|who| !self.refused.contains(who)).count();
        Stopped {
            processes: count(&mut met.into_iter()),
            killed: count(&mut self.killed.iter()),
        }
    }

    /// Whether nobody is left of those who are `here` now.
    pub(crate) fn step(&mut self, here: &[Seen]) -> bool {
        let killing = Instant::now() >= self.kill_at;
        for seen in here {
            let who = (seen.pid, seen.start);
            let (known, signals) = if killing {
                (&mut self.killed, &KILL[..])
            } else {
                (&mut self.told, &POLITE[..])
            };
            if known.insert(who) || killing {
                let sent = signals
                    .iter()
                    .try_for_each(|signal| tell(seen.pid, seen.start, *signal).map(|_| ()));
                if sent.is_err() {
                    // Another user's.
                    self.refused.insert(who);
                }
            }
        }
        here.is_empty()
    }
}
