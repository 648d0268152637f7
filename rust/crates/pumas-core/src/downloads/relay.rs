//! Blocks in order, on their way from a connection to the digests and the disk without being read back.
//!
//! The thread that verifies a file says which block it wants next. The connection that has just filled that one gives its
//! buffer away, gets an empty one for it and reads on, while the other thread writes and hashes the block. All other blocks
//! are written by their connections and read back when it is their turn.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::shared::LOOK;
use crate::library::hashing::Buffer;
use crate::storage::locked;

/// A filled block of a generation of the content. Its CRC-32 is made by the connection, which has more time than the thread
/// that takes the block.
pub(super) struct Given {
    pub generation: u64,
    pub block: usize,
    pub buffer: Buffer,
    pub crc: u32,
}

/// For one verifying thread (`open`, `take`, `done`, `close`) and any number of connections (`give`, `settle`).
#[derive(Default)]
pub(super) struct Relay {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Generation and block; `None`: nobody takes any.
    wanted: Option<(u64, usize)>,
    generation: u64,
    given: VecDeque<Given>,
    empty: Vec<Buffer>,
    under_way: usize,
}

impl Relay {
    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, LOOK);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    // -- connections -------------------------------------------------------------------------------------------------

    /// An empty buffer for a filled one, or that again when the block is not the one that is wanted (`Err`).
    ///
    /// Waits while hashing is behind, and not longer than `goes_on`.
    pub(super) fn give(&self, given: Given, goes_on: impl Fn() -> bool) -> Result<Buffer, Given> {
        let mut state = locked(&self.state);
        while state.wanted == Some((given.generation, given.block)) {
            if let Some(empty) = state.empty.pop() {
                state.wanted = Some((given.generation, given.block + 1));
                state.given.push_back(given);
                state.under_way += 1;
                self.changed.notify_all();
                return Ok(empty);
            }
            if !goes_on() {
                break;
            }
            state = self.wait(state);
        }
        Err(given)
    }

    /// Wait until all that was given is written, but not longer than `goes_on`.
    pub(super) fn settle(&self, goes_on: impl Fn() -> bool) {
        let mut state = locked(&self.state);
        while state.under_way > 0 && goes_on() {
            state = self.wait(state);
        }
    }

    /// A connection wrote a block itself.
    pub(super) fn tell(&self) {
        drop(locked(&self.state));
        self.changed.notify_all();
    }

    // -- the verifying thread ----------------------------------------------------------------------------------------

    /// Blocks of this generation are to be taken; `empty` buffers, of a block each, go round among the connections.
    pub(super) fn open(&self, generation: u64, empty: Vec<Buffer>) {
        let mut state = locked(&self.state);
        (state.generation, state.empty) = (generation, empty);
    }

    /// The next block in order, if a connection gave it; `None` when it is on the disk, or was not there for a while.
    ///
    /// Blocks are asked for in order, and each that was given is `done` before the next.
    pub(super) fn take(&self, block: usize, is_whole: impl Fn(usize) -> bool) -> Option<Given> {
        let mut state = locked(&self.state);
        if state.given.is_empty() {
            state.wanted = Some((state.generation, block));
            if !is_whole(block) {
                state = self.wait(state);
            }
        }
        if let Some(given) = state.given.pop_front() {
            debug_assert_eq!(given.block, block);
            return Some(given);
        }
        // While it is read back, the next may come.
        state.wanted = Some((state.generation, block + usize::from(is_whole(block))));
        None
    }

    /// What was taken last is written; `empty` goes round in its stead.
    pub(super) fn done(&self, empty: Option<Buffer>) {
        let mut state = locked(&self.state);
        state.under_way -= 1;
        state.empty.extend(empty);
        drop(state);
        self.changed.notify_all();
    }

    /// Take no more; what was given and not taken, each of which is to be `done`.
    pub(super) fn close(&self) -> VecDeque<Given> {
        let mut state = locked(&self.state);
        state.wanted = None;
        state.empty.clear();
        let left = std::mem::take(&mut state.given);
        // What was taken when its writing failed will not be done any more.
        state.under_way = left.len();
        drop(state);
        self.changed.notify_all();
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wanted_block_is_taken() {
        let relay = Relay::default();
        let full = |block: usize| Given {
            generation: 7,
            block,
            buffer: Buffer::new(1),
            crc: 0,
        };
        let give = |block: usize| relay.give(full(block), || false);
        assert!(give(0).is_err(), "nobody takes any yet");
        relay.open(7, vec![Buffer::new(1), Buffer::new(1)]);
        assert!(relay.take(0, |_| true).is_none(), "it is on the disk");
        assert!(give(0).is_err() && give(2).is_err());
        assert!(give(1).is_ok() && give(2).is_ok());
        assert!(give(3).is_err(), "no buffer is empty");
        let mut other = full(3);
        other.generation = 8;
        assert!(relay.give(other, || true).is_err(), "of another content");
        assert_eq!(relay.take(1, |_| false).unwrap().block, 1);
        relay.done(Some(Buffer::new(1)));
        assert!(give(3).is_ok());
        let left = relay.close();
        assert_eq!(left.iter().map(|given| given.block).collect::<Vec<_>>(), [2, 3]);
        assert!(give(4).is_err());
        for _ in &left {
            relay.done(None);
        }
        relay.settle(|| panic!("nothing is under way"));
    }
}
