//! A lock that a thread which has it may take again.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::ThreadId;

use crate::storage::locked;

#[derive(Debug, Default)]
pub(super) struct Turn {
    owner: Mutex<Option<(ThreadId, u32)>>,
    free: Condvar,
}

/// The turn is had until this is dropped; it stays on its thread.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    turn: &'a Turn,
    _stays: std::marker::PhantomData<*const ()>,
}

impl Turn {
    /// Blocks until no other thread has it.
    pub(super) fn take(&self) -> Held<'_> {
        let me = std::thread::current().id();
        let mut owner = self
            .free
            .wait_while(locked(&self.owner), |owner| {
                owner.is_some_and(|(thread, _)| thread != me)
            })
            .unwrap_or_else(PoisonError::into_inner);
        let depth = owner.map_or(0, |(_, depth)| depth);
        *owner = Some((me, depth + 1));
        Held {
            turn: self,
            _stays: std::marker::PhantomData,
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut owner = locked(&self.turn.owner);
        *owner = owner.and_then(|(thread, depth)| (depth > 1).then(|| (thread, depth - 1)));
        if owner.is_none() {
            self.turn.free.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn one_thread_takes_it_twice_and_others_wait() {
        let turn = Arc::new(Turn::default());
        let (outer, inner) = (turn.take(), turn.take());
        let other = Arc::clone(&turn);
        let waiting = std::thread::spawn(move || drop(other.take()));
        drop(outer);
        assert!(!waiting.is_finished());
        drop(inner);
        waiting.join().unwrap();
    }
}
