//! How a page in a browser gets the token: by a code that is good once, for a short time.
//!
//! Whoever holds the token makes a code and opens `http://HOST:PORT/#code=…`; the page takes the code out of its address
//! and sends it back for the token. The fragment of an address is sent to no server and stands in no log, and a code that
//! somebody finds later in a browser's history is used up.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::access::same_bytes;

/// 6 bits each.
const CODE_LETTERS: usize = 43;
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// A browser that starts cold on a slow machine takes its time.
const LIFE: Duration = Duration::from_mins(2);
const MOST_OPEN: usize = 16;

/// Codes that were given out and have not come back.
#[derive(Default)]
pub(super) struct SessionCodes {
    open: Mutex<VecDeque<(String, Instant)>>,
}

impl SessionCodes {
    /// The codes that are still good.
    fn open(&self) -> MutexGuard<'_, VecDeque<(String, Instant)>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, end)| *end > Instant::now());
        open
    }

    /// A new code; None where the system gives no randomness. Of too many that never come back the oldest ends.
    pub(super) fn issue(&self) -> Option<String> {
        let mut random = [0; CODE_LETTERS];
        getrandom::fill(&mut random).ok()?;
        let code: String = random
            .iter()
            .map(|byte| char::from(LETTERS[usize::from(byte % 64)]))
            .collect();
        self.admit(code.clone());
        Some(code)
    }

    /// Take a code that was made elsewhere.
    pub(super) fn admit(&self, code: String) {
        let mut open = self.open();
        if open.len() >= MOST_OPEN {
            open.pop_front();
        }
        open.push_back((code, Instant::now() + LIFE));
    }

    /// Whether it is good; from now on it is not.
    pub(super) fn redeem(&self, given: &str) -> bool {
        let mut open = self.open();
        let before = open.len();
        open.retain(|(code, _)| !same_bytes(given.as_bytes(), code.as_bytes()));
        open.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once() {
        let codes = SessionCodes::default();
        let code = codes.issue().unwrap();
        assert!(!codes.redeem("") && !codes.redeem(&code[1..]));
        assert!(codes.redeem(&code) && !codes.redeem(&code));
    }

    #[test]
    fn too_many_end_the_oldest() {
        let codes = SessionCodes::default();
        let first = codes.issue().unwrap();
        let all: Vec<_> = (0..MOST_OPEN).map(|_| codes.issue().unwrap()).collect();
        assert!(!codes.redeem(&first) && all.iter().all(|code| codes.redeem(code)));
    }
}
