//! The order in which downloads run, and how many at once. `settings` keeps it on disk.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;

use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::jobs::Turns;
use crate::storage::locked;

pub(super) const MOST_AT_ONCE: u32 = 16;

/// Whether so many can run at once.
///
/// # Errors
/// `InvalidInput`.
pub(super) fn check_at_once(at_once: u32) -> Result<()> {
    if (1..=MOST_AT_ONCE).contains(&at_once) {
        return Ok(());
    }
    Err(Error::invalid("at_once", format!("must be 1 to {MOST_AT_ONCE}")))
}

/// A job keeps its place while it is paused, and loses it with `forget`.
pub(super) struct Queue {
    state: Mutex<State>,
}

struct State {
    at_once: usize,
    order: Vec<String>,
    waiting: HashMap<String, oneshot::Sender<()>>,
    /// Jobs that are about to wait: a turn that is theirs is kept for them.
    expected: HashSet<String>,
    running: HashSet<String>,
}

impl Queue {
    pub(super) fn new(at_once: u32) -> Self {
        Self {
            state: Mutex::new(State {
                at_once: at_once as usize,
                order: Vec::new(),
                waiting: HashMap::new(),
                expected: HashSet::new(),
                running: HashSet::new(),
            }),
        }
    }

    pub(super) fn order(&self) -> Vec<String> {
        locked(&self.state).order.clone()
    }

    /// Running jobs stay when the new number is smaller.
    ///
    /// # Errors
    /// As [`check_at_once`].
    pub(super) fn limit(&self, at_once: u32) -> Result<()> {
        check_at_once(at_once)?;
        let mut state = locked(&self.state);
        state.at_once = at_once as usize;
        state.grant();
        Ok(())
    }

    /// Give new jobs their places at the end.
    pub(super) fn add<'a>(&self, job_ids: impl IntoIterator<Item = &'a str>) {
        let mut state = locked(&self.state);
        for job_id in job_ids {
            state.add(job_id);
        }
    }

    /// These will wait in a moment, whoever of them comes first.
    pub(super) fn expect(&self, job_ids: &[String]) {
        locked(&self.state).expected.extend(job_ids.iter().cloned());
    }

    /// The job does not come.
    pub(super) fn unexpect(&self, job_id: &str) {
        let mut state = locked(&self.state);
        if state.expected.remove(job_id) {
            state.grant();
        }
    }

    pub(super) fn forget(&self, job_id: &str) {
        locked(&self.state).order.retain(|known| known != job_id);
    }

    /// These come first, in this order; the others follow as they were. One without a place gets none.
    pub(super) fn move_first(&self, job_ids: &[String]) {
        let mut state = locked(&self.state);
        let mut first: Vec<String> = Vec::new();
        for job_id in job_ids {
            if state.order.contains(job_id) && !first.contains(job_id) {
                first.push(job_id.clone());
            }
        }
        state.order.retain(|job_id| !first.contains(job_id));
        state.order.splice(0..0, first);
    }

    /// How many wait before this one, `None` when it does not wait.
    pub(super) fn place_of(&self, job_id: &str) -> Option<usize> {
        let state = locked(&self.state);
        let at = state
            .order
            .iter()
            .position(|known| known == job_id)
            .filter(|_| state.waiting.contains_key(job_id))?;
        Some(
            state.order[..at]
                .iter()
                .filter(|other| state.waiting.contains_key(*other))
                .count(),
        )
    }

    async fn wait(&self, job_id: &str) {
        let (turn, granted) = oneshot::channel();
        let mut asked = Waiting {
            queue: self,
            job_id,
            has_turn: false,
        };
        {
            let mut state = locked(&self.state);
            state.add(job_id);
            state.expected.remove(job_id);
            state.waiting.insert(job_id.to_owned(), turn);
            state.grant();
        }
        // The sender is only dropped by whoever waits for the same job anew.
        asked.has_turn = granted.await.is_ok();
    }
}

/// One who waits, and may give up.
struct Waiting<'a> {
    queue: &'a Queue,
    job_id: &'a str,
    has_turn: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.has_turn && locked(&self.queue.state).waiting.remove(self.job_id).is_none() {
            self.queue.give_back(self.job_id);
        }
    }
}

impl State {
    fn add(&mut self, job_id: &str) {
        if !self.order.iter().any(|known| known == job_id) {
            self.order.push(job_id.to_owned());
        }
    }

    fn grant(&mut self) {
        let mut free = self.at_once.saturating_sub(self.running.len());
        for job_id in &self.order {
            if free == 0 {
                return;
            }
            if self.expected.contains(job_id) {
                free -= 1;
            } else if let Some(turn) = self.waiting.remove(job_id) {
                free -= 1;
                self.running.insert(job_id.clone());
                // Who gave up meanwhile finds that it does not wait any more, and gives the turn back.
                let _ = turn.send(());
            }
        }
    }
}

impl Turns for Queue {
    fn take<'a>(&'a self, job_id: &'a str) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.wait(job_id))
    }

    fn give_back(&self, job_id: &str) {
        let mut state = locked(&self.state);
        state.running.remove(job_id);
        state.grant();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn turns_follow_the_order() {
        let queue = Queue::new(1);
        let (mut a, mut b, mut c) = (queue.take("a"), queue.take("b"), queue.take("c"));
        assert!((&mut a).now_or_never().is_some());
        assert!((&mut b).now_or_never().is_none() && (&mut c).now_or_never().is_none());
        assert_eq!((queue.place_of("a"), queue.place_of("c")), (None, Some(1)));
        queue.move_first(&["c".to_owned(), "x".to_owned(), "c".to_owned()]);
        assert_eq!(queue.order(), ["c", "a", "b"]);
        queue.give_back("a");
        assert!((&mut b).now_or_never().is_none());
        assert!((&mut c).now_or_never().is_some());
        queue.limit(2).unwrap();
        assert!((&mut b).now_or_never().is_some());
        assert!(queue.limit(0).is_err() && queue.limit(17).is_err());
    }

    #[tokio::test]
    async fn who_gives_up_holds_up_nobody() {
        let queue = Queue::new(1);
        let mut first = queue.take("a");
        assert!((&mut first).now_or_never().is_some());
        let mut second = queue.take("b");
        assert!((&mut second).now_or_never().is_none());
        queue.give_back("a");
        // Granted, and not noticed.
        drop(second);
        assert!(queue.take("c").now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_turn_is_kept_for_who_is_expected() {
        let queue = Queue::new(1);
        queue.add(["a", "b"]);
        queue.expect(&["a".to_owned(), "b".to_owned()]);
        let mut late = queue.take("b");
        assert!((&mut late).now_or_never().is_none());
        queue.unexpect("a");
        assert!((&mut late).now_or_never().is_some());
    }
}
