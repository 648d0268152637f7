//! A lock over load–modify–save that holds across the threads and processes of one launcher root.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::storage::files::{During as _, is_odd, put_aside};
use crate::storage::locked;

const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// Clones share one lock. The file stays where it is after a release: removing it would let two processes lock two
/// files of one name.
#[derive(Debug, Clone)]
pub struct StateLock {
    path: PathBuf,
    threads: Arc<Turn>,
}

/// The lock is held until this is dropped.
#[derive(Debug)]
pub struct Held<'a> {
    _file: File,
    _thread: Taken<'a>,
}

/// A mutex that is waited for with a limit.
#[derive(Debug, Default)]
struct Turn {
    taken: Mutex<bool>,
    free: Condvar,
}

#[derive(Debug)]
struct Taken<'a>(&'a Turn);

impl Turn {
    fn take(&self, patience: Duration) -> Option<Taken<'_>> {
        let waited = self
            .free
            .wait_timeout_while(locked(&self.taken), patience, |taken| *taken);
        let (mut taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *taken {
            return None;
        }
        *taken = true;
        Some(Taken(self))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *locked(&self.0.taken) = false;
        self.0.free.notify_one();
    }
}

impl StateLock {
    /// `path` names the lock's file; it is made when first needed.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            threads: Arc::default(),
        }
    }

    /// Waits for the lock, ten seconds at most.
    ///
    /// # Errors
    /// `DiskError`: it cannot be had.
    pub fn hold(&self) -> Result<Held<'_>> {
        self.hold_within(PATIENCE)
    }

    /// Waits for the lock, `patience` at most.
    ///
    /// # Errors
    /// `DiskError`: it cannot be had.
    pub fn hold_within(&self, patience: Duration) -> Result<Held<'_>> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let end = Instant::now() + patience;
        let busy = || Error::DiskError(format!("{name} is held by another program; try again."));
        let thread = self.threads.take(patience).ok_or_else(busy)?;
        let what = format!("Locking {name}");
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).during(&what)?;
        }
        if is_odd(&self.path) {
            put_aside(&self.path).during(&what)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .during(&what)?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    return Ok(Held {
                        _file: file,
                        _thread: thread,
                    });
                }
                Err(Errno::WOULDBLOCK | Errno::ACCESS) if Instant::now() < end => thread::sleep(POLL),
                Err(Errno::WOULDBLOCK | Errno::ACCESS) => return Err(busy()),
                Err(error) => return Err(std::io::Error::from(error)).during(&what),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_at_a_time_over_threads_and_files() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data/state.lock");
        let (lock, stranger) = (StateLock::new(path.clone()), StateLock::new(path));
        let held = lock.hold().unwrap();
        let short = Duration::from_millis(30);
        assert!(lock.clone().hold_within(short).is_err());
        assert!(stranger.hold_within(short).is_err());
        drop(held);
        assert!(stranger.hold_within(short).is_ok());
    }
}
